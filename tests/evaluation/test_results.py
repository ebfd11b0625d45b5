"""All numbers of the test split together: each as its own module counts it, and nothing counted twice."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from src.core.params import Params
from src.evaluation import detection, results
from src.evaluation.analysis import SecondStageAnalysis
from src.evaluation.bootstrap import ap50_intervals
from src.evaluation.classifier import classifier_metrics
from src.evaluation.detection import evaluate_detections
from src.evaluation.errors import count_errors
from src.evaluation.funnel import STEPS, count_fates, fates
from src.evaluation.halves import summarize_halves
from src.evaluation.instances import GroundTruth, coco_ground_truth, coco_results
from src.evaluation.mask_iou import mean_mask_iou
from src.evaluation.results import evaluate_detector
from src.evaluation.rpn_metrics import proposal_recall
from src.evaluation.unannotated import find_unannotated
from src.sources.assignment import CLASSES
from tests.detector import small
from tests.evaluation.scenes import as_boxes, found, random_scene, truth

KEYS = (  # of metrics/evaluate.json; scripts of people may read them
    *("box_ap", "box_ap50", "box_ap75", "box_ap_small", "box_ap_medium", "box_ap_large"),
    *("box_ar_1", "box_ar_10", "box_ar_100", "mask_ap", "mask_ap50", "mask_ap75", "mask_ap_small", "mask_ap_medium"),
    *("mask_ap_large", "mask_ar_1", "mask_ar_10", "mask_ar_100", "by_class", "ap50_interval", "mask_iou"),
    *("mask_iou_coverage", "proposal_recall", "proposals", "classifier", "border", "regressor", "halves", "errors"),
    "funnel",
    *("unannotated", "detections", "split", "images"),
)
PROPOSALS = 5


def params(border: str = "remove", split: str = "test") -> Params:
    whole = small.params()
    return small.params(
        evaluate=small.evaluate_params(border=border, split=split),
        features=dataclasses.replace(whole.features, proposals=PROPOSALS),
        predict=dataclasses.replace(whole.predict, score_threshold=0.4),
    )


def split(seed: int = 2, images: int = 8) -> tuple[list[GroundTruth], list[SecondStageAnalysis]]:
    """Random pictures; under `remove` each loses its first detection. The best proposals miss."""
    truths, finds = random_scene(seed, images)
    draw = np.random.default_rng(seed)
    torch.manual_seed(seed)
    analyses = []
    for one, clipped in zip(truths, finds, strict=True):
        elsewhere = as_boxes([[0, 0, 2, 2]] * int(draw.integers(0, PROPOSALS)))
        proposals = torch.cat([elsewhere, one.boxes + 2 * torch.randn(len(one.boxes), 4)])
        objects = int(draw.integers(0, 3))
        analyses.append(
            SecondStageAnalysis(
                name=one.name,
                found={"remove": clipped.keep(torch.arange(1, max(1, len(clipped)))), "clip": clipped},
                proposals=proposals,
                truth=torch.from_numpy(draw.integers(-1, 4, len(proposals))),
                predicted=torch.from_numpy(draw.integers(0, 4, len(proposals))),
                iou_before=torch.rand(objects),
                iou_after=torch.rand(objects),
                halves_before=torch.rand(4 * objects),
                halves_after=torch.rand(4 * objects),
                lost_at=tuple(draw.choice(list(STEPS), int((~one.crowd).sum())).tolist()),
            )
        )
    return truths, analyses


def joined(analyses: list[SecondStageAnalysis], name: str) -> torch.Tensor:
    return torch.cat([getattr(one, name) for one in analyses])


@pytest.mark.parametrize("border", ["remove", "clip"])
def test_every_number_is_its_module_s(border: str) -> None:
    truths, analyses = split()
    reported = evaluate_detector(truths, analyses, CLASSES, params(border)).as_metrics()
    found_by_rule = {rule: [one.found[rule] for one in analyses] for rule in ("remove", "clip")}
    chosen, annotations = found_by_rule[border], coco_ground_truth(truths, CLASSES)
    scores = {
        rule: evaluate_detections(annotations, coco_results(truths, finds)) for rule, finds in found_by_rule.items()
    }
    masks, labels, predicted = mean_mask_iou(truths, chosen), joined(analyses, "truth"), joined(analyses, "predicted")
    objects = [one.boxes[~one.crowd] for one in truths]
    pick = find_unannotated(truths, chosen, CLASSES)
    assert pick is not None
    assert tuple(reported) == KEYS
    assert reported == {
        **scores[border].as_metrics(),
        "ap50_interval": ap50_intervals(truths, chosen),
        "mask_iou": masks.mean,
        "mask_iou_coverage": masks.coverage,
        "proposal_recall": proposal_recall([one.proposals for one in analyses], objects, (PROPOSALS,))[str(PROPOSALS)],
        "proposals": PROPOSALS,
        "classifier": classifier_metrics(labels[labels >= 0], predicted[labels >= 0], CLASSES).as_metrics(),
        "border": {rule: {"box_ap50": one.box.ap50, "mask_ap50": one.mask.ap50} for rule, one in scores.items()},
        "regressor": {
            "iou_before": float(joined(analyses, "iou_before").mean()),
            "iou_after": float(joined(analyses, "iou_after").mean()),
        },
        "halves": summarize_halves(joined(analyses, "halves_before"), joined(analyses, "halves_after")).as_metrics(),
        "errors": count_errors(truths, chosen, 0.4).as_metrics(),
        "funnel": count_fates(
            [fates(one, image, stage.lost_at, 0.4) for one, image, stage in zip(truths, chosen, analyses, strict=True)]
        ).as_metrics(),
        "unannotated": pick.as_metrics(),
        "detections": sum(map(len, chosen)),
        "split": "test",
        "images": len(truths),
    }
    json.dumps(reported, allow_nan=False)


def test_the_split_is_named_and_changes_no_number() -> None:
    truths, analyses = split()
    reported = evaluate_detector(truths, analyses, CLASSES, params(split="validation")).as_metrics()
    assert reported == {**evaluate_detector(truths, analyses, CLASSES, params()).as_metrics(), "split": "validation"}


def test_the_rules_the_thresholds_and_the_crowds_matter() -> None:
    """So that the comparison above could fail."""
    truths, analyses = split()
    removed, clipped = (
        evaluate_detector(truths, analyses, CLASSES, params(border)).as_metrics() for border in ("remove", "clip")
    )
    differ = {key for key in KEYS if removed[key] != clipped[key]}
    assert {"box_ap", "mask_ap50", "by_class", "ap50_interval", "mask_iou", "errors", "detections"} <= differ
    assert removed["border"] == clipped["border"]
    assert count_errors(truths, [one.found["clip"] for one in analyses], 0.5).as_metrics() != clipped["errors"]
    everything = [one.boxes for one in truths]
    with_crowds = proposal_recall([one.proposals for one in analyses], everything, (PROPOSALS, 1000))
    assert len({*with_crowds.values(), clipped["proposal_recall"]}) == 3
    assert (joined(analyses, "truth") < 0).any()


def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[int]:
    """A list that grows with each call of `module.name`."""
    calls: list[int] = []
    whole: Callable[..., Any] = getattr(module, name)

    def call(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        return whole(*arguments, **options)

    monkeypatch.setattr(module, name, call)
    return calls


def test_nothing_is_measured_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    truths, analyses = split()
    names = ("evaluate_detections", "ap50_intervals", "mean_mask_iou", "count_errors", "find_unannotated")
    calls = {name: counted(monkeypatch, results, name) for name in names}
    runs = counted(monkeypatch, detection, "COCOeval_faster")
    whole = evaluate_detector(truths, analyses, CLASSES, params())
    assert whole.as_metrics()["box_ap"] == whole.score.box.ap
    assert whole.score is whole.scores["remove"]
    counts = {name: len(found) for name, found in calls.items()}
    assert counts == {**dict.fromkeys(names, 1), "evaluate_detections": 2}  # once for each border rule
    assert len(runs) == 4  # boxes and masks


def test_a_split_without_objects_leaves_undefined_what_is_undefined() -> None:
    _, (one, *_) = split()
    empty = torch.zeros(0)
    bare = dataclasses.replace(
        one,
        found={"remove": found(), "clip": found([[1, 1, 9, 9]], [1], [0.9])},
        truth=torch.zeros(len(one.proposals), dtype=torch.int64),
        lost_at=(),
        **dict.fromkeys(("iou_before", "iou_after", "halves_before", "halves_after"), empty),
    )
    reported = evaluate_detector([truth()], [bare], CLASSES, params()).as_metrics()
    assert tuple(reported) == KEYS
    undefined = ("box_ap", "mask_ap50", "mask_iou", "mask_iou_coverage", "proposal_recall", "unannotated")
    assert {reported[key] for key in undefined} == {None}
    assert reported["regressor"] == {"iou_before": None, "iou_after": None}
    assert reported["ap50_interval"] == {"box": None, "mask": None}
    assert (reported["detections"], reported["images"]) == (0, 1)
    json.dumps(reported, allow_nan=False)


def test_lists_of_different_length_are_refused() -> None:
    truths, analyses = split()
    with pytest.raises(ValueError, match="zip"):
        evaluate_detector(truths, analyses[:-1], CLASSES, params())
