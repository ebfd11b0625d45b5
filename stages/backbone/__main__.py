"""Stage `backbone` (tasks 8 and 10): pretrained backbone and FPN with an RPN, fine-tuned on the data set.

RPN losses alone ask of the features where things are, not what they are. The heads train on frozen features, so a box
head learns here along with the RPN and makes the features carry classes too. It is what stage `box_head` begins with.
"""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("backbone: stages run from the project's root as: python -m stages.backbone")

import torch

from src.core import paths
from src.core.params import Params
from src.core.processes import leave_to_first
from src.core.runtime import derive_seed, make_fabric
from src.core.stage import run
from src.data.augmentation import Augmentation
from src.data.prepared import read_classes
from src.detector.backbones import NORMALIZATIONS, set_trainable_layers
from src.detector.box_head import BoxHead
from src.detector.checkpoints import save_heads
from src.detector.kept_maps import keep_frozen_maps
from src.detector.mask_rcnn import MaskRCNN
from src.detector.roi_heads import RoiHeads
from src.detector.weights import build
from src.structures.classes import Classes
from src.training.checkpoint import Checkpoint
from src.training.loop import fit
from src.training.pictures import from_pictures
from src.training.schedule import Schedule

TESTED = 32  # test images whose losses are measured after each epoch


def main(params: Params) -> None:
    """Loads the weights and fine-tunes them; writes weights and histories."""
    options = params.backbone
    fabric = make_fabric(params.runtime, share=options.batch_size if options.epochs else 1)
    classes = read_classes(paths.PREPARED)
    model = start_fine_tuning(params, classes, fabric.device)
    normalization, augmentation = NORMALIZATIONS[options.name], Augmentation.from_params(params.augment)
    keep_frozen_maps(model.backbone, options, augmentation, fabric)
    training = from_pictures(options, normalization, fabric, tested=TESTED, masks=False, augmentation=augmentation)
    checkpoint = Checkpoint("backbone", fabric)
    schedule = Schedule.from_params("backbone", options, training.steps)
    fit(fabric, model, schedule, training, histories=paths.plots("backbone"), checkpoint=checkpoint)
    leave_to_first(fabric)
    parts = {"backbone": model.backbone, "rpn": model.rpn, "box_head": model.roi_heads.box_head}
    save_heads(paths.BACKBONE, parts, classes)
    checkpoint.clear()


def start_fine_tuning(params: Params, classes: Classes, device: torch.device) -> MaskRCNN:
    """Pretrained backbone, RPN and an untrained box head; the same weights at every call.

    Raises:
        InputError: the weights do not exist for this backbone, or the checkpoint does not fit it.
    """
    torch.manual_seed(derive_seed(params.backbone.seed))
    backbone, rpn = build(params.backbone, params.proposals)
    set_trainable_layers(backbone.body, params.backbone.trainable_layers)
    box_head = BoxHead(classes.count, representation_size=params.box_head.representation_size)
    model = MaskRCNN(backbone, rpn, RoiHeads(box_head), params)
    return model.to(memory_format=torch.channels_last).to(device)


if __name__ == "__main__":
    run("backbone", main)
