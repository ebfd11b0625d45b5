"""Part (a)'s network as a detector: its losses by hand, its proposals' order and borders, and its file."""

from __future__ import annotations

import dataclasses
import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from src.core.errors import InputError
from src.core.params import RpnLossWeights, RpnParams
from src.core.tensors import cpu_state_dict, save_tensors
from src.data.letterbox import Frame, ImageRegion
from src.ops.boxes import box_iou, clip, decode
from src.plain_rpn import detector
from src.plain_rpn.anchor_grid import AnchorGrid
from src.plain_rpn.detector import MIN_SIZE, MOST, NMS_IOU, PlainRpn, load_network, propose
from src.plain_rpn.losses import draw_samples, rpn_losses
from src.plain_rpn.network import PlainRpnNetwork, flatten_outputs
from src.structures.image_list import ImageList
from src.structures.loss_term import values
from src.structures.target import Target, no_target
from tests.other_device import DEVICE, OtherDevice

FRAME = Frame(96, 128, 160)
REGIONS = [FRAME.letterbox(*size).region for size in ((300, 400), (200, 400), (400, 300))]
PARAMS = RpnParams(1, 1, 1e-3, 0.0, 0.7, 0.3, 16, flip=False, loss_weights=RpnLossWeights(1.0, 1.0), seed=1)
SIZES = [(32.0, 32.0), (24.0, 40.0)]


def make_model() -> PlainRpn:
    torch.manual_seed(0)
    network = PlainRpnNetwork(len(SIZES))
    for output in (network.classifier, network.regressor):
        torch.nn.init.normal_(output.weight, std=0.2)  # not at one half and at the anchors, where it starts
    return PlainRpn(network, AnchorGrid.from_params(SIZES, FRAME, PARAMS), PARAMS)


def make_images(count: int) -> ImageList:
    draw = torch.Generator().manual_seed(count)
    return ImageList(torch.randn(count, 3, 96, 160, generator=draw), torch.tensor(REGIONS[:count]))


def make_targets() -> list[Target]:
    """Two objects; one beside a crowd region; none."""
    masks = torch.zeros(0, 96, 160, dtype=torch.bool)
    boxes = torch.tensor([[30.5, 20, 64, 51.5], [90, 40, 112, 81]])
    two = Target(boxes, torch.tensor([1, 3]), masks, torch.zeros(0, 4))
    crowded = Target(boxes[1:], torch.tensor([2]), masks, torch.tensor([[20.0, 0, 80, 96]]))
    return [two, crowded, no_target(96, 160)]


def test_a_network_on_another_device_loses_and_learns_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.ops.convolution.has_nnpack", lambda: False)  # the other device rounds as torch does
    images, targets = make_images(3), make_targets()

    def learned(device: torch.device) -> list[Tensor]:
        model = make_model()
        model.network.to(device)
        torch.manual_seed(1)
        there = ImageList(images.tensors.to(device), images.regions.to(device))
        terms = model.losses(there, [target.to(device) for target in targets])
        torch.stack(list(terms.values())).sum().backward()
        gradients = [parameter.grad for parameter in model.network.parameters()]
        return [value.cpu() for value in [*terms.values(), *gradients] if value is not None]

    expected = learned(torch.device("cpu"))
    with OtherDevice():
        found = learned(DEVICE)
    assert len(found) == len(expected) > 2
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("seed", range(3))
def test_losses_are_those_of_anchors_drawn_by_the_same_seed(seed: int) -> None:
    model, images, targets = make_model(), make_images(3), make_targets()
    matches = [model.grid.label(*pair) for pair in zip(targets, REGIONS, strict=True)]
    boxes = [target.boxes for target in targets]
    drawn = draw_samples(matches, boxes, model.grid.anchors, 16, [torch.Generator().manual_seed(seed)] * 3)
    terms = rpn_losses(*flatten_outputs(*model.network(images.tensors)), drawn)
    expected = values(terms)
    assert {term.count for term in terms.values()} == {len(drawn.positive) + len(drawn.negative)}
    torch.manual_seed(seed)
    found = model.losses(images, targets)
    assert list(found) == list(expected) == ["objectness", "rpn_regression"]
    for name, term in expected.items():
        assert float(term.detach()) > 0
        assert torch.equal(found[name], term)
    torch.manual_seed(seed)
    again = model(images, targets)
    assert all(torch.equal(term, expected[name]) for name, term in values(again).items())
    assert [term.count for term in again.values()] == [term.count for term in terms.values()]


