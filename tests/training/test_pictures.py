"""Which pictures a training learns from, and which it is measured on."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from src.core.errors import InputError
from src.core.params import JointParams
from src.data.augmentation import Augmentation
from src.data.batches import Batcher
from src.data.loading import Loader
from src.data.prepared import Example
from src.detector.backbones import LITE
from src.training.loop import Training
from src.training.pictures import from_pictures
from tests.detector.small import params
from tests.factories import make_prepared
from tests.training.toy import FABRIC

TRAIN, VALIDATION, TEST = [0, 2, 3, 5, 7], [1, 4, 6], [8, 9, 10]
VARIED = Augmentation(scale_jitter=0.5, color_jitter=0.4, copy_paste=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("pictures"), 11, VALIDATION)


def make_folder(folder: Path, images: int, validation: Sequence[int]) -> Path:
    """A folder with a prepared file where the stages have it."""
    (folder / "data").mkdir()
    make_prepared(folder / "data", images, validation=validation)
    return folder


@pytest.fixture(autouse=True)
def workspace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def options(**changes: Any) -> JointParams:
    return dataclasses.replace(params().joint, **({"batch_size": 2, "flip": True, "seed": 3} | changes))


def opened(**changes: Any) -> Training[list[Example]]:
    return from_pictures(options(), LITE, FABRIC, **({"tested": 2} | changes))


def rows(batches: Iterable[list[Example]]) -> list[list[int]]:
    return [[example.index for example in batch] for batch in batches]


def same(one: Example, other: Example) -> bool:
    return all(
        torch.equal(first, second)
        for first, second in (
            (one.image, other.image),
            (one.target.boxes, other.target.boxes),
            (one.target.masks, other.target.masks),
        )
    )


def test_each_split_serves_its_purpose() -> None:
    """All training pictures in an order of their own, the first test pictures, all validation pictures."""
    training = opened()
    assert training.validation is not None
    for epoch in range(3):
        assert sorted(itertools.chain(*rows(training.train(epoch)))) == TRAIN
    assert training.steps == len(rows(training.train(0))) == 3
    assert rows(training.train(0)) != rows(training.train(1))
    assert rows(training.test()) == [TEST[:2]]
    assert rows(training.validation()) == [VALIDATION[:2], VALIDATION[2:]]
    assert training.histories == ["train", "test", "validation"]


@pytest.mark.parametrize("masks", [False, True])
def test_measured_pictures_are_as_they_are_stored_every_time(masks: bool) -> None:
    training = opened(tested=3, masks=masks, augmentation=VARIED)
    assert training.validation is not None
    for batches, chosen in ((training.test, TEST), (training.validation, VALIDATION)):
        stored = Loader(Path("data/prepared.h5"), chosen, 1, 0, flip=False, masks=masks, shuffle=False)
        expected = [example for (example,) in stored.batches(0)]
        for _ in range(2):
            found = [example for batch in batches() for example in batch]
            assert all(same(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("augmentation", [None, VARIED])
@pytest.mark.parametrize("masks", [False, True])
def test_training_pictures_are_the_loader_s(masks: bool, augmentation: Augmentation | None) -> None:
    training = opened(masks=masks, augmentation=augmentation)
    loader = Loader(Path("data/prepared.h5"), TRAIN, 2, 3, flip=True, masks=masks, augmentation=augmentation)
    for one, other in zip(training.train(1), loader.batches(1), strict=True):
        assert all(same(*pair) for pair in zip(one, other, strict=True))
        assert training.names(one) == [example.name for example in other]


def test_measured_batches_may_have_a_size_of_their_own() -> None:
    training = opened(tested=3, test_batch_size=1)
    assert training.validation is not None
    assert rows(training.test()) == [[row] for row in TEST]
    assert rows(training.validation()) == [[row] for row in VALIDATION]
    assert {len(batch) for batch in training.train(0)} == {2, 1}


def test_arguments_and_weights_are_those_of_the_network() -> None:
    training = opened()
    batch = next(iter(training.test()))
    images, targets = training.arguments(batch)
    expected, truth = Batcher(LITE, FABRIC.device)(batch)
    assert torch.equal(images.tensors, expected.tensors)
    assert [target.labels.tolist() for target in targets] == [target.labels.tolist() for target in truth]
    assert training.weights == dataclasses.asdict(params().joint.loss_weights)


def test_without_a_validation_part_nothing_is_chosen_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_folder(tmp_path, 3, []))
    training = opened()
    assert training.validation is None
    assert training.histories == ["train", "test"]


def test_refuses_a_file_without_training_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_folder(tmp_path, 3, [0, 1]))
    with pytest.raises(InputError, match="expected training images, found none"):
        opened()
