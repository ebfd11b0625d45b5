"""The trained parts as the stages save and load them: plain state dicts, no pickled modules.

A file with heads has the names of their classes beside them: heads of other classes are refused by name, not by shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from src.core import paths
from src.core.errors import invalid
from src.core.params import Params
from src.core.tensors import (
    State,
    cpu_state_dict,
    load_strictly,
    read_states,
    read_tensors,
    save_tensors,
    states_of,
)
from src.detector.box_head import BoxHead
from src.detector.mask_head import MaskHead
from src.detector.mask_rcnn import BackboneWithFpn, MaskRCNN
from src.detector.one_stage import OneStageDetector
from src.detector.roi_heads import RoiHeads
from src.detector.rpn import RegionProposalNetwork
from src.detector.sampling import LossRules
from src.detector.weights import assemble, load_states, make_backbone
from src.structures.classes import Classes, require_same
from src.structures.detector import MASK_RCNN, ONE_STAGE, Detector

CLASSES: Final = "classes"  # the names' place beside the state dicts
HERE: Final = Path()  # the project in whose root this process works


def make_box_head(params: Params, classes: Classes) -> BoxHead:
    """An untrained box head, its weights drawn from torch's global generator."""
    box = params.box_head
    return BoxHead(classes.count, representation_size=box.representation_size, dropout=box.dropout)


def make_mask_head(params: Params, classes: Classes) -> MaskHead:
    """An untrained mask head, its weights drawn from torch's global generator."""
    return MaskHead(classes.count, channels=params.mask_head.channels)


def load_backbone(params: Params, device: torch.device) -> tuple[BackboneWithFpn, RegionProposalNetwork]:
    """The fine-tuned backbone and RPN, frozen, channels last.

    Raises:
        InputError: the file is missing, broken or does not fit `params.backbone`.
    """
    backbone, rpn = assemble(params.backbone, params.proposals, pretrained=False)
    load_states(backbone, rpn, read_states(_made(paths.BACKBONE), ("backbone", "rpn")), str(paths.BACKBONE))
    return _ready(backbone, device), _ready(rpn, device)


def start_box_head(params: Params, classes: Classes, device: torch.device) -> BoxHead:
    """The box head as fine-tuning left it, or at random where it did not train one."""
    if params.backbone.epochs and params.backbone.box_batch_size_per_image:
        return _load_box_head(params, classes, paths.BACKBONE).to(device)
    return make_box_head(params, classes).to(device)


def load_box_head(params: Params, classes: Classes, device: torch.device) -> BoxHead:
    """The box head as stage `box_head` left it."""
    return _load_box_head(params, classes, paths.BOX_HEAD).to(device)


def save_heads(path: Path, parts: Mapping[str, nn.Module], classes: Classes) -> None:
    """Writes state dicts of parts, heads among them, and the names of the classes."""
    save_tensors(path, {**{part: cpu_state_dict(module) for part, module in parts.items()}, CLASSES: [*classes.names]})


def assemble_trained_parts(params: Params, classes: Classes, device: torch.device) -> MaskRCNN:
    """The detector that stages `backbone` and `mask_head` leave, ready to be trained on: channels last.

    Args:
        params: of the run.
        classes: of the data set.
        device: where to.

    Raises:
        InputError: a file is missing, broken or does not fit `params` or `classes`.
    """
    backbone, rpn = load_backbone(params, device)
    states, found = _read(paths.MASK_HEAD, "box_head", "mask_head")
    require_same(found, classes, paths.MASK_HEAD)
    heads = _load_heads(params, classes, states, paths.MASK_HEAD)
    model = MaskRCNN(backbone, rpn, heads, params, LossRules.for_joint_training(params))
    return model.to(device).to(memory_format=torch.channels_last)


def save_detector(model: MaskRCNN, classes: Classes) -> None:
    """Writes every part to `models/detector.pt`."""
    parts = {"backbone": model.backbone, "rpn": model.rpn, **dict(model.roi_heads.named_children())}
    save_heads(paths.DETECTOR, parts, classes)


