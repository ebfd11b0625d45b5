"""The pictures that figures show."""

import pytest

from src.core.errors import InputError
from src.data.selection import check_validation, rows_with_objects, two_object_row


class Rows:
    """Pictures with given numbers of objects; the first two are for training."""

    def __init__(self, *counts: int) -> None:
        self.counts = counts

    def indices(self, split: str) -> list[int]:
        return [0, 1] if split == "train" else list(range(2, len(self.counts)))

    def object_count(self, index: int) -> int:
        return self.counts[index]


def test_the_picture_of_task_9() -> None:
    assert two_object_row(Rows(2, 2, 1, 3, 2, 2)) == 4
    assert two_object_row(Rows(2, 2, 0, 1, 3, 3)) == 4
    assert two_object_row(Rows(2, 2, 0, 0)) == 2
    assert two_object_row(Rows(1, 2, 2, 2), "train") == 1


def test_pictures_of_the_figures() -> None:
    assert rows_with_objects(Rows(1, 1, 0, 1, 0, 2, 1), "test", 2) == [3, 5]
    assert rows_with_objects(Rows(1, 1), "test", 2) == []


def test_what_is_to_be_validated_needs_a_validation_part() -> None:
    class TwoParts(Rows):
        def indices(self, split: str) -> list[int]:
            return [] if split == "validation" else super().indices(split)

    check_validation(TwoParts(1, 1, 1), [])
    check_validation(Rows(1, 1, 1), ["joint.patience=2"])
    with pytest.raises(InputError, match=r"with joint\.patience=2, found no validation images"):
        check_validation(TwoParts(1, 1, 1), ["joint.patience=2", "joint.keep=best"])
