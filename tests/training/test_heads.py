"""Training of the heads on cached features: minibatches, mirrored truth, losses of the true class."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from src.data.feature_cache import CachedView, FeaturesFile, FeaturesWriter
from src.data.prepared import PreparedFile, flip
from src.detector.box_head import BoxHead, decode_scaled
from src.detector.mask_head import MaskHead
from src.detector.sampling import RoiRules
from src.ops.losses import class_loss, delta_loss, mask_loss
from src.training import heads as module
from src.training.heads import HeadBatch, HeadLoader, Heads, box_losses, joint_losses, loaders, read_truth
from tests.data.test_feature_cache import make_view
from tests.detector.small import randomise
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


def make_cached(prepared: PreparedFile, index: int, flipped: bool, train: bool) -> CachedView:
    """Boxes around the objects of a view and elsewhere, random features."""
    example = prepared.example(index, masks=False)
    example = flip(example, prepared.frame) if flipped else example
    far = torch.tensor([[20.0, 1, 30, 9], [60, 80, 75, 95], [100, 2, 108, 9], [30, 88, 40, 95], [90, 90, 99, 96]])
    boxes = torch.cat([example.boxes + 1, far, example.boxes - 1, example.boxes])
    return dataclasses.replace(
        make_view(2 * index + int(flipped), len(boxes), 3), index=index, flipped=flipped, train=train, boxes=boxes
    )


def loader(folder: Path, mask_rois: int = 2, batch_size: int = 3, seed: int = 1) -> HeadLoader:
    views = list(range(8))  # four training images, plain and mirrored
    return HeadLoader(folder / "features.h5", folder / "prepared.h5", views, batch_size, RULES, mask_rois, seed)


def same(first: HeadBatch, second: HeadBatch) -> bool:
    pairs = ((getattr(first, f.name), getattr(second, f.name)) for f in dataclasses.fields(HeadBatch))
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def test_an_epoch_repeats_and_another_differs(folder: Path) -> None:
    first, again, other = (list(loader(folder).batches(epoch)) for epoch in (2, 2, 3))
    assert len(first) == len(loader(folder)) == 3
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not all(same(a, b) for a, b in zip(first, other, strict=True))
    assert not all(same(a, b) for a, b in zip(first, loader(folder, seed=2).batches(2), strict=True))


def test_epochs_have_orders_of_their_own(folder: Path) -> None:
    orders = {tuple(batch.names[0] for batch in loader(folder, batch_size=1).batches(epoch)) for epoch in range(4)}
    assert len(orders) > 1


def test_views_draw_samples_of_their_own(folder: Path) -> None:
    """A plain view and its mirror image have the same boxes in the same order, but not the same draws."""
    features = FeaturesFile(folder / "features.h5")
    drawn = []
    for view in range(8):
        batch = next(dataclasses.replace(loader(folder), views=[view], batch_size=1).batches(0))
        pooled = features.boxes(view)[1]
        drawn.append([int((pooled == roi).flatten(1).all(1).nonzero()[0]) for roi in batch.pooled])
    features.close()
    assert drawn[0::2] != drawn[1::2]


def test_an_epoch_shows_every_view_once(folder: Path) -> None:
    names = [name for batch in loader(folder).batches(0) for name in batch.names]
    assert sorted(names) == sorted(f"{index:06d}" for index in range(4) for _ in range(2))


def test_rois_of_a_view_do_not_depend_on_its_batch(folder: Path) -> None:
    """Draws have a stream a view, so the batch size changes no sample."""
    pooled = [torch.cat([batch.pooled for batch in loader(folder, batch_size=size).batches(0)]) for size in (1, 3, 8)]
    assert torch.equal(pooled[0], pooled[1])
    assert torch.equal(pooled[0], pooled[2])


def test_samples_carry_their_own_features_labels_and_deltas(folder: Path) -> None:
    with PreparedFile(folder / "prepared.h5") as prepared:
        features = FeaturesFile(folder / "features.h5")
        for view in range(8):
            batch = next(dataclasses.replace(loader(folder), views=[view], batch_size=1).batches(0))
            index, flipped = features.image(view)
            truth = read_truth(prepared, index, flipped)
            boxes, pooled = features.boxes(view)
            rows = [int((pooled == roi).flatten(1).all(1).nonzero()[0]) for roi in batch.pooled]
            objects = batch.labels.nonzero().squeeze(1)
            assert 1 <= len(objects) <= 2
            assert torch.equal(objects, torch.arange(len(objects)))  # positives first
            refined = decode_scaled(batch.deltas, boxes[rows][: len(objects)])[:, 0]
            distance = (refined[:, None] - truth.boxes[None]).abs().amax(2)  # [objects, ground truth]
            assert (distance.amin(1) < 0.05).all()
            assert batch.labels[objects].tolist() == truth.labels[distance.argmin(1)].tolist()
        features.close()


@pytest.mark.parametrize(("iou", "near"), [(0.5, 3), (0.999, 1)])
def test_the_rules_say_which_overlap_makes_an_object(folder: Path, iou: float, near: int) -> None:
    """Of the three boxes at each object, one is the object's own; the others are a pixel away."""
    rules = RoiRules(64, 0.5, iou)
    batch = next(dataclasses.replace(loader(folder), rules=rules, views=[0], batch_size=1).batches(0))
    with PreparedFile(folder / "prepared.h5") as prepared:
        assert int((batch.labels > 0).sum()) == near * len(prepared.labels(0))


