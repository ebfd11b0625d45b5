"""What several processes run: `python -m tests.processes.program <work> <devices>`, in a workspace.

The first process starts the others by this same command, as it does with a stage's.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from src.core.errors import InputError
from src.core.params import Params, RuntimeParams
from src.core.processes import gather, is_follower, leave_to_first, share_out
from src.core.runtime import make_fabric
from src.core.stage import run
from src.detector import mask_rcnn, roi_cache
from src.training import loop
from src.training.checkpoint import Checkpoint
from tests.stages.workspace import tiny_params

ITEMS = 7  # of which no number of processes but one has equally many
DRAWS = Path("draws")  # what each process drew
KILL_AT = "KILL_AT"  # the checkpoint after which the first process is killed


def params(devices: int | str) -> Params:
    """Tiny settings, on so many processes of one thread; random heads lose much, and would not learn steadily."""
    whole = tiny_params()
    threads = 1 if devices == 1 else 2
    return dataclasses.replace(
        whole,
        joint=dataclasses.replace(whole.joint, learning_rate=1e-5),
        one_stage=dataclasses.replace(whole.one_stage, learning_rate=1e-5),
        runtime=RuntimeParams("float32", threads, devices, 1),
    )


def stage(name: str) -> Callable[[Params], None]:
    """A stage that writes down what each process draws, and may be killed after a checkpoint."""

    def work(settings: Params) -> None:
        note_draws(setattr)
        if KILL_AT in os.environ:
            loop.SECONDS_BETWEEN_CHECKPOINTS = -1.0
            Checkpoint.save = saved_and_killed(int(os.environ[KILL_AT]))  # type: ignore[method-assign]
        importlib.import_module(f"stages.{name}.__main__").main(settings)

    return work


def note_draws(put: Callable[[Any, str, Any], None]) -> None:
    """Has everything that draws anchors or RoIs write down what; `put` is `setattr`, or a patch's."""
    for module, name in ((mask_rcnn, "sample_anchors"), (mask_rcnn, "sample_rois"), (roi_cache, "sample_rois")):
        put(module, name, noted(getattr(module, name)))


def noted(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Draws, and adds what was drawn to the process's list."""

    def work(*arguments: Any) -> Any:
        drawn = draw(*arguments)
        rank = distributed.get_rank() if distributed.is_initialized() else 0
        with (DRAWS / f"{rank}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps([draw.__name__, drawn.indices.tolist()]) + "\n")
        return drawn

    return work


def saved_and_killed(number: int) -> Callable[[Checkpoint, dict[str, Any]], None]:
    """Saves, and kills the process after the n-th time."""
    save, times = Checkpoint.save, iter(range(1, number + 1))

    def work(self: Checkpoint, state: dict[str, Any]) -> None:
        save(self, state)
        if next(times) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return work


def gathered(settings: Params) -> None:
    """Each process computes some of the items; the first one writes all of them, and where they come from."""
    fabric = make_fabric(settings.runtime, share=ITEMS)

    def squares() -> Iterator[tuple[int, int]]:
        for item in share_out(fabric, range(ITEMS)):
            yield item**2, fabric.global_rank

    found = gather(fabric, squares(), ITEMS)
    leave_to_first(fabric)
    Path("gathered.json").write_text(json.dumps([list(found), torch.get_num_threads()]), encoding="utf-8")


def all_fail(settings: Params) -> None:
    """Every process finds the same mistake."""
    make_fabric(settings.runtime, share=2)
    raise InputError("all: expected luck, found none")


def follower_fails(settings: Params) -> None:
    """One process finds a mistake that the others do not see, and they wait for it."""
    fabric = make_fabric(settings.runtime, share=2)
    if is_follower():
        raise InputError("picture 7: expected a picture, found none")
    fabric.barrier()
    Path("survived").touch()


def follower_is_killed(settings: Params) -> None:
    """One process is killed, as by a system that is out of memory."""
    fabric = make_fabric(settings.runtime, share=2)
    if is_follower():
        os.kill(os.getpid(), signal.SIGKILL)
    fabric.barrier()
    Path("survived").touch()


def first_is_killed(settings: Params) -> None:
    """The first process is killed, while the other is busy for a minute."""
    make_fabric(settings.runtime, share=2).barrier()
    if is_follower():
        time.sleep(60)
        Path("survived").touch()
    os.kill(os.getpid(), signal.SIGKILL)


def interrupted(settings: Params) -> None:
    """Ctrl-C, which a terminal sends to all of them, while they wait for each other again and again."""
    fabric = make_fabric(settings.runtime, share=2)
    fabric.barrier()
    if is_follower():
        os.killpg(os.getpgid(0), signal.SIGINT)
    while True:
        fabric.barrier()


WORK = {
    function.__name__: function
    for function in (gathered, all_fail, follower_fails, follower_is_killed, first_is_killed, interrupted)
}

if __name__ == "__main__":
    chosen, settings = sys.argv[1], params("auto" if sys.argv[2] == "auto" else int(sys.argv[2]))
    DRAWS.mkdir(exist_ok=True)
    run(chosen, lambda _: (WORK.get(chosen) or stage(chosen))(settings))
