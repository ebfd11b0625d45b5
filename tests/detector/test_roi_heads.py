"""Box head and mask head against torchvision's, and the deltas' scaling."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from src.detector import box_head, mask_head
from src.detector.box_head import BoxHead, decode_scaled, encode_scaled
from src.detector.mask_head import MaskHead, select_class_masks
from tests.detector.small import randomise

box = st.tuples(st.floats(0, 1000), st.floats(0, 700), st.floats(1, 300), st.floats(1, 300))


def as_boxes(rows: list[tuple[float, ...]]) -> torch.Tensor:
    x, y, width, height = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4).unbind(1)
    return torch.stack([x, y, x + width, y + height], dim=1)


def test_box_head_is_torchvision_s() -> None:
    ours = BoxHead(channels=4, hidden=16, dropout=0.5).eval()
    randomise(ours.parameters(), 0)
    theirs = nn.Sequential(TwoMLPHead(4 * 49, 16), FastRCNNPredictor(16, 4)).eval()
    state = ours.state_dict()
    theirs[0].load_state_dict({name: value for name, value in state.items() if name.startswith("fc")})
    theirs[1].load_state_dict({name: value for name, value in state.items() if not name.startswith("fc")})
    pooled = torch.randn(5, 4, 7, 7)
    for found, expected in zip(ours(pooled), theirs(pooled), strict=True):
        torch.testing.assert_close(found, expected)


def test_box_head_takes_pooled_features_of_any_memory_format() -> None:
    head = BoxHead(channels=4, hidden=16).eval()
    pooled = torch.randn(5, 4, 7, 7)
    for found, expected in zip(head(pooled.contiguous(memory_format=torch.channels_last)), head(pooled), strict=True):
        torch.testing.assert_close(found, expected)


def test_box_head_without_rois() -> None:
    logits, deltas = BoxHead(channels=4, hidden=16)(torch.zeros(0, 4, 7, 7))
    assert logits.shape == (0, box_head.CLASSES)
    assert deltas.shape == (0, 4 * box_head.CLASSES)


def test_dropout_acts_in_training_only() -> None:
    head = BoxHead(channels=4, hidden=64, dropout=0.5)
    randomise(head.parameters(), 0)
    pooled = torch.randn(3, 4, 7, 7)
    assert not torch.equal(head.train()(pooled)[0], head(pooled)[0])
    assert torch.equal(head.eval()(pooled)[0], head(pooled)[0])


@given(boxes=st.lists(box, min_size=1, max_size=5), data=st.data())
def test_decoding_inverts_encoding_for_every_class(boxes: list[tuple[float, ...]], data: st.DataObject) -> None:
    targets = as_boxes(boxes)
    proposals = as_boxes([data.draw(box) for _ in boxes])
    sizes = (targets[:, 2:] - targets[:, :2]) / (proposals[:, 2:] - proposals[:, :2])
    deltas = encode_scaled(targets, proposals)
    found = decode_scaled(deltas.repeat(1, box_head.CLASSES), proposals)
    reachable = (sizes < 1000 / 16).all(dim=1)  # beyond, decoding cuts off
    for decoded in found.unbind(1):
        torch.testing.assert_close(decoded[reachable], targets[reachable], rtol=1e-3, atol=0.05)


def test_deltas_are_scaled_as_torchvision_s() -> None:
    targets, proposals = as_boxes([(10, 20, 30, 40), (5, 5, 9, 7)]), as_boxes([(12, 18, 25, 50), (4, 7, 8, 8)])
    coder = BoxCoder(box_head.DELTA_SCALE)
    torch.testing.assert_close(encode_scaled(targets, proposals), coder.encode_single(targets, proposals))
    deltas = torch.randn(2, 16)
    expected = coder.decode(deltas, [proposals])
    torch.testing.assert_close(decode_scaled(deltas, proposals), expected)


@pytest.mark.parametrize("rois", [0, 3])
def test_mask_head_is_torchvision_s(rois: int) -> None:
    ours = MaskHead(in_channels=4, channels=6)
    randomise(ours.parameters(), 0)
    heads, predictor = MaskRCNNHeads(4, (6, 6, 6, 6), 1), MaskRCNNPredictor(6, 6, 4)
    state = ours.state_dict()
    heads.load_state_dict(
        {
            f"{number}.0.{kind}": state[f"mask_fcn{number + 1}.{kind}"]
            for number in range(4)
            for kind in ("weight", "bias")
        }
    )
    predictor.load_state_dict(
        {
            name: value
            for name, value in state.items()
            if not name.startswith("mask_fcn1") and name in predictor.state_dict()
        }
    )
    pooled = torch.randn(rois, 4, mask_head.SIZE, mask_head.SIZE)
    found = ours(pooled)
    assert found.shape == (rois, 4, 28, 28)
    torch.testing.assert_close(found, predictor(heads(pooled)))


def test_of_class_takes_each_roi_s_own_mask() -> None:
    masks = torch.arange(2 * 4 * 4.0).reshape(2, 4, 2, 2)
    assert torch.equal(select_class_masks(masks, torch.tensor([3, 1])), torch.stack([masks[0, 3], masks[1, 1]]))
    assert select_class_masks(masks[:0], torch.zeros(0, dtype=torch.int64)).shape == (0, 2, 2)
