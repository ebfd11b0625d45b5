"""Stage `prepare`: pictures, boxes and masks moved to the 800 x 1088 canvas; one picture with two objects (task 9)."""
