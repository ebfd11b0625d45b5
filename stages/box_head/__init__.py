"""Stage `box_head` (task 14): classifier and regressor, trained on cached RoI features."""
