"""Stage `one_stage` (task 13): a one-stage detector on the backbone that the two-stage detector has too.

It starts where the heads of the two-stage detector do: from the body and the FPN as stage `backbone` left them, on the
same images. What it reaches stands beside the two-stage detector's numbers in the report.
"""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("one_stage: stages run from the project's root as: python -m stages.one_stage")

import dataclasses

import torch

from src.core import paths
from src.core.params import Params
from src.core.processes import leave_to_first
from src.core.runtime import derive_seed, make_fabric
from src.core.stage import run
from src.data.augmentation import Augmentation
from src.data.prepared import read_classes
from src.detector.backbones import NORMALIZATIONS
from src.detector.checkpoints import save_one_stage, start_one_stage
from src.detector.kept_maps import keep_frozen_maps
from src.training.checkpoint import Checkpoint
from src.training.loop import fit
from src.training.pictures import from_pictures
from src.training.schedule import Schedule
from src.training.schemes import BODY

TESTED = 32  # test images whose losses are measured after each epoch


def main(params: Params) -> None:
    """Trains the head, and of the backbone what params say; writes weights and histories."""
    options = params.one_stage
    fabric = make_fabric(params.runtime, share=options.batch_size if options.epochs else 1)
    torch.manual_seed(derive_seed(options.seed))
    classes = read_classes(paths.PREPARED)
    model = start_one_stage(params, classes, fabric.device)
    normalization, augmentation = NORMALIZATIONS[params.backbone.name], Augmentation.from_params(params.augment)
    keep_frozen_maps(model.backbone, options, augmentation, fabric)
    training = from_pictures(options, normalization, fabric, tested=TESTED, masks=False, augmentation=augmentation)
    schedule = dataclasses.replace(
        Schedule.from_params("one_stage", options, training.steps), slower={BODY: options.backbone_rate_factor}
    )
    checkpoint = Checkpoint("one_stage", fabric)
    fit(fabric, model, schedule, training, histories=paths.plots("one_stage"), checkpoint=checkpoint)
    leave_to_first(fabric)
    save_one_stage(model, classes)
    checkpoint.clear()


if __name__ == "__main__":
    run("one_stage", main)
