"""Training steps and inference beside torchvision's, on the pictures and weights of the last `dvc repro`."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.image_list import ImageList as TorchvisionImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import poolers, roi_align

from benchmarks.interleaved import BenchmarkCase
from benchmarks.operators import cpu_bf16
from benchmarks.torchvision_baseline import targets_of, torchvision_mask_rcnn, with_weights_of
from src.core.files import read_json
from src.core.params import Params
from src.core.runtime import make_fabric
from src.data.normalize import Normalization
from src.data.prepared import Example, PreparedFile
from src.detector.backbones import LITE0
from src.detector.box_head import BoxHead
from src.detector.checkpoints import load_detector
from src.detector.criteria import image_list
from src.detector.mask_head import MaskHead
from src.detector.mask_rcnn import Detections
from src.ops.masks import paste_masks
from src.plain_rpn.anchor_grid import AnchorGrid, PartA
from src.plain_rpn.network import CHANNELS, PlainRpnNetwork
from src.training.heads import HeadLoader, Heads, box_losses, joint_losses, loaders
from src.training.history import weighted_sum

PREPARED = Path("data/prepared.h5")
IMAGES = 2  # torchvision's training batch
VIEWS = 32  # images whose cached features one call of ours trains on
INFERRED = 4  # images a call of inference


def contests(params: Params) -> Iterator[Callable[[], BenchmarkCase]]:
    """Makers of all contests, for the models of a finished run."""
    yield functools.partial(part_a_step, params)
    yield functools.partial(head_training, params, masks=False)
    yield functools.partial(head_training, params, masks=True)
    yield functools.partial(inference, params)


def examples(split: str, count: int) -> tuple[list[Example], tuple[float, float, float, float]]:
    """The first pictures of a split that have objects, and where pictures lie on the canvas."""
    with PreparedFile(PREPARED) as prepared:
        rows = [row for row in prepared.indices(split) if len(prepared.boxes(row))][:count]
        return list(prepared.examples(rows)), prepared.letterbox.content


def step(model: nn.Module, optimizer: torch.optim.Optimizer, losses: Callable[[], Tensor]) -> None:
    """One training step as `src.training.loop` makes it, without history and checkpoint."""
    loss = losses()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 10.0)
    optimizer.step()


def part_a_step(params: Params) -> BenchmarkCase:
    """Part (a): labels, sampling, forward, backward, update of one picture, in memory already."""
    sizes = read_json(Path("data/anchors.json"))["anchors"]
    with PreparedFile(PREPARED) as prepared:
        grid = AnchorGrid.of(sizes, prepared.letterbox, params.rpn)
    batch = examples("train", 1)[0]

    def contestant(fabric: Fabric, memory: torch.memory_format) -> Callable[[], None]:
        torch.manual_seed(1)
        network = PlainRpnNetwork(len(sizes)).to(memory_format=memory)
        part = PartA(network, fabric, grid, Normalization.of(params.prepare))
        if memory == torch.contiguous_format:
            part = ContiguousPartA(written_plainly(network), fabric, grid, Normalization.of(params.prepare))
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

        def run() -> None:
            terms = part.losses(batch, params.rpn.samples, torch.default_generator)
            step(network, optimizer, lambda: sum(terms.values(), torch.zeros(())))

        return run

    plain, mixed = Fabric(accelerator="cpu", devices=1, precision="32-true"), make_fabric(params.runtime)
    return BenchmarkCase(
        work="Part (a), training step",
        conditions="one picture of 800x1088 in memory; labeling, sampling, forward, backward, AdamW",
        contestants={
            "ours, bf16": contestant(mixed, torch.channels_last),
            "plain PyTorch, float32, contiguous": contestant(plain, torch.contiguous_format),
            "plain PyTorch, bf16 autocast, contiguous": contestant(mixed, torch.contiguous_format),
        },
        goal=5.0,
    )


def written_plainly(network: PlainRpnNetwork) -> PlainRpnNetwork:
    """Each ReLU where the table of task 1 has it, before the pooling."""
    for number in range(1, len(CHANNELS)):
        plain = nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(2, stride=2))
        network.backbone.set_submodule(f"pooling{number}", plain)
    return network


class ContiguousPartA(PartA):
    """The same network on plain planes."""

    def pixels(self, examples: Any) -> Tensor:
        """The normalized batch, contiguous."""
        return super().pixels(examples).contiguous()


def head_training(params: Params, *, masks: bool) -> BenchmarkCase:
    """The heads over a frozen backbone, an image and epoch: cached features against the whole detector."""
    fabric = make_fabric(params.runtime)
    options = params.mask_head if masks else params.box_head
    train_views, _ = loaders(params.box_head, options, params.mask_head.rois if masks else 0)
    loader = HeadLoader(**{**vars(train_views), "views": list(train_views.views)[:VIEWS]})
    heads = Heads(BoxHead(hidden=params.box_head.hidden, dropout=params.box_head.dropout), MaskHead())
    heads.mask_head.to(memory_format=torch.channels_last)
    model: nn.Module = heads if masks else heads.box_head
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def ours() -> None:
        model.train()
        for batch in loader.batches(0):
            with fabric.autocast():
                terms = joint_losses(heads, batch) if masks else box_losses(heads.box_head, batch)
            step(model, optimizer, functools.partial(weighted_sum, terms, dict.fromkeys(terms, 1.0)))

    theirs = torchvision_training(params, masks=masks)
    peers: dict[str, Callable[[], Any]] = {
        "torchvision, float32": theirs,
        "torchvision, bf16 autocast": functools.partial(under_autocast, theirs),
    }
    return BenchmarkCase(
        work="Joint box and mask training" if masks else "Box head training",
        conditions=f"an image and epoch over a frozen backbone; ours from cached features ({VIEWS} images a call, read "
        f"from disk; filling the cache is a stage of its own), torchvision {IMAGES} images a step, its own sampling",
        contestants={"ours, bf16": ours, **peers},
        images={"ours, bf16": len(loader.views), **dict.fromkeys(peers, IMAGES)},
        goal=8.0 if masks else 20.0,
    )


def torchvision_training(params: Params, *, masks: bool) -> Callable[[], None]:
    """One step of torchvision's detector; backbone and RPN are frozen, in favor of the peer."""
    model = peer(params)
    if not masks:
        model.roi_heads.mask_roi_pool = model.roi_heads.mask_head = model.roi_heads.mask_predictor = None
    model.backbone.requires_grad_(False)
    model.rpn.requires_grad_(False)
    pictures = examples("train", IMAGES)[0]
    images = [example.image.contiguous() / 255 for example in pictures]
    targets = [targets_of(example.boxes, example.labels, example.masks) for example in pictures]
    learning = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=1e-5, momentum=0.9)

    def run() -> None:
        model.train()
        losses = model(images, targets)
        step(model, optimizer, lambda: sum(losses.values(), torch.zeros(())))

    return run


