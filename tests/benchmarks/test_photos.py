"""The comparison on photos: which points it keeps, torchvision's training and its resuming, the table."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import photos
from src.core.errors import InputError
from src.core.files import read_json, write_json
from src.core.params import Params
from src.core.params_file import load_params
from src.core.runtime import make_fabric
from src.data.loading import Loader
from src.evaluation import bootstrap

JOINT: dict[str, Any] = {
    "scheme": "end_to_end",
    "rounds": 1,
    "epochs": 2,
    "trainable_layers": 1,
    "learning_rate": 0.001,
}


def point(**other: Any) -> dict[str, Any]:
    interval = {"estimate": 0.25, "low": 0.125, "high": 0.5, "resamples": 9}
    scheme = {"trainable_layers": 0, "epochs": 4, "learning_rate": 5e-4, "views": 2, "head_epochs": [5, 5]}
    reached = {"box_ap50": 0.25, "mask_ap50": None, "box_ap": 0.0625, "mask_ap": 0.03125, "seconds": 90.0}
    intervals = {"ap50_interval": {"box": interval, "mask": None}}
    measured = {"precision": "bf16", "machine": {"threads": 2, "vectors": "AVX512"}}
    return {**scheme, "border": "remove", **measured, **reached, **intervals, **other}


def test_a_repeated_scheme_takes_the_place_of_its_old_point_only() -> None:
    others: list[dict[str, Any]] = [{"trainable_layers": 2}, {"border": "clip"}, {"precision": "float32"}]
    others += [{"head_epochs": [3, 3]}, {"joint": JOINT}, {"joint": {**JOINT, "epochs": 5}}]
    points = [point(), *(point(**other) for other in others)]
    assert photos.other_than(point(seconds=1.0, box_ap50=0.5), points, photos.SCHEME) == points[1:]
    assert photos.other_than(point(joint=None), points, photos.SCHEME) == points[1:]  # as before there was any
    assert photos.other_than(point(joint=JOINT), points, photos.SCHEME) == [*points[:5], points[6]]


def test_minutes_are_those_of_the_run_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = load_params()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    names = ("box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75", "ap50_interval", "proposal_recall")
    write_json(Path("metrics/evaluate.json"), {**dict.fromkeys(names, 0.25), "split": "test"})
    for name in ("rpn", "evaluate_rpn", "evaluate_backbone", "detect", "evaluate"):  # no training of the detector
        write_json(Path(".cache/seconds") / f"{name}.json", 900.0)
    for seconds, name in enumerate(photos.STAGES, start=1):
        write_json(Path(".cache/seconds") / f"{name}.json", seconds)
    assert photos.ours(params)["seconds"] == 1 + 2 + 3 + 4 + 5


@pytest.mark.parametrize(
    ("head_epochs", "scheme", "views", "joint"),
    [
        ((3, 4), "end_to_end", 2, JOINT),
        ((0, 4), "end_to_end", 2, JOINT),
        ((0, 0), "end_to_end", 0, JOINT),
        ((3, 4), "none", 2, None),
    ],
)
def test_a_point_is_what_its_trainings_say(
    head_epochs: tuple[int, int], scheme: str, views: int, joint: dict[str, Any] | None
) -> None:
    whole = load_params()
    params = dataclasses.replace(
        whole,
        data=dataclasses.replace(whole.data, source="coco"),
        box_head=dataclasses.replace(whole.box_head, epochs=head_epochs[0]),
        mask_head=dataclasses.replace(whole.mask_head, epochs=head_epochs[1]),
        joint=dataclasses.replace(whole.joint, **{**JOINT, "scheme": scheme}),
    )
    assert photos.cached_views(params) == views
    assert photos.joint_training(params) == joint


def test_the_rate_warms_up_to_its_peak_and_falls_to_nothing() -> None:
    assert photos.learning_rate(0.0) == 0.0
    assert photos.learning_rate(photos.WARM_UP / 2) == pytest.approx(0.5)
    assert photos.learning_rate(photos.WARM_UP) == pytest.approx(1.0)
    assert photos.learning_rate((1 + photos.WARM_UP) / 2) == pytest.approx(0.5)
    assert photos.learning_rate(1.0) == pytest.approx(0.0)


def test_the_table_has_every_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "RESULTS", tmp_path / "photos.json")
    monkeypatch.setattr(photos, "PAGE", tmp_path / "photos.md")
    slow = {"threads": 2, "vectors": "AVX2"}
    points = [point(), point(epochs=3, machine=slow), point(epochs=2, joint=None)]
    theirs = point(trainable_layers=2, schedule=4, epochs=3, machine=slow)
    data = {"train_images": 3, "test_images": 2}
    ours = [*points, point(joint=JOINT), point(joint={**JOINT, "scheme": "alternating"})]
    photos.write_results({"ours": ours, "torchvision": [theirs], "data": data})
    numbers = "bf16 | 1.5 | 0.250 (0.125 to 0.500) | 0.000 | 0.062 | 0.031 |"
    text = (tmp_path / "photos.md").read_text()
    for epochs, machine in ((4, 1), (3, 2), (2, 1)):
        scheme = f"ours, boxes across the border removed | 0 | {epochs} at 0.0005, then 2 to cache features | 5 + 5"
        assert f"| {scheme} |  | {numbers} {machine} |" in text
    assert f"| 5 + 5 | end_to_end, 2 at 0.001, stages 1 | {numbers} 1 |" in text
    assert f"| 5 + 5 | alternating, rounds 1, 2 at 0.001, stages 1 | {numbers} 1 |" in text
    assert f"| torchvision | 2 | 3 of 4 |  |  | {numbers} 2 |" in text
    assert "Machine 1: threads 2, vectors AVX512." in text
    assert "Machine 2: threads 2, vectors AVX2." in text


def test_torchvision_learns_and_resumes_after_its_last_epoch(finished: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    scheme = {"trainable_layers": 1, "schedule": 2, "precision": "float32"}
    ran: list[tuple[int, int]] = []
    train = photos.train_epoch

    def noting(fabric: Any, model: Any, optimizer: Any, loader: Any, place: tuple[int, int]) -> None:
        before = {name: value.clone() for name, value in model.named_parameters()}
        train(fabric, model, optimizer, loader, place)
        moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
        assert moved == {name for name, value in model.named_parameters() if value.requires_grad}
        assert not any(name.startswith("backbone.body.net.conv_stem") for name in moved)
        ran.append(place)

    def few(prepared: Path, rows: list[int], *rest: Any, **options: Any) -> Loader:
        return Loader(prepared, rows[:4], *rest, **options)  # two steps per epoch; the rate of the very first is 0

    monkeypatch.setattr(photos, "train_epoch", noting)
    monkeypatch.setattr(photos, "Loader", few)
    monkeypatch.setattr(bootstrap, "bootstrap_ap50", functools.partial(bootstrap.bootstrap_ap50, resamples=20))
    fabric = make_fabric(finished.runtime)
    first = list(next(photos.train_torchvision(fabric, finished, scheme)))  # stopped after an epoch
    curves = list(photos.train_torchvision(fabric, finished, scheme))
    assert ran == [(0, 2), (1, 2)]
    assert [len(curve) for curve in curves] == [2]
    assert curves[0][0] == first[0]
    assert [one["epochs"] for one in curves[0]] == [1, 2]
    assert curves[0][1]["seconds"] > first[0]["seconds"] > 0
    for one in curves[0]:
        assert one["machine"]["threads"] == 1
        assert 0 <= one["box_ap"] <= one["box_ap50"] <= 1
        assert set(one["ap50_interval"]) == {"box", "mask"}


def test_numbers_of_the_validation_part_are_no_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = load_params()
    monkeypatch.chdir(tmp_path)
    write_json(Path("metrics/evaluate.json"), {"split": "validation"})
    with pytest.raises(InputError, match="expected numbers of the test images, as torchvision's are, found validation"):
        photos.ours(params)


def test_augmentation_is_part_of_what_joint_training_is() -> None:
    plain = load_params()
    varied = dataclasses.replace(plain, augment=dataclasses.replace(plain.augment, copy_paste=0.5))
    assert photos.joint_training(varied) == {
        **(photos.joint_training(plain) or {}),
        "scale_jitter": 0.0,
        "color_jitter": 0.0,
        "copy_paste": 0.5,
    }


def test_main_adds_our_point_and_the_curve(finished: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75", "proposal_recall")
    measured = {"ap50_interval": {"box": None, "mask": None}, "split": "test"}
    write_json(Path("metrics/evaluate.json"), {**dict.fromkeys(names, 0.25), **measured})
    write_json(Path("metrics/ingest.json"), {"source": "test", "train_images": 8, "test_images": 2, "images": 10})
    for name in photos.STAGES:
        write_json(Path(".cache/seconds") / f"{name}.json", 60)
    given = point(schedule=1, precision="float32", epochs=1)
    monkeypatch.setattr(photos, "train_torchvision", lambda *_: iter([[given]]))
    command = ["photos", "--epochs", "1", "--trainable-layers", "0"]
    for _ in range(2):  # the second replaces what the first measured
        monkeypatch.setattr("sys.argv", command)
        photos.main()
    results = read_json(Path("benchmarks/photos.json"))
    assert results["torchvision"] == [given]
    (ours,) = results["ours"]
    assert {name: ours[name] for name in photos.SCHEME} == {
        "trainable_layers": finished.backbone.trainable_layers,
        "epochs": 1,
        "learning_rate": finished.backbone.learning_rate,
        "views": 1,
        "head_epochs": [1, 1],
        "joint": photos.joint_training(finished),
        "border": "remove",
        "precision": "float32",
    }
    assert ours["seconds"] == 300
    assert results["data"] == {"source": "test", "train_images": 8, "test_images": 2}
    assert "| torchvision | 0 | 1 of 1 |" in Path("benchmarks/photos.md").read_text(encoding="utf-8")
