"""The prose tells the truth: each conditional sentence, over good, bad and absent numbers."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from src.core.params_file import load_params
from src.evaluation.funnel import STEPS
from src.reporting.answers import anchors, detection, masks, part_a, part_b, part_c
from src.reporting.answers.losses import LossTrend, describe, loss_trend
from src.reporting.answers.results import overall
from tests.reporting.runs import history, metrics, validation_metrics, with_params, write_run

NAMES = ["background", "vehicle", "person"]


def words(tmp_path: Path, task: Any, **changes: Any) -> dict[str, str]:
    return task(write_run(tmp_path, metrics(**changes))).words


@pytest.mark.parametrize(
    ("share", "start"),
    [(0.9, "No:"), (0.3, "For most objects"), (0.02, "Yes, for nearly all"), (None, "There are no boxes")],
)
def test_receptive_field(share: float | None, start: str, tmp_path: Path) -> None:
    answer = words(tmp_path, part_a.task_5, rpn__boxes_larger_than_field=share)
    assert answer["enough"].startswith(start)
    assert answer["original"].startswith("64 ")  # 172 / 2.6667
    assert answer["measured"].startswith("confirms")


def test_a_measured_field_that_differs_is_said(tmp_path: Path) -> None:
    assert words(tmp_path, part_a.task_5, rpn__receptive_field_measured=170)["measured"].startswith("finds 170")


def test_anchor_inside_or_beyond_the_field(tmp_path: Path) -> None:
    assert "larger than the field" in words(tmp_path, part_a.task_5)["anchors"]
    small = words(tmp_path, part_a.task_5, anchors__anchors=[[60, 80]])["anchors"]
    assert "fits into the field" in small
    assert "46 pixels" in small


@pytest.mark.parametrize(
    ("positive", "negative", "said"),
    [(0.8, 0.95, "positives are harder"), (0.95, 0.8, "negatives are harder"), (0.9, 0.91, "equally hard")],
)
def test_which_anchors_are_harder(positive: float, negative: float, said: str, tmp_path: Path) -> None:
    answer = words(tmp_path, part_a.task_7, rpn__accuracy_positive=positive, rpn__accuracy_negative=negative)
    assert said in answer["sides"]


def test_a_regressor_that_harms_and_one_without_positives(tmp_path: Path) -> None:
    worse = words(tmp_path, part_a.task_7, rpn__regression_iou=0.4)["regressor"]
    assert "fell from 0.601 to 0.400" in worse
    assert "does not help" in worse
    assert "No test anchor is positive" in words(tmp_path, part_a.task_7, rpn__anchor_iou=None)["regressor"]


def test_recall_absent_and_undefined(tmp_path: Path) -> None:
    content = metrics()
    del content["rpn"]["recall"]
    assert "did not measure" in part_a.task_7(write_run(tmp_path, content)).words["recall"]
    assert "did not measure" in words(tmp_path, part_a.task_7, rpn__recall={"10": None})["recall"]
    assert "41.0%" in words(tmp_path, part_a.task_7)["recall"]


def test_weights_are_read_off_the_history(tmp_path: Path) -> None:
    results = write_run(tmp_path)
    assert part_a.task_7(results).words["weights"] == "equal"
    history(tmp_path / "plots/rpn", ("objectness", "rpn_regression"), weights={"rpn_regression": 5.0})
    assert "1 and 5" in part_a.task_7(results).words["weights"]


def test_no_positive_anchor(tmp_path: Path) -> None:
    assert "no anchor" in words(tmp_path, part_a.task_3, rpn__labeled_positive=0)["rarity"]
    assert "488 negatives" in words(tmp_path, part_a.task_3)["rarity"]


def test_loss_that_rises_overfits_or_has_no_test(tmp_path: Path) -> None:
    results = write_run(tmp_path)
    assert describe(loss_trend(results, "rpn", "objectness")).startswith("fell from")
    history(tmp_path / "plots/rpn", ("objectness",), end=3.0)
    assert describe(loss_trend(results, "rpn", "objectness")).startswith("rose from")
    assert "no overfitting" in describe(LossTrend(1, 1, 0.2, 0.21, 1))
    assert "wide gap" in describe(LossTrend(1, 1, 0.2, 0.9, 1))
    assert describe(LossTrend(1, 1, 0.2, None, 1)).endswith("on the training images.")
    assert LossTrend(0.0, 0.0, 0.0, None, 1).left == 1


def test_loss_that_rose_on_the_way() -> None:
    terms = {"classification": LossTrend(0.13, 0.28, 0.1, None, 1), "mask": LossTrend(0.7, 0.71, 0.3, None, 1)}
    assert masks._rises(terms).startswith(" Before that, classification rose to 0.280:")
    assert masks._rises({"mask": terms["mask"]}) == ""
    assert masks._rises({"mask": LossTrend(0.1, 0.3, 0.3, None, 1)}) == ""  # it grew, which is said elsewhere


def test_the_highest_mean_of_a_curve(tmp_path: Path) -> None:
    results = write_run(tmp_path)
    table = pd.DataFrame({"iteration": range(100), "mask": [0.1] * 50 + [0.5] * 10 + [0.1] * 40})
    table.to_csv(tmp_path / "plots/mask_head/train.csv", index=False)
    assert loss_trend(results, "mask_head", "mask").highest == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("median", "mode", "said"),
    [(400, 200, "well above"), (100, 200, "well below"), (205, 200, "close to"), (None, None, "no objects")],
)
def test_scale_histogram(median: float | None, mode: float | None, said: str) -> None:
    assert said in anchors._tail(median, mode)


@pytest.mark.parametrize(
    ("high", "said"),
    [(0.05, "hardly ever"), (0.4, "frequent sizes"), (0.9, "small corrections"), (None, "no best anchor")],
)
def test_best_anchor_iou(high: float | None, said: str) -> None:
    assert said in anchors._best_anchor_iou({"mean": 0.5, "above_0.5": 0.5, "above_0.7": high})


def test_classes_without_objects() -> None:
    entries = {"person": {"scale_mode": 100.0, "ratio_mode": 2.0}, "animal": {"scale_mode": None, "ratio_mode": None}}
    assert "too few classes" in anchors._classes(entries)
    entries["animal"] = {"scale_mode": 100.0, "ratio_mode": 2.0}
    assert anchors._classes(entries) == (
        "All classes share one mode of the aspect ratio; the mode of scale is the same too."
    )


def test_classes_that_share_a_mode() -> None:
    modes = {"vehicle": (212.0, 0.92), "person": (212.0, 1.09), "animal": (173.0, 1.09)}
    told = anchors._classes({name: {"scale_mode": one, "ratio_mode": two} for name, (one, two) in modes.items()})
    assert "those of person and animal (ratio mode 1.09), the widest those of vehicle (0.92)" in told
    assert "smallest for animal (173 px) and largest for vehicle and person (212 px)" in told


def test_fine_tuning_that_helps_harms_or_is_left_out(tmp_path: Path) -> None:
    assert "start from random numbers and must learn" in words(tmp_path, part_b.task_8)["verdict"]
    coco = {"backbone__weights": "coco"}
    assert "was essential" in words(tmp_path, part_b.task_8, **coco)["verdict"]
    same = metrics()["backbone"]["after"]
    assert "did not pay" in words(tmp_path, part_b.task_8, backbone__before=same, **coco)["verdict"]
    params = with_params(load_params(), "backbone", epochs=0)
    answer = part_b.task_8(write_run(tmp_path, params=params))
    assert "keeps the weights" in answer.words["verdict"]
    assert answer.words["separation"] == ""
    assert answer.words["learns"] == ""
    assert "history" not in answer.figures


@pytest.mark.parametrize(
    ("stages", "said"),
    [(0, "The body stays"), (1, "1 stage of the body's five"), (2, "2 stages of the body's five")],
)
def test_which_part_of_the_body_learns(stages: int, said: str, tmp_path: Path) -> None:
    params = with_params(load_params(), "backbone", trainable_layers=stages, epochs=1)
    assert said in part_b.task_8(write_run(tmp_path, params=params)).words["learns"]


def test_recall_that_was_not_measured(tmp_path: Path) -> None:
    empty = {"recall": {"10": None}, "objectness_positive": None, "objectness_negative": None}
    answer = part_b.task_8(write_run(tmp_path, metrics(backbone__before=empty, backbone__after=empty)))
    assert "was not measured" in answer.words["verdict"]
    assert list(answer.tables["recall"].rows) == [["10", "undefined", "undefined"]]


@pytest.mark.parametrize("batched", [False, True])
def test_candidates_are_counted_over_levels(batched: bool, tmp_path: Path) -> None:
    content = metrics()
    if batched:
        for output in content["backbone"]["outputs"]:
            output["shape"] = [1, *output["shape"]]
    cells = 200 * 272 + 100 * 136 + 50 * 68 + 25 * 34 + 13 * 17
    assert part_b.candidates(write_run(tmp_path, content)) == 3 * cells


def test_roi_align_parity(tmp_path: Path) -> None:
    assert "same function" in words(tmp_path, part_b.task_12)["parity"]
    far = {"pooled": [256, 7, 7], "largest_difference_from_torchvision": 0.01}
    assert "more than" in words(tmp_path, part_b.task_12, backbone__roi_align=far)["parity"]
    nothing = {"P2": None, "P3": None}
    assert words(tmp_path, part_b.task_12, features__levels=nothing)["levels"] == "No box was pooled."


def test_seconds_that_are_not_known(tmp_path: Path) -> None:
    results = write_run(tmp_path)
    assert "took 6.7 min" in part_b.task_11(results).words["cost"]
    results.seconds.clear()
    assert "not known" in part_b.task_11(results).words["cost"]


@pytest.mark.parametrize(
    ("after", "said"),
    [(0.7, "To a good part"), (0.55, "A little"), (0.5, "Hardly"), (0.4, "No."), (None, "stays open")],
)
def test_halves(after: float | None, said: str, tmp_path: Path) -> None:
    assert said in words(tmp_path, detection.task_15, evaluate__halves__after=after)["halves"]


def test_lost_objects(tmp_path: Path) -> None:
    assert tuple(detection.STEPS) == STEPS
    answer = detection.task_15(write_run(tmp_path))
    assert "Of 120 objects, 96 are found" in answer.words["lost"]
    assert "proposals lose 3, the classifier 14, what follows 7." in answer.words["lost"]
    assert "The most, 9, are lost because their proposals are all called background." in answer.words["lost"]
    assert [row[1] for row in answer.tables["lost"].rows] == ["1", "2", "9", "5", "3", "0", "1", "1", "2"]
    lost = {"lost_at": dict.fromkeys(STEPS, 0)}
    all_found = {"objects": 7, "found": 7, "missed": 0, **lost}
    assert words(tmp_path, detection.task_15, evaluate__funnel=all_found)["lost"].endswith("at IoU 0.5.")
    nothing = {"objects": 0, "found": 0, "missed": 0, **lost}
    assert "no objects" in words(tmp_path, detection.task_15, evaluate__funnel=nothing)["lost"]


def test_border_rules(tmp_path: Path) -> None:
    assert "lose their detection" in words(tmp_path, detection.task_15)["border"]
    even = {"remove": {"box_ap50": 0.7, "mask_ap50": 0.6}, "clip": {"box_ap50": 0.7, "mask_ap50": 0.6}}
    assert "hardly matters" in words(tmp_path, detection.task_15, evaluate__border=even)["border"]
    even["clip"]["box_ap50"] = None  # type: ignore[assignment]
    assert words(tmp_path, detection.task_15, evaluate__border=even)["border"].startswith("This run")


def test_confusions() -> None:
    assert "no mistake" in detection._confusions([[5, 0], [0, 5]], NAMES[:2])
    assert "call vehicle background (9 regions)" in detection._confusions([[5, 0, 0], [9, 1, 1], [0, 0, 4]], NAMES)
    assert "proves harder" in detection._confusions([[5, 0, 0], [1, 1, 9], [0, 0, 4]], NAMES)
    alone = detection._confusions([[5, 3], [9, 1]], NAMES[:2])
    assert "call vehicle background (9 regions)" in alone
    assert alone.endswith("With one class there is no other to take an object for.")


def test_a_regressor_on_nothing(tmp_path: Path) -> None:
    nothing = {"iou_before": None, "iou_after": None}
    assert "No test proposal" in words(tmp_path, detection.task_15, evaluate__regressor=nothing)["regressor"]
    worse = {"iou_before": 0.8, "iou_after": 0.7}
    assert "fell from 0.800 to 0.700" in words(tmp_path, detection.task_15, evaluate__regressor=worse)["regressor"]


@pytest.mark.parametrize(
    ("mask", "box", "said"), [(0.78, 0.78, "hardly a box"), (0.7, 0.78, "a few boxes"), (0.3, 0.78, "weak link")]
)
def test_mask_quality(mask: float, box: float, said: str) -> None:
    assert said in masks._mask_quality(mask, box)
    assert "undefined" in masks._mask_quality(None, box)


def test_unannotated_known_unknown_and_none(tmp_path: Path) -> None:
    answer = part_c.task_17(write_run(tmp_path))
    assert "animal with probability 0.97" in answer.words["unannotated"]
    assert "IoU of 0.84" in answer.words["unannotated"]
    assert "look at the picture" in words(tmp_path, part_c.task_17, evaluate__unannotated__known=False)["unannotated"]
    none = part_c.task_17(write_run(tmp_path, metrics(evaluate__unannotated=None)))
    assert "no such example" in none.words["unannotated"]
    assert "unannotated" not in none.figures


def test_pictures_of_ones_own(tmp_path: Path) -> None:
    results = write_run(tmp_path, metrics(predict__unreadable={"half.jpg": "expected a picture"}))
    answer = part_c.task_18(results)
    assert len(answer.gallery) == 1
    assert answer.words["number"].endswith("held 1 picture. Not readable, and so left out: half.jpg.")
    results = write_run(tmp_path)
    assert part_c.task_18(results).words["number"].endswith("held 1 picture.")
    (tmp_path / "plots/predict/street.png").unlink()
    answer = part_c.task_18(results)
    assert answer.gallery == []
    assert "held no picture" in answer.words["number"]


@pytest.mark.parametrize(
    ("box", "said"), [(0.8, "most objects"), (0.5, "many objects"), (0.1, "some objects"), (None, "undefined")]
)
def test_verdict(box: float | None, said: str, tmp_path: Path) -> None:
    assert said in words(tmp_path, overall, evaluate__box_ap50=box)["verdict"]


def test_how_many_of_the_sure_detections_are_right(tmp_path: Path) -> None:
    kinds = {"correct": 6, "duplicate": 1, "classification": 1, "localization": 0, "both": 0, "background": 0}
    told = words(tmp_path, overall, evaluate__errors={**kinds, "missed": 5, "ignored": 3})["errors"]
    assert told == "Of the detector's 8 detections scored 0.5 or more, 75.0% are correct (task 15)."
    none = dict.fromkeys(kinds, 0) | {"missed": 5, "ignored": 0}
    assert words(tmp_path, overall, evaluate__errors=none)["errors"] == "No detection is scored 0.5 or more."


def test_recall_says_on_which_images(tmp_path: Path) -> None:
    images = metrics()["evaluate"]["images"]
    few = words(tmp_path, part_b.task_13, backbone__compared=images - 1)
    assert few["where"] == f" in {images - 1} of the test images"
    assert words(tmp_path, part_b.task_13, backbone__compared=images)["where"] == ""


def test_numbers_on_validation_images_are_not_said_to_be_of_test_images(tmp_path: Path) -> None:
    content = validation_metrics()
    answer = overall(write_run(tmp_path, content))
    assert answer.words["caution"].startswith("The validation split has 48 images with 60 objects of 3 classes, so")
    assert "of up to 6.5 percentage points" in answer.words["caution"]  # 100 sqrt(0.25 / 60)
    assert "shapes of the test split" not in answer.words["caution"]
    assert "shapes of the test split never occur in training" in words(tmp_path, overall)["caution"]
    assert answer.tables["precision"].caption == "Average precision on 48 validation images."
    for compared, where in ((32, " in 32 of the validation images"), (48, "")):
        content["backbone"]["compared"] = compared
        assert part_b.task_13(write_run(tmp_path, content)).words["where"] == where


def test_how_far_ap_moves_with_other_test_images(tmp_path: Path) -> None:
    told = words(tmp_path, overall)["interval"]
    assert "between 0.713 and 0.834 for box and between 0.688 and 0.809 for mask" in told
    assert words(tmp_path, overall, evaluate__ap50_interval={"box": None, "mask": None})["interval"] == ""


def test_peers_only_beside_the_genuine_set(tmp_path: Path) -> None:
    assert "peers" not in overall(write_run(tmp_path)).tables
    assert overall(write_run(tmp_path)).words["left_out"] == ""
    some = metrics(ingest__left_out_images={}, ingest__left_out_objects={"no mask": 3, "a malformed entry": 1})
    text = overall(write_run(tmp_path, some)).words["left_out"]
    assert text == "Left out of the set: 4 objects (no mask: 3, a malformed entry: 1)."
    some = metrics(ingest__left_out_images={"no such file": 1}, ingest__left_out_objects={"no mask": 1})
    text = overall(write_run(tmp_path, some)).words["left_out"]
    assert text == "Left out of the set: 1 image (no such file: 1) and 1 object (no mask: 1)."
    assert "peers" not in overall(write_run(tmp_path, metrics(ingest__source="course"))).tables
    genuine = metrics(ingest__source="course", ingest__images=3265)
    assert len(overall(write_run(tmp_path, genuine)).tables["peers"].rows) == 7


def test_a_checkpoint_may_have_seen_the_test_images(tmp_path: Path) -> None:
    assert "optimistic" in words(tmp_path, overall, backbone__weights="checkpoint680.pth")["caution"]
    assert "optimistic" not in words(tmp_path, overall)["caution"]
