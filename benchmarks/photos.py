"""Accuracy at equal cost: torchvision's Mask R-CNN on the pictures of the last run, beside what that run reached.

torchvision's detector starts from the same ImageNet weights and learns from the same pictures, mirrored half of the
time, as its fine-tuning tutorial has it: SGD at 0.005, momentum 0.9, weight decay 0.0005, two images a step, with a
warm-up over the first tenth and a cosine to the end, in bf16. Tests run after every pass, by the laboratory's own
evaluation. Run after `dvc repro` (or `dvc exp run`) on the photos; it goes on from its last pass if it was stopped.

Every run so tested adds its point to ours, told apart by the parameters in `SCHEME`.

    python -m benchmarks.photos [--passes 4]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from tqdm import tqdm

from benchmarks.operators import cpu_bf16
from benchmarks.page import table
from benchmarks.peers import targets_of, torchvision_mask_rcnn
from src.data.dataset_file import DatasetFile
from src.data.loading import Loader
from src.data.prepared_file import Example, PreparedFile
from src.data.transform import Frame
from src.evaluation.bootstrap import bootstrap_ap50
from src.evaluation.detection import evaluate_detections
from src.evaluation.detector import to_source
from src.evaluation.greedy import Kind
from src.evaluation.instances import Detections, GroundTruth, coco_ground_truth, coco_results
from src.files import read_json, write_json, write_text
from src.models import mask_rcnn
from src.models.body import Lite0Body, train_deepest
from src.params import Params, load_params
from src.runtime import conditions, generator, make_fabric
from src.training.checkpoint import save_tensors

PREPARED, DATASET = Path("data/prepared.h5"), Path("data/dataset.h5")
STATE = Path(".cache/photos-peer.pt")
RESULTS, PAGE = Path("benchmarks/photos.json"), Path("benchmarks/photos.md")
LEARNING_RATE, WARM_UP = 0.005, 0.1
TRAINABLE = 2  # of the backbone's five strides; ours may freeze them all
KINDS: tuple[Kind, ...] = ("box", "mask")
SCHEME = ("layers", "passes", "learning_rate", "views", "epochs", "border")
STAGES = ("backbone", "features", "box_head", "mask_head")  # what training the detector takes; part (a) is apart


def learning_rate(done: float) -> float:
    """Factor of the peak after a share of the steps."""
    return done / WARM_UP if done < WARM_UP else 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def train_pass(model: MaskRCNN, optimizer: torch.optim.Optimizer, loader: Loader, place: tuple[int, int]) -> None:
    """One pass over the pictures; `place` is its number and how many there are."""
    model.train()
    number, passes = place
    bar = tqdm(loader.batches(number), desc=f"torchvision, pass {number + 1} of {passes}", total=len(loader))
    for done, batch in enumerate(bar):
        pictures = [example.annotated() for example in batch]
        images = [example.image.contiguous() / 255 for example in pictures]
        targets = [targets_of(example.boxes, example.labels, example.masks) for example in pictures]
        factor = learning_rate((number + done / len(loader)) / passes)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * factor
        with cpu_bf16():
            terms = model(images, targets)
        loss = sum(terms.values(), torch.zeros(()))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        bar.set_postfix(loss=f"{float(loss.detach()):.3f}", refresh=False)


@torch.no_grad()
def find(model: MaskRCNN, example: Example, frame: Frame, threshold: float) -> Detections:
    """Its detections in the source picture."""
    height, width = example.image.shape[1:]
    with cpu_bf16():
        images, _ = model.transform([example.image.contiguous() / 255])
        features = model.backbone(images.tensors)
        proposals, _ = model.rpn(images, features)
        found = model.roi_heads(features, proposals, images.image_sizes)[0][0]
    scale = torch.tensor([width, height] * 2) / torch.tensor(images.image_sizes[0][::-1] * 2)
    boxes = found["boxes"].float() * scale
    cells = found["masks"][:, 0].float()
    scores = found["scores"].float()
    return to_source(mask_rcnn.Detections(boxes, found["labels"], scores, boxes, cells), frame, threshold)


def test(model: MaskRCNN, params: Params) -> dict[str, Any]:
    """AP on the test split, with AP50's intervals."""
    model.eval()
    with DatasetFile(DATASET) as dataset, PreparedFile(PREPARED) as prepared:
        rows = prepared.indices("test")
        truth = [GroundTruth.of(dataset[row], number) for number, row in enumerate(rows, start=1)]
        found = [
            find(model, example, prepared.frame, params.evaluate.mask_threshold)
            for example in tqdm(prepared.examples(rows, masks=False), desc="test", total=len(rows), unit="image")
        ]
    metrics: dict[str, Any] = evaluate_detections(coco_ground_truth(truth), coco_results(truth, found)).as_metrics()
    intervals = {kind: bootstrap_ap50(truth, found, generator(0), kind=kind) for kind in KINDS}
    metrics["ap50_interval"] = {kind: vars(one) if one else None for kind, one in intervals.items()}
    return {name: value for name, value in metrics.items() if name != "by_class"}


