"""Accuracy at equal cost: torchvision's Mask R-CNN on the pictures of the last run, beside what that run reached.

torchvision's detector starts from the same ImageNet weights and learns from the same pictures, mirrored half of the
time, as its fine-tuning tutorial has it: SGD at 0.005, momentum 0.9, weight decay 0.0005, two images per step, with a
warm-up over the first tenth and a cosine to the end, in the precision that ours has. Tests run after every epoch, by
the laboratory's own evaluation. Run after `dvc repro` (or `dvc exp run`) on the photos; it resumes from its last epoch
if it was stopped.

Every run so tested adds its point to ours, told apart by the parameters in `SCHEME`; every schedule of torchvision's
adds its curve, told apart by those in `BASELINE_SCHEME`.

    python -m benchmarks.photos [--epochs 4] [--trainable-layers 2]
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torchvision.models.detection import MaskRCNN
from tqdm import tqdm

from benchmarks.page import in_words, table
from benchmarks.torchvision_baseline import targets_of, torchvision_mask_rcnn
from src.core import paths
from src.core.errors import invalid
from src.core.files import read_json, write_json, write_text
from src.core.params import Params
from src.core.params_file import load_params
from src.core.runtime import cache_dir, environment_info, make_fabric, precision_name
from src.core.tensors import save_tensors
from src.data.dataset import DatasetFile
from src.data.loading import Loader
from src.data.prepared import Example, PreparedFile, read_classes
from src.detector.backbones import LiteBody, set_trainable_layers
from src.evaluation.bootstrap import ap50_intervals
from src.evaluation.detection import evaluate_detections
from src.evaluation.instances import GroundTruth, Instances, coco_ground_truth, coco_results
from src.evaluation.predictor import to_source
from src.structures.detections import Detections
from src.structures.sample import TEST
from src.training.history import weighted_sum
from src.training.loop import LARGEST_GRADIENT_NORM

STATE = ".cache/photos-torchvision-{trainable_layers}-{schedule}-{precision}.pt"
RESULTS, PAGE = Path("benchmarks/photos.json"), Path("benchmarks/photos.md")
LEARNING_RATE, WARM_UP = 0.005, 0.1
SCHEME = ("trainable_layers", "epochs", "learning_rate", "views", "head_epochs", "joint", "border", "precision")
BASELINE_SCHEME = ("trainable_layers", "schedule", "precision")  # stages of the body, epochs of the whole schedule
STAGES = ("backbone", "features", "box_head", "mask_head", "joint")  # what the detector takes; part (a) is apart


def learning_rate(done: float) -> float:
    """Factor of the peak after a share of the steps."""
    return done / WARM_UP if done < WARM_UP else 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def train_epoch(
    fabric: Fabric, model: MaskRCNN, optimizer: torch.optim.Optimizer, loader: Loader, place: tuple[int, int]
) -> None:
    """One epoch over the pictures; `place` is its number and how many there are."""
    model.train()
    number, epochs = place
    bar = tqdm(loader.batches(number), desc=f"torchvision, epoch {number + 1} of {epochs}", total=len(loader))
    for done, batch in enumerate(bar):
        images = [example.image.contiguous() / 255 for example in batch]
        targets = [targets_of(example.target) for example in batch]
        factor = learning_rate((number + done / len(loader)) / epochs)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * factor
        with fabric.autocast():
            terms = model(images, targets)
        loss = weighted_sum(terms, dict.fromkeys(terms, 1.0))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT_NORM)
        optimizer.step()
        bar.set_postfix(loss=f"{float(loss.detach()):.3f}", refresh=False)


@torch.no_grad()
def predict(fabric: Fabric, model: MaskRCNN, example: Example, threshold: float) -> Instances:
    """Its detections in the source picture."""
    height, width = example.image.shape[1:]
    with fabric.autocast():
        images, _ = model.transform([example.image.contiguous() / 255])
        features = model.backbone(images.tensors)
        proposals, _ = model.rpn(images, features)
        found = model.roi_heads(features, proposals, images.image_sizes)[0][0]
    scale = torch.tensor([width, height] * 2) / torch.tensor(images.image_sizes[0][::-1] * 2)
    boxes = found["boxes"].float() * scale
    cells = found["masks"][:, 0].float()
    scores = found["scores"].float()
    return to_source(Detections(boxes, found["labels"], scores, boxes, cells), example.letterbox, threshold)


def evaluate(fabric: Fabric, model: MaskRCNN, params: Params) -> dict[str, Any]:
    """AP on the test split, with AP50's intervals."""
    model.eval()
    with DatasetFile(paths.DATASET) as dataset, PreparedFile(paths.PREPARED) as prepared:
        rows = prepared.indices("test")
        truth = [GroundTruth.from_dataset(dataset, row, number) for number, row in enumerate(rows, start=1)]
        found = [
            predict(fabric, model, example, params.evaluate.mask_threshold)
            for example in tqdm(prepared.examples(rows, masks=False), desc="test", total=len(rows), unit="image")
        ]
        annotations = coco_ground_truth(truth, prepared.classes)
    metrics: dict[str, Any] = evaluate_detections(annotations, coco_results(truth, found)).as_metrics()
    metrics["ap50_interval"] = ap50_intervals(truth, found)
    return {name: value for name, value in metrics.items() if name != "by_class"}


