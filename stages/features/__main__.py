"""Stage `features` (tasks 10 and 12): frozen backbone and RPN run once; what the heads need of every view is cached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import roi_align
from tqdm import tqdm

from src.core.files import write_json
from src.core.params import Params
from src.core.runtime import environment_info, make_fabric
from src.core.stage import run
from src.data.feature_cache import FeaturesWriter
from src.data.loading import read_ahead
from src.data.prepared import Example, PreparedFile, flip
from src.data.selection import two_object_row
from src.detector.backbones import NORMALIZATIONS, STRIDES
from src.detector.box_head import SIZE
from src.detector.checkpoints import load_backbone
from src.detector.mask_rcnn import pool
from src.detector.roi_cache import Kind, cache_view
from src.evaluation.proposal_metrics import PartB
from src.figures.crops import plot_crops
from src.ops.roi_align import assign_levels

PREPARED = Path("data/prepared.h5")
AHEAD = 2  # views read while the network computes
LEVEL_NAMES = ("P2", "P3", "P4", "P5")


def work(params: Params) -> None:
    """Caches all views, then checks and draws RoIAlign on the image of task 9."""
    fabric = make_fabric(params.runtime)
    backbone, rpn = load_backbone(params, fabric.device)
    levels = torch.zeros(len(LEVEL_NAMES), dtype=torch.int64)
    with PreparedFile(PREPARED) as prepared, FeaturesWriter(Path("data/features.h5")) as writer:
        part = PartB(backbone, rpn, fabric, NORMALIZATIONS[params.backbone.name], prepared.letterbox.content)
        for example, kind in views(prepared, params.features.flip and params.data.source != "emoji"):
            images = part.images([example])
            features = part.features(images)
            proposals = part.propose(images, features)[0].boxes
            view = cache_view(features, proposals, example, params.features, kind)
            writer.append(view)
            levels += torch.bincount(assign_levels(view.boxes) - 2, minlength=len(levels))
        shown = prepared.example(two_object_row(prepared))
        count = len(prepared)
    facts = {"images": count, "rois": int(levels.sum()), **check(part, shown, params)}
    shares = {name: float(share) for name, share in zip(LEVEL_NAMES, levels / levels.sum().clamp(min=1), strict=True)}
    write_json(
        Path("metrics/features.json"), {**facts, "levels": shares, "conditions": environment_info(params.runtime)}
    )


def views(prepared: PreparedFile, with_flips: bool) -> Iterator[tuple[Example, Kind]]:
    """Every image once, training images mirrored too, read ahead, under a progress bar."""
    train = prepared.indices("train")
    plan = [
        (index, Kind(flipped, train=True)) for index in train for flipped in ((False, True) if with_flips else (False,))
    ]
    plan += [(index, Kind(flipped=False, train=False)) for index in prepared.indices("test")]

    def read(entry: tuple[int, Kind]) -> tuple[Example, Kind]:
        example = prepared.example(entry[0])
        return (flip(example, prepared.letterbox) if entry[1].flipped else example), entry[1]

    return iter(tqdm(read_ahead(plan, read, AHEAD), desc="features", total=len(plan), unit="view"))


@torch.no_grad()
def check(part: PartB, shown: Example, params: Params) -> dict[str, Any]:
    """Pools one image's proposals in float32 by hand and by torchvision; draws the crops."""
    images = part.images([shown])
    features = part.features(images)
    boxes = part.propose(images, features)[0].boxes[: params.features.proposals]
    exact = [level.float().contiguous() for level in features[:4]]
    ours = pool(exact, [boxes], SIZE)
    difference = float((ours - by_torchvision(exact, boxes)).abs().max()) if len(boxes) else 0.0
    plot_crops(shown, boxes.cpu(), ours.cpu(), Path("plots/features/crops.png"))
    return {"pooled": list(ours.shape[1:]), "largest_difference_from_torchvision": difference}


def by_torchvision(features: list[Tensor], boxes: Tensor) -> Tensor:
    """The same by torchvision's operator, level by level, with half-pixel alignment."""
    levels = assign_levels(boxes) - 2
    pooled = boxes.new_zeros(len(boxes), features[0].shape[1], SIZE, SIZE)
    for number, (level, stride) in enumerate(zip(features, STRIDES, strict=True)):
        rows = (levels == number).nonzero().squeeze(1)
        pooled[rows] = roi_align(level, [boxes[rows]], SIZE, 1 / stride, sampling_ratio=2, aligned=True)
    return pooled


if __name__ == "__main__":
    run("features", work)
