"""What is cached of an image for the heads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from src.core.params import FeaturesParams
from src.data.feature_cache import CachedView
from src.data.prepared import Example, PreparedFile, flip
from src.detector.fpn import STRIDES
from src.detector.roi_cache import ViewType, cache_view
from src.ops.boxes import box_iou
from src.ops.masks import mask_targets
from src.ops.roi_align import multiscale_roi_align
from tests.detector.small import with_objects, without_objects
from tests.factories import make_prepared

PARAMS = FeaturesParams(proposals=6, mask_rois=4, flip=True)
TRAIN, TEST = ViewType(flipped=False, train=True), ViewType(flipped=False, train=False)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """A picture with two objects on a canvas of 96 x 160."""
    with PreparedFile(make_prepared(tmp_path_factory.mktemp("cache"), 6)) as prepared:
        index = next(index for index in range(6) if len(prepared.labels(index)) == 2)
        return prepared.example(index)


def features() -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(1, 256, 96 // stride, 160 // stride, generator=draw) for stride in STRIDES]


def proposals(example: Example) -> Tensor:
    """Three boxes near each object, then background."""
    near = [example.target.boxes + shift for shift in (1.0, -2.0, 3.0)]
    far = torch.tensor([[20.0, 1, 30, 9], [120, 80, 140, 90], [60, 80, 75, 95]])
    return torch.cat([*near, far])


def cached(
    example: Example,
    view: ViewType = TRAIN,
    boxes: Tensor | None = None,
    params: FeaturesParams = PARAMS,
    fg_iou_thresh: float = 0.5,
) -> CachedView:
    boxes = proposals(example) if boxes is None else boxes
    return cache_view(features(), boxes, example, view, params=params, fg_iou_thresh=fg_iou_thresh)


def test_ground_truth_joins_the_proposals_in_training_only(example: Example) -> None:
    train, test = cached(example, TRAIN), cached(example, TEST)
    best = proposals(example)[: PARAMS.proposals]
    assert torch.equal(test.boxes, best)
    assert torch.equal(train.boxes, torch.cat([best, example.target.boxes]))
    assert (train.index, train.flipped, train.train, test.train) == (example.index, False, True, False)


def test_pooled_features_are_roi_align_of_the_boxes(example: Example) -> None:
    view = cached(example)
    for boxes, pooled, size in ((view.boxes, view.pooled, 7), (view.mask_boxes, view.mask_pooled, 14)):
        rois = torch.nn.functional.pad(boxes, (1, 0))
        expected = multiscale_roi_align(features(), rois, size, STRIDES)
        assert pooled.dtype == torch.bfloat16
        assert torch.equal(pooled, expected.bfloat16())


def test_mask_rois_overlap_their_object_and_ground_truth_comes_first(example: Example) -> None:
    view, target = cached(example), example.target
    assert len(view.mask_boxes) == PARAMS.mask_rois
    assert {tuple(box) for box in view.mask_boxes[:2].tolist()} == {tuple(box) for box in target.boxes.tolist()}
    overlap = box_iou(view.mask_boxes, target.boxes)
    assert (overlap.amax(1) >= 0.5).all()
    assert torch.equal(overlap.argmax(1), view.mask_truth)
    assert torch.equal(view.mask_labels, target.labels[view.mask_truth])
    expected = mask_targets(target.masks, view.mask_boxes, view.mask_truth, 28)
    assert torch.equal(view.mask_targets, expected > 0.5)
    assert 0.3 < view.mask_targets.float().mean() < 1


@pytest.mark.parametrize(("iou", "count"), [(0.5, 1), (0.45, 2), (0.6, 0)])
def test_mask_rois_overlap_by_the_given_iou_at_least(example: Example, iou: float, count: int) -> None:
    x1, y1, x2, y2 = example.target.boxes[0].tolist()
    near = torch.tensor([[x1, y1, x1 + share * (x2 - x1), y2] for share in (0.52, 0.48, 0.42)])
    view = cached(with_objects(example, 1), TEST, near, fg_iou_thresh=iou)
    assert sorted(view.mask_boxes.tolist()) == sorted(near[:count].tolist())


def test_the_choice_repeats_and_differs_between_views(example: Example) -> None:
    few = dataclasses.replace(PARAMS, mask_rois=3)
    first, again = (cached(example, TEST, params=few) for _ in range(2))
    assert torch.equal(first.mask_boxes, again.mask_boxes)
    examples = [dataclasses.replace(example, index=index) for index in range(8)]
    plain, mirrored = (
        [cached(one, ViewType(flipped, train=False), params=few).mask_boxes[:, 0].tolist() for one in examples]
        for flipped in (False, True)
    )
    assert len(set(map(tuple, plain))) > 1
    assert plain != mirrored


def test_a_mirrored_view_has_mirrored_truth(tmp_path: Path) -> None:
    with PreparedFile(make_prepared(tmp_path, 1)) as prepared:
        plain = prepared.example(0)
        mirrored = flip(plain)
    view = cached(mirrored, ViewType(flipped=True, train=True))
    x1, y1, x2, y2 = plain.target.boxes.unbind(1)
    torch.testing.assert_close(view.boxes[6:], torch.stack([160 - x2, y1, 160 - x1, y2], 1))
    assert view.flipped


def test_crowd_regions_are_no_objects(example: Example) -> None:
    view = cached(with_objects(example, 1), boxes=proposals(example))
    assert torch.equal(view.boxes[6:], example.target.boxes[:1])
    assert set(view.mask_truth.tolist()) == {0}
    assert set(view.mask_labels.tolist()) == {int(example.target.labels[0])}


@pytest.mark.parametrize("kind", [TRAIN, TEST])
def test_an_image_without_objects(example: Example, kind: ViewType) -> None:
    view = cached(without_objects(example), kind, proposals(example))
    assert len(view.boxes) == 6
    assert view.mask_pooled.shape == (0, 256, 14, 14)
    assert view.mask_targets.shape == (0, 28, 28)


def test_an_image_without_proposals(example: Example) -> None:
    view = cached(example, TEST, torch.zeros(0, 4))
    assert view.pooled.shape == (0, 256, 7, 7)
    assert view.mask_pooled.shape == (0, 256, 14, 14)
