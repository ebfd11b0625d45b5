"""The exported files beside the pipeline, on test images and on pictures of other sizes; traced once for all tests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from PIL import Image
from torch import Tensor

from src.data.dataset import DatasetFile
from src.data.letterbox import Letterbox
from src.evaluation.predictor import Predictor, to_source
from src.evaluation.rle import decode_masks
from src.sources.assignment import CLASSES
from src.structures.detections import Detections
from tests.factories import SMALL, make_samples
from tests.tools.export.project import HAS_ONNX, export, params, spread_detector, write_project
from tools.export.graph import DetectorGraph
from tools.export.parity import Parity, as_instances, compare

needs_onnx = pytest.mark.skipif(
    not HAS_ONNX, reason="onnx, onnxscript and onnxruntime, the extra `export`, are missing"
)
pytestmark = pytest.mark.timeout(1800)  # tracing takes a minute or two, and far longer beside other work
CANVASES = [(96, 160), (128, 96), (224, 352)]
REGIONS = [(16.0, 0.0, 80.0, 96.0), (0.0, 0.0, 0.0, 0.0), (20.0, 20.0, 26.0, 26.0)]  # the second holds nothing
KINDS = ["program", pytest.param("onnx", marks=needs_onnx)]
Run = Callable[[Tensor, Tensor], list[Tensor]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_project(tmp_path_factory.mktemp("project"))
    done = export(folder)
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "said.txt").write_text(done.stdout, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, Run]:
    """What runs each file."""
    program = torch.export.load(folder / "export/detector.pt2").module()
    found: dict[str, Run] = {"program": lambda image, region: list(program(image, region))}
    if HAS_ONNX:
        session = open_session(folder)

        def run(image: Tensor, region: Tensor) -> list[Tensor]:
            outputs = session.run(None, {"image": image.numpy(), "region": region.numpy()})
            return [torch.from_numpy(output) for output in outputs]

        found["onnx"] = run
    return found


def open_session(folder: Path) -> Any:
    import onnxruntime  # noqa: PLC0415 - an optional extra

    return onnxruntime.InferenceSession(folder / "export/detector.onnx")


@pytest.fixture(scope="module")
def predictor() -> Predictor[Any]:
    model = spread_detector().requires_grad_(False)
    model.params = params()
    return Predictor(model, CLASSES, Fabric(accelerator="cpu", devices=1, precision="32-true"), params())


def sample_pictures(folder: Path) -> list[np.ndarray]:
    with DatasetFile(folder / "data/dataset.h5") as dataset:
        return [dataset[row].image for row in dataset.indices("test")]


@pytest.mark.parametrize("kind", KINDS)
def test_detections_on_the_test_images_are_the_pipeline_s(
    folder: Path, runs: dict[str, Run], predictor: Predictor[Any], kind: str
) -> None:
    total = Parity()
    for picture in sample_pictures(folder):
        letterbox = Letterbox.from_params(SMALL, *picture.shape[:2])
        canvas = torch.from_numpy(letterbox.image_to_canvas(picture)).permute(2, 0, 1)
        left, top, right, bottom = (int(side) for side in letterbox.region)
        image = torch.zeros(1, 3, *canvas.shape[1:])
        image[0, :, top:bottom, left:right] = canvas[:, top:bottom, left:right] / 127.5 - 1
        boxes, labels, scores, masks = runs[kind](image, torch.tensor(letterbox.region))
        found = to_source(Detections(boxes, labels, scores, boxes, masks), letterbox, params().evaluate.mask_threshold)
        total += compare(predictor.predict(picture), found)
    assert total.holds
    assert (total.pictures, total.expected > 30) == (3, True)
    assert total.score < 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("canvas", CANVASES)
@pytest.mark.parametrize("region", REGIONS)
def test_any_canvas_and_pictures_of_nothing(
    runs: dict[str, Run],
    predictor: Predictor[Any],
    kind: str,
    canvas: tuple[int, int],
    region: tuple[float, float, float, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("src.ops.convolution.has_nnpack", lambda: False)  # noise has many scores alike
    image, where = torch.randn(1, 3, *canvas, generator=torch.Generator().manual_seed(1)), torch.tensor(region)
    with torch.no_grad():
        expected = DetectorGraph(predictor.detector)(image, where)
    found = runs[kind](image, where)
    assert (len(expected[0]) > 3) == (region != REGIONS[1])
    for one, other, tolerance in zip(found, expected, (1e-2, 0, 1e-4, 1e-3), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("shape", [(1, 3, 64, 96), (1, 3, 96, 16416), (2, 3, 96, 160)])
def test_other_canvases_are_refused_by_the_program(runs: dict[str, Run], shape: tuple[int, ...]) -> None:
    with pytest.raises(Exception, match=r"image|shape|Guard"):  # torch's own words
        runs["program"](torch.zeros(shape), torch.tensor(REGIONS[0]))


@needs_onnx
@pytest.mark.parametrize("size", [(300, 400), (97, 130), (250, 90), (800, 61), (1, 1)])
def test_the_example_predicts_as_the_pipeline(folder: Path, predictor: Predictor[Any], size: tuple[int, int]) -> None:
    from tools.export.example import detect  # noqa: PLC0415 - it needs the extra

    picture = np.resize(make_samples(1)[0].image, (*size, 3))
    found = as_instances(detect(open_session(folder), Image.fromarray(picture)), CLASSES)
    parity = compare(predictor.predict(picture), found)
    assert parity.holds
    assert parity.expected > 3


@needs_onnx
def test_the_example_runs_where_there_is_no_project(folder: Path, predictor: Predictor[Any], tmp_path: Path) -> None:
    """Only numpy, PIL and onnxruntime are imported; the picture is upright by its EXIF orientation."""
    for name in ("detect.py", "detector.onnx"):
        (tmp_path / name).symlink_to(folder / "export" / name)
    pixels, exif = sample_pictures(folder)[0], Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels[::-1, ::-1]).save(tmp_path / "my.png", exif=exif)
    watch = "import runpy, sys; sys.argv[1:] = ['my.png']; runpy.run_path('detect.py', run_name='__main__')"
    text = f"{watch}; assert not {{'torch', 'src', 'tools', 'onnx'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    expected = predictor.predict(pixels)
    assert expected.masks is not None
    areas = decode_masks(expected.masks, *pixels.shape[:2]).sum(axis=(1, 2))
    lines = done.stdout.splitlines()
    assert len(lines) == len(expected) > 3
    for line, label, score, area in zip(lines, expected.labels, expected.scores, areas, strict=True):
        name, probability, pixel_count = re.fullmatch(r"(\w+) ([\d.]+), box .*, (\d+) pixels", line).groups()  # type: ignore[union-attr]
        assert (name, float(probability)) == (CLASSES.name_of(int(label)), pytest.approx(float(score), abs=0.006))
        assert int(pixel_count) == pytest.approx(int(area), abs=5)


@needs_onnx
def test_the_onnx_file_names_what_it_is(folder: Path) -> None:
    session = open_session(folder)
    names = {"image": [1, 3, "height", "width"], "region": [4]}
    assert {entry.name: entry.shape for entry in session.get_inputs()} == names
    assert [entry.name for entry in session.get_outputs()] == ["boxes", "labels", "scores", "masks"]
    facts = json.loads(session.get_modelmeta().custom_metadata_map["detector"])
    assert facts == {
        "height": 96,
        "width": 128,
        "padded_width": 160,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "classes": list(CLASSES.names),
        "score_threshold": 0.0,
        "mask_threshold": 0.45,
        "opset": 20,
    }
    import onnx  # noqa: PLC0415 - an optional extra

    model = onnx.load(folder / "export/detector.onnx")
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 20}
    onnx.checker.check_model(model)
    stored: dict[str, Any] = {"detector.json": ""}
    torch.export.load(folder / "export/detector.pt2", extra_files=stored)
    assert json.loads(stored["detector.json"]) == facts


@needs_onnx
def test_make_export_says_what_it_wrote(folder: Path) -> None:
    said = (folder / "said.txt").read_text(encoding="utf-8")
    files = {path.name for path in (folder / "export").iterdir()}
    assert files == {"detector.pt2", "detector.onnx", "detect.py", "MODEL_CARD.md"}
    assert all(name in said for name in files)
    agreement = re.search(r"(\d+) of (\d+) detections are the pipeline's \((\d+) found\)", said)
    assert agreement is not None
    assert len(set(agreement.groups())) == 1
    assert agreement.group() in (folder / "export/MODEL_CARD.md").read_text(encoding="utf-8")
