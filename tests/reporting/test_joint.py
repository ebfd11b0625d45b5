"""Tasks 11 and 12: which parts this run trained alone, which together, and what that did to the losses."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.reporting.answers import part_b
from src.reporting.answers.answer import Answer
from src.reporting.loss_curves import has_gradients, was_trained
from tests.reporting.runs import LOSSES, losses_on_test_images, metrics, training_params, with_params, write_run

HIGH, LOW = dict.fromkeys(LOSSES, 0.5), dict.fromkeys(LOSSES, 0.2)
POOLED = "For the heads' own trainings 112\u202f000 boxes of 560 images were pooled once."
LOST = (
    "objects that the frozen RPN never proposes are lost to the heads, and its 7 proposals cover 93.0% of the objects"
)


def task_11(tmp_path: Path, **params: int | float | str) -> Answer:
    return part_b.task_11(write_run(tmp_path, params=training_params(**params)))


@pytest.mark.parametrize(
    ("stages", "parts", "rest"),
    [
        (0, "heads, RPN and pyramid", " The body under the pyramid stayed as it was."),
        (1, "heads, RPN, pyramid and the deepest stage of the body (at 0.1 of the learning rate)", ""),
        (2, "heads, RPN, pyramid and the 2 deepest stages of the body (at 0.1 of the learning rate)", ""),
        (5, "heads, RPN, pyramid and the whole body (at 0.1 of the learning rate)", ""),
    ],
)
def test_end_to_end(stages: int, parts: str, rest: str, tmp_path: Path) -> None:
    told = task_11(tmp_path, scheme="end_to_end", epochs=3, trainable_layers=stages).words["joint"]
    assert told == (
        f"The stage joint then trained all parts end to end for 3 epochs, in 8.2 min: in every step the RPN proposes "
        f"anew, and the weighted sum of all five losses trains {parts}.{rest}"
    )


@pytest.mark.parametrize(
    ("stages", "parts", "rest"),
    [
        (0, "heads and pyramid", " The body under the pyramid stayed as it was."),
        (1, "heads, pyramid and the deepest stage of the body (at 0.05 of the learning rate)", ""),
        (2, "heads, pyramid and the 2 deepest stages of the body (at 0.05 of the learning rate)", ""),
    ],
)
@pytest.mark.parametrize(
    ("rounds", "each", "last"), [(1, "first", "at the end"), (2, "in each of 2 rounds", "after the last round")]
)
def test_alternating(stages: int, parts: str, rest: str, rounds: int, each: str, last: str, tmp_path: Path) -> None:
    options = {"scheme": "alternating", "rounds": rounds, "trainable_layers": stages, "backbone_rate_factor": 0.05}
    told = task_11(tmp_path, **options, epochs=1).words["joint"]
    assert told == (
        f"The stage joint then trained the parts in turns, in 8.2 min: {each} the RPN alone, then {parts} on its "
        f"proposals, and {last} the RPN once more. Each turn lasted 1 epoch.{rest}"
    )


@pytest.mark.parametrize("stages", [0, 1, 2])
def test_parts_that_are_put_together_as_they_are(stages: int, tmp_path: Path) -> None:
    answer = task_11(tmp_path, scheme="none", trainable_layers=stages)
    assert answer.words["joint"].startswith("The parts are then put together as they are (joint.scheme: none)")
    assert answer.tables == {}
    assert "outcome" not in answer.words


def test_the_time_of_joint_training_may_not_be_known(tmp_path: Path) -> None:
    results = write_run(tmp_path)
    del results.seconds["joint"]
    assert "end to end for 3 epochs: in every step" in part_b.task_11(results).words["joint"]


def test_losses_on_test_images_stand_in_the_table(tmp_path: Path) -> None:
    results = write_run(tmp_path)
    losses_on_test_images(tmp_path / "plots", HIGH | {"mask": 0.61234}, LOW)
    table = part_b.task_11(results).tables["losses"]
    assert len(table.head) == 3
    assert list(table.rows)[1] == ["RPN regression", "0.500", "0.200"]
    assert list(table.rows)[4] == ["mask", "0.612", "0.200"]
    assert len(list(table.rows)) == len(LOSSES)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (LOW, "mask fell from 0.500 to 0.200. All five fell: no part paid for another."),
        (HIGH, "mask stayed at 0.500. None fell: what was learned on top belongs to the training images."),
        (
            LOW | {"rpn_regression": 0.7, "mask": 0.6},
            "mask rose from 0.500 to 0.600. RPN regression and mask did not fall.",
        ),
        (LOW | {"classification": 0.5}, "mask fell from 0.500 to 0.200. Classification did not fall."),
        (LOW | {"classification": 0.49999}, "Classification did not fall."),  # by the digits that the reader sees
    ],
)
def test_what_joint_training_did_to_each_loss(after: dict[str, float], said: str, tmp_path: Path) -> None:
    results = write_run(tmp_path)
    losses_on_test_images(tmp_path / "plots", HIGH, after)
    told = part_b.task_11(results).words["outcome"]
    assert told.startswith("On test images objectness ")
    assert told.endswith(said)


@pytest.mark.parametrize(
    ("box_head", "mask_head", "said", "cost"),
    [
        (3, 4, "the heads learn from the cached features", "2.0 min for the training of the box head and 2.5 min"),
        (0, 4, "the heads learn from the cached features", "61 s for running backbone and RPN once over all images"),
        (3, 0, "the box head learns from the cached features", "and 2.0 min for the training of the box head."),
        (0, 0, "The heads are not trained on cached features", "This took 6.7 min for the fine-tuning."),
    ],
)
def test_what_was_trained_alone_and_for_how_long(
    box_head: int, mask_head: int, said: str, cost: str, tmp_path: Path
) -> None:
    params = with_params(training_params(box_head=box_head, mask_head=mask_head), "proposals", post_nms_top_n=7)
    words = part_b.task_11(write_run(tmp_path, params=params)).words
    assert said in words["heads"]
    assert cost in words["cost"]
    assert ("the training of both heads" in words["cost"]) == bool(mask_head)
    assert (LOST in words["heads"]) == bool(box_head + mask_head)


def test_nothing_was_trained_alone(tmp_path: Path) -> None:
    params = with_params(training_params(box_head=0, mask_head=0), "backbone", epochs=0)
    assert part_b.task_11(write_run(tmp_path, params=params)).words["cost"] == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, POOLED),
        ({"box_head": 0}, POOLED),
        ({"mask_head": 0, "scheme": "none"}, POOLED),
        ({"box_head": 0, "mask_head": 0}, "no features were cached: the heads learn in joint training alone."),
        ({"box_head": 0, "mask_head": 0, "scheme": "none"}, "no training of the heads follows the fine-tuning."),
    ],
)
def test_how_much_was_cached(options: dict[str, int | str], said: str, tmp_path: Path) -> None:
    assert part_b.task_12(write_run(tmp_path, params=training_params(**options))).words["cached"].endswith(said)


def test_levels_of_nothing_are_not_counted(tmp_path: Path) -> None:
    nothing = {"images": 0, "rois": 0, "levels": dict.fromkeys(("P2", "P3", "P4", "P5"), 0.0)}
    results = write_run(tmp_path, metrics(features=nothing), training_params(box_head=0, mask_head=0))
    assert part_b.task_12(results).words["levels"] == ""


@pytest.mark.parametrize("stage", ["box_head", "mask_head"])
@pytest.mark.parametrize("epochs", [0, 1])
def test_a_stage_that_made_no_step_was_not_trained(stage: str, epochs: int, tmp_path: Path) -> None:
    results = write_run(tmp_path, params=training_params(**{stage: epochs}))
    assert was_trained(results, stage) == bool(epochs)


@pytest.mark.parametrize(
    ("scheme", "interval", "trained", "measured"),
    [
        ("none", 25, False, False),
        ("end_to_end", 25, True, True),
        ("alternating", 25, True, True),
        ("end_to_end", 0, True, False),
    ],
)
def test_what_joint_training_leaves(scheme: str, interval: int, trained: bool, measured: bool, tmp_path: Path) -> None:
    results = write_run(tmp_path, params=training_params(scheme=scheme, gradient_interval=interval))
    assert (was_trained(results, "joint"), has_gradients(results)) == (trained, measured)
