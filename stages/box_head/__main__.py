"""Stage `box_head` (task 14): classifier and regressor, trained on cached RoI features."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from src.core.files import write_json
from src.core.params import Params
from src.core.runtime import derive_seed, environment_info, make_fabric
from src.core.stage import run
from src.detector.box_head import BoxHead
from src.detector.checkpoints import BOX_HEAD, cpu_state_dict
from src.training.checkpoint import Checkpoint, save_tensors
from src.training.heads import FEATURES, PREPARED, HeadBatch, box_losses, loaders
from src.training.loop import Data, Schedule, train


def work(params: Params) -> None:
    """Trains from a seeded start; writes weights, history and how many RoIs were seen."""
    fabric, options = make_fabric(params.runtime), params.box_head
    torch.manual_seed(derive_seed(options.seed))
    head = BoxHead(hidden=options.hidden, dropout=options.dropout).to(fabric.device)
    train_views, test_views = loaders(params.box_head, params.box_head, mask_rois=0)
    schedule = Schedule(
        "box head", options.epochs, len(train_views), options.learning_rate, options.weight_decay, options.seed
    )
    data = Data[HeadBatch](
        train=train_views.batches,
        test=lambda: test_views.batches(0),
        losses=lambda batch: box_losses(head, batch),
        weights=dataclasses.asdict(options.loss_weights),
        names=lambda batch: batch.names,
    )
    checkpoint = Checkpoint("box_head", [options, params.runtime], [FEATURES, PREPARED])
    progress = train(fabric, head, schedule, data, (Path("plots/box_head"), checkpoint))
    save_tensors(BOX_HEAD, {"box_head": cpu_state_dict(head)})
    facts = {"parameters": sum(one.numel() for one in head.parameters()), **progress.summary()}
    write_json(Path("metrics/box_head.json"), {**facts, "conditions": environment_info(params.runtime)})
    checkpoint.clear()


if __name__ == "__main__":
    run("box_head", work)
