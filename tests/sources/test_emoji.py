"""The emoji source: its shapes, its scenes, and that the ground truth is what the picture shows."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from src.core.data_params import DataParams, EmojiParams
from src.core.errors import InputError
from src.sources.assignment import CLASSES
from src.sources.emoji import scene as emoji_scene
from src.sources.emoji import source as emoji
from src.sources.emoji.art import LEAF, Pose, clutter, drawing, families, outline, rasterize, render, shapes
from src.sources.emoji.backgrounds import KINDS, add_clutter, background
from src.sources.emoji.scene import Actor, Layer, tight_boxes, visible_masks
from src.structures.sample import Sample
from tests.factories import data_params

SIZE = (300, 400)
LABELS = (1, 2, 3)


def params(
    train: int = 24, test: int = 8, unannotated: float = 0.15, seed: int = 1, limit: int = 0, validation: float = 0.0
) -> DataParams:
    return data_params(
        "emoji", limit=limit, validation_fraction=validation, emoji=EmojiParams(train, test, unannotated, seed)
    )


def make_scenes(train: int, test: int, unannotated: float, seed: int) -> emoji.EmojiScenes:
    """Training scenes, then test scenes."""
    return emoji.EmojiScenes(("train",) * train + ("test",) * test, unannotated, seed)


@cache
def scenes(seed: int = 5) -> tuple[Sample, ...]:
    return tuple(emoji.open_emoji(params(18, 9, 0.3, seed)))


@cache
def ground_truth(count: int = 150) -> tuple[Sample, ...]:
    """Many scenes without their pictures: what is drawn over does not change what is where."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emoji, "background", lambda rng, size: np.zeros((3, *size), np.float32))
        patch.setattr(emoji, "add_clutter", lambda rng, picture: picture)
        patch.setattr(emoji, "paint", lambda rng, picture, layers: picture)
        patch.setattr(emoji, "photograph", lambda rng, picture: np.zeros((*SIZE, 3), np.uint8))
        return tuple(emoji.open_emoji(params(count, count // 3, 0.15, 3)))


def digest(sample: Sample) -> str:
    parts = (
        sample.image,
        sample.boxes,
        sample.labels,
        sample.masks.pixels(),
        sample.unlabeled_boxes,
        sample.unlabeled_labels,
    )
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


# Shapes


def test_every_class_has_enough_shapes_and_a_fifth_of_them_for_testing() -> None:
    for label in LABELS:
        count = Counter(shape.split for shape in shapes() if shape.label == label)
        assert count["train"] + count["test"] >= 40
        assert 0.2 <= count["test"] / (count["train"] + count["test"]) <= 0.25
        assert len(families("train", label)) >= 20
        assert len(families("test", label)) >= 6


def test_families_names_and_drawings_are_in_one_split_only() -> None:
    owner: dict[str, tuple[str, str]] = {}
    for shape in shapes():
        assert owner.setdefault(f"family {shape.family}", (shape.split, str(shape.label))) == (
            shape.split,
            str(shape.label),
        )
        for key in (f"name {shape.name}", *(f"code {code}" for code in shape.code_points)):
            assert key not in owner, f"{key} twice"
            owner[key] = (shape.split, shape.family)
    for thing in clutter():
        assert f"code {thing.name}" not in owner


def test_skin_tones_and_genders_are_in_one_split_only() -> None:
    def base(code: str) -> str:
        kept = [part for part in code.split("-") if part not in {"200d", "fe0f", "2640", "2642"}]
        return "-".join(part for part in kept if not part.startswith("1f3f") or part < "1f3fb" or part > "1f3ff")

    split: dict[str, set[str]] = {}
    for shape in shapes():
        for code in shape.code_points:
            split.setdefault(base(code), set()).add(shape.split)
    assert {name for name, where in split.items() if len(where) > 1} == set()


@pytest.mark.parametrize("label", LABELS)
def test_every_color_of_every_shape_renders(label: int) -> None:
    for shape in shapes():
        if shape.label == label:
            for code in shape.code_points:
                paint = rasterize(f'<g transform="scale(0.9)">{drawing(code, shape.without)}</g>', 32, 32)[..., 3]
                assert 0.05 < (paint > 127).mean() < 0.99, code


def test_every_piece_of_clutter_renders() -> None:
    for shape in clutter():
        assert (rasterize(drawing(shape.code_points[0]), 36, 36)[..., 3] > 127).mean() > 0.05, shape.name


def test_elements_left_out_exist_and_change_the_drawing() -> None:
    for shape in (shape for shape in shapes() if shape.without):
        for code in shape.code_points:
            assert max(shape.without) < len(LEAF.findall(drawing(code)))
        code = shape.code_points[-1]
        whole, part = (rasterize(drawing(code, without), 36, 36)[..., 3] for without in ((), shape.without))
        assert (part <= whole).all()
        assert part.sum() < whole.sum(), shape.name


@settings(max_examples=30)
@given(
    st.sampled_from(range(len(shapes()))),
    st.floats(30, 345),
    st.floats(-20, 20),
    st.floats(0.8, 1.25),
    st.booleans(),
)
def test_a_rendering_has_the_size_asked_for(i: int, size: float, angle: float, stretch: float, flip: bool) -> None:
    pixels = render(shapes()[i], 0, Pose(size, angle, stretch, flip))
    box = tight_boxes(pixels[None, ..., 3] > 127)[0]
    sides = box[2:] - box[:2]
    assert abs(np.sqrt(sides.prod()) - size) < 2 + 0.06 * size
    assert (np.array(pixels.shape[1::-1]) - sides < 10 + 0.06 * size).all()
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])[:, 3]
    assert (border > 127).mean() < 0.05


def test_a_flipped_rendering_is_the_mirror_image() -> None:
    shape = next(shape for shape in shapes() if shape.name == "tractor")
    plain, flipped = (render(shape, 0, Pose(100.0, 0.0, 1.0, flip))[..., 3] > 127 for flip in (False, True))
    (left, top, right, bottom), (x1, y1, x2, y2) = tight_boxes(np.stack([plain, flipped])).astype(int)
    plain, flipped = plain[top:bottom, left:right], flipped[y1:y2, x1:x2]
    assert np.abs(np.subtract(plain.shape, flipped.shape)).max() <= 1
    height, width = np.minimum(plain.shape, flipped.shape)
    plain, flipped = plain[:height, :width], flipped[:height, :width]
    assert (plain != flipped[:, ::-1]).mean() < 0.06
    assert (plain != flipped).mean() > 0.15


def test_an_outline_is_centered_and_inside_the_drawing() -> None:
    points = outline('<rect x="9" y="18" width="18" height="9"/>')
    np.testing.assert_allclose(points.min(axis=0), [-9, 0], atol=0.5)
    np.testing.assert_allclose(points.max(axis=0), [9, 9], atol=0.5)


# Backgrounds


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [SIZE, (600, 900)])
def test_each_background_is_a_picture(kind: object, size: tuple[int, int]) -> None:
    picture = kind(np.random.default_rng(2), size)  # type: ignore[operator]
    assert picture.shape == (3, *size)
    assert picture.dtype == np.float32
    assert np.isfinite(picture).all()


