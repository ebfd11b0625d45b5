"""How stages scale: all of them run and are measured, and the page says what each further image costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from benchmarks import scaling
from src.core.files import read_json
from src.core.params import Params
from src.sources.pickles import read_arrays
from tests.factories import make_course


def entry(images: int, **seconds: float) -> dict[str, Any]:
    stages = {name: {"seconds": value, "peak_gb": value / 8} for name, value in seconds.items()}
    return {"images": images, "stages": stages, "bytes": {"data/dataset.h5": 2**20}}


def test_a_further_image_is_counted_from_the_last_row_in_which_the_stage_ran() -> None:
    entries = [entry(100, ingest=5, features=60), entry(400, ingest=8), entry(1600, ingest=14, features=960)]
    assert [scaling.further(entries, place, "ingest") for place in range(3)] == ["50.0", "10.0", "5.0"]
    assert [scaling.further(entries, place, "features") for place in range(3)] == ["600.0", "", "600.0"]


def test_detection_and_its_evaluation_stand_in_one_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [entry(100, ingest=1, evaluate=4), entry(400, ingest=2, detect=8, evaluate=2), entry(1600, ingest=4)]
    both = "detect + evaluate"
    assert [scaling.seconds(one, both) for one in entries] == [4, 10, None]
    assert [scaling.peak_gb(one, both) for one in entries] == [0.5, 1, None]
    assert [scaling.further(entries, place, both) for place in range(3)] == ["40.0", "20.0", ""]
    monkeypatch.setattr(scaling, "PAGE", tmp_path / "scaling.md")
    for one in entries:
        one["loader_images_a_second"] = 50.0
    scaling.write_page({"counts": entries, "conditions": {"threads": 2}})
    text = (tmp_path / "scaling.md").read_text(encoding="utf-8")
    assert "| N | ingest | prepare | features | box_head | detect + evaluate |" in text
    assert "| 400 | 2.0 |  |  |  | 10.0 |" in text
    assert "| 400 | 0.25 |  |  |  | 1.00 |" in text
    assert "| 1600 | 4.0 |  |  |  |  |" in text
    assert "At N = 100 both were still one stage" in text


def test_the_course_of_n_images_has_genuine_labels_and_boxes(tmp_path: Path) -> None:
    make_course(tmp_path / "genuine", images=6)
    scaling.make_course(tmp_path / "made", tmp_path / "genuine", 4)
    for name in (scaling.LABELS, scaling.BOXES):
        genuine, made = (read_arrays(tmp_path / folder / name) for folder in ("genuine", "made"))
        assert len(made) == 4
        for ours, theirs in zip(made, genuine, strict=False):
            np.testing.assert_array_equal(ours, theirs)
    boxes = np.concatenate(list(read_arrays(tmp_path / "made" / scaling.BOXES)))
    with h5py.File(tmp_path / "made" / scaling.MASKS) as file:
        masks = file["data"][:]
    assert len(masks) == len(boxes)
    for mask, box in zip(masks, boxes, strict=True):
        ys, xs = np.nonzero(mask)
        np.testing.assert_allclose([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], box, atol=1.5)


def test_all_stages_run_and_are_measured(finished: Params, tmp_path: Path) -> None:
    make_course(tmp_path / "genuine", images=6)
    weights = {path: path.read_bytes() for path in Path("models").iterdir()}
    found = scaling.measure(5, tmp_path / "genuine", tmp_path / "temporary", slow=True)
    assert found["images"] == 5
    assert tuple(found["stages"]) == scaling.STAGES
    assert all(stage["seconds"] > 0 and 0 < stage["peak_gb"] < 8 for stage in found["stages"].values())
    assert set(found["bytes"]) == {"the course's files", *scaling.FILES}
    assert all(found["bytes"].values())
    assert found["loader_images_a_second"] > 0
    assert found["head_loader_views_a_second"] > 0
    assert {path: path.read_bytes() for path in Path("models").iterdir()} == weights
    assert list((tmp_path / "temporary").iterdir()) == []


def test_stages_that_need_the_network_run_up_to_a_size(
    finished: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_course(tmp_path / "genuine", images=6)
    ran: list[str] = []

    def noting(name: str, folder: Path) -> dict[str, float]:
        ran.append(name)
        (folder / "data").mkdir(exist_ok=True)
        (folder / "data/prepared.h5").unlink(missing_ok=True)
        (folder / "data/prepared.h5").symlink_to(Path("data/prepared.h5").resolve())
        return {"seconds": 1.0, "peak_gb": 0.5}

    monkeypatch.setattr(scaling, "run_stage", noting)
    monkeypatch.setattr(scaling, "head_loader_rate", lambda _: 30.0)
    counts = ["--counts", "6", "5", "--features-up-to", "5"]
    monkeypatch.setattr("sys.argv", ["scaling", "--labels", str(tmp_path / "genuine"), *counts])
    scaling.main()
    assert ran == ["ingest", "prepare", *scaling.STAGES]
    few, many = read_json(Path("benchmarks/scaling.json"))["counts"]
    assert (few["images"], many["images"]) == (5, 6)
    assert (few["head_loader_views_a_second"], many.get("head_loader_views_a_second")) == (30.0, None)
    text = Path("benchmarks/scaling.md").read_text(encoding="utf-8")
    assert "| 5 | 1.0 | 1.0 | 1.0 | 1.0 | 2.0 |" in text
    assert "| 6 | 1.0 | 1.0 |  |  |  |" in text
    assert "still one stage" not in text


def test_a_stage_is_a_process_whose_failure_ends_the_measurement(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    memory = f"held = bytearray({2**28})\nheld[::1024] = bytes({2**18})\n"
    (tmp_path / "stages/held.py").write_text(f"import os\n{memory}assert os.getcwd() == os.environ['DVC_ROOT']\n")
    (tmp_path / "stages/failed.py").write_text("raise SystemExit(1)\n")
    found = scaling.run_stage("held", tmp_path)
    assert 0.25 < found["peak_gb"] < 0.5
    assert 0 < found["seconds"] < 60
    with pytest.raises(SystemExit, match="stage failed failed in"):
        scaling.run_stage("failed", tmp_path)
