"""Numbers in words, undefined ones included."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.reporting.formatting import change, count, duration, listing, percent, plural, score, sentence, size, small


def test_numbers() -> None:
    assert percent(0.1234) == "12.3%"
    assert score(0.7418) == "0.742"
    assert score(-2.117, 2) == "\N{MINUS SIGN}2.12"
    assert count(112000) == "112\N{NARROW NO-BREAK SPACE}000"
    assert size(256, 7, 7) == "256 \N{MULTIPLICATION SIGN} 7 \N{MULTIPLICATION SIGN} 7"
    assert small(7.6e-6) == "7.6e\N{MINUS SIGN}6"
    assert small(0.0) == "0"


@pytest.mark.parametrize("write", [percent, score, count, small])
def test_none_is_called_undefined(write) -> None:
    assert write(None) == "undefined"


def test_words() -> None:
    assert plural(1, "object") == "1 object"
    assert plural(0, "box", "boxes") == "0 boxes"
    assert listing([]) == ""
    assert listing(["a"]) == "a"
    assert listing(["a", "b"]) == "a and b"
    assert listing(["a", "b", "c"]) == "a, b and c"
    assert sentence("box regression and RPN regression") == "Box regression and RPN regression"
    assert sentence("") == ""
    assert duration(42.3) == "42 s"
    assert duration(210) == "3.5 min"
    assert duration(7560) == "2.1 h"


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_change_says_what_its_digits_say(before: float, after: float) -> None:
    text = change(before, after)
    if percent(before) == percent(after):
        assert text == f"stayed at {percent(before)}"
    else:
        assert text.startswith("rose" if after > before else "fell")
        assert math.copysign(1, after - before) == (1 if "rose" in text else -1)


def test_a_change_of_something_undefined() -> None:
    assert change(None, 0.5) == "went from undefined to 50.0%"
