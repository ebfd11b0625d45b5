"""Stage `rpn` (tasks 1, 3 to 7): part (a)'s region proposal network, trained from scratch, tested, drawn."""
