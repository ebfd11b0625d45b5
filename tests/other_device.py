"""A device other than the processor, without one: it finds code that mixes tensors of two devices.

Its tensors say that they are on `DEVICE` and hold their numbers on the processor. As on a GPU, an operator that gets
one of them and a tensor of the processor fails, but for copies, indices and single numbers. `OtherDevice` also notes
where the host would wait for the device: a tensor's number read, its places counted, a copy to the processor.
"""

from __future__ import annotations

import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")  # one that autograd serves from its own thread, and that has no kernels of its own
PROJECT = Path(__file__).resolve().parents[1]
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
UPLOAD = "a copy from the processor"
WAITS = {
    aten._local_scalar_dense.default: "a number",
    aten.nonzero.default: "nonzero",
    aten._unique2.default: "unique",
    aten.masked_select.default: "masked_select",
}


class OnDevice(Tensor):
    """A tensor of the other device; `held` are its numbers."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        one = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=DEVICE
        )
        one.held = held
        return one

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({self.held!r})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{function}: the other device is not there")


class OtherDevice(TorchDispatchMode):
    """The device is there inside of its `with`.

    Attributes:
        waits: how often each line of `src` made the host wait, by `file:line function, what`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self._from_lists = _FromLists(self.waits)

    def __enter__(self) -> OtherDevice:
        self._from_lists.__enter__()
        return super().__enter__()

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        self._from_lists.__exit__(*raised)

    def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        tensors = [one for one in tree_flatten((args, given))[0] if isinstance(one, Tensor)]
        ours = [one for one in tensors if isinstance(one, OnDevice)]
        others = [one for one in tensors if not isinstance(one, OnDevice) and one.ndim]
        if ours and others and function not in COPIES and not (function in INDEXED and _indexes_alone(args)):
            raise RuntimeError(f"{function}: expected all tensors on the same device, found two")
        wanted = given.get("device")
        if wanted is not None and torch.device(wanted).type == DEVICE.type:
            given["device"] = torch.device("cpu")
        self._note(function, ours, args, wanted)
        real = tree_map(lambda one: one.held if isinstance(one, OnDevice) else one, (args, given))
        found = function(*real[0], **real[1])
        stays = torch.device(wanted).type == DEVICE.type if wanted is not None else bool(ours)
        if function is aten.copy_.default:
            stays = isinstance(args[0], OnDevice)
        if not stays:
            return found
        wrapped = tree_map(lambda one: OnDevice(one) if isinstance(one, Tensor) else one, found)
        return return_and_correct_aliasing(function, args, given, wrapped) if ours else wrapped

    def _note(self, function: Any, ours: list[OnDevice], args: Any, wanted: Any) -> None:
        what = WAITS.get(function) if ours else None
        if ours and function in INDEXED and any(i is not None and i.dtype == torch.bool for i in args[1]):
            what = "a mask as index"
        if ours and function is aten._to_copy.default and wanted is not None and torch.device(wanted).type == "cpu":
            what = "a copy to the processor"
        if not ours and function is aten._to_copy.default and wanted is not None and str(wanted) == DEVICE.type:
            what = UPLOAD
        if what:
            _count(self.waits, what)


class _FromLists(TorchFunctionMode):
    """`torch.tensor`, `torch.as_tensor` and `new_tensor` of lists: torch makes those below the other mode."""

    def __init__(self, waits: Counter[str]) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if function is Tensor.new_tensor:
            function, args, given = torch.tensor, args[1:], {"dtype": args[0].dtype, "device": args[0].device, **given}
        wanted = given.get("device")
        listed = function in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor)
        if not listed or wanted is None or torch.device(wanted).type != DEVICE.type:
            return function(*args, **given)
        _count(self.waits, UPLOAD)
        return OnDevice(function(*args, **(given | {"device": "cpu"})))


def _indexes_alone(args: Any) -> bool:
    """Whether only indices are on the processor: what is indexed, and what is put there, are not."""
    values = [args[0], *args[2:3]]
    return all(isinstance(one, OnDevice) or not one.ndim for one in values)


def _count(waits: Counter[str], what: str) -> None:
    """Adds one wait of the innermost line of `src` that runs; none where a test itself waits."""
    frames = [one for one in traceback.extract_stack() if Path(one.filename).is_relative_to(PROJECT / "src")]
    if frames:
        place = Path(frames[-1].filename).relative_to(PROJECT).as_posix()
        waits[f"{place}:{frames[-1].lineno} {frames[-1].name}, {what}"] += 1
