"""Stage `evaluate` (tasks 13, 15 to 17): what `detect` found, measured and drawn; no network runs here.

The headline of the whole run is written here too, not by the report: the report's page has seconds and a commit in it,
and DVC brings a page back only where all outputs of its stage are in the cache.
"""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("evaluate: stages run from the project's root as: python -m stages.evaluate")

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.core import paths
from src.core.errors import invalid
from src.core.files import atomic_write, read_json, write_json
from src.core.params import Params
from src.core.runtime import environment_info
from src.core.stage import run
from src.data.dataset import DatasetFile
from src.evaluation.analysis import SecondStageAnalysis, read_analyses, read_detections
from src.evaluation.classifier import confusion_rows
from src.evaluation.detection import DetectionMetrics, curve_rows, evaluate_detections
from src.evaluation.detector_comparison import compare
from src.evaluation.explorer import describe, settings
from src.evaluation.headline import headline_numbers, provenance
from src.evaluation.instances import GroundTruth, Instances, coco_ground_truth, coco_results
from src.evaluation.results import EvaluationResults, evaluate_detector
from src.figures import evaluation as figures
from src.figures.album import Album
from src.figures.detectors import Apart, plot_apart
from src.figures.view import LARGEST_PANEL, View
from src.structures.classes import Classes
from src.structures.detector import MASK_RCNN, ONE_STAGE

PLOTS = paths.plots("evaluate")
REFINED_SHOWN = 3  # detections per image whose proposals are drawn
EXPLORER_ROOM = 5_500_000  # bytes of the report that its explorer may take for the test images
SIDE_BY_SIDE = 2  # images drawn in which one detector finds what the other misses, and as many the other way round


def main(params: Params) -> None:
    """Measures, then draws."""
    analyses, others = list(read_analyses(paths.DETECTIONS)), list(read_detections(paths.ONE_STAGE_DETECTIONS))
    with DatasetFile(paths.DATASET) as dataset:
        rows = dataset.indices(params.evaluate.split)
        truth = [GroundTruth.from_dataset(dataset, row, number) for number, row in enumerate(rows, start=1)]
        for path, lines in ((paths.DETECTIONS, analyses), (paths.ONE_STAGE_DETECTIONS, others)):
            if len(lines) != len(truth):
                expected = f"a line for each of {len(truth)} {params.evaluate.split} images"
                raise invalid(path, expected, len(lines))
        classes = dataset.classes
        results = evaluate_detector(truth, analyses, classes, params)
        pick = results.unannotated.picture if results.unannotated else 0
        shown = [number for number, image in enumerate(truth) if len(image.boxes)][: params.report.images]
        images = {number: drawn(dataset, rows[number]) for number in {*shown, pick}}
    write_numbers({**results.as_metrics(), "conditions": environment_info(params.runtime)})
    write_table(PLOTS / "precision_recall.csv", curve_rows(results.score))
    write_table(PLOTS / "confusion.csv", confusion_rows(results.classifier), ["actual", "predicted"])
    write_table(PLOTS / "funnel.csv", results.funnel.rows())
    figures.plot_confusion(results.classifier, PLOTS / "confusion.png")
    figures.plot_funnel(results.funnel, PLOTS / "funnel.png")
    figures.plot_precision_recall(results.score, PLOTS / "precision_recall.png")
    figures.plot_halves(results.halves, PLOTS / "halves.png")
    fill_explorer(truth, rows, analyses, results, params.predict.score_threshold)
    found = {MASK_RCNN: [one.found[results.border] for one in analyses], ONE_STAGE: [one.found for one in others]}
    put_side_by_side(truth, rows, found, results.score, classes)
    shown_scenes = scenes(images, truth, analyses, results.border)
    draw(shown_scenes, shown, results, classes, params.predict.score_threshold)


def write_numbers(evaluated: dict[str, Any]) -> None:
    """What was measured here, and the headline of all parts with what it was measured on."""
    write_json(paths.metrics("evaluate"), evaluated)
    others = {name: read_json(paths.metrics(name)) for name in ("ingest", "rpn", "backbone")}
    write_json(paths.SUMMARY, headline_numbers({**others, "evaluate": evaluated}))
    write_json(paths.PROVENANCE, provenance({**others, "evaluate": evaluated}))


