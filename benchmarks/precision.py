"""What bf16 costs in AP: the last run's detector on its test split, in both precisions."""

from __future__ import annotations

import dataclasses

from tqdm import tqdm

from src.core import paths
from src.core.params import Params
from src.data.dataset import DatasetFile
from src.data.prepared import PreparedFile
from src.evaluation.detection import evaluate_detections
from src.evaluation.instances import GroundTruth, coco_ground_truth, coco_results
from src.evaluation.predictor import Predictor, to_source


def accuracies(params: Params) -> dict[str, dict[str, float | None]]:
    """AP and AP50 of boxes and masks by precision; the weights and rules are the same."""
    return {name: accuracy(params, name) for name in ("bf16", "float32")}


def accuracy(params: Params, precision: str) -> dict[str, float | None]:
    """AP of the detector at one precision of its convolutions and products."""
    runtime = dataclasses.replace(params.runtime, precision=precision)
    predictor = Predictor.load(dataclasses.replace(params, runtime=runtime))
    with DatasetFile(paths.DATASET) as dataset, PreparedFile(paths.PREPARED) as prepared:
        rows = prepared.indices("test")
        truth = [GroundTruth.from_dataset(dataset, row, number) for number, row in enumerate(rows, start=1)]
        bar = tqdm(prepared.examples(rows, masks=False), desc=f"AP in {precision}", total=len(rows), unit="image")
        found = [
            to_source(predictor.detect(example), example.letterbox, params.evaluate.mask_threshold) for example in bar
        ]
    metrics = evaluate_detections(coco_ground_truth(truth, predictor.classes), coco_results(truth, found)).as_metrics()
    return {name: metrics[name] for name in ("box_ap50", "box_ap", "mask_ap50", "mask_ap")}
