"""Stage `evaluate` (tasks 15 and 17): the detector on every test image, in source coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from src.core.files import atomic_write, write_json
from src.core.params import Params
from src.core.runtime import environment_info, make_fabric
from src.core.stage import run
from src.data.dataset import DatasetFile
from src.data.letterbox import Letterbox
from src.data.prepared import PreparedFile
from src.detector.checkpoints import load_detector
from src.evaluation.bootstrap import ap50_intervals
from src.evaluation.classifier import ClassifierMetrics, classifier_metrics, confusion_rows
from src.evaluation.detection import curve_rows, evaluate_detections
from src.evaluation.errors import count_errors
from src.evaluation.halves import HalvesSummary, summarize_halves
from src.evaluation.instances import Detections, GroundTruth, coco_ground_truth, coco_results
from src.evaluation.mask_iou import mean_mask_iou
from src.evaluation.rpn_metrics import proposal_recall
from src.evaluation.second_stage import Predictor, SecondStageAnalysis, to_source
from src.evaluation.unannotated import find_unannotated
from src.figures import evaluation as figures

DATASET = Path("data/dataset.h5")
PREPARED = Path("data/prepared.h5")
PLOTS = Path("plots/evaluate")
REFINED_SHOWN = 3  # detections an image whose proposals are drawn


def work(params: Params) -> None:
    """Finds, measures, draws."""
    fabric = make_fabric(params.runtime)
    runner = Predictor(load_detector(params, fabric.device), fabric, params.backbone.name, params.evaluate)
    with DatasetFile(DATASET) as dataset, PreparedFile(PREPARED) as prepared:
        test, letterbox = prepared.indices("test"), prepared.letterbox
        truth = [GroundTruth.of(dataset[index], number) for number, index in enumerate(test, start=1)]
        images = [dataset.image(index) for index in test[: 4 * params.report.images]]
        bar = tqdm(prepared.examples(test, masks=False), desc="evaluate", total=len(test), unit="image")
        examined = [runner.examine(example, letterbox) for example in bar]
    found = sources(examined, letterbox, params)
    results = coco_results(truth, found[params.evaluate.border])
    annotations = coco_ground_truth(truth)
    write_json(Path("data/predictions.json"), results)
    write_json(Path("data/ground_truth.json"), annotations)
    facts, classifier, cut = measure(truth, found, examined, params)
    write_json(Path("metrics/evaluate.json"), {**facts, "conditions": environment_info(params.runtime)})
    write_table(PLOTS / "precision_recall.csv", curve_rows(evaluate_detections(annotations, results)))
    write_table(PLOTS / "confusion.csv", confusion_rows(classifier), ["actual", "predicted"])
    figures.plot_confusion(classifier, PLOTS / "confusion.png")
    figures.plot_precision_recall(evaluate_detections(annotations, results), PLOTS / "precision_recall.png")
    figures.plot_halves(cut, PLOTS / "halves.png")
    draw(truth, found[params.evaluate.border], examined, (images, letterbox), params)


def sources(
    examined: Sequence[SecondStageAnalysis], letterbox: Letterbox, params: Params
) -> dict[str, list[Detections]]:
    """Detections in source coordinates by border rule."""
    threshold = params.evaluate.mask_threshold
    return {
        border: [to_source(image.found[border], letterbox, threshold) for image in examined]
        for border in ("remove", "clip")
    }


def measure(
    truth: list[GroundTruth],
    found: dict[str, list[Detections]],
    examined: Sequence[SecondStageAnalysis],
    params: Params,
) -> tuple[dict[str, Any], ClassifierMetrics, HalvesSummary]:
    """All numbers of `metrics/evaluate.json`, and the two of them that are drawn."""
    chosen = found[params.evaluate.border]
    annotations = coco_ground_truth(truth)
    scores = {border: evaluate_detections(annotations, coco_results(truth, each)) for border, each in found.items()}
    labels = torch.cat([image.truth for image in examined])
    counted = labels >= 0
    predicted = torch.cat([image.predicted for image in examined])
    classifier = classifier_metrics(labels[counted], predicted[counted])
    cut = summarize_halves(
        torch.cat([image.halves_before for image in examined]), torch.cat([image.halves_after for image in examined])
    )
    masks = mean_mask_iou(truth, chosen)
    unannotated = find_unannotated(truth, chosen)
    facts = {
        **scores[params.evaluate.border].as_metrics(),
        "ap50_interval": ap50_intervals(truth, chosen),
        "mask_iou": masks.mean,
        "mask_iou_coverage": masks.coverage,
        "proposal_recall": recall(examined, params.features.proposals),
        "proposals": params.features.proposals,
        "classifier": classifier.as_metrics(),
        "border": {name: {"box_ap50": one.box.ap50, "mask_ap50": one.mask.ap50} for name, one in scores.items()},
        "regressor": {
            "iou_before": mean([image.iou_before for image in examined]),
            "iou_after": mean([image.iou_after for image in examined]),
        },
        "halves": cut.as_metrics(),
        "errors": count_errors(truth, chosen, params.predict.score_threshold).as_metrics(),
        "unannotated": unannotated.as_metrics() if unannotated else None,
        "detections": sum(len(image) for image in chosen),
        "test_images": len(truth),
    }
    return facts, classifier, cut


def recall(examined: Sequence[SecondStageAnalysis], count: int) -> float | None:
    """Share of the objects that the box head's proposals cover at IoU 0.5."""
    proposals, objects = [image.proposals for image in examined], [image.objects for image in examined]
    return proposal_recall(proposals, objects, counts=(count,))[str(count)]


def mean(values: Sequence[torch.Tensor]) -> float | None:
    """The mean over all images' values; None where there are none."""
    together = torch.cat(list(values))
    return float(together.mean()) if len(together) else None


def draw(
    truth: list[GroundTruth],
    found: list[Detections],
    examined: Sequence[SecondStageAnalysis],
    pictures: tuple[list[Any], Letterbox],
    params: Params,
) -> None:
    """The fixed test images with what was found, how boxes were refined, and the object nobody annotated."""
    images, letterbox = pictures
    shown = [number for number in range(len(images)) if len(truth[number].boxes)][: params.report.images]
    scenes = {number: figures.Picture(images[number], truth[number], found[number]) for number in shown}
    figures.plot_detections(list(scenes.values()), params.predict.score_threshold, PLOTS / "detections.png")
    refinements = []
    for number, scene in scenes.items():
        kept = examined[number].found[params.evaluate.border]
        best = slice(0, REFINED_SHOWN)
        proposals = letterbox.boxes_to_source(kept.proposals[best])
        part = found[number]
        refinements.append(figures.Refinement(scene, proposals, part.boxes[best], part.labels[best], part.scores[best]))
    figures.plot_before_after(refinements, PLOTS / "before_after.png")
    pick = find_unannotated(truth, found)
    number = pick.picture if pick else 0
    with DatasetFile(DATASET) as dataset:
        image = dataset.image(dataset.indices("test")[number])
    figures.plot_unannotated(figures.Picture(image, truth[number], found[number]), pick, PLOTS / "unannotated.png")


def write_table(path: Path, rows: list[dict[str, Any]], columns: list[str] | None = None) -> None:
    """Writes rows as csv, atomically."""
    with atomic_write(path) as temporary:
        pd.DataFrame(rows, columns=columns).to_csv(temporary, index=False, float_format="%.6g")


if __name__ == "__main__":
    run("evaluate", work)