def ours(params: Params) -> dict[str, Any]:
    """What the last run reached, what it took, and the parameters that make it a point of the curve."""
    metrics = read_json(paths.metrics("evaluate"))
    if metrics["split"] != TEST:
        raise invalid(paths.metrics("evaluate"), "numbers of the test images, as torchvision's are", metrics["split"])
    seconds = sum(read_json(cache_dir() / "seconds" / f"{name}.json") for name in STAGES)
    names = ("box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75", "ap50_interval")
    scheme = {
        "trainable_layers": params.backbone.trainable_layers,
        "epochs": params.backbone.epochs,
        "learning_rate": params.backbone.learning_rate,
        "views": cached_views(params),
        "head_epochs": [params.box_head.epochs, params.mask_head.epochs],
        "joint": joint_training(params),
        "border": params.evaluate.border,
        "precision": precision_name(params.runtime),
    }
    reached = {name: metrics[name] for name in (*names, "proposal_recall")}
    return {**scheme, **reached, "seconds": seconds, "machine": machine(params)}


def cached_views(params: Params) -> int:
    """Of each training picture; none where no head learns from cached features."""
    if not params.box_head.epochs and not params.mask_head.epochs:
        return 0
    return 2 if params.features.flip and params.data.source != "emoji" else 1


def joint_training(params: Params) -> dict[str, Any] | None:
    """What makes the joint training that it is, or None where there is none, as in all runs before it existed."""
    joint = params.joint
    names = ("scheme", "rounds", "epochs", "trainable_layers", "learning_rate")
    augment = dataclasses.asdict(params.augment) if any(dataclasses.astuple(params.augment)) else {}
    return None if joint.scheme == "none" else {name: getattr(joint, name) for name in names} | augment


def machine(params: Params) -> dict[str, Any]:
    """What a point was measured on; the precision is part of its scheme."""
    found = environment_info(params.runtime)
    del found["precision"]
    found["torch"] = str(found["torch"])  # of a class of torch's own, which `torch.load` would not read back
    matrices = " and AMX" if torch.cpu.get_capabilities().get("amx_bf16") else ""
    return {**found, "vectors": torch.backends.cpu.get_cpu_capability() + matrices}