def test_an_image_draws_loses_and_is_normalized_alike_in_any_minibatch() -> None:
    """The whole's terms are the means of the images' own, weighted by what was sampled of each."""
    model, images, targets = make_model(), make_images(3), make_targets()
    together = model(dataclasses.replace(images, seeds=[5, 6, 7]), targets)
    alone = [
        model(ImageList(images.tensors[[one]], images.regions[[one]], [5 + one]), targets[one : one + 1])
        for one in range(3)
    ]
    for name, term in together.items():
        counts = torch.tensor([float(terms[name].count) for terms in alone])
        values_alone = torch.stack([terms[name].value for terms in alone])
        assert term.count == counts.sum()
        assert len(set(counts.tolist())) > 1
        torch.testing.assert_close(term.value, (counts * values_alone).sum() / counts.sum())


def test_another_seed_draws_other_anchors() -> None:
    model, images, targets = make_model(), make_images(3), make_targets()
    terms = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        terms.append(float(model.losses(images, targets)["objectness"].detach()))
    assert terms[0] != terms[1]


def test_losses_teach_every_weight() -> None:
    model = make_model()
    sum(model.losses(make_images(3), make_targets()).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_outputs_leave_the_network_as_float32_in_the_grid_s_order() -> None:
    model, images = make_model(), make_images(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, deltas = model.predict(images.tensors)
    assert (logits.dtype, deltas.dtype) == (torch.float32, torch.float32)
    assert logits.shape == (2, len(model.grid.anchors))
    assert deltas.shape == (2, len(model.grid.anchors), 4)


def plain_proposals(
    logits: Tensor, deltas: Tensor, grid: AnchorGrid, region: ImageRegion
) -> list[tuple[list[float], float]]:
    """Greedy suppression, box by box, over all that is large enough inside the picture."""
    boxes = clip(decode(deltas, grid.anchors), region)
    kept: list[int] = []
    for index in logits.argsort(descending=True).tolist():
        x1, y1, x2, y2 = boxes[index].tolist()
        if min(x2 - x1, y2 - y1) < MIN_SIZE:
            continue
        if all(float(box_iou(boxes[index : index + 1], boxes[other : other + 1])) <= NMS_IOU for other in kept):
            kept.append(index)
    return [(boxes[index].tolist(), float(logits[index].sigmoid())) for index in kept]


@torch.no_grad()
def test_detections_are_the_best_of_all_anchors_image_by_image() -> None:
    model, images = make_model(), make_images(2)
    found = model.detect(images)
    assert len(found) == 2
    columns = zip(found, *model.predict(images.tensors), REGIONS[:2], strict=True)
    for proposals, logits, deltas, region in columns:
        expected = plain_proposals(logits, deltas, model.grid, region)
        assert len(expected) > 10
        torch.testing.assert_close(proposals.boxes, torch.tensor([box for box, _ in expected]))
        torch.testing.assert_close(proposals.scores, torch.tensor([score for _, score in expected]))


@torch.no_grad()
def test_proposals_are_clipped_sorted_apart_and_large_enough() -> None:
    model = make_model()
    deltas = model.grid.anchors.new_zeros(len(model.grid.anchors), 4)
    deltas[:, 2:] = torch.linspace(-3, 1, len(deltas))[:, None]  # some shrink to a pixel, some reach over the border
    logits = torch.randn(len(deltas), generator=torch.Generator().manual_seed(1))
    x1, y1, x2, y2 = region = REGIONS[1]
    raw = decode(deltas, model.grid.anchors)
    assert ((raw < torch.tensor([x1, y1, x1, y1])) | (raw > torch.tensor([x2, y2, x2, y2]))).any()
    assert ((raw[:, 2:] - raw[:, :2]).amin(dim=1) < MIN_SIZE).any()
    found = propose(logits, deltas, model.grid, region)
    assert len(found.boxes) > 10
    assert (found.boxes >= torch.tensor([x1, y1, x1, y1])).all()
    assert (found.boxes <= torch.tensor([x2, y2, x2, y2])).all()
    assert (found.scores.diff() <= 0).all()
    assert (found.boxes[:, 2:] - found.boxes[:, :2]).min() >= MIN_SIZE
    assert len(nms(found.boxes, found.scores, NMS_IOU)) == len(found.boxes)


@torch.no_grad()
def test_no_more_than_the_best_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = make_model(), make_images(1)
    (all_of_them,) = model.detect(images)
    assert 5 < len(all_of_them.boxes) <= MOST
    monkeypatch.setattr(detector, "MOST", 5)
    (found,) = model.detect(images)
    assert torch.equal(found.boxes, all_of_them.boxes[:5])
    assert torch.equal(found.scores, all_of_them.scores[:5])


def test_nothing_large_enough_gives_no_proposals() -> None:
    grid = make_model().grid
    deltas = torch.zeros(len(grid.anchors), 4)
    deltas[:, 2:] = -5.0
    found = propose(torch.zeros(len(deltas)), deltas, grid, REGIONS[0])
    assert (found.boxes.shape, found.scores.shape) == ((0, 4), (0,))


def test_a_network_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    model, images = make_model(), make_images(1)
    save_tensors(tmp_path / "rpn.pt", {"network": cpu_state_dict(model.network), "anchors": SIZES})
    loaded = load_network(tmp_path / "rpn.pt", len(SIZES))
    for found, expected in zip(loaded(images.tensors), model.network(images.tensors), strict=True):
        assert torch.equal(found, expected)


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def refused(path: Path, anchors: int = len(SIZES)) -> str:
    with pytest.raises(InputError) as error:
        load_network(path, anchors)
    text = str(error.value)
    assert text.isprintable()
    assert re.match(rf"{re.escape(str(path))}(\[network\])?: expected ", text)
    assert "weights_only" not in text
    return text


def test_a_missing_file_says_what_makes_it(tmp_path: Path) -> None:
    assert refused(tmp_path / "rpn.pt") == f"{tmp_path / 'rpn.pt'}: expected a file made by `dvc repro`, found none"


@pytest.mark.parametrize("kind", ["empty", "text", "folder", "truncated", "no network", "missing weight", "malicious"])
def test_a_broken_file_is_named_in_one_line(tmp_path: Path, kind: str) -> None:
    path, state = tmp_path / "rpn.pt", cpu_state_dict(make_model().network)
    save_tensors(path, {"network": state, "anchors": SIZES})
    whole = path.read_bytes()
    if kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "no network":
        save_tensors(path, {"backbone": state})
    elif kind == "missing weight":
        save_tensors(path, {"network": {name: value for name, value in state.items() if name != "classifier.bias"}})
    else:
        ran = tmp_path / "ran"
        contents = {"empty": b"", "text": b"<html>404</html>", "truncated": whole[: len(whole) // 2]}
        path.write_bytes(contents.get(kind, pickle.dumps({"network": Malicious(ran)}, protocol=2)))
    refused(path)
    assert not (tmp_path / "ran").exists()


def test_a_network_with_other_anchors_is_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "rpn.pt", {"network": cpu_state_dict(make_model().network)})
    with pytest.raises(InputError, match=r"rpn\.pt\[network\].*expected shape \((3|12),"):
        load_network(tmp_path / "rpn.pt", 3)
