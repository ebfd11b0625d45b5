"""What trainings on pictures have in common: `rpn`, `backbone`, `joint`, `one_stage` learn from the prepared file."""

from __future__ import annotations

import dataclasses
from functools import partial

from lightning_fabric import Fabric

from src.core import paths
from src.core.errors import invalid
from src.core.one_stage_params import OneStageParams
from src.core.params import BackboneParams, JointParams, RpnParams
from src.data.augmentation import Augmentation
from src.data.batches import Batcher
from src.data.loading import Loader
from src.data.normalize import Normalization
from src.data.prepared import Example, PreparedFile
from src.structures.sample import SPLITS, TEST, TRAIN, VALIDATION
from src.training.across import share_of
from src.training.loop import Training


def from_pictures(
    options: RpnParams | BackboneParams | JointParams | OneStageParams,
    normalization: Normalization,
    fabric: Fabric,
    *,
    tested: int,
    test_batch_size: int | None = None,
    masks: bool = True,
    augmentation: Augmentation | None = None,
) -> Training[list[Example]]:
    """The batches of the training split, and those of the other splits on which losses are measured.

    Args:
        options: batch size, mirroring, weights and seed.
        normalization: of the network.
        fabric: where the minibatches go, each process's share of them.
        tested: so many test pictures are measured, the first ones.
        test_batch_size: of pictures that are measured; that of training where nothing is said.
        masks: read the masks too.
        augmentation: of the training pictures, beside the mirroring.

    Raises:
        InputError: the prepared file has no training pictures.
    """
    with PreparedFile(paths.PREPARED) as prepared:
        rows = {split: prepared.indices(split) for split in SPLITS}
    if not rows[TRAIN]:
        raise invalid(paths.PREPARED, "training images", "none")
    load = partial(Loader, paths.PREPARED, seed=options.seed, masks=masks, share=share_of(fabric))
    train = load(rows[TRAIN], options.batch_size, flip=options.flip, augmentation=augmentation)
    size = test_batch_size or options.batch_size
    test, validation = (load(some, size, flip=False, shuffle=False) for some in (rows[TEST][:tested], rows[VALIDATION]))
    return Training(
        train=train.batches,
        steps=len(train),
        test=lambda: test.batches(0),
        validation=(lambda: validation.batches(0)) if rows[VALIDATION] else None,
        arguments=Batcher(normalization, fabric.device),
        weights=dataclasses.asdict(options.loss_weights),
        names=lambda batch: [example.name for example in batch],
        is_spare=lambda batch: batch[0].is_spare,
    )
