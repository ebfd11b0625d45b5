"""`metrics/summary.json`: numbers, seconds, provenance."""

import json
import subprocess
from pathlib import Path

import pytest

from src.core.errors import InputError
from src.reporting import summary
from tests.reporting.facts import metrics, write_run


def test_headline_numbers_and_provenance(tmp_path: Path) -> None:
    found = summary.summarize(write_run(tmp_path))
    assert {key: found[key] for key in summary.HEADLINE} == {
        "box_ap": 0.487,
        "box_ap50": 0.782,
        "mask_ap": 0.441,
        "mask_ap50": 0.751,
        "mask_iou": 0.812,
        "rpn_accuracy": 0.912,
        "classifier_accuracy": 0.941,
        "proposal_recall": 0.93,
    }
    assert set(found["measured_on"]) == {
        *("source", "images", "train_images", "test_images", "backbone", "weights"),
        *("precision", "threads", "device", "torch", "python", "commit"),
    }
    assert found["measured_on"]["source"] == "emoji"
    json.dumps(found, allow_nan=False)
    assert "0.782" in summary.headline(found)


def test_undefined_numbers_and_unknown_times(tmp_path: Path) -> None:
    facts = write_run(tmp_path, metrics(rpn__accuracy=None))
    facts.seconds.clear()
    values = {tile["name"]: tile["value"] for tile in summary.tiles(summary.summarize(facts))}
    assert values["RPN accuracy, part (a)"] == "undefined"
    assert values["time of all stages"] == "not known"


def test_seconds_are_read_for_stages_only(tmp_path: Path) -> None:
    (tmp_path / "rpn.json").write_text("12.5")
    (tmp_path / "report.json").write_text("3")
    assert summary.read_seconds(tmp_path) == {"rpn": 12.5}
    assert summary.read_seconds(tmp_path / "none") == {}
    (tmp_path / "rpn.json").write_text('"soon"')
    with pytest.raises(InputError, match=r"rpn\.json: expected a number of seconds"):
        summary.read_seconds(tmp_path)


def test_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert summary.commit(tmp_path) == "unknown"
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, *author, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    assert len(summary.commit(tmp_path)) >= 7
    monkeypatch.setenv("PATH", "")
    assert summary.commit(tmp_path) == "unknown"
