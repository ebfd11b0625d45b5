"""The RPN over the FPN: head, anchors and proposals, against torchvision's and by hand."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList as TorchvisionImageList

from src.core.params import ProposalsParams
from src.detector.rpn import RegionProposalNetwork, RpnHead
from src.ops.boxes import box_iou
from src.structures.image_list import ImageList
from src.structures.proposals import Proposals
from tests.detector.small import CANVAS, REGION, TORCHVISION_PROPOSALS, randomize

SIZES, RATIOS = (32.0, 64.0, 128.0, 256.0, 512.0), (0.5, 1.0, 2.0)
CHANNELS = 8


def network(params: ProposalsParams = TORCHVISION_PROPOSALS, seed: int = 0) -> RegionProposalNetwork:
    net = RegionProposalNetwork(SIZES, RATIOS, params, CHANNELS).eval()
    randomize(net.parameters(), seed)
    return net


def levels(batch: int = 1, canvas: tuple[int, int] = CANVAS, seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    grids = [(canvas[0] // stride, canvas[1] // stride) for stride in (4, 8, 16, 32)]
    grids.append(((grids[-1][0] + 1) // 2, (grids[-1][1] + 1) // 2))
    return [torch.randn(batch, CHANNELS, *grid, generator=draw) for grid in grids]


def images(batch: int = 1, canvas: tuple[int, int] = CANVAS, region: tuple[float, ...] = REGION) -> ImageList:
    return ImageList(torch.zeros(batch, 3, *canvas), torch.tensor([region] * batch))


@pytest.mark.parametrize("canvas", [(96, 128), (800, 1088), (224, 160)])
def test_anchors_are_torchvision_s(canvas: tuple[int, int]) -> None:
    features = levels(canvas=canvas)
    generator = AnchorGenerator(tuple((size,) for size in SIZES), (RATIOS,) * 5)
    expected = generator(TorchvisionImageList(torch.zeros(1, 3, *canvas), [canvas]), features)[0]
    found = network().anchors(canvas, [tuple(level.shape[-2:]) for level in features])
    assert torch.equal(torch.cat(found), expected)


def test_head_at_single_locations_equals_the_dense_head() -> None:
    head = RpnHead(CHANNELS, 3)
    randomize(head.parameters(), 1)
    features = torch.randn(1, CHANNELS, 3, 3)
    logits, deltas = head(features)
    taps = features.permute(0, 2, 3, 1).reshape(1, -1)  # the neighborhood of the middle cell
    found_logits, found_deltas = head.at(taps)
    torch.testing.assert_close(found_logits[0], logits.reshape(9, 3)[4])
    torch.testing.assert_close(found_deltas[0], deltas.reshape(9, 3, 4)[4])


def test_logits_and_deltas_stand_beside_their_anchors() -> None:
    head = RpnHead(2, 3)
    randomize(head.parameters(), 1, scale=0.0)
    with torch.no_grad():
        head.conv.weight[:, :, 1, 1] = torch.eye(2)
        head.cls_logits.weight[:, 0, 0, 0] = torch.tensor([1.0, 10, 100])  # anchor a of location i: 10^a * i
        head.bbox_pred.weight[:, 1, 0, 0] = torch.arange(12.0)
    features = torch.stack([torch.arange(6.0).reshape(2, 3), torch.ones(2, 3)])[None]
    logits, deltas = head(features)
    assert logits.tolist() == [[factor * i for i in range(6) for factor in (1, 10, 100)]]
    assert deltas[0, 4].tolist() == [4, 5, 6, 7]  # the second anchor of the second location


def test_proposals_are_clipped_to_the_picture_not_the_canvas() -> None:
    region = (11.0, 5.0, 117.0, 91.0)
    boxes = network()(images(region=region), levels())[0].boxes
    assert len(boxes) > 50
    low, high = torch.tensor(region[:2]), torch.tensor(region[2:])
    assert (boxes[:, :2] >= low).all()
    assert (boxes[:, 2:] <= high).all()
    assert (boxes[:, 0] == 11).any()
    assert (boxes[:, 3] == 91).any()


def test_proposals_are_sorted_limited_and_large_enough() -> None:
    found = network(ProposalsParams(pre_nms_top_n=50, nms_iou=0.7, post_nms_top_n=40, min_size=6.0))(
        images(2), levels(2)
    )
    assert len(found) == 2
    for image in found:
        assert len(image.boxes) == len(image.scores) == 40
        assert (image.scores[1:] <= image.scores[:-1]).all()
        assert ((image.boxes[:, 2:] - image.boxes[:, :2]) >= 6).all()
        assert ((image.scores >= 0) & (image.scores <= 1)).all()


def test_the_coarser_levels_keep_their_own_anchors() -> None:
    net, features = network(), levels()
    grids = [tuple(level.shape[-2:]) for level in features]
    whole, coarse = net.anchors(CANVAS, grids), net.anchors(CANVAS, grids[2:])
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], coarse, strict=True))
    few = net(images(), features[2:])[0].boxes.tolist()
    params = dataclasses.replace(TORCHVISION_PROPOSALS, post_nms_top_n=10_000)
    assert few
    assert set(map(tuple, few)) <= set(map(tuple, network(params)(images(), features)[0].boxes.tolist()))


def test_no_level_hands_on_more_than_its_share() -> None:
    unlimited = dataclasses.replace(TORCHVISION_PROPOSALS, pre_nms_top_n=7, nms_iou=1.0)
    assert len(network(unlimited)(images(), levels())[0].boxes) <= 5 * 7


def test_suppression_looks_at_one_level_at_a_time() -> None:
    net = network(dataclasses.replace(TORCHVISION_PROPOSALS, nms_iou=0.3, post_nms_top_n=10_000))
    alone = []
    anchors = net.anchors(CANVAS, [tuple(level.shape[-2:]) for level in levels()])
    for level, boxes in zip(levels(), anchors, strict=True):
        logits, deltas = net.head(level)
        alone.append(net._choose([logits[0].detach()], [deltas[0].detach()], [boxes], torch.tensor(REGION)).boxes)
        overlap = box_iou(alone[-1], alone[-1]).fill_diagonal_(0)
        assert float(overlap.max()) <= 0.3 + 1e-6
    together = net(images(), levels())[0].boxes.detach()
    assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, torch.cat(alone).tolist()))
    assert float(box_iou(together, together).fill_diagonal_(0).max()) > 0.3  # boxes of different levels


def test_an_image_s_proposals_do_not_depend_on_its_batch() -> None:
    features, alone_images = levels(2), images(region=(11.0, 5.0, 117.0, 91.0))
    batch = ImageList(images(2).tensors, torch.cat([images().regions, alone_images.regions]))
    together = network()(batch, features)
    alone = network()(alone_images, [level[1:] for level in features])[0]
    torch.testing.assert_close(together[1].boxes, alone.boxes, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(together[1].scores, alone.scores, rtol=1e-4, atol=1e-4)


def test_all_boxes_too_small_gives_none() -> None:
    found = network(dataclasses.replace(TORCHVISION_PROPOSALS, min_size=1000.0))(images(), levels())[0]
    assert found.boxes.shape == (0, 4)
    assert found.top(10).scores.shape == (0,)


def test_the_top_are_the_first() -> None:
    proposals = Proposals(torch.arange(12.0).reshape(3, 4), torch.tensor([0.9, 0.5, 0.1]))
    assert proposals.top(2).scores.tolist() == pytest.approx([0.9, 0.5])
    assert torch.equal(proposals.top(2).boxes, proposals.boxes[:2])
