"""Whole runs with one class and with twelve: every file and the report have the set's own names and number."""

from __future__ import annotations

import html
import re

import pandas as pd
import pytest
import torch

from tests.pipeline.conftest import ONE_CLASS, OWN, Run, Runs
from tests.pipeline.workspace import MINUTES

pytestmark = pytest.mark.timeout(2 * 60 * MINUTES)  # the first test waits for whole runs
NAMES = {"coco": list(OWN), ONE_CLASS: ["thing"]}


@pytest.fixture(scope="session", params=NAMES)
def finished(request: pytest.FixtureRequest, runs: Runs) -> Run:
    """Both runs in turn."""
    for source in NAMES:
        runs.begin(source)
    return runs(request.param)


@pytest.fixture
def names(finished: Run) -> list[str]:
    return NAMES["coco" if finished.workspace.root.name == "coco" else ONE_CLASS]


def test_metrics_are_of_the_set_s_classes(finished: Run, names: list[str]) -> None:
    ingest, anchors, evaluate = (
        finished.workspace.json(f"metrics/{n}.json") for n in ("ingest", "anchors", "evaluate")
    )
    assert list(ingest["split"]) == list(anchors["by_class"]) == list(evaluate["by_class"]) == names
    assert list(evaluate["classifier"]["by_class"]) == ["background", *names]
    assert {len(row) for row in evaluate["classifier"]["confusion"]} == {len(names) + 1}
    truth = finished.workspace.json("data/ground_truth.json")
    assert truth["categories"] == [{"id": label, "name": name} for label, name in enumerate(names, 1)]
    found = {entry["class"] for one in finished.workspace.json("data/pictures.json") for entry in one["detections"]}
    assert found <= set(names)


def test_models_are_as_wide_as_the_set_and_say_so(finished: Run, names: list[str]) -> None:
    for file in ("backbone", "box_head", "mask_head", "detector"):
        saved = torch.load(finished.workspace.root / f"models/{file}.pt", weights_only=True)
        assert saved["classes"] == names
        assert len(saved["box_head"]["cls_score.weight"]) == len(names) + 1


def test_plots_name_the_classes(finished: Run, names: list[str]) -> None:
    for file in ("scale", "ratio"):
        table = pd.read_csv(finished.workspace.root / f"plots/anchors/{file}.csv")
        assert table["class"].drop_duplicates().tolist() == names
    curves = pd.read_csv(finished.workspace.root / "plots/evaluate/precision_recall.csv")
    assert set(curves["class"]) <= set(names)


def test_the_report_speaks_of_them(finished: Run, names: list[str]) -> None:
    page = (finished.workspace.root / "report/index.html").read_text(encoding="utf-8")
    text = html.unescape(re.sub(r"<[^>]*>", " ", re.sub(r"data:image/[^\"]*", "", page)))
    assert [name for name in names if name not in text] == []
    assert re.findall(r"\b(vehicles?|animals?|three classes)\b", text) == []
    kinds = f"{len(names)} {'class' if len(names) == 1 else 'classes'}"
    assert f"of {kinds}" in text


def test_a_model_of_other_classes_is_refused_in_one_line(finished: Run, names: list[str]) -> None:
    root = finished.workspace.root
    kept = (root / "models/mask_head.pt").read_bytes()
    saved = torch.load(root / "models/mask_head.pt", weights_only=True)
    torch.save(saved | {"classes": ["other", *names[1:]]}, root / "models/mask_head.pt")
    try:
        output = finished.workspace.run("python", "-m", "stages.joint", fails=True)
    finally:
        (root / "models/mask_head.pt").write_bytes(kept)
    assert output.strip().splitlines()[-1].endswith("found 'other'")
    assert "Traceback" not in output
