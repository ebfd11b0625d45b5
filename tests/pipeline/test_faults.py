"""Killed at random moments, on a full disk, twice at once: nothing is lost, nothing is left behind.

`--kills N` (default 2) sets how often each stage is killed; `make faults` takes 12.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from ruamel.yaml import YAML

from src.data.h5 import ROOM
from tests.pipeline.conftest import Run
from tests.pipeline.workspace import MINUTES, TINY, Workspace, make_workspace

pytestmark = pytest.mark.timeout(60 * MINUTES)  # runs of whole stages, on a machine that may be busy

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LONG = {
    f"{stage}.epochs": 6 for stage in ("rpn", "backbone", "box_head", "mask_head", "one_stage")
}  # a checkpoint each epoch
LONG |= {"joint.scheme": "alternating", "joint.epochs": 2}  # three phases
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, asks the kernel to end orphans")


@pytest.fixture
def copy(emoji: Run, tmp_path: Path) -> Workspace:
    """A finished run of its own, without DVC's cache."""
    root = tmp_path / "copy"
    shutil.copytree(emoji.workspace.root, root, ignore=shutil.ignore_patterns("cache", ".cache", "tmp"))
    made = Workspace(root)
    made.record.mkdir()
    made.set_params(LONG)
    return made


def start(workspace: Workspace, *command: str) -> subprocess.Popen[str]:
    """A command in the workspace, in a process group of its own."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "GIT_"))}
    env |= {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=workspace.root, env=env, start_new_session=True, **pipes)


def stage(workspace: Workspace, name: str) -> subprocess.Popen[str]:
    """One stage, without DVC."""
    return start(workspace, sys.executable, "-m", f"stages.{name}")


def finish(process: subprocess.Popen[str]) -> str:
    """Waits for a process that is to succeed."""
    output, _ = process.communicate(timeout=60 * MINUTES)
    assert process.returncode == 0, output[-4000:]
    return output


def outputs(workspace: Workspace, name: str) -> list[Path]:
    """What dvc.yaml says a stage writes."""
    stages = yaml.safe_load((workspace.root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return [workspace.root / (entry if isinstance(entry, str) else next(iter(entry))) for entry in stages[name]["outs"]]


def digests(paths: list[Path]) -> dict[str, str]:
    """Hashes of all files, and of all files in folders, the hidden ones too."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def remove(paths: list[Path]) -> None:
    """Files and folders."""
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def test_a_run_from_clean_repeats_to_the_byte(emoji: Run, tmp_path: Path) -> None:
    again = make_workspace(tmp_path / "again", {})
    again.dvc("repro")
    first, second = (locked(workspace) for workspace in (emoji.workspace, again))
    timed = {"report/index.html"}  # it says how long stages took, and the commit
    assert timed < first.keys()
    assert len(first) > 30
    assert {path: second[path] for path in second if path not in timed} == {
        path: first[path] for path in first if path not in timed
    }


