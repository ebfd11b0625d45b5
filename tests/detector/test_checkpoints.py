"""The trained parts on disk: what a stage saves, the next one loads; broken files are named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from src.core.errors import InputError
from src.core.params import Params
from src.core.paths import BACKBONE, BOX_HEAD, DETECTOR, MASK_HEAD
from src.core.tensors import State, cpu_state_dict, save_tensors
from src.detector.checkpoints import (
    assemble_trained_parts,
    load_backbone,
    load_box_head,
    load_detector,
    make_box_head,
    make_mask_head,
    save_detector,
    save_heads,
    start_box_head,
)
from src.detector.mask_rcnn import MaskRCNN
from src.detector.roi_heads import RoiHeads
from src.detector.sampling import LossRules
from src.detector.weights import assemble, build
from src.sources.assignment import CLASSES
from src.structures.classes import Classes
from src.structures.image_list import ImageList
from tests.detector import small
from tests.detector.small import (
    CANVAS,
    CPU,
    REGION,
    TORCHVISION_PROPOSALS,
    backbone_params,
    evaluate_params,
    randomize,
)


def params(**backbone: Any) -> Params:
    whole = small.params()
    return small.params(
        backbone=backbone_params(**({"name": "efficientnet_lite0", "weights": "imagenet"} | backbone)),
        proposals=TORCHVISION_PROPOSALS,
        box_head=dataclasses.replace(whole.box_head, representation_size=16),
        mask_head=dataclasses.replace(whole.mask_head, channels=8),
        features=dataclasses.replace(whole.features, proposals=20),
        evaluate=evaluate_params(score_threshold=0.1),
    )


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MaskRCNN:
    """A detector in `models/` of the working directory, and the parts that it was trained on from."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    settings = params()
    backbone, rpn = assemble(settings.backbone, TORCHVISION_PROPOSALS, pretrained=False)
    box_head, mask_head = make_box_head(settings, CLASSES), make_mask_head(settings, CLASSES)
    stages = {
        BACKBONE: {"backbone": backbone, "rpn": rpn, "box_head": make_box_head(settings, CLASSES)},
        BOX_HEAD: {"box_head": make_box_head(settings, CLASSES)},
        MASK_HEAD: {"box_head": box_head, "mask_head": mask_head},
    }
    for path, parts in stages.items():
        save_heads(path, parts, CLASSES)
    randomize([*rpn.parameters(), *box_head.parameters()], 0, 0.05)
    detector = MaskRCNN(backbone, rpn, RoiHeads(box_head, mask_head), settings)
    save_detector(detector, CLASSES)
    return detector.to(memory_format=torch.channels_last).eval()


def on_disk(path: Path) -> dict[str, State]:
    """A file's state dicts."""
    content = torch.load(path, weights_only=True)
    assert tuple(content.pop("classes")) == CLASSES.names
    return content


def assert_same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_what_was_saved_detects_the_same(trained: MaskRCNN) -> None:
    """From one file: what it was trained from may be gone."""
    for path in (BACKBONE, BOX_HEAD, MASK_HEAD):
        path.unlink()
    (loaded, classes), seen = load_detector(params(), CPU), []
    assert classes == CLASSES
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert not any(module.training for module in loaded.modules())
    loaded.roi_heads.box_head.register_forward_hook(lambda head, pooled, outputs: seen.append(len(outputs[0])))
    images = ImageList(torch.randn(1, 3, *CANVAS), torch.tensor([REGION]))
    with torch.no_grad():
        found, expected = (net.detect(images)[0] for net in (loaded, trained))
    assert seen == [20]  # features.proposals
    assert len(expected.labels)
    assert torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.masks, expected.masks, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("trained")
def test_joint_training_begins_with_the_parts_as_their_stages_left_them() -> None:
    """Put together and saved without a step, the detector's file holds them byte for byte."""
    DETECTOR.unlink()
    model = assemble_trained_parts(params(), CLASSES, CPU)
    assert model.rules == LossRules.for_joint_training(params())
    assert model.backbone.fpn.layer_blocks[0].weight.is_contiguous(memory_format=torch.channels_last)
    save_detector(model, CLASSES)
    saved, expected = on_disk(DETECTOR), on_disk(BACKBONE) | on_disk(MASK_HEAD)  # with the latter's box head
    assert list(saved) == ["backbone", "rpn", "box_head", "mask_head"]
    for part, state in saved.items():
        assert_same(state, expected[part])


@pytest.mark.usefixtures("trained")
def test_the_box_head_alone_is_that_of_its_own_stage() -> None:
    first, own, last = (on_disk(path)["box_head"] for path in (BACKBONE, BOX_HEAD, MASK_HEAD))
    assert_same(load_box_head(params(), CLASSES, CPU).state_dict(), own)
    assert not any(torch.equal(own["fc6.weight"], other["fc6.weight"]) for other in (first, last))


