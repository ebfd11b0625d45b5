"""Sets of settings: what is written into params.yaml, what is refused, and that a run puts the file back."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from src.core.params_file import leaves, load_params
from tests.structure.project import PROJECT
from tools import parallel, settings
from tools.sessions import INTERRUPTED

SHIPPED = sorted((PROJECT / "settings").glob("*.yaml"))
SMALL = """# Half the scenes, smaller anchors.
data:
  emoji:
    train: 128
backbone:
  anchor_sizes: [16, 32, 64, 128, 256]
report:
  settings: small
"""
CHANGED = {"data.emoji.train": 128, "backbone.anchor_sizes": [16, 32, 64, 128, 256], "report.settings": "small"}


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The content of params.yaml in a folder that also has settings/small.yaml, and that the test moves to."""
    shutil.copy(PROJECT / "params.yaml", tmp_path / "params.yaml")
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings/small.yaml").write_text(SMALL, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return settings.PARAMS.read_bytes()


def values(text: bytes | str) -> dict[str, Any]:
    """Dotted keys and values of a YAML text."""
    return dict(leaves(YAML(typ="safe", pure=True).load(text)))


def comments(text: str) -> list[str]:
    return re.findall(r"#.*", text)


def test_only_the_named_keys_change_and_every_comment_stays(before: bytes) -> None:
    assert settings.main(["apply", "small"]) == 0
    after = settings.PARAMS.read_text(encoding="utf-8")
    assert values(after) == values(before) | CHANGED
    assert comments(after) == comments(before.decode()) != []
    old, new = before.decode().splitlines(), after.splitlines()
    assert len(new) == len(old)  # no value takes lines of its own
    changed = [line.split(":")[0].strip() for line, other in zip(new, old, strict=True) if line != other]
    assert changed == ["train", *(f"- {size}" for size in CHANGED["backbone.anchor_sizes"]), "settings"]


def test_single_settings_go_over_the_file_s(before: bytes) -> None:
    given = {"data.emoji.train": 7, "joint.loss_weights.mask": 4.5, "data.root": "my photos", "rpn.flip": False}
    texts = ["data.emoji.train=7", "joint.loss_weights.mask=4.5", "data.root=my photos", "rpn.flip=false"]
    assert settings.main(["apply", "small", *texts]) == 0
    assert values(settings.PARAMS.read_bytes()) == values(before) | CHANGED | given


def test_applying_twice_is_applying_once(before: bytes) -> None:
    settings.apply(settings.of_file("small"))
    once = settings.PARAMS.read_bytes()
    settings.apply(settings.of_file("small"))
    assert settings.PARAMS.read_bytes() == once != before


REFUSED = [
    (["small", "rpn.epoch=3"], r"params.yaml has no setting 'rpn.epoch'"),
    (["small", "epochs=3"], r"params.yaml has no setting 'epochs'"),
    (["small", "rpn.epochs.all=3"], r"params.yaml has no setting 'rpn.epochs.all'"),
    (["large"], r"settings/large.yaml: no such file; there are small"),
    (["small", "rpn.epochs"], r"expected key=value, found 'rpn.epochs'"),
    (["small", "rpn.epochs=["], r"rpn.epochs: expected readable YAML, found .*"),
    (["small", "rpn.epochs=many"], r"params.yaml: expected a whole number for 'rpn.epochs', found 'many'"),
    (["small", "rpn.epochs="], r"params.yaml: expected a whole number for 'rpn.epochs', found None"),
    (["small", "rpn={}"], r"params.yaml: missing key 'rpn.epochs'"),
    (["small", "data.root=data"], r"params.yaml: expected for 'data.root' a folder apart from .*, found 'data'"),
    (["small", "prepare.height=300"], r"params.yaml: expected a multiple of 32 for 'prepare.height' .*"),
]


