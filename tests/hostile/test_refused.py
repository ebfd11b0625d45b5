"""Every case of broken input, given to the stage that meets it: one line, status 1, no file touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from src.core import paths
from src.core.files import write_json, write_text
from src.core.params import Params
from src.detector import weights
from src.evaluation.predictor import Predictor
from stages.anchors import __main__ as anchors
from stages.backbone import __main__ as backbone
from stages.evaluate_rpn import __main__ as evaluate_rpn
from stages.ingest import __main__ as ingest
from stages.joint import __main__ as joint
from stages.predict import __main__ as predict
from stages.source import __main__ as source
from tests.detector.small import TORCHVISION_PROPOSALS, backbone_params
from tests.factories import make_prepared
from tests.hostile import cases_checkpoints, cases_coco, cases_course, cases_params, cases_pickles, cases_pictures
from tests.hostile.case import PROJECT, Case, Stage, check_line, files, lay_out, params_text

COURSE = cases_course.CASES | cases_pickles.CASES
Networks = tuple[nn.Module, nn.Module]


def predict_without_model(params: Params) -> None:
    """A good picture, and the file of an earlier run in the place of the model."""
    paths.OWN_PICTURES.mkdir(exist_ok=True)
    Predictor.load(params)


def refuses_set(stage: Stage, good: Path, kind: str, case: Case, **changes: Any) -> None:
    root = stage.folder / "input"
    shutil.copytree(good, root)
    case.spoil(root)
    lay_out(stage.folder, params_text(data__source=kind, **changes))
    stage.refuses("ingest", ingest.main, *case.words)


@pytest.mark.parametrize("name", COURSE)
def test_course(stage: Stage, course: Path, name: str) -> None:
    refuses_set(stage, course, "course", COURSE[name])


@pytest.mark.parametrize("name", cases_coco.CASES)
def test_coco_read_strictly(stage: Stage, coco: Path, name: str) -> None:
    refuses_set(stage, coco, "coco", cases_coco.CASES[name], data__strict=True)


@pytest.mark.parametrize("name", sorted(cases_coco.STAYS_REFUSED))
def test_coco(stage: Stage, coco: Path, name: str) -> None:
    refuses_set(stage, coco, "coco", cases_coco.CASES[name])


@pytest.mark.parametrize("name", cases_pictures.CASES)
def test_picture(stage: Stage, name: str) -> None:
    """One picture by name; then as all that is in the folder."""
    case = cases_pictures.CASES[name]
    lay_out(stage.folder, params_text())
    case.spoil(stage.folder)
    stage.refuses("predict", lambda params: predict.predict_named([cases_pictures.NAME], params), *case.words)
    if (stage.folder / cases_pictures.NAME).is_file():
        folder = stage.folder / "pictures"
        folder.mkdir()
        (stage.folder / cases_pictures.NAME).rename(folder / cases_pictures.NAME)
        stage.refuses("predict", predict.main, *case.words)


def test_picture_with_a_name_that_is_no_text(stage: Stage) -> None:
    lay_out(stage.folder, params_text())
    (stage.folder / "pictures").mkdir()
    try:
        (stage.folder / "pictures" / os.fsdecode(b"caf\xe9.png")).write_bytes(cases_pictures.encoded("png"))
    except OSError:
        pytest.skip("this disk takes no such names")
    stage.refuses("predict", predict.main, "a file name in UTF-8", r"caf\udce9.png")


@pytest.mark.parametrize("name", cases_params.CASES)
def test_params(stage: Stage, name: str) -> None:
    text, words = cases_params.CASES[name]
    lay_out(stage.folder, text)
    stage.refuses("ingest", ingest.main, *words)


@pytest.fixture(scope="module")
def networks() -> Networks:
    """ResNet-50 and RPN, made once: a refused checkpoint leaves nothing in them that the next one would notice."""
    params = backbone_params(weights=cases_checkpoints.NAME)
    return weights.assemble(params, TORCHVISION_PROPOSALS, pretrained=False)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared file, which names the classes that a head is for."""
    return make_prepared(tmp_path_factory.mktemp("prepared"), images=3)


