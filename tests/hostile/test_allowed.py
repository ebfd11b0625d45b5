"""What looks broken and is not: it is read, and read rightly."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from src.core.files import read_json
from src.core.params_file import load_params
from src.data.dataset import DatasetFile
from src.evaluation.instances import Instances
from src.sources import left_out
from src.sources.assignment import CLASSES
from src.sources.pictures import read_picture
from stages.ingest import __main__ as ingest
from stages.predict import __main__ as predict
from tests.hostile import cases_coco, cases_course, cases_params, cases_pictures
from tests.hostile.case import Stage, lay_out, params_text

FIRST = cases_coco.FIRST


def ingested(stage: Stage, good: Path, kind: str, spoil: Callable[[Path], None]) -> DatasetFile:
    """The dataset file that comes of a changed set."""
    shutil.copytree(good, stage.folder / "input")
    spoil(stage.folder / "input")
    lay_out(stage.folder, params_text(data__source=kind))
    stage.accepts("ingest", ingest.main)
    return DatasetFile(stage.folder / "data/dataset.h5")


def test_a_course_image_without_objects_is_a_negative(stage: Stage, course: Path) -> None:
    def empty(root: Path) -> None:
        """Takes the objects of image 2 out of all files."""
        start = sum(cases_course.COUNTS[:2])
        gone = range(start, start + cases_course.COUNTS[2])
        cases_course.labels(lambda items: [*items[:2], items[2][:0], *items[3:]])(root)
        cases_course.boxes(lambda items: [*items[:2], items[2][:0], *items[3:]])(root)
        cases_course.masks(lambda stored: np.delete(stored, list(gone), axis=0))(root)

    with ingested(stage, course, "course", empty) as dataset:
        assert [len(dataset.labels(row)) for row in range(6)] == [
            0 if row == 2 else count for row, count in enumerate(cases_course.COUNTS)
        ]
        np.testing.assert_array_equal(dataset.image(2), cases_course.SAMPLES[2].image)
        assert dataset.masks(3) == cases_course.SAMPLES[3].masks


def test_course_boxes_and_other_keys_beside_the_data(stage: Stage, course: Path) -> None:
    def add(root: Path) -> None:
        cases_course.box(-0.6, -0.2, 400.4, 300.9)(root)
        with h5py.File(root / cases_course.IMAGES, "a") as file:
            file["notes"] = "by hand"

    with ingested(stage, course, "course", add) as dataset:
        assert dataset.boxes(4)[0].tolist() == [0, 0, 400, 300]


@pytest.mark.parametrize("name", cases_coco.LEFT_OUT)
def test_a_wrong_entry_of_coco_is_left_out_and_listed(stage: Stage, coco: Path, name: str) -> None:
    with ingested(stage, coco, "coco", cases_coco.CASES[name].spoil) as dataset:
        assert len(dataset) in {5, 6}
    with Path("data/left_out.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["reason"] != left_out.NO_OBJECT]
    assert [row["reason"] for row in rows] == [cases_coco.LEFT_OUT[name]]
    assert rows[0]["file"].startswith("input/")
    assert rows[0]["detail"].startswith("expected ")
    assert all(text.isprintable() and len(text) < 1000 for text in rows[0].values())
    counts = read_json(Path("metrics/ingest.json"))
    assert (
        counts["left_out_images"].get(rows[0]["reason"], 0) + counts["left_out_objects"].get(rows[0]["reason"], 0) == 1
    )


@pytest.mark.parametrize("name", cases_coco.MENDED)
def test_an_entry_of_coco_whose_meaning_is_plain_is_mended_and_counted(stage: Stage, coco: Path, name: str) -> None:
    with ingested(stage, coco, "coco", cases_coco.CASES[name].spoil) as dataset:
        assert len(dataset) == 6
    assert read_json(Path("metrics/ingest.json"))["mended"] == {cases_coco.MENDED[name]: 1}
    assert Path("data/left_out.csv").read_text(encoding="utf-8") == "file,entry,reason,detail\n"


def test_run_lengths_and_polygons_mixed(stage: Stage, coco: Path) -> None:
    """A rectangle as run lengths and the same one as a polygon are the same object."""
    columns, rows, height, width = (40, 200), (60, 180), 320, 240
    runs, inside = [columns[0] * height + rows[0]], rows[1] - rows[0]
    runs += [inside, height - inside] * (columns[1] - columns[0] - 1) + [inside]
    runs.append(height * width - sum(runs))
    corners = [columns[0], rows[0], columns[1], rows[0], columns[1], rows[1], columns[0], rows[1]]
    box = [columns[0], rows[0], columns[1] - columns[0], inside]

    def change(tree: cases_coco.Tree) -> None:
        kept = [entry for entry in tree["annotations"] if entry["image_id"] != 1 or entry["iscrowd"]]
        plain = {"image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": box}
        kept.append({"id": 900, "segmentation": {"size": [height, width], "counts": runs}, **plain})
        kept.append({"id": 901, "segmentation": [corners, [1, 1, 2, 2]], **plain})
        tree["annotations"] = kept

    with ingested(stage, coco, "coco", cases_coco.tree(change)) as dataset:
        assert dataset.crowd(0).tolist() == [True, False, False]
        _, by_runs, by_polygon = dataset.masks(0)
        assert by_runs.sum() == inside * 160
        assert (by_runs != by_polygon).mean() < 0.01


def test_polygons_without_area_are_left_out_and_those_over_the_border_cut(stage: Stage, coco: Path) -> None:
    def change(tree: cases_coco.Tree) -> None:
        tree["annotations"] = [entry for entry in tree["annotations"] if entry["image_id"] != 1]
        plain = {"image_id": 1, "category_id": 2, "iscrowd": 0}
        line = [20, 20, 20, 20, 20, 20]
        over = [-30, -30, 100, -30, 100, 100, -30, 100]
        tree["annotations"] += [
            {"id": 900, "bbox": [20, 20, 1, 1], "segmentation": [line], **plain},
            {"id": 901, "bbox": [20, 20, 0, 5], "segmentation": [line], **plain},
            {"id": 902, "bbox": [0, 0, 100, 100], "segmentation": [over], **plain},
        ]

    with ingested(stage, coco, "coco", cases_coco.tree(change)) as dataset:
        assert dataset.labels(0).tolist() == [2]
        ys, xs = np.nonzero(dataset.masks(0)[0])
        x1, y1, x2, y2 = dataset.boxes(0)[0]
        np.testing.assert_allclose([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], [x1, y1, x2, y2], atol=1)


def test_coco_pictures_of_any_mode_and_name(stage: Stage, coco: Path) -> None:
    name = "größe 图 $\\frac$ <b>.png"

    def change(root: Path) -> None:
        cases_coco.put("images", file_name=name)(root)
        (root / "images" / FIRST).unlink()
        Image.new("I;16", (240, 320), 32896).save(root / "images" / name)
        for number, mode in ((2, "L"), (3, "P"), (4, "RGBA")):
            path = root / "images" / f"{number:012d}.png"
            Image.open(path).convert(mode).save(path)

    with ingested(stage, coco, "coco", change) as dataset:
        assert dataset.names[0] == name
        assert np.unique(dataset.image(0)[:, 150:250]).tolist() == [128]
        assert len(np.unique(dataset.image(1)[..., 0] - dataset.image(1)[..., 1])) == 1


@pytest.mark.parametrize("name", cases_params.ALLOWED)
def test_numbers_as_yaml_1_2_has_them(stage: Stage, name: str) -> None:
    text, key, value = cases_params.ALLOWED[name]
    lay_out(stage.folder, text)
    assert getattr(load_params().rpn, key) == value


def test_pictures_of_all_kinds_in_one_folder(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a model: what matters is what the pictures are read, drawn and recorded as."""
    none = Instances(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0), [])
    blind = SimpleNamespace(predict=lambda picture: none, classes=CLASSES)
    monkeypatch.setattr(predict, "Predictor", SimpleNamespace(load=lambda params, detector: blind))
    lay_out(stage.folder, params_text())
    (stage.folder / "pictures").mkdir()
    (stage.folder / "pictures" / "notes.txt").write_text("no picture")
    for name, (content, _) in cases_pictures.ALLOWED.items():
        (stage.folder / "pictures" / name).write_bytes(content)
    stage.accepts("predict", predict.main)
    records = read_json(stage.folder / "data/pictures.json")
    sizes = {entry["name"]: (entry["width"], entry["height"]) for entry in records}
    assert sizes == {name: size for name, (_, size) in cases_pictures.ALLOWED.items()}
    drawn = {path.name for path in (stage.folder / "plots/predict").iterdir()}
    assert drawn == {f"{name}.png" for name in cases_pictures.ALLOWED}


def test_a_photograph_of_108_megapixels(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (12_000, 9_000), 1).save(path)
    assert read_picture(path)[::3000, ::3000].tolist() == np.full((3, 4, 3), 255).tolist()
