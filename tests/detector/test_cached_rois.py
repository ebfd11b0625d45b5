"""Minibatches of cached RoIs: their order, mirrored ground truth, and samples with what they are to learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from src.data.feature_cache import CachedView, FeaturesFile, FeaturesWriter
from src.data.prepared import PreparedFile, flip
from src.detector.box_head import decode_scaled
from src.detector.criteria import RoiBatch
from src.detector.roi_cache import CachedBatch, CachedRois, open_cached_rois
from src.detector.sampling import RoiRules
from src.structures.target import Target
from tests.data.test_feature_cache import make_view
from tests.factories import make_prepared

RULES = RoiRules(8, 0.25, 0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared file, and cached features of its training images plain and mirrored and of its test images."""
    place = tmp_path_factory.mktemp("heads")
    with PreparedFile(make_prepared(place, 5)) as prepared, FeaturesWriter(place / "features.h5") as writer:
        for index in range(len(prepared)):
            train = index in prepared.indices("train")
            for flipped in (False, True) if train else (False,):
                writer.append(make_cached(prepared, index, flipped, train))
    return place


@pytest.fixture(scope="module")
def prepared(folder: Path) -> Iterator[PreparedFile]:
    with PreparedFile(folder / "prepared.h5") as file:
        yield file


@pytest.fixture
def features(folder: Path) -> Iterator[FeaturesFile]:
    file = FeaturesFile(folder / "features.h5")
    yield file
    file.close()


def target_of(prepared: PreparedFile, index: int, flipped: bool) -> Target:
    example = prepared.example(index)
    return (flip(example) if flipped else example).target


def make_cached(prepared: PreparedFile, index: int, flipped: bool, train: bool) -> CachedView:
    """Boxes around the objects of a view and elsewhere, random features."""
    objects = target_of(prepared, index, flipped).boxes
    far = torch.tensor([[20.0, 1, 30, 9], [60, 80, 75, 95], [100, 2, 108, 9], [30, 88, 40, 95], [90, 90, 99, 96]])
    boxes = torch.cat([objects + 1, far, objects - 1, objects])
    return dataclasses.replace(
        make_view(2 * index + int(flipped), len(boxes), 3), index=index, flipped=flipped, train=train, boxes=boxes
    )


def cached_rois(folder: Path, mask_rois: int = 2, batch_size: int = 3, seed: int = 1) -> CachedRois:
    views = list(range(8))  # four training images, plain and mirrored
    return CachedRois(folder / "features.h5", folder / "prepared.h5", views, batch_size, RULES, mask_rois, seed)


def batch_of_view(source: CachedRois, view: int, epoch: int = 0) -> RoiBatch:
    return next(dataclasses.replace(source, views=[view], batch_size=1).batches(epoch)).rois


def rows_of(pooled: Tensor, known: Tensor) -> list[int]:
    """Where each RoI's features stand among the cached ones."""
    return [int((known == roi).flatten(1).all(1).nonzero()[0]) for roi in pooled]


def same(first: CachedBatch, second: CachedBatch) -> bool:
    names = [field.name for field in dataclasses.fields(RoiBatch) if field.name != "draws"]
    equal = all(torch.equal(getattr(first.rois, name), getattr(second.rois, name)) for name in names)
    return first.names == second.names and equal


def test_an_epoch_repeats_and_another_differs(folder: Path) -> None:
    first, again, other = (list(cached_rois(folder).batches(epoch)) for epoch in (2, 2, 3))
    assert len(first) == len(cached_rois(folder)) == 3
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not all(same(a, b) for a, b in zip(first, other, strict=True))
    assert not all(same(a, b) for a, b in zip(first, cached_rois(folder, seed=2).batches(2), strict=True))


def test_epochs_have_orders_of_their_own(folder: Path) -> None:
    single = cached_rois(folder, batch_size=1)
    assert len({tuple(batch.names[0] for batch in single.batches(epoch)) for epoch in range(4)}) > 1


def test_views_draw_samples_of_their_own(folder: Path, features: FeaturesFile) -> None:
    """A plain view and its mirror image have the same boxes in the same order, but not the same draws."""
    batches = [batch_of_view(cached_rois(folder), view) for view in range(8)]
    drawn = [rows_of(batch.pooled, features.boxes(view)[1]) for view, batch in enumerate(batches)]
    assert drawn[0::2] != drawn[1::2]


def test_an_epoch_shows_every_view_once(folder: Path) -> None:
    names = [name for batch in cached_rois(folder).batches(0) for name in batch.names]
    assert sorted(names) == sorted(f"{index:06d}" for index in range(4) for _ in range(2))


def test_rois_of_a_view_do_not_depend_on_its_batch(folder: Path) -> None:
    """Draws have a stream per view, so the batch size changes no sample."""
    one, three, eight = (
        torch.cat([batch.rois.pooled for batch in cached_rois(folder, batch_size=size).batches(0)])
        for size in (1, 3, 8)
    )
    assert torch.equal(one, three)
    assert torch.equal(one, eight)


