"""A detector on whole pictures: from the canvas back to the picture's own pixels (tasks 13 and 16 to 18)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from lightning_fabric import Fabric
from torch import Tensor

from src.core.params import Params
from src.core.params_file import load_params
from src.core.runtime import make_fabric
from src.data.batches import Batcher
from src.data.decoding import decode, opened
from src.data.letterbox import Letterbox
from src.data.prepared import Example
from src.detector.backbones import NORMALIZATIONS
from src.detector.checkpoints import HERE, LOADERS
from src.evaluation.instances import Instances
from src.evaluation.rle import encode_masks
from src.evaluation.tiles import Tile, is_cut, make_tiles, merge, moved
from src.ops.masks import paste_region
from src.structures.classes import Classes
from src.structures.detections import Detections
from src.structures.detector import MASK_RCNN, Detector
from src.structures.target import no_target

Model = TypeVar("Model", bound=Detector)


@dataclass(frozen=True)
class Predictor(Generic[Model]):
    """A trained detector with what it needs to see pictures.

    Attributes:
        detector: frozen.
        classes: what its labels stand for.
        fabric: device and precision.
        params: of the run.
    """

    detector: Model
    classes: Classes
    fabric: Fabric
    params: Params

    @classmethod
    def load(
        cls, params: Params, fabric: Fabric | None = None, *, detector: str = MASK_RCNN, root: Path = HERE
    ) -> Predictor[Any]:
        """A detector that the pipeline trained; on one device of this machine where nothing else is said.

        Args:
            params: of the run.
            fabric: device and precision.
            detector: which one, of `DETECTORS`.
            root: folder of the project that trained it.

        Raises:
            InputError: its file is missing, broken or does not fit `params`.
        """
        fabric = fabric or make_fabric(params.runtime)
        return Predictor(*LOADERS[detector](params, fabric.device, root), fabric, params)

    @classmethod
    def from_pretrained(cls, project: Path | str = HERE, *, detector: str = MASK_RCNN) -> Predictor[Any]:
        """The detector of a finished run, for a notebook: all that it needs is read from the project's folder.

        Args:
            project: with `params.yaml` and `models/`, as `make report` leaves them.
            detector: which one, of `DETECTORS`.

        Raises:
            InputError: a file is missing, broken or does not fit the other.
        """
        root = Path(project)
        return cls.load(load_params(root / "params.yaml"), detector=detector, root=root)

    @property
    def batcher(self) -> Batcher:
        """Makes the detector's minibatches."""
        return Batcher(NORMALIZATIONS[self.params.backbone.name], self.fabric.device)

    @torch.no_grad()
    def detect(self, example: Example) -> Detections:
        """Detections of one example, on the canvas and on the processor."""
        with self.fabric.autocast():
            return self.detector.detect(self.batcher.images([example]))[0].cpu()

    def predict(self, picture: UInt8[np.ndarray, "h w 3"]) -> Instances:
        """What is in a picture, in its own pixels, above `predict.score_threshold`; by tiles if `predict.tile` asks."""
        height, width = picture.shape[:2]
        found, options = self._find(picture), self.params.predict
        if tiles := make_tiles(height, width, options.tile, options.tile_overlap) if options.tile else []:
            parts = [moved(self._find(_cut_out(picture, tile)), tile) for tile in tiles]
            cut = [is_cut(part, tile, height, width) for part, tile in zip(parts, tiles, strict=True)]
            everywhere = torch.zeros(len(found), dtype=torch.bool)
            found = merge([found, *parts], [everywhere, *cut], self.params.evaluate)
        return paste(found, (height, width), self.params.evaluate.mask_threshold)

    def predict_file(self, path: Path | str) -> Instances:
        """`predict` of a picture's file, upright, in any format that `make predict` reads.

        Raises:
            InputError: the file is missing, no picture, or broken.
        """
        with opened(Path(path)) as picture:
            pixels = decode(picture)
        return self.predict(pixels)

    def _find(self, picture: UInt8[np.ndarray, "h w 3"]) -> Detections:
        """Detections in the picture's pixels."""
        letterbox = Letterbox.from_params(self.params.prepare, *picture.shape[:2])
        image = torch.from_numpy(letterbox.image_to_canvas(picture)).permute(2, 0, 1)
        example = Example(0, "picture", image, no_target(*image.shape[1:]), letterbox)
        found = self.detect(example)
        # The score decides before masks are pasted: at a phone's 12 megapixels each takes 50 MB on its way.
        return in_source(found.keep(found.scores >= self.params.predict.score_threshold), letterbox)


def to_source(found: Detections, letterbox: Letterbox, mask_threshold: float) -> Instances:
    """Detections on the canvas in the source picture: boxes moved back, masks as `paste` makes them."""
    size = letterbox.source_height, letterbox.source_width
    return paste(in_source(found, letterbox), size, mask_threshold)


def in_source(found: Detections, letterbox: Letterbox) -> Detections:
    """Detections on the canvas with boxes in the source picture's pixels."""
    boxes, proposals = (letterbox.boxes_to_source(some) for some in (found.boxes, found.proposals))
    return dataclasses.replace(found, boxes=boxes, proposals=proposals)


def paste(found: Detections, size: tuple[int, int], mask_threshold: float) -> Instances:
    """Masks in a picture of `size` (height, width), pasted bilinearly, then thresholded (task 16).

    One mask after another, so that memory does not grow with their number. A detector without a mask head has none.
    """
    if not found.masks.shape[1:].numel():  # of a detector of boxes alone
        return Instances(found.boxes, found.labels, found.scores, None, found.proposals)
    masks = [
        code
        for grid, box in zip(found.masks.float(), found.boxes, strict=True)
        for code in encode_masks(_pasted(grid, box, size, mask_threshold)[None])
    ]
    return Instances(found.boxes, found.labels, found.scores, masks, found.proposals)


def _cut_out(picture: UInt8[np.ndarray, "h w 3"], tile: Tile) -> UInt8[np.ndarray, "rows columns 3"]:
    return picture[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]


def _pasted(
    grid: Float[Tensor, "s s"], box: Float[Tensor, " 4"], size: tuple[int, int], threshold: float
) -> Bool[np.ndarray, "h w"]:
    top, left, values = paste_region(grid, box, *size)
    # Column by column, as run lengths count: at 48 megapixels a mask costs a tenth of a second, not a whole one.
    mask = np.full(size, threshold <= 0, order="F")
    mask[top : top + values.shape[0], left : left + values.shape[1]] = (values >= threshold).numpy()
    return mask
