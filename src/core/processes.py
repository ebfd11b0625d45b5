"""The processes of one run: how they start, share the work out, and end together.

PyTorch's DistributedDataParallel is the engine and Lightning Fabric its driver. On one machine the first process starts
the others, which run the same command; on several, `torchrun` has started all of them. Only the first one writes and
keeps checkpoints; what goes wrong is said once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from subprocess import Popen
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from src.core.errors import invalid
from src.core.parent_watchdog import STARTED_BY, end_with

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

Item = TypeVar("Item")
Result = TypeVar("Result")

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_FOR_THE_FIRST = 5.0  # that a process leaves to the first one to say what both have found
FIRST = "LABORATORY_FIRST_PROCESS"  # the variable with the number of the process that started the others
CHANCE = (
    "LOCAL_RANK",
    "RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "WORLD_SIZE",
    "STANDALONE_PORT",
)

_followers: list[Popen[bytes]] = []  # that this process has started


@dataclass(frozen=True)
class Share:
    """Which items of a minibatch one of several processes learns from: every `of`-th from `rank` on.

    Where a minibatch has fewer items than there are processes, the others compute along on its first one, for nothing:
    it is their spare.
    """

    rank: int = 0
    of: int = 1

    def take(self, items: Sequence[Item]) -> tuple[Sequence[Item], bool]:
        """This process's items, and whether they are only a spare."""
        mine = items[self.rank :: self.of]
        return (mine, False) if len(mine) else (items[:1], True)


WHOLE = Share()


def started_by_torchrun() -> bool:
    """Whether `torchrun` has started this process, and says how many there are."""
    return "TORCHELASTIC_RUN_ID" in os.environ and "LOCAL_WORLD_SIZE" in os.environ


def process_count(devices: int, nodes: int, most: int | None) -> tuple[int, int]:
    """How many processes a machine has in this run, and how many machines there are.

    Args:
        devices: of a machine, that may be used.
        nodes: what `runtime.nodes` says.
        most: processes that have something to do; None where only one may run.

    Raises:
        InputError: several machines, and `torchrun` has not started this process on as many, or only one process may
            run.
    """
    if started_by_torchrun():
        on_each = int(os.environ["LOCAL_WORLD_SIZE"])
        machines = int(os.environ["WORLD_SIZE"]) // on_each
        if machines != nodes:
            raise invalid("params.yaml", f"{machines} for 'runtime.nodes', as torchrun has it", nodes)
        if most is None and on_each * machines > 1:
            raise invalid("torchrun", "one process for this stage", on_each * machines)
        return on_each, machines
    if most is None:
        return 1, 1
    if nodes > 1:
        raise invalid("params.yaml", "1 for 'runtime.nodes', or a start by torchrun (docs/scale.md)", nodes)
    return max(1, min(devices, most)), 1


def is_follower() -> bool:
    """Whether this is one of several processes, and not the first one."""
    if started_by_torchrun():
        return int(os.environ["RANK"]) > 0
    number = str(os.getpid())
    return os.environ.get(FIRST, number) != number


def follow() -> None:
    """In what the first process has started: ends with it, and leaves a Ctrl-C, which all of them hear, to it."""
    if started_by_torchrun() or not is_follower():
        return
    if os.getppid() != int(os.environ[FIRST]):  # it ended before this one could look
        os._exit(1)
    end_with(STARTED_BY)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def make_strategy() -> DDPStrategy:
    """DDP among the processes that `torchrun` or this process starts.

    Whatever else has set the variables that Lightning reads, such as a batch scheduler, is not asked. Parameters may go
    unused in a step: a mask head where no RoI is an object, a level of the pyramid without a sample.
    """
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment  # noqa: PLC0415
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment  # noqa: PLC0415
    from lightning_fabric.strategies.ddp import DDPStrategy  # noqa: PLC0415

    if not started_by_torchrun() and not is_follower():
        for name in CHANCE:
            os.environ.pop(name, None)
        os.environ[FIRST] = str(os.getpid())
    return DDPStrategy(
        cluster_environment=TorchElasticEnvironment() if started_by_torchrun() else LightningEnvironment(),
        find_unused_parameters=True,
        gradient_as_bucket_view=True,
        broadcast_buffers=False,
    )