def load_detector(params: Params, device: torch.device, root: Path = HERE) -> tuple[MaskRCNN, Classes]:
    """The whole detector, frozen, as stage `joint` left it, and what its labels stand for.

    Args:
        params: of the run.
        device: where to.
        root: folder of the project whose detector it is.

    Raises:
        InputError: the file is missing, broken or does not fit `params`.
    """
    path = root / paths.DETECTOR
    states, classes = _read(path, "backbone", "rpn", "box_head", "mask_head")
    backbone, rpn = assemble(params.backbone, params.proposals, pretrained=False)
    load_states(backbone, rpn, states, str(path))
    heads = _load_heads(params, classes, states, path)
    return _ready(MaskRCNN(backbone, rpn, heads, params), device), classes


def start_one_stage(params: Params, classes: Classes, device: torch.device) -> OneStageDetector:
    """The fine-tuned backbone under a head at random, drawn from torch's global generator; ready to learn.

    Raises:
        InputError: `models/backbone.pt` is missing, broken or does not fit `params.backbone`.
    """
    model = _make_one_stage(params, classes)
    states = read_states(_made(paths.BACKBONE), ("backbone",))
    load_strictly(model.backbone, states["backbone"], f"{paths.BACKBONE}[backbone]")
    model.prepare_to_learn()
    return model.to(device).to(memory_format=torch.channels_last)


def save_one_stage(model: OneStageDetector, classes: Classes) -> None:
    """Writes backbone and head to `models/one_stage.pt`."""
    save_heads(paths.ONE_STAGE, dict(model.named_children()), classes)


def load_one_stage(params: Params, device: torch.device, root: Path = HERE) -> tuple[OneStageDetector, Classes]:
    """The one-stage detector, frozen, as stage `one_stage` left it, and what its labels stand for.

    Args:
        params: of the run.
        device: where to.
        root: folder of the project whose detector it is.

    Raises:
        InputError: the file is missing, broken or does not fit `params`.
    """
    path = root / paths.ONE_STAGE
    states, classes = _read(path, "backbone", "head")
    model = _make_one_stage(params, classes)
    for part, module in model.named_children():
        load_strictly(module, states[part], f"{path}[{part}]")
    return _ready(model, device), classes


LOADERS: Final[Mapping[str, Callable[[Params, torch.device, Path], tuple[Detector, Classes]]]] = {
    MASK_RCNN: load_detector,
    ONE_STAGE: load_one_stage,
}


def _make_one_stage(params: Params, classes: Classes) -> OneStageDetector:
    return OneStageDetector(make_backbone(params.backbone, pretrained=False), len(classes.names), params)


def _load_box_head(params: Params, classes: Classes, path: Path) -> BoxHead:
    """A file's box head, for the classes of the data set."""
    states, found = _read(path, "box_head")
    require_same(found, classes, path)
    head = make_box_head(params, classes)
    load_strictly(head, states["box_head"], f"{path}[box_head]")
    return head


def _load_heads(params: Params, classes: Classes, states: Mapping[str, State], path: Path) -> RoiHeads:
    """Both heads from a file's state dicts."""
    box_head, mask_head = make_box_head(params, classes), make_mask_head(params, classes)
    load_strictly(box_head, states["box_head"], f"{path}[box_head]")
    load_strictly(mask_head, states["mask_head"], f"{path}[mask_head]")
    return RoiHeads(box_head, mask_head)


def _ready(module: Any, device: torch.device) -> Any:
    """On the device, channels last, evaluating, without gradients."""
    return module.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _read(path: Path, *parts: str) -> tuple[dict[str, State], Classes]:
    """State dicts of a file with heads, and the classes that it names."""
    content = read_tensors(_made(path))
    states = states_of(content, parts, path)
    return states, Classes.read(content.get(CLASSES), path, CLASSES)


def _made(path: Path) -> Path:
    if not path.exists():
        raise invalid(path, "a file made by `dvc repro`", "none")
    return path
