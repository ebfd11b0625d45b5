"""The machine at hand: devices, precision, threads and seeds."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from src.core.errors import invalid
from src.core.neighbors import runs_at_once
from src.core.nnpack import has_nnpack
from src.core.params import RuntimeParams
from src.core.processes import launch, make_strategy, process_count

if TYPE_CHECKING:
    from lightning_fabric import Fabric

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
MOST_KEPT = 2**31 - 1  # bytes free at the heap's end


def device_type() -> str:
    """`cuda`, else Apple's `mps`, else `cpu`: the best that PyTorch sees."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def has_fast_bf16() -> bool:
    """Whether the GPU, or else the processor (AVX512-BF16 or AMX), multiplies bf16 in hardware; `mps` is untried."""
    kind = device_type()
    if kind != "cpu":
        return kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def precision_name(runtime: RuntimeParams) -> str:
    """`bf16` or `float32`: what `runtime.precision` comes to on this machine."""
    if runtime.precision != "auto":
        return runtime.precision
    return "bf16" if has_fast_bf16() else "float32"


def make_fabric(runtime: RuntimeParams, share: int | None = None) -> Fabric:
    """The devices at the chosen precision, on the chosen number of threads; further processes are started here.

    Args:
        runtime: what params say.
        share: work that can be shared out, e.g. the images of a minibatch: no more processes are started than have a
            part of it. None: one process does it.

    Raises:
        InputError: there are fewer devices than asked for, or several machines without `torchrun`.
    """
    # Fabric imports torch's compiler: seconds that the stages without a network need not wait for.
    from lightning_fabric import Fabric  # noqa: PLC0415

    keep_freed_memory()
    torch.backends.cudnn.benchmark = False
    kind = device_type()
    devices, nodes = process_count(device_count(runtime, kind), runtime.nodes, share)
    if kind == "cuda" and devices > torch.cuda.device_count():
        raise invalid("torchrun", f"at most {torch.cuda.device_count()} processes a machine, one a GPU", devices)
    precision = "bf16-mixed" if precision_name(runtime) == "bf16" else "32-true"
    if devices * nodes == 1:
        torch.set_num_threads(thread_count(runtime))
        return Fabric(accelerator=kind, devices=1, precision=precision)  # type: ignore[arg-type]
    fabric = Fabric(accelerator=kind, devices=devices, num_nodes=nodes, strategy=make_strategy(), precision=precision)  # type: ignore[arg-type]
    launch(fabric)
    torch.set_num_threads(max(1, thread_count(runtime) // devices))  # after the launcher, which sets its own
    return fabric


def device_count(runtime: RuntimeParams, kind: str) -> int:
    """How many devices of a machine `runtime.devices` comes to; on processors as many processes.

    Raises:
        InputError: there are fewer.
    """
    there = {"cuda": torch.cuda.device_count(), "mps": 1}.get(kind)
    if runtime.devices == "auto":
        return there or 1
    if there is not None and int(runtime.devices) > there:
        raise invalid(
            "params.yaml", f"auto or at most {there} for 'runtime.devices', as many as there are", runtime.devices
        )
    return int(runtime.devices)


def thread_count(runtime: RuntimeParams) -> int:
    """Processor threads of all processes of this run on this machine; runs of DVC's queue at one time share them."""
    return runtime.threads or max(1, available_cores() // runs_at_once())


def keep_freed_memory() -> None:
    """Has the C library keep freed memory for the tensors to come; only GNU's has that choice.

    By itself it asks the system for each tensor from 32 MiB on, such as a P2 map of two images, and gives it back after
    use: the system then clears every page of it anew, once a step (mallopt(3)).
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, MOST_KEPT)


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment_info(runtime: RuntimeParams) -> dict[str, str | int]:
    """What a number was measured on, for reports: device, precision, whose convolutions, threads, versions."""
    kind, precision = device_type(), precision_name(runtime)
    return {
        "device": torch.cuda.get_device_name() if kind == "cuda" else f"{kind.upper()} ({platform.machine()})",
        "precision": precision,
        "convolutions": "NNPACK" if (kind, precision) == ("cpu", "float32") and has_nnpack() else "PyTorch",
        "threads": thread_count(runtime),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def cache_dir() -> Path:
    """The untracked folder `.cache` of the main workspace, also from DVC's temporary copies of it."""
    return Path(os.environ.get("DVC_ROOT", ".")) / ".cache"


def generator(seed: int, *stream: int) -> torch.Generator:
    """A generator of its own for each purpose: the same `seed` and `stream` numbers give the same draws.

    Streams keep draws independent of order, worker count and resuming: e.g. `generator(seed, epoch, image)`.
    """
    return torch.Generator().manual_seed(derive_seed(seed, *stream))


def derive_seed(seed: int, *stream: int) -> int:
    """The number behind `generator`: a hash of `seed` and `stream` in [0, 2^63)."""
    state = seed
    for number in stream:
        state = (state * 6_364_136_223_846_793_005 + number + 1_442_695_040_888_963_407) % 2**63
    return state