def under_autocast(run: Callable[[], Any]) -> Any:
    """The same in bf16 mixed precision."""
    with cpu_bf16():
        return run()


def peer(params: Params) -> MaskRCNN:
    """Torchvision's detector with the weights of the last run, on plain planes."""
    detector = load_detector(params, torch.device("cpu"))
    body = copy.deepcopy(detector.backbone.body).to(memory_format=torch.contiguous_format)
    return with_weights_of(torchvision_mask_rcnn(params, body), detector).eval()


def inference(params: Params) -> BenchmarkCase:
    """The whole detector on one normalized picture, masks pasted, with the same weights and rules."""
    rules = dataclasses.replace(params, evaluate=dataclasses.replace(params.evaluate, border="clip"))
    detector, model = load_detector(rules, torch.device("cpu")), peer(rules)
    model.rpn.min_size = rules.proposals.min_size
    pictures, _ = examples("test", INFERRED)
    height, width = pictures[0].image.shape[1:]
    canvas = (0.0, 0.0, float(width), float(height))
    images = [image_list([example], LITE0, canvas, torch.device("cpu")) for example in pictures]
    planes = [image.tensors.contiguous() for image in images]
    mixed = make_fabric(params.runtime)

    @torch.no_grad()
    def ours(fabric: Fabric) -> list[Detections]:
        found = []
        for image in images:
            with fabric.autocast():
                found += detector(image, rules.evaluate)
            paste_masks(found[-1].masks.float(), found[-1].boxes, height, width)
        return found

    @torch.no_grad()
    def theirs() -> list[dict[str, Tensor]]:
        found = []
        for image in planes:
            features = model.backbone(image)
            proposals, _ = model.rpn(TorchvisionImageList(image, [(height, width)]), features)
            found += model.roi_heads(features, proposals, [(height, width)])[0]
            paste_masks_in_image(found[-1]["masks"], found[-1]["boxes"], (height, width))
        return found

    plain = Fabric(accelerator="cpu", devices=1, precision="32-true")
    with half_pixel_boxes():
        agreement = compare(ours(plain), theirs())
    names = ("ours, bf16", "torchvision, float32", "torchvision, bf16 autocast", "ours, float32")
    calls = (lambda: ours(mixed), theirs, functools.partial(under_autocast, theirs), lambda: ours(plain))
    return BenchmarkCase(
        work="Inference",
        conditions=f"one normalized picture of {height}x{width}, lite0, {params.features.proposals} proposals, masks "
        "pasted; the same trained weights and rules",
        contestants=dict(zip(names, calls, strict=True)),
        images=dict.fromkeys(names, len(images)),
        goal=1.7,
        agreement=agreement,
    )


@contextmanager
def half_pixel_boxes() -> Iterator[None]:
    """Torchvision's detector pools with `aligned=False`; here it pools as the weights were trained."""
    poolers.roi_align = functools.partial(roi_align, aligned=True)
    try:
        yield
    finally:
        poolers.roi_align = roi_align


def compare(ours: list[Detections], theirs: list[dict[str, Tensor]]) -> str:
    """How far two detectors' findings lie apart."""
    counts = [(len(a.scores), len(b["scores"])) for a, b in zip(ours, theirs, strict=True)]
    if any(a != b for a, b in counts):
        return f"numbers of detections differ: {counts}"
    box = max(
        (float((a.boxes - b["boxes"]).abs().max()) for a, b in zip(ours, theirs, strict=True) if len(a.scores)),
        default=0.0,
    )
    mask = max(
        (float((a.masks - b["masks"][:, 0]).abs().max()) for a, b in zip(ours, theirs, strict=True) if len(a.scores)),
        default=0.0,
    )
    labels = all(torch.equal(a.labels, b["labels"]) for a, b in zip(ours, theirs, strict=True))
    return (
        f"in float32, {sum(a for a, _ in counts)} detections each, {'labels alike' if labels else 'labels differ'}, "
        f"boxes within {box:.1e} pixels, masks within {mask:.1e}"
    )
