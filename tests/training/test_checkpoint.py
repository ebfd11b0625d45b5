"""Checkpoints: found again only where the params, data and code that dvc.yaml lists for the stage are the same."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from src.training import checkpoint as checkpoints
from src.training.checkpoint import Checkpoint, fingerprint
from tests.training.pipeline import write_pipeline

STAGES: dict[str, Any] = {
    "rpn": {
        "cmd": "python -m stages.rpn",
        "deps": ["data/input.h5", "src/core", "src/plain_rpn", "stages/rpn"],
        "params": ["rpn", "prepare.mean", "runtime"],
    },
    "backbone": {"deps": ["data/input.h5", "src/core", "stages/backbone"], "params": ["backbone"]},
}
PARAMS: dict[str, Any] = {
    "rpn": {"epochs": 3, "flip": True, "loss_weights": {"objectness": 1.0}},
    "prepare": {"mean": [0.4, 0.5, 0.6], "height": 96},
    "runtime": {"threads": 0},
    "backbone": {"epochs": 2},
}
LISTED = [
    "data/input.h5",
    "src/core/params.py",
    "src/core/deep/table.json",
    "src/plain_rpn/regressor.py",
    "stages/rpn/main.py",
]
UNLISTED = [
    "data/other.h5",
    "src/detector/rpn.py",
    "src/core.py",
    "stages/backbone/main.py",
    "stages/rpn.py",
    "README.md",
]


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two stages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for name in (*LISTED, *UNLISTED):
        write(name, name)
    write_pipeline(STAGES, PARAMS)
    return tmp_path


def write(name: str, text: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")


def digits() -> str:
    return fingerprint("rpn")


def set_param(key: str, value: Any) -> None:
    """Writes `params.yaml` with another value of a dotted key."""
    tree = copy.deepcopy(PARAMS)
    *sections, name = key.split(".")
    place = tree
    for section in sections:
        place = place[section]
    place[name] = value
    write_pipeline(STAGES, tree)


def changes(act: Callable[[], object]) -> bool:
    """Whether the fingerprint changes with an act."""
    before = digits()
    act()
    return digits() != before


def test_a_fingerprint_repeats() -> None:
    assert digits() == digits()
    assert len(digits()) == 20
    int(digits(), 16)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rpn.epochs", 4),
        ("rpn.flip", False),
        ("rpn.loss_weights.objectness", 2.0),
        ("rpn.seed", 1),
        ("prepare.mean", [0.4, 0.6, 0.5]),
        ("runtime.threads", 2),
    ],
)
def test_it_changes_with_every_listed_param(key: str, value: Any) -> None:
    before = digits()
    set_param(key, value)
    assert digits() != before
    write_pipeline(STAGES, PARAMS)
    assert digits() == before


@pytest.mark.parametrize(("key", "value"), [("prepare.height", 128), ("backbone.epochs", 9), ("evaluate", {"a": 1})])
def test_an_unlisted_param_changes_nothing(key: str, value: Any) -> None:
    assert not changes(lambda: set_param(key, value))


def test_only_the_values_of_params_count() -> None:
    """Not comments, not the order of keys."""
    lines = Path("params.yaml").read_text(encoding="utf-8")
    assert not changes(lambda: write("params.yaml", f"# A comment.\n{lines}"))
    turned = {section: dict(reversed(values.items())) for section, values in reversed(PARAMS.items())}
    assert not changes(lambda: write_pipeline(STAGES, turned))


@pytest.mark.parametrize(
    ("entry", "value"), [("params", ["backbone"]), ("deps", ["data/other.h5"]), ("deps", ["src/detector"])]
)
def test_it_changes_with_what_the_stage_lists_besides(entry: str, value: list[str]) -> None:
    more = {**STAGES["rpn"], entry: STAGES["rpn"][entry] + value}
    assert changes(lambda: write_pipeline({**STAGES, "rpn": more}, PARAMS))


def test_it_does_not_change_with_other_words_of_the_pipeline() -> None:
    described = {**STAGES["rpn"], "desc": "Train.", "cmd": "python -m stages.rpn -v", "outs": ["models/rpn.pt"]}
    assert not changes(lambda: write_pipeline({**STAGES, "rpn": described, "backbone": {"deps": []}}, PARAMS))


def test_stages_with_the_same_lists_but_other_params_differ() -> None:
    assert fingerprint("rpn") != fingerprint("backbone")


def test_a_stage_without_params_has_one() -> None:
    write_pipeline({"rpn": {"deps": ["data/input.h5"]}}, {})
    assert changes(lambda: write("data/input.h5", "other"))


def test_it_changes_with_the_cores_and_torch_s_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with a process's own threads: two processes have half of them each, and resume what one has begun."""
    threads = torch.get_num_threads()
    try:
        assert not changes(lambda: torch.set_num_threads(threads + 1))
    finally:
        torch.set_num_threads(threads)
    set_param("runtime.threads", 3)
    assert not changes(lambda: monkeypatch.setattr(checkpoints, "available_cores", lambda: 77))
    set_param("runtime.threads", 0)
    assert changes(lambda: monkeypatch.setattr(checkpoints, "available_cores", lambda: 78))
    assert changes(lambda: monkeypatch.setattr(torch, "__version__", "2.0.0"))


