"""AP against pycocotools on random scenes, and by hand."""

import contextlib
import copy
import io
import itertools
import json

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from src.evaluation.detection import RECALLS, curve_rows, evaluate_detections
from src.evaluation.instances import GroundTruth, Instances, coco_ground_truth, coco_results
from src.evaluation.rle import mask_areas
from src.sources.assignment import CLASSES
from tests.evaluation.scenes import box_masks, found, random_scene, truth


def reference_ap(ground_truth, results, kind, category=None):
    """AP, AP50, AP75 by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = copy.deepcopy(ground_truth)
        known.createIndex()
        evaluator = COCOeval(known, known.loadRes(copy.deepcopy(results)), kind)
        if category is not None:
            evaluator.params.catIds = [category]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [None if value == -1 else pytest.approx(float(value), abs=1e-6) for value in evaluator.stats[:3]]


def as_list(average):
    return [average.ap, average.ap50, average.ap75]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_ap_equals_pycocotools(seed, ties):
    truths, finds = random_scene(seed, ties=ties)
    ground_truth, results = coco_ground_truth(truths, CLASSES), coco_results(truths, finds)
    metrics = evaluate_detections(ground_truth, results)
    assert as_list(metrics.box) == reference_ap(ground_truth, results, "bbox")
    assert as_list(metrics.mask) == reference_ap(ground_truth, results, "segm")
    for label, one in enumerate(metrics.by_class.values(), start=1):
        assert as_list(one.box) == reference_ap(ground_truth, results, "bbox", label)
        assert as_list(one.mask) == reference_ap(ground_truth, results, "segm", label)


def test_random_scenes_hold_what_they_should():
    scenes = [random_scene(seed) for seed in range(12)]
    crowds = [bool(one.crowd.any()) for truths, _ in scenes for one in truths]
    assert any(crowds)
    assert any(not len(one.boxes) for truths, _ in scenes for one in truths)
    pictures: list[GroundTruth | Instances] = []
    for truths, finds in scenes:
        pictures += [*truths, *finds]
    boxes = torch.cat([one.boxes for one in pictures])
    areas = torch.tensor([area for one in pictures for area in mask_areas(one.masks or [])])
    for quarter in (0, 0.25, 0.5, 0.75):
        assert (boxes % 1 == quarter).any(0).all()
    assert (areas < 0.7 * (boxes[:, 2:] - boxes[:, :2]).prod(1)).float().mean() > 0.5  # most do not fill their box
    metrics = [evaluate(*scene) for scene in scenes]
    for kind in ("box", "mask"):
        values = [getattr(one, kind).ap50 for one in metrics]
        assert min(values) < 0.3
        assert max(values) > 0.4
    assert all(one.box.ap != pytest.approx(one.mask.ap, abs=1e-4) for one in metrics)


def evaluate(truths, finds):
    return evaluate_detections(coco_ground_truth(truths, CLASSES), coco_results(truths, finds))


def test_a_perfect_detector_and_a_shifted_one():
    truths = [truth([[10, 10, 30, 30]], [1])]
    assert as_list(evaluate(truths, [found([[10, 10, 30, 30]], [1], [0.9])]).box) == [1.0, 1.0, 1.0]
    # 4 of 20 columns off: IoU 16 / 24 = 2/3, right at .5, .55, .6, .65 and wrong above.
    shifted = evaluate(truths, [found([[14, 10, 34, 30]], [1], [0.9])])
    assert as_list(shifted.box) == pytest.approx([0.4, 1.0, 0.0])
    assert as_list(shifted.mask) == pytest.approx([0.4, 1.0, 0.0])


def test_objects_of_every_size_count():
    large, small = [0, 0, 58, 38], [1, 1, 9, 9]  # 2204 pixels: beyond COCO's "small"
    metrics = evaluate([truth([large, small], [1, 2])], [found([large], [1], [0.9])])
    assert (metrics.by_class["vehicle"].box.ap, metrics.by_class["person"].box.ap) == (1.0, 0.0)


def test_a_duplicate_is_a_false_positive():
    truths = [truth([[0, 0, 10, 10], [30, 10, 50, 30]], [1, 1])]
    boxes = [[0, 0, 10, 10], [0, 0, 10, 10], [30, 10, 50, 30]]
    duplicated = evaluate(truths, [found(boxes, [1, 1, 1], [0.9, 0.8, 0.7])])
    # Precision 1 up to recall 0.5 (51 of 101 levels), 2/3 beyond.
    assert duplicated.box.ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert evaluate(truths, [found(boxes[1:], [1, 1], [0.8, 0.7])]).box.ap50 == 1.0


def test_ap_ranks_detections_of_all_images_together():
    truths = [truth([[0, 0, 10, 10]], [1], image_id=0), truth([[0, 0, 10, 10]], [1], image_id=1)]
    wrong_first = found([[40, 20, 50, 30], [0, 0, 10, 10]], [1, 1], [0.9, 0.5])
    right = found([[0, 0, 10, 10]], [1], [0.7])
    # In order: wrong .9, right .7, right .5: precision 2/3 at every recall. A mean over images would be .75.
    assert evaluate(truths, [wrong_first, right]).box.ap50 == pytest.approx(2 / 3)


def test_the_hundred_most_confident_of_a_class_and_picture_count():
    truths = [truth([[0, 0, 10, 10]], [1])]
    wrong, right = [[40, 20, 50, 30]], [[0, 0, 10, 10]]
    for strangers, expected in ((99, 1 / 100), (100, 0.0)):
        scores = [0.9] * strangers + [0.5]
        finds = [found(wrong * strangers + right, [1] * len(scores), scores)]
        assert evaluate(truths, finds).box.ap50 == pytest.approx(expected)
        ground_truth, results = coco_ground_truth(truths, CLASSES), coco_results(truths, finds)
        assert [expected] * 3 == reference_ap(ground_truth, results, "bbox")


def test_the_wrong_class_finds_nothing():
    metrics = evaluate([truth([[0, 0, 10, 10]], [1])], [found([[0, 0, 10, 10]], [2], [0.9])])
    assert metrics.box.ap50 == 0.0
    assert metrics.by_class["person"].box.ap50 is None  # no person to find


def test_a_detection_in_a_crowd_does_not_count():
    truths = [truth([[0, 0, 10, 10], [20, 0, 50, 30]], [2, 2], [False, True])]
    boxes = [[22, 2, 30, 10], [32, 12, 40, 20], [0, 0, 10, 10]]
    assert evaluate(truths, [found(boxes, [2] * 3, [0.9, 0.8, 0.5])]).box.ap50 == 1.0


def test_nothing_found_is_zero_and_nothing_there_is_undefined():
    nothing = evaluate([truth([[0, 0, 10, 10]], [1]), truth(image_id=1)], [found(), found()])
    assert as_list(nothing.box) == as_list(nothing.mask) == [0.0, 0.0, 0.0]
    empty = evaluate([truth()], [found([[0, 0, 5, 5]], [1], [0.4])])
    assert as_list(empty.box) == as_list(empty.mask) == [None, None, None]
    assert curve_rows(empty) == []
    json.dumps(empty.as_metrics(), allow_nan=False)
    assert as_list(evaluate([], []).box) == [None, None, None]


def test_a_false_positive_on_an_image_without_objects_costs():
    truths = [truth([[0, 0, 10, 10]], [1]), truth(image_id=1)]
    right, wrong = found([[0, 0, 10, 10]], [1], [0.5]), found([[0, 0, 10, 10]], [1], [0.9])
    assert evaluate(truths, [right, wrong]).box.ap50 == pytest.approx(0.5)


def test_without_masks_mask_ap_is_undefined():
    one = found([[0, 0, 10, 10]], [1], [0.9])
    metrics = evaluate([truth([[0, 0, 10, 10]], [1])], [Instances(one.boxes, one.labels, one.scores)])
    assert metrics.box.ap == 1.0
    assert as_list(metrics.mask) == [None, None, None]


def test_box_and_mask_are_measured_apart():
    thing = truth([[0, 0, 20, 20]], [1])
    mask_of_a_part = found([[0, 0, 20, 5]], [1], [0.9]).masks
    one = Instances(torch.tensor([[0.0, 0, 20, 20]]), torch.tensor([1]), torch.tensor([0.9]), mask_of_a_part)
    metrics = evaluate([thing], [one])
    assert (metrics.box.ap50, metrics.mask.ap50) == (1.0, 0.0)


def test_a_mask_is_its_pixels_and_not_the_box_around_them() -> None:
    box = [[10.0, 10.0, 30.0, 30.0]]
    square = box_masks(box)
    angle = square & ~box_masks([[14, 10, 30, 26]])  # an L with arms 4 wide: 144 of the square's 400 pixels
    ring = square & ~box_masks([[12, 12, 28, 28]])  # a rim 2 wide: 144 too, of which 84 in the L
    shapes = (square, angle, ring)
    for one, other in itertools.product(range(3), repeat=2):
        truths, finds = [truth(box, [1], masks=shapes[one])], [found(box, [1], [0.9], masks=shapes[other])]
        metrics = evaluate(truths, finds)
        assert as_list(metrics.box) == [1.0] * 3
        assert as_list(metrics.mask) == [float(one == other)] * 3
        assert as_list(metrics.mask) == reference_ap(
            coco_ground_truth(truths, CLASSES), coco_results(truths, finds), "segm"
        )


def test_inputs_stay_as_they_were_and_nothing_is_printed(capsys):
    truths, finds = random_scene(3)
    ground_truth, results = coco_ground_truth(truths, CLASSES), coco_results(truths, finds)
    before = copy.deepcopy((ground_truth, results))
    evaluate_detections(ground_truth, results)
    assert (ground_truth, results) == before
    assert capsys.readouterr() == ("", "")


def test_an_unknown_image_is_refused():
    results = coco_results([truth(image_id=9)], [found([[0, 0, 5, 5]], [1], [0.4])])
    with pytest.raises(ValueError, match="found image_id 9"):
        evaluate_detections(coco_ground_truth([truth()], CLASSES), results)


def test_the_curve_averages_to_ap50():
    truths, finds = random_scene(5)
    metrics = evaluate(truths, finds)
    rows = curve_rows(metrics)
    for name, one in metrics.by_class.items():
        precision = [row["precision"] for row in rows if row["class"] == name]
        assert len(precision) == (0 if one.box.ap50 is None else len(RECALLS))
        if precision:
            assert sum(precision) / 101 == pytest.approx(one.box.ap50)
            assert all(a >= b for a, b in itertools.pairwise(precision))


def test_metrics_entries():
    entries = evaluate([truth([[0, 0, 10, 10]], [1])], [found([[0, 0, 10, 10]], [1], [0.9])]).as_metrics()
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_1", "ar_10", "ar_100")
    keys = {f"{kind}_{name}" for kind in ("box", "mask") for name in names}
    assert set(entries) == keys | {"by_class"}
    assert set(entries["by_class"]) == {"vehicle", "person", "animal"}
    absent = {f"{kind}_ap_{size}" for kind in ("box", "mask") for size in ("medium", "large")}
    assert entries["by_class"]["vehicle"] == {key: None if key in absent else 1.0 for key in keys}
    assert entries["by_class"]["animal"]["box_ap"] is None


def test_neither_side_is_changed():
    truths, finds = random_scene(0)
    ground_truth, results = coco_ground_truth(truths, CLASSES), coco_results(truths, finds)
    before = copy.deepcopy((ground_truth, results))
    evaluate_detections(ground_truth, results)
    assert (ground_truth, results) == before
