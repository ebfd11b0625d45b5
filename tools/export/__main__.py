"""Writes the trained detector for use outside the pipeline: `make export`, or `python -m tools.export`.

Into `export/`: `detector.pt2` (torch.export), `detector.onnx`, `detect.py` that runs the latter, `MODEL_CARD.md`. Both
programs are float32. Before the card is written, the example is run on test images beside the pipeline's own detector.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import torch
from lightning_fabric import Fabric
from PIL import Image

from src.core import paths
from src.core.errors import InputError, one_line
from src.core.files import atomic_write, write_text
from src.core.params import Params
from src.core.params_file import load_params
from src.data.dataset import DatasetFile
from src.detector.checkpoints import load_detector
from src.detector.mask_rcnn import MaskRCNN
from src.evaluation.predictor import Predictor
from src.reporting.run_results import RunResults
from tools.export import programs
from tools.export.card import model_card
from tools.export.graph import DetectorGraph
from tools.export.parity import Parity, as_instances, compare, in_words

FOLDER: Final = Path("export")


def main() -> int:
    """Writes the folder; gives the exit status."""
    try:
        export(load_params())
    except (InputError, OSError, MemoryError) as error:
        print(f"export: {one_line(error) or 'not enough memory'}", file=sys.stderr)
        return 1
    return 0


def export(params: Params) -> None:
    """Writes all four files; nothing where a package, the detector or a file of the run is missing.

    Raises:
        InputError: one of them is missing or broken, or the canvas is none that the programs take.
    """
    programs.check_packages()
    programs.check_canvas(params)
    run = RunResults(Path(), params, charts=Path())
    model_card(run, Parity())  # which refuses a run that is not whole, before minutes of work
    detector, classes = load_detector(params, torch.get_default_device())
    facts = programs.facts_of(params, classes)
    traced = programs.trace(DetectorGraph(detector))
    programs.write_program(traced, facts, FOLDER / "detector.pt2")
    print(f"{FOLDER / 'detector.pt2'}: for torch.export.load, with torch and torchvision", flush=True)
    programs.write_onnx(traced, facts, FOLDER / "detector.onnx")
    with atomic_write(FOLDER / "detect.py") as temporary:
        shutil.copyfile(Path(__file__).with_name("example.py"), temporary)
    parity = check(Predictor(detector, classes, one_device(), params), FOLDER / "detector.onnx")
    write_text(FOLDER / "MODEL_CARD.md", model_card(run, parity))
    print(f"{FOLDER / 'detector.onnx'}: ONNX, opset {programs.OPSET}; on {parity.pictures} pictures {in_words(parity)}")
    print(f"{FOLDER / 'detect.py'}, {FOLDER / 'MODEL_CARD.md'}")


def one_device() -> Fabric:
    """In float32, as the programs are."""
    return Fabric(accelerator=torch.get_default_device().type, devices=1, precision="32-true")


def check(predictor: Predictor[MaskRCNN], path: Path) -> Parity:
    """The example with the ONNX file beside the pipeline on the first test images, in their own pixels."""
    import onnxruntime  # noqa: PLC0415 - an optional extra

    from tools.export.example import detect  # noqa: PLC0415 - which needs it

    params = predictor.params
    whole = dataclasses.replace(params, predict=dataclasses.replace(params.predict, tile=0))
    predictor, session, total = (
        dataclasses.replace(predictor, params=whole),
        onnxruntime.InferenceSession(path),
        Parity(),
    )
    with DatasetFile(paths.DATASET) as dataset:
        for row in dataset.indices(params.evaluate.split)[: params.report.images]:
            picture: Any = dataset[row].image
            found = as_instances(detect(session, Image.fromarray(picture)), predictor.classes)
            total += compare(predictor.predict(picture), found)
    return total


if __name__ == "__main__":
    sys.exit(main())
