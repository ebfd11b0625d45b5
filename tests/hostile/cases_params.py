"""Broken parameters, as a person may type them or `dvc exp run -S` may write them."""

from __future__ import annotations

import re
from typing import Any

from tests.hostile.case import PROJECT, params_text

SHIPPED = (PROJECT / "params.yaml").read_text(encoding="utf-8")


def typed(old: str, new: str) -> str:
    """The shipped file with a line changed."""
    assert SHIPPED.count(old) == 1, old
    return SHIPPED.replace(old, new)


def epochs(text: str) -> str:
    """The shipped file with another text in the place of `rpn.epochs`, which is the first line of that name."""
    return re.sub(r"^  epochs: .*$", lambda _: f"  epochs: {text}", SHIPPED, count=1, flags=re.MULTILINE)


def value(**changes: Any) -> str:
    return params_text(**changes)


def laughs(levels: int) -> str:
    """A number that is a list of lists of lists, nine to the power of `levels` in all, in a few lines."""
    row, lines = "[" + ", ".join("1" * 9) + "]", []
    for level in range(levels):
        lines.append(f"    - &x{level} {row}")
        row = "[" + ", ".join([f"*x{level}"] * 9) + "]"
    return epochs("\n" + "\n".join(lines))


CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "empty": ("", ("a section under 'the top level'",)),
    "list": ("- 1\n- 2", ("a section under 'the top level'",)),
    "open bracket": ("a: [1", ("readable YAML",)),
    "tabs": ("data:\n\tsource: emoji", ("readable YAML",)),
    "no text": ("data: \udcff", ("readable YAML",)),
    "brackets": ("[" * 1200, ("readable YAML",)),
    "object": ("a: !!python/object/apply:os.system ['touch ran']", ("readable YAML",)),
    "tag without a value": (epochs("!!bool x"), ("readable YAML",)),
    "same key twice": (epochs("4\n  epochs: 5"), ("readable YAML", "duplicate key")),
    "unknown key": (value(rpn__epoch=4), ("unknown key 'rpn.epoch'; did you mean 'rpn.epochs'?",)),
    "unknown section": (SHIPPED + "maskhead: {}\n", ("unknown key 'maskhead'; did you mean 'mask_head'?",)),
    "unknown loss": (value(rpn__loss_weights={"objectnes": 1}), ("did you mean 'rpn.loss_weights.objectness'?",)),
    "key of digits": (SHIPPED + "? 0x" + "f" * 5000 + "\n: 1\n", ("unknown key 'a int too large to print'",)),
    "old name": (value(rpn__positive_iou=0.7), ("'rpn.positive_iou' is now called 'rpn.fg_iou_thresh'",)),
    "name of another section": (
        value(box_head__foreground_iou=0.5),
        ("'box_head.foreground_iou' is now called 'rois.fg_iou_thresh'",),
    ),
    "weight of another section": (
        value(mask_head__loss_weights={"classification": 1, "box_regression": 1, "mask": 2}),
        ("'mask_head.loss_weights.classification' is now called 'box_head.loss_weights.classification'",),
    ),
    "weight where it did nothing": (
        value(mask_head__loss_weights={"mask": 2}),
        ("'mask_head.loss_weights.mask' is now called 'joint.loss_weights.mask'",),
    ),
    "missing key": (value(evaluate={"border": "clip"}), ("missing key 'evaluate.split'",)),
    "section is a number": (value(rpn=3), ("a section under 'rpn', found int",)),
    "text for a number": (value(rpn__epochs="4"), ("a whole number for 'rpn.epochs', found '4'",)),
    "fraction of an epoch": (value(rpn__epochs=1.5), ("a whole number for 'rpn.epochs', found 1.5",)),
    "number for a switch": (value(rpn__flip=1), ("true or false for 'rpn.flip', found 1",)),
    "nothing": (epochs("~"), ("a whole number for 'rpn.epochs', found None",)),
    "list for a number": (value(rpn__learning_rate=[1e-3]), ("a number for 'rpn.learning_rate'",)),
    "infinity": (epochs(".inf"), ("a whole number for 'rpn.epochs', found inf",)),
    "NaN": (epochs(".nan"), ("a whole number for 'rpn.epochs', found nan",)),
    "tiny number for epochs": (epochs("1e-06"), ("a whole number for 'rpn.epochs', found 1e-06",)),
    "YAML 1.1": (
        typed("flip: true                 # mirror half", "flip: yes # mirror half"),
        ("true or false for 'rpn.flip', found 'yes'",),
    ),
    "digits": (
        epochs("0x" + "f" * 5000),
        ("a whole number for 'rpn.epochs'", "too large to print"),
    ),
    "laughs": (laughs(9), ("a whole number for 'rpn.epochs'", "...")),
    "no epochs": (value(rpn__epochs=0), ("a number in [1, inf] for 'rpn.epochs', found 0",)),
    "negative weight": (value(joint__loss_weights__mask=-1), ("for 'joint.loss_weights.mask', found -1.0",)),
    "IoU above 1": (value(rpn__fg_iou_thresh=1.5), ("a number in [0, 1] for 'rpn.fg_iou_thresh', found 1.5",)),
    "learning rate of 0": (value(rpn__learning_rate=0), ("a number above 0 for 'rpn.learning_rate'",)),
    "no epochs of joint training": (value(joint__epochs=0), ("a number in [1, inf] for 'joint.epochs', found 0",)),
    "a faster body": (value(joint__backbone_rate_factor=1.5), ("for 'joint.backbone_rate_factor', found 1.5",)),
    "no level": (value(joint__finest_level=6), ("a number in [2, 5] for 'joint.finest_level', found 6",)),
    "body under a frozen pyramid": (
        value(one_stage__trainable_layers=1, one_stage__train_fpn=False),
        ("'one_stage.train_fpn: true' with a 'one_stage.trainable_layers' above 0", "found false"),
    ),
    "one stage's IoUs crossed": (
        value(one_stage__bg_iou_thresh=0.6),
        ("'one_stage.bg_iou_thresh' at most 'one_stage.fg_iou_thresh'", "0.6 and 0.5"),
    ),
    "no scale": (value(one_stage__anchor_scales=[0]), ("at most 8 for 'one_stage.anchor_scales'", "(0.0,)")),
    "scheme": (value(joint__scheme="end to end"), ("one of none, end_to_end, alternating", "found 'end to end'")),
    "misspelled choice": (value(evaluate__border="remvoe"), ("one of remove, clip", "found 'remvoe'")),
    "two colors": (value(prepare__mean=[0.5, 0.5]), ("3 values for 'prepare.mean'",)),
    "height": (value(prepare__height=100), ("a multiple of 32 for 'prepare.height'", "found 100")),
    "padded width": (value(prepare__padded_width=150), ("a multiple of 32 for 'prepare.padded_width'", "150")),
    "wider than its frame": (value(prepare__width=162), ("'prepare.padded_width' at least 'prepare.width'",)),
    "odd margin": (value(prepare__width=127), ("an even number above it", "160 and 127")),
    "IoUs crossed": (value(rpn__bg_iou_thresh=0.8), ("'rpn.bg_iou_thresh' at most 'rpn.fg_iou_thresh'", "0.8 and 0.7")),
    "more proposals than boxes": (
        value(features__proposals=61),
        ("'features.proposals' at most 'proposals.post_nms_top_n'",),
    ),
    "more detections than proposals": (
        value(evaluate__detections_per_image=25),
        ("'evaluate.detections_per_image' at most 'features.proposals', found 25 and 24",),
    ),
    "a tile of a few pixels": (value(predict__tile=63), ("0 or at least 64 for 'predict.tile', found 63",)),
    "tiles that do not move on": (value(predict__tile_overlap=1.0), ("for 'predict.tile_overlap', found 1.0",)),
    "validation images of none": (
        value(evaluate__split="validation"),
        ("a 'data.validation_fraction' above 0 with evaluate.split=validation", "found 0.0"),
    ),
    "best by no images": (value(joint__keep="best"), ("a 'data.validation_fraction' above 0", "found 0.0")),
    "patience without images": (value(joint__patience=2), ("a 'data.validation_fraction' above 0", "found 0.0")),
    "all for validation": (value(data__validation_fraction=1.0), ("for 'data.validation_fraction', found 1.0",)),
    "no picture for validation": (
        value(data__source="emoji", data__validation_fraction=0.001),
        ("images to train on and to validate on", "(data.validation_fraction=0.001)"),
    ),
    "no folder": (value(data__source="course", data__root=""), ("a folder for 'data.root'", "an empty text")),
    "another folder": (value(data__source="coco", data__root="nowhere"), ("a folder in 'data.root'", "'nowhere'")),
    "nobody's home": (value(data__source="coco", data__root="~nobody-here/x"), ("a folder in 'data.root'",)),
    "one picture": (value(data__source="emoji", data__emoji__train=0), ("for 'data.emoji.train', found 0",)),
}

ALLOWED: dict[str, tuple[str, str, float]] = {
    "small": (typed("learning_rate: 0.001 ", "learning_rate: 1e-06 "), "learning_rate", 1e-6),
    "ten": (epochs("1e1"), "epochs", 10),
    "octal": (epochs("0o17"), "epochs", 15),
    "whole": (epochs("4.0"), "epochs", 4),
}
