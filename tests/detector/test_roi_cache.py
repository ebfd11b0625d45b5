"""What is cached of an image for the heads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from src.core.params import FeaturesParams
from src.data.prepared import Example, PreparedFile, flip
from src.detector.roi_cache import Kind, cache_view
from src.ops.boxes import box_iou
from src.ops.masks import mask_targets
from src.ops.roi_align import multiscale_roi_align
from tests.factories import make_prepared

PARAMS = FeaturesParams(proposals=6, mask_rois=4, flip=True)
TRAIN, TEST = Kind(flipped=False, train=True), Kind(flipped=False, train=False)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """A picture with two objects on a canvas of 96 x 160."""
    with PreparedFile(make_prepared(tmp_path_factory.mktemp("cache"), 6)) as prepared:
        index = next(index for index in range(6) if len(prepared.labels(index)) == 2)
        return prepared.example(index)


def features() -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(1, 256, 96 // stride, 160 // stride, generator=draw) for stride in (4, 8, 16, 32)]


def proposals(example: Example) -> Tensor:
    """Three boxes near each object, then background."""
    near = [example.boxes + shift for shift in (1.0, -2.0, 3.0)]
    far = torch.tensor([[20.0, 1, 30, 9], [120, 80, 140, 90], [60, 80, 75, 95]])
    return torch.cat([*near, far])


def test_ground_truth_joins_the_proposals_in_training_only(example: Example) -> None:
    boxes = proposals(example)
    train, test = (cache_view(features(), boxes, example, PARAMS, kind) for kind in (TRAIN, TEST))
    assert torch.equal(test.boxes, boxes[:6])
    assert torch.equal(train.boxes, torch.cat([boxes[:6], example.boxes]))
    assert (train.index, train.flipped, train.train, test.train) == (example.index, False, True, False)


def test_pooled_features_are_roi_align_of_the_boxes(example: Example) -> None:
    view = cache_view(features(), proposals(example), example, PARAMS, TRAIN)
    for boxes, pooled, size in ((view.boxes, view.pooled, 7), (view.mask_boxes, view.mask_pooled, 14)):
        rois = torch.nn.functional.pad(boxes, (1, 0))
        expected = multiscale_roi_align(features(), rois, size, (4, 8, 16, 32))
        assert pooled.dtype == torch.bfloat16
        assert torch.equal(pooled, expected.bfloat16())


def test_mask_rois_overlap_their_object_and_ground_truth_comes_first(example: Example) -> None:
    view = cache_view(features(), proposals(example), example, PARAMS, TRAIN)
    assert len(view.mask_boxes) == PARAMS.mask_rois
    assert {tuple(box) for box in view.mask_boxes[:2].tolist()} == {tuple(box) for box in example.boxes.tolist()}
    overlap = box_iou(view.mask_boxes, example.boxes)
    assert (overlap.amax(1) >= 0.5).all()
    assert torch.equal(overlap.argmax(1), view.mask_truth)
    assert torch.equal(view.mask_labels, example.labels[view.mask_truth])
    expected = mask_targets(example.masks, view.mask_boxes, view.mask_truth, 28)
    assert torch.equal(view.mask_targets, expected > 0.5)
    assert 0.3 < view.mask_targets.float().mean() < 1


def test_mask_rois_overlap_by_one_half_at_least(example: Example) -> None:
    x1, y1, x2, y2 = example.boxes[0].tolist()
    near = torch.tensor([[x1, y1, x1 + share * (x2 - x1), y2] for share in (0.52, 0.48, 0.42)])
    alone = dataclasses.replace(example, crowd=torch.tensor([False, True]))
    assert cache_view(features(), near, alone, PARAMS, TEST).mask_boxes.tolist() == near[:1].tolist()


def test_the_choice_repeats_and_differs_between_views(example: Example) -> None:
    boxes = proposals(example)
    few = dataclasses.replace(PARAMS, mask_rois=3)
    first, again = (cache_view(features(), boxes, example, few, TEST) for _ in range(2))
    assert torch.equal(first.mask_boxes, again.mask_boxes)
    choices = {
        tuple(
            cache_view(features(), boxes, dataclasses.replace(example, index=index), few, TEST)
            .mask_boxes[:, 0]
            .tolist()
        )
        for index in range(8)
    }
    assert len(choices) > 1


def test_a_mirrored_view_has_mirrored_truth(tmp_path: Path) -> None:
    with PreparedFile(make_prepared(tmp_path, 1)) as prepared:
        plain = prepared.example(0)
        mirrored = flip(plain, prepared.letterbox)
    view = cache_view(features(), proposals(mirrored), mirrored, PARAMS, Kind(flipped=True, train=True))
    width = 160
    expected = torch.stack(
        [width - plain.boxes[:, 2], plain.boxes[:, 1], width - plain.boxes[:, 0], plain.boxes[:, 3]], 1
    )
    torch.testing.assert_close(view.boxes[6:], expected)
    assert view.flipped


def test_crowd_regions_are_no_objects(example: Example) -> None:
    crowd = torch.tensor([False, True])
    view = cache_view(features(), proposals(example), dataclasses.replace(example, crowd=crowd), PARAMS, TRAIN)
    assert torch.equal(view.boxes[6:], example.boxes[:1])
    assert set(view.mask_truth.tolist()) == {0}
    assert set(view.mask_labels.tolist()) == {int(example.labels[0])}


@pytest.mark.parametrize("kind", [TRAIN, TEST])
def test_an_image_without_objects(example: Example, kind: Kind) -> None:
    bare = dataclasses.replace(
        example, boxes=example.boxes[:0], labels=example.labels[:0], masks=example.masks[:0], crowd=example.crowd[:0]
    )
    view = cache_view(features(), proposals(example), bare, PARAMS, kind)
    assert len(view.boxes) == 6
    assert view.mask_pooled.shape == (0, 256, 14, 14)
    assert view.mask_targets.shape == (0, 28, 28)


def test_an_image_without_proposals(example: Example) -> None:
    view = cache_view(features(), torch.zeros(0, 4), example, PARAMS, TEST)
    assert view.pooled.shape == (0, 256, 7, 7)
    assert view.mask_pooled.shape == (0, 256, 14, 14)
