"""What stage `joint` takes from the stages before: heads that they trained or only pass on, and no broken file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from src.core import paths
from src.core.errors import InputError
from src.core.params import Params
from src.core.runtime import derive_seed
from src.core.tensors import cpu_state_dict, save_tensors
from src.detector.checkpoints import make_box_head
from src.sources.assignment import CLASSES
from src.training import loop
from stages.box_head import __main__ as box_head
from stages.features import __main__ as features
from stages.joint import __main__ as joint
from stages.mask_head import __main__ as mask_head
from tests.factories import make_prepared
from tests.stages.workspace import (
    content,
    learned,
    make_workspace,
    names,
    read,
    save_parts,
    states,
    tiny_params,
    written_by,
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("prepared"), images=8)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: Path) -> Path:
    """A folder with the pictures and the parts that stages `backbone` and `mask_head` leave."""
    folder = make_workspace(tmp_path, monkeypatch, prepared)
    save_parts(tiny_params())
    return folder


def no_step(*arguments: Any) -> loop.Row:
    raise AssertionError("a step was made")


def with_epochs(*, backbone_epochs: int = 2, box_epochs: int, mask_epochs: int) -> Params:
    """The params with other lengths of the trainings before."""
    whole = tiny_params()
    return dataclasses.replace(
        whole,
        joint=dataclasses.replace(whole.joint, epochs=1),
        backbone=dataclasses.replace(whole.backbone, epochs=backbone_epochs),
        box_head=dataclasses.replace(whole.box_head, epochs=box_epochs),
        mask_head=dataclasses.replace(whole.mask_head, epochs=mask_epochs),
    )


@pytest.mark.parametrize("backbone_epochs", [0, 2])
def test_fresh_heads_learn_in_joint_training_alone(
    backbone_epochs: int, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing is cached, and the stages of the heads only pass them on: as fine-tuning left them, or untrained."""
    fresh = with_epochs(backbone_epochs=backbone_epochs, box_epochs=0, mask_epochs=0)
    paths.MASK_HEAD.unlink()
    features.main(fresh)
    levels = dict.fromkeys(("P2", "P3", "P4", "P5"), 0.0)
    assert read(paths.metrics("features")) == {"images": 0, "rois": 0, "levels": levels}
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_step", no_step)
        for stage, main in (("box_head", box_head.main), ("mask_head", mask_head.main)):
            written = written_by(main, fresh, workspace)
            assert list(written) == [f"models/{stage}.pt", f"plots/{stage}/test.csv", f"plots/{stage}/train.csv"]
            assert written[f"plots/{stage}/train.csv"] == written[f"plots/{stage}/test.csv"] == b""
    torch.manual_seed(derive_seed(fresh.box_head.seed))
    untrained = cpu_state_dict(make_box_head(fresh, CLASSES))
    passed_on = torch.load(paths.BACKBONE, weights_only=True)["box_head"] if backbone_epochs else untrained
    heads = states(paths.MASK_HEAD)
    assert content(heads["box_head"]) == content(passed_on)
    joint.main(fresh)
    detector = states(paths.DETECTOR)
    assert learned(heads, {part: detector[part] for part in heads}) == names(heads)


@pytest.mark.parametrize(("box_epochs", "mask_epochs"), [(0, 1), (1, 0)])
def test_features_are_cached_where_either_head_learns_from_them(
    box_epochs: int, mask_epochs: int, workspace: Path
) -> None:
    settings = with_epochs(box_epochs=box_epochs, mask_epochs=mask_epochs)
    features.main(settings)
    facts = read(paths.metrics("features"))
    assert facts["images"] == 8
    assert facts["rois"] > 8
    box_head.main(settings)
    mask_head.main(settings)
    for stage, epochs in (("box_head", box_epochs), ("mask_head", mask_epochs)):
        lines = (workspace / f"plots/{stage}/train.csv").read_text().splitlines()
        assert len(lines) == (4 if epochs else 0)


def missing(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def without_its_first_part(path: Path) -> None:
    _, *others = torch.load(path, weights_only=True).items()
    save_tensors(path, dict(others))


def of_another_width(path: Path) -> None:
    parts = states(path)
    for state in parts.values():
        state.update({name: value[..., :1] for name, value in state.items()})
    save_tensors(path, {**parts, "classes": [*CLASSES.names]})


@pytest.mark.parametrize("harm", [missing, cut, without_its_first_part, of_another_width])
@pytest.mark.parametrize("name", ["models/mask_head.pt", "models/backbone.pt"])
def test_parts_that_are_missing_or_broken_are_refused_in_one_line(
    name: str, harm: Callable[[Path], None], workspace: Path
) -> None:
    harm(workspace / name)
    with pytest.raises(InputError, match=rf"^{name}\S*: expected .*, found ") as refused:
        joint.main(tiny_params())
    assert "\n" not in str(refused.value)
    assert not paths.DETECTOR.exists()
    assert not paths.plots("joint").exists()
