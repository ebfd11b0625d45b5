"""Minibatches: every picture once per epoch, an order of seed and epoch only, mirroring, threads that end."""

import itertools
import threading
import time
from pathlib import Path

import pytest
import torch

from src.core.errors import InputError
from src.data.loading import Loader, read_ahead
from src.data.prepared import PreparedFile, flip
from tests.factories import make_prepared


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("loading"), 8)


def rows(loader: Loader, epoch: int) -> list[list[int]]:
    return [[example.index for example in batch] for batch in loader.batches(epoch)]


def test_a_pass_shows_every_picture_once(prepared: Path) -> None:
    loader = Loader(prepared, [0, 2, 3, 5, 7], 2, seed=1, flip=True)
    batches = rows(loader, 0)
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert len(loader) == 3
    assert sorted(itertools.chain(*batches)) == [0, 2, 3, 5, 7]


def test_the_order_depends_on_seed_and_epoch_alone(prepared: Path) -> None:
    loader = Loader(prepared, range(8), 3, seed=1, flip=False)
    assert rows(loader, 4) == rows(loader, 4)
    assert rows(loader, 4) == rows(Loader(prepared, range(8), 3, seed=1, flip=True), 4)
    assert len({str(rows(loader, epoch)) for epoch in range(6)}) > 1
    assert rows(loader, 4) != rows(Loader(prepared, range(8), 3, seed=2, flip=False), 4)
    assert rows(Loader(prepared, [3, 1, 2], 2, seed=1, flip=False, shuffle=False), 4) == [[3, 1], [2]]


def test_about_half_are_mirrored_and_not_always_the_same(prepared: Path) -> None:
    loader = Loader(prepared, range(8), 3, seed=1, flip=True)
    draws = [[loader.is_flipped(epoch, row) for row in range(8)] for epoch in range(200)]
    assert 0.45 < sum(map(sum, draws)) / 1600 < 0.55
    assert all(0.3 < sum(column) / 200 < 0.7 for column in zip(*draws, strict=True))


def test_examples_are_mirrored_as_drawn(prepared: Path) -> None:
    loader = Loader(prepared, range(8), 3, seed=1, flip=True)
    with PreparedFile(prepared) as file:
        for example in itertools.chain(*loader.batches(0)):
            plain = file.example(example.index)
            expected = flip(plain, file.letterbox) if loader.is_flipped(0, example.index) else plain
            assert torch.equal(example.image, expected.image)
            assert torch.equal(example.target.boxes, expected.target.boxes)
            assert torch.equal(example.target.masks, expected.target.masks)


def test_masks_are_left_out_on_request(prepared: Path) -> None:
    batch = next(Loader(prepared, range(8), 3, seed=1, flip=True, masks=False).batches(0))
    assert all(len(example.target.masks) == 0 and len(example.target.boxes) for example in batch)


def test_no_pictures(prepared: Path) -> None:
    assert rows(Loader(prepared, [], 2, seed=1, flip=True), 0) == []


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"nowhere\.h5"):
        next(Loader(Path("nowhere.h5"), [0], 1, seed=1, flip=False).batches(0))


def test_leaving_early_ends_the_thread(prepared: Path) -> None:
    batches = Loader(prepared, range(8), 1, seed=1, flip=True).batches(0)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_reads_ahead_but_not_further_than_asked() -> None:
    started: list[int] = []
    results = read_ahead(range(10), lambda item: started.append(item) or item, 2)
    assert next(results) == 0
    time.sleep(0.1)
    assert started == [0, 1, 2]
    assert list(results) == list(range(1, 10))


def test_an_error_surfaces_where_its_result_is_due() -> None:
    results = read_ahead([1, 0, 2], lambda item: 1 // item, 2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
