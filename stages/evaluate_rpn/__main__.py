"""Stage `evaluate_rpn` (tasks 1, 3, 5, 7): part (a)'s network on the test images, measured and drawn."""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("evaluate_rpn: stages run from the project's root as: python -m stages.evaluate_rpn")

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from tqdm import tqdm

from src.core import paths
from src.core.files import read_json, write_csv, write_json
from src.core.params import Params
from src.core.runtime import environment_info, make_fabric
from src.core.stage import run
from src.data.batches import Batcher
from src.data.loading import Loader
from src.data.normalize import Normalization
from src.data.prepared import Example, PreparedFile
from src.evaluation.plain_rpn import evaluate, metrics
from src.figures.plain_rpn import GradientView, plot_ground_truth, plot_proposals, plot_receptive_field
from src.plain_rpn.anchor_grid import AnchorGrid
from src.plain_rpn.detector import PlainRpn, load_network
from src.plain_rpn.network import STRIDE
from src.plain_rpn.receptive_field import (
    freeze_batch_stats,
    input_gradient,
    layers,
    measured_receptive_field,
    receptive_field,
)

PLOTS = paths.plots("evaluate_rpn")


def main(params: Params) -> None:
    """Evaluates once on all test images; writes the numbers, the recall curve and the three figures."""
    fabric = make_fabric(params.runtime)
    with PreparedFile(paths.PREPARED) as prepared:
        frame, rows = prepared.frame, prepared.indices(params.evaluate.split)
        shown = [i for i in rows if len(prepared.labels(i))][: params.report.images] or rows[:1]
        examples = [prepared.example(i, masks=False) for i in shown]
    sizes = read_json(paths.ANCHORS)["anchors"]
    network = load_network(paths.PLAIN_RPN, len(sizes)).to(memory_format=torch.channels_last).to(fabric.device)
    model = PlainRpn(network, AnchorGrid.from_params(sizes, frame, params.rpn), params.rpn).eval()
    batcher = Batcher(Normalization.from_params(params.prepare), fabric.device)

    tested = Loader(paths.PREPARED, rows, 1, seed=0, flip=False, masks=False, shuffle=False)
    side = receptive_field(network)
    batches = iter(tqdm(tested.batches(0), desc="evaluate rpn", total=len(rows), unit="image"))
    with torch.no_grad():
        result = metrics(evaluate(model, batcher, fabric, batches), side)
    environment = {**environment_info(params.runtime), "test_images": len(rows)}
    write_json(paths.metrics("rpn"), {**describe(model, side), **result, "conditions": environment})
    write_csv(PLOTS / "recall.csv", ("proposals", "recall"), result["recall"].items())
    draw(model, batcher, fabric, examples, side)


def describe(model: PlainRpn, side: int) -> dict[str, Any]:
    """The network in numbers: its layers, parameters and receptive field."""
    table = [dataclasses.asdict(layer) for layer in layers(model.network, *canvas(model))]
    return {
        "layers": [{"layer": row.pop("name"), **row} for row in table],
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "receptive_field": side,
        "receptive_field_measured": max(measured_receptive_field(model.network)),
    }


def canvas(model: PlainRpn) -> tuple[int, int]:
    """Height and width that the grid covers, pixels."""
    return model.grid.rows * STRIDE, model.grid.columns * STRIDE


def draw(model: PlainRpn, batcher: Batcher, fabric: Fabric, examples: Sequence[Example], side: int) -> None:
    """Draws the report's fixed test images."""
    with torch.no_grad(), fabric.autocast():
        proposals = [model.detect(batcher.images([example]))[0] for example in examples]
    plot_ground_truth(examples, model.grid, PLOTS / "ground_truth.png")
    plot_proposals(examples, proposals, PLOTS / "proposals.png")
    if examples:
        plot_receptive_field(gradient_view(model, batcher, examples[0], side), PLOTS / "receptive_field.png")


def gradient_view(model: PlainRpn, batcher: Batcher, example: Example, side: int) -> GradientView:
    """The gradient of the neuron nearest to the middle of the largest object, as far as its field fits the canvas."""
    boxes, (height, width) = example.target.boxes, canvas(model)
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    x1, y1, x2, y2 = boxes[int(sizes.argmax())].tolist() if len(boxes) else (0, 0, width, height)
    row = _within(int((y1 + y2) / 2 / STRIDE), model.grid.rows, side)
    column = _within(int((x1 + x2) / 2 / STRIDE), model.grid.columns, side)
    pixels = batcher.images([example]).tensors
    gradient = input_gradient(freeze_batch_stats(model.network, pixels), pixels, (row, column))
    return GradientView(example, model.grid.at(row, column), side, gradient)


def _within(cell: int, cells: int, side: int) -> int:
    """The cell moved so far inwards that half the field fits on either side, where the canvas is large enough."""
    margin = min(side // (2 * STRIDE) + 1, (cells - 1) // 2)
    return min(max(cell, margin), cells - 1 - margin)


if __name__ == "__main__":
    run("evaluate_rpn", main)
