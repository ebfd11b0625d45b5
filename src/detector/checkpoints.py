"""The trained parts as the stages save and load them: plain state dicts, no pickled modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from src.core import paths
from src.core.errors import invalid
from src.core.params import Params
from src.core.tensors import State, load_strictly, read_states
from src.detector.box_head import BoxHead
from src.detector.mask_head import MaskHead
from src.detector.mask_rcnn import BackboneWithFpn, MaskRCNN
from src.detector.roi_heads import RoiHeads
from src.detector.rpn import RegionProposalNetwork
from src.detector.weights import assemble, load_states
from src.structures.classes import NUM_CLASSES


def make_box_head(params: Params) -> BoxHead:
    """An untrained box head, its weights drawn from torch's global generator."""
    box = params.box_head
    return BoxHead(NUM_CLASSES, representation_size=box.representation_size, dropout=box.dropout)


def make_mask_head(params: Params) -> MaskHead:
    """An untrained mask head, its weights drawn from torch's global generator."""
    return MaskHead(NUM_CLASSES, channels=params.mask_head.channels)


def load_backbone(params: Params, device: torch.device) -> tuple[BackboneWithFpn, RegionProposalNetwork]:
    """The fine-tuned backbone and RPN, frozen, channels last.

    Raises:
        InputError: the file is missing, broken or does not fit `params.backbone`.
    """
    backbone, rpn = assemble(params.backbone, params.proposals, pretrained=False)
    load_states(backbone, rpn, _read(paths.BACKBONE, "backbone", "rpn"), str(paths.BACKBONE))
    return _ready(backbone, device), _ready(rpn, device)


def load_box_head(params: Params, device: torch.device, path: Path = paths.BOX_HEAD) -> BoxHead:
    """The box head as stage `box_head` left it."""
    head = make_box_head(params)
    load_strictly(head, _read(path, "box_head")["box_head"], f"{path}[box_head]")
    return head.to(device)


def load_detector(params: Params, device: torch.device) -> MaskRCNN:
    """The whole detector, frozen, with the heads as stage `mask_head` left them."""
    backbone, rpn = load_backbone(params, device)
    mask_head = make_mask_head(params)
    load_strictly(mask_head, _read(paths.MASK_HEAD, "mask_head")["mask_head"], f"{paths.MASK_HEAD}[mask_head]")
    box_head = load_box_head(params, device, paths.MASK_HEAD)
    return _ready(MaskRCNN(backbone, rpn, RoiHeads(box_head, mask_head), params), device)


def _ready(module: Any, device: torch.device) -> Any:
    """On the device, channels last, evaluating, without gradients."""
    return module.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _read(path: Path, *parts: str) -> dict[str, State]:
    if not path.exists():
        raise invalid(path, "a file made by `dvc repro`", "none")
    return read_states(path, parts)
