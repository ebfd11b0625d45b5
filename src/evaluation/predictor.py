"""A detector on whole pictures: from the canvas back to the picture's own pixels (tasks 13 and 16 to 18)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from lightning_fabric import Fabric
from torch import Tensor

from src.core.params import Params
from src.core.runtime import make_fabric
from src.data.batches import Batcher
from src.data.letterbox import Letterbox
from src.data.prepared import Example
from src.detector.backbones import NORMALIZATIONS
from src.detector.checkpoints import LOADERS
from src.evaluation.instances import Instances
from src.evaluation.rle import encode_masks
from src.ops.masks import paste_region
from src.structures.detections import Detections
from src.structures.detector import MASK_RCNN, Detector
from src.structures.target import no_target

Model = TypeVar("Model", bound=Detector)


@dataclass(frozen=True)
class Predictor(Generic[Model]):
    """A trained detector with what it needs to see pictures.

    Attributes:
        detector: frozen.
        fabric: device and precision.
        params: of the run.
    """

    detector: Model
    fabric: Fabric
    params: Params

    @classmethod
    def load(cls, params: Params, fabric: Fabric | None = None, *, detector: str = MASK_RCNN) -> Predictor[Any]:
        """A detector that the pipeline trained; on one device of this machine where nothing else is said.

        Args:
            params: of the run.
            fabric: device and precision.
            detector: which one, of `DETECTORS`.
        """
        fabric = fabric or make_fabric(params.runtime)
        return Predictor(LOADERS[detector](params, fabric.device), fabric, params)

    def batcher(self, letterbox: Letterbox) -> Batcher:
        """Minibatches of pictures that lie on the canvas as `letterbox` says."""
        return Batcher(NORMALIZATIONS[self.params.backbone.name], letterbox.region, self.fabric.device)

    @torch.no_grad()
    def detect(self, example: Example, letterbox: Letterbox) -> Detections:
        """Detections of one example, on the canvas and on the processor."""
        with self.fabric.autocast():
            return self.detector.detect(self.batcher(letterbox).images([example]))[0].cpu()

    def predict(self, picture: UInt8[np.ndarray, "h w 3"]) -> Instances:
        """What is in a picture, in its own pixels, above `predict.score_threshold`."""
        letterbox = Letterbox.from_params(self.params.prepare, *picture.shape[:2])
        image = torch.from_numpy(letterbox.image_to_canvas(picture)).permute(2, 0, 1)
        example = Example(0, "picture", image, no_target(*image.shape[1:]))
        found = self.detect(example, letterbox)
        # The score decides before masks are pasted: at a phone's 12 megapixels each takes 50 MB on its way.
        sure = found.keep(found.scores >= self.params.predict.score_threshold)
        return to_source(sure, letterbox, self.params.evaluate.mask_threshold)


def to_source(found: Detections, letterbox: Letterbox, mask_threshold: float) -> Instances:
    """Detections in the source picture: boxes moved back, masks pasted bilinearly, then thresholded (task 16).

    One mask after another, so that memory does not grow with their number. A detector without a mask head has none.
    """
    boxes = letterbox.boxes_to_source(found.boxes)
    proposals = letterbox.boxes_to_source(found.proposals)
    if not found.masks.shape[1:].numel():
        return Instances(boxes, found.labels, found.scores, None, proposals)
    size = letterbox.source_height, letterbox.source_width
    masks = [
        code
        for grid, box in zip(found.masks.float(), boxes, strict=True)
        for code in encode_masks(_pasted(grid, box, size, mask_threshold)[None])
    ]
    return Instances(boxes, found.labels, found.scores, masks, proposals)


def _pasted(
    grid: Float[Tensor, "s s"], box: Float[Tensor, " 4"], size: tuple[int, int], threshold: float
) -> Bool[np.ndarray, "h w"]:
    top, left, values = paste_region(grid, box, *size)
    # Column by column, as run lengths count: at 48 megapixels a mask costs a tenth of a second, not a whole one.
    mask = np.full(size, threshold <= 0, order="F")
    mask[top : top + values.shape[0], left : left + values.shape[1]] = (values >= threshold).numpy()
    return mask
