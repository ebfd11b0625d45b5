"""The ways to train all parts of the detector (task 11): end to end, or in turns.

A scheme is a list of phases. A phase says which parts learn and from which losses; everything else stands still. What
the others lose is measured all the same, so that one history shows what each phase does to every stage.

| scheme | phases |
| --- | --- |
| none | nothing: the parts stay as the stages before left them |
| end_to_end | one: all parts, all losses |
| alternating | each round the RPN alone, then FPN and heads on its proposals; at the end the RPN once more |

Alternating is Faster R-CNN's (section 3.2) without its detour over a second backbone: the shared layers learn from the
heads' losses, and the RPN follows. Its last step fits the RPN to the features as the last round left them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from src.core.params import JointParams
from src.detector.backbones import set_trainable_layers
from src.detector.mask_rcnn import MaskRCNN

RPN_TERMS: Final = ("objectness", "rpn_regression")
BODY: Final = "backbone.body."  # prefix of the body's parameters in a detector


@dataclass(frozen=True)
class Phase:
    """One part of a training.

    Attributes:
        name: for the progress bar.
        rpn: whether the RPN learns, from its own losses.
        heads: whether the heads learn, from theirs.
        shared: whether FPN, and the body's trainable stages, learn from the losses in use.
    """

    name: str
    rpn: bool
    heads: bool
    shared: bool

    def weights(self, joint: JointParams) -> dict[str, float]:
        """The losses' weights; 0 for those that nothing learns from."""
        weights: Mapping[str, float] = dataclasses.asdict(joint.loss_weights)
        learns = {name: self.rpn if name in RPN_TERMS else self.heads for name in weights}
        return {name: weight if learns[name] else 0.0 for name, weight in weights.items()}

    def prepare(self, model: MaskRCNN, joint: JointParams) -> None:
        """Has the phase's parts learn, and the others stand still."""
        model.requires_grad_(False)
        model.rpn.requires_grad_(self.rpn)
        model.roi_heads.requires_grad_(self.heads)
        model.backbone.fpn.requires_grad_(self.shared)
        if self.shared:
            set_trainable_layers(model.backbone.body, joint.trainable_layers)


RPN_ALONE: Final = Phase("RPN alone", rpn=True, heads=False, shared=False)
HEADS_AND_FPN: Final = Phase("FPN and heads", rpn=False, heads=True, shared=True)
ALL_PARTS: Final = Phase("all parts", rpn=True, heads=True, shared=True)


def phases(joint: JointParams) -> tuple[Phase, ...]:
    """What `joint.scheme` comes to, in order; each phase lasts `joint.epochs`."""
    schemes = {
        "none": (),
        "end_to_end": (ALL_PARTS,),
        "alternating": (*(RPN_ALONE, HEADS_AND_FPN) * joint.rounds, RPN_ALONE),
    }
    return schemes[joint.scheme]
