"""Both detectors on normalized pictures, one after another, with their masks pasted: the same work for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.image_list import ImageList as TorchvisionImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image

from src.detector.mask_rcnn import MaskRCNN
from src.ops.masks import paste_masks
from src.structures.detections import Detections
from src.structures.image_list import ImageList


@torch.no_grad()
def detect(
    detector: MaskRCNN,
    images: Sequence[ImageList],
    precision: Callable[[], AbstractContextManager[Any]],
    *,
    on_processor: bool = False,
) -> list[Detections]:
    """What our detector finds in minibatches of one picture each.

    Args:
        detector: in evaluation mode.
        images: normalized.
        precision: of its convolutions and products.
        on_processor: paste there, as stage `detect` does, and not where the detector is.
    """
    found: list[Detections] = []
    for image in images:
        with precision():
            found += detector.detect(image)
        if on_processor:
            found[-1] = found[-1].cpu()
        paste_masks(found[-1].masks.float(), found[-1].boxes, *image.tensors.shape[-2:])
    return found


@torch.no_grad()
def detect_by_torchvision(model: TorchvisionMaskRCNN, planes: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    """What torchvision's finds in the same pictures, without its own resizing.

    Args:
        model: in evaluation mode.
        planes: normalized pictures, [1, 3, H, W] each.
    """
    found: list[dict[str, Tensor]] = []
    for image in planes:
        size = (image.shape[2], image.shape[3])
        features = model.backbone(image)
        proposals, _ = model.rpn(TorchvisionImageList(image, [size]), features)
        found += model.roi_heads(features, proposals, [size])[0]
        paste_masks_in_image(found[-1]["masks"], found[-1]["boxes"], size)
    return found