def main() -> None:
    """Trains, tests, writes `benchmarks/photos.json` and `benchmarks/photos.md`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photos", description=__doc__)
    parser.add_argument("--epochs", type=int, default=4, help="over the training pictures; 0: only our run's numbers")
    parser.add_argument(
        "--trainable-layers", type=int, default=2, help="of the body's five stages, how many torchvision trains"
    )
    given = parser.parse_args()
    params = load_params()
    fabric = make_fabric(params.runtime)
    results = read_json(RESULTS) if RESULTS.exists() else {"ours": [], "torchvision": []}
    point = ours(params)
    results["ours"] = sorted([*other_than(point, results["ours"], SCHEME), point], key=lambda one: one["seconds"])
    ingested = read_json(paths.metrics("ingest"))
    results["data"] = {name: ingested[name] for name in ("source", "train_images", "test_images")}
    write_results(results)
    precision = precision_name(params.runtime)
    scheme = {"trainable_layers": given.trainable_layers, "schedule": given.epochs, "precision": precision}
    others = other_than(scheme, results["torchvision"], BASELINE_SCHEME)
    for curve in train_torchvision(fabric, params, scheme):
        write_results({**results, "torchvision": [*others, *curve]})


def other_than(
    scheme: Mapping[str, Any], points: Sequence[dict[str, Any]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """The points of other schemes, which a new measurement leaves as they are."""
    return [point for point in points if any(point.get(name) != scheme.get(name) for name in names)]


def train_torchvision(fabric: Fabric, params: Params, scheme: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """The points of its curve so far, after each epoch; resumes from the last epoch of a stopped run."""
    schedule = scheme["schedule"]
    torch.manual_seed(1)
    body = LiteBody("efficientnet_lite0", pretrained=True)
    set_trainable_layers(body, scheme["trainable_layers"])
    model = torchvision_mask_rcnn(params, read_classes(paths.PREPARED), body)
    learning = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.SGD(learning, LEARNING_RATE, momentum=0.9, weight_decay=5e-4)
    with PreparedFile(paths.PREPARED) as prepared:
        loader = Loader(paths.PREPARED, prepared.indices("train"), 2, seed=1, flip=True)
    curve: list[dict[str, Any]] = []
    kept = Path(STATE.format(**scheme))
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        curve = state["curve"]
    for number in range(len(curve), schedule):
        start = time.perf_counter()
        train_epoch(fabric, model, optimizer, loader, (number, schedule))
        seconds = time.perf_counter() - start
        spent = curve[-1]["seconds"] if curve else 0.0
        point = {**scheme, "epochs": number + 1, "seconds": spent + seconds, "machine": machine(params)}
        curve.append({**point, **evaluate(fabric, model, params)})
        save_tensors(kept, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "curve": curve})
        yield curve


def write_results(results: dict[str, Any]) -> None:
    """Both files."""
    write_json(RESULTS, results)
    data, points = results["data"], [*results["ours"], *results["torchvision"]]
    machines: list[dict[str, Any]] = []
    for one in points:
        if one["machine"] not in machines:
            machines.append(one["machine"])
    rows = [(*row(one), str(1 + machines.index(one["machine"]))) for one in points]
    about = f"""# Accuracy at equal cost

Written by `python -m benchmarks.photos`; do not edit. {data["train_images"]} photos to train on, {data["test_images"]}
to test on. In an epoch the network learns from every training photo once. Ours then runs once over the photos and once
over their mirror images to cache features, on which the heads learn for their epochs; where there is joint training, it
sees every photo once more in each of its epochs. The minutes have all of it. torchvision's row "2 of 4" is its state
after two epochs of a schedule that is made for four. Brackets: 95 % of the bootstrap draws of the test images. Minutes
of different machines do not compare.
"""
    head = (
        "detector",
        "trainable stages",
        "epochs",
        "box and mask head epochs",
        "joint training",
        "precision",
        "minutes",
        "box AP50",
        "mask AP50",
        "box AP",
        "mask AP",
        "machine",
    )
    lines = [f"Machine {number}: {in_words(one)}.\n" for number, one in enumerate(machines, start=1)]
    write_text(PAGE, "\n".join([about, table(head, rows), *lines]))


def scheme_of(point: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """What names a point: detector, trainable stages of the body, epochs, those of the heads, joint training."""
    stages = str(point["trainable_layers"])
    if "schedule" in point:
        return "torchvision", stages, f"{point['epochs']} of {point['schedule']}", "", ""
    border = "removed" if point["border"] == "remove" else "clipped"
    epochs = f"{point['epochs']} at {point['learning_rate']:g}, then {point['views']} to cache features"
    heads = " + ".join(map(str, point["head_epochs"]))
    return f"ours, boxes across the border {border}", stages, epochs, heads, joint_in_words(point.get("joint"))


def joint_in_words(joint: Mapping[str, Any] | None) -> str:
    """Scheme, epochs, rate and trainable stages; nothing where there is no joint training."""
    if joint is None:
        return ""
    rounds = f", rounds {joint['rounds']}" if joint["scheme"] == "alternating" else ""
    rate = f"{joint['epochs']} at {joint['learning_rate']:g}, stages {joint['trainable_layers']}"
    return f"{joint['scheme']}{rounds}, {rate}"


def row(entry: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table, without its machine."""

    def with_interval(kind: str) -> str:
        interval = entry["ap50_interval"][kind]
        value = f"{entry[f'{kind}_ap50'] or 0:.3f}"
        return f"{value} ({interval['low']:.3f} to {interval['high']:.3f})" if interval else value

    aps = (f"{entry[f'{kind}_ap'] or 0:.3f}" for kind in ("box", "mask"))
    return (
        *scheme_of(entry),
        entry["precision"],
        f"{entry['seconds'] / 60:.1f}",
        with_interval("box"),
        with_interval("mask"),
        *aps,
    )


if __name__ == "__main__":
    main()
