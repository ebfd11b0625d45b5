"""Stage `mask_head` (task 16): the mask branch, trained beside the box head on cached RoI features."""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("mask_head: stages run from the project's root as: python -m stages.mask_head")

import dataclasses

import torch

from src.core import paths
from src.core.params import Params
from src.core.processes import leave_to_first
from src.core.runtime import derive_seed, make_fabric
from src.core.stage import run
from src.data.prepared import read_classes
from src.detector.checkpoints import load_box_head, make_mask_head, save_heads
from src.detector.roi_heads import RoiHeads
from src.detector.sampling import RoiRules
from src.training.cached_rois import from_cached_rois
from src.training.checkpoint import Checkpoint
from src.training.loop import fit
from src.training.schedule import Schedule

MASK_WEIGHT = 1.0  # on frozen features the branch shares no layer with another loss: a weight acts by clipping alone


def main(params: Params) -> None:
    """Continues from the trained box head with all three losses; writes weights and histories."""
    options = params.mask_head
    fabric = make_fabric(params.runtime, share=options.batch_size if options.epochs else 1)
    torch.manual_seed(derive_seed(options.seed))
    classes = read_classes(paths.PREPARED)
    box_head = load_box_head(params, classes, fabric.device)
    mask_head = make_mask_head(params, classes).to(fabric.device).to(memory_format=torch.channels_last)
    heads = RoiHeads(box_head, mask_head)
    rules = RoiRules.from_params(params.rois, params.box_head.batch_size_per_image)
    weights = dataclasses.asdict(params.box_head.loss_weights) | {"mask": MASK_WEIGHT}
    training = from_cached_rois(options, rules, weights, fabric, mask_rois=options.batch_size_per_image)
    checkpoint = Checkpoint("mask_head", fabric)
    schedule = Schedule.from_params("mask head", options, training.steps)
    fit(fabric, heads, schedule, training, histories=paths.plots("mask_head"), checkpoint=checkpoint)
    leave_to_first(fabric)
    save_heads(paths.MASK_HEAD, {"box_head": box_head, "mask_head": mask_head}, classes)
    checkpoint.clear()


if __name__ == "__main__":
    run("mask_head", main)
