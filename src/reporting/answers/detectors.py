"""Task 13: two stages against one, on this run's own test images."""

from __future__ import annotations

import math
from typing import Any, Final

from src.reporting.answers.answer import Answer, Picture, Table
from src.reporting.answers.detection import KINDS
from src.reporting.answers.fine_tuning import where_measured
from src.reporting.answers.studies import with_study
from src.reporting.formatting import count, duration, listing, percent, plural, score, sentence, signed
from src.reporting.loss_curves import was_trained
from src.reporting.origin import fill
from src.reporting.run_results import RunResults
from src.structures.detector import DETECTOR_NAMES, DETECTORS, MASK_RCNN, ONE_STAGE

MEASURES: Final = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}
SECOND_STAGE: Final = ("features", "box_head", "mask_head", "joint")  # what it costs after the fine-tuning
FEWEST: Final = 10  # objects of a class or size of which something is said in words
MISTAKES: Final = ("localization", "classification", "duplicate", "background", "both", "missed")


def task_13(results: RunResults) -> Answer:
    """Both detectors side by side, and what their numbers say."""
    recall = results.value("backbone", "proposal_recall")
    kept = results.params.proposals.post_nms_top_n
    words = {
        "candidates": count(candidates(results)),
        "kept": count(kept),
        "share": "an unknown share" if recall is None else percent(recall),
        "where": where_measured(results),
        "heads": count(results.params.features.proposals),
        "thinning": count(candidates(results) / kept),
        "rival": _rival(results),
        "verdict": _verdict(results.value("detectors", "differences")["all"]),
        "groups": _groups(results.value("detectors")),
        "mistakes": _mistakes(results.value("detectors", "detectors")),
        "objects": _objects(results.value("detectors", "objects")),
        "cost": _cost(results),
    }
    figures = {
        "apart": Picture(
            results.plot("evaluate/detectors.png"),
            "Test images with the boxes of the two-stage detector on the left, of the one-stage detector on the right",
            "Where one detector finds an object (dotted) that the other misses: left two stages, right one stage, each "
            "from its own best threshold on.",
        )
    }
    if was_trained(results, "one_stage"):
        figures["history"] = Picture(
            results.charts / "one_stage.png",
            "Training losses of the one-stage detector over iterations",
            "The one-stage detector's losses; light: each iteration, bold: the running mean.",
        )
    tables = {
        "precision": _precision_table(results),
        "differences": _differences_table(results),
        "numbers": _numbers_table(results),
    }
    return with_study(Answer(words, figures, tables), results, "detectors")


def candidates(results: RunResults) -> int:
    """Anchors of one image over all levels of the pyramid."""
    cells = sum(math.prod(shape_of(output)[1:]) for output in results.value("backbone", "outputs"))
    return cells * len(results.params.backbone.anchor_ratios)


def dense_candidates(results: RunResults) -> int:
    """Anchors of one image that the one-stage detector classifies."""
    options = results.params.one_stage
    levels = results.value("backbone", "outputs")[options.finest_level - 2 :]
    cells = sum(math.prod(shape_of(output)[1:]) for output in levels)
    return cells * len(results.params.backbone.anchor_ratios) * len(options.anchor_scales)


def shape_of(output: dict[str, Any]) -> list[int]:
    """Channels, rows, columns, with or without a leading batch axis."""
    return list(output["shape"])[-3:]


def _rival(results: RunResults) -> str:
    """What the one-stage detector is, and what it has learned from."""
    options = results.params.one_stage
    if not options.epochs:
        return "In this run it was not trained (one_stage.epochs is 0), so its numbers say nothing."
    learns = ["the head"]
    learns += ["the pyramid"] if options.train_fpn else []
    learns += ["the body's deepest layers"] if options.trainable_layers else []
    time = results.seconds.get("one_stage")
    spent = [results.seconds[stage] for stage in SECOND_STAGE if stage in results.seconds and _ran(results, stage)]
    took = f" in {duration(time)}" if time is not None else ""
    beside = f"; the second stage got {duration(sum(spent))} after the fine-tuning" if spent else ""
    return (
        f"{sentence(listing(learns))} learned for {plural(options.epochs, 'epoch')}{took}{beside}. It looks at "
        f"{plural(options.convolutions + 1, 'layer')} of 3 by 3 from level P{options.finest_level} on."
    )


def _ran(results: RunResults, stage: str) -> bool:
    """Whether a part of the second stage's training did something."""
    if stage == "features":
        return was_trained(results, "box_head") or was_trained(results, "mask_head")
    return was_trained(results, stage)


def _verdict(difference: dict[str, Any] | None) -> str:
    """Which one is ahead in AP50 and AP, as far as these images can tell."""
    if difference is None:
        return "There are no objects to find, so neither is ahead."
    texts = []
    for measure in ("ap50", "ap"):
        one = difference[measure]
        ahead = DETECTOR_NAMES[MASK_RCNN if one["estimate"] > 0 else ONE_STAGE]
        between = _between(one)
        if is_clear(one):
            texts.append(f"in {MEASURES[measure]} {ahead} are ahead by {score(abs(one['estimate']))} ({between})")
        else:
            texts.append(f"in {MEASURES[measure]} the difference of {signed(one['estimate'])} ({between}) may be luck")
    text = sentence(listing(texts)).replace("one stage are", "one stage is")
    return f"{text}. In brackets: 95 of 100 draws of the test images, both detectors on the same draws."


def is_clear(one: dict[str, float]) -> bool:
    """Whether an interval leaves out 0."""
    return one["low"] > 0 or one["high"] < 0