def test_backgrounds_stay_in_range_and_differ() -> None:
    pictures = [add_clutter(rng, background(rng, SIZE)) for rng in map(np.random.default_rng, range(12))]
    assert all(picture.min() >= 0 and picture.max() <= 1 for picture in pictures)
    means = np.array([picture.mean(axis=(1, 2)) for picture in pictures])
    assert means.std(axis=0).min() > 0.05


# Scenes


def test_scenes_come_train_first_under_stable_names() -> None:
    source = emoji.open_emoji(params(3, 2))
    names = [sample.name for sample in source]
    assert names == ["train/000000", "train/000001", "train/000002", "test/000000", "test/000001"]
    assert [sample.split for sample in source] == ["train"] * 3 + ["test"] * 2
    assert len(source) == 5


def test_the_same_seed_gives_the_same_bytes_in_any_order_and_number() -> None:
    some = make_scenes(4, 4, 0.5, 7)
    first = {sample.name: digest(sample) for sample in some}
    other = make_scenes(400, 90, 0.5, 7)
    for split, index in ((split, index) for index in (3, 1, 2, 0) for split in ("test", "train")):
        sample = other.scene(split, index)
        assert digest(sample) == first[sample.name]
    assert len(set(first.values())) == 8


def test_another_seed_gives_other_scenes() -> None:
    assert digest(make_scenes(1, 1, 0.0, 1).scene("train", 0)) != digest(make_scenes(1, 1, 0.0, 2).scene("train", 0))


