"""The trained parts on disk: what a stage saves, the next one loads; broken files are named."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from src.core.errors import InputError
from src.core.params import Params
from src.core.paths import BACKBONE, BOX_HEAD, MASK_HEAD
from src.core.tensors import cpu_state_dict, save_tensors
from src.detector.checkpoints import load_backbone, load_box_head, load_detector, make_box_head, make_mask_head
from src.detector.mask_rcnn import MaskRCNN
from src.detector.roi_heads import RoiHeads
from src.detector.weights import assemble
from src.structures.image_list import ImageList
from tests.detector import small
from tests.detector.small import (
    CANVAS,
    CPU,
    REGION,
    TORCHVISION_PROPOSALS,
    backbone_params,
    evaluate_params,
    randomize,
)


def params(**backbone: Any) -> Params:
    whole = small.params()
    return small.params(
        backbone=backbone_params(**({"name": "efficientnet_lite0", "weights": "imagenet"} | backbone)),
        proposals=TORCHVISION_PROPOSALS,
        box_head=dataclasses.replace(whole.box_head, representation_size=16),
        mask_head=dataclasses.replace(whole.mask_head, channels=8),
        features=dataclasses.replace(whole.features, proposals=20),
        evaluate=evaluate_params(score_threshold=0.1),
    )


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MaskRCNN:
    """A detector whose parts lie in `models/` of the working directory."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    settings = params()
    backbone, rpn = assemble(settings.backbone, TORCHVISION_PROPOSALS, pretrained=False)
    box_head, mask_head = make_box_head(settings), make_mask_head(settings)
    randomize([*rpn.parameters(), *box_head.parameters()], 0, 0.05)
    save_tensors(BACKBONE, {"backbone": cpu_state_dict(backbone), "rpn": cpu_state_dict(rpn)})
    save_tensors(MASK_HEAD, {"box_head": cpu_state_dict(box_head), "mask_head": cpu_state_dict(mask_head)})
    save_tensors(BOX_HEAD, {"box_head": cpu_state_dict(make_box_head(settings))})  # as it was before the joint training
    detector = MaskRCNN(backbone, rpn, RoiHeads(box_head, mask_head), settings)
    return detector.to(memory_format=torch.channels_last).eval()


def test_what_was_saved_detects_the_same(trained: MaskRCNN) -> None:
    loaded, seen = load_detector(params(), CPU), []
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert not any(module.training for module in loaded.modules())
    loaded.roi_heads.box_head.register_forward_hook(lambda head, pooled, outputs: seen.append(len(outputs[0])))
    images = ImageList(torch.randn(1, 3, *CANVAS), torch.tensor([REGION]))
    with torch.no_grad():
        found, expected = (net.detect(images)[0] for net in (loaded, trained))
    assert seen == [20]  # features.proposals
    assert len(expected.labels)
    assert torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.masks, expected.masks, rtol=0, atol=1e-5)


def test_the_box_head_alone_is_that_of_its_own_stage(trained: MaskRCNN) -> None:
    joint, earlier = (torch.load(path, weights_only=True)["box_head"] for path in (MASK_HEAD, BOX_HEAD))
    found = load_box_head(params(), CPU).state_dict()
    assert found.keys() == earlier.keys()
    assert all(torch.equal(value, earlier[name]) for name, value in found.items())
    assert torch.equal(load_box_head(params(), CPU, MASK_HEAD).fc6.weight, joint["fc6.weight"])
    assert torch.equal(joint["fc6.weight"], trained.roi_heads.box_head.fc6.weight)
    assert not torch.equal(joint["fc6.weight"], earlier["fc6.weight"])


def test_fine_tuned_coco_weights_keep_their_normalization_s_epsilon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = params(name="resnet50", weights="coco")
    backbone, rpn = assemble(settings.backbone, TORCHVISION_PROPOSALS, pretrained=False)
    save_tensors(BACKBONE, {"backbone": cpu_state_dict(backbone), "rpn": cpu_state_dict(rpn)})
    loaded, _ = load_backbone(settings, CPU)
    assert {module.eps for module in loaded.modules() if hasattr(module, "eps")} == {0.0}


def test_a_missing_file_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"models/backbone\.pt: expected a file made by `dvc repro`"):
        load_backbone(params(), CPU)
    with pytest.raises(InputError, match=r"models/box_head\.pt"):
        load_box_head(params(), CPU)


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("path", [BACKBONE, MASK_HEAD])
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
    wider = dataclasses.replace(params(), box_head=dataclasses.replace(params().box_head, representation_size=32))
    with pytest.raises(InputError, match=r"models/box_head\.pt\[box_head\].*shape"):
        load_box_head(wider, CPU)
