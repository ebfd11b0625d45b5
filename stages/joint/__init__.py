"""Stage `joint` (tasks 11 and 16): every part of the detector trained on, end to end or in turns."""
