"""Where the backbone's and the RPN's weights come from: ImageNet, torchvision's COCO detector, the course, nowhere.

A checkpoint in the course's format is a dict of two state dicts, `backbone` (`body.*`, `fpn.*`) and `rpn`
(`head.*`), with the key names of torchvision 0.4. It is read without unpickling code and loaded strictly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path

from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from src.core.errors import invalid
from src.core.params import BackboneParams, ProposalsParams
from src.core.tensors import State, load_strictly, read_states
from src.detector.backbones import LITE_WEIGHTS, LiteBody, ResNetBody
from src.detector.mask_rcnn import BackboneWithFpn
from src.detector.rpn import RegionProposalNetwork

FROZEN_NORM_EPS = 1e-5


def build(params: BackboneParams, proposals: ProposalsParams) -> tuple[BackboneWithFpn, RegionProposalNetwork]:
    """The backbone with its FPN and the RPN, with the weights that `params.weights` names.

    What the weights do not cover starts at random from torch's global generator.

    Raises:
        InputError: the weights do not exist for this backbone, or the checkpoint does not fit it.
    """
    backbone, rpn = assemble(params, proposals, pretrained=params.weights == "imagenet")
    if params.weights == "coco":
        load_states(backbone, rpn, split_detector(torchvision_state(params)), "torchvision's COCO weights")
    elif params.weights not in ("imagenet", "none"):
        path = Path(params.weights)
        load_states(backbone, rpn, read_checkpoint(path), str(path))
    return backbone, rpn


def assemble(
    params: BackboneParams, proposals: ProposalsParams, *, pretrained: bool
) -> tuple[BackboneWithFpn, RegionProposalNetwork]:
    """The networks at random, the body with ImageNet weights if `pretrained`.

    `params.weights` decides the epsilon of ResNet's normalization, which is part of the function that weights stand
    for and in no state dict: who loads weights that were fine-tuned from them needs the same one.
    """
    backbone = make_backbone(params, pretrained=pretrained)
    return backbone, RegionProposalNetwork(params.anchor_sizes, params.anchor_ratios, proposals)


def make_backbone(params: BackboneParams, *, pretrained: bool) -> BackboneWithFpn:
    """The first of the two networks that `assemble` makes."""
    body: LiteBody | ResNetBody
    if params.name in LITE_WEIGHTS:
        body = LiteBody(params.name, pretrained)
    else:
        body = ResNetBody(pretrained, eps=FROZEN_NORM_EPS if params.weights in ("imagenet", "none") else 0.0)
    return BackboneWithFpn(params.name, body)


def torchvision_state(params: BackboneParams) -> State:
    """The state dict of torchvision's Mask R-CNN trained on COCO; downloaded once, then from torch's cache.

    Raises:
        InputError: the backbone is not ResNet-50, or there is no network.
    """
    if params.name != "resnet50":
        raise invalid("params.yaml", "backbone.name=resnet50 with backbone.weights=coco", params.name)
    weights = MaskRCNN_ResNet50_FPN_Weights.COCO_V1
    try:
        return dict(weights.get_state_dict(progress=True, check_hash=True))
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: not the file that its name promises
        raise invalid(weights.url, "torchvision's COCO weights", error) from None


def split_detector(state: Mapping[str, Tensor]) -> dict[str, State]:
    """Backbone and RPN of a torchvision Mask R-CNN's state dict (any version), as the course's checkpoint has them."""
    return {
        part: {name[len(part) + 1 :]: value for name, value in rename(state).items() if name.startswith(f"{part}.")}
        for part in ("backbone", "rpn")
    }


def rename(state: Mapping[str, Tensor]) -> State:
    """Key names of torchvision 0.13 and later as torchvision 0.4, the course and this project have them."""
    rules = (
        (r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2."),
        (r"head\.conv\.0\.0\.", "head.conv."),
        (r"mask_head\.(\d)\.0\.", lambda found: f"mask_head.mask_fcn{int(found[1]) + 1}."),
    )
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)  # noqa: PLW2901 - one rule after another
        renamed[name] = value
    return renamed


def read_checkpoint(path: Path) -> dict[str, State]:
    """A checkpoint in the course's format, tensors only, on the processor.

    Raises:
        InputError: the file is missing, broken, holds more than tensors, or lacks `backbone` or `rpn`.
    """
    if not path.exists():
        raise invalid("params.yaml", "imagenet, coco, none or a file for 'backbone.weights'", f"'{path}'")
    return {part: rename(state) for part, state in read_states(path, ("backbone", "rpn")).items()}


def load_states(backbone: nn.Module, rpn: nn.Module, states: Mapping[str, Mapping[str, Tensor]], where: str) -> None:
    """Loads both state dicts strictly.

    Raises:
        InputError: a tensor is missing, unknown, of another shape or not finite.
    """
    for part, module in (("backbone", backbone), ("rpn", rpn)):
        load_strictly(module, states[part], f"{where}[{part}]")
