"""Minibatches: every picture once per epoch, an order of seed and epoch only, mirroring, threads that end."""

import dataclasses
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from src.core.errors import InputError
from src.core.processes import Share
from src.data.augmentation import Augmentation
from src.data.loading import Loader, read_ahead
from src.data.prepared import Example, PreparedFile, flip
from tests.data.scenes import is_same
from tests.factories import make_prepared

STRONG = Augmentation(scale_jitter=1.0, color_jitter=0.4, copy_paste=0.5)


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
            expected = flip(plain) if loader.is_flipped(0, example.index) else plain
            assert torch.equal(example.image, expected.image)
            assert torch.equal(example.target.boxes, expected.target.boxes)
            assert torch.equal(example.target.masks, expected.target.masks)


def test_masks_are_left_out_on_request(prepared: Path) -> None:
    batch = next(Loader(prepared, range(8), 3, seed=1, flip=True, masks=False).batches(0))
    assert all(len(example.target.masks) == 0 and len(example.target.boxes) for example in batch)


def examples(loader: Loader, epoch: int) -> list[Example]:
    return list(itertools.chain(*loader.batches(epoch)))


def test_variations_depend_on_seed_and_epoch_alone(prepared: Path) -> None:
    def varied(seed: int, epoch: int, *, batch_size: int = 3, shuffle: bool = True) -> list[Example]:
        """By row."""
        loader = Loader(prepared, range(8), batch_size, seed, flip=True, shuffle=shuffle, augmentation=STRONG)
        return sorted(examples(loader, epoch), key=lambda example: example.index)

    first = varied(1, 4)
    assert all(map(is_same, first, varied(1, 4)))
    assert all(map(is_same, first, varied(1, 4, batch_size=1, shuffle=False)))
    assert not any(map(is_same, first, varied(1, 5)))
    assert not any(map(is_same, first, varied(2, 4)))


def test_variation_leaves_order_and_mirroring_as_they_are(prepared: Path) -> None:
    """And without one, as losses on other splits are measured, pictures are as they are stored."""
    plain = Loader(prepared, range(8), 3, seed=1, flip=True)
    varied = dataclasses.replace(plain, augmentation=STRONG)
    assert rows(varied, 2) == rows(plain, 2)
    idle = dataclasses.replace(plain, augmentation=Augmentation(0.0, 0.0, 0.0))
    assert all(map(is_same, examples(idle, 2), examples(plain, 2)))
    tested = Loader(prepared, range(8), 3, seed=1, flip=False, shuffle=False)
    with PreparedFile(prepared) as file:
        assert all(map(is_same, examples(tested, 0), file.examples(range(8))))
        for example in examples(varied, 2):
            assert not is_same(example, file.example(example.index))


@dataclass(frozen=True)
class Listening(Augmentation):
    """Changes nothing, and keeps what it was given."""

    given: list[tuple[Example, Example, int]] = field(default_factory=list)

    def __call__(self, example: Example, other: Callable[[], Example], draw: torch.Generator) -> Example:
        self.given.append((example, other(), draw.initial_seed()))
        return example


def test_pictures_are_mirrored_first_and_meet_any_other_of_the_split(prepared: Path) -> None:
    listening, split = Listening(0.0, 0.0, 1.0), [0, 2, 3, 5, 7]
    loader = Loader(prepared, split, 2, seed=1, flip=True, augmentation=listening)
    for epoch in range(12):
        listening.given.clear()
        assert sorted(example.index for example in examples(loader, epoch)) == split
        with PreparedFile(prepared) as file:
            for example, other, _ in listening.given:
                for one in (example, other):
                    stored = file.example(one.index)
                    mirrored = loader.is_flipped(epoch, one.index)
                    assert is_same(one, flip(stored) if mirrored else stored)


def test_every_picture_meets_every_other_with_draws_of_its_own(prepared: Path) -> None:
    listening, split = Listening(0.0, 0.0, 1.0), [0, 2, 3]
    loader = Loader(prepared, split, 2, seed=1, flip=True, augmentation=listening)
    for epoch in range(40):
        examples(loader, epoch)
    met = {(one.index, other.index) for one, other, *_ in listening.given}
    assert set(itertools.permutations(split, 2)) <= met <= set(itertools.product(split, split))
    assert len({seed for *_, seed in listening.given}) == 120


@pytest.mark.parametrize(("copy_paste", "read"), [(0.0, False), (0.1, True)])
def test_masks_are_read_where_objects_are_pasted(prepared: Path, copy_paste: float, read: bool) -> None:
    augmentation = Augmentation(0.5, 0.0, copy_paste)
    loader = Loader(prepared, range(8), 3, seed=1, flip=True, masks=False, augmentation=augmentation)
    for example in examples(loader, 0):
        assert len(example.target.masks) == (len(example.target.boxes) if read else 0)


def test_no_pictures(prepared: Path) -> None:
    assert rows(Loader(prepared, [], 2, seed=1, flip=True), 0) == []
    assert rows(Loader(prepared, [], 2, seed=1, flip=True, augmentation=STRONG), 0) == []


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


@pytest.mark.parametrize("of", [2, 3])
def test_processes_share_out_each_minibatch(prepared: Path, of: int) -> None:
    """Together they see what one alone sees; who has no part of a minibatch computes along on its first picture."""
    whole = Loader(prepared, range(8), 3, seed=1, flip=True, augmentation=STRONG)
    shares = [dataclasses.replace(whole, share=Share(rank, of)) for rank in range(of)]
    assert all(len(one) == len(whole) for one in shares)
    minibatches = list(whole.batches(2))
    assert [len(batch) for batch in minibatches] == [3, 3, 2]
    spares = 0
    for batch, *parts in zip(minibatches, *(one.batches(2) for one in shares), strict=True):
        for rank, part in enumerate(parts):
            mine = batch[rank::of]
            spares += not mine
            for one, expected in zip(part, mine or batch[:1], strict=True):
                assert one.is_spare == (not mine)
                assert (one.index, one.seed) == (expected.index, expected.seed)
                assert torch.equal(one.image, expected.image)
                assert torch.equal(one.target.boxes, expected.target.boxes)
    assert spares == (1 if of == 3 else 0)


def test_a_picture_s_seed_is_its_own_in_each_epoch(prepared: Path) -> None:
    loader = Loader(prepared, range(8), 3, seed=1, flip=True)
    first, again, later = ({e.index: e.seed for e in examples(loader, epoch)} for epoch in (0, 0, 1))
    assert first == again
    assert len({*first.values(), *later.values()}) == 16
    other = dataclasses.replace(loader, seed=2, batch_size=5)
    assert not set(first.values()) & {e.seed for e in examples(other, 0)}
    assert {e.index: e.seed for e in examples(dataclasses.replace(loader, batch_size=5), 0)} == first
