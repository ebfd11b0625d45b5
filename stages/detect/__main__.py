"""Stage `detect` (task 15): the detector on every test image; what it found is written in the images' own pixels."""

from __future__ import annotations

if not __package__:  # started as a file, it would find no src
    raise SystemExit("detect: stages run from the project's root as: python -m stages.detect")

from collections.abc import Iterator, Sequence

from tqdm import tqdm

from src.core import paths
from src.core.files import write_json
from src.core.params import Params
from src.core.processes import gather, leave_to_first, share_out
from src.core.runtime import make_fabric
from src.core.stage import run
from src.data.dataset import DatasetFile
from src.data.prepared import PreparedFile
from src.evaluation.analysis import SecondStageAnalysis, read_analyses, write_analyses
from src.evaluation.instances import GroundTruth, coco_ground_truth, coco_results
from src.evaluation.predictor import Predictor
from src.evaluation.second_stage import analyze
from src.structures.classes import require_same


def main(params: Params) -> None:
    """Runs the detector; writes detections and ground truth, also in COCO's formats for other tools."""
    split = params.evaluate.split
    with PreparedFile(paths.PREPARED) as prepared:
        rows = prepared.indices(split)
        fabric = make_fabric(params.runtime, share=len(rows))
        predictor = Predictor.load(params, fabric)
        require_same(predictor.classes, prepared.classes, paths.DETECTOR)
        found = gather(fabric, analyses(predictor, prepared, share_out(fabric, rows)), len(rows))
        leave_to_first(fabric)
        write_analyses(paths.DETECTIONS, iter(tqdm(found, desc="detect", total=len(rows), unit="image")))
    with DatasetFile(paths.DATASET) as dataset:
        numbered = enumerate(dataset.indices(split), start=1)
        truth = [GroundTruth.from_dataset(dataset, row, number) for number, row in numbered]
    detections = [image.found[params.evaluate.border] for image in read_analyses(paths.DETECTIONS)]
    write_json(paths.PREDICTIONS, coco_results(truth, detections))
    write_json(paths.GROUND_TRUTH, coco_ground_truth(truth, predictor.classes))


def analyses(predictor: Predictor, prepared: PreparedFile, rows: Sequence[int]) -> Iterator[SecondStageAnalysis]:
    """Of each image in turn."""
    for example in prepared.examples(rows, masks=False):
        yield analyze(predictor, example)


if __name__ == "__main__":
    run("detect", main)
