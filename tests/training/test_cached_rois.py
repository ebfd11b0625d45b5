"""Which views of cached features a head learns from, and which it is measured on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch

from src.core import paths
from src.data.feature_cache import FeaturesWriter
from src.data.prepared import PreparedFile
from src.detector.roi_cache import CachedBatch, open_cached_rois
from src.detector.sampling import RoiRules
from src.training.cached_rois import from_cached_rois
from tests.detector.small import params
from tests.detector.test_cached_rois import make_cached
from tests.factories import make_prepared
from tests.training.toy import FABRIC

RULES = RoiRules(8, 0.25, 0.5)
WEIGHTS = {"classification": 2.0, "box_regression": 0.5}


@pytest.fixture(scope="module", autouse=True)
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Ten pictures in the working directory, and cached features of the eight training and the two test ones."""
    folder = tmp_path_factory.mktemp("cached")
    (folder / "data").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with PreparedFile(make_prepared(folder / "data", 10)) as prepared, FeaturesWriter(paths.FEATURES) as writer:
            for index in range(len(prepared)):
                writer.append(make_cached(prepared, index, flipped=False, train=prepared.split(index) == "train"))
        yield folder


def same(one: Iterable[CachedBatch], other: Iterable[CachedBatch]) -> bool:
    """Whether two trainings see the same: pictures, sampled RoIs, and what those are to learn."""
    pairs = list(zip(one, other, strict=True))
    fields = [field.name for field in dataclasses.fields(pairs[0][0].rois) if field.name != "draws"]
    return all(
        first.names == second.names
        and all(torch.equal(getattr(first.rois, name), getattr(second.rois, name)) for name in fields)
        for first, second in pairs
    )


@pytest.mark.parametrize("mask_rois", [0, 2])
def test_training_views_are_learned_and_test_views_measured(mask_rois: int) -> None:
    options = dataclasses.replace(params().box_head, batch_size=3, seed=5)
    training = from_cached_rois(options, RULES, WEIGHTS, FABRIC, mask_rois=mask_rois)
    train, test = open_cached_rois(
        paths.FEATURES, paths.PREPARED, rules=RULES, batch_size=3, mask_rois=mask_rois, seed=5
    )
    assert training.steps == len(list(training.train(0))) == 3
    for epoch in range(2):
        assert same(training.train(epoch), train.batches(epoch))
    assert not same(training.train(0), training.train(1))
    for _ in range(2):
        assert same(training.test(), test.batches(0))
    assert {name for batch in training.train(0) for name in training.names(batch)} == {f"{n:06d}" for n in range(8)}
    assert {name for batch in training.test() for name in training.names(batch)} == {"000008", "000009"}


def test_a_head_takes_the_rois_alone() -> None:
    options = dataclasses.replace(params().mask_head, batch_size=2, seed=5)
    training = from_cached_rois(options, RULES, WEIGHTS, FABRIC, mask_rois=1)
    batch = next(iter(training.train(0)))
    assert training.arguments(batch) == [batch.rois]
    assert training.weights == WEIGHTS
    assert training.histories == ["train", "test"]  # validation pictures have no cached views
