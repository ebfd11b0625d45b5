"""The trained parts as the stages save and load them: plain state dicts, no pickled modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from src.core import paths
from src.core.errors import invalid
from src.core.params import Params
from src.core.tensors import State, cpu_state_dict, load_strictly, read_states, save_tensors
from src.detector.box_head import BoxHead
from src.detector.mask_head import MaskHead
from src.detector.mask_rcnn import BackboneWithFpn, MaskRCNN
from src.detector.one_stage import OneStageDetector
from src.detector.roi_heads import RoiHeads
from src.detector.rpn import RegionProposalNetwork
from src.detector.sampling import LossRules
from src.detector.weights import assemble, load_states, make_backbone
from src.structures.classes import NUM_CLASSES
from src.structures.detector import MASK_RCNN, ONE_STAGE, Detector


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


def start_box_head(params: Params, device: torch.device) -> BoxHead:
    """The box head as fine-tuning left it, or at random where it did not train one."""
    head = make_box_head(params)
    if params.backbone.epochs and params.backbone.box_batch_size_per_image:
        load_strictly(head, _read(paths.BACKBONE, "box_head")["box_head"], f"{paths.BACKBONE}[box_head]")
    return head.to(device)


def load_box_head(params: Params, device: torch.device) -> BoxHead:
    """The box head as stage `box_head` left it."""
    head = make_box_head(params)
    load_strictly(head, _read(paths.BOX_HEAD, "box_head")["box_head"], f"{paths.BOX_HEAD}[box_head]")
    return head.to(device)


def assemble_trained_parts(params: Params, device: torch.device) -> MaskRCNN:
    """The detector that stages `backbone` and `mask_head` leave, ready to be trained on: channels last.

    Raises:
        InputError: a file is missing, broken or does not fit `params`.
    """
    backbone, rpn = load_backbone(params, device)
    heads = _load_heads(params, _read(paths.MASK_HEAD, "box_head", "mask_head"), paths.MASK_HEAD)
    model = MaskRCNN(backbone, rpn, heads, params, LossRules.for_joint_training(params))
    return model.to(device).to(memory_format=torch.channels_last)


def save_detector(model: MaskRCNN) -> None:
    """Writes every part to `models/detector.pt`."""
    parts = {"backbone": model.backbone, "rpn": model.rpn, **dict(model.roi_heads.named_children())}
    save_tensors(paths.DETECTOR, {part: cpu_state_dict(module) for part, module in parts.items()})


def load_detector(params: Params, device: torch.device) -> MaskRCNN:
    """The whole detector, frozen, as stage `joint` left it.

    Raises:
        InputError: the file is missing, broken or does not fit `params`.
    """
    states = _read(paths.DETECTOR, "backbone", "rpn", "box_head", "mask_head")
    backbone, rpn = assemble(params.backbone, params.proposals, pretrained=False)
    load_states(backbone, rpn, states, str(paths.DETECTOR))
    heads = _load_heads(params, states, paths.DETECTOR)
    return _ready(MaskRCNN(backbone, rpn, heads, params), device)


def start_one_stage(params: Params, device: torch.device) -> OneStageDetector:
    """The fine-tuned backbone under a head at random, drawn from torch's global generator; ready to learn.

    Raises:
        InputError: `models/backbone.pt` is missing, broken or does not fit `params.backbone`.
    """
    model = _make_one_stage(params)
    load_strictly(model.backbone, _read(paths.BACKBONE, "backbone")["backbone"], f"{paths.BACKBONE}[backbone]")
    model.prepare_to_learn()
    return model.to(device).to(memory_format=torch.channels_last)


def save_one_stage(model: OneStageDetector) -> None:
    """Writes backbone and head to `models/one_stage.pt`."""
    save_tensors(paths.ONE_STAGE, {name: cpu_state_dict(part) for name, part in model.named_children()})


def load_one_stage(params: Params, device: torch.device) -> OneStageDetector:
    """The one-stage detector, frozen, as stage `one_stage` left it.

    Raises:
        InputError: the file is missing, broken or does not fit `params`.
    """
    model = _make_one_stage(params)
    states = _read(paths.ONE_STAGE, "backbone", "head")
    for part, module in model.named_children():
        load_strictly(module, states[part], f"{paths.ONE_STAGE}[{part}]")
    return _ready(model, device)


LOADERS: Final[Mapping[str, Callable[[Params, torch.device], Detector]]] = {
    MASK_RCNN: load_detector,
    ONE_STAGE: load_one_stage,
}


def _make_one_stage(params: Params) -> OneStageDetector:
    return OneStageDetector(make_backbone(params.backbone, pretrained=False), NUM_CLASSES - 1, params)


def _load_heads(params: Params, states: Mapping[str, State], path: Path) -> RoiHeads:
    """Both heads from a file's state dicts."""
    box_head, mask_head = make_box_head(params), make_mask_head(params)
    load_strictly(box_head, states["box_head"], f"{path}[box_head]")
    load_strictly(mask_head, states["mask_head"], f"{path}[mask_head]")
    return RoiHeads(box_head, mask_head)


def _ready(module: Any, device: torch.device) -> Any:
    """On the device, channels last, evaluating, without gradients."""
    return module.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _read(path: Path, *parts: str) -> dict[str, State]:
    if not path.exists():
        raise invalid(path, "a file made by `dvc repro`", "none")
    return read_states(path, parts)
