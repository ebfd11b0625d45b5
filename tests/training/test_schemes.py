"""The schemes of joint training: their phases, and what learns in each of them on a small detector."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from src.core.params import JointLossWeights, JointParams
from src.data.prepared import Example, PreparedFile
from src.detector.mask_rcnn import MaskRCNN
from src.training import loop
from src.training.checkpoint import Checkpoint
from src.training.loop import Progress, Training, fit
from src.training.schedule import Schedule
from src.training.schemes import (
    ALL_PARTS,
    BODY,
    HEADS_AND_FPN,
    RPN_ALONE,
    Phase,
    phases,
)
from tests.detector.dense import BATCH, TERMS, in_joint_training, joint_params, small_detector
from tests.factories import make_prepared
from tests.training.pipeline import enter_workspace

FABRIC = Fabric(accelerator="cpu", devices=1, precision="32-true")
STEPS = 2
WEIGHTS = JointLossWeights(1.0, 2.0, 0.5, 4.0, 1.5)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Example]]:
    with PreparedFile(make_prepared(tmp_path_factory.mktemp("schemes"), 4)) as prepared:
        yield [prepared.example(index) for index in range(4)]


@pytest.fixture(scope="module")
def detector() -> MaskRCNN:
    return small_detector()


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    enter_workspace(monkeypatch, tmp_path)


def joint(**changes: Any) -> JointParams:
    return joint_params(**({"loss_weights": WEIGHTS} | changes)).joint


def train(model: MaskRCNN, phase: Phase, options: JointParams, examples: list[Example], steps: int = STEPS) -> Progress:
    """Some steps of a phase, and what they lose on another picture."""
    phase.prepare(model, options)
    training = Training[list[Example]](
        train=lambda epoch: ([examples[number % 3]] for number in range(steps)),
        steps=steps,
        test=lambda: [examples[3:]],
        arguments=BATCH,
        weights=phase.weights(options),
        names=lambda batch: [example.name for example in batch],
    )
    schedule = Schedule(phase.name, 1, steps, 3e-4, 1e-4, 1, slower={BODY: 0.1})
    return fit(FABRIC, model, schedule, training, histories=Path("plots"), checkpoint=Checkpoint("toy"))


def changed(model: MaskRCNN, before: Mapping[str, Tensor]) -> set[str]:
    """Names of the tensors, statistics included, that are no longer what they were."""
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def names_under(model: MaskRCNN, *prefixes: str) -> set[str]:
    """Names of all parameters of some parts."""
    return {name for name, _ in model.named_parameters() if name.startswith(prefixes)}


def deepest(model: MaskRCNN, layers: int) -> set[str]:
    """Names of the parameters of the body's last stages."""
    modules = [module for stage in model.backbone.body.layers()[5 - layers :] for module in stage]
    inside = {id(parameter) for module in modules for parameter in module.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in inside}


@pytest.mark.parametrize(
    ("scheme", "rounds", "expected"),
    [
        ("none", 1, ()),
        ("end_to_end", 3, (ALL_PARTS,)),
        ("alternating", 1, (RPN_ALONE, HEADS_AND_FPN, RPN_ALONE)),
        ("alternating", 2, (RPN_ALONE, HEADS_AND_FPN, RPN_ALONE, HEADS_AND_FPN, RPN_ALONE)),
    ],
)
def test_a_scheme_is_a_list_of_phases(scheme: str, rounds: int, expected: tuple[Phase, ...]) -> None:
    assert phases(joint(scheme=scheme, rounds=rounds)) == expected


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (RPN_ALONE, {"objectness": 1.0, "rpn_regression": 2.0}),
        (HEADS_AND_FPN, {"classification": 0.5, "box_regression": 4.0, "mask": 1.5}),
        (ALL_PARTS, dataclasses.asdict(WEIGHTS)),
    ],
)
def test_the_losses_that_nothing_learns_from_weigh_nothing(phase: Phase, expected: dict[str, float]) -> None:
    assert phase.weights(joint()) == {**dict.fromkeys(TERMS, 0.0), **expected}
    assert list(phase.weights(joint())) == TERMS


def test_the_body_s_prefix_is_the_body_s(detector: MaskRCNN) -> None:
    """`backbone_rate_factor` is of what it names, and of nothing else."""
    body = {id(parameter) for parameter in detector.backbone.body.parameters()}
    assert {name for name, value in detector.named_parameters() if id(value) in body} == names_under(detector, BODY)
    assert names_under(detector, BODY)


