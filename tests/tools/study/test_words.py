"""Sentences follow from the numbers: each kind of outcome has its own."""

from __future__ import annotations

from src.reporting.answers.studies import Difference
from src.reporting.formatting import metric_name
from tests.tools.study.samples import table
from tools.study.words import answer, spreads


def difference(
    variant: str,
    mean: float,
    margin: float | None = 0.01,
    metric: str = "box_ap",
    images: tuple[float, float] | None = None,
) -> Difference:
    return Difference(variant, metric, 3, mean, margin, images)


def test_a_variant_that_gains_and_loses_nothing_is_recommended() -> None:
    sentences = answer("one", {"box_ap": [difference("four", 0.05), difference("half", 0.005)]})
    assert sentences[0].startswith("Of 2 comparisons with 'one', 1 are larger than seeds make")
    assert sentences[1:3] == ["Four: box AP +0.050.", "Half: nothing that another seed would not do."]
    assert sentences[3].startswith("These runs speak for 'four'")


def test_a_gain_for_a_loss_is_called_a_trade() -> None:
    found = {"box_ap": [difference("four", 0.05)], "mask_ap": [difference("four", -0.05, metric="mask_ap")]}
    *_, what, advice = answer("one", found)
    assert what == "Four: box AP +0.050 and mask AP \N{MINUS SIGN}0.050."
    assert advice.startswith("'four': one result is traded")


def test_where_only_losses_or_nothing_is_larger_the_baseline_stays() -> None:
    for mean in (-0.05, 0.005):
        assert answer("one", {"box_ap": [difference("four", mean)]})[-1].startswith(
            "These runs speak for staying with 'one'"
        )


def test_what_other_test_images_may_not_show_recommends_nothing() -> None:
    found = [difference("four", 0.05, images=(-0.01, 0.09)), difference("half", 0.04, images=(0.01, 0.07))]
    count, four, half, advice = answer("one", {"box_ap": found})
    assert count.endswith("Other test images would show 1 of them too.")
    assert (
        four == "Four: box AP +0.050 (\N{MINUS SIGN}0.010 to +0.090 over test images, so perhaps these images' luck)."
    )
    assert half == "Half: box AP +0.040 (+0.010 to +0.070 over test images)."
    assert advice.startswith("These runs speak for 'half':")
    (*_, advice) = answer("one", {"box_ap": found[:1]})
    assert advice.startswith("These runs speak for staying with 'one'")


def test_seeds_alone_have_their_spread_in_words() -> None:
    frame = table(one=[0.1, 0.2, 0.6])
    frame["mask_ap"] = [None, 0.5, None]
    assert spreads(frame, ["box_ap", "mask_ap"]) == [
        "3 runs that differ by their seeds alone.",
        "Box AP: 0.300 on average, standard deviation 0.265, from 0.100 to 0.600.",
    ]
    (alone,) = spreads(frame[:1], ["box_ap"])
    assert "not known yet" in alone


def test_one_seed_or_no_pair_claims_nothing() -> None:
    (alone,) = answer("one", {"box_ap": [difference("four", 0.5, None)]})
    assert "one seed" in alone
    (nothing,) = answer("one", {"box_ap": []})
    assert "No variant can be compared" in nothing


def test_names_of_metrics_for_people() -> None:
    assert [metric_name(metric) for metric in ("box_ap50", "mask_iou", "classifier.macro_recall")] == [
        "box AP50",
        "mask IoU",
        "classifier macro recall",
    ]