def test_ground_truth_is_matched_anew_when_proposals_change(tmp_path: Path) -> None:
    with PreparedFile(make_prepared(tmp_path, 2)) as prepared:
        view = make_cached(prepared, 0, flipped=False, train=True)
    one = dataclasses.replace(loader(tmp_path), views=[0], batch_size=1)
    objects = []
    for boxes in (view.boxes, view.boxes - 1000, view.boxes):
        with FeaturesWriter(tmp_path / "features.h5") as writer:
            writer.append(dataclasses.replace(view, boxes=boxes))
        objects.append(bool(next(one.batches(0)).labels.any()))
    assert objects == [True, False, True]


def test_mirrored_truth_is_that_of_the_mirrored_example(folder: Path) -> None:
    with PreparedFile(folder / "prepared.h5") as prepared:
        for index in range(5):
            example = prepared.example(index)
            assert torch.equal(read_truth(prepared, index, flipped=False).boxes, example.boxes)
            mirrored = read_truth(prepared, index, flipped=True)
            torch.testing.assert_close(mirrored.boxes, flip(example, prepared.frame).boxes)
            assert torch.equal(mirrored.labels, example.labels)
            assert not torch.equal(mirrored.boxes, example.boxes)


def test_mask_rois_are_drawn_from_the_view_s(folder: Path) -> None:
    one = dataclasses.replace(loader(folder), views=[3], batch_size=1)
    features = FeaturesFile(folder / "features.h5")
    known = features.mask_rois(3)
    features.close()
    seen = set()
    for epoch in range(12):
        batch = next(one.batches(epoch))
        assert batch.mask_targets.dtype == torch.float32
        for pooled, label, target in zip(batch.mask_pooled, batch.mask_labels, batch.mask_targets, strict=True):
            row = int((known["mask_pooled"] == pooled).flatten(1).all(1).nonzero()[0])
            seen.add(row)
            assert label == known["mask_labels"][row]
            assert torch.equal(target.bool(), known["mask_targets"][row])
        assert len(batch.mask_labels) == 2
    assert seen == {0, 1, 2}


def test_without_a_mask_head_no_mask_rois_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []
    original = FeaturesFile.mask_rois

    def watched(self: FeaturesFile, number: int, limit: int | None = None) -> dict[str, Tensor]:
        limits.append(limit)
        return original(self, number, limit)

    monkeypatch.setattr(FeaturesFile, "mask_rois", watched)
    batch = next(loader(folder, mask_rois=0).batches(0))
    assert batch.mask_pooled.shape == (0, 256, 14, 14)
    assert set(limits) == {0}


