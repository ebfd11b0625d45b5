"""Stage `one_stage` (task 13): a one-stage detector on the same backbone, to compare with."""