def drawn(dataset: DatasetFile, row: int) -> np.ndarray:
    """An image as a figure shows it."""
    return View.of(*dataset.source_size(row), largest=LARGEST_PANEL).picture(dataset.image(row))


def put_side_by_side(
    truth: Sequence[GroundTruth],
    rows: Sequence[int],
    found: dict[str, list[Instances]],
    score: DetectionMetrics,
    classes: Classes,
) -> None:
    """Both detectors' numbers, and images in which one finds what the other misses.

    Args:
        truth: the images.
        rows: of the dataset file, in which they stand.
        found: by each detector.
        score: of the two-stage detector, which is measured already.
        classes: of the data set.
    """
    other = evaluate_detections(coco_ground_truth(truth, classes), coco_results(truth, found[ONE_STAGE]))
    comparison = compare(truth, found, {MASK_RCNN: score, ONE_STAGE: other}, classes)
    write_json(paths.COMPARISON, comparison.as_metrics())
    chosen = list(dict.fromkeys(number for place in (0, 1) for number in comparison.only(place)[:SIDE_BY_SIDE]))
    with DatasetFile(paths.DATASET) as dataset:
        apart = [
            Apart(
                drawn(dataset, rows[number]),
                truth[number],
                {name: one.operating.surest(found[name][number]) for name, one in comparison.detectors.items()},
                np.logical_xor(*comparison.found[number]),
            )
            for number in chosen
        ]
    plot_apart(apart, classes, PLOTS / "detectors.png")


def fill_explorer(
    truth: Sequence[GroundTruth],
    rows: Sequence[int],
    analyses: Sequence[SecondStageAnalysis],
    results: EvaluationResults,
    score_threshold: float,
) -> None:
    """Every image that fits, with all that the report's explorer shows of it.

    Args:
        truth: the images.
        rows: of the dataset file, in which they stand.
        analyses: of the images.
        results: for the border rule.
        score_threshold: of the detections that are counted elsewhere.
    """
    album = Album(EXPLORER_ROOM, len(truth))
    with DatasetFile(paths.DATASET) as dataset:
        for place, (image, analysis) in enumerate(zip(truth, analyses, strict=True)):
            if album.is_full:
                album.leave_out(len(truth) - place)
                break
            album.add(dataset.image(rows[place]), describe(image, analysis, results.border))
        album.write(paths.EXPLORER, **settings(dataset.classes, score_threshold))


def scenes(
    images: dict[int, np.ndarray], truth: Sequence[GroundTruth], analyses: Sequence[SecondStageAnalysis], border: str
) -> dict[int, figures.Scene]:
    """The test images that are drawn, by their numbers, with what they hold and what was found."""
    return {
        number: figures.Scene(image, truth[number], analyses[number].found[border]) for number, image in images.items()
    }


def draw(
    all_scenes: dict[int, figures.Scene],
    shown: Sequence[int],
    results: EvaluationResults,
    classes: Classes,
    score_threshold: float,
) -> None:
    """The fixed test images with what was found, how boxes were refined, and the object nobody annotated."""
    fixed = [all_scenes[number] for number in shown]
    figures.plot_detections(fixed, classes, score_threshold, PLOTS / "detections.png")
    figures.plot_before_after(fixed, classes, REFINED_SHOWN, PLOTS / "before_after.png")
    pick = results.unannotated
    figures.plot_unannotated(all_scenes[pick.picture if pick else 0], pick, classes, PLOTS / "unannotated.png")


def write_table(path: Path, rows: list[dict[str, Any]], columns: list[str] | None = None) -> None:
    """Writes rows as csv, atomically."""
    with atomic_write(path) as temporary:
        pd.DataFrame(rows, columns=columns).to_csv(temporary, index=False, float_format="%.6g")


if __name__ == "__main__":
    run("evaluate", main)
