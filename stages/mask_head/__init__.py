"""Stage `mask_head` (task 16): the mask branch, trained jointly with the box head on cached RoI features."""
