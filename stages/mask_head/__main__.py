"""Stage `mask_head` (task 16): the mask branch, trained jointly with the box head on cached RoI features."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from src.core.files import write_json
from src.core.params import Params
from src.core.runtime import derive_seed, environment_info, make_fabric
from src.core.stage import run
from src.detector.checkpoints import BOX_HEAD, HEADS, cpu_state_dict, load_box_head
from src.detector.mask_head import MaskHead
from src.training.checkpoint import Checkpoint, save_tensors
from src.training.heads import FEATURES, PREPARED, HeadBatch, Heads, joint_losses, loaders
from src.training.loop import Data, Schedule, train


def work(params: Params) -> None:
    """Goes on from the trained box head with all three losses."""
    fabric, options = make_fabric(params.runtime), params.mask_head
    torch.manual_seed(derive_seed(options.seed))
    heads = Heads(load_box_head(params, fabric.device, BOX_HEAD), MaskHead(channels=options.channels))
    heads = heads.to(fabric.device)
    heads.mask_head.to(memory_format=torch.channels_last)
    train_views, test_views = loaders(params.box_head, options, options.rois)
    schedule = Schedule(
        "mask head", options.epochs, len(train_views), options.learning_rate, options.weight_decay, options.seed
    )
    data = Data[HeadBatch](
        train=train_views.batches,
        test=lambda: test_views.batches(0),
        losses=lambda batch: joint_losses(heads, batch),
        weights=dataclasses.asdict(options.loss_weights),
        names=lambda batch: batch.names,
    )
    checkpoint = Checkpoint("mask_head", [options, params.box_head, params.runtime], [FEATURES, PREPARED, BOX_HEAD])
    progress = train(fabric, heads, schedule, data, (Path("plots/mask_head"), checkpoint))
    save_tensors(HEADS, {"box_head": cpu_state_dict(heads.box_head), "mask_head": cpu_state_dict(heads.mask_head)})
    facts = {"parameters": sum(one.numel() for one in heads.mask_head.parameters()), **progress.summary()}
    write_json(Path("metrics/mask_head.json"), {**facts, "conditions": environment_info(params.runtime)})
    checkpoint.clear()


if __name__ == "__main__":
    run("mask_head", work)
