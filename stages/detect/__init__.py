"""Stage `detect` (task 15): the detector on every test image."""
