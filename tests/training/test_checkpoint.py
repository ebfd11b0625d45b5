"""Checkpoints: found again only where params, inputs and code are the same; the same bytes for the same tensors."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch

from src.core.params import FeaturesParams, PredictParams
from src.training.checkpoint import Checkpoint, fingerprint, save_tensors

PARAMS = FeaturesParams(proposals=200, mask_rois=16, flip=True)


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one module and one input."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for path in ("src/models/net.py", "stages/rpn/__main__.py", "data/input.h5"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(path, encoding="utf-8")
    return tmp_path


def digits() -> str:
    return fingerprint([PARAMS], [Path("data/input.h5")])


def test_a_fingerprint_repeats() -> None:
    assert digits() == digits()
    assert len(digits()) == 20
    int(digits(), 16)


@pytest.mark.parametrize("field", ["proposals", "mask_rois", "flip"])
def test_it_changes_with_every_param(field: str) -> None:
    other = dataclasses.replace(PARAMS, **{field: getattr(PARAMS, field) + 1 if field != "flip" else False})
    assert fingerprint([other], [Path("data/input.h5")]) != digits()


def test_it_changes_with_further_params_inputs_and_threads() -> None:
    found = {
        digits(),
        fingerprint([PARAMS, PredictParams(0.5)], [Path("data/input.h5")]),
        fingerprint([PARAMS], []),
        fingerprint([PARAMS], [Path("data/input.h5"), Path("stages/rpn/__main__.py")]),
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    found.add(digits())
    torch.set_num_threads(threads)
    assert len(found) == 5


@pytest.mark.parametrize("path", ["src/models/net.py", "stages/rpn/__main__.py", "data/input.h5"])
def test_it_changes_with_a_byte_of_code_or_input(path: str) -> None:
    before, stat = digits(), Path(path).stat()
    text = Path(path).read_text(encoding="utf-8")
    Path(path).write_text(text[:-1] + "X", encoding="utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same time
    assert digits() != before
    Path(path).write_text(text, encoding="utf-8")
    assert digits() == before


def test_it_changes_with_a_new_or_renamed_module() -> None:
    before = digits()
    Path("src/extra.py").write_text("", encoding="utf-8")
    with_extra = digits()
    Path("src/extra.py").rename("src/other.py")
    assert len({before, with_extra, digits()}) == 3


def test_it_sees_the_last_byte_of_a_large_input() -> None:
    path = Path("data/input.h5")
    path.write_bytes(bytes((1 << 22) + 1))
    before = digits()
    path.write_bytes(bytes(1 << 22) + b"\1")
    assert digits() != before


def test_state_is_saved_under_the_main_workspace(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(workspace / "main"))
    checkpoint = Checkpoint("rpn", [PARAMS], [])
    assert checkpoint.load() is None
    state = {"model": {"w": torch.arange(3.0)}, "rows": [{"iteration": 1, "total": 0.5}], "iteration": 1}
    checkpoint.save(state)
    assert (workspace / "main" / ".cache" / "training" / "rpn" / fingerprint([PARAMS], []) / "state.pt").is_file()
    loaded = Checkpoint("rpn", [PARAMS], []).load()
    assert loaded is not None
    assert torch.equal(loaded["model"].pop("w"), torch.arange(3.0))
    assert (loaded["rows"], loaded["iteration"]) == (state["rows"], 1)
    checkpoint.clear()
    assert checkpoint.load() is None


def test_other_params_find_nothing_and_only_the_latest_folders_stay() -> None:
    elsewhere = Checkpoint("backbone", [PARAMS], [])
    elsewhere.save({"iteration": 3})
    older = [Checkpoint("rpn", [dataclasses.replace(PARAMS, mask_rois=place)], []) for place in range(5)]
    for place, checkpoint in enumerate(older):
        checkpoint.save({"iteration": place})
        os.utime(checkpoint.folder, (place, place))
    new = Checkpoint("rpn", [dataclasses.replace(PARAMS, flip=False)], [])
    assert new.load() is None
    assert [checkpoint.folder.exists() for checkpoint in older] == [False, False, True, True, True]
    assert elsewhere.load() == {"iteration": 3}


def test_a_run_does_not_remove_its_own_state() -> None:
    own, *others = [Checkpoint("rpn", [dataclasses.replace(PARAMS, mask_rois=place)], []) for place in range(5)]
    for place, checkpoint in enumerate([own, *others]):
        checkpoint.save({"iteration": place})
        os.utime(checkpoint.folder, (place, place))
    assert Checkpoint("rpn", [dataclasses.replace(PARAMS, mask_rois=0)], []).load() == {"iteration": 0}


def test_the_same_tensors_give_the_same_bytes_whatever_the_file_s_name(tmp_path: Path) -> None:
    content = {"backbone": {"w": torch.arange(6.0)}, "rpn": {"b": torch.ones(2, dtype=torch.bfloat16)}}
    paths = [tmp_path / name for name in ("a.pt", "models/backbone.pt", "ä b.bin")]
    for path in paths:
        save_tensors(path, {part: {k: v.clone() for k, v in state.items()} for part, state in content.items()})
    assert len({path.read_bytes() for path in paths}) == 1
    assert torch.equal(torch.load(paths[1], weights_only=True)["backbone"]["w"], torch.arange(6.0))


def test_a_failed_save_leaves_the_old_state() -> None:
    checkpoint = Checkpoint("rpn", [PARAMS], [])
    checkpoint.save({"iteration": 3})
    with pytest.raises(AttributeError, match="local object"):
        checkpoint.save({"iteration": lambda: 4})  # cannot be pickled
    assert checkpoint.load() == {"iteration": 3}
    assert [path.name for path in checkpoint.folder.iterdir()] == ["state.pt"]
