"""Stage `detect` (tasks 13, 15): both detectors on every test image; what they found is in the images' own pixels."""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("detect: stages run from the project's root as: python -m stages.detect")

from collections.abc import Iterator, Sequence
from typing import Final

from tqdm import tqdm

from src.core import paths
from src.core.files import write_json
from src.core.params import Params
from src.core.processes import gather, leave_to_first, share_out
from src.core.runtime import make_fabric
from src.core.stage import run
from src.data.dataset import DatasetFile
from src.data.prepared import PreparedFile
from src.detector.mask_rcnn import MaskRCNN
from src.detector.one_stage import OneStageDetector
from src.evaluation.analysis import (
    ImageDetections,
    SecondStageAnalysis,
    read_analyses,
    read_detections,
    write_analyses,
)
from src.evaluation.instances import GroundTruth, coco_ground_truth, coco_results
from src.evaluation.predictor import Predictor, to_source
from src.evaluation.second_stage import analyze
from src.evaluation.speed import TIMED, time_detector
from src.structures.classes import require_same
from src.structures.detector import DETECTORS, MASK_RCNN, ONE_STAGE

FILES: Final = {MASK_RCNN: paths.DETECTOR, ONE_STAGE: paths.ONE_STAGE}


def main(params: Params) -> None:
    """Runs the detectors; writes detections and ground truth, also in COCO's formats for other tools."""
    split = params.evaluate.split
    with PreparedFile(paths.PREPARED) as prepared:
        rows = prepared.indices(split)
        fabric = make_fabric(params.runtime, share=len(rows))
        predictors = {name: Predictor.load(params, fabric, detector=name) for name in DETECTORS}
        for name, predictor in predictors.items():
            require_same(predictor.classes, prepared.classes, FILES[name])
        mine = share_out(fabric, rows)
        found = gather(fabric, analyses(predictors[MASK_RCNN], prepared, mine), len(rows))
        others = gather(fabric, detections(predictors[ONE_STAGE], prepared, mine), len(rows))
        leave_to_first(fabric)
        write_analyses(paths.DETECTIONS, iter(tqdm(found, desc="detect", total=len(rows), unit="image")))
        write_analyses(
            paths.ONE_STAGE_DETECTIONS, iter(tqdm(others, desc="detect: one stage", total=len(rows), unit="image"))
        )
        for name, predictor in predictors.items():
            time_detector(name, predictor, prepared.examples(rows[: 1 + TIMED], masks=False))
    with DatasetFile(paths.DATASET) as dataset:
        numbered = enumerate(dataset.indices(split), start=1)
        truth = [GroundTruth.from_dataset(dataset, row, number) for number, row in numbered]
        classes = dataset.classes
    two_stage = [image.found[params.evaluate.border] for image in read_analyses(paths.DETECTIONS)]
    write_json(paths.PREDICTIONS, coco_results(truth, two_stage))
    one_stage = [image.found for image in read_detections(paths.ONE_STAGE_DETECTIONS)]
    write_json(paths.ONE_STAGE_PREDICTIONS, coco_results(truth, one_stage))
    write_json(paths.GROUND_TRUTH, coco_ground_truth(truth, classes))


def analyses(
    predictor: Predictor[MaskRCNN], prepared: PreparedFile, rows: Sequence[int]
) -> Iterator[SecondStageAnalysis]:
    """Of each image in turn."""
    for example in prepared.examples(rows, masks=False):
        yield analyze(predictor, example)


def detections(
    predictor: Predictor[OneStageDetector], prepared: PreparedFile, rows: Sequence[int]
) -> Iterator[ImageDetections]:
    """In each image in turn."""
    for example in prepared.examples(rows, masks=False):
        threshold = predictor.params.evaluate.mask_threshold
        yield ImageDetections(example.name, to_source(predictor.detect(example), example.letterbox, threshold))


if __name__ == "__main__":
    run("detect", main)
