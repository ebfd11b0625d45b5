"""What bf16 costs in AP: the last run's detector on its test split, in both precisions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tqdm import tqdm

from src.core.params import Params
from src.core.runtime import make_fabric
from src.data.dataset import DatasetFile
from src.data.prepared import PreparedFile
from src.detector.checkpoints import load_detector
from src.evaluation.detection import evaluate_detections
from src.evaluation.instances import GroundTruth, coco_ground_truth, coco_results
from src.evaluation.second_stage import Predictor, to_source

PREPARED, DATASET = Path("data/prepared.h5"), Path("data/dataset.h5")


def accuracies(params: Params) -> dict[str, dict[str, float | None]]:
    """AP and AP50 of boxes and masks by precision; the weights and rules are the same."""
    return {name: accuracy(params, name) for name in ("bf16", "float32")}


def accuracy(params: Params, precision: str) -> dict[str, float | None]:
    """AP of the detector at one precision of its convolutions and products."""
    fabric = make_fabric(dataclasses.replace(params.runtime, precision=precision))
    runner = Predictor(load_detector(params, fabric.device), fabric, params.backbone.name, params.evaluate)
    with DatasetFile(DATASET) as dataset, PreparedFile(PREPARED) as prepared:
        rows, letterbox = prepared.indices("test"), prepared.letterbox
        truth = [GroundTruth.of(dataset[row], number) for number, row in enumerate(rows, start=1)]
        bar = tqdm(prepared.examples(rows, masks=False), desc=f"AP in {precision}", total=len(rows), unit="image")
        found = [
            to_source(runner.find(example, letterbox), letterbox, params.evaluate.mask_threshold) for example in bar
        ]
    metrics = evaluate_detections(coco_ground_truth(truth), coco_results(truth, found)).as_metrics()
    return {name: metrics[name] for name in ("box_ap50", "box_ap", "mask_ap50", "mask_ap")}
