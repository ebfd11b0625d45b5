"""Stage `joint` (tasks 11 and 16): every part of the detector trained on, end to end or in turns.

It takes each part as the stages before left it, proposes anew in every step, and writes the detector that `detect`,
`predict` and whoever loads the model read. With `joint.scheme: none` the parts are put together as they are.
"""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("joint: stages run from the project's root as: python -m stages.joint")

import dataclasses
from collections.abc import Mapping, Sequence

from src.core import paths
from src.core.params import Params
from src.core.processes import leave_to_first
from src.core.runtime import make_fabric
from src.core.stage import run
from src.data.augmentation import Augmentation
from src.data.prepared import read_classes
from src.detector.backbones import NORMALIZATIONS
from src.detector.checkpoints import assemble_trained_parts, save_detector
from src.detector.kept_maps import keep_frozen_maps
from src.training.checkpoint import Checkpoint
from src.training.gradients import GradientProbe
from src.training.history import Row, open_histories
from src.training.loop import fit
from src.training.pictures import from_pictures
from src.training.schedule import Schedule
from src.training.schemes import BODY, phases

PLOTS = paths.plots("joint")
TESTED = 32  # test images whose losses are measured after each epoch


def main(params: Params) -> None:
    """Trains phase after phase; writes weights and histories."""
    options = params.joint
    fabric = make_fabric(params.runtime, share=options.batch_size if phases(options) else 1)
    classes = read_classes(paths.PREPARED)
    model = assemble_trained_parts(params, classes, fabric.device)
    normalization, augmentation = NORMALIZATIONS[params.backbone.name], Augmentation.from_params(params.augment)
    keep_frozen_maps(model.backbone, options, augmentation, fabric)
    training = dataclasses.replace(
        from_pictures(options, normalization, fabric, tested=TESTED, augmentation=augmentation),
        gradients=GradientProbe(list(model.backbone.parameters()), options.gradient_interval),
        measure_start=True,
    )
    schedule = dataclasses.replace(
        Schedule.from_params("joint", options, training.steps),
        slower={BODY: options.backbone_rate_factor},
        keep_best=options.keep == "best",
        patience=options.patience,
    )
    checkpoint = Checkpoint("joint", fabric)
    rows: Mapping[str, Sequence[Row]] | None = None
    for history in open_histories(PLOTS, training.histories, {}).values() if fabric.is_global_zero else ():
        history.close()  # empty, where nothing is trained
    for number, phase in enumerate(phases(options)):
        phase.prepare(model, options)
        rows = fit(
            fabric,
            model,
            dataclasses.replace(schedule, name=f"joint: {phase.name}", first_epoch=number * options.epochs),
            dataclasses.replace(training, weights=phase.weights(options)),
            histories=PLOTS,
            checkpoint=checkpoint.phase(number),
            after=rows,
        ).rows()
    leave_to_first(fabric)
    save_detector(model, classes)
    checkpoint.clear()


if __name__ == "__main__":
    run("joint", main)