@pytest.mark.parametrize(
    ("limit", "train", "test"), [(0, 24, 8), (32, 24, 8), (99, 24, 8), (16, 12, 4), (4, 3, 1), (2, 1, 1), (1, 1, 1)]
)
def test_limit_takes_the_first_scenes_of_both_splits(limit: int, train: int, test: int) -> None:
    source = emoji.open_emoji(params(limit=limit))
    assert source.splits == ("train",) * train + ("test",) * test


@given(st.integers(1, 400), st.integers(1, 400), st.integers(2, 900))
def test_limit_is_kept_whatever_the_ratio(train: int, test: int, limit: int) -> None:
    source = emoji.open_emoji(params(train, test, limit=limit))
    assert len(source) == min(limit, train + test)
    assert 1 <= source.splits.count("train") <= train
    assert 1 <= source.splits.count("test") <= test


def test_validation_scenes_are_training_scenes_byte_for_byte() -> None:
    """Under the names that they have in training; test scenes stay what and where they are."""
    whole = list(emoji.open_emoji(params(8, 3, 0.5)))
    source = emoji.open_emoji(params(8, 3, 0.5, validation=0.4))
    found = list(source)
    assert [(sample.name, digest(sample)) for sample in found] == [(sample.name, digest(sample)) for sample in whole]
    assert Counter(sample.split for sample in found) == {"train": 5, "validation": 3, "test": 3}
    assert [sample.split for sample in found] == list(source.splits)
    assert source.splits[8:] == ("test",) * 3


def test_the_validation_part_is_one_of_the_scenes_that_the_limit_leaves() -> None:
    splits = emoji.open_emoji(params(limit=16, validation=0.25)).splits
    assert Counter(splits) == {"train": 9, "validation": 3, "test": 4}


def test_refuses_a_validation_part_without_scenes() -> None:
    with pytest.raises(InputError, match="validation_fraction"):
        emoji.open_emoji(params(limit=4, validation=0.2))


def test_boxes_are_the_tight_boxes_of_the_masks() -> None:
    for sample in scenes():
        for box, mask in zip(sample.boxes, sample.masks, strict=True):
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_samples_have_the_types_and_ranges_of_the_contract() -> None:
    for sample in scenes():
        n, h = len(sample.labels), len(sample.unlabeled_labels)
        assert n in (1, 2)
        assert h in (0, 1)
        assert sample.image.shape == (*SIZE, 3)
        assert sample.image.dtype == np.uint8
        assert sample.masks.pixels().shape == (n, *SIZE)
        assert (sample.boxes.shape, sample.boxes.dtype) == ((n, 4), np.float32)
        assert (sample.unlabeled_boxes.shape, sample.unlabeled_boxes.dtype) == ((h, 4), np.float32)
        assert sample.labels.dtype == sample.unlabeled_labels.dtype == np.int64
        assert set(sample.labels) | set(sample.unlabeled_labels) <= set(LABELS)
        assert not sample.crowd.any()
        assert sample.crowd.shape == (n,)
        boxes = np.concatenate([sample.boxes, sample.unlabeled_boxes])
        assert (boxes >= 0).all()
        assert (boxes <= [400, 300, 400, 300]).all()
        assert not (sample.masks.pixels().sum(axis=0) > 1).any(), "a pixel belongs to one object"


