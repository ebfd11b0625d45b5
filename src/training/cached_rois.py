"""What trainings on cached RoI features have in common: stages `box_head` and `mask_head`."""

from __future__ import annotations

from collections.abc import Mapping

from lightning_fabric import Fabric

from src.core import paths
from src.core.params import BoxHeadParams, MaskHeadParams
from src.detector.roi_cache import CachedBatch, open_cached_rois
from src.detector.sampling import RoiRules
from src.training.across import share_of
from src.training.loop import Training


def from_cached_rois(
    options: BoxHeadParams | MaskHeadParams,
    rules: RoiRules,
    weights: Mapping[str, float],
    fabric: Fabric,
    *,
    mask_rois: int = 0,
) -> Training[CachedBatch]:
    """The batches of cached RoIs, and those of the test views on which losses are measured.

    Args:
        options: batch size and seed.
        rules: the box head's sampling.
        weights: of the losses.
        fabric: its processes, each of which takes a share of every batch.
        mask_rois: positive RoIs per view for the mask head; 0 reads none.
    """
    train, test = open_cached_rois(
        paths.FEATURES,
        paths.PREPARED,
        rules=rules,
        batch_size=options.batch_size,
        mask_rois=mask_rois,
        seed=options.seed,
        share=share_of(fabric),
    )
    return Training(
        train=train.batches,
        steps=len(train),
        test=lambda: test.batches(0),
        arguments=lambda batch: [batch.rois],
        weights=weights,
        names=lambda batch: batch.names,
        is_spare=lambda batch: batch.is_spare,
    )
