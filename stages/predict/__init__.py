"""Stage `predict` (task 18): the detector on one's own pictures, drawn and as json."""
