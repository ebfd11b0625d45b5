"""Broken checkpoints in the course's format, for `backbone.weights`. The good one is zeros, without taking room."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

NAME = "checkpoint680.pth"
States = dict[str, dict[str, Tensor]]
Spoil = Callable[[Path, States], None]


def zeros(parts: dict[str, nn.Module]) -> States:
    """State dicts of the right names and shapes, each tensor a single number in memory and on disk."""
    return {
        part: {name: torch.zeros(1).expand(value.shape) for name, value in module.state_dict().items()}
        for part, module in parts.items()
    }


class Malicious:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch ran",)


def save(folder: Path, content: Any, *, zipped: bool = True) -> None:
    torch.save(content, folder / NAME, _use_new_zipfile_serialization=zipped)


def put(part: str, name: str, value: Tensor | None) -> Spoil:
    """Replaces a tensor, or takes it out."""

    def spoil(folder: Path, states: States) -> None:
        changed = {key: item for key, item in states[part].items() if key != name or value is not None}
        save(folder, {**states, part: changed | ({} if value is None else {name: value})})

    return spoil


def whole(content: Any) -> Spoil:
    return lambda folder, states: save(folder, content)


def evil(*, zipped: bool) -> Spoil:
    return lambda folder, states: save(folder, {**states, "rpn": OrderedDict(a=Malicious())}, zipped=zipped)


def cut(share: float, *, zipped: bool) -> Spoil:
    def spoil(folder: Path, states: States) -> None:
        save(folder, states, zipped=zipped)
        os.truncate(folder / NAME, int(share * (folder / NAME).stat().st_size))

    return spoil


def content(data: bytes) -> Spoil:
    return lambda folder, states: (folder / NAME).write_bytes(data)


def hand_made(folder: Path, states: States) -> None:
    (folder / NAME).write_bytes(pickle.dumps({"backbone": Malicious(), "rpn": {}}))


STEM = "body.conv1.weight"
BIAS = "head.conv.bias"
ONES = torch.ones(256)
PLAIN = "a plain tensor of floating-point numbers"
CASES: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "nothing": (lambda folder, states: None, ("imagenet, coco, none or a file for 'backbone.weights'", NAME)),
    "folder": (lambda folder, states: (folder / NAME).mkdir(), (NAME, "a checkpoint of tensors only")),
    "empty": (content(b""), (NAME, "a checkpoint of tensors only")),
    "page": (content(b"<html>404: not found</html>"), (NAME, "a checkpoint of tensors only")),
    **{f"zip cut at {share}": (cut(share, zipped=True), (NAME, "tensors only")) for share in (0.01, 0.5, 0.99)},
    **{f"legacy cut at {share}": (cut(share, zipped=False), (NAME, "tensors only")) for share in (0.01, 0.5, 0.99)},
    "malicious zip": (evil(zipped=True), (NAME, "tensors only", "posix.system")),
    "malicious legacy": (evil(zipped=False), (NAME, "tensors only", "posix.system")),
    "malicious pickle": (hand_made, (NAME, "tensors only")),
    "another format": (whole({"model": {}, "optimizer": {}}), ("a dict with 'backbone' and 'rpn'", "model")),
    "a list": (whole([torch.zeros(1)]), ("a dict with 'backbone' and 'rpn'", "found list")),
    "a text in a state": (whole({"backbone": {"a": "b"}, "rpn": {}}), (f"{NAME}[backbone]", "a state dict of tensors")),
    "wrong keys": (whole({"backbone": {"a": ONES}, "rpn": {}}), (f"{NAME}[backbone]", "281 missing")),
    "missing tensor": (put("backbone", STEM, None), (f"{NAME}[backbone]", f"1 missing, first {STEM}")),
    "tensor too many": (put("rpn", "head.new", ONES), (f"{NAME}[rpn]", "1 unknown, first head.new")),
    "batch normalization": (
        put("backbone", "body.bn1.num_batches_tracked", torch.tensor(0)),
        ("1 unknown, first body.bn1.num_batches_tracked",),
    ),
    "wrong shape": (put("backbone", STEM, torch.zeros(64, 3, 3, 3)), (STEM, "(64, 3, 7, 7)", "found (64, 3, 3, 3)")),
    "NaN": (put("rpn", BIAS, ONES * torch.nan), (BIAS, "finite values, found NaN or infinity")),
    "infinity": (put("rpn", BIAS, ONES / 0), (BIAS, "finite values")),
    "beyond float32": (put("rpn", BIAS, ONES.double() * 1e300), (BIAS, "finite values")),
    "whole numbers": (put("rpn", BIAS, ONES.long()), (BIAS, PLAIN, "torch.int64")),
    "complex numbers": (put("rpn", BIAS, ONES.to(torch.complex64)), (BIAS, PLAIN, "torch.complex64")),
    "sparse": (put("rpn", BIAS, ONES.to_sparse()), (BIAS, PLAIN, "torch.sparse_coo")),
    "without numbers": (put("rpn", BIAS, ONES.to("meta")), (BIAS, PLAIN, "meta")),
}
