"""Stage `joint` (tasks 11 and 16): every part of the detector trained on, end to end or in turns.

It takes each part as the stages before left it, proposes anew in every step, and writes the detector that `detect`,
`predict` and whoever loads the model read. With `joint.scheme: none` the parts are put together as they are.
"""

from __future__ import annotations

import dataclasses

from src.core import paths
from src.core.params import Params
from src.core.runtime import make_fabric
from src.core.stage import run
from src.data.batches import Batcher
from src.data.loading import Loader
from src.data.prepared import Example, PreparedFile
from src.detector.backbones import NORMALIZATIONS
from src.detector.checkpoints import assemble_trained_parts, save_detector
from src.training.checkpoint import Checkpoint
from src.training.gradients import GradientProbe
from src.training.history import open_histories
from src.training.loop import Progress, Schedule, Training, fit
from src.training.schemes import BODY, phases

PLOTS = paths.plots("joint")
TESTED = 32  # test images whose losses are measured after each epoch


def main(params: Params) -> None:
    """Trains phase after phase; writes weights and histories."""
    fabric, options = make_fabric(params.runtime), params.joint
    model = assemble_trained_parts(params, fabric.device)
    with PreparedFile(paths.PREPARED) as prepared:
        region, train, test = prepared.letterbox.region, prepared.indices("train"), prepared.indices("test")[:TESTED]
    loader = Loader(paths.PREPARED, train, options.batch_size, options.seed, options.flip)
    tested = Loader(paths.PREPARED, test, options.batch_size, options.seed, flip=False, shuffle=False)
    training = Training[list[Example]](
        train=loader.batches,
        test=lambda: tested.batches(0),
        arguments=Batcher(NORMALIZATIONS[params.backbone.name], region, fabric.device),
        weights=dataclasses.asdict(options.loss_weights),
        names=lambda batch: [example.name for example in batch],
        gradients=GradientProbe(list(model.backbone.parameters()), options.gradient_interval),
        measure_start=True,
    )
    checkpoint = Checkpoint("joint")
    progress: Progress | None = None
    for history in open_histories(PLOTS, ("train", "test", "gradients"), {}).values():
        history.close()  # empty, where nothing is trained
    for number, phase in enumerate(phases(options)):
        phase.prepare(model, options)
        progress = fit(
            fabric,
            model,
            Schedule.from_params(
                f"joint: {phase.name}",
                options,
                len(loader),
                first_epoch=number * options.epochs,
                slower={BODY: options.backbone_rate_factor},
            ),
            dataclasses.replace(training, weights=phase.weights(options)),
            histories=PLOTS,
            checkpoint=checkpoint.phase(number),
            after=progress,
        )
    save_detector(model)
    checkpoint.clear()


if __name__ == "__main__":
    run("joint", main)