@pytest.mark.parametrize("name", cases_checkpoints.CASES)
def test_checkpoint(
    stage: Stage, networks: Networks, prepared: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    spoil, words = cases_checkpoints.CASES[name]
    monkeypatch.setattr(weights, "assemble", lambda *arguments, **options: networks)
    lay_out(stage.folder, params_text(backbone__name="resnet50", backbone__weights=cases_checkpoints.NAME))
    shutil.copy(prepared, stage.folder / paths.PREPARED)
    spoil(stage.folder, cases_checkpoints.zeros(dict(zip(("backbone", "rpn"), networks, strict=True))))
    stage.refuses("backbone", backbone.main, *words)


def test_a_good_checkpoint_is_no_case(stage: Stage, networks: Networks) -> None:
    """What the cases spoil loads."""
    states = cases_checkpoints.zeros(dict(zip(("backbone", "rpn"), networks, strict=True)))
    cases_checkpoints.save(stage.folder, states)
    weights.load_states(*networks, weights.read_checkpoint(Path(cases_checkpoints.NAME)), "here")


@pytest.mark.parametrize(
    ("values", "work", "words"),
    [
        ({"data__source": "course", "data__root": "nowhere"}, source.main, ("a folder for 'data.root'", "nowhere")),
        ({"data__source": "coco", "data__root": "data/dataset.h5"}, source.main, ("a folder for 'data.root'",)),
        ({"anchors__count": 9}, anchors.main, ("anchors.count is 9", "lower it or raise anchors.bins")),
        ({}, evaluate_rpn.main, ("models/rpn.pt: expected a checkpoint of tensors only",)),
        ({}, joint.main, ("models/backbone.pt: expected a checkpoint of tensors only",)),
        ({}, predict_without_model, ("models/detector.pt: expected a checkpoint of tensors only",)),
    ],
)
def test_other_stages(
    stage: Stage, values: dict[str, Any], work: Callable[[Params], None], words: tuple[str, ...]
) -> None:
    lay_out(stage.folder, params_text(**values))
    if work in (anchors.main, evaluate_rpn.main, joint.main):
        make_prepared(stage.folder / "data", images=3)
        write_json(stage.folder / paths.ANCHORS, {"anchors": [[32.0, 32.0]]})
        write_text(stage.folder / paths.PLAIN_RPN, "of an earlier run")
    name = "predict" if work is predict_without_model else work.__module__.split(".")[1]  # stages.<name>.__main__
    stage.refuses(name, work, *words)


def in_a_process(stage: Stage, name: str, *arguments: str) -> str:
    """Runs `python -m stages.<name>`, which must fail and touch no file; returns its stderr."""
    before = files(stage.folder)
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", f"stages.{name}", *arguments]
    done = subprocess.run(command, cwd=stage.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert files(stage.folder) == before
    return done.stderr


@pytest.mark.parametrize("name", ["os.system", "masks in another order"])
def test_as_a_process_ingest(stage: Stage, course: Path, name: str) -> None:
    shutil.copytree(course, stage.folder / "input")
    COURSE[name].spoil(stage.folder / "input")
    lay_out(stage.folder, params_text(data__source="course"))
    check_line("ingest", in_a_process(stage, "ingest").removesuffix("\n"), COURSE[name].words)


def test_as_a_process_predict(stage: Stage) -> None:
    lay_out(stage.folder, params_text())
    cases_pictures.CASES["half a jpeg"].spoil(stage.folder)
    check_line(
        "predict", in_a_process(stage, "predict", cases_pictures.NAME).removesuffix("\n"), (cases_pictures.NAME,)
    )


def test_as_a_process_params(stage: Stage) -> None:
    text, words = cases_params.CASES["unknown key"]
    lay_out(stage.folder, text)
    check_line("rpn", in_a_process(stage, "rpn").removesuffix("\n"), words)


def test_the_table_is_long() -> None:
    tables = (COURSE, cases_coco.CASES, cases_pictures.CASES, cases_params.CASES, cases_checkpoints.CASES)
    assert sum(map(len, tables)) >= 60
