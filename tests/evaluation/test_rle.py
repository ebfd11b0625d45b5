"""Run lengths and COCO's overlaps against plain pixel counting and pycocotools."""

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as reference

from src.evaluation.rle import decode_masks, encode_masks, mask_areas, overlaps, to_xywh


def test_round_trip_and_json():
    masks = np.random.default_rng(0).random((3, 7, 5)) < 0.4
    codes = json.loads(json.dumps(encode_masks(masks)))
    assert np.array_equal(decode_masks(codes, 7, 5), masks)
    assert mask_areas(codes) == masks.sum((1, 2)).tolist()


def test_a_tensor_gives_the_same_run_lengths_as_pycocotools():
    masks = torch.from_numpy(np.random.default_rng(1).random((4, 6, 9)) < 0.5)
    expected = reference.encode(np.asfortranarray(masks.numpy().transpose(1, 2, 0).astype(np.uint8)))
    assert [code["counts"].encode() for code in encode_masks(masks)] == [code["counts"] for code in expected]


def test_no_masks():
    assert encode_masks(np.zeros((0, 4, 6), bool)) == []
    assert decode_masks([], 4, 6).shape == (0, 4, 6)
    assert mask_areas([]) == []
    assert overlaps([], [], []).shape == (0, 0)
    assert overlaps(torch.zeros(2, 4), torch.zeros(0, 4), []).shape == (2, 0)


def test_masks_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"expected size \(4, 7\)"):
        decode_masks(encode_masks(np.ones((1, 4, 6), bool)), 4, 7)


def test_xywh():
    assert to_xywh(torch.tensor([[1.5, 2.0, 4.0, 7.0]])) == [[1.5, 2.0, 2.5, 5.0]]


def test_overlap_is_iou_and_with_a_crowd_the_share_of_the_detection():
    detection, thing = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[5.0, 0, 25, 10]])
    assert overlaps(detection, thing, [False])[0, 0] == pytest.approx(50 / 250)
    assert overlaps(detection, thing, [True])[0, 0] == pytest.approx(50 / 100)


def test_mask_overlap_by_counting_pixels():
    masks = np.random.default_rng(2).random((5, 8, 8)) < 0.5
    got = overlaps(encode_masks(masks[:2]), encode_masks(masks[2:]), [False, False, True])
    for i, a in enumerate(masks[:2]):
        for j, b in enumerate(masks[2:]):
            whole = a.sum() if j == 2 else (a | b).sum()
            assert got[i, j] == pytest.approx((a & b).sum() / whole)
