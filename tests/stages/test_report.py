"""The stage `report`: the page from the files of the others, or one line about what is missing."""

import shutil
from pathlib import Path

import pytest

from src.core.errors import InputError
from src.core.params_file import load_params
from src.reporting import provenance
from stages.report import __main__ as report
from tests.reporting.runs import write_run
from tests.stages.workspace import ROOT


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


def test_page_and_headline(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {path: path.read_bytes() for path in (workspace / "metrics").iterdir()}
    report.main(load_params(ROOT / "params.yaml"))
    assert {path: path.read_bytes() for path in (workspace / "metrics").iterdir()} == metrics
    assert (workspace / "report/index.html").stat().st_size > 50_000
    printed = capsys.readouterr().out
    assert str(workspace / "report/index.html") in printed
    assert "0.782" in printed
    assert "61 s" in printed


def test_a_temporary_run_names_no_folder_that_is_deleted(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(workspace.parent))
    report.main(load_params(ROOT / "params.yaml"))
    printed = capsys.readouterr().out
    assert str(workspace) not in printed
    assert "dvc exp apply" in printed


def test_cost_and_commit_are_in_the_page(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "commit", lambda root: "abc1234")
    (workspace / ".cache/seconds/rpn.json").write_text("7000.0")
    (workspace / ".cache/memory").mkdir()
    (workspace / ".cache/memory/rpn.json").write_text("2345678901")
    report.main(load_params(ROOT / "params.yaml"))
    page = (workspace / "report/index.html").read_text()
    assert "abc1234" in page
    assert "1.9 h" in page
    assert "2.3 GB" in page


def test_the_same_run_gives_the_same_page(workspace: Path) -> None:
    params = load_params(ROOT / "params.yaml")
    report.main(params)
    first = (workspace / "report/index.html").read_bytes()
    shutil.rmtree(workspace / "report")
    report.main(params)
    assert (workspace / "report/index.html").read_bytes() == first


def test_nothing_is_written_when_a_stage_has_not_run(workspace: Path) -> None:
    (workspace / "metrics/rpn.json").unlink()
    with pytest.raises(InputError, match=r"metrics/rpn\.json: no such file; the stage 'rpn' has not run"):
        report.main(load_params(ROOT / "params.yaml"))
    assert not (workspace / "report").exists()
