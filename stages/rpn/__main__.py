"""Stage `rpn` (tasks 1, 3, 4, 6, 7): part (a)'s region proposal network, trained from scratch."""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("rpn: stages run from the project's root as: python -m stages.rpn")

import torch

from src.core import paths
from src.core.files import read_json
from src.core.params import Params
from src.core.processes import leave_to_first
from src.core.runtime import derive_seed, make_fabric
from src.core.stage import run
from src.core.tensors import cpu_state_dict, save_tensors
from src.data.normalize import Normalization
from src.data.prepared import PreparedFile
from src.plain_rpn.anchor_grid import AnchorGrid
from src.plain_rpn.detector import PlainRpn
from src.plain_rpn.network import PlainRpnNetwork
from src.training.checkpoint import Checkpoint
from src.training.loop import fit
from src.training.pictures import from_pictures
from src.training.schedule import Schedule

TESTED = 40  # test images whose losses are measured after each epoch


def main(params: Params) -> None:
    """Trains from a seeded start; writes weights and histories."""
    options = params.rpn
    fabric = make_fabric(params.runtime, share=options.batch_size if options.epochs else 1)
    sizes = read_json(paths.ANCHORS)["anchors"]
    with PreparedFile(paths.PREPARED) as prepared:
        frame = prepared.frame
    torch.manual_seed(derive_seed(options.seed))
    network = PlainRpnNetwork(len(sizes)).to(memory_format=torch.channels_last).to(fabric.device)
    model = PlainRpn(network, AnchorGrid.from_params(sizes, frame, options), options)

    normalization = Normalization.from_params(params.prepare)
    training = from_pictures(options, normalization, fabric, tested=TESTED, test_batch_size=1, masks=False)
    checkpoint = Checkpoint("rpn", fabric)
    schedule = Schedule.from_params("rpn", options, training.steps)
    fit(fabric, model, schedule, training, histories=paths.plots("rpn"), checkpoint=checkpoint)
    leave_to_first(fabric)
    save_tensors(paths.PLAIN_RPN, {"network": cpu_state_dict(network), "anchors": sizes})
    checkpoint.clear()


if __name__ == "__main__":
    run("rpn", main)