def _groups(content: dict[str, Any]) -> str:
    """Where the difference in AP50 is clear, and where it is largest; of groups that have enough objects to tell."""
    differences, classes = content["differences"], list(content["detectors"][MASK_RCNN]["by_class"])
    enough = [name for name, number in content["counts"].items() if number >= FEWEST and differences[name] is not None]
    texts = []
    for noun, among in (("class", True), ("size", False)):
        names = [name for name in enough if name != "all" and (name in classes) == among]
        known = {name: differences[name]["ap50"] for name in names}
        if not known:
            continue
        clear = [name for name, one in known.items() if is_clear(one)]
        largest = max(known, key=lambda name: abs(known[name]["estimate"]))
        said = f"for {listing(clear)}" if clear else "for none"
        texts.append(
            f"by {noun} the difference in AP50 is more than luck {said} and largest for {largest} "
            f"({signed(known[largest]['estimate'])})"
        )
    return f"{sentence('; '.join(texts))}. Groups of fewer than {FEWEST} objects are left out of this." if texts else ""


def _mistakes(detectors: dict[str, Any]) -> str:
    """The commonest mistake of each, at its own threshold."""
    texts = []
    for name in DETECTORS:
        errors, threshold = detectors[name]["errors"], detectors[name]["threshold"]
        if threshold is None:
            texts.append(f"{DETECTOR_NAMES[name]} found nothing at all")
            continue
        most = max(MISTAKES, key=lambda kind: errors[kind])
        text = f"with {DETECTOR_NAMES[name]} (from a score of {score(threshold, 2)} on) "
        texts.append(
            f"{text}the commonest mistake is {most}, {count(errors[most])} times"
            if errors[most]
            else f"{text}there is no mistake"
        )
    return f"{sentence('; '.join(texts))}."


def _objects(objects: dict[str, int]) -> str:
    total = sum(objects.values())
    text = "Of {}, {} are found by both, {} by two stages alone, {} by one stage alone, {} by neither."
    parts = [objects[key] for key in ("both", f"{MASK_RCNN}_only", f"{ONE_STAGE}_only", "neither")]
    return fill(text, plural(total, "object"), *map(count, parts))


def _cost(results: RunResults) -> str:
    """Seconds an image, where they are known."""
    two, one = (seconds_an_image(results, name) for name in DETECTORS)
    if two is None or one is None:
        return ""
    times = f"{score(two, 2)} s with two stages, masks included, and {score(one, 2)} s with one"
    if one < two:
        return f"An image takes {times}: one stage is {score(two / one, 1)} times as fast."
    return f"An image takes {times}: one stage is no faster here."


def seconds_an_image(results: RunResults, name: str) -> float | None:
    """What stage `detect` measured when it last ran; None where it did not, or was taken from DVC's cache."""
    return results.seconds_an_image.get(name)


def _precision_table(results: RunResults) -> Table:
    """AP of both, for all objects and by class and size."""
    content = results.value("detectors")
    two, one = (content["detectors"][name] for name in DETECTORS)
    rows = []
    for group in _measured(content):
        ours, theirs = _of(two, group), _of(one, group)
        cells = [fill("{} / {}", score(ours[key]), score(theirs[key])) for key in MEASURES]
        rows.append([group, count(content["counts"][group]), *cells])
    head = ("objects", "number", *(f"{name}, two / one" for name in MEASURES.values()))
    caption = (
        "Boxes of both detectors on the same test images, by class and by COCO's sizes (areas below 32 squared, up to "
        "96 squared, above, in the picture's own pixels)."
    )
    return Table(head, rows, caption)


def _differences_table(results: RunResults) -> Table:
    """The differences with their intervals."""
    content = results.value("detectors")
    rows = []
    for group in _measured(content):
        gaps = [content["differences"][group][key] for key in MEASURES]
        rows.append([group, *(fill("{} ({})", signed(one["estimate"]), _between(one)) for one in gaps)])
    return Table(("objects", *MEASURES.values()), rows, "Two stages less one, with paired 95% intervals.")


def _measured(content: dict[str, Any]) -> list[str]:
    """Classes and sizes that have objects."""
    return [group for group, differences in content["differences"].items() if differences is not None]


def _between(one: dict[str, float]) -> str:
    return fill("{} to {}", signed(one["low"]), signed(one["high"]))


def _of(detector: dict[str, Any], group: str) -> dict[str, Any]:
    if group == "all":
        return detector
    return detector["by_class"][group] if group in detector["by_class"] else detector["by_size"][group]


def _numbers_table(results: RunResults) -> Table:
    """Errors by kind, candidates, seconds."""
    two, one = (results.value("detectors", "detectors")[name] for name in DETECTORS)
    dense, proposals = dense_candidates(results), results.params.features.proposals
    rows = [
        ["anchors of an image", count(candidates(results)), count(dense)],
        ["boxes of an image that get a class", count(proposals), count(dense)],
        ["score from which on is counted", score(two["threshold"], 2), score(one["threshold"], 2)],
        ["precision there", percent(two["precision"]), percent(one["precision"])],
        ["recall there", percent(two["recall"]), percent(one["recall"])],
    ]
    rows += [[kind, count(two["errors"][kind]), count(one["errors"][kind])] for kind in KINDS]
    times = [seconds_an_image(results, name) for name in DETECTORS]
    if None not in times:
        rows.append(["seconds an image", *(score(time, 2) for time in times)])
    caption = (
        "Candidates, and detections by kind of mistake (task 15 says what they are), each detector from the score on "
        "that gives its highest F1 on these images."
    )
    return Table(("", *(DETECTOR_NAMES[name] for name in DETECTORS)), rows, caption)
