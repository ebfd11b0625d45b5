"""Stage `rpn` (tasks 1, 3 to 7): part (a)'s region proposal network, trained from scratch, tested, drawn."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from src.core.errors import invalid
from src.core.files import atomic_write, read_json, write_json
from src.core.params import Params
from src.core.runtime import derive_seed, environment_info, make_fabric
from src.core.stage import run
from src.data.loading import Loader
from src.data.normalize import Normalization
from src.data.prepared import Example, PreparedFile
from src.evaluation.plain_rpn import evaluate, make_proposals, metrics
from src.figures.plain_rpn import GradientView, plot_ground_truth, plot_proposals, plot_receptive_field
from src.plain_rpn.anchor_grid import TEST_IMAGES, AnchorGrid, PartA, schedule, test_batches, test_losses
from src.plain_rpn.network import PlainRpnNetwork
from src.plain_rpn.receptive_field import (
    freeze_batch_stats,
    input_gradient,
    layers,
    measured_receptive_field,
    receptive_field,
)
from src.training.checkpoint import Checkpoint, save_tensors
from src.training.history import History
from src.training.loop import Task, fit, start

PREPARED = Path("data/prepared.h5")
ANCHORS = Path("data/anchors.json")
PLOTS = Path("plots/rpn")


def work(params: Params) -> None:
    """Trains, then evaluates once on all test images."""
    fabric = make_fabric(params.runtime)
    sizes = read_json(ANCHORS)["anchors"]
    with PreparedFile(PREPARED) as prepared:
        letterbox, train, test = prepared.letterbox, prepared.indices("train"), prepared.indices("test")
    if not train:
        raise invalid(PREPARED, "training images", "none")
    part = build(params, fabric, AnchorGrid.of(sizes, letterbox, params.rpn), len(sizes))
    checkpoint = Checkpoint("rpn", [params.rpn, params.prepare, params.runtime], [PREPARED, ANCHORS])
    learn(part, params, (train, test), checkpoint)

    weights = {name: value.cpu().contiguous() for name, value in part.network.state_dict().items()}
    save_tensors(Path("models/rpn.pt"), {"network": weights, "anchors": sizes})
    report(part, params, test)
    checkpoint.clear()


def build(params: Params, fabric: Fabric, grid: AnchorGrid, anchors: int) -> PartA:
    """The network at its seeded start, channels last, on the device."""
    torch.manual_seed(derive_seed(params.rpn.seed))
    network = PlainRpnNetwork(anchors).to(memory_format=torch.channels_last).to(fabric.device)
    return PartA(network, fabric, grid, Normalization.of(params.prepare))


def learn(part: PartA, params: Params, indices: tuple[list[int], list[int]], checkpoint: Checkpoint) -> None:
    """Trains to the schedule's end; losses of up to 40 test images are measured after each epoch."""
    rpn, (train, test) = params.rpn, indices
    loader = Loader(PREPARED, train, rpn.batch_size, rpn.seed, rpn.flip, masks=False)
    plan = schedule(rpn, len(train))
    progress = start(part.network, plan, History(PLOTS / "train.csv"), History(PLOTS / "test.csv"))

    def after_epoch(_: int, iteration: int) -> None:
        losses = test_losses(part, test_batches(PREPARED, test[:TEST_IMAGES]), rpn)
        progress.test_history.append({"iteration": iteration, **losses})

    task = Task[list[Example]](
        batches=loader.batches,
        losses=lambda batch: part.losses(batch, rpn.samples, torch.default_generator),
        weights=dataclasses.asdict(rpn.loss_weights),
        names=lambda batch: [example.name for example in batch],
        after_epoch=after_epoch,
    )
    fit(part.fabric, plan, task, progress, checkpoint)
    progress.history.close()
    progress.test_history.close()


def report(part: PartA, params: Params, test: list[int]) -> None:
    """Writes the metrics, the recall curve and the three figures."""
    frame_size = part.grid.rows * 16, part.grid.columns * 16
    side = receptive_field(part.network)
    result = metrics(evaluate(part, test_batches(PREPARED, test)), side)
    table = [dataclasses.asdict(layer) for layer in layers(part.network, *frame_size)]
    facts: dict[str, Any] = {
        "layers": [{"layer": row.pop("name"), **row} for row in table],
        "parameters": sum(parameter.numel() for parameter in part.network.parameters()),
        "receptive_field": side,
        "receptive_field_measured": max(measured_receptive_field(part.network)),
        **result,
        "conditions": {**environment_info(params.runtime), "test_images": len(test)},
    }
    write_json(Path("metrics/rpn.json"), facts)
    with atomic_write(PLOTS / "recall.csv") as path:
        rows = [f"{count},{'' if value is None else f'{value:.6g}'}" for count, value in result["recall"].items()]
        path.write_text("\n".join(["proposals,recall", *rows]) + "\n", encoding="utf-8")
    draw(part, params, test, side)


@torch.no_grad()
def draw(part: PartA, params: Params, test: list[int], side: int) -> None:
    """Draws the report's fixed test images."""
    with PreparedFile(PREPARED) as prepared:
        shown = [i for i in test if len(prepared.labels(i))][: params.report.images] or test[:1]
        examples = [prepared.example(i, masks=False) for i in shown]
    part.network.eval()
    outputs = [part([example]) for example in examples]
    proposals = [make_proposals(logits[0], deltas[0], part.grid) for logits, deltas in outputs]
    plot_ground_truth(examples, part.grid, PLOTS / "ground_truth.png")
    plot_proposals(examples, proposals, PLOTS / "proposals.png")
    if examples:
        plot_receptive_field(gradient_view(part, examples[0], side), PLOTS / "receptive_field.png")


@torch.enable_grad()
def gradient_view(part: PartA, example: Example, side: int) -> GradientView:
    """The gradient of the neuron nearest to the middle of the largest object, as far as its field fits the canvas."""
    boxes, (rows, columns) = example.annotated().boxes, (part.grid.rows, part.grid.columns)
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    x1, y1, x2, y2 = boxes[int(sizes.argmax())].tolist() if len(boxes) else (0, 0, columns * 16, rows * 16)
    cell = _within(int((y1 + y2) / 32), rows, side), _within(int((x1 + x2) / 32), columns, side)
    pixels = part.pixels([example])
    gradient = input_gradient(freeze_batch_stats(part.network, pixels), pixels, cell).cpu()
    return GradientView(example, part.grid.at(*cell), side, gradient)


def _within(cell: int, cells: int, side: int) -> int:
    """The cell moved so far inwards that half the field fits on either side, where the canvas is large enough."""
    margin = min(side // 32 + 1, (cells - 1) // 2)
    return min(max(cell, margin), cells - 1 - margin)


if __name__ == "__main__":
    run("rpn", work)
