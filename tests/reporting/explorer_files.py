"""The files behind the explorer, of small made scenes, and what `evaluate` would have measured of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.evaluation.analysis import SecondStageAnalysis
from src.evaluation.errors import count_errors
from src.evaluation.explorer import describe, describe_found, settings, surest_first
from src.evaluation.funnel import STEPS, count_fates, fates
from src.evaluation.instances import GroundTruth, Instances
from src.figures.album import Album
from src.structures.classes import Classes
from tests.evaluation.scenes import HEIGHT, WIDTH, random_scene

CLASSES = Classes(("vehicle", "person", "animal"))
THRESHOLD = 0.5
ROOM = 1_000_000


def analysis(name: str, found: Instances, lost_at: Sequence[str], seed: int = 0) -> SecondStageAnalysis:
    """Detections under both rules, any proposals, nothing else."""
    low = np.random.default_rng(seed).uniform(0, 20, (30, 2))
    proposals = torch.tensor(np.concatenate([low, low + 15], 1), dtype=torch.float32)
    empty, labels = torch.zeros(0), torch.zeros(len(proposals), dtype=torch.int64)
    columns = dict.fromkeys(("iou_before", "iou_after", "halves_before", "halves_after"), empty)
    rules = {"remove": found, "clip": found}
    return SecondStageAnalysis(name, rules, proposals, labels, labels, **columns, lost_at=tuple(lost_at))


def scene(seed: int = 1, images: int = 6) -> tuple[list[GroundTruth], list[SecondStageAnalysis]]:
    """Random images; the steps that lose their objects are drawn too."""
    draw = np.random.default_rng(seed)
    truth, found = random_scene(seed, images)
    analyses = [
        analysis(one.name, ours, draw.choice(STEPS[:8], int((~one.crowd).sum())).tolist(), seed)
        for one, ours in zip(truth, found, strict=True)
    ]
    return truth, analyses


def measured(
    truth: Sequence[GroundTruth], analyses: Sequence[SecondStageAnalysis], threshold: float = THRESHOLD
) -> dict[str, Any]:
    """The entries `errors` and `funnel` of `metrics/evaluate.json`."""
    found = [one.found["clip"] for one in analyses]
    each = [fates(*pair, one.lost_at, threshold) for *pair, one in zip(truth, found, analyses, strict=True)]
    errors = count_errors(truth, found, threshold)
    return {"errors": errors.as_metrics(), "funnel": count_fates(each).as_metrics()}


def write_explorer(
    plots: Path,
    truth: Sequence[GroundTruth] = (),
    analyses: Sequence[SecondStageAnalysis] = (),
    classes: Classes = CLASSES,
    own: Sequence[tuple[str, Instances]] = (),
    room: int = ROOM,
) -> None:
    """Both files, below a run's `plots`; each picture is gray noise."""
    noise = np.random.default_rng(0)
    album, others = Album(room, len(truth)), Album(room, len(own))
    for image, one in zip(truth, analyses, strict=True):
        album.add(noise.integers(90, 160, (image.height, image.width, 3), np.uint8), describe(image, one, "clip"))
    album.write(plots / "evaluate/explorer.json", **settings(classes, THRESHOLD))
    for name, found in own:
        known = {"name": name, "height": HEIGHT, "width": WIDTH, "objects": [], "proposals": []}
        detections = describe_found(surest_first(found))
        others.add(noise.integers(90, 160, (HEIGHT, WIDTH, 3), np.uint8), {**known, "detections": detections})
    others.write(plots / "own_pictures.json")
