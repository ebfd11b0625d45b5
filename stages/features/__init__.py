"""Stage `features` (tasks 10 and 12): frozen backbone and RPN run once; what the heads need of every view is cached."""
