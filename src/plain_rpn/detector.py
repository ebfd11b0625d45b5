"""Part (a)'s network as a detector of anything: it learns (`losses`) and it proposes (`detect`) (tasks 3 to 7)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import nms

from src.core.errors import invalid
from src.core.params import RpnParams
from src.core.tensors import load_strictly, read_states
from src.ops.boxes import Region, clip, decode, is_not_empty
from src.plain_rpn.anchor_grid import AnchorGrid
from src.plain_rpn.losses import draw_samples, rpn_losses
from src.plain_rpn.network import PlainRpnNetwork, flatten_outputs
from src.structures.image_list import ImageList
from src.structures.loss_term import LossTerm, values
from src.structures.proposals import Proposals
from src.structures.target import Target

NMS_IOU: Final = 0.7  # as Faster R-CNN's RPN
MIN_SIZE: Final = 4.0  # canvas pixels; smaller proposals are dropped
MOST: Final = 1000  # proposals per image


class PlainRpn(nn.Module):
    """The network with its anchor grid. Losses and decoding are float32 on the processor, whatever the device.

    Args:
        network: five convolutions, classifier, regressor.
        grid: the anchors.
        params: how many anchors enter the losses.
    """

    def __init__(self, network: PlainRpnNetwork, grid: AnchorGrid, params: RpnParams) -> None:
        super().__init__()
        self.network, self.grid, self.params = network, grid, params

    def predict(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N 4"]]:
        """Logits and deltas in the grid's order."""
        logits, deltas = flatten_outputs(*self.network(images))
        return logits.cpu(), deltas.cpu()

    def losses(self, images: ImageList, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Raw loss terms of a minibatch, by name."""
        return values(self(images, targets))

    def forward(self, images: ImageList, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """`objectness` and `rpn_regression`; each image's anchors are drawn from `images.generators()`."""
        beside = [target.to(self.grid.anchors.device) for target in targets]  # they come on the network's device
        matches = [self.grid.label(*pair) for pair in zip(beside, images.regions, strict=True)]
        boxes = [target.boxes for target in beside]
        count, generators = self.params.batch_size_per_image, images.generators()
        drawn = draw_samples(matches, boxes, self.grid.anchors, count, generators)
        return rpn_losses(*self.predict(images.tensors), drawn)

    def detect(self, images: ImageList) -> list[Proposals]:
        """The best proposals of each image."""
        outputs = zip(*self.predict(images.tensors), images.regions, strict=True)
        return [propose(logits, deltas, self.grid, region) for logits, deltas, region in outputs]


def propose(logits: Float[Tensor, " N"], deltas: Float[Tensor, "N 4"], grid: AnchorGrid, region: Region) -> Proposals:
    """Decodes every anchor, clips to the picture, drops what is empty, and keeps the best after NMS at 0.7.

    Anchors across the border, though left out of training, propose too, as in Faster R-CNN.
    """
    boxes = clip(decode(deltas, grid.anchors), region)
    kept = is_not_empty(boxes, MIN_SIZE).nonzero().squeeze(1)
    kept = kept[nms(boxes[kept], logits[kept], NMS_IOU)[:MOST]]
    return Proposals(boxes[kept], logits[kept].sigmoid())


def load_network(path: Path, anchors: int) -> PlainRpnNetwork:
    """The network as stage `rpn` left it.

    Raises:
        InputError: the file is missing, broken, or does not hold this network.
    """
    if not path.exists():
        raise invalid(path, "a file made by `dvc repro`", "none")
    network = PlainRpnNetwork(anchors)
    load_strictly(network, read_states(path, ("network",))["network"], f"{path}[network]")
    return network
