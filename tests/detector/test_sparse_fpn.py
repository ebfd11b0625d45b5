"""RPN and RoIAlign on a sparsely evaluated pyramid, against the dense ones: values and gradients."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from src.detector.fpn import STRIDES, FeaturePyramid
from src.detector.rpn import RpnHead
from src.detector.sparse_fpn import SparsePyramid
from src.ops.roi_align import multiscale_roi_align
from tests.detector.small import randomize
from tests.detector.test_fpn import body_maps, pyramid

ANCHORS = 3
SIDES = (2, 3)  # cells of the grids that RoIs are pooled to: two heads with RoIs of their own

Evaluated = tuple[Tensor, Tensor, list[Tensor]]


def rpn_head(seed: int = 0) -> RpnHead:
    head = RpnHead(7, ANCHORS).double()
    randomize(head.parameters(), seed)
    return head


def random_rois(count: int, batch: int, size: tuple[int, int], seed: int) -> Tensor:
    """(image, x1, y1, x2, y2) over the canvas and beyond, large ones too, so that every level is used."""
    draw = torch.Generator().manual_seed(seed)
    extent = torch.tensor([size[1], size[0]], dtype=torch.float64) * STRIDES[0]
    low = torch.rand(count, 2, generator=draw, dtype=torch.float64) * 1.2 * extent - 0.2 * extent
    sides = 600 * torch.rand(count, 2, generator=draw, dtype=torch.float64) ** 2
    image = torch.randint(batch, (count, 1), generator=draw).double()
    return torch.cat([image, low, low + sides], dim=1)


def dense(
    net: FeaturePyramid, head: RpnHead, maps: list[Tensor], anchors: list[Tensor], rois: list[Tensor]
) -> Evaluated:
    """Logits and deltas of the anchors, images one after another, and pooled RoIs, from dense maps."""
    levels = net(maps)
    logits, deltas = zip(*(head(level) for level in levels), strict=True)
    all_logits, all_deltas = torch.cat(logits, 1), torch.cat(deltas, 1)
    return (
        torch.cat([all_logits[image, chosen] for image, chosen in enumerate(anchors)]),
        torch.cat([all_deltas[image, chosen] for image, chosen in enumerate(anchors)]),
        [multiscale_roi_align(levels[:4], boxes, side, STRIDES) for boxes, side in zip(rois, SIDES, strict=True)],
    )


def sparse(
    net: FeaturePyramid, head: RpnHead, maps: list[Tensor], anchors: list[Tensor], rois: list[Tensor]
) -> Evaluated:
    """The same without dense maps."""
    return SparsePyramid(net, net.top_down(maps)).evaluate(head, anchors, list(zip(rois, SIDES, strict=True)))


def assert_same(found: Evaluated, expected: Evaluated) -> None:
    for part, wanted in zip([*found[:2], *found[2]], [*expected[:2], *expected[2]], strict=True):
        torch.testing.assert_close(part, wanted)


def count_anchors(net: FeaturePyramid, maps: list[Tensor]) -> list[int]:
    return [level.shape[2] * level.shape[3] * ANCHORS for level in net(maps)]


NO_ROIS = [torch.zeros(0, 5, dtype=torch.float64)] * 2


@settings(max_examples=20)
@given(
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    anchors=st.integers(0, 30),
    rois=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    seed=st.integers(0, 2**20),
)
def test_values_equal_the_dense_ones(
    batch: int, size: tuple[int, int], anchors: int, rois: tuple[int, int], seed: int
) -> None:
    net, head, maps = pyramid(seed), rpn_head(seed), body_maps(batch, *size, seed)
    draw = torch.Generator().manual_seed(seed)
    total = sum(count_anchors(net, maps))
    chosen = [torch.randint(total, (anchors,), generator=draw) for _ in range(batch)]  # in any order, some twice
    boxes = [random_rois(count, batch, size, seed + kind) for kind, count in enumerate(rois)]
    assert_same(sparse(net, head, maps, chosen, boxes), dense(net, head, maps, chosen, boxes))


def test_every_anchor_of_every_level_of_two_images() -> None:
    net, head, maps = pyramid(), rpn_head(), body_maps(2, 11, 7)
    everything = [torch.arange(sum(count_anchors(net, maps)))] * 2
    assert_same(sparse(net, head, maps, everything, NO_ROIS), dense(net, head, maps, everything, NO_ROIS))


def test_gradients_equal_the_dense_ones_on_all_five_levels() -> None:
    net, head, maps = pyramid(), rpn_head(), body_maps(2, 17, 21)
    counts = count_anchors(net, maps)
    ends = torch.tensor([0, *counts]).cumsum(0).tolist()
    of_each_level = torch.cat([torch.arange(first, last, 5) for first, last in itertools.pairwise(ends)])
    anchors = [of_each_level, of_each_level.flip(0)]
    rois = [random_rois(count, 2, (17, 21), seed) for count, seed in ((24, 3), (9, 4))]
    wanted = [*net.parameters(), *head.parameters(), *maps]
    gradients = []
    for way in (sparse, dense):
        logits, deltas, pooled = way(net, head, maps, anchors, rois)
        loss = (logits * logits.detach().cos()).sum() + (deltas.sin() ** 2).sum()
        loss = loss + sum((grid.sin() * grid).sum() for grid in pooled)
        gradients.append(torch.autograd.grad(loss, wanted))
    for found, expected in zip(*gradients, strict=True):
        assert expected.abs().max() > 0
        torch.testing.assert_close(found, expected)


OFF_THE_MAPS = torch.tensor([[0, -90, -90, -70, -70]], dtype=torch.float64)


@pytest.mark.parametrize("boxes", [random_rois(5, 1, (8, 8), 1), OFF_THE_MAPS, OFF_THE_MAPS[:0]])
def test_rois_alone_and_nothing_at_all(boxes: Tensor) -> None:
    net, head, maps = pyramid(), rpn_head(), body_maps(1, 8, 8)
    nothing, rois = [torch.zeros(0, dtype=torch.int64)], [boxes, OFF_THE_MAPS[:0]]
    found = sparse(net, head, maps, nothing, rois)
    assert_same(found, dense(net, head, maps, nothing, rois))
    assert found[0].shape == (0,)
    assert found[1].shape == (0, 4)
    assert [grid.shape for grid in found[2]] == [(len(boxes), 7, 2, 2), (0, 7, 3, 3)]


def test_only_the_rows_looked_at_are_computed() -> None:
    class Counting(FeaturePyramid):
        computed = 0

        def rows_at(self, top_down_maps, rows):
            Counting.computed = len(rows)
            assert (rows[1:] > rows[:-1]).all()  # ascending, each once
            return super().rows_at(top_down_maps, rows)

    net, head, maps = Counting((3, 4, 5, 6), 7).double(), rpn_head(), body_maps(1, 12, 12)
    middle = torch.tensor([(5 * 12 + 5) * ANCHORS, (5 * 12 + 5) * ANCHORS + 1, (5 * 12 + 6) * ANCHORS])
    sparse(net, head, maps, [middle], NO_ROIS)
    assert Counting.computed == 12  # two neighboring 3 x 3 windows


def test_grids_know_the_pooled_level() -> None:
    net = pyramid()
    found = SparsePyramid(net, net.top_down(body_maps(2, 11, 7)))
    assert found.grids == [(11, 7), (6, 4), (3, 2), (2, 1), (1, 1)]
    assert [found._grids.start(level) for level in range(5)] == [0, 154, 202, 214, 218]
