"""The assembled detector on test images: what it finds in source pictures, and how its second stage behaves.

Letters: r proposals of an image, k classes with background, g ground truth boxes, d detections.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from lightning_fabric import Fabric
from torch import Tensor

from src.core.params import EvaluateParams
from src.data.letterbox import Letterbox
from src.data.prepared import Example
from src.detector import box_head, mask_rcnn
from src.detector.backbones import NORMALIZATIONS
from src.detector.criteria import image_list, truth_of
from src.detector.mask_rcnn import MaskRCNN, pool, postprocess
from src.detector.sampling import Truth, match_rois
from src.evaluation.halves import halves
from src.evaluation.instances import Detections
from src.evaluation.rle import encode_masks
from src.evaluation.rpn_metrics import paired_iou
from src.ops.boxes import clip
from src.ops.masks import paste_masks
from src.ops.matching import IGNORED
from src.structures.image_list import ImageList


@dataclass(frozen=True)
class SecondStageAnalysis:
    """Everything measured on one image, on the processor.

    Attributes:
        proposals: the RPN's best, which the box head sees, on the canvas.
        objects: the ground truth boxes, on the canvas.
        found: detections under each rule for boxes across the border, by its name.
        truth: class of each proposal by its overlap with the ground truth, 0 for background, -1 in crowd regions.
        predicted: most probable class of each proposal.
        iou_before: of proposals that cover an object, with it.
        iou_after: the same after the regressor of the object's class.
        halves_before: IoU of halves of the ground truth boxes with the whole, four a box.
        halves_after: the same after the regressor.
    """

    proposals: Float[Tensor, "r 4"]
    objects: Float[Tensor, "g 4"]
    found: dict[str, mask_rcnn.Detections]
    truth: Int64[Tensor, " r"]
    predicted: Int64[Tensor, " r"]
    iou_before: Float[Tensor, " p"]
    iou_after: Float[Tensor, " p"]
    halves_before: Float[Tensor, " h"]
    halves_after: Float[Tensor, " h"]


@dataclass(frozen=True)
class Predictor:
    """A detector with what it needs to see an example.

    Attributes:
        detector: trained.
        fabric: device and precision.
        name: of the backbone, for its normalization.
        params: post-processing.
    """

    detector: MaskRCNN
    fabric: Fabric
    name: str
    params: EvaluateParams

    def images(self, example: Example, letterbox: Letterbox) -> ImageList:
        """The normalized example as a batch of one."""
        return image_list([example], NORMALIZATIONS[self.name], letterbox.content, self.fabric.device)

    @torch.no_grad()
    def find(self, example: Example, letterbox: Letterbox) -> mask_rcnn.Detections:
        """Detections of one picture, on the canvas."""
        with self.fabric.autocast():
            return to_cpu(self.detector(self.images(example, letterbox), self.params)[0])

    @torch.no_grad()
    def examine(self, example: Example, letterbox: Letterbox) -> SecondStageAnalysis:
        """Detections under both border rules, and the second stage taken apart."""
        with self.fabric.autocast():
            images = self.images(example, letterbox)
            features = self.detector.backbone(images.tensors)
            proposals = self.detector.rpn(images, features)[0].best(self.detector.proposals)
            logits, deltas = self.detector.box_head(pool(features, [proposals.boxes], box_head.SIZE))
            found = {}
            for border in ("remove", "clip"):
                rules = dataclasses.replace(self.params, border=border)
                kept = postprocess(logits, deltas, proposals.boxes, images.contents[0], rules)
                found[border] = to_cpu(self.detector.add_masks(features, [kept])[0])
            truth = truth_of(example, self.fabric.device)
            matches = match_rois(proposals.boxes, truth, 0.5)
            half_iou = self._halves(features, truth, images.contents[0])
        objects = (matches >= 0).nonzero().squeeze(1)
        wholes = truth.boxes[matches[objects]]
        labels = truth.labels[matches[objects]]
        refined = refine(deltas[objects], proposals.boxes[objects], labels, images.contents[0])
        classes = torch.where(matches == IGNORED, -1, torch.zeros_like(matches))
        classes[objects] = labels
        return SecondStageAnalysis(
            proposals=proposals.boxes.cpu(),
            objects=truth.boxes.cpu(),
            found=found,
            truth=classes.cpu(),
            predicted=logits.argmax(dim=1).cpu(),
            iou_before=paired_iou(proposals.boxes[objects], wholes).cpu(),
            iou_after=paired_iou(refined, wholes).cpu(),
            halves_before=half_iou[0].cpu(),
            halves_after=half_iou[1].cpu(),
        )

    def _halves(self, features: Sequence[Tensor], truth: Truth, content: Tensor) -> tuple[Tensor, Tensor]:
        """IoU with the whole of objects cut in half, before and after the regressor (task 15's question)."""
        cut, wholes = halves(truth.boxes), truth.boxes.repeat_interleave(4, dim=0)
        _, deltas = self.detector.box_head(pool(features, [cut], box_head.SIZE))
        refined = refine(deltas, cut, truth.labels.repeat_interleave(4), content)
        return paired_iou(cut, wholes), paired_iou(refined, wholes)


def refine(
    deltas: Float[Tensor, "r four_k"],
    proposals: Float[Tensor, "r 4"],
    labels: Int64[Tensor, " r"],
    content: Float[Tensor, " 4"],
) -> Float[Tensor, "r 4"]:
    """Proposals moved by the regressor of the given classes, clipped to the picture."""
    rows = torch.arange(len(labels), device=labels.device)
    return clip(box_head.decode_scaled(deltas, proposals)[rows, labels], content)


def to_cpu(found: mask_rcnn.Detections) -> mask_rcnn.Detections:
    """The same on the processor."""
    return mask_rcnn.Detections(**{field.name: getattr(found, field.name).cpu() for field in dataclasses.fields(found)})


def to_source(found: mask_rcnn.Detections, letterbox: Letterbox, mask_threshold: float) -> Detections:
    """Detections in the source picture: boxes moved back, masks pasted bilinearly, then thresholded (task 16)."""
    boxes = letterbox.boxes_to_source(found.boxes)
    masks = paste_masks(found.masks.float(), boxes, letterbox.source_height, letterbox.source_width) >= mask_threshold
    return Detections(boxes, found.labels, found.scores, encode_masks(masks))
