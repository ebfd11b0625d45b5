"""Training steps and inference beside torchvision's, on the pictures and weights of the last `dvc repro`."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN

from benchmarks.agreement import compare, half_pixel_boxes
from benchmarks.detecting import detect, detect_by_torchvision
from benchmarks.interleaved import BenchmarkCase
from benchmarks.operators import bf16_autocast
from benchmarks.torchvision_baseline import targets_of, torchvision_mask_rcnn, with_weights_of
from benchmarks.training_step import step
from src.core import paths
from src.core.files import read_json
from src.core.params import Params
from src.core.runtime import make_fabric, precision_name
from src.data.batches import Batcher
from src.data.letterbox import Frame, Letterbox
from src.data.normalize import Normalization
from src.data.prepared import Example, PreparedFile, read_classes
from src.detector.backbones import LITE
from src.detector.checkpoints import load_detector, make_box_head, make_mask_head
from src.detector.mask_rcnn import MaskRCNN
from src.detector.one_stage import OneStageDetector
from src.detector.roi_cache import CachedRois, open_cached_rois
from src.detector.roi_heads import RoiHeads
from src.detector.sampling import LossRules, RoiRules
from src.plain_rpn.anchor_grid import AnchorGrid
from src.plain_rpn.detector import PlainRpn
from src.plain_rpn.network import CHANNELS, PlainRpnNetwork
from src.structures.detections import Detections
from src.structures.image_list import ImageList
from src.training.schemes import ALL_PARTS

IMAGES = 2  # torchvision's training batch
VIEWS = 32  # images whose cached features one call of ours trains on
INFERRED = 4  # images a call of inference


def cases(params: Params) -> Iterator[Callable[[], BenchmarkCase]]:
    """Makers of all cases, for the models of a finished run."""
    yield functools.partial(part_a_step, params)
    yield functools.partial(head_training, params, masks=False)
    yield functools.partial(head_training, params, masks=True)
    yield functools.partial(joint_training, params)
    yield functools.partial(inference, params)


def examples(split: str, count: int) -> list[Example]:
    """The first pictures of a split that have objects."""
    with PreparedFile(paths.PREPARED) as prepared:
        rows = [row for row in prepared.indices(split) if len(prepared.boxes(row))][:count]
        return list(prepared.examples(rows))


def part_a_step(params: Params) -> BenchmarkCase:
    """Part (a): labels, sampling, forward, backward, update of one picture, in memory already."""
    sizes = read_json(paths.ANCHORS)["anchors"]
    batch, frame = examples("train", 1), Frame.from_params(params.prepare)
    grid = AnchorGrid.from_params(sizes, frame, params.rpn)
    normalization, cpu = Normalization.from_params(params.prepare), torch.device("cpu")

    def training(fabric: Fabric, batcher: Batcher, network: PlainRpnNetwork) -> Callable[[], None]:
        model = PlainRpn(network, grid, params.rpn)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

        def run() -> None:
            model.train()
            with fabric.autocast():
                terms = model.losses(*batcher(batch))
            step(model, optimizer, terms)

        return run

    def network() -> PlainRpnNetwork:
        torch.manual_seed(1)
        return PlainRpnNetwork(len(sizes))

    rows, planes = (kind(normalization, cpu) for kind in (Batcher, ContiguousBatcher))
    plain, mixed = Fabric(accelerator="cpu", devices=1, precision="32-true"), make_fabric(params.runtime)
    return BenchmarkCase(
        work="Part (a), training step",
        conditions=f"one picture of {frame.height}x{frame.padded_width} in memory; labeling, sampling, "
        "forward, backward, AdamW",
        implementations={
            "ours, bf16": training(mixed, rows, network().to(memory_format=torch.channels_last)),
            "plain PyTorch, float32, contiguous": training(plain, planes, written_plainly(network())),
            "plain PyTorch, bf16 autocast, contiguous": training(mixed, planes, written_plainly(network())),
        },
        goal=5.0,
    )


def written_plainly(network: PlainRpnNetwork) -> PlainRpnNetwork:
    """Each ReLU where the table of task 1 has it, before the pooling."""
    for number in range(1, len(CHANNELS)):
        plain = nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(2, stride=2))
        network.backbone.set_submodule(f"pooling{number}", plain)
    return network


class ContiguousBatcher(Batcher):
    """The same pictures on plain planes."""

    def images(self, examples: Sequence[Example]) -> ImageList:
        """The normalized minibatch, contiguous."""
        images = super().images(examples)
        return ImageList(images.tensors.contiguous(), images.regions)


def head_training(params: Params, *, masks: bool) -> BenchmarkCase:
    """The heads over a frozen backbone, an image and epoch: cached features against the whole detector."""
    fabric = make_fabric(params.runtime)
    loader = cached_rois(params, masks=masks)
    classes = read_classes(paths.PREPARED)
    mask_head = make_mask_head(params, classes).to(memory_format=torch.channels_last) if masks else None
    heads = RoiHeads(make_box_head(params, classes), mask_head)
    optimizer = torch.optim.AdamW(heads.parameters(), lr=1e-4)

    def ours() -> None:
        heads.train()
        for batch in loader.batches(0):
            with fabric.autocast():
                terms = heads.losses(batch.rois)
            step(heads, optimizer, terms)

    theirs = torchvision_training(params, masks=masks)
    baselines: dict[str, Callable[[], Any]] = {
        "torchvision, float32": theirs,
        "torchvision, bf16 autocast": functools.partial(under_autocast, theirs),
    }
    return BenchmarkCase(
        work="Box and mask head training" if masks else "Box head training",
        conditions=f"an image and epoch over a frozen backbone; ours from cached features ({VIEWS} images a call, read "
        f"from disk; filling the cache is a stage of its own), torchvision {IMAGES} images per step, its own sampling",
        implementations={"ours, bf16": ours, **baselines},
        images={"ours, bf16": len(loader.views), **dict.fromkeys(baselines, IMAGES)},
        goal=8.0 if masks else 20.0,
    )


def cached_rois(params: Params, *, masks: bool) -> CachedRois:
    """The first `VIEWS` training views, sampled as the stages `box_head` and `mask_head` do."""
    options = params.mask_head if masks else params.box_head
    train, _ = open_cached_rois(
        paths.FEATURES,
        paths.PREPARED,
        rules=RoiRules.from_params(params.rois, params.box_head.batch_size_per_image),
        batch_size=options.batch_size,
        mask_rois=params.mask_head.batch_size_per_image if masks else 0,
        seed=options.seed,
    )
    return dataclasses.replace(train, views=train.views[:VIEWS])


def torchvision_training(params: Params, *, masks: bool) -> Callable[[], None]:
    """One step of torchvision's detector; backbone and RPN are frozen, in favor of the baseline."""
    model = baseline(params)
    if not masks:
        model.roi_heads.mask_roi_pool = model.roi_heads.mask_head = model.roi_heads.mask_predictor = None
    model.backbone.requires_grad_(False)
    model.rpn.requires_grad_(False)
    pictures = examples("train", IMAGES)
    images = [example.image.contiguous() / 255 for example in pictures]
    targets = [targets_of(example.target) for example in pictures]
    learning = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=1e-5, momentum=0.9)

    def run() -> None:
        model.train()
        step(model, optimizer, model(images, targets))

    return run


