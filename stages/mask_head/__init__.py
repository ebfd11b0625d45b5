"""Stage `mask_head` (task 16): the mask branch, trained beside the box head on cached RoI features."""