@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("phase", [RPN_ALONE, HEADS_AND_FPN, ALL_PARTS], ids=lambda phase: phase.name)
def test_what_learns_in_a_phase(detector: MaskRCNN, examples: list[Example], phase: Phase, layers: int) -> None:
    """Everything else, the RPN first of all, stays as it is to the last bit."""
    model = in_joint_training(copy.deepcopy(detector), box_batch_size_per_image=16)
    before = copy.deepcopy(model.state_dict())
    train(model, phase, joint(trainable_layers=layers), examples)
    rpn, heads, fpn = (names_under(model, f"{part}.") for part in ("rpn", "roi_heads", "backbone.fpn"))
    shared = fpn | deepest(model, layers)
    # RoIs of these small pictures are pooled from P2 alone, so the other levels' outputs have nothing to learn there.
    unseen = names_under(model, *(f"backbone.fpn.layer_blocks.{level}." for level in (1, 2, 3)))
    expected = {RPN_ALONE: rpn, HEADS_AND_FPN: heads | shared - unseen, ALL_PARTS: rpn | heads | shared}
    assert len(deepest(model, 2)) == 66
    assert changed(model, before) == expected[phase]


@pytest.mark.parametrize("earlier", [RPN_ALONE, HEADS_AND_FPN, ALL_PARTS], ids=lambda phase: phase.name)
@pytest.mark.parametrize("phase", [RPN_ALONE, HEADS_AND_FPN, ALL_PARTS], ids=lambda phase: phase.name)
def test_a_phase_forgets_what_learned_before_it(detector: MaskRCNN, earlier: Phase, phase: Phase) -> None:
    model = copy.deepcopy(detector)
    earlier.prepare(model, joint(trainable_layers=5))
    phase.prepare(model, joint(trainable_layers=1))
    parts = {
        RPN_ALONE: names_under(model, "rpn."),
        HEADS_AND_FPN: names_under(model, "roi_heads.", "backbone.fpn.") | deepest(model, 1),
        ALL_PARTS: names_under(model, "rpn.", "roi_heads.", "backbone.fpn.") | deepest(model, 1),
    }
    assert {name for name, value in model.named_parameters() if value.requires_grad} == parts[phase]


@pytest.mark.parametrize("phase", [RPN_ALONE, HEADS_AND_FPN, ALL_PARTS], ids=lambda phase: phase.name)
def test_every_loss_is_measured_whatever_learns(detector: MaskRCNN, examples: list[Example], phase: Phase) -> None:
    model = in_joint_training(copy.deepcopy(detector), box_batch_size_per_image=16)
    progress = train(model, phase, joint(), examples)
    weights = phase.weights(joint())
    for row in progress.histories["train"].rows + progress.histories["test"].rows:
        for name in TERMS:
            assert row[name] > 0
            assert row[f"{name}_weighted"] == pytest.approx(weights[name] * row[name])
        assert row["total"] == pytest.approx(sum(weights[name] * row[name] for name in TERMS))


HEADS_ALONE = Phase("heads on frozen features", rpn=False, heads=True, shared=False)


@pytest.mark.parametrize(
    ("phase", "moves"),
    [(HEADS_ALONE, False), (HEADS_AND_FPN, True), (ALL_PARTS, True)],
    ids=["heads", "heads and FPN", "all parts"],
)
def test_the_mask_weight_moves_the_box_head_through_shared_layers_alone(
    detector: MaskRCNN, examples: list[Example], monkeypatch: pytest.MonkeyPatch, phase: Phase, moves: bool
) -> None:
    """On frozen features it could act through the clipping only, which is out of the way here."""
    monkeypatch.setattr(loop, "LARGEST_GRADIENT_NORM", 1e9)
    images, (target,) = BATCH(examples[3:])
    outputs = []
    for weight in (1.0, 4.0):
        model = in_joint_training(copy.deepcopy(detector), box_batch_size_per_image=16)
        options = joint(loss_weights=dataclasses.replace(WEIGHTS, mask=weight))
        progress = train(model, phase, options, examples, steps=4)
        assert progress.histories["train"].rows[0]["mask_weighted"] > 0
        Checkpoint("toy").clear()
        model.eval()
        with torch.no_grad():
            logits, deltas = model.roi_heads.classify(model.backbone(images.tensors), [target.boxes])
        outputs.append(torch.cat([logits, deltas], dim=1))
    once, four_times = outputs
    assert torch.equal(once, four_times) != moves
    if moves:
        assert (once - four_times).abs().max() > 1e-4
