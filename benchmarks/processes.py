"""Joint training and its loader on one process and on several: seconds a step, pictures a second, bytes exchanged.

In a workspace in which `dvc repro` has finished. Each setting runs in processes of its own, in turns.

    python -m benchmarks.processes [--rounds 3]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from tqdm import tqdm

from benchmarks.page import measured_on, table
from benchmarks.training_step import step
from src.core import paths
from src.core.files import write_json, write_text
from src.core.params import Params
from src.core.params_file import load_params
from src.core.processes import follow, leave_to_first
from src.core.runtime import environment_info, make_fabric
from src.data.prepared import Example, read_classes
from src.detector.backbones import NORMALIZATIONS
from src.detector.checkpoints import assemble_trained_parts
from src.training.across import LossesOf, of_the_whole
from src.training.loop import Training
from src.training.optimizer import make_optimizer
from src.training.pictures import from_pictures
from src.training.schemes import ALL_PARTS

RESULTS, PAGE = Path("benchmarks/processes.json"), Path("benchmarks/processes.md")
SETTINGS = ((1, 2), (1, 1), (2, 2))  # processes, and threads of all together
STEPS, WARM_UP = 12, 3
PICTURES = 64  # that the loader reads


def main() -> None:
    """Measures all settings in turns and writes the page; or, as a worker, one of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each setting runs; the median counts")
    parser.add_argument("--worker", nargs=3, metavar=("PROCESSES", "THREADS", "FILE"), help="one setting, for itself")
    options = parser.parse_args()
    if options.worker:
        follow()
        processes, threads, file = options.worker
        measure(on(load_params(), int(processes), int(threads)), Path(file))
        return
    params, found = load_params(), dict[tuple[int, int], list[dict[str, float]]]()
    for _ in tqdm(range(options.rounds), desc="processes", unit="round"):
        for setting in SETTINGS:
            found.setdefault(setting, []).append(run(*setting))
    entries = [summary(*setting, rounds) for setting, rounds in found.items()]
    conditions = environment_info(params.runtime) | {"batch_size": params.joint.batch_size, "rounds": options.rounds}
    results = {"settings": entries, "conditions": conditions}
    write_json(RESULTS, results)
    write_page(results)


def on(params: Params, processes: int, threads: int) -> Params:
    """The params with so many processes, and threads of all of them together."""
    runtime = dataclasses.replace(params.runtime, devices=processes, threads=threads)
    return dataclasses.replace(params, runtime=runtime)


def run(processes: int, threads: int) -> dict[str, float]:
    """One setting, in processes of its own."""
    file = Path(".cache/benchmark.json")
    command = [sys.executable, "-m", "benchmarks.processes", "--worker", str(processes), str(threads), str(file)]
    subprocess.run(command, check=True)  # noqa: S603 - this program
    return json.loads(file.read_text(encoding="utf-8"))


def measure(params: Params, file: Path) -> None:
    """Steps of joint training, and the loader alone; the first process writes what the slowest one took."""
    fabric = make_fabric(params.runtime, share=params.joint.batch_size)
    training = from_pictures(params.joint, NORMALIZATIONS[params.backbone.name], fabric, tested=1)
    model = assemble_trained_parts(params, read_classes(paths.PREPARED), fabric.device)
    ALL_PARTS.prepare(model, params.joint)
    losses: nn.Module = fabric.strategy.setup_module(LossesOf(model, training.weights))
    optimizer, _ = make_optimizer(model, learning_rate=1e-6, weight_decay=0.0, slower={}, steps=STEPS)
    seconds = []
    model.train()
    for _, batch in zip(range(STEPS + WARM_UP), training.train(0), strict=False):
        start = time.perf_counter()
        with fabric.autocast():
            terms, counts = losses(training.arguments(batch))
        terms, _ = of_the_whole(fabric, terms, counts, is_spare=training.is_spare(batch))
        step(model, optimizer, terms)
        seconds.append(time.perf_counter() - start)
    learning = sum(one.numel() * one.element_size() for one in model.parameters() if one.requires_grad)
    slowest = largest(fabric, [statistics.median(seconds[WARM_UP:]), loading_seconds(params, training)])
    leave_to_first(fabric)
    found = {"step_seconds": slowest[0], "pictures_a_second": PICTURES / slowest[1], "gradient_bytes": learning}
    write_json(file, found)


def loading_seconds(params: Params, training: Training[list[Example]]) -> float:
    """How long this process takes to read its share of `PICTURES` prepared pictures with masks, and do nothing else."""
    batches = training.train(1)
    start = time.perf_counter()
    for _ in zip(range(PICTURES // params.joint.batch_size), batches, strict=False):
        pass
    return time.perf_counter() - start


def largest(fabric: Fabric, values: Sequence[float]) -> list[float]:
    """The greatest of each value over the processes."""
    return fabric.strategy.all_reduce(torch.tensor(values, device=fabric.device), reduce_op="max").tolist()


def summary(processes: int, threads: int, rounds: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The medians over the rounds."""
    medians = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    return {"processes": processes, "threads": threads, **medians}


def write_page(results: Mapping[str, Any]) -> None:
    """The table, as a person reads it."""
    first = results["settings"][0]["step_seconds"]
    rows = [
        (
            str(entry["processes"]),
            str(entry["threads"]),
            f"{entry['step_seconds']:.2f} s",
            f"{first / entry['step_seconds']:.2f}",
            f"{entry['gradient_bytes'] / 1e6:.0f} MB" if entry["processes"] > 1 else "none",
            f"{entry['pictures_a_second']:.0f}",
        )
        for entry in results["settings"]
    ]
    head = (
        "processes",
        "threads together",
        "a step",
        "times as fast as the first",
        "exchanged",
        "loader, pictures/s",
    )
    conditions = results["conditions"]
    text = (
        "# One process and several\n\nWritten by `python -m benchmarks.processes`; do not edit. Stage `joint`, the "
        "default settings: seconds a step are those of the slowest process, a step is a minibatch of "
        f"{conditions['batch_size']} images, whatever the number of processes. The loader's pictures are those of all "
        "processes together, with masks, read without a network at work.\n\n"
    )
    write_text(PAGE, text + measured_on(conditions) + "\n" + table(head, rows).rstrip() + "\n")


if __name__ == "__main__":
    main()
