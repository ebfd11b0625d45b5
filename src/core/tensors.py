"""Trees of tensors on disk: written whole, read without unpickling code, loaded strictly."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from src.core.errors import invalid
from src.core.files import atomic_write

State: TypeAlias = dict[str, Tensor]
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def save_tensors(path: Path, tree: Any) -> None:
    """Writes a tree of tensors atomically. The same tensors give the same bytes, whatever the file's name."""
    buffer = io.BytesIO()
    torch.save(tree, buffer)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def cpu_state_dict(module: nn.Module) -> State:
    """A module's state dict on the processor, ready to be saved."""
    return {name: value.cpu().contiguous() for name, value in module.state_dict().items()}


def read_states(path: Path, parts: Sequence[str]) -> dict[str, State]:
    """The named state dicts of a file.

    Raises:
        InputError: the file is broken, holds more than tensors, or lacks a part.
    """
    return states_of(read_tensors(path), parts, path)


def read_tensors(path: Path) -> Any:
    """What `save_tensors` wrote, or another's file; nothing but tensors and plain values is unpickled.

    Raises:
        InputError: the file is broken or holds more.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about how the file was written
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a broken file may make the unpickler raise anything
        raise invalid(path, "a checkpoint of tensors only", _reason(error)) from None


def states_of(content: Any, parts: Sequence[str], path: Path) -> dict[str, State]:
    """The named state dicts of what `read_tensors` gave for a file.

    Raises:
        InputError: it lacks a part.
    """
    if not isinstance(content, Mapping) or not content.keys() >= set(parts):
        found = sorted(map(str, content))[:5] if isinstance(content, Mapping) else type(content).__name__
        raise invalid(path, "a dict with " + " and ".join(map(repr, parts)), found)
    for part in parts:
        if not _is_state(content[part]):
            raise invalid(path, "a state dict of tensors", type(content[part]).__name__, index=part)
    return {part: dict(content[part]) for part in parts}


def _reason(error: Exception) -> str:
    """One line of torch's message, without its advice to load unsafely."""
    found = re.search(r"(?:WeightsUnpickler error:|Trying to load)\s+([^\n]+)", str(error))
    text = found[1] if found else str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text}".rstrip(": ")[:200]


def _is_state(value: Any) -> bool:
    """Whether it maps names to tensors."""
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(item, Tensor) for name, item in value.items()
    )


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Loads a state dict in which every tensor must have its place, its shape and finite values.

    A frozen normalization would swallow a batch normalization's `num_batches_tracked` without a word; here it counts
    as unknown.
    """
    wanted = module.state_dict()
    if missing := wanted.keys() - state.keys():
        raise invalid(where, f"{len(wanted)} tensors", f"{len(missing)} missing, first {min(missing)}")
    if unknown := state.keys() - wanted.keys():
        raise invalid(where, f"{len(wanted)} tensors", f"{len(unknown)} unknown, first {min(unknown)}")
    for name, value in state.items():
        if value.is_nested or value.is_meta or value.layout != torch.strided or value.dtype not in DTYPES:
            found = f"{value.dtype}, {value.layout}, on {value.device}"
            raise invalid(where, "a plain tensor of floating-point numbers", found, index=name)
        if value.shape != wanted[name].shape:
            raise invalid(where, f"shape {tuple(wanted[name].shape)}", tuple(value.shape), index=name)
        if not torch.isfinite(value.to(wanted[name].dtype)).all():  # a float64 may be too large for its place
            raise invalid(where, "finite values", "NaN or infinity", index=name)
    module.load_state_dict(state)