def training_calls(
    params: Params, fabric: Fabric, ours: MaskRCNN | OneStageDetector, theirs: nn.Module, first_label: int = 1
) -> dict[str, Callable[[], None]]:
    """Steps on the first training images: ours as a stage makes it, torchvision's in both precisions; both by AdamW.

    Args:
        params: of the run.
        fabric: ours.
        ours: what trains of it asks for gradients.
        theirs: likewise.
        first_label: of torchvision's classes.
    """
    pictures, batcher = examples("train", IMAGES), Batcher(LITE, fabric.device)
    images = [example.image.contiguous() / 255 for example in pictures]
    targets = [targets_of(example.target) for example in pictures]
    targets = [{**one, "labels": one["labels"] - 1 + first_label} for one in targets]
    own, other = (
        torch.optim.AdamW([one for one in net.parameters() if one.requires_grad], lr=1e-5, fused=True)
        for net in (ours, theirs)
    )

    def our_step() -> None:
        ours.train()
        with fabric.autocast():
            terms = ours.losses(*batcher(pictures))
        step(ours, own, terms)

    def their_step() -> None:
        theirs.train()
        step(theirs, other, theirs(images, targets))

    return {
        f"ours, {precision_name(params.runtime)}": our_step,
        "torchvision, float32": their_step,
        "torchvision, bf16 autocast": functools.partial(under_autocast, their_step),
    }


