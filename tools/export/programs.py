"""Both files of a detector: `detector.pt2`, which torch.export loads, and `detector.onnx`."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from src.core.errors import InputError, invalid
from src.core.files import atomic_write
from src.core.params import Params
from src.detector.backbones import NORMALIZATIONS
from src.structures.classes import Classes

OPSET: Final = 20  # of ONNX; RoIAlign by pixel centers needs 16
FACTS: Final = "detector"  # the metadata's key in the ONNX file; in the program a file `detector.json`
STRIDE: Final = 32  # of the coarsest map of the body: a canvas is a multiple of it
FEWEST, MOST = 3, 512  # such multiples along a side; below, the pooled level has a single row, which is traced apart
TRACED: Final = (4, 5)  # in such multiples, the canvas that is traced; the programs take others
INPUTS: Final = ("image", "region")
OUTPUTS: Final = ("boxes", "labels", "scores", "masks")
PACKAGES: Final = ("onnx", "onnxscript", "onnxruntime")


def missing_packages() -> list[str]:
    """Those of the extra `export` that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def check_packages() -> None:
    """Refuses to begin without the extra `export`.

    Raises:
        InputError: a package of it is not installed.
    """
    if missing := missing_packages():
        raise InputError(
            f"expected {', '.join(PACKAGES)} to write ONNX, found no {', '.join(missing)}; "
            f"pip install {' '.join(missing)}"
        )


def check_canvas(params: Params) -> None:
    """Refuses a canvas that the programs do not take.

    Raises:
        InputError: a side is too short or too long.
    """
    for name in ("height", "padded_width"):
        side = getattr(params.prepare, name)
        if not FEWEST * STRIDE <= side <= MOST * STRIDE:
            expected = f"{FEWEST * STRIDE} to {MOST * STRIDE} for 'prepare.{name}' of a detector that is exported"
            raise invalid("params.yaml", expected, side)


def facts_of(params: Params, classes: Classes) -> dict[str, Any]:
    """What a program needs around the graph: canvas, normalization, classes from label 1 on, thresholds."""
    normalization = NORMALIZATIONS[params.backbone.name]
    return {
        "height": params.prepare.height,
        "width": params.prepare.width,
        "padded_width": params.prepare.padded_width,
        "mean": list(normalization.mean),
        "std": list(normalization.std),
        "classes": list(classes.names),
        "score_threshold": params.predict.score_threshold,
        "mask_threshold": params.evaluate.mask_threshold,
        "opset": OPSET,
    }


def trace(graph: nn.Module) -> ExportedProgram:
    """The graph for canvases of any size: multiples of 32 from 96 to 16,384 along each side."""
    rows, columns = (Dim(name, min=FEWEST, max=MOST) for name in ("rows", "columns"))
    height, width = (count * STRIDE for count in TRACED)
    example = torch.zeros(1, 3, height, width), torch.tensor([0.0, 0.0, width, height])
    shapes = {"image": {2: STRIDE * rows, 3: STRIDE * columns}, "region": None}
    with _quietly(), torch.no_grad():
        return torch.export.export(graph.eval(), example, dynamic_shapes=shapes)


def write_program(program: ExportedProgram, facts: Mapping[str, Any], path: Path) -> None:
    """Writes a `.pt2`, which needs torch and torchvision to be loaded."""
    with _quietly(), atomic_write(path) as temporary:
        torch.export.save(program, temporary, extra_files={f"{FACTS}.json": json.dumps(facts)})


def write_onnx(program: ExportedProgram, facts: Mapping[str, Any], path: Path) -> None:
    """Writes one ONNX file, weights and metadata in it."""
    with _quietly():
        onnx = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, input_names=INPUTS, output_names=OUTPUTS, verbose=False
        )
    assert onnx is not None
    model = onnx.model
    model.metadata_props[FACTS] = json.dumps(facts)
    model.doc_string = (
        f"{', '.join(INPUTS)} to {', '.join(OUTPUTS)}; metadata '{FACTS}' has canvas, classes, thresholds"
    )
    _name_sizes(model)
    with atomic_write(path) as temporary:
        onnx.save(temporary, external_data=False)


def _name_sizes(model: Any) -> None:
    """In place of the tracer's names, which are formulas."""
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.inputs[0].shape[axis] = name
    for output in model.graph.outputs:
        output.shape[0] = "detections"


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the tracer's advice to torchvision's authors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
