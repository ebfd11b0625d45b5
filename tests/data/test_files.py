"""The dataset file and the prepared file: round trips, repeatable bytes, flat memory, broken files, mirroring."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from src.core.errors import InputError
from src.data.dataset import DatasetFile, write_dataset
from src.data.letterbox import Letterbox
from src.data.prepared import PreparedFile, flip, flip_boxes, read_classes, write_prepared
from src.sources.assignment import CLASSES
from src.structures.masks import Masks
from src.structures.sample import SPLITS, Sample
from src.structures.target import Target
from tests.data.memory import traced_peak
from tests.factories import SMALL, make_dataset, make_prepared, make_samples

COLUMNS = [field.name for field in dataclasses.fields(Sample)]
TARGET = [field.name for field in dataclasses.fields(Target)]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    made = make_samples(6, seed=8, empty=[1])
    crowd = np.zeros(len(made[2].labels), bool)
    crowd[0] = True
    unlabeled = {"unlabeled_boxes": np.array([[1, 2, 30, 40]], np.float32), "unlabeled_labels": np.array([3])}
    made[2] = dataclasses.replace(made[2], crowd=crowd)
    made[4] = dataclasses.replace(made[4], name="test/große Straße", **unlabeled)
    return made


def same(one: Any, other: Any) -> bool:
    return (
        one == other
        if isinstance(one, (str, Masks, NoneType))
        else one.dtype == other.dtype and np.array_equal(one, other)
    )


def test_samples_come_back(tmp_path: Path, samples: list[Sample]) -> None:
    with DatasetFile(make_dataset(tmp_path / "d.h5", samples)) as dataset:
        assert len(dataset) == 6
        assert dataset.attributes == {"source": "test", "classes": [*CLASSES.names]}
        assert dataset.classes == CLASSES
        for one, other in zip(dataset, samples, strict=True):
            for name in COLUMNS:
                assert same(getattr(one, name), getattr(other, name)), name
        assert same(dataset[-1].image, samples[-1].image)
        with pytest.raises(IndexError):
            dataset[6]


def test_columns_without_pictures(tmp_path: Path, samples: list[Sample]) -> None:
    with DatasetFile(make_dataset(tmp_path / "d.h5", samples)) as dataset:
        assert dataset.indices("train") == [0, 1, 2, 3]
        assert dataset.indices("test") == [4, 5]
        assert dataset.names[4] == "test/große Straße"
        for index, sample in enumerate(samples):
            assert same(dataset.labels(index), sample.labels)
            assert same(dataset.boxes(index), sample.boxes)
            assert dataset.object_count(index) == (~sample.crowd).sum()
            assert same(dataset.unlabeled_boxes(index), sample.unlabeled_boxes)
            assert same(dataset.unlabeled_labels(index), sample.unlabeled_labels)


def test_each_picture_comes_back_in_its_split(tmp_path: Path, samples: list[Sample]) -> None:
    splits = ["train", "validation", "test", "train", "validation", "validation"]
    made = [dataclasses.replace(sample, split=split) for sample, split in zip(samples, splits, strict=True)]
    with DatasetFile(make_dataset(tmp_path / "d.h5", made)) as dataset:
        write_prepared(tmp_path / "p.h5", dataset, SMALL)
        assert [sample.split for sample in dataset] == splits
    for kind, path in ((DatasetFile, tmp_path / "d.h5"), (PreparedFile, tmp_path / "p.h5")):
        with kind(path) as file:
            assert [file.split(index) for index in range(6)] == splits
            assert {split: file.indices(split) for split in SPLITS} == {
                "train": [0, 3],
                "test": [2],
                "validation": [1, 4, 5],
            }


def test_refuses_a_split_that_there_is_not(tmp_path: Path, samples: list[Sample]) -> None:
    path = make_dataset(tmp_path / "d.h5", samples)
    with h5py.File(path, "a") as file:
        file["split"][3] = 3
    with pytest.raises(InputError, match=r"d\.h5\[split\]: expected splits below 3, found 3$"):
        DatasetFile(path)
    with h5py.File(path, "a") as file:  # as earlier versions had it
        del file["split"]
        file["train"] = np.ones(6, bool)
    with pytest.raises(InputError, match="a dataset 'split'"):
        DatasetFile(path)


def test_no_samples_and_none_with_objects(tmp_path: Path) -> None:
    with DatasetFile(make_dataset(tmp_path / "none.h5", [])) as dataset:
        assert len(dataset) == 0
    with DatasetFile(make_dataset(tmp_path / "bare.h5", make_samples(2, empty=[0, 1]))) as dataset:
        assert dataset[1].masks.pixels().shape == (0, 300, 400)
        assert dataset[1].boxes.shape == (0, 4)


def test_the_same_samples_give_the_same_bytes(tmp_path: Path, samples: list[Sample]) -> None:
    contents = []
    for name in ("one", "two"):
        path = make_dataset(tmp_path / f"{name}.h5", samples)
        with DatasetFile(path) as dataset:
            write_prepared(tmp_path / f"{name}-p.h5", dataset, SMALL)
        contents.append(path.read_bytes() + (tmp_path / f"{name}-p.h5").read_bytes())
    assert contents[0] == contents[1]


def test_a_broken_source_leaves_the_old_file(tmp_path: Path, samples: list[Sample]) -> None:
    path = make_dataset(tmp_path / "d.h5", samples)
    before = path.read_bytes()

    def broken() -> Iterator[Sample]:
        yield samples[0]
        raise InputError("broken")

    with pytest.raises(InputError):
        write_dataset(path, broken(), {"classes": CLASSES.names})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["d.h5"]


def test_memory_does_not_grow_with_the_set(tmp_path: Path, samples: list[Sample]) -> None:
    def peak(images: int) -> int:
        return traced_peak(lambda: make_dataset(tmp_path / "d.h5", (samples[0] for _ in range(images))))

    peak(2)
    assert peak(80) < peak(20) + 500_000  # sixty more pictures are 21 MB


def test_pictures_are_read_and_moved_one_by_one(tmp_path: Path, samples: list[Sample]) -> None:
    stored, moved = tmp_path / "d.h5", tmp_path / "p.h5"
    sample = max(samples, key=lambda one: len(one.labels))

    def move() -> None:
        with DatasetFile(stored) as dataset:
            write_prepared(moved, dataset, SMALL)

    def read_stored() -> None:
        with DatasetFile(stored) as dataset:
            assert len(dataset[1].masks) == 2

    def read_moved() -> None:
        with PreparedFile(moved) as prepared:
            assert len(prepared.example(1).target.masks) == 2

    def peaks(images: int) -> dict[str, int]:
        make_dataset(stored, [sample] * images)
        return {
            "moving all": traced_peak(move),
            "opening the dataset file": traced_peak(lambda: DatasetFile(stored).close()),
            "reading one stored picture": traced_peak(read_stored),
            "opening the prepared file": traced_peak(lambda: PreparedFile(moved).close()),
            "reading one moved picture": traced_peak(read_moved),
        }

    peaks(2)
    few, many = peaks(20), peaks(80)  # sixty more: 21 MB and masks of 1.8 MB; 2.8 MB and 0.23 MB on the small canvas
    for step, size in few.items():
        assert many[step] < size + 150_000, step


def test_refuses_masks_of_another_size_than_their_picture(tmp_path: Path, samples: list[Sample]) -> None:
    small = dataclasses.replace(samples[1], image=samples[1].image[:200])
    with pytest.raises(ValueError, match="masks of 200 x 400 pixels, found 300 x 400 in 000001"):
        make_dataset(tmp_path / "d.h5", [small])


def test_refuses_files_of_another_making(tmp_path: Path, samples: list[Sample]) -> None:
    with pytest.raises(InputError, match="no such file"):
        DatasetFile(tmp_path / "none.h5")
    with pytest.raises(InputError, match="a folder"):
        DatasetFile(tmp_path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = 1
    with pytest.raises(InputError, match="this project wrote"):
        DatasetFile(tmp_path / "other.h5")
    path = make_dataset(tmp_path / "d.h5", samples)
    with pytest.raises(InputError, match="a prepared file"):
        PreparedFile(path)
    with h5py.File(path, "a") as file:
        del file["labels"]
    with pytest.raises(InputError, match="a dataset 'labels'"):
        DatasetFile(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match="readable HDF5"):
        DatasetFile(path)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, samples: list[Sample]) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    with DatasetFile(make_dataset(folder / "d.h5", samples)) as dataset:
        write_prepared(folder / "p.h5", dataset, SMALL)
    return folder / "p.h5"


def test_examples_are_the_samples_on_the_canvas(prepared: Path, samples: list[Sample]) -> None:
    with PreparedFile(prepared) as file:
        letterbox = file.letterbox(0)
        assert letterbox == Letterbox(96, 128, 160, 300, 400)
        for index, sample in enumerate(samples):
            example, objects = file.example(index), ~sample.crowd
            boxes, target = letterbox.boxes_to_canvas(sample.boxes), example.target
            assert (example.index, example.name) == (index, sample.name)
            assert example.image.shape == (3, 96, 160)
            assert np.array_equal(example.image.permute(1, 2, 0).numpy(), letterbox.image_to_canvas(sample.image))
            assert np.array_equal(target.masks.numpy(), letterbox.masks_to_canvas(sample.masks.keep(objects)))
            np.testing.assert_allclose(target.boxes.numpy(), boxes[objects])
            np.testing.assert_allclose(target.crowd.numpy(), boxes[sample.crowd])
            assert target.labels.tolist() == sample.labels[objects].tolist()
            assert file.crowd(index).tolist() == sample.crowd.tolist()
            np.testing.assert_allclose(file.boxes(index), boxes)
            unlabeled = letterbox.boxes_to_canvas(sample.unlabeled_boxes)
            np.testing.assert_allclose(file.unlabeled_boxes(index), unlabeled)
            assert file.unlabeled_labels(index).tolist() == sample.unlabeled_labels.tolist()


def same_targets(one: Target, other: Target) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in TARGET)


def test_a_target_is_read_without_its_picture(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PreparedFile(prepared) as file:
        examples = list(file.examples(range(len(file))))
        monkeypatch.setattr(PreparedFile, "image", lambda *arguments: pytest.fail("a picture was read"))
        assert [same_targets(file.target(index), example.target) for index, example in enumerate(examples)] == [
            True
        ] * 6


def test_masks_can_be_left_unread(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PreparedFile(prepared) as file:
        whole = file.example(2)
        monkeypatch.setattr(PreparedFile, "masks", lambda *arguments: pytest.fail("masks were read"))
        example = file.example(2, masks=False)
        assert example.target.masks.shape == (0, 96, 160)
        assert torch.equal(example.image, whole.image)
        assert same_targets(example.target, dataclasses.replace(whole.target, masks=example.target.masks))


def test_crowd_regions_are_no_objects(prepared: Path) -> None:
    with PreparedFile(prepared) as file:
        target, labels, masks = file.target(2), torch.from_numpy(file.labels(2)), torch.from_numpy(file.masks(2))
        boxes, crowd = torch.from_numpy(file.boxes(2)), torch.from_numpy(file.crowd(2))
        assert crowd.tolist() == [True, *[False] * (len(labels) - 1)]
        assert len(labels) > 1
    assert torch.equal(target.crowd, boxes[:1])
    assert torch.equal(target.boxes, boxes[1:])
    assert torch.equal(target.labels, labels[1:])
    assert torch.equal(target.masks, masks[1:])


def test_mirroring_twice_changes_nothing(prepared: Path) -> None:
    with PreparedFile(prepared) as file:
        for index in range(len(file)):
            example = file.example(index)
            twice = flip(flip(example))
            assert (twice.index, twice.name) == (example.index, example.name)
            assert torch.equal(twice.image, example.image)
            for name in ("masks", "labels"):
                assert torch.equal(getattr(twice.target, name), getattr(example.target, name))
            for name in ("boxes", "crowd"):
                torch.testing.assert_close(getattr(twice.target, name), getattr(example.target, name))


def test_crowd_regions_are_mirrored_as_boxes_are(prepared: Path) -> None:
    with PreparedFile(prepared) as file:
        target, (left, _, right, _) = file.target(2), file.letterbox(0).region
        mirrored = flip_boxes(target, file.letterbox(2))
    for name in ("boxes", "crowd"):
        before, after = getattr(target, name), getattr(mirrored, name)
        assert len(before)
        torch.testing.assert_close(after[:, [1, 3]], before[:, [1, 3]])
        torch.testing.assert_close(after[:, 0] - left, right - before[:, 2])
        torch.testing.assert_close(right - after[:, 2], before[:, 0] - left)
    assert torch.equal(mirrored.labels, target.labels)
    assert torch.equal(mirrored.masks, target.masks)  # `flip` mirrors those


@pytest.mark.parametrize("padded", [160, 192])
@pytest.mark.parametrize("height", [96, 64])
def test_mirrored_boxes_follow_mirrored_masks(tmp_path: Path, padded: int, height: int) -> None:
    prepare = dataclasses.replace(SMALL, padded_width=padded, height=height)  # 64 high: 85 wide, an odd margin
    with PreparedFile(make_prepared(tmp_path, 4, 0, prepare)) as file:
        x1, y1, x2, y2 = map(int, file.letterbox(0).region)
        for index in range(4):
            example = file.example(index)
            mirrored = flip(example)
            assert torch.equal(mirrored.image[:, y1:y2, x1:x2], example.image[:, y1:y2, x1:x2].flip(-1))
            assert not mirrored.image[:, :, :x1].any()
            assert not mirrored.image[:, :, x2:].any()
            for mask, box in zip(mirrored.target.masks, mirrored.target.boxes, strict=True):
                xs = mask.any(0).nonzero()
                assert abs(xs.min() - box[0]) <= 1
                assert abs(xs.max() + 1 - box[2]) <= 1
                assert box[0] < box[2]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (None, "a list of class names, found None"),
        (["can", "can"], "each class's name once"),
        (["can"], "labels 1 to 1, found 1 to 3"),
    ],
)
def test_a_file_whose_labels_have_no_names_is_refused(
    tmp_path: Path, samples: list[Sample], names: list[str] | None, words: str
) -> None:
    path = tmp_path / "d.h5"
    write_dataset(path, samples, {"source": "test", "classes": names})
    with pytest.raises(InputError, match=rf"d\.h5.*expected {words}"):
        DatasetFile(path)


def test_the_prepared_file_has_the_classes_of_the_set(tmp_path: Path, samples: list[Sample]) -> None:
    names = ("can", "cup", "jar", "lid")
    write_dataset(tmp_path / "dataset.h5", samples, {"source": "test", "classes": names})
    with DatasetFile(tmp_path / "dataset.h5") as dataset:
        write_prepared(tmp_path / "prepared.h5", dataset, SMALL)
    assert read_classes(tmp_path / "prepared.h5").names == names
