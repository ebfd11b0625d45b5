"""The trained parts on disk: what a stage saves, the next one loads; broken files are named."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from src.core.errors import InputError
from src.core.params import Params, load_params
from src.detector.box_head import BoxHead
from src.detector.checkpoints import (
    BACKBONE,
    BOX_HEAD,
    HEADS,
    cpu_state_dict,
    load_backbone,
    load_box_head,
    load_detector,
)
from src.detector.mask_head import MaskHead
from src.detector.mask_rcnn import MaskRCNN
from src.detector.weights import assemble
from src.structures.image_list import ImageList
from tests.detector.small import CANVAS, CONTENT, TORCHVISION_PROPOSALS, backbone_params, evaluate_params, randomise

CPU = torch.device("cpu")


def params(**backbone: Any) -> Params:
    whole = load_params(Path(__file__).parents[2] / "params.yaml")
    return dataclasses.replace(
        whole,
        backbone=backbone_params(**({"name": "efficientnet_lite0", "weights": "imagenet"} | backbone)),
        proposals=TORCHVISION_PROPOSALS,
        box_head=dataclasses.replace(whole.box_head, hidden=16),
        mask_head=dataclasses.replace(whole.mask_head, channels=8),
        features=dataclasses.replace(whole.features, proposals=20),
    )


def save(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    torch.save(value, path)


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MaskRCNN:
    """A detector whose parts lie in `models/` of the working directory."""
    monkeypatch.chdir(tmp_path)
    backbone, rpn = assemble(params().backbone, TORCHVISION_PROPOSALS, pretrained=False)
    heads = BoxHead(hidden=16), MaskHead(channels=8)
    randomise([*rpn.parameters(), *heads[0].parameters()], 0, 0.05)
    save(BACKBONE, {"backbone": cpu_state_dict(backbone), "rpn": cpu_state_dict(rpn)})
    save(HEADS, {"box_head": cpu_state_dict(heads[0]), "mask_head": cpu_state_dict(heads[1])})
    save(BOX_HEAD, {"box_head": cpu_state_dict(heads[0])})
    return MaskRCNN(backbone, rpn, *heads, 20).eval()


def test_what_was_saved_detects_the_same(trained: MaskRCNN) -> None:
    loaded = load_detector(params(), CPU)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert not any(module.training for module in loaded.modules())
    assert loaded.proposals == 20
    images = ImageList(torch.randn(1, 3, *CANVAS), torch.tensor([CONTENT]))
    with torch.no_grad():
        found, expected = (net(images, evaluate_params(score_threshold=0.1))[0] for net in (loaded, trained))
    assert len(expected.labels)
    assert torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(found.masks, expected.masks, rtol=1e-3, atol=1e-3)


def test_the_box_head_alone(trained: MaskRCNN) -> None:
    head = load_box_head(params(), CPU)
    assert all(torch.equal(a, b) for a, b in zip(head.parameters(), trained.box_head.parameters(), strict=True))


def test_states_are_contiguous_and_on_the_processor() -> None:
    head = MaskHead(4, 8).to(memory_format=torch.channels_last)
    assert all(value.is_contiguous() and value.device == CPU for value in cpu_state_dict(head).values())


def test_fine_tuned_coco_weights_keep_their_normalization_s_epsilon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = params(name="resnet50", weights="coco")
    backbone, rpn = assemble(settings.backbone, TORCHVISION_PROPOSALS, pretrained=False)
    save(BACKBONE, {"backbone": cpu_state_dict(backbone), "rpn": cpu_state_dict(rpn)})
    loaded, _ = load_backbone(settings, CPU)
    assert {module.eps for module in loaded.modules() if hasattr(module, "eps")} == {0.0}


def test_a_missing_file_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"models/backbone\.pt: expected a file made by `dvc repro`"):
        load_backbone(params(), CPU)
    with pytest.raises(InputError, match=r"models/box_head\.pt"):
        load_box_head(params(), CPU)


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("path", [BACKBONE, HEADS])
def test_broken_files_are_named(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=path.as_posix()):
        load_detector(params(), CPU)
    torch.save({"something": {}}, path)
    with pytest.raises(InputError, match=path.as_posix()):
        load_detector(params(), CPU)


@pytest.mark.usefixtures("trained")
def test_weights_of_another_backbone_or_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"models/backbone\.pt\[backbone\]"):
        load_backbone(params(name="resnet50"), CPU)
    wider = dataclasses.replace(params(), box_head=dataclasses.replace(params().box_head, hidden=32))
    with pytest.raises(InputError, match=r"models/box_head\.pt\[box_head\].*shape"):
        load_box_head(wider, CPU)
