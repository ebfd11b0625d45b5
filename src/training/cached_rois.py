"""What trainings on cached RoI features have in common: stages `box_head` and `mask_head`."""

from __future__ import annotations

from collections.abc import Mapping

from src.core import paths
from src.core.params import BoxHeadParams, MaskHeadParams
from src.detector.roi_cache import CachedBatch, open_cached_rois
from src.detector.sampling import RoiRules
from src.training.loop import Training


def from_cached_rois(
    options: BoxHeadParams | MaskHeadParams, rules: RoiRules, weights: Mapping[str, float], *, mask_rois: int = 0
) -> Training[CachedBatch]:
    """The batches of cached RoIs, and those of the test views on which losses are measured.

    Args:
        options: batch size and seed.
        rules: the box head's sampling.
        weights: of the losses.
        mask_rois: positive RoIs per view for the mask head; 0 reads none.
    """
    train, test = open_cached_rois(
        paths.FEATURES,
        paths.PREPARED,
        rules=rules,
        batch_size=options.batch_size,
        mask_rois=mask_rois,
        seed=options.seed,
    )
    return Training(
        train=train.batches,
        steps=len(train),
        test=lambda: test.batches(0),
        arguments=lambda batch: [batch.rois],
        weights=weights,
        names=lambda batch: batch.names,
    )
