"""Checkpoints of the course and of torchvision: read without running code, loaded strictly, with the same meaning."""

from __future__ import annotations

import io
import os
import pickle
import re
from collections import OrderedDict
from http.client import IncompleteRead
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights
from torchvision.models.detection.image_list import ImageList as TorchvisionImageList

from src.core.errors import InputError
from src.core.tensors import read_states
from src.detector import weights
from src.detector.mask_rcnn import BackboneWithFpn
from src.detector.rpn import RegionProposalNetwork
from src.detector.weights import assemble, build, load_states, read_checkpoint, rename, split_detector
from src.structures.image_list import ImageList
from tests.detector.small import (
    CANVAS,
    REGION,
    TORCHVISION_PROPOSALS,
    backbone_params,
    course_checkpoint,
    normalize_scale,
    torchvision_detector,
)

Ours = tuple[BackboneWithFpn, RegionProposalNetwork]


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


def pictures() -> Tensor:
    return torch.randn(2, 3, *CANVAS, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    model = torchvision_detector(0)
    normalize_scale(model, pictures())
    return model


@pytest.fixture(scope="module")
def checkpoint(theirs: nn.Module) -> dict[str, dict[str, Tensor]]:
    return course_checkpoint(theirs)


@pytest.fixture(scope="module")
def files(checkpoint: dict[str, dict[str, Tensor]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    paths = {"legacy": folder / "checkpoint680.pth", "zip": folder / "zip.pth"}
    torch.save(checkpoint, paths["legacy"], _use_new_zipfile_serialization=False)
    torch.save(checkpoint, paths["zip"])
    return paths


@pytest.fixture(scope="module")
def empty() -> Ours:
    """Networks that expect a checkpoint's weights, none loaded."""
    return assemble(backbone_params(weights="checkpoint.pth"), TORCHVISION_PROPOSALS, pretrained=False)


@pytest.mark.parametrize("kind", ["legacy", "zip"])
@torch.no_grad()
def test_a_checkpoint_s_features_and_proposals_are_torchvision_s(
    files: dict[str, Path], theirs: nn.Module, kind: str
) -> None:
    backbone, rpn = build(backbone_params(weights=str(files[kind])), TORCHVISION_PROPOSALS)
    backbone.eval()
    rpn.eval()
    images = pictures()
    expected = theirs.backbone(images)
    found = backbone(images)
    for level, wanted in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(level, wanted, rtol=1e-3, atol=1e-3)
    boxes, _ = theirs.rpn(TorchvisionImageList(images, [CANVAS] * 2), expected)
    proposals = rpn(ImageList(images, torch.tensor([REGION] * 2)), list(expected.values()))
    for image, wanted in zip(proposals, boxes, strict=True):
        assert len(wanted) > 100
        torch.testing.assert_close(image.boxes, wanted, rtol=1e-4, atol=1e-3)


def test_the_backbone_has_the_course_s_281_tensors(checkpoint: dict[str, dict[str, Tensor]], empty: Ours) -> None:
    backbone, rpn = empty
    assert len(backbone.state_dict()) == 281
    assert set(backbone.state_dict()) == set(checkpoint["backbone"])
    assert set(rpn.state_dict()) == {
        f"head.{layer}.{kind}" for layer in ("conv", "cls_logits", "bbox_pred") for kind in ("weight", "bias")
    }


def changed(checkpoint: dict[str, dict[str, Tensor]], part: str, name: str, value: Tensor | None) -> dict[str, Any]:
    state = dict(checkpoint[part])
    if value is None:
        del state[name]
    else:
        state[name] = value
    return {**checkpoint, part: state}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("backbone", "body.layer1.0.conv1.weight", None), "1 missing, first body.layer1.0.conv1.weight"),
        (("backbone", "fpn.extra.weight", torch.zeros(1)), "1 unknown, first fpn.extra.weight"),
        (
            ("backbone", "body.bn1.num_batches_tracked", torch.tensor(0)),
            "1 unknown, first body.bn1.num_batches_tracked",
        ),
        (("rpn", "head.cls_logits.weight", torch.zeros(15, 256, 1, 1)), "expected shape (3, 256, 1, 1)"),
        (("rpn", "head.conv.bias", torch.full((256,), torch.nan)), "expected finite values"),
        (("backbone", "body.bn1.running_var", torch.full((64,), torch.inf)), "expected finite values"),
    ],
)
def test_what_does_not_fit_is_refused(
    checkpoint: dict[str, dict[str, Tensor]], empty: Ours, change: tuple[str, str, Tensor | None], words: str
) -> None:
    part, name, value = change
    before = {key: tensor.clone() for key, tensor in empty[1].state_dict().items()}
    with pytest.raises(InputError, match=re.escape(words)) as error:
        load_states(*empty, changed(checkpoint, part, name, value), "file.pth")
    assert f"file.pth[{part}]" in one_line(error)
    if part == "rpn":
        assert all(torch.equal(before[key], tensor) for key, tensor in empty[1].state_dict().items())


