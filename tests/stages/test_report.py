"""The stage `report`: page and summary from the files of the others, or one line about what is missing."""

import json
import shutil
from pathlib import Path

import pytest

from src.core.errors import InputError
from src.core.params import load_params
from stages.report import __main__ as report
from tests.reporting.facts import write_run


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    params = load_params()
    write_run(tmp_path, params=params)
    seconds = tmp_path / ".cache" / "seconds"
    seconds.mkdir(parents=True)
    (seconds / "rpn.json").write_text("61.0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def test_page_summary_and_headline(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = Path(__file__).parents[2] / "params.yaml"
    report.work(load_params(params))
    summary = json.loads((workspace / "metrics/summary.json").read_text())
    assert summary["box_ap50"] == 0.782
    assert summary["seconds"] == {"rpn": 61.0}
    assert (workspace / "report/index.html").stat().st_size > 50_000
    printed = capsys.readouterr().out
    assert str(workspace / "report/index.html") in printed
    assert "0.782" in printed


def test_the_same_run_gives_the_same_page(workspace: Path) -> None:
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    report.work(params)
    first = (workspace / "report/index.html").read_bytes()
    shutil.rmtree(workspace / "report")
    report.work(params)
    assert (workspace / "report/index.html").read_bytes() == first


def test_nothing_is_written_when_a_stage_has_not_run(workspace: Path) -> None:
    (workspace / "metrics/rpn.json").unlink()
    with pytest.raises(InputError, match=r"metrics/rpn\.json: no such file; the stage 'rpn' has not run"):
        report.work(load_params(Path(__file__).parents[2] / "params.yaml"))
    assert not (workspace / "report").exists()
    assert not (workspace / "metrics/summary.json").exists()
