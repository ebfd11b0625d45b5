"""Sizes of pictures before the padding."""

import torch

from src.structures.image_list import ImageList


def test_image_sizes_are_those_before_the_padding() -> None:
    regions = torch.tensor([[11.0, 0, 1077, 800], [0, 50, 1088, 750]])
    images = ImageList(torch.zeros(2, 3, 8, 8), regions)
    assert images.image_sizes == [(800, 1066), (700, 1088)]
