"""What `params.yaml` may not say: values that are fine alone but not together, and names of earlier versions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from src.core.data_params import CATEGORIES, SUPERCATEGORIES, ClassesParam
from src.core.errors import InputError, brief, invalid
from src.core.one_stage_params import OneStageParams
from src.core.params import Params, PrepareParams

# Names that settings had before, and what they are called now; refused with the new name.
RENAMED: Final = {
    "rpn.positive_iou": "rpn.fg_iou_thresh",
    "rpn.negative_iou": "rpn.bg_iou_thresh",
    "rpn.samples": "rpn.batch_size_per_image",
    "rpn.loss_weights.regression": "rpn.loss_weights.rpn_regression",
    "backbone.positive_iou": "backbone.fg_iou_thresh",
    "backbone.negative_iou": "backbone.bg_iou_thresh",
    "backbone.samples": "backbone.rpn_batch_size_per_image",
    "backbone.rois": "backbone.box_batch_size_per_image",
    "backbone.loss_weights.regression": "backbone.loss_weights.rpn_regression",
    "backbone.loss_weights.refinement": "backbone.loss_weights.box_regression",
    "proposals.before_nms": "proposals.pre_nms_top_n",
    "proposals.after_nms": "proposals.post_nms_top_n",
    "box_head.hidden": "box_head.representation_size",
    "box_head.batch_images": "box_head.batch_size",
    "box_head.rois": "box_head.batch_size_per_image",
    "box_head.positive_fraction": "rois.positive_fraction",
    "box_head.foreground_iou": "rois.fg_iou_thresh",
    "box_head.loss_weights.regression": "box_head.loss_weights.box_regression",
    "mask_head.rois": "mask_head.batch_size_per_image",
    "mask_head.batch_images": "mask_head.batch_size",
    "mask_head.loss_weights.classification": "box_head.loss_weights.classification",
    "mask_head.loss_weights.regression": "box_head.loss_weights.box_regression",
    "mask_head.loss_weights.box_regression": "box_head.loss_weights.box_regression",
    "mask_head.loss_weights.mask": "joint.loss_weights.mask",
    "evaluate.detections": "evaluate.detections_per_image",
}
SMALLEST_TILE: Final = 64  # pixels; a large picture has thousands of them
OUTPUT_FOLDERS: Final = ("data", "metrics", "models", "plots", "report")  # what stages write, by the top folder


def check_names(tree: Any) -> None:
    """Refuses the names of earlier versions, before anything else is said of the file.

    Args:
        tree: what YAML gave.

    Raises:
        InputError: naming the old key and what it is called now.
    """
    for old, new in RENAMED.items():
        *sections, key = old.split(".")
        branch = tree
        for section in sections:
            branch = branch.get(section) if isinstance(branch, Mapping) else None
        if isinstance(branch, Mapping) and key in branch:
            raise InputError(f"params.yaml: '{old}' is now called '{new}'")


def check_consistency(params: Params) -> None:
    """Refuses values that are fine alone but not together.

    Raises:
        InputError: naming the keys, what they would have to be, and what they are.
    """
    _check_frame(params.prepare)
    for name, section in (("rpn", params.rpn), ("backbone", params.backbone), ("one_stage", params.one_stage)):
        if section.bg_iou_thresh > section.fg_iou_thresh:
            found = f"{section.bg_iou_thresh} and {section.fg_iou_thresh}"
            raise invalid("params.yaml", f"'{name}.bg_iou_thresh' at most '{name}.fg_iou_thresh'", found)
    _check_one_stage(params.one_stage)
    if params.features.proposals > params.proposals.post_nms_top_n:
        found = f"{params.features.proposals} and {params.proposals.post_nms_top_n}"
        raise invalid("params.yaml", "'features.proposals' at most 'proposals.post_nms_top_n'", found)
    if params.evaluate.detections_per_image > params.features.proposals:
        found = f"{params.evaluate.detections_per_image} and {params.features.proposals}"
        raise invalid("params.yaml", "'evaluate.detections_per_image' at most 'features.proposals'", found)
    if 0 < params.predict.tile < SMALLEST_TILE:
        raise invalid("params.yaml", f"0 or at least {SMALLEST_TILE} for 'predict.tile'", params.predict.tile)
    # A set in COCO's format may bring a validation part of its own; whether it does is seen once it is read.
    if not params.data.validation_fraction and params.data.source != "coco":
        for setting in validated_by(params):
            text = f"a 'data.validation_fraction' above 0 with {setting}"
            raise invalid("params.yaml", text, params.data.validation_fraction)
    if params.data.source != "emoji" and not params.data.root:
        text = f"a folder for 'data.root' with data.source={params.data.source}"
        raise invalid("params.yaml", text, "an empty text")
    _check_classes(params.data.coco.classes)
    _check_root(params.data.root)


def _check_classes(setting: ClassesParam) -> None:
    """Refuses another word than the two, no class, and a category in two classes."""
    if isinstance(setting, str):
        if setting not in (SUPERCATEGORIES, CATEGORIES):
            text = f"{SUPERCATEGORIES}, {CATEGORIES} or a mapping of class names to lists of category names"
            raise invalid("params.yaml", f"{text} for 'data.coco.classes'", brief(setting))
        return
    if not setting:
        raise invalid("params.yaml", "a class in the mapping 'data.coco.classes'", "none")
    owners: dict[str, str] = {}
    for name, members in setting:
        for member in members:
            if member in owners:
                text = f"each category in one class of 'data.coco.classes', {brief(member)} in '{owners[member]}'"
                raise invalid("params.yaml", text, f"it again in '{name}'")
            owners[member] = name


def _check_frame(frame: PrepareParams) -> None:
    for key, size in (("height", frame.height), ("padded_width", frame.padded_width)):
        if size % 32:
            raise invalid("params.yaml", f"a multiple of 32 for 'prepare.{key}' (the backbone's stride)", size)
    if frame.width > frame.padded_width or (frame.padded_width - frame.width) % 2:
        text = "'prepare.padded_width' at least 'prepare.width' and an even number above it"
        raise invalid("params.yaml", text, f"{frame.padded_width} and {frame.width}")


def validated_by(params: Params) -> list[str]:
    """The settings that need validation images, as `key=value`."""
    needed = {
        f"evaluate.split={params.evaluate.split}": params.evaluate.split == "validation",
        f"joint.keep={params.joint.keep}": params.joint.keep == "best",
        f"joint.patience={params.joint.patience}": params.joint.patience > 0,
    }
    return [setting for setting, is_needed in needed.items() if is_needed]


def _check_one_stage(options: OneStageParams) -> None:
    """Refuses to train the body below an FPN that stands still."""
    if options.trainable_layers and not options.train_fpn:
        text = (
            "'one_stage.train_fpn: true' with a 'one_stage.trainable_layers' above 0, since the FPN lies over the body"
        )
        raise invalid("params.yaml", text, "false")


def _check_root(root: str) -> None:
    """Refuses a `data.root` around or in what stages write: DVC watches that folder, and would run in a circle."""
    here = Path.cwd()
    folder = Path(root)
    with suppress(RuntimeError):  # `~` is nobody's home here
        folder = folder.expanduser()
    folder = Path(os.path.normpath(here / folder))
    around = any((here / output).is_relative_to(folder) for output in OUTPUT_FOLDERS)
    if root and (around or folder.is_relative_to(here / "plots")):  # of the others, stages write single files
        text = f"for 'data.root' a folder apart from what stages write ({', '.join(OUTPUT_FOLDERS)}), such as input/set"
        raise invalid("params.yaml", text, f"'{root}'")
