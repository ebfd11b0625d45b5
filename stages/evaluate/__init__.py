"""Stage `evaluate` (tasks 15 and 17): the detector on every test image, in source coordinates."""
