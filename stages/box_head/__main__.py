"""Stage `box_head` (task 14): classifier and regressor, trained on cached RoI features."""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("box_head: stages run from the project's root as: python -m stages.box_head")

import dataclasses

import torch

from src.core import paths
from src.core.params import Params
from src.core.processes import leave_to_first
from src.core.runtime import derive_seed, make_fabric
from src.core.stage import run
from src.data.prepared import read_classes
from src.detector.checkpoints import save_heads, start_box_head
from src.detector.roi_heads import RoiHeads
from src.detector.sampling import RoiRules
from src.training.cached_rois import from_cached_rois
from src.training.checkpoint import Checkpoint
from src.training.loop import fit
from src.training.schedule import Schedule


def main(params: Params) -> None:
    """Continues from the box head that fine-tuning trained; writes weights and histories."""
    options = params.box_head
    fabric = make_fabric(params.runtime, share=options.batch_size if options.epochs else 1)
    torch.manual_seed(derive_seed(options.seed))
    classes = read_classes(paths.PREPARED)
    heads = RoiHeads(start_box_head(params, classes, fabric.device))
    rules = RoiRules.from_params(params.rois, options.batch_size_per_image)
    training = from_cached_rois(options, rules, dataclasses.asdict(options.loss_weights), fabric)
    checkpoint = Checkpoint("box_head", fabric)
    schedule = Schedule.from_params("box head", options, training.steps)
    fit(fabric, heads, schedule, training, histories=paths.plots("box_head"), checkpoint=checkpoint)
    leave_to_first(fabric)
    save_heads(paths.BOX_HEAD, {"box_head": heads.box_head}, classes)
    checkpoint.clear()


if __name__ == "__main__":
    run("box_head", main)
