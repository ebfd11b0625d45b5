"""Stage `evaluate_backbone` (tasks 8, 10, 12): proposals before and after fine-tuning, and RoIAlign's crops."""