@pytest.mark.parametrize("view", range(8))
def test_samples_carry_their_own_features_labels_and_deltas(
    folder: Path, prepared: PreparedFile, features: FeaturesFile, view: int
) -> None:
    batch = batch_of_view(cached_rois(folder), view)
    target = target_of(prepared, *features.image(view))
    boxes, pooled = features.boxes(view)
    rows = rows_of(batch.pooled, pooled)
    objects = batch.labels.nonzero().squeeze(1)
    assert 1 <= len(objects) <= 2
    assert torch.equal(objects, torch.arange(len(objects)))  # positives first
    refined = decode_scaled(batch.deltas, boxes[rows][: len(objects)])[:, 0]
    distance = (refined[:, None] - target.boxes[None]).abs().amax(2)  # [objects, ground truth]
    assert (distance.amin(1) < 0.05).all()
    assert batch.labels[objects].tolist() == target.labels[distance.argmin(1)].tolist()


@pytest.mark.parametrize(("iou", "near"), [(0.5, 3), (0.999, 1)])
def test_the_rules_say_which_overlap_makes_an_object(
    folder: Path, prepared: PreparedFile, iou: float, near: int
) -> None:
    """Of the three boxes at each object, one is the object's own; the others are a pixel away."""
    batch = batch_of_view(dataclasses.replace(cached_rois(folder), rules=RoiRules(64, 0.5, iou)), 0)
    assert int((batch.labels > 0).sum()) == near * len(prepared.labels(0))


def test_ground_truth_is_matched_anew_when_proposals_change(tmp_path: Path) -> None:
    with PreparedFile(make_prepared(tmp_path, 2)) as prepared:
        view = make_cached(prepared, 0, flipped=False, train=True)
    objects = []
    for boxes in (view.boxes, view.boxes - 1000, view.boxes):
        with FeaturesWriter(tmp_path / "features.h5") as writer:
            writer.append(dataclasses.replace(view, boxes=boxes))
        objects.append(bool(batch_of_view(cached_rois(tmp_path), 0).labels.any()))
    assert objects == [True, False, True]


@pytest.mark.parametrize("index", range(4))
def test_a_mirrored_view_learns_mirrored_boxes(folder: Path, prepared: PreparedFile, index: int) -> None:
    """Read from the labels that each view gives its own boxes: a box mirrored twice, or not at all, is background."""
    plain, mirrored = (target_of(prepared, index, flipped) for flipped in (False, True))
    x1, y1, x2, y2 = plain.boxes.unbind(1)
    torch.testing.assert_close(mirrored.boxes, torch.stack([160 - x2, y1, 160 - x1, y2], 1))
    assert not torch.equal(mirrored.boxes, plain.boxes)
    everything = dataclasses.replace(cached_rois(folder), rules=RoiRules(64, 1.0, 0.999))
    for view in (2 * index, 2 * index + 1):
        labels = batch_of_view(everything, view).labels
        assert sorted(labels[labels > 0].tolist()) == sorted(plain.labels.tolist())


def test_mask_rois_are_drawn_from_the_view_s(folder: Path, features: FeaturesFile) -> None:
    known = features.mask_rois(3)
    seen = set()
    for epoch in range(12):
        batch = batch_of_view(cached_rois(folder), 3, epoch)
        assert batch.mask_targets.dtype == torch.float32
        rows = rows_of(batch.mask_pooled, known["mask_pooled"])
        assert len(set(rows)) == 2
        assert torch.equal(batch.mask_labels, known["mask_labels"][rows])
        assert torch.equal(batch.mask_targets.bool(), known["mask_targets"][rows])
        seen.update(rows)
    assert seen == {0, 1, 2}


def test_without_a_mask_head_no_mask_rois_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []
    original = FeaturesFile.mask_rois

    def watched(self: FeaturesFile, number: int, limit: int | None = None) -> dict[str, Tensor]:
        limits.append(limit)
        return original(self, number, limit)

    monkeypatch.setattr(FeaturesFile, "mask_rois", watched)
    batch = next(cached_rois(folder, mask_rois=0).batches(0)).rois
    assert batch.mask_pooled.shape == (0, 256, 14, 14)
    assert set(limits) == {0}


def test_a_resumed_epoch_s_rest_is_the_same(folder: Path) -> None:
    whole = list(cached_rois(folder).batches(1))
    batches = cached_rois(folder).batches(1)
    next(batches)
    assert same(next(batches), whole[1])
    batches.close()


def test_training_and_test_views_are_kept_apart(folder: Path) -> None:
    paths = folder / "features.h5", folder / "prepared.h5"
    train, test = open_cached_rois(*paths, rules=RULES, batch_size=4, mask_rois=6, seed=9)
    assert train == CachedRois(*paths, list(range(8)), 4, RULES, 6, 9)
    assert test == dataclasses.replace(train, views=[8])
