"""Stage `rpn` (tasks 1, 3, 4, 6, 7): part (a)'s region proposal network, trained from scratch."""

from __future__ import annotations

import dataclasses

import torch

from src.core import paths
from src.core.errors import invalid
from src.core.files import read_json
from src.core.params import Params
from src.core.runtime import derive_seed, make_fabric
from src.core.stage import run
from src.core.tensors import cpu_state_dict, save_tensors
from src.data.batches import Batcher
from src.data.loading import Loader
from src.data.normalize import Normalization
from src.data.prepared import Example, PreparedFile
from src.plain_rpn.anchor_grid import AnchorGrid
from src.plain_rpn.detector import PlainRpn
from src.plain_rpn.network import PlainRpnNetwork
from src.training.checkpoint import Checkpoint
from src.training.loop import Schedule, Training, fit

TESTED = 40  # test images whose losses are measured after each epoch


def main(params: Params) -> None:
    """Trains from a seeded start; writes weights and histories."""
    fabric, options = make_fabric(params.runtime), params.rpn
    sizes = read_json(paths.ANCHORS)["anchors"]
    with PreparedFile(paths.PREPARED) as prepared:
        letterbox, train, test = prepared.letterbox, prepared.indices("train"), prepared.indices("test")
    if not train:
        raise invalid(paths.PREPARED, "training images", "none")
    torch.manual_seed(derive_seed(options.seed))
    network = PlainRpnNetwork(len(sizes)).to(memory_format=torch.channels_last).to(fabric.device)
    model = PlainRpn(network, AnchorGrid.from_params(sizes, letterbox, options), options)

    loader = Loader(paths.PREPARED, train, options.batch_size, options.seed, options.flip, masks=False)
    tested = Loader(paths.PREPARED, test[:TESTED], 1, options.seed, flip=False, masks=False, shuffle=False)
    training = Training[list[Example]](
        train=loader.batches,
        test=lambda: tested.batches(0),
        arguments=Batcher(Normalization.from_params(params.prepare), letterbox.region, fabric.device),
        weights=dataclasses.asdict(options.loss_weights),
        names=lambda batch: [example.name for example in batch],
    )
    checkpoint = Checkpoint("rpn")
    schedule = Schedule.from_params("rpn", options, len(loader))
    fit(fabric, model, schedule, training, histories=paths.plots("rpn"), checkpoint=checkpoint)
    save_tensors(paths.PLAIN_RPN, {"network": cpu_state_dict(network), "anchors": sizes})
    checkpoint.clear()


if __name__ == "__main__":
    run("rpn", main)