def test_the_picture_shows_each_object_where_its_mask_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without light, shadow and camera, the scene differs from its background in the masks and nowhere else."""
    monkeypatch.setattr(emoji, "background", lambda rng, size: np.full((3, *size), 0.5, np.float32))
    monkeypatch.setattr(emoji, "add_clutter", lambda rng, picture: picture)
    monkeypatch.setattr(emoji_scene, "_shadow", lambda rng, picture, layer: None)
    red = np.array([1, 0, 0], np.float32)[:, None, None]

    def in_red(rng: np.random.Generator, layer: Layer) -> np.ndarray:
        alpha = np.where(layer.pixels[..., 3] > 127, 1, 0).astype(np.float32)[None]
        return np.concatenate([red * np.ones_like(alpha), alpha])

    monkeypatch.setattr(emoji_scene, "_lit", in_red)
    monkeypatch.setattr(emoji, "photograph", lambda rng, picture: (255 * picture.transpose(1, 2, 0)).astype(np.uint8))
    for index in range(12):
        sample = make_scenes(1, 1, 0.0, 2).scene("train", index)
        np.testing.assert_array_equal(sample.image[..., 0] == 255, sample.masks.pixels().any(axis=0))


def layer(width: int, height: int, x: int, y: int, hidden: bool = False) -> Layer:
    actor = Actor(shapes()[0], 0, Pose(50.0), hidden=hidden)
    return Layer(actor, np.full((height, width, 4), 255, np.uint8), x, y)


def test_nearer_objects_cover_farther_ones_and_the_border_cuts() -> None:
    masks = visible_masks([layer(100, 80, 50, 50), layer(100, 80, 100, 90), layer(40, 30, -20, 290)], SIZE)
    boxes = tight_boxes(masks)
    assert boxes.tolist() == [[50, 50, 150, 130], [100, 90, 200, 170], [0, 290, 20, 300]]
    assert masks.sum(axis=(1, 2)).tolist() == [100 * 80 - 50 * 40, 100 * 80, 20 * 10]


@given(st.integers(-80, 420), st.integers(-80, 320), st.integers(1, 70), st.integers(1, 70))
def test_a_mask_is_the_part_inside_the_picture(x: int, y: int, width: int, height: int) -> None:
    drawn = layer(width, height, x, y)
    alpha = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    drawn.pixels[..., 3] = alpha
    mask = visible_masks([drawn], SIZE)[0]
    expected = np.zeros(SIZE, bool)
    for row, column in product(range(max(y, 0), min(y + height, 300)), range(max(x, 0), min(x + width, 400))):
        expected[row, column] = alpha[row - y, column - x] > 127
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ("layers", "good"),
    [
        ([layer(100, 100, 10, 10)], True),
        ([layer(100, 100, -59, 10)], True),
        ([layer(100, 100, -61, 10)], False),
        ([layer(100, 100, 500, 10)], False),
        ([layer(100, 13, 10, 10)], False),
        ([layer(100, 100, 10, 10), layer(100, 100, 110, 10)], True),
        ([layer(100, 100, 10, 10), layer(100, 100, 30, 10)], False),
        ([layer(100, 100, -10, 10, hidden=True)], True),
        ([layer(100, 100, -20, 10, hidden=True)], False),
        ([layer(100, 100, 10, 10, hidden=True), layer(100, 100, 90, 10)], False),
    ],
)
def test_scenes_show_enough_of_each_object(layers: list[Layer], good: bool) -> None:
    assert emoji_scene._acceptable(layers, SIZE) is good


def test_objects_without_room_become_smaller() -> None:
    rng = np.random.default_rng(0)
    actors = [Actor(shapes()[0], 0, Pose(340.0), hidden=hidden) for hidden in (True, False)]
    layers = emoji_scene.arrange(rng, actors, SIZE)
    assert max(layer.actor.pose.size for layer in layers) < 340
    assert emoji_scene._acceptable(layers, SIZE)


def test_objects_are_of_the_size_that_part_a_can_see() -> None:
    boxes = np.concatenate([sample.boxes for sample in ground_truth()])
    sides = boxes[:, 2:] - boxes[:, :2]
    scale = np.sqrt(sides.prod(axis=1))
    assert 70 < np.median(scale) < 95
    assert 35 < np.quantile(scale, 0.05) < 60
    assert 110 < np.quantile(scale, 0.95) < 160
    assert sides.min() >= 14
    assert 0.02 < (boxes[:, :2] == 0).any(axis=1).mean() < 0.3, "some touch the border"


def test_drawn_sizes_are_log_normal_within_limits() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([emoji._size(rng) for _ in range(20_000)])
    assert emoji.SIZE_LIMITS[0] <= drawn.min() < drawn.max() <= emoji.SIZE_LIMITS[1]
    np.testing.assert_allclose(np.median(drawn), emoji.MEDIAN_SIZE, rtol=0.02)
    np.testing.assert_allclose(np.log(drawn).std(), emoji.SIZE_SPREAD, rtol=0.05)


def test_classes_and_numbers_of_objects_are_balanced() -> None:
    for split in ("train", "test"):
        samples = [sample for sample in ground_truth() if sample.split == split]
        count = Counter(int(label) for sample in samples for label in sample.labels)
        assert len(count) == len(CLASSES.names)
        assert max(count.values()) < 1.35 * min(count.values())
        assert 0.08 < np.mean([len(sample.labels) == 2 for sample in samples]) < 0.3


def test_unannotated_objects_come_at_the_rate_asked_for() -> None:
    for split in ("train", "test"):
        rate = np.mean([len(sample.unlabeled_labels) for sample in ground_truth() if sample.split == split])
        assert 0.08 < rate < 0.24
    for rate, expected in ((0.0, 0), (1.0, 1)):
        source = make_scenes(3, 3, rate, 1)
        assert [len(source.scene("test", i).unlabeled_labels) for i in range(3)] == [expected] * 3


def test_unannotated_objects_are_in_plain_sight_and_apart_from_the_ground_truth() -> None:
    hidden = [sample for sample in ground_truth() if len(sample.unlabeled_boxes)]
    assert len(hidden) > 20
    for sample in hidden:
        x1, y1, x2, y2 = sample.unlabeled_boxes[0]
        assert (x2 - x1) * (y2 - y1) > 35**2
        for a1, b1, a2, b2 in sample.boxes:
            shared = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
            assert shared <= 0.1 * ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - shared) + 1e-3


def test_an_unannotated_object_changes_the_picture_but_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """The object is drawn: its box differs from the background as much as an annotated one does."""
    monkeypatch.setattr(emoji, "background", lambda rng, size: np.full((3, *size), 0.5, np.float32))
    monkeypatch.setattr(emoji, "add_clutter", lambda rng, picture: picture)
    monkeypatch.setattr(emoji, "photograph", lambda rng, picture: (255 * picture.transpose(1, 2, 0)).astype(np.uint8))
    for index in range(6):
        sample = make_scenes(1, 1, 1.0, 4).scene("test", index)
        x1, y1, x2, y2 = sample.unlabeled_boxes[0].astype(int)
        changed = (np.abs(sample.image.astype(int) - 127).max(axis=2) > 12)[y1:y2, x1:x2]
        assert changed.mean() > 0.1
        assert len(sample.masks) == len(sample.labels) == len(sample.boxes)


def test_scenes_use_shapes_of_their_own_split_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []
    arrange = emoji.arrange

    def watch(rng: np.random.Generator, actors: list[Actor], size: tuple[int, int]) -> list[Layer]:
        seen.extend((actor.shape.split, actor.shape.family) for actor in actors)
        return arrange(rng, actors, size)

    monkeypatch.setattr(emoji, "arrange", watch)
    for split in ("train", "test"):
        seen.clear()
        for index in range(6):
            make_scenes(9, 9, 1.0, 1).scene(split, index)
        assert {where for where, _ in seen} == {split}


def test_the_camera_keeps_the_picture_recognizable() -> None:
    picture = np.full((3, 30, 40), 0.2, np.float32)
    picture[:, :, 20:] = 0.8
    for seed in range(10):
        shot = emoji_scene.photograph(np.random.default_rng(seed), picture.copy()).astype(float)
        assert shot.shape == (30, 40, 3)
        assert shot[:, 24:].mean() - shot[:, :16].mean() > 80


def test_own_picture_is_repeatable_and_larger() -> None:
    picture = emoji.own_picture(3)
    assert picture.shape == (600, 900, 3)
    np.testing.assert_array_equal(picture, emoji.own_picture(3))


def test_the_committed_picture_is_small_enough_to_commit() -> None:
    path = Path(__file__).parents[2] / "pictures" / "scene.png"
    assert path.stat().st_size < 400_000
    with Image.open(path) as image:
        assert image.size == (900, 600)
