"""Box head and mask head against torchvision's, the deltas' scaling, and losses of the true class."""

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
from src.detector.box_head import BoxHead, Draws, decode_scaled, encode_scaled
from src.detector.criteria import RoiBatch
from src.detector.mask_head import MaskHead, select_class_masks
from src.detector.roi_heads import RoiHeads, with_image_index
from src.ops.losses import class_loss, delta_loss, mask_loss
from src.sources.assignment import CLASSES
from tests.detector.small import randomize

box = st.tuples(st.floats(0, 1000), st.floats(0, 700), st.floats(1, 300), st.floats(1, 300))


def as_boxes(rows: list[tuple[float, ...]]) -> torch.Tensor:
    x, y, width, height = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4).unbind(1)
    return torch.stack([x, y, x + width, y + height], dim=1)


def test_box_head_is_torchvision_s() -> None:
    ours = BoxHead(CLASSES.count, channels=4, representation_size=16, dropout=0.5).eval()
    randomize(ours.parameters(), 0)
    theirs = nn.Sequential(TwoMLPHead(4 * 49, 16), FastRCNNPredictor(16, 4)).eval()
    state = ours.state_dict()
    theirs[0].load_state_dict({name: value for name, value in state.items() if name.startswith("fc")})
    theirs[1].load_state_dict({name: value for name, value in state.items() if not name.startswith("fc")})
    pooled = torch.randn(5, 4, 7, 7)
    for found, expected in zip(ours(pooled), theirs(pooled), strict=True):
        torch.testing.assert_close(found, expected)


def test_box_head_takes_pooled_features_of_any_memory_format() -> None:
    head = BoxHead(CLASSES.count, channels=4, representation_size=16).eval()
    pooled = torch.randn(5, 4, 7, 7)
    for found, expected in zip(head(pooled.contiguous(memory_format=torch.channels_last)), head(pooled), strict=True):
        torch.testing.assert_close(found, expected)


def test_box_head_without_rois() -> None:
    logits, deltas = BoxHead(CLASSES.count, channels=4, representation_size=16)(torch.zeros(0, 4, 7, 7))
    assert logits.shape == (0, CLASSES.count)
    assert deltas.shape == (0, 4 * CLASSES.count)


def test_dropout_acts_in_training_only() -> None:
    head = BoxHead(CLASSES.count, channels=4, representation_size=64, dropout=0.5)
    randomize(head.parameters(), 0)
    pooled = torch.randn(3, 4, 7, 7)
    assert not torch.equal(head.train()(pooled)[0], head(pooled)[0])
    assert torch.equal(head.eval()(pooled)[0], head(pooled)[0])


def test_dropout_from_an_image_s_own_draws_is_the_same_in_any_batch() -> None:
    head = BoxHead(CLASSES.count, channels=4, representation_size=64, dropout=0.5).train()
    randomize(head.parameters(), 0)
    pooled = torch.randn(5, 4, 7, 7)

    def draws(*seeds: int) -> list[Draws]:
        return [Draws({3: 2, 4: 3}[seed], torch.Generator().manual_seed(seed)) for seed in seeds]

    both = head(pooled, draws(3, 4))
    parts = head(pooled[:2], draws(3)), head(pooled[2:], draws(4))
    for output, first, second in zip(both, *parts, strict=True):
        torch.testing.assert_close(output, torch.cat([first, second]))
    assert not torch.equal(both[0], head(pooled)[0])
    head.eval()
    assert torch.equal(head(pooled, draws(3, 4))[0], head(pooled)[0])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_dropout_keeps_the_mean(share: float) -> None:
    head = BoxHead(CLASSES.count, channels=4, representation_size=64, dropout=share).train()
    hidden = torch.ones(400, 64)
    dropped = head._drop(hidden, [Draws(400, torch.Generator().manual_seed(1))])
    torch.testing.assert_close(dropped[dropped > 0], torch.full_like(dropped[dropped > 0], 1 / (1 - share)))
    assert float((dropped == 0).float().mean()) == pytest.approx(share, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.03)


@given(boxes=st.lists(box, min_size=1, max_size=5), data=st.data())
def test_decoding_inverts_encoding_for_every_class(boxes: list[tuple[float, ...]], data: st.DataObject) -> None:
    targets = as_boxes(boxes)
    proposals = as_boxes([data.draw(box) for _ in boxes])
    sizes = (targets[:, 2:] - targets[:, :2]) / (proposals[:, 2:] - proposals[:, :2])
    deltas = encode_scaled(targets, proposals)
    found = decode_scaled(deltas.repeat(1, CLASSES.count), proposals)
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
    ours = MaskHead(CLASSES.count, in_channels=4, channels=6)
    randomize(ours.parameters(), 0)
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


def test_select_class_masks_takes_each_roi_s_own_mask() -> None:
    masks = torch.arange(2 * 4 * 4.0).reshape(2, 4, 2, 2)
    assert torch.equal(select_class_masks(masks, torch.tensor([3, 1])), torch.stack([masks[0, 3], masks[1, 1]]))
    assert select_class_masks(masks[:0], torch.zeros(0, dtype=torch.int64)).shape == (0, 2, 2)


@pytest.mark.parametrize("classes", [2, 4, 7])
def test_heads_have_as_many_outputs_as_classes(classes: int) -> None:
    logits, deltas = BoxHead(classes, channels=4, representation_size=16)(torch.zeros(3, 4, 7, 7))
    assert logits.shape == (3, classes)
    assert deltas.shape == (3, 4 * classes)
    masks = MaskHead(classes, in_channels=4, channels=6)(torch.zeros(3, 4, 14, 14))
    assert masks.shape == (3, classes, 28, 28)


