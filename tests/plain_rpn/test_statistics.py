"""Histograms, their modes and the anchors that these give."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.errors import InputError
from src.plain_rpn.statistics import (
    Histogram,
    anchors_from_modes,
    box_statistics,
    histogram,
    log_ratios,
    scales,
    statistics_by_class,
)
from src.sources.assignment import CLASSES

PICTURE = (1066.0, 800.0)


def boxes_of(sizes):
    """Boxes of (width, height) at the origin."""
    return np.array([[0, 0, width, height] for width, height in sizes], np.float32).reshape(-1, 4)


def test_scale_is_the_root_of_the_area_and_ratio_is_height_over_width():
    boxes = np.array([[10, 20, 60, 40], [0, 0, 10, 40]], np.float32)
    assert scales(boxes) == pytest.approx([math.sqrt(50 * 20), 20.0])
    assert log_ratios(boxes) == pytest.approx([math.log2(20 / 50), 2.0])


@given(st.lists(st.floats(-5, 15), max_size=40), st.integers(4, 12))
def test_the_histogram_counts_every_value_once_as_a_loop_does(values, bins):
    found = histogram(np.array(values, np.float64), bins, (0.0, 10.0))
    expected = [0] * bins
    for value in values:
        inside = min(max(value, 0.0), 10.0)
        expected[max(i for i in range(bins) if found.edges[i] <= inside)] += 1
    assert found.counts.tolist() == expected
    assert found.counts.sum() == len(values)


def test_modes_go_from_the_highest_down_and_skip_neighbors():
    found = Histogram(np.arange(8.0), np.array([3, 9, 8, 0, 4, 0, 4]))
    assert found.modes() == [1, 4, 6]  # bin 0 and bin 2 touch bin 1; equals come in order
    assert found.mode() == 1.5


def test_no_boxes_have_no_mode():
    empty = box_statistics(boxes_of([]), 24, PICTURE)
    assert (empty.objects, empty.scale_mode, empty.ratio_mode, empty.scale_median) == (0, None, None, None)


def test_the_mode_is_the_middle_of_the_fullest_bin():
    found = box_statistics(boxes_of([(200, 200)] * 3 + [(400, 100)] + [(60, 120)]), 24, PICTURE)
    width = math.sqrt(1066 * 800) / 24
    assert found.scale_mode == pytest.approx((math.floor(200 / width) + 0.5) * width)
    assert found.ratio_mode == pytest.approx(2**0.125)  # the bin from 0 to 0.25 of log2 ratio
    assert found.scale_median == 200


def test_classes_are_counted_apart_and_share_their_bins():
    boxes, labels = boxes_of([(100, 100), (300, 300), (310, 300)]), np.array([1, 3, 3])
    found = statistics_by_class(boxes, labels, CLASSES, 24, PICTURE)
    assert {name: group.objects for name, group in found.items()} == {"vehicle": 1, "person": 0, "animal": 2}
    assert (found["vehicle"].scale.edges == found["person"].scale.edges).all()


def test_one_anchor_has_the_scale_mode_and_the_ratio_mode():
    found = box_statistics(boxes_of([(200, 100)] * 5 + [(500, 490)] * 2), 24, PICTURE)
    ((width, height),) = anchors_from_modes(found, 1, PICTURE)
    assert math.sqrt(width * height) == pytest.approx(found.scale_mode, abs=0.6)
    assert height / width == pytest.approx(found.ratio_mode, rel=0.01)
    assert (width, height) == (round(width), round(height))


def test_more_anchors_follow_the_product_of_the_counts():
    found = box_statistics(boxes_of([(200, 200)] * 6 + [(500, 500)] * 5 + [(400, 100)] * 3), 24, PICTURE)
    anchors = anchors_from_modes(found, 3, PICTURE)
    areas, ratios = np.sqrt(anchors.prod(axis=1)), anchors[:, 1] / anchors[:, 0]
    # Counts: scales 200 (9: the wide boxes are as large) and 500 (5), ratios 1 (11) and 1/4 (3).
    assert areas == pytest.approx([found.scale_mode, scales(boxes_of([(500, 500)]))[0], found.scale_mode], abs=20)
    assert ratios[:2] == pytest.approx([found.ratio_mode] * 2, rel=0.02)
    assert ratios[2] == pytest.approx(0.25, rel=0.2)


def test_an_anchor_that_fits_nowhere_gives_way_to_the_next_mode():
    found = box_statistics(boxes_of([(1060, 796)] * 5 + [(300, 300)] * 2), 24, PICTURE)
    ((width, height),) = anchors_from_modes(found, 1, (1050.0, 784.0))
    assert width <= 1050
    assert height <= 784


def test_objects_that_fill_the_picture_have_an_anchor_cut_to_it(caplog):
    found = box_statistics(boxes_of([(1066, 800)] * 5), 24, PICTURE)
    assert anchors_from_modes(found, 1, (1050.0, 784.5)).tolist() == [[1030, 784]]
    (line,) = caplog.messages
    assert "1030 x 794 pixels fit the picture nowhere; the anchor is cut to 1030 x 784" in line
    with pytest.raises(InputError, match=r"anchors\.count is 2.* give 1"):
        anchors_from_modes(found, 2, (1050.0, 784.0))


def test_anchors_are_cut_only_where_too_few_fit_and_never_twice_the_same(caplog):
    found = box_statistics(boxes_of([(1060, 796)] * 5 + [(1000, 799)] * 4 + [(300, 300)] * 2), 24, PICTURE)
    one = anchors_from_modes(found, 1, (1050.0, 784.0))
    assert one.max() < 784
    assert caplog.messages == []
    fitting = 1
    while not caplog.messages:
        fitting += 1
        anchors = anchors_from_modes(found, fitting, (1050.0, 784.0))
    assert anchors[:-1].tolist() == anchors_from_modes(found, fitting - 1, (1050.0, 784.0)).tolist()
    assert len({tuple(size) for size in anchors.tolist()}) == len(anchors)
    assert (anchors <= (1050, 784)).all()


def test_two_sizes_that_are_cut_to_the_same_are_one_anchor():
    found = box_statistics(boxes_of([(1060, 796)] * 5 + [(800, 601)] * 4), 24, PICTURE)
    assert anchors_from_modes(found, 1, (600.0, 450.0)).tolist() == [[600, 450]]
    with pytest.raises(InputError, match="give 1 that fit"):
        anchors_from_modes(found, 2, (600.0, 450.0))


def test_too_few_modes_are_an_error_that_names_the_parameter():
    found = box_statistics(boxes_of([(200, 200)]), 24, PICTURE)
    with pytest.raises(InputError, match=r"anchors\.count is 4.* give 1"):
        anchors_from_modes(found, 4, PICTURE)


def test_a_degenerate_box_is_named():
    with pytest.raises(ValueError, match="box 1"):
        log_ratios(np.array([[0, 0, 5, 5], [3, 3, 3, 9]], np.float32))
