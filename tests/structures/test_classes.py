"""The classes of a set: labels and names go both ways, and what cannot be a name is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.errors import InputError
from src.structures.classes import BACKGROUND, LONGEST_NAME, MOST_CLASSES, Classes, require_same

WORDS = st.text("abc xyz", min_size=1, max_size=6).filter(lambda text: text == text.strip())


@given(st.lists(WORDS, min_size=1, max_size=40, unique=True))
def test_labels_and_names_go_both_ways(names: list[str]) -> None:
    classes = Classes.read(names, "a set")
    assert classes.count == len(classes.with_background) == len(names) + 1
    assert [classes.label_of(name) for name in names] == list(classes.labels) == list(range(1, len(names) + 1))
    assert [classes.name_of(label) for label in classes.labels] == names
    assert dict(classes.items()) == {name: classes.label_of(name) for name in names}
    assert classes.name_of(BACKGROUND) == "background"
    assert Classes(tuple(names)) == classes


WRONG = {
    "none": ([], f"1 to {MOST_CLASSES:,} classes, found 0"),
    "far too many": ([str(n) for n in range(MOST_CLASSES + 1)], f"found {MOST_CLASSES + 1:,}"),
    "empty": (["can", ""], "a printable text of 1 to"),
    "number": (["can", 7], "found 7"),
    "long": (["x" * (LONGEST_NAME + 1)], "a printable text of 1 to"),
    "line break": (["a\nb"], "printable"),
    "half a character": (["\ud800"], "printable"),
    "spaces": ([" can"], "without spaces around it, found ' can'"),
    "background": (["can", "Background"], "the background is a class by itself, found 'Background'"),
    "twice": (["can", "cup", "can"], "each class's name once, found 'can' again"),
    "text": ("can", "a list of class names, found 'can'"),
    "nothing": (None, "a list of class names, found None"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_classes_is_refused_in_one_line(case: str) -> None:
    names, words = WRONG[case]
    with pytest.raises(InputError) as error:
        Classes.read(names, "models/x.pt", "classes")
    text = str(error.value)
    assert text.startswith("models/x.pt[classes]: expected ")
    assert words in text
    assert text.isprintable()
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        with pytest.raises(ValueError, match="classes: expected"):
            Classes(tuple(names))


def test_other_classes_are_refused_by_their_names() -> None:
    mine = Classes(("can", "cup", "jar"))
    require_same(Classes(("can", "cup", "jar")), mine, "models/x.pt")
    with pytest.raises(InputError, match=r"x\.pt: expected 3 classes \(can, cup, jar\), as the data set has, found 1 "):
        require_same(Classes(("can",)), mine, "models/x.pt")
    with pytest.raises(InputError, match=r"'cup' with the label 2, found 'jar'$"):
        require_same(Classes(("can", "jar", "cup")), mine, "models/x.pt")


def test_many_names_are_cut_in_a_line() -> None:
    assert Classes(tuple("abcdef")).in_words() == "a, b, c, d, e, f"
    assert Classes(tuple("abcdefgh")).in_words() == "a, b, c, d, e, f and 2 more"
