"""`MODEL_CARD.md`: what the exported detector learned from, how well it does, its limits, whose work is in it.

Every number is one of the run's own: of `metrics/`, of `params.yaml`, or of the check that export makes. The sections
are those of Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019), as far as the run knows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from src.core.params import Params
from src.reporting.formatting import listing, plural, score
from src.reporting.provenance import commit
from src.reporting.run_results import RunResults
from src.reporting.summary import SOURCES
from tools.export.parity import Parity, in_words
from tools.export.programs import FEWEST, MOST, OPSET, STRIDE

DATA_LICENSES: Final = {
    "emoji": (
        "Scenes composed from [Twemoji](https://github.com/jdecked/twemoji) graphics, (c) Twitter, Inc, jdecked and "
        "other contributors, [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/): rendered, scaled, turned, "
        "recolored."
    ),
    "course": "The course's own; photos of COCO belong to their photographers, under the licenses that COCO names.",
    "coco": "The set's own, which the run does not know; photos of COCO belong to their photographers.",
}
TORCHVISION: Final = "torchvision's, BSD 3-Clause; trained on "
LITE: Final = "Google's EfficientNet-Lite, Apache 2.0; trained on ImageNet"
STAGES: Final = {  # of training, and what each teaches
    "backbone": "FPN and RPN on the pretrained backbone",
    "box_head": "the box head on cached features",
    "mask_head": "the mask head beside it",
}
KINDS: Final = ("box", "mask")
OTHERS: Final = ("ap", "ap75", "ap_small", "ap_medium", "ap_large")


def model_card(results: RunResults, parity: Parity) -> str:
    """The card in Markdown.

    Args:
        results: of the run.
        parity: of the ONNX file with the pipeline's detector.

    Raises:
        InputError: a stage has not run, or left no such number.
    """
    params = results.params
    sections = {
        "Model": _model(results, parity),
        "Data": _data(results),
        "Training": _training(params),
        "Metrics": _metrics(results),
        "Limits": _limits(results),
        "Licenses": _licenses(params),
    }
    texts = [f"## {name}\n\n{text}" for name, text in sections.items()]
    return "\n\n".join([f"# Mask R-CNN of {listing(results.classes)}", *texts]) + "\n"


def _model(results: RunResults, parity: Parity) -> str:
    params, canvas = results.params, results.params.prepare
    return _bullets(
        f"Mask R-CNN with `{params.backbone.name}` and FPN; commit {commit(Path())} of the project.",
        f"Input: a picture on a canvas, {canvas.height} x {canvas.padded_width} pixels as trained, any multiple of "
        f"{STRIDE} from {FEWEST * STRIDE} to {MOST * STRIDE:,} along a side; and where on it the picture lies.",
        "Output: boxes, labels from 1 on, scores, 28 x 28 masks in their boxes; `detect.py` shows the way back to a "
        "picture's own pixels.",
        f"`detector.pt2`: torch.export. `detector.onnx`: ONNX, opset {OPSET}. Both in float32.",
        f"ONNX beside the pipeline on {plural(parity.pictures, 'test image')}: {in_words(parity)}.",
    )


def _data(results: RunResults) -> str:
    source, split = results.value("ingest", "source"), results.value("ingest", "split")
    parts = ("train", "validation", "test")
    rows = [[name, *(counts[part] for part in parts)] for name, counts in split.items()]
    images = ["images", *(results.value("ingest", f"{part}_images") for part in parts)]
    table = _table(["", *parts], [images, *([f"objects: {name}", *counts] for name, *counts in rows)])
    facts = [f"{source}: {SOURCES.get(source, source)}."]
    if hidden := results.value("ingest", "unannotated_objects"):
        facts.append(f"{plural(hidden, 'object')} in them left unannotated on purpose.")
    return f"{' '.join(facts)}\n\n{table}"


def _training(params: Params) -> str:
    lines = [f"Weights to begin with: `backbone.weights: {params.backbone.weights}`."]
    for name, text in STAGES.items():
        section = getattr(params, name)
        lines.append(f"`{name}`, {text}: {plural(section.epochs, 'epoch')}, seed {section.seed}.")
    joint = params.joint
    if joint.scheme == "none":
        lines.append("`joint`: none; the parts were never trained together.")
    else:
        lines.append(f"`joint`, all parts, `{joint.scheme}`: {plural(joint.epochs, 'epoch')}, seed {joint.seed}.")
    return _bullets(*lines)


def _metrics(results: RunResults) -> str:
    evaluate = results.value("evaluate")
    intervals = evaluate["ap50_interval"]
    rows = [
        [
            kind,
            _interval(evaluate[f"{kind}_ap50"], intervals[kind]),
            *(score(evaluate[f"{kind}_{ap}"]) for ap in OTHERS),
        ]
        for kind in KINDS
    ]
    classes = [
        [name, *(score(entry[f"{kind}_{ap}"]) for kind in KINDS for ap in ("ap50", "ap"))]
        for name, entry in evaluate["by_class"].items()
    ]
    conditions = evaluate["conditions"]
    measured = (
        f"On {plural(evaluate['images'], 'image')} of the {evaluate['split']} split, in {conditions['precision']} on "
        f"{conditions['device']}; in brackets 95% of the bootstrap draws of the images."
    )
    return "\n\n".join(
        [
            measured,
            _table(["", "AP50", "AP", "AP75", "AP small", "AP medium", "AP large"], rows),
            _table(["", "box AP50", "box AP", "mask AP50", "mask AP"], classes),
            f"Mean mask IoU of the objects found: {score(evaluate['mask_iou'])}.",
        ]
    )


def _limits(results: RunResults) -> str:
    params, funnel = results.params, results.value("evaluate", "funnel")
    evaluate = params.evaluate
    lost = max(funnel["lost_at"].items(), key=lambda item: item[1])
    lines = [
        f"It knows {listing(results.classes)}, as they look in its data, and nothing else.",
        f"{funnel['missed']} of {plural(funnel['objects'], 'object')} were not found"
        + (f", most of them lost at the step `{lost[0]}` ({lost[1]})." if lost[1] else "."),
        "Scores are no calibrated probabilities.",
        f"At most {evaluate.detections_per_image} detections of a picture, scored above {evaluate.score_threshold:g}.",
        f"`detect.py` gives those that reach {params.predict.score_threshold:g}.",
    ]
    if evaluate.border == "remove":
        lines.append("Boxes across the picture's border are removed: an object that is cut off is mostly not found.")
    if params.data.source == "emoji":
        lines.append("It has seen made scenes alone; on photos nothing was measured.")
    lines.append("Whole pictures: the tiles of `predict.tile` are `make predict`'s, not the programs'.")
    return _bullets(*lines)


def _licenses(params: Params) -> str:
    name, weights = params.backbone.name, params.backbone.weights
    texts = {
        "imagenet": f"{TORCHVISION}ImageNet" if name == "resnet50" else LITE,
        "coco": f"{TORCHVISION}COCO",
        "none": "none",
    }
    return _bullets(
        "Code: MIT, the project's `LICENSE`; packages: its `NOTICE`.",
        f"Data: {DATA_LICENSES[params.data.source]}",
        f"Pretrained weights: {texts.get(weights, 'those of the checkpoint that `backbone.weights` names')}.",
    )


def _interval(estimate: float | None, interval: Mapping[str, Any] | None) -> str:
    """`0.853 (0.804 to 0.911)`."""
    text = score(estimate)
    return text if interval is None else f"{text} ({score(interval['low'])} to {score(interval['high'])})"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _bullets(*lines: str) -> str:
    return "\n".join(f"* {line}" for line in lines)