@pytest.mark.parametrize(
    "content",
    [
        {"backbone": {"a": torch.zeros(1)}},
        {"model": {}, "optimizer": {}, "epoch": 3},
        [torch.zeros(1)],
        torch.zeros(3),
        {"backbone": {"a": torch.zeros(1)}, "rpn": 5},
        {"backbone": {"a": torch.zeros(1)}, "rpn": {"b": "text"}},
        {"backbone": {3: torch.zeros(1)}, "rpn": {}},
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_other_files_of_tensors_are_refused(tmp_path: Path, content: Any, zipped: bool) -> None:
    path = tmp_path / "other.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"other\.pth") as error:
        read_checkpoint(path)
    one_line(error)


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("kind", ["legacy", "zip", "pickle"])
def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, kind: str) -> None:
    path, trap = tmp_path / "evil.pth", tmp_path / "trap"
    content = {"backbone": OrderedDict(a=Malicious(trap)), "rpn": {"b": torch.zeros(1)}}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(InputError, match=r"evil\.pth") as error:
        read_checkpoint(path)
    one_line(error)
    assert not trap.exists()
    pickle.loads(pickle.dumps(content))  # the trap would have sprung
    assert trap.exists()


@pytest.mark.parametrize("kind", ["legacy", "zip"])
def test_truncated_and_damaged_files_are_refused(tmp_path: Path, kind: str) -> None:
    buffer = io.BytesIO()
    content = {"backbone": {"a": torch.randn(40)}, "rpn": {"b": torch.randn(3)}}
    torch.save(content, buffer, _use_new_zipfile_serialization=kind == "zip")
    whole, path = buffer.getvalue(), tmp_path / "short.pth"
    for length in [*range(40), *range(40, len(whole) - 1, len(whole) // 60)]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"short\.pth") as error:
            read_checkpoint(path)
        one_line(error)
    for place in range(0, len(whole), max(len(whole) // 120, 1)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read_states(path, ("backbone", "rpn"))  # a flipped number is still a number
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"backbone\.weights.*imagnet"):
        read_checkpoint(Path("imagnet"))
    with pytest.raises(InputError, match=re.escape(str(tmp_path))):
        read_checkpoint(tmp_path)


def test_names_of_newer_torchvision_become_the_course_s(theirs: nn.Module) -> None:
    state = theirs.state_dict()
    renamed = rename(state)
    assert len(renamed) == len(state)
    assert "backbone.fpn.inner_blocks.0.weight" in renamed
    assert "backbone.fpn.layer_blocks.3.bias" in renamed
    assert "rpn.head.conv.weight" in renamed
    assert "roi_heads.mask_head.mask_fcn4.bias" in renamed
    assert not [name for name in renamed if re.search(r"_blocks\.\d\.0|conv\.0\.0|mask_head\.\d", name)]
    assert rename(renamed).keys() == renamed.keys()
    assert torch.equal(renamed["backbone.fpn.inner_blocks.2.weight"], state["backbone.fpn.inner_blocks.2.0.weight"])


@pytest.mark.parametrize("newer", [False, True])
def test_coco_weights_come_from_torchvision_s_state_dict(
    monkeypatch: pytest.MonkeyPatch, theirs: nn.Module, checkpoint: dict[str, dict[str, Tensor]], newer: bool
) -> None:
    frozen = {name: value for name, value in theirs.state_dict().items() if "num_batches_tracked" not in name}
    given = frozen if newer else rename(frozen)
    monkeypatch.setattr(MaskRCNN_ResNet50_FPN_Weights, "get_state_dict", lambda self, **options: OrderedDict(given))
    parts = split_detector(given)
    assert {part: set(state) for part, state in parts.items()} == {
        part: set(state) for part, state in checkpoint.items()
    }
    backbone, rpn = build(backbone_params(weights="coco"), TORCHVISION_PROPOSALS)
    for part, module in (("backbone", backbone), ("rpn", rpn)):
        for name, value in module.state_dict().items():
            assert torch.equal(value, checkpoint[part][name]), name


@pytest.mark.parametrize(
    "error",
    [URLError("no network"), IncompleteRead(b"", 7), RuntimeError('invalid hash value (expected "bf2d0c1e", got "0")')],
)
def test_coco_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(self: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(MaskRCNN_ResNet50_FPN_Weights, "get_state_dict", fail)
    with pytest.raises(InputError, match="maskrcnn_resnet50_fpn") as raised:
        weights.torchvision_state(backbone_params(weights="coco"))
    one_line(raised)


def test_coco_weights_are_for_resnet_only() -> None:
    with pytest.raises(InputError, match="resnet50"):
        weights.torchvision_state(backbone_params(name="efficientnet_lite0", weights="coco"))


def epsilons(module: nn.Module) -> set[float]:
    return {part.eps for part in module.modules() if hasattr(part, "eps")}


@pytest.mark.parametrize(
    ("named", "eps"), [("imagenet", 1e-5), ("none", 1e-5), ("coco", 0.0), ("checkpoint680.pth", 0.0)]
)
def test_the_epsilon_is_that_of_the_weights(named: str, eps: float) -> None:
    backbone, _ = assemble(backbone_params(weights=named), TORCHVISION_PROPOSALS, pretrained=False)
    assert epsilons(backbone) == {eps}


def test_random_weights_repeat_with_the_seed() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(4)
        backbone, rpn = build(backbone_params(name="efficientnet_lite0", weights="none"), TORCHVISION_PROPOSALS)
        states.append([*backbone.state_dict().values(), *rpn.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
