"""The trained parts as the stages save and load them: plain state dicts, no pickled modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from src.core.errors import invalid
from src.core.params import Params
from src.detector.box_head import BoxHead
from src.detector.mask_head import MaskHead
from src.detector.mask_rcnn import BackboneWithFpn, MaskRCNN
from src.detector.rpn import RegionProposalNetwork
from src.detector.weights import State, assemble, load_states, load_strictly, read_states

BACKBONE = Path("models/backbone.pt")
BOX_HEAD = Path("models/box_head.pt")
HEADS = Path("models/mask_head.pt")


def load_backbone(params: Params, device: torch.device) -> tuple[BackboneWithFpn, RegionProposalNetwork]:
    """The fine-tuned backbone and RPN, frozen, channels last.

    Raises:
        InputError: the file is missing, broken or does not fit `params.backbone`.
    """
    backbone, rpn = assemble(params.backbone, params.proposals, pretrained=False)
    load_states(backbone, rpn, _read(BACKBONE, "backbone", "rpn"), str(BACKBONE))
    return _ready(backbone, device), _ready(rpn, device)


def load_box_head(params: Params, device: torch.device, path: Path = BOX_HEAD) -> BoxHead:
    """The box head as stage `box_head` left it."""
    head = BoxHead(hidden=params.box_head.hidden, dropout=params.box_head.dropout)
    load_strictly(head, _read(path, "box_head")["box_head"], f"{path}[box_head]")
    return head.to(device)


def load_detector(params: Params, device: torch.device) -> MaskRCNN:
    """The whole detector, frozen, with the heads as stage `mask_head` left them."""
    backbone, rpn = load_backbone(params, device)
    mask_head = MaskHead(channels=params.mask_head.channels)
    load_strictly(mask_head, _read(HEADS, "mask_head")["mask_head"], f"{HEADS}[mask_head]")
    box_head = load_box_head(params, device, HEADS)
    return _ready(MaskRCNN(backbone, rpn, box_head, mask_head, params.features.proposals), device)


def _ready(module: Any, device: torch.device) -> Any:
    """On the device, channels last, evaluating, without gradients."""
    return module.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _read(path: Path, *parts: str) -> dict[str, State]:
    if not path.exists():
        raise invalid(path, "a file made by `dvc repro`", "none")
    return read_states(path, parts)


def cpu_state_dict(module: nn.Module) -> dict[str, torch.Tensor]:
    """A module's state dict on the processor, ready to be saved."""
    return {name: value.cpu().contiguous() for name, value in module.state_dict().items()}