def launch(fabric: Fabric) -> None:
    """Starts the other processes of this machine, and has all of them end when one fails."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    for harmless in ("`broadcast_buffers` is deprecated", "Grad strides do not match bucket view strides"):
        warnings.filterwarnings("ignore", message=harmless)
    fabric.launch()
    if not started_by_torchrun() and not is_follower():
        started = fabric.strategy.launcher.procs  # type: ignore[union-attr]
        _followers.extend(started)
        started.clear()  # Lightning's own observer would kill this process without a word
        threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    """Ends this process, and the others, soon after one of them has failed; one that was killed has said nothing."""
    while not any(codes := [follower.poll() for follower in _followers]):
        if None not in codes:  # all have done their part
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)
    for rank, code in enumerate(codes if _followers else (), start=1):
        if code and code < 0:
            message = f"process {rank + 1} of {len(codes) + 1} was killed (signal {-code}); all others end"
            print(message, file=sys.stderr, flush=True)  # noqa: T201
    _end_followers()
    os._exit(1)


def _end_followers() -> None:
    """Kills what this process has started: a process that waits for another one hears no other signal."""
    ours, _followers[:] = list(_followers), []  # `_watch` has nothing to say of those
    for follower in ours:
        follower.kill()


def are_several() -> bool:
    """Whether this process works together with others."""
    from torch import distributed  # noqa: PLC0415

    return distributed.is_available() and distributed.is_initialized()


def end(status: int, message: str) -> NoReturn:
    """Ends this process and those that it started, with one line.

    A follower leaves the first process some time to fail likewise, which ends it in silence: most mistakes all of them
    find. Among several, nothing is cleaned up on the way out: nccl would wait for processes that do not come.
    """
    if is_follower():
        time.sleep(SECONDS_FOR_THE_FIRST)
    _end_followers()
    if are_several():
        print(message, file=sys.stderr, flush=True)  # noqa: T201
        os._exit(status)
    if status == 1:
        sys.exit(message)
    print(message, file=sys.stderr)  # noqa: T201
    sys.exit(status)


def end_of_several() -> NoReturn:
    """Ends a process among several whose work has raised an error, with a traceback where the error is its own.

    Most likely it has lost another process, and the first one, once it looks, ends all of them.
    """
    time.sleep(SECONDS_FOR_THE_FIRST if is_follower() else 2 * SECONDS_BETWEEN_LOOKS)
    traceback.print_exc()
    _end_followers()
    os._exit(1)


def share_out(fabric: Fabric, items: Sequence[Item]) -> Sequence[Item]:
    """This process's items, dealt out in turns."""
    return items[fabric.global_rank :: fabric.world_size]


def gather(fabric: Fabric, results: Iterable[Result], count: int) -> Iterator[Result]:
    """The results of all processes, in the order of the items that `share_out` dealt, one of each process at a time.

    Args:
        fabric: its processes; every one of them calls this.
        results: of this process's items, computed as they are taken.
        count: of all items.

    Returns:
        All results, in the first process. The others have computed and sent theirs when they come back, and get none.
    """
    if fabric.world_size == 1:
        return iter(results)
    from torch import distributed  # noqa: PLC0415

    mine = iter(results)

    def take() -> Iterator[Result]:
        for first in range(0, count, fabric.world_size):
            found: list[Any] = [None] * fabric.world_size
            distributed.gather_object(next(mine), found)
            yield from found[: count - first]

    if fabric.is_global_zero:
        return take()
    for _ in range(0, count, fabric.world_size):
        distributed.gather_object(next(mine, None))
    return iter(())


def leave_to_first(fabric: Fabric) -> None:
    """Ends every process but the first one, which does alone what follows."""
    if not fabric.is_global_zero:
        sys.exit()