def joint_training(params: Params) -> BenchmarkCase:
    """A step of joint training as stage `joint` makes it, against torchvision's training of the same parts."""
    fabric, options = make_fabric(params.runtime), params.joint
    (ours, _), theirs = load_detector(params, fabric.device), baseline(params)
    model = MaskRCNN(ours.backbone, ours.rpn, ours.roi_heads, params, LossRules.for_joint_training(params))
    ALL_PARTS.prepare(model, options)
    theirs.backbone.body.requires_grad_(False)
    calls = training_calls(params, fabric, model, theirs)
    return BenchmarkCase(
        work="Joint training",
        conditions=f"an image of a step of {IMAGES}, in memory, over a frozen body: FPN, RPN and both heads learn by "
        f"AdamW; ours draws {options.box_batch_size_per_image} RoIs per image and at most "
        f"{options.mask_batch_size_per_image} masks, torchvision its own 512",
        implementations=calls,
        images=dict.fromkeys(calls, IMAGES),
        goal=3.0,
    )


def under_autocast(run: Callable[[], Any]) -> Any:
    """The same in bf16 mixed precision."""
    with bf16_autocast():
        return run()


def baseline(params: Params) -> TorchvisionMaskRCNN:
    """Torchvision's detector with the weights of the last run, on plain planes."""
    detector, classes = load_detector(params, torch.device("cpu"))
    body = copy.deepcopy(detector.backbone.body).to(memory_format=torch.contiguous_format)
    return with_weights_of(torchvision_mask_rcnn(params, classes, body), detector).eval()


def inference(params: Params) -> BenchmarkCase:
    """The whole detector on one normalized picture, masks pasted, with the same weights and rules."""
    rules = dataclasses.replace(params, evaluate=dataclasses.replace(params.evaluate, border="clip"))
    cpu = torch.device("cpu")
    (detector, _), model = load_detector(rules, cpu), baseline(rules)
    model.rpn.min_size = rules.proposals.min_size
    pictures, batcher = examples("test", INFERRED), Batcher(LITE, cpu)
    height, width = pictures[0].image.shape[1:]
    canvas = Letterbox(height, width, width, height, width)  # torchvision clips to that
    pictures = [dataclasses.replace(example, letterbox=canvas) for example in pictures]
    images = [batcher.images([example]) for example in pictures]
    planes = [image.tensors.contiguous() for image in images]
    mixed = make_fabric(params.runtime)

    plain = Fabric(accelerator="cpu", devices=1, precision="32-true")

    def ours(fabric: Fabric) -> list[Detections]:
        return detect(detector, images, fabric.autocast)

    def theirs() -> list[dict[str, Tensor]]:
        return detect_by_torchvision(model, planes)

    with half_pixel_boxes():
        agreement = compare(ours(plain), theirs())
    names = ("ours, bf16", "torchvision, float32", "torchvision, bf16 autocast", "ours, float32")
    calls = (lambda: ours(mixed), theirs, functools.partial(under_autocast, theirs), lambda: ours(plain))
    return BenchmarkCase(
        work="Inference",
        conditions=f"one normalized picture of {height}x{width}, lite0, {params.features.proposals} proposals, masks "
        "pasted; the same trained weights and rules",
        implementations=dict(zip(names, calls, strict=True)),
        images=dict.fromkeys(names, len(images)),
        goal=1.7,
        agreement=agreement,
    )