def ours(params: Params) -> dict[str, Any]:
    """What the last run reached, what it took, and the parameters that make it a point of the curve."""
    metrics, seconds = read_json(Path("metrics/evaluate.json")), read_json(Path("metrics/summary.json"))["seconds"]
    names = ("box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75", "ap50_interval")
    scheme = {
        "layers": params.backbone.trainable_layers,
        "passes": params.backbone.epochs,
        "learning_rate": params.backbone.learning_rate,
        "views": 2 if params.features.flip and params.data.source != "emoji" else 1,
        "epochs": [params.box_head.epochs, params.mask_head.epochs],
        "border": params.evaluate.border,
    }
    reached = {name: metrics[name] for name in (*names, "proposal_recall")}
    return {**scheme, **reached, "seconds": sum(seconds[name] for name in STAGES)}


def main() -> None:
    """Trains, tests, writes `benchmarks/photos.json` and `benchmarks/photos.md`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photos", description=__doc__)
    parser.add_argument("--passes", type=int, default=4, help="over the training pictures; 0: only our run's numbers")
    passes = parser.parse_args().passes
    params = load_params()
    make_fabric(params.runtime)
    results = read_json(RESULTS) if RESULTS.exists() else {"ours": [], "torchvision": []}
    point = ours(params)
    kept = [one for one in results["ours"] if any(one[name] != point[name] for name in SCHEME)]
    results["ours"] = sorted([*kept, point], key=lambda one: one["seconds"])
    results["data"] = {"source": params.data.source, **read_json(Path("metrics/summary.json"))["measured_on"]}
    results["conditions"] = conditions(params.runtime)
    write_results(results)
    for curve in train_torchvision(params, passes):
        write_results({**results, "torchvision": curve})


def train_torchvision(params: Params, passes: int) -> Iterator[list[dict[str, Any]]]:
    """The points of its curve so far, after each pass; goes on from the last pass of a stopped run."""
    torch.manual_seed(1)
    body = Lite0Body(pretrained=True)
    train_deepest(body, TRAINABLE)
    model = torchvision_mask_rcnn(params, body)
    learning = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.SGD(learning, LEARNING_RATE, momentum=0.9, weight_decay=5e-4)
    with PreparedFile(PREPARED) as prepared:
        loader = Loader(PREPARED, prepared.indices("train"), 2, seed=1, flip=True)
    curve: list[dict[str, Any]] = []
    if STATE.exists():
        state = torch.load(STATE, weights_only=True)
        if state["passes"] == passes:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            curve = state["curve"]
    for number in range(len(curve), passes):
        start = time.perf_counter()
        train_pass(model, optimizer, loader, (number, passes))
        seconds = time.perf_counter() - start
        spent = curve[-1]["seconds"] if curve else 0.0
        curve.append({"passes": number + 1, "seconds": spent + seconds, **test(model, params)})
        kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "curve": curve, "passes": passes}
        save_tensors(STATE, kept)
        yield curve


def write_results(results: dict[str, Any]) -> None:
    """Both files."""
    write_json(RESULTS, results)
    data = results["data"]
    rows = [row(scheme_of(one), one) for one in results["ours"]]
    rows += [row(("torchvision", str(TRAINABLE), str(one["passes"]), ""), one) for one in results["torchvision"]]
    about = f"""# Accuracy at equal cost

Written by `python -m benchmarks.photos`; do not edit. {data["train_images"]} photos to train on, {data["test_images"]}
to test on. In a pass over the training photos the network learns; ours then has passes that only
keep features, photos and mirror images, on which the heads then learn for their epochs: the minutes have all of it.
torchvision's schedule ends with its last row. Brackets: 95 % of bootstrap draws of the test images.
"""
    head = (
        "detector",
        "strides that learn",
        "passes",
        "box and mask head epochs",
        "minutes",
        "box AP50",
        "mask AP50",
        "box AP",
        "mask AP",
    )
    text = [
        about,
        table(head, rows),
        "Measured on: " + ", ".join(f"{name} {value}" for name, value in results["conditions"].items()) + ".\n",
    ]
    write_text(PAGE, "\n".join(text))


def scheme_of(point: dict[str, Any]) -> tuple[str, str, str, str]:
    """What names a point of ours."""
    border = "removed" if point["border"] == "remove" else "clipped"
    passes = f"{point['passes']} at {point['learning_rate']:g}, {point['views']} to keep features"
    epochs = " + ".join(map(str, point["epochs"]))
    return f"ours, boxes across the border {border}", str(point["layers"]), passes, epochs


def row(scheme: tuple[str, str, str, str], entry: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""

    def with_interval(kind: str) -> str:
        interval = entry["ap50_interval"][kind]
        value = f"{entry[f'{kind}_ap50'] or 0:.3f}"
        return f"{value} ({interval['low']:.3f} to {interval['high']:.3f})" if interval else value

    aps = (f"{entry[f'{kind}_ap'] or 0:.3f}" for kind in ("box", "mask"))
    return (*scheme, f"{entry['seconds'] / 60:.1f}", with_interval("box"), with_interval("mask"), *aps)


if __name__ == "__main__":
    main()