def locked(workspace: Workspace) -> dict[str, str]:
    """Hashes of all outputs in a workspace's dvc.lock."""
    stages = YAML(typ="safe").load((workspace.root / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    return {entry["path"]: entry["md5"] for made in stages.values() for entry in made["outs"]}


@pytest.mark.parametrize(
    "name",
    ["prepare", "rpn", "backbone", "features", "box_head", "mask_head", "joint", "one_stage", "detect"],
)
def test_killed_at_random_a_stage_ends_as_undisturbed(
    copy: Workspace, name: str, request: pytest.FixtureRequest
) -> None:
    begun = time.monotonic()
    finish(stage(copy, name))
    lasts = time.monotonic() - begun
    written = outputs(copy, name)
    undisturbed = digests(written)
    assert undisturbed
    remove([*written, copy.root / ".cache"])
    draw = random.Random(name)
    for kill in range(request.config.getoption("--kills")):
        process = stage(copy, name)
        try:
            process.communicate(timeout=lasts * draw.uniform(0.3, 1.0))
        except subprocess.TimeoutExpired:
            process.send_signal(SIGNALS[kill % len(SIGNALS)])
            process.communicate()
    finish(stage(copy, name))
    assert digests(written) == undisturbed  # a leftover beside them would count too
    leftovers = [file for folder in (copy.root / "data", copy.root / "models") for file in folder.glob(".*-*-*")]
    assert leftovers == []
    assert list((copy.root / ".cache" / "training").rglob("*.pt")) == []


HALF = """
import os, signal, sys
from pathlib import Path
whole = Path.write_bytes
def half(self, content):
    if ".state-" in self.name:
        whole(self, bytes(content)[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, content)
Path.write_bytes = half
from stages.box_head import __main__ as box_head
from src.core.stage import run
run("box_head", box_head.main)
"""


def test_killed_inside_a_checkpoint_s_write(copy: Workspace) -> None:
    written = outputs(copy, "box_head")
    finish(stage(copy, "box_head"))
    undisturbed = digests(written)
    remove([*written, copy.root / ".cache"])
    process = start(copy, sys.executable, "-c", HALF)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    halves = list((copy.root / ".cache" / "training").rglob(".state-*"))
    assert len(halves) == 1
    finish(stage(copy, "box_head"))
    assert digests(written) == undisturbed
    assert not halves[0].exists()


@ON_LINUX
# Debian's sh stays between DVC and the stage that it runs; bash does not.
@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@pytest.mark.parametrize("moment", ["importing", "training"])
def test_a_killed_dvc_leaves_no_stage_running(
    copy: Workspace, monkeypatch: pytest.MonkeyPatch, moment: str, shell: str
) -> None:
    monkeypatch.setenv("SHELL", shell)
    copy.set_params({"rpn.epochs": 500})
    process = start(copy, sys.executable, "-m", "dvc", "repro", "--single-item", "--force", "rpn")
    try:
        wait_for(lambda: stages_in(copy))
        if moment == "importing":
            time.sleep(0.5)
        else:
            wait_for(lambda: list((copy.root / ".cache" / "training" / "rpn").glob("*/state.pt")))
        assert stages_in(copy)
        process.kill()
        process.wait()
        wait_for(lambda: not stages_in(copy), lambda: "\n".join(map(about, stages_in(copy))))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def stages_in(workspace: Workspace) -> list[int]:
    """Numbers of the processes that run a stage in a workspace."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            here = (folder / "cwd").readlink()
        except OSError:  # it has ended, or belongs to someone else
            continue
        if b"stages." in command and here == workspace.root.resolve():
            found.append(int(folder.name))
    return found


def about(process: int) -> str:
    """Its command, state, parent, threads and signals, for the message of a test that fails."""
    folder = Path("/proc") / str(process)
    try:
        return f"{(folder / 'cmdline').read_bytes()!r}\n{(folder / 'status').read_text(encoding='utf-8')}"
    except OSError:
        return f"{process} has ended by now"


def wait_for(condition: Callable[[], object], otherwise: Callable[[], str] = str, seconds: float = 600.0) -> None:
    """Until it holds; after too long, fails and says what `otherwise` gives."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited too long; {otherwise()}"
        time.sleep(0.05)


@ON_LINUX
def test_a_killed_temporary_run_resumes(emoji: Run, tmp_path: Path) -> None:
    """Its workspace is gone; its checkpoint lies in the main one."""
    mine = Workspace(tmp_path / "mine")
    shutil.copytree(emoji.workspace.root, mine.root)
    mine.record.mkdir()
    mine.commit()
    epochs = 60
    command = ("exp", "run", "--temp", "--set-param", f"rpn.epochs={epochs}", "rpn")
    first = start(mine, sys.executable, "-m", "dvc", *command)
    saved = mine.root / ".cache" / "training" / "rpn"
    wait_for(lambda: list(saved.glob("*/state.pt")) or first.poll() is not None)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    (state,) = saved.glob("*/state.pt")
    said = mine.dvc(*command)
    steps = epochs * -(-TINY["data.emoji.train"] // TINY["rpn.batch_size"])
    assert f"/{steps} " in said, said[-3000:]
    assert f" 0/{steps} " not in said, said[-3000:]  # the bar of a training from its start
    assert not state.exists()


@ON_LINUX
def test_a_second_run_in_the_same_folder_is_told_so(copy: Workspace) -> None:
    copy.set_params({"rpn.epochs": 500})
    command = (sys.executable, "-m", "dvc", "repro", "--single-item", "--force", "rpn")
    first = start(copy, *command)
    try:
        wait_for(lambda: list((copy.root / ".cache" / "training" / "rpn").glob("*/state.pt")))
        said = copy.run(*command, fails=True)
        assert "is busy" in said or "Unable to acquire lock" in said, said[-2000:]
        assert first.poll() is None
    finally:
        first.send_signal(signal.SIGTERM)
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()


def small_files() -> None:
    """Makes every write beyond 100 kB fail, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


@ON_LINUX
@pytest.mark.parametrize("name", ["rpn", "backbone", "box_head"])  # HDF5 takes no limit of this kind
def test_a_full_disk_gives_one_line_and_leaves_the_last_good_state(copy: Workspace, name: str) -> None:
    remove([copy.root / ".cache"])
    files = [path for path in outputs(copy, name) if path.suffix in {".h5", ".pt"}]
    before = digests(files)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"stages.{name}"]
    limited = {"preexec_fn": small_files, "capture_output": True, "text": True}
    done = subprocess.run(command, cwd=copy.root, env=env, check=False, timeout=600, **limited)
    assert done.returncode == 1, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if "Errno" in line]
    assert len(lines) == 1, done.stderr[-2000:]
    assert lines[0].startswith(f"{name}: ")
    assert "Traceback" not in done.stderr
    assert digests(files) == before
    assert [file for path in files for file in path.parent.glob(".*-*-*")] == []


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256m", "none", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs rights that this process lacks")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@ON_LINUX
@pytest.mark.parametrize("left", [0, ROOM])  # nothing, or just what HDF5 may hold back
@pytest.mark.parametrize("name", ["ingest", "prepare", "features"])
def test_a_disk_that_fills_up(copy: Workspace, name: str, left: int, tmpfs: Path) -> None:
    data = copy.root / "data"
    shutil.copytree(data, tmpfs / "data")
    shutil.rmtree(data)
    data.symlink_to(tmpfs / "data")
    with (tmpfs / "filling").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(tmpfs).free - left)
    kept = digests([tmpfs / "data"])
    process = stage(copy, name)
    output, _ = process.communicate(timeout=60 * MINUTES)
    assert process.returncode == 1, output[-2000:]
    assert re.search(rf"^{name}: .*No space left on device", output, re.MULTILINE), output[-2000:]
    assert "Traceback" not in output
    assert digests([tmpfs / "data"]) == kept


@ON_LINUX
def test_a_read_only_folder(copy: Workspace, tmpfs: Path) -> None:
    models = copy.root / "models"
    shutil.move(models, tmpfs / "models")
    models.symlink_to(tmpfs / "models")
    kept = digests([tmpfs / "models"])
    subprocess.run(["mount", "-o", "remount,ro", tmpfs], check=True)
    process = stage(copy, "box_head")
    output, _ = process.communicate(timeout=60 * MINUTES)
    assert process.returncode == 1
    assert "Read-only file system" in output.splitlines()[-1]
    assert output.splitlines()[-1].startswith("box_head: ")
    assert "Traceback" not in output
    assert digests([tmpfs / "models"]) == kept
