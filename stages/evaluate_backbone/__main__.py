"""Stage `evaluate_backbone` (tasks 8, 10, 12): proposals before and after fine-tuning, and RoIAlign's crops.

RoIAlign is compared with torchvision's and drawn here, not in `features`, so that a figure's color never runs the
backbone over every image again.
"""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("evaluate_backbone: stages run from the project's root as: python -m stages.evaluate_backbone")

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import roi_align
from tqdm import tqdm

from src.core import paths
from src.core.files import write_csv, write_json
from src.core.params import Params
from src.core.runtime import derive_seed, environment_info, make_fabric
from src.core.stage import run
from src.data.batches import Batcher
from src.data.prepared import Example, PreparedFile
from src.data.selection import two_object_row
from src.detector.backbones import NORMALIZATIONS
from src.detector.box_head import SIZE, BoxHead
from src.detector.checkpoints import load_backbone
from src.detector.fpn import LEVELS, STRIDES
from src.detector.kept_maps import keep_maps
from src.detector.mask_rcnn import BackboneWithFpn, MaskRCNN
from src.detector.proposer import Proposer
from src.detector.roi_heads import RoiHeads, pool
from src.detector.rpn import RegionProposalNetwork
from src.detector.weights import build
from src.evaluation.proposal_metrics import ProposalQuality, proposal_quality
from src.figures.crops import plot_crops
from src.figures.proposals import plot_before_after, plot_proposals
from src.ops.anchors import PYRAMID_STRIDES
from src.ops.roi_align import assign_levels
from src.structures.classes import Classes

PLOTS = paths.plots("evaluate_backbone")
COMPARED = 32  # test images on which both are measured


def main(params: Params) -> None:
    """Measures the weights as they were loaded and as fine-tuning left them."""
    fabric, options = make_fabric(params.runtime), params.backbone
    with PreparedFile(paths.PREPARED) as prepared:
        split = params.evaluate.split
        shown, measured_on = prepared.example(two_object_row(prepared, split)), prepared.indices(split)[:COMPARED]
        classes = prepared.classes
        batcher = Batcher(NORMALIZATIONS[options.name], fabric.device)
        before = Proposer(*load_start(params, fabric.device), fabric, batcher)
        after = Proposer(*load_backbone(params, fabric.device), fabric, batcher)
        for one in (before, after):
            keep_maps(one.backbone, fabric, writes=False)
        qualities = []
        for name, one in (("before", before), ("after", after)):
            examples = tqdm(
                prepared.examples(measured_on, masks=False), desc=name, total=len(measured_on), unit="image"
            )
            qualities.append(proposal_quality(one, iter(examples), options))
    proposals_before, proposals_after = (one.propose_on(shown) for one in (before, after))
    facts = {
        **describe(after, shown, classes, params),
        **measured(*qualities),
        "roi_align": check(after, shown, params),
    }
    write_json(paths.metrics("backbone"), {**facts, "conditions": environment_info(params.runtime)})
    before_recall, after_recall = (quality.recall for quality in qualities)
    rows = [(count, before_recall[count], after_recall[count]) for count in after_recall]
    write_csv(PLOTS / "recall.csv", ("proposals", "before", "after"), rows)
    plot_proposals(shown, proposals_after, classes, PLOTS / "proposals.png")
    plot_before_after(shown, proposals_before, proposals_after, PLOTS / "before_after.png")


def load_start(params: Params, device: torch.device) -> tuple[BackboneWithFpn, RegionProposalNetwork]:
    """Backbone and RPN as fine-tuning starts from them."""
    torch.manual_seed(derive_seed(params.backbone.seed))
    backbone, rpn = build(params.backbone, params.proposals)
    backbone, rpn = backbone.to(memory_format=torch.channels_last), rpn.to(memory_format=torch.channels_last)
    return backbone.to(device), rpn.to(device)


def describe(proposer: Proposer, shown: Example, classes: Classes, params: Params) -> dict[str, Any]:
    """What task 10 asks: outputs of the backbone, proposals, and the two losses in training."""
    heads = RoiHeads(BoxHead(classes.count)).to(proposer.fabric.device)  # any: only the RPN's losses are told
    model = MaskRCNN(proposer.backbone, proposer.rpn, heads, params)
    images, targets = proposer.batcher([shown])
    features = proposer.features(images)
    torch.manual_seed(derive_seed(params.backbone.seed))
    with torch.no_grad(), proposer.fabric.autocast():
        terms = model.losses(images, targets)
    names = zip(LEVELS, features, PYRAMID_STRIDES, params.backbone.anchor_sizes, strict=True)
    return {
        "backbone": params.backbone.name,
        "weights": params.backbone.weights,
        "normalization": dataclasses.asdict(proposer.batcher.normalization),
        "outputs": [
            {"name": name, "shape": list(level.shape), "stride": stride, "anchor_size": size}
            for name, level, stride, size in names
        ],
        "losses_in_train_mode": {name: float(terms[name]) for name in ("objectness", "rpn_regression")},
        "proposals_on_example": len(proposer.propose(images, features)[0].boxes),
        "example": shown.name,
    }


def measured(before: ProposalQuality, after: ProposalQuality) -> dict[str, Any]:
    """Both measurements, and the headline recall."""
    recall = after.recall[max(after.recall, key=int)]
    return {"before": before.as_metrics(), "after": after.as_metrics(), "proposal_recall": recall, "compared": COMPARED}


@torch.no_grad()
def check(proposer: Proposer, shown: Example, params: Params) -> dict[str, Any]:
    """Pools one image's proposals in float32 by hand and by torchvision; draws the crops."""
    images = proposer.batcher.images([shown])
    features = proposer.features(images)
    boxes = proposer.propose(images, features)[0].boxes[: params.features.proposals]
    exact = [level.float().contiguous() for level in features[: len(STRIDES)]]
    ours = pool(exact, [boxes], SIZE)
    difference = float((ours - by_torchvision(exact, boxes)).abs().max()) if len(boxes) else 0.0
    plot_crops(shown, boxes.cpu(), ours.cpu(), PLOTS / "crops.png")
    return {"pooled": list(ours.shape[1:]), "largest_difference_from_torchvision": difference}


def by_torchvision(features: list[Tensor], boxes: Tensor) -> Tensor:
    """The same by torchvision's operator, level by level, with half-pixel alignment."""
    levels = assign_levels(boxes)
    pooled = boxes.new_zeros(len(boxes), features[0].shape[1], SIZE, SIZE)
    for number, (level, stride) in enumerate(zip(features, STRIDES, strict=True)):
        rows = (levels == number).nonzero().squeeze(1)
        pooled[rows] = roi_align(level, [boxes[rows]], SIZE, 1 / stride, sampling_ratio=2, aligned=True)
    return pooled


if __name__ == "__main__":
    run("evaluate_backbone", main)