def test_a_resumed_epoch_s_rest_is_the_same(folder: Path) -> None:
    whole = list(loader(folder).batches(1))
    batches = loader(folder).batches(1)
    next(batches)
    assert same(next(batches), whole[1])
    batches.close()


def batch_of(labels: list[int], masks: list[int]) -> HeadBatch:
    draw = torch.Generator().manual_seed(0)
    return HeadBatch(
        names=["a"],
        pooled=torch.randn(len(labels), 256, 7, 7, generator=draw).bfloat16(),
        labels=torch.tensor(labels, dtype=torch.int64),
        deltas=torch.randn(sum(label > 0 for label in labels), 4, generator=draw),
        mask_pooled=torch.randn(len(masks), 256, 14, 14, generator=draw).bfloat16(),
        mask_labels=torch.tensor(masks, dtype=torch.int64),
        mask_targets=(torch.rand(len(masks), 28, 28, generator=draw) > 0.5).float(),
    )


def small_heads() -> Heads:
    net = Heads(BoxHead(hidden=8), MaskHead(channels=4))
    randomise(net.parameters(), 0, 0.1)
    return net


def test_losses_look_at_the_true_class_only() -> None:
    net, batch = small_heads(), batch_of([2, 1, 0, 3, 0], [3, 1])
    terms = joint_losses(net, batch)
    logits, deltas = net.box_head(batch.pooled.float())
    rows = [deltas[row, 4 * label : 4 * label + 4] for row, label in enumerate(batch.labels.tolist()) if label]
    masks = net.mask_head(batch.mask_pooled.float())
    expected = {
        "classification": class_loss(logits, batch.labels),
        "regression": delta_loss(torch.stack(rows), batch.deltas, 5),
        "mask": mask_loss(torch.stack([masks[0, 3], masks[1, 1]]), batch.mask_targets),
    }
    assert list(terms) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)
    only_box = box_losses(net.box_head, batch)
    assert all(torch.equal(value, terms[name]) for name, value in only_box.items())


def test_other_classes_get_no_gradient() -> None:
    net = small_heads()
    terms = joint_losses(net, batch_of([2, 0], [2]))
    (terms["regression"] + terms["mask"]).backward()
    assert (net.box_head.bbox_pred.bias.grad.reshape(4, 4) != 0).any(1).tolist() == [False, False, True, False]
    assert (net.mask_head.mask_fcn_logits.bias.grad != 0).tolist() == [False, False, True, False]
    assert net.box_head.cls_score.bias.grad is None


@pytest.mark.parametrize("precise", [True, False])
def test_cached_bf16_features_suit_either_precision(precise: bool) -> None:
    """`runtime.precision: float32` reads the same cache."""
    net, batch = small_heads(), batch_of([2, 0], [1])
    with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
        terms = joint_losses(net, batch)
    assert {value.dtype for value in terms.values()} == {torch.float32}
    for name, value in joint_losses(net, batch).items():
        torch.testing.assert_close(terms[name], value, rtol=0.05, atol=0.02)


def test_nothing_but_background_and_nothing_at_all() -> None:
    net = small_heads()
    for labels in ([0, 0], []):
        terms = joint_losses(net, batch_of(labels, []))
        assert float(terms["regression"].detach()) == float(terms["mask"].detach()) == 0
        assert all(value.isfinite() for value in terms.values())
        sum(terms.values()).backward()


def test_training_and_test_views_are_kept_apart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from src.core.params import load_params  # noqa: PLC0415 - only here

    monkeypatch.setattr(module, "FEATURES", folder / "features.h5")
    monkeypatch.setattr(module, "PREPARED", folder / "prepared.h5")
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    train, test = loaders(params.box_head, params.mask_head, params.mask_head.rois)
    assert (list(train.views), list(test.views)) == (list(range(8)), [8])
    assert train.rules == RoiRules(
        params.box_head.rois, params.box_head.positive_fraction, params.box_head.fg_iou_thresh
    )
    assert (train.seed, train.batch_size) == (params.mask_head.seed, params.mask_head.batch_size)
