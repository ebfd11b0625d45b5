"""Stage `backbone` (tasks 8 and 10): pretrained backbone and FPN with an RPN, fine-tuned on the data set."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from src.core.files import write_json, write_text
from src.core.params import Params
from src.core.runtime import derive_seed, environment_info, make_fabric
from src.core.stage import run
from src.data.loading import Loader
from src.data.prepared import Example, PreparedFile
from src.data.selection import two_object_row
from src.detector.backbones import NORMALIZATIONS, STRIDES, set_trainable_layers
from src.detector.checkpoints import BACKBONE, cpu_state_dict
from src.detector.criteria import Learner, losses
from src.detector.fpn import LEVELS
from src.detector.rpn import Proposals
from src.detector.weights import build
from src.evaluation.proposal_metrics import PartB, ProposalQuality, proposal_quality
from src.figures.proposals import plot_before_after, plot_proposals
from src.training.checkpoint import Checkpoint, save_tensors
from src.training.loop import Data, Schedule, train

PREPARED = Path("data/prepared.h5")
PLOTS = Path("plots/backbone")
COMPARED = 32  # test images on which recall is measured before and after


def work(params: Params) -> None:
    """Loads the weights, measures, fine-tunes, measures again."""
    fabric = make_fabric(params.runtime)
    torch.manual_seed(derive_seed(params.backbone.seed))
    backbone, rpn = build(params.backbone, params.proposals)
    set_trainable_layers(backbone.body, params.backbone.trainable_layers)
    learner = Learner(backbone, rpn)
    learner = learner.to(memory_format=torch.channels_last).to(fabric.device)
    with PreparedFile(PREPARED) as prepared:
        content, shown = prepared.letterbox.content, prepared.example(two_object_row(prepared))
        test = prepared.indices("test")[:COMPARED]
        part = PartB(backbone, rpn, fabric, NORMALIZATIONS[params.backbone.name], content)
        before = proposal_quality(part, prepared.examples(test, masks=False), params.backbone)
        proposals_before = propose(part, shown)

        fit_learner(learner, part, params, (prepared.indices("train"), test))
        after = proposal_quality(part, prepared.examples(test, masks=False), params.backbone)
    facts = {**describe(learner, part, shown, params), **measured(before, after)}
    write_json(Path("metrics/backbone.json"), {**facts, "conditions": environment_info(params.runtime)})
    rows = [f"{k},{_cell(before.recall[k])},{_cell(after.recall[k])}" for k in after.recall]
    write_text(PLOTS / "recall.csv", "\n".join(["proposals,before,after", *rows]) + "\n")
    plot_proposals(shown, propose(part, shown), PLOTS / "proposals.png")
    plot_before_after(shown, proposals_before, propose(part, shown), PLOTS / "before_after.png")


def fit_learner(learner: Learner, part: PartB, params: Params, indices: tuple[list[int], list[int]]) -> None:
    """Trains to the schedule's end, from the last checkpoint if there is one; test losses after each epoch."""
    options, (train_images, test_images) = params.backbone, indices
    loader = Loader(PREPARED, train_images, options.batch_size, options.seed, options.flip, masks=False)
    tested = Loader(PREPARED, test_images, options.batch_size, options.seed, flip=False, masks=False, shuffle=False)
    schedule = Schedule(
        "backbone", options.epochs, len(loader), options.learning_rate, options.weight_decay, options.seed
    )
    data = Data[list[Example]](
        train=loader.batches,
        test=lambda: tested.batches(0),
        losses=lambda batch: losses(learner, batch, part.content, options),
        weights=dataclasses.asdict(options.loss_weights),
        names=lambda batch: [example.name for example in batch],
    )
    sections = [options, params.prepare, params.runtime]
    checkpoint = Checkpoint("backbone", sections, [PREPARED])
    train(part.fabric, learner, schedule, data, (PLOTS, checkpoint))
    save_tensors(BACKBONE, {"backbone": cpu_state_dict(part.backbone), "rpn": cpu_state_dict(part.rpn)})
    checkpoint.clear()


def propose(part: PartB, example: Example) -> Proposals:
    """The proposals on one example."""
    images = part.images([example])
    found = part.propose(images, part.features(images))[0]
    return Proposals(found.boxes.cpu(), found.scores.cpu())


def describe(learner: Learner, part: PartB, shown: Example, params: Params) -> dict[str, Any]:
    """What task 10 asks: outputs of the backbone, proposals, and the two losses in training."""
    images = part.images([shown])
    features = part.features(images)
    torch.manual_seed(derive_seed(params.backbone.seed))
    with torch.no_grad(), part.fabric.autocast():
        terms = losses(learner, [shown], part.content, params.backbone)
    names = zip(LEVELS, features, (*STRIDES, 2 * STRIDES[-1]), params.backbone.anchor_sizes, strict=True)
    return {
        "backbone": params.backbone.name,
        "weights": params.backbone.weights,
        "normalization": dataclasses.asdict(part.normalization),
        "outputs": [
            {"name": name, "shape": list(level.shape), "stride": stride, "anchor_size": size}
            for name, level, stride, size in names
        ],
        "losses_in_train_mode": {name: float(terms[name]) for name in ("objectness", "regression")},
        "proposals_on_example": len(part.propose(images, features)[0].boxes),
        "example": shown.name,
    }


def measured(before: ProposalQuality, after: ProposalQuality) -> dict[str, Any]:
    """Both measurements, and the headline recall."""
    recall = after.recall[max(after.recall, key=int)]
    return {"before": before.as_metrics(), "after": after.as_metrics(), "proposal_recall": recall, "compared": COMPARED}


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


if __name__ == "__main__":
    run("backbone", work)
