"""The one-stage detector and torchvision's RetinaNet do the same work in the benchmark."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks import one_stage, steps
from benchmarks.interleaved import run_interleaved
from src.core.params import Params
from src.detector.checkpoints import load_one_stage

pytestmark = pytest.mark.usefixtures("under_bf16")


def with_scores(params: Params) -> Params:
    """Nothing is below the threshold, so that an untrained head finds something to compare."""
    return dataclasses.replace(params, evaluate=dataclasses.replace(params.evaluate, score_threshold=0.0))


def test_both_find_the_same(finished: Params) -> None:
    case = one_stage.inference(with_scores(finished))
    found = case.agreement.split(", ")
    assert found[:1] + found[2:3] == ["in float32", "labels alike"]
    assert int(found[1].split()[0]) > 0
    assert float(found[3].split()[2]) < 1e-3
    assert "masks" not in case.agreement


def test_inference_runs_in_turns(finished: Params, under_bf16: list[bool]) -> None:
    names = ["ours, bf16", "torchvision, float32", "torchvision, bf16 autocast", "ours, float32"]
    assert list(run_interleaved(one_stage.inference(finished), 1)["seconds"]) == names
    assert len(under_bf16) == 2  # the warm-up and the round, of one of them


def test_losses_before_the_first_step_are_the_same(finished: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[dict[str, float]] = []
    moved: list[set[str]] = []

    def noting(model: torch.nn.Module, _: object, terms: dict[str, torch.Tensor]) -> None:
        taken.append({name: float(value.detach()) for name, value in terms.items()})
        moved.append({name.split(".")[0] for name, one in model.named_parameters() if one.requires_grad})

    monkeypatch.setattr(steps, "step", noting)
    case = one_stage.training(finished)
    assert len(case.implementations) == 3
    for call in case.implementations.values():
        call()
    ours, *others = taken
    assert set(ours) == {"classification", "box_regression"}
    for theirs in others:
        assert theirs["classification"] == pytest.approx(ours["classification"], rel=5e-3)  # its own normalization
        assert theirs["bbox_regression"] == pytest.approx(ours["box_regression"], rel=5e-3)
    assert moved == [{"backbone", "head"}] * 3


@pytest.mark.parametrize(("finest", "levels"), [(2, 5), (4, 3)])
def test_the_baseline_looks_at_the_same_levels(finest: int, levels: int, finished: Params) -> None:
    params = dataclasses.replace(finished, one_stage=dataclasses.replace(finished.one_stage, finest_level=finest))
    ours, _ = load_one_stage(params, torch.device("cpu"))
    images = torch.randn(1, 3, 96, 160)
    found = list(one_stage.torchvision_of(ours).backbone(images).values())
    assert len(found) == levels
    for own, other in zip(ours.backbone.levels_from(images, finest), found, strict=True):
        torch.testing.assert_close(other, own, rtol=0, atol=2e-5 * own.abs().max().item())


def test_there_are_two_cases(finished: Params) -> None:
    assert [make.func for make in one_stage.cases(finished)] == [one_stage.training, one_stage.inference]