@pytest.mark.parametrize("command", ["apply", "run"])
@pytest.mark.parametrize(("arguments", "expected"), REFUSED)
def test_refused_in_one_line_with_params_untouched(
    command: str,
    arguments: list[str],
    expected: str,
    before: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(subprocess, "Popen", started_by_mistake)
    assert settings.main([command, *arguments]) == 1
    assert_one_line(capsys, expected)
    assert settings.PARAMS.read_bytes() == before
    assert sorted(path.name for path in Path().iterdir()) == ["params.yaml", "settings"]  # and nothing beside it


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", r"settings/small.yaml: expected sections of settings, found NoneType"),
        ("- rpn\n", r"settings/small.yaml: expected sections of settings, found list"),
        ("rpn: [\n", r"settings/small.yaml: expected readable YAML, found .*"),
        ("rpn:\n  epoch: 3\n", r"params.yaml has no setting 'rpn.epoch'"),
        ("rpn:\n  epochs: 3\n  flip: often\n", r"params.yaml: expected true or false for 'rpn.flip', found 'often'"),
    ],
)
def test_a_broken_file_of_settings_is_refused(
    content: str, expected: str, before: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("settings/small.yaml").write_text(content, encoding="utf-8")
    assert settings.main(["apply", "small"]) == 1
    assert_one_line(capsys, expected)
    assert settings.PARAMS.read_bytes() == before


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_refusal_leaves_every_byte(line_end: bytes, before: bytes) -> None:
    """Also where an editor ended the lines in its own way."""
    settings.PARAMS.write_bytes(before.replace(b"\n", line_end))
    assert settings.main(["apply", "small", "rpn.epochs=many"]) == 1
    assert settings.PARAMS.read_bytes() == before.replace(b"\n", line_end)


def test_without_params_the_project_s_root_is_asked_for(before: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    settings.PARAMS.unlink()
    assert settings.main(["apply", "small"]) == 1
    assert_one_line(capsys, r".*No such file or directory: 'params.yaml'")


def assert_one_line(capsys: pytest.CaptureFixture[str], expected: str) -> None:
    """Checks that the tool has printed one line to stderr, and nothing else."""
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(f"settings: {expected}\n", printed.err), printed.err


def started_by_mistake(*arguments: Any, **options: Any) -> None:
    raise AssertionError("a process was started")


def stand_in(monkeypatch: pytest.MonkeyPatch, poll: Callable[[], int | None]) -> list[list[str]]:
    """Has `poll` say how every process stands, in place of a process; gives the commands in order."""
    commands = []

    class Process:
        pid = -1

        def __init__(self, command: list[str], *, start_new_session: bool, **_: Any) -> None:
            assert start_new_session
            commands.append(command[1:])

        def poll(self) -> int | None:
            return poll()

    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    return commands


@pytest.mark.parametrize("status", [0, 1, 255])
def test_a_run_sees_the_settings_and_puts_params_back(
    status: int, before: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def pipeline() -> int:
        seen.append(load_params(settings.PARAMS))
        return status

    commands = stand_in(monkeypatch, pipeline)
    assert settings.main(["run", "small", "joint.loss_weights.mask=4"]) == status
    assert commands == [["-m", "dvc", "repro"]]
    (params,) = seen
    assert (params.data.emoji.train, params.report.settings, params.joint.loss_weights.mask) == (128, "small", 4)
    assert settings.PARAMS.read_bytes() == before


def test_an_interrupted_run_waits_for_the_pipeline_and_puts_params_back(
    before: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = []

    def pipeline() -> int | None:
        waited.append(settings.PARAMS.read_bytes())
        if len(waited) < 4:  # impatient
            signal.raise_signal(signal.SIGINT)
            return None
        return 1

    stand_in(monkeypatch, pipeline)
    assert settings.main(["run", "small"]) == 130
    assert len(waited) > 3
    assert before not in waited  # while the pipeline still ends, its settings stay
    assert settings.PARAMS.read_bytes() == before


@pytest.mark.parametrize("inherited", [signal.default_int_handler, signal.SIG_IGN])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_killed_run_ends_the_pipeline_and_puts_params_back(
    before: bytes, number: signal.Signals, inherited: Any
) -> None:
    """Real processes: a stand-in for DVC, deaf while its stage runs, and a stage that says what interrupted it.

    A shell may have SIGINT ignored.
    """
    Path("dvc.py").write_text(
        "import signal, subprocess, sys\n"
        "stage = subprocess.Popen([sys.executable, 'stage.py'])\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "stage.wait()\n"
    )
    Path("stage.py").write_text(
        "import pathlib, time\n"
        "try:\n"
        "    pathlib.Path('running').touch(); time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    pathlib.Path('interrupted').touch()\n"
    )
    env = os.environ | {"PYTHONPATH": f"{Path.cwd()}{os.pathsep}{PROJECT}"}
    command = [sys.executable, "-m", "tools.settings", "run", "small"]
    old = signal.signal(signal.SIGINT, inherited)
    process = subprocess.Popen(command, env=env, start_new_session=True)
    signal.signal(signal.SIGINT, old)
    while not Path("running").exists():
        assert process.poll() is None
        time.sleep(0.05)
    assert settings.PARAMS.read_bytes() != before
    process.send_signal(number)
    assert process.wait(timeout=60) == INTERRUPTED
    assert Path("interrupted").exists()
    assert settings.PARAMS.read_bytes() == before


def test_a_pipeline_that_cannot_start_leaves_params(before: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", started_by_mistake)
    with pytest.raises(AssertionError, match="a process was started"):
        settings.main(["run", "small"])
    assert settings.PARAMS.read_bytes() == before


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_of_several_stages_that_is_killed_at_its_start_puts_params_back(
    ending: signal.Signals, before: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outdated(_: object) -> list[str]:
        assert settings.PARAMS.read_bytes() != before
        signal.raise_signal(ending)
        return ["rpn"]

    monkeypatch.setattr(parallel, "parents", lambda: {"rpn": set()})
    monkeypatch.setattr(parallel, "outdated", outdated)
    monkeypatch.setattr(subprocess, "Popen", started_by_mistake)
    old = signal.getsignal(ending)
    assert settings.main(["run", "small", "--jobs", "2"]) == INTERRUPTED
    assert settings.PARAMS.read_bytes() == before
    assert signal.getsignal(ending) == old


@pytest.mark.parametrize("jobs", ["0", "-1", "two"])
def test_a_number_of_stages_that_is_none_is_refused(jobs: str, before: bytes) -> None:
    with pytest.raises(SystemExit, match="2"):
        settings.main(["run", "small", "--jobs", jobs])
    assert settings.PARAMS.read_bytes() == before


@pytest.mark.parametrize("ends", ["well", "interrupted"])
def test_params_edited_during_a_run_are_kept(
    ends: str, before: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edited = before + b"\n# a note\n"

    def pipeline() -> int | None:
        if ends == "interrupted" and settings.PARAMS.read_bytes() != edited:
            settings.PARAMS.write_bytes(edited)
            signal.raise_signal(signal.SIGINT)
            return None
        settings.PARAMS.write_bytes(edited)
        return 0

    stand_in(monkeypatch, pipeline)
    assert settings.main(["run", "small"]) == {"well": 0, "interrupted": 130}[ends]
    assert settings.PARAMS.read_bytes() == edited
    assert "edited meanwhile" in capsys.readouterr().err


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_file_of_settings_applies_to_the_shipped_params_and_names_itself(file: Path, before: bytes) -> None:
    shutil.copy(file, Path("settings") / file.name)
    settings.apply(settings.of_file(file.stem))
    wanted = values(file.read_text(encoding="utf-8"))
    after = values(settings.PARAMS.read_bytes())
    assert after == values(before) | wanted
    assert after["report.settings"] == file.stem


def test_the_shipped_params_are_the_default_ones() -> None:
    assert load_params(PROJECT / "params.yaml").report.settings == "default"
    assert "quick" in [file.stem for file in SHIPPED]
    assert "default" not in [file.stem for file in SHIPPED]


@pytest.mark.usefixtures("before")
def test_a_mapping_of_classes_is_one_setting() -> None:
    """From a file and as a single setting; a second one takes the place of the first."""
    Path("settings/litter.yaml").write_text(
        "data:\n  coco:\n    classes:\n      metal: [can, foil]\n      glass: [jar]\n"
    )
    settings.apply(settings.of_file("litter"))
    assert load_params().data.coco.classes == (("metal", ("can", "foil")), ("glass", ("jar",)))
    settings.apply(settings.of_file("small") | settings.single_settings(["data.coco.classes={other: [cup]}"]))
    assert load_params().data.coco.classes == (("other", ("cup",)),)
