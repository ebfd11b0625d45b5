"""Everything measured on the test split, once (tasks 15 to 17)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from src.core.params import Params
from src.evaluation.analysis import SecondStageAnalysis
from src.evaluation.bootstrap import ap50_intervals
from src.evaluation.classifier import ClassifierMetrics, classifier_metrics
from src.evaluation.coco_matching import OverlapType
from src.evaluation.detection import DetectionMetrics, evaluate_detections
from src.evaluation.errors import ErrorCounts, count_errors
from src.evaluation.funnel import Funnel, count_fates, fates
from src.evaluation.halves import HalvesSummary, summarize_halves
from src.evaluation.instances import GroundTruth, Instances, coco_ground_truth, coco_results
from src.evaluation.mask_iou import MaskIou, mean_mask_iou
from src.evaluation.rpn_metrics import proposal_recall
from src.evaluation.unannotated import Unannotated, find_unannotated
from src.structures.classes import Classes


@dataclass(frozen=True)
class EvaluationResults:
    """What the detector reaches on one split.

    Attributes:
        split: that it was measured on.
        border: the rule for boxes across the border that `params.evaluate.border` names.
        scores: AP under each rule.
        intervals: AP50 of boxes and masks with bootstrap intervals.
        masks: how well masks fit the objects that were found.
        recall: share of the objects that the box head's proposals cover at IoU 0.5.
        proposals: at most, per image.
        classifier: over all proposals outside crowd regions.
        iou_before: mean IoU of proposals that cover an object with it.
        iou_after: the same after the regressor.
        halves: the experiment of task 15.
        errors: by kind, of the detections that are drawn.
        funnel: the step that lost each object that those detections miss.
        unannotated: the detection of task 17.
        detections: of all images.
        images: of the split.
    """

    split: str
    border: str
    scores: dict[str, DetectionMetrics]
    intervals: Mapping[OverlapType, Any]
    masks: MaskIou
    recall: float | None
    proposals: int
    classifier: ClassifierMetrics
    iou_before: float | None
    iou_after: float | None
    halves: HalvesSummary
    errors: ErrorCounts
    funnel: Funnel
    unannotated: Unannotated | None
    detections: int
    images: int

    @property
    def score(self) -> DetectionMetrics:
        """AP under the chosen border rule."""
        return self.scores[self.border]

    def as_metrics(self) -> dict[str, Any]:
        """The content of `metrics/evaluate.json`."""
        return {
            **self.score.as_metrics(),
            "ap50_interval": self.intervals,
            "mask_iou": self.masks.mean,
            "mask_iou_coverage": self.masks.coverage,
            "proposal_recall": self.recall,
            "proposals": self.proposals,
            "classifier": self.classifier.as_metrics(),
            "border": {
                name: {"box_ap50": one.box.ap50, "mask_ap50": one.mask.ap50} for name, one in self.scores.items()
            },
            "regressor": {"iou_before": self.iou_before, "iou_after": self.iou_after},
            "halves": self.halves.as_metrics(),
            "errors": self.errors.as_metrics(),
            "funnel": self.funnel.as_metrics(),
            "unannotated": self.unannotated.as_metrics() if self.unannotated else None,
            "detections": self.detections,
            "split": self.split,
            "images": self.images,
        }


def evaluate_detector(
    truth: Sequence[GroundTruth], analyses: Sequence[SecondStageAnalysis], classes: Classes, params: Params
) -> EvaluationResults:
    """Measures what `detect` found.

    Args:
        truth: the images of the split.
        analyses: of the same images in the same order.
        classes: what the labels stand for.
        params: border rule, thresholds, number of proposals.
    """
    border = params.evaluate.border
    annotations = coco_ground_truth(truth, classes)
    found: dict[str, list[Instances]] = {rule: [one.found[rule] for one in analyses] for rule in analyses[0].found}
    chosen = found[border]
    halves_before, halves_after = (_joined(analyses, f"halves_{moment}") for moment in ("before", "after"))
    return EvaluationResults(
        split=params.evaluate.split,
        border=border,
        scores={rule: evaluate_detections(annotations, coco_results(truth, each)) for rule, each in found.items()},
        intervals=ap50_intervals(truth, chosen),
        masks=mean_mask_iou(truth, chosen),
        recall=_recall(truth, analyses, params.features.proposals),
        proposals=params.features.proposals,
        classifier=_classifier(analyses, classes),
        iou_before=_mean(_joined(analyses, "iou_before")),
        iou_after=_mean(_joined(analyses, "iou_after")),
        halves=summarize_halves(halves_before, halves_after),
        errors=count_errors(truth, chosen, params.predict.score_threshold),
        funnel=count_fates(all_fates(truth, analyses, params)),
        unannotated=find_unannotated(truth, chosen, classes),
        detections=sum(len(image) for image in chosen),
        images=len(truth),
    )


def all_fates(truth: Sequence[GroundTruth], analyses: Sequence[SecondStageAnalysis], params: Params) -> list[list[str]]:
    """What became of each object of each picture, crowd regions left out: found, or the step that lost it."""
    rule, threshold = params.evaluate.border, params.predict.score_threshold
    return [fates(one, image.found[rule], image.lost_at, threshold) for one, image in zip(truth, analyses, strict=True)]


def _classifier(analyses: Sequence[SecondStageAnalysis], classes: Classes) -> ClassifierMetrics:
    labels, predicted = _joined(analyses, "truth"), _joined(analyses, "predicted")
    counted = labels >= 0
    return classifier_metrics(labels[counted], predicted[counted], classes)


def _recall(truth: Sequence[GroundTruth], analyses: Sequence[SecondStageAnalysis], count: int) -> float | None:
    objects = [image.boxes[~image.crowd] for image in truth]
    return proposal_recall([image.proposals for image in analyses], objects, counts=(count,))[str(count)]


def _joined(analyses: Sequence[SecondStageAnalysis], name: str) -> Tensor:
    """One column of all images."""
    return torch.cat([getattr(image, name) for image in analyses])


def _mean(values: Tensor) -> float | None:
    """The mean; None where there is nothing."""
    return float(values.mean()) if len(values) else None
