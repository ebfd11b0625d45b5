"""Stage `predict`: which pictures are predicted, what is said of the others, where results go. No detector runs."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from src.core import paths
from src.core.errors import InputError
from src.core.files import read_json
from src.core.params import Params
from src.evaluation.instances import Instances
from src.evaluation.rle import encode_masks
from src.sources.assignment import CLASSES
from stages.predict import __main__ as predict
from tests.stages.workspace import tiny_params

PARAMS = tiny_params()
HALF = "half.jpg: expected a picture that can be read"
HUGE = "huge.png: expected at most 150,000,000 pixels, found 13000 x 12000"


def find_one(picture: np.ndarray) -> Instances:
    mask = np.ones((1, *picture.shape[:2]), bool)
    return Instances(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([1]), torch.tensor([0.5]), encode_masks(mask))


PREDICTOR = SimpleNamespace(predict=find_one, classes=CLASSES)


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predict, "Predictor", SimpleNamespace(load=load))
    (tmp_path / "pictures").mkdir()
    return tmp_path


def save(name: str, shade: int = 90) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (shade, 0, 0)).save(name, "JPEG")


def break_two(folder: str) -> None:
    """One cut in half, one too large."""
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(buffer, "JPEG")
    Path(folder, "half.jpg").write_bytes(buffer.getvalue()[: buffer.tell() // 2])
    Image.new("1", (13_000, 12_000)).save(Path(folder, "huge.png"))


def load(_: Params, *, detector: str) -> SimpleNamespace:
    """Any detector finds the same; the one-stage detector has no masks."""
    found = find_one if detector == "mask_rcnn" else lambda picture: dataclasses.replace(find_one(picture), masks=None)
    return SimpleNamespace(predict=found, classes=CLASSES)


def run(params: Params = PARAMS) -> None:
    predict.main(params)


def test_broken_pictures_are_named_and_the_others_predicted(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.jpg", "z.jpg"):
        save(f"pictures/{name}")
    break_two("pictures")
    run()
    assert [entry["name"] for entry in read_json(Path("data/pictures.json"))] == ["a.jpg", "z.jpg"]
    assert sorted(path.name for path in Path("plots/predict").iterdir()) == ["a.jpg.png", "z.jpg.png"]
    shown = read_json(paths.OWN_EXPLORER)
    assert [(one["name"], one["width"], len(one["detections"])) for one in shown["pictures"]] == [
        *(("a.jpg", 40, 1), ("z.jpg", 40, 1))
    ]
    facts = read_json(Path("metrics/predict.json"))
    assert (facts["pictures"], facts["detections"]) == (2, 2)
    assert list(facts["unreadable"]) == ["half.jpg", "huge.png"]
    assert facts["unreadable"]["huge.png"] == "expected at most 150,000,000 pixels, found 13000 x 12000"
    assert len(caplog.messages) == 2
    assert HALF in caplog.messages[0]
    assert HUGE in caplog.messages[1]


def test_none_that_can_be_read_is_an_error_and_nothing_is_written(
    workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    break_two("pictures")
    with pytest.raises(InputError, match=HALF):
        run()
    with pytest.raises(InputError, match=HALF):
        predict.predict_named(["pictures"], PARAMS)
    assert [path.name for path in workspace.iterdir()] == ["pictures"]
    assert caplog.messages == []


def test_no_picture_at_all_is_no_error() -> None:
    run()
    assert read_json(Path("data/pictures.json")) == []
    assert Path("plots/predict").is_dir()
    assert read_json(paths.OWN_EXPLORER) == {"pictures": [], "left_out": 0}
    assert read_json(Path("metrics/predict.json"))["unreadable"] == {}


def test_several_pictures_and_folders_by_name(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    save("one/a.jpg", 10)
    save("two/a.jpg", 200)
    save("my $5 #1 'Grüße'.jpg")
    break_two("two")
    predict.predict_named(["one", "two my $5 #1 'Grüße'.jpg"], PARAMS)
    names = ["one/a.jpg", "two/a.jpg", "my $5 #1 'Grüße'.jpg"]
    results = sorted(path.relative_to("predictions").as_posix() for path in Path("predictions").rglob("*.*"))
    assert results == sorted(f"{name}.{ending}" for name in names for ending in ("png", "json"))
    assert read_json(Path("predictions/two/a.jpg.json"))["name"] == "a.jpg"
    assert Path("predictions/one/a.jpg.png").read_bytes() != Path("predictions/two/a.jpg.png").read_bytes()
    assert capsys.readouterr().out.splitlines() == [
        f"1 found: predictions/{name}.png, predictions/{name}.json" for name in names
    ]
    assert [HALF in caplog.messages[0], HUGE in caplog.messages[1]] == [True, True]


@pytest.mark.parametrize("kind", ["coco", "label_studio"])
def test_one_file_for_a_labeling_tool(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    params = dataclasses.replace(PARAMS, predict=dataclasses.replace(PARAMS.predict, export=kind))
    np.savez("pictures/hold_out_images.npz", input_images=np.zeros((1, 1, 3, 8, 12), np.float32))
    for name in ("pictures/a b.jpg", "one/a.jpg", "two/a.jpg"):
        save(name)
    run(params)
    predict.predict_named(["one", "two"], params)

    def names(path: str) -> list[str]:
        tree = read_json(Path(path))
        if kind == "coco":
            assert len(tree["annotations"]) == len(tree["images"])
            return [image["file_name"] for image in tree["images"]]
        return [task["data"]["image"].removeprefix("/data/local-files/?d=") for task in tree]

    is_coco = kind == "coco"
    assert names("data/export.json") == (["a b.jpg"] if is_coco else ["pictures/a%20b.jpg"])
    assert names("predictions/export.json") == ["one/a.jpg", "two/a.jpg"]
    predict.predict_named(["two/a.jpg"], params)
    assert names("predictions/export.json") == (["a.jpg"] if is_coco else ["two/a.jpg"])
    assert f"for {kind}: predictions/export.json" in capsys.readouterr().out


def test_nothing_is_exported_that_was_not_asked_for() -> None:
    save("pictures/a.jpg")
    run()
    predict.predict_named(["pictures/a.jpg"], PARAMS)
    assert read_json(Path("data/export.json")) == []
    assert not Path("predictions/export.json").exists()


def test_hold_out_images_are_pictures_of_their_own() -> None:
    save("pictures/z.jpg")
    images = np.zeros((2, 1, 3, 8, 12), np.float32)
    np.savez("pictures/hold_out_images.npz", input_images=images)
    Path("pictures/other.npz").write_bytes(b"PK")
    run()
    names = ["hold_out_images-0", "hold_out_images-1", "z.jpg"]
    assert [entry["name"] for entry in read_json(Path("data/pictures.json"))] == names
    assert sorted(path.stem for path in Path("plots/predict").iterdir()) == names
    assert list(read_json(Path("metrics/predict.json"))["unreadable"]) == ["other.npz"]
    predict.predict_named(["pictures/hold_out_images.npz"], PARAMS)
    assert Path("predictions/pictures/hold_out_images-1.json").is_file()


def test_frames_of_a_video_are_predicted_one_by_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def frames(path: Path, seconds: float) -> Iterator[tuple[str, np.ndarray]]:
        for number in range(2):
            yield f"{path.stem}-{number * seconds:08.2f}s", np.zeros((6, 8, 3), np.uint8)
        raise InputError("clip.MP4: broken")

    monkeypatch.setattr(predict, "read_frames", frames)
    Path("clip.MP4").touch()
    params = dataclasses.replace(PARAMS, predict=dataclasses.replace(PARAMS.predict, frame_seconds=2.5, export="coco"))
    predict.predict_named(["clip.MP4"], params)
    names = [f"clip-{time}s.{ending}" for time in ("00000.00", "00002.50") for ending in ("json", "png")]
    assert sorted(path.name for path in Path("predictions").iterdir()) == [*names, "export.json"]
    assert read_json(Path("predictions/export.json"))["images"] == []  # frames are no files that could be labeled
    assert "clip.MP4: broken" in caplog.text


def test_a_name_as_long_as_the_disk_takes() -> None:
    name = "n" * 251 + ".jpg"
    save(f"pictures/{name}")
    run()
    predict.predict_named([f"pictures/{name}"], PARAMS)
    assert read_json(Path("data/pictures.json"))[0]["name"] == name
    assert len(list(Path("plots/predict").iterdir())) == 1
    assert len(list(Path("predictions/pictures").iterdir())) == 2


def test_another_detector_is_named_before_the_pictures() -> None:
    save("pictures/a.jpg")
    for words in (["--detector", "one_stage", "pictures"], ["--detector=one_stage", "pictures"]):
        assert predict.read_command_line(words) == ("one_stage", ["pictures"])
    assert predict.read_command_line(["pictures", "--detector"]) == ("mask_rcnn", ["pictures", "--detector"])
    predict.predict_from(["--detector", "one_stage", "pictures"], PARAMS)
    (found,) = read_json(Path("predictions/pictures/a.jpg.json"))["detections"]
    assert set(found) == {"class", "score", "bbox"}
    predict.predict_from(["pictures"], PARAMS)
    (found,) = read_json(Path("predictions/pictures/a.jpg.json"))["detections"]
    assert set(found) == {"class", "score", "bbox", "segmentation"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--detector", "yolo", "a.jpg"], "--detector: expected mask_rcnn or one_stage, found 'yolo'"),
        (["--detector"], "--detector: expected mask_rcnn or one_stage, found ''"),
        (["--detector", "one_stage"], "--detector: expected a picture or a folder after it, found none"),
        (["--detector=one_stage"], "--detector: expected a picture or a folder after it, found none"),
    ],
)
def test_a_detector_that_is_none_or_has_nothing_to_look_at(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        predict.predict_from(words, PARAMS)
