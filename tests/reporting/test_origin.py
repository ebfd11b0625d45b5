"""Numbers that know where they come from: they compute as numbers do, and texts keep what they know."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from src.reporting.answers.answer import Table
from src.reporting.formatting import count, percent, plural, score, signed, size, small
from src.reporting.origin import Origin, Text, fill, leaves, measured, written
from src.reporting.page import link_numbers

PLACE = Origin("evaluate", "box_ap50")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("write", [percent, score, count, signed, small, size])
def test_a_written_number_knows_its_origin_and_reads_as_before(write: Any) -> None:
    for value in (0.5, 3, -2.25, 0):
        text = write(measured(value, PLACE))
        assert str(text) == write(value)
        assert not hasattr(write(value), "spans")
        assert [origin for _, origin in text.pieces() if origin] == [PLACE]


def test_what_is_computed_has_no_origin() -> None:
    number = measured(0.25, PLACE)
    assert number + 1 == 1.25
    assert not isinstance(score(number + 1), Text)
    assert measured(True, PLACE) is True
    assert json.dumps([number, measured(3, PLACE)]) == "[0.25, 3]"


@given(st.lists(st.tuples(st.text("ab {1", max_size=4), st.booleans()), max_size=5), st.text("xy", max_size=3))
def test_filling_keeps_every_part_where_it_stands(parts: list[tuple[str, bool]], between: str) -> None:
    texts = [written(text, measured(1, Origin("a", str(i))) if known else 1) for i, (text, known) in enumerate(parts)]
    whole = fill(between.join("{}" for _ in parts), *texts)
    assert whole == between.join(text for text, _ in parts)
    found = list(whole.pieces()) if isinstance(whole, Text) else []
    assert "".join(piece for piece, _ in found) in ("", whole)
    assert [(piece, origin.key) for piece, origin in found if origin] == [
        (text, str(i)) for i, (text, known) in enumerate(parts) if known
    ]


def test_a_template_takes_as_many_texts_as_it_has_gaps() -> None:
    with pytest.raises(ValueError, match="argument"):
        fill("{} of {}", "1")


@given(JSON)
def test_every_entry_is_listed_once_with_its_content(value: Any) -> None:
    listed = list(leaves(value, "x"))
    keys = [origin.key for origin, _ in listed]
    for origin, content in listed:
        assert origin.stage == "x"
        assert isinstance(content, str)
        json.loads(content)
    if not any("." in key for key in keys):
        assert len(set(keys)) == len(keys)


def test_entries_of_lists_with_keys_are_numbered() -> None:
    content = {"layers": [{"kernel": 5, "output": [1, 2]}, {"kernel": 2}], "anchors": [[34.0, 26.0]], "none": {}}
    assert [(origin.key, text) for origin, text in leaves(content, "rpn")] == [
        ("layers.0.kernel", "5"),
        ("layers.0.output", "[1, 2]"),
        ("layers.1.kernel", "2"),
        ("anchors", "[[34.0, 26.0]]"),
        ("none", "{}"),
    ]


def test_a_link_escapes_text_and_key() -> None:
    hostile = Origin("evaluate", 'by_class.<b> "x" .ap')
    link = str(link_numbers(fill("<i>{}</i>", written("<0.5", measured(0.5, hostile)))))
    assert link.startswith('&lt;i&gt;<a class="from" href="#evaluate.by_class.%3Cb%3E%20%22x%22%20.ap" title="metrics/')
    assert "<b>" not in link
    assert ">&lt;0.5</a>&lt;/i&gt;" in link
    assert link_numbers("<b>") == "<b>"  # jinja2 escapes it after
    assert isinstance(link_numbers(fill("{}", written("1", measured(1, PLACE)))), Markup)


def test_numbers_with_origin_are_set_flush_right_as_others() -> None:
    rows = [["a", plural(measured(3, PLACE), "box", "boxes"), score(measured(0.5, PLACE))]]
    assert Table(("", "boxes", "AP"), rows, "caption").is_text == (True, True, False)
