"""Stage `features` (task 12): frozen backbone and RPN run once; what the heads need of every view is cached.

Where neither head is to be trained on cached features, nothing is cached: joint training proposes anew in every step.
"""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("features: stages run from the project's root as: python -m stages.features")

from collections.abc import Iterator, Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from src.core import paths
from src.core.files import write_json
from src.core.params import Params
from src.core.processes import gather, leave_to_first, share_out
from src.core.runtime import make_fabric
from src.core.stage import run
from src.data.batches import Batcher
from src.data.feature_cache import CachedView, FeaturesWriter
from src.data.loading import read_ahead
from src.data.prepared import Example, PreparedFile, flip
from src.detector.backbones import NORMALIZATIONS
from src.detector.checkpoints import load_backbone
from src.detector.fpn import LEVELS, STRIDES
from src.detector.kept_maps import keep_maps
from src.detector.proposer import Proposer
from src.detector.roi_cache import ViewType, cache_view
from src.ops.roi_align import assign_levels
from src.structures.sample import TEST, TRAIN

AHEAD = 2  # views read while the network computes


def main(params: Params) -> None:
    """Caches all views, and counts the RoIs of each FPN level."""
    with PreparedFile(paths.PREPARED) as prepared:
        needed = params.box_head.epochs > 0 or params.mask_head.epochs > 0
        with_flips = params.features.flip and params.data.source != "emoji"
        plan = all_views(prepared, with_flips) if needed else []
        fabric = make_fabric(params.runtime, share=len(plan))
        found = gather(fabric, cached_views(params, fabric, prepared, share_out(fabric, plan)), len(plan))
        leave_to_first(fabric)
        counts = write(found, len(plan))
        images = sum(len(prepared.indices(split)) for split in (TRAIN, TEST)) if needed else 0
    shares = counts / counts.sum().clamp(min=1)
    levels = {name: float(share) for name, share in zip(LEVELS, shares, strict=False)}
    write_json(paths.metrics("features"), {"images": images, "rois": int(counts.sum()), "levels": levels})


def all_views(prepared: PreparedFile, with_flips: bool) -> list[tuple[int, ViewType]]:
    """Every training and test image once, training images mirrored too, by their rows."""
    flips = (False, True) if with_flips else (False,)
    plan = [(index, ViewType(flipped, train=True)) for index in prepared.indices(TRAIN) for flipped in flips]
    return plan + [(index, ViewType(flipped=False, train=False)) for index in prepared.indices(TEST)]


def cached_views(
    params: Params, fabric: Fabric, prepared: PreparedFile, plan: Sequence[tuple[int, ViewType]]
) -> Iterator[CachedView]:
    """What the heads need of each view; pictures are read ahead."""
    backbone, rpn = load_backbone(params, fabric.device)
    keep_maps(backbone, fabric, writes=False)
    batcher = Batcher(NORMALIZATIONS[params.backbone.name], fabric.device)
    proposer = Proposer(backbone, rpn, fabric, batcher)

    def read(entry: tuple[int, ViewType]) -> tuple[Example, ViewType]:
        example = prepared.example(entry[0])
        return (flip(example) if entry[1].flipped else example), entry[1]

    for example, kind in read_ahead(plan, read, AHEAD):
        batch = batcher.images([example])
        features = proposer.features(batch)
        proposals = proposer.propose(batch, features)[0].boxes
        yield cache_view(
            features, proposals, example, kind, params=params.features, fg_iou_thresh=params.rois.fg_iou_thresh
        )


def write(views: Iterator[CachedView], total: int) -> Tensor:
    """Writes the views under a progress bar; how many of their RoIs each FPN level has."""
    counts = torch.zeros(len(STRIDES), dtype=torch.int64)
    with FeaturesWriter(paths.FEATURES) as writer:
        for view in tqdm(views, desc="features", total=total, unit="view"):
            writer.append(view)
            counts += torch.bincount(assign_levels(view.boxes), minlength=len(counts))
    return counts


if __name__ == "__main__":
    run("features", main)