@pytest.mark.usefixtures("trained")
def test_the_box_head_begins_as_fine_tuning_left_it() -> None:
    assert_same(start_box_head(params(), CLASSES, CPU).state_dict(), on_disk(BACKBONE)["box_head"])


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("untrained", [{"epochs": 0}, {"box_batch_size_per_image": 0}])
def test_where_fine_tuning_trains_no_box_head_one_begins_at_random(untrained: dict[str, int]) -> None:
    torch.manual_seed(3)
    expected = make_box_head(params(), CLASSES).state_dict()
    torch.manual_seed(3)
    assert_same(start_box_head(params(**untrained), CLASSES, CPU).state_dict(), expected)


def test_fine_tuned_coco_weights_keep_their_normalization_s_epsilon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = params(name="resnet50", weights="coco")
    backbone, rpn = assemble(settings.backbone, TORCHVISION_PROPOSALS, pretrained=False)
    save_tensors(BACKBONE, {"backbone": cpu_state_dict(backbone), "rpn": cpu_state_dict(rpn)})
    loaded, _ = load_backbone(settings, CPU)
    assert {module.eps for module in loaded.modules() if hasattr(module, "eps")} == {0.0}


def test_a_missing_file_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"models/backbone\.pt: expected a file made by `dvc repro`"):
        load_backbone(params(), CPU)
    with pytest.raises(InputError, match=r"models/box_head\.pt"):
        load_box_head(params(), CLASSES, CPU)
    with pytest.raises(InputError, match=r"models/detector\.pt: expected a file made by `dvc repro`"):
        load_detector(params(), CPU)


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    ("path", "load"),
    [
        (BACKBONE, lambda: assemble_trained_parts(params(), CLASSES, CPU)),
        (MASK_HEAD, lambda: assemble_trained_parts(params(), CLASSES, CPU)),
        (DETECTOR, lambda: load_detector(params(), CPU)),
    ],
)
def test_broken_files_are_named(path: Path, load: Callable[..., object]) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=path.as_posix()):
        load()
    torch.save({"something": {}}, path)
    with pytest.raises(InputError, match=path.as_posix()):
        load()


@pytest.mark.usefixtures("trained")
def test_weights_of_another_backbone_or_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"models/backbone\.pt\[backbone\]"):
        load_backbone(params(name="resnet50"), CPU)
    wider = dataclasses.replace(params(), box_head=dataclasses.replace(params().box_head, representation_size=32))
    with pytest.raises(InputError, match=r"models/box_head\.pt\[box_head\].*shape"):
        load_box_head(wider, CLASSES, CPU)
    with pytest.raises(InputError, match=r"models/backbone\.pt\[box_head\].*shape"):
        start_box_head(wider, CLASSES, CPU)
    with pytest.raises(InputError, match=r"models/detector\.pt\[box_head\].*shape"):
        load_detector(wider, CPU)
    with pytest.raises(InputError, match=r"models/detector\.pt\[backbone\]"):
        load_detector(params(name="resnet50"), CPU)


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("names", [("can", "person", "animal"), ("vehicle",), tuple("abcdefghijkl")])
def test_heads_of_other_classes_are_refused_by_name(names: tuple[str, ...]) -> None:
    others = Classes(names)
    for path, load in ((BACKBONE, start_box_head), (BOX_HEAD, load_box_head), (MASK_HEAD, assemble_trained_parts)):
        with pytest.raises(InputError, match=rf"^{path.as_posix()}: expected .*{names[0]}.*, found .*vehicle") as error:
            load(params(), others, CPU)
        assert str(error.value).isprintable()


@pytest.mark.usefixtures("trained")
def test_a_file_with_heads_names_their_classes() -> None:
    content = torch.load(DETECTOR, weights_only=True)
    for spoiled, words in ((None, "a list of class names, found None"), (["a", "a"], "each class's name once")):
        save_tensors(DETECTOR, {**content, "classes": spoiled})
        with pytest.raises(InputError, match=rf"^models/detector\.pt\[classes\]: expected {words}"):
            load_detector(params(), CPU)
    save_tensors(DETECTOR, {**content, "classes": ["can", "cup"]})  # of another width than the heads
    with pytest.raises(InputError, match=r"^models/detector\.pt\[box_head\].*shape"):
        load_detector(params(), CPU)


@pytest.mark.usefixtures("trained")
def test_another_set_s_backbone_begins_a_training() -> None:
    """`backbone.weights` may name a model of other classes: its head is not asked for."""
    backbone, rpn = build(params(weights=str(BACKBONE)).backbone, TORCHVISION_PROPOSALS)
    saved = on_disk(BACKBONE)
    assert_same(backbone.state_dict(), saved["backbone"])
    assert_same(rpn.state_dict(), saved["rpn"])
