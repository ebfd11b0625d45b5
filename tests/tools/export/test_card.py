"""The model card: its numbers are the run's."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from src.core.params import Params
from src.reporting.formatting import score
from tests.reporting.runs import METRICS, metrics, training_params, with_params, write_run
from tools.export.card import model_card
from tools.export.parity import Parity

PARITY = Parity(6, 41, 42, 40, 0.0123, 0.000045, 0.9912)


def card(root: Path, content: dict[str, Any] | None = None, params: Params | None = None) -> str:
    return model_card(write_run(root, content or METRICS, params), PARITY)


def test_the_numbers_are_the_run_s(tmp_path: Path) -> None:
    text, evaluate = card(tmp_path), METRICS["evaluate"]
    for kind in ("box", "mask"):
        low, high = (score(evaluate["ap50_interval"][kind][side]) for side in ("low", "high"))
        row = f"| {kind} | {score(evaluate[f'{kind}_ap50'])} ({low} to {high}) | {score(evaluate[f'{kind}_ap'])} |"
        assert row in text
    for name, entry in evaluate["by_class"].items():
        numbers = (score(entry[key]) for key in ("box_ap50", "box_ap", "mask_ap50", "mask_ap"))
        assert f"| {name} | {' | '.join(numbers)} |" in text
    assert "| images | 240 | 0 | 80 |" in text
    assert "| objects: person | 120 | 0 | 40 |" in text
    assert "40 of 41 detections are the pipeline's (42 found): boxes within 0.0123 pixels" in text
    assert "mask IoU from 0.9912 on" in text
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Model", "Data", "Training", "Metrics", "Limits", "Licenses"]


def test_what_has_no_number_is_said_to_have_none(tmp_path: Path) -> None:
    nothing = {"mask_iou": None, "box_ap50": None, "ap50_interval": {"box": None, "mask": None}}
    changed = metrics(evaluate=METRICS["evaluate"] | nothing)
    text = card(tmp_path, changed)
    assert "| box | undefined |" in text
    assert "found: undefined" in text


def test_training_is_told_as_params_have_it(tmp_path: Path) -> None:
    params = training_params(box_head=3, mask_head=4, scheme="alternating", epochs=5)
    text = card(tmp_path / "alternating", params=params)
    for words in ("`box_head`, the box head on cached features: 3 epochs", "`alternating`: 5 epochs, seed"):
        assert words in text
    assert "never trained together" in card(tmp_path / "none", params=training_params(scheme="none"))


@pytest.mark.parametrize(
    ("source", "words", "others"),
    [
        ("emoji", ["CC BY 4.0", "Twemoji", "made scenes alone"], ["photographers"]),
        ("course", ["photographers"], ["Twemoji", "made scenes"]),
        ("coco", ["which the run does not know"], ["Twemoji", "made scenes"]),
    ],
)
def test_the_data_s_license_is_its_source_s(tmp_path: Path, source: str, words: list[str], others: list[str]) -> None:
    text = card(tmp_path, params=with_params(training_params(), "data", source=source))
    assert [word for word in words if word not in text] == [word for word in others if word in text] == []


@pytest.mark.parametrize(
    ("name", "weights", "words"),
    [
        ("efficientnet_lite2", "imagenet", "Apache 2.0; trained on ImageNet"),
        ("resnet50", "imagenet", "BSD 3-Clause; trained on ImageNet"),
        ("resnet50", "coco", "BSD 3-Clause; trained on COCO"),
        ("resnet50", "none", "weights: none"),
        ("resnet50", "some/file.pth", "those of the checkpoint"),
    ],
)
def test_the_license_of_the_weights(tmp_path: Path, name: str, weights: str, words: str) -> None:
    text = card(tmp_path, params=with_params(training_params(), "backbone", name=name, weights=weights))
    assert words in text
    assert f"`{name}`" in text


@pytest.mark.parametrize("border", ["remove", "clip"])
def test_the_border_is_a_limit_where_boxes_are_removed(tmp_path: Path, border: str) -> None:
    params = training_params()
    params = dataclasses.replace(params, evaluate=dataclasses.replace(params.evaluate, border=border))
    assert ("are removed" in card(tmp_path, params=params)) == (border == "remove")