@pytest.mark.parametrize("name", LISTED)
def test_it_changes_with_a_byte_of_a_listed_file(name: str) -> None:
    before, stat = digits(), Path(name).stat()
    write(name, f"{name[:-1]}X")
    os.utime(name, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same time
    assert digits() != before
    write(name, name)
    assert digits() == before


@pytest.mark.parametrize("name", UNLISTED)
def test_an_unlisted_file_changes_nothing(name: str) -> None:
    assert not changes(lambda: write(name, "other"))
    assert not changes(lambda: Path(name).unlink())


@pytest.mark.parametrize("folder", ["src/core", "src/core/deep", "stages/rpn"])
def test_it_changes_with_a_new_or_renamed_file_of_a_listed_folder(folder: str) -> None:
    assert changes(lambda: write(f"{folder}/extra.py", ""))
    assert changes(lambda: Path(folder, "extra.py").rename(f"{folder}/other.py"))
    assert changes(lambda: Path(folder, "other.py").unlink())


def test_it_changes_with_a_file_moved_between_listed_folders() -> None:
    """Though the files keep their names, contents and order."""
    assert changes(lambda: Path("src/core/params.py").rename("src/plain_rpn/params.py"))


@pytest.mark.parametrize("folder", ["src/core", "src/core/deep", "stages/rpn"])
def test_python_s_own_files_change_nothing(folder: str) -> None:
    compiled = f"{folder}/__pycache__/params.cpython-311.pyc"
    assert not changes(lambda: write(compiled, "compiled"))
    assert not changes(lambda: write(compiled, "compiled again"))


def test_it_sees_the_last_byte_of_a_large_input() -> None:
    path = Path("data/input.h5")
    path.write_bytes(bytes((1 << 22) + 1))
    assert changes(lambda: path.write_bytes(bytes(1 << 22) + b"\1"))


def test_state_is_saved_under_the_main_workspace(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(workspace / "main"))
    checkpoint = Checkpoint("rpn")
    assert checkpoint.load() is None
    state = {"model": {"w": torch.arange(3.0)}, "rows": [{"iteration": 1, "total": 0.5}], "iteration": 1}
    checkpoint.save(state)
    assert (workspace / "main" / ".cache" / "training" / "rpn" / digits() / "state.pt").is_file()
    loaded = Checkpoint("rpn").load()
    assert loaded is not None
    assert torch.equal(loaded["model"].pop("w"), torch.arange(3.0))
    assert (loaded["rows"], loaded["iteration"]) == (state["rows"], 1)
    checkpoint.clear()
    assert checkpoint.load() is None


def test_each_phase_has_a_state_of_its_own_beside_the_training_s() -> None:
    whole = Checkpoint("rpn")
    states = {"state.pt": whole, "phase_0.pt": whole.phase(0), "phase_1.pt": whole.phase(1)}
    for name, one in states.items():
        assert one.load() is None
        one.save({"rows": {"train": [{"total": 0.5}]}, "of": name})
        assert one.path == whole.folder / name
    again = Checkpoint("rpn")
    assert again.phase(1).load() == {"rows": {"train": [{"total": 0.5}]}, "of": "phase_1.pt"}
    assert again.load() == {"rows": {"train": [{"total": 0.5}]}, "of": "state.pt"}
    set_param("rpn.flip", False)
    assert Checkpoint("rpn").phase(1).load() is None
    again.phase(0).clear()
    assert [one.load() for one in states.values()] == [None] * 3


def with_epochs(epochs: int) -> Checkpoint:
    set_param("rpn.epochs", epochs)
    return Checkpoint("rpn")


def five_runs() -> list[Checkpoint]:
    """Runs side by side with 10 to 14 epochs, the one with 10 saved longest ago."""
    runs = [with_epochs(epochs) for epochs in range(10, 15)]
    for epochs, checkpoint in enumerate(runs, start=10):
        checkpoint.save({"iteration": epochs})
        os.utime(checkpoint.folder, (epochs, epochs))
    return runs


def test_other_params_find_nothing_and_only_the_latest_folders_stay() -> None:
    elsewhere = Checkpoint("backbone")
    elsewhere.save({"iteration": 3})
    older = five_runs()
    set_param("rpn.flip", False)
    assert Checkpoint("rpn").load() is None
    assert [checkpoint.folder.exists() for checkpoint in older] == [False, False, True, True, True]
    assert elsewhere.load() == {"iteration": 3}


def test_a_run_does_not_remove_its_own_state() -> None:
    five_runs()
    assert with_epochs(10).load() == {"iteration": 10}


def test_a_failed_save_leaves_the_old_state() -> None:
    checkpoint = Checkpoint("rpn")
    checkpoint.save({"iteration": 3})
    with pytest.raises(AttributeError, match="local object"):
        checkpoint.save({"iteration": lambda: 4})  # cannot be pickled
    assert checkpoint.load() == {"iteration": 3}
    assert [path.name for path in checkpoint.folder.iterdir()] == ["state.pt"]
