"""Stage `evaluate_rpn` (tasks 1, 3, 5, 7): part (a)'s network on the test images, measured and drawn."""