def test_image_indices_stand_before_the_boxes() -> None:
    found = with_image_index([torch.ones(2, 4), torch.zeros(0, 4), torch.full((1, 4), 5.0)])
    assert found.tolist() == [[0, 1, 1, 1, 1], [0, 1, 1, 1, 1], [2, 5, 5, 5, 5]]


def test_masks_without_a_mask_head_are_refused() -> None:
    with pytest.raises(ValueError, match="masks: expected a mask head, found none"):
        RoiHeads(BoxHead(CLASSES.count, channels=4, representation_size=16)).add_masks([torch.zeros(1, 4, 8, 8)], [])


def batch_of(labels: list[int], masks: list[int]) -> RoiBatch:
    draw = torch.Generator().manual_seed(0)
    return RoiBatch(
        pooled=torch.randn(len(labels), 256, 7, 7, generator=draw).bfloat16(),
        labels=torch.tensor(labels, dtype=torch.int64),
        deltas=torch.randn(sum(label > 0 for label in labels), 4, generator=draw),
        mask_pooled=torch.randn(len(masks), 256, 14, 14, generator=draw).bfloat16(),
        mask_labels=torch.tensor(masks, dtype=torch.int64),
        mask_targets=(torch.rand(len(masks), 28, 28, generator=draw) > 0.5).float(),
    )


def small_heads() -> RoiHeads:
    net = RoiHeads(BoxHead(CLASSES.count, representation_size=8), MaskHead(CLASSES.count, channels=4))
    randomize(net.parameters(), 0, 0.1)
    return net


def test_losses_look_at_the_true_class_only() -> None:
    net, batch = small_heads(), batch_of([2, 1, 0, 3, 0], [3, 1])
    terms = net.losses(batch)
    logits, deltas = net.box_head(batch.pooled.float())
    rows = [deltas[row, 4 * label : 4 * label + 4] for row, label in enumerate(batch.labels.tolist()) if label]
    masks = net.mask_head(batch.mask_pooled.float())
    expected = {
        "classification": class_loss(logits, batch.labels),
        "box_regression": delta_loss(torch.stack(rows), batch.deltas, 5),
        "mask": mask_loss(torch.stack([masks[0, 3], masks[1, 1]]), batch.mask_targets),
    }
    assert list(terms) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)


def test_a_box_head_alone_has_the_same_two_losses() -> None:
    net, batch = small_heads(), batch_of([2, 1, 0, 3, 0], [3, 1])
    terms, alone = net.losses(batch), RoiHeads(net.box_head).losses(batch)
    assert list(alone) == ["classification", "box_regression"]
    assert all(torch.equal(value, terms[name]) for name, value in alone.items())


def test_other_classes_get_no_gradient() -> None:
    net = small_heads()
    terms = net.losses(batch_of([2, 0], [2]))
    (terms["box_regression"] + terms["mask"]).backward()
    assert (net.box_head.bbox_pred.bias.grad.reshape(4, 4) != 0).any(1).tolist() == [False, False, True, False]
    assert (net.mask_head.mask_fcn_logits.bias.grad != 0).tolist() == [False, False, True, False]
    assert net.box_head.cls_score.bias.grad is None


@pytest.mark.parametrize("precise", [True, False])
def test_cached_bf16_features_suit_either_precision(precise: bool) -> None:
    """`runtime.precision: float32` reads the same cache."""
    net, batch = small_heads(), batch_of([2, 0], [1])
    with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
        terms = net.losses(batch)
    assert {value.dtype for value in terms.values()} == {torch.float32}
    for name, value in net.losses(batch).items():
        torch.testing.assert_close(terms[name], value, rtol=0.05, atol=0.02)


def test_a_batch_takes_a_weight_s_dtype_in_its_features_only() -> None:
    batch = batch_of([2, 0], [1])
    found = batch.like(torch.zeros(1, dtype=torch.float64))
    assert (found.pooled.dtype, found.mask_pooled.dtype) == (torch.float64, torch.float64)
    assert torch.equal(found.pooled, batch.pooled.double())
    for name in ("labels", "deltas", "mask_labels", "mask_targets"):
        assert torch.equal(getattr(found, name), getattr(batch, name))
        assert getattr(found, name).dtype == getattr(batch, name).dtype


@pytest.mark.parametrize("labels", [[0, 0], []])
def test_nothing_but_background_and_nothing_at_all(labels: list[int]) -> None:
    terms = small_heads().losses(batch_of(labels, []))
    assert float(terms["box_regression"].detach()) == float(terms["mask"].detach()) == 0
    assert all(value.isfinite() for value in terms.values())
    sum(terms.values()).backward()


def test_heads_that_do_not_learn_have_no_dropout_in_training_mode() -> None:
    heads = RoiHeads(BoxHead(CLASSES.count, representation_size=16, dropout=0.5))
    pooled = torch.randn(64, 256, 7, 7, generator=torch.Generator().manual_seed(0))
    heads.train()
    assert not torch.equal(heads.box_head(pooled)[0], heads.box_head(pooled)[0])
    heads.requires_grad_(False)
    heads.train()
    assert torch.equal(heads.box_head(pooled)[0], heads.box_head(pooled)[0])
