"""The cached features: views come back as they went in, and broken files are named."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.core.errors import InputError
from src.data.feature_cache import CHANNELS, ROWS, CachedView, FeaturesFile, FeaturesWriter
from tests.data.memory import traced_peak

SHORT = 3  # boxes of a small view


def make_view(
    index: int = 0, boxes: int = SHORT, masks: int = 2, *, flipped: bool = False, train: bool = True
) -> CachedView:
    """A view with random content."""
    draw = torch.Generator().manual_seed(1000 * index + boxes)
    return CachedView(
        index=index,
        flipped=flipped,
        train=train,
        boxes=100 * torch.rand(boxes, 4, generator=draw),
        pooled=torch.randn(boxes, CHANNELS, 7, 7, generator=draw).bfloat16(),
        mask_boxes=100 * torch.rand(masks, 4, generator=draw),
        mask_labels=torch.randint(1, 4, (masks,), generator=draw),
        mask_truth=torch.randint(0, 9, (masks,), generator=draw),
        mask_pooled=torch.randn(masks, CHANNELS, 14, 14, generator=draw).bfloat16(),
        mask_targets=torch.rand(masks, 28, 28, generator=draw) > 0.5,
    )


def write(path: Path, views: list[CachedView]) -> Path:
    with FeaturesWriter(path) as writer:
        for view in views:
            writer.append(view)
    return path


def check(file: FeaturesFile, number: int, view: CachedView) -> None:
    assert file.image(number) == (view.index, view.flipped)
    boxes, pooled = file.boxes(number)
    assert torch.equal(boxes, view.boxes)
    assert pooled.dtype == torch.bfloat16
    assert torch.equal(pooled, view.pooled)
    rois = file.mask_rois(number)
    assert set(rois) == {"mask_boxes", "mask_labels", "mask_truth", "mask_pooled", "mask_targets"}
    for name, values in rois.items():
        assert values.dtype == getattr(view, name).dtype, name
        assert torch.equal(values, getattr(view, name)), name


@settings(max_examples=8)
@given(counts=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=4))
def test_views_come_back_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, counts: list[tuple[int, int]]
) -> None:
    views = [
        make_view(index, boxes, masks, flipped=index % 2 == 1, train=index != 1)
        for index, (boxes, masks) in enumerate(counts)
    ]
    file = FeaturesFile(write(tmp_path_factory.mktemp("features") / "features.h5", views))
    assert len(file) == len(views)
    assert file.views(train=True) == [index for index in range(len(views)) if index != 1]
    assert file.views(train=False) == [index for index in range(len(views)) if index == 1]
    for number, view in enumerate(views):
        check(file, number, view)
    file.close()


def test_channels_last_features_come_back_too(tmp_path: Path) -> None:
    view = make_view()
    scattered = CachedView(
        **{
            **vars(view),
            "pooled": view.pooled.contiguous(memory_format=torch.channels_last),
            "mask_pooled": view.mask_pooled.contiguous(memory_format=torch.channels_last),
        }
    )
    file = FeaturesFile(write(tmp_path / "features.h5", [scattered]))
    check(file, 0, view)
    file.close()


def test_every_bit_pattern_survives(tmp_path: Path) -> None:
    view = make_view(boxes=6)
    pattern = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)
    view.pooled.view(-1)[: 2**16] = pattern  # NaN and infinity among them
    file = FeaturesFile(write(tmp_path / "features.h5", [view]))
    assert torch.equal(file.boxes(0)[1].view(torch.uint16), view.pooled.view(torch.uint16))
    file.close()


@pytest.mark.parametrize(("limit", "expected"), [(None, 2), (0, 0), (1, 1), (9, 2)])
def test_mask_rois_can_be_limited(tmp_path: Path, limit: int | None, expected: int) -> None:
    views = [make_view(0), make_view(1)]
    file = FeaturesFile(write(tmp_path / "features.h5", views))
    rois = file.mask_rois(0, limit)
    assert {len(values) for values in rois.values()} == {expected}
    assert torch.equal(rois["mask_boxes"], views[0].mask_boxes[:expected])
    file.close()


def test_a_view_is_read_without_the_others(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"

    def read() -> None:
        file = FeaturesFile(path)
        file.boxes(1)
        file.mask_rois(1)
        file.close()

    def peaks(views: int) -> dict[str, int]:
        write(path, [make_view(boxes=1, masks=1)] * views)
        return {"opening": traced_peak(lambda: FeaturesFile(path).close()), "reading": traced_peak(read)}

    peaks(2)
    few, many = peaks(4), peaks(40)  # 36 more views are 0.9 MB of box features and 3.6 MB of mask features
    for step, size in few.items():
        assert many[step] < size + 100_000, step


def test_the_same_views_give_the_same_bytes(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, [make_view(0), make_view(1, 0, 0)]) for name in ("a.h5", "b.h5")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_file_appears_only_when_all_is_written(tmp_path: Path) -> None:
    path = write(tmp_path / "features.h5", [make_view()])
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="half way"), FeaturesWriter(path) as writer:  # noqa: PT012
        writer.append(make_view(1))
        raise RuntimeError("half way")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["features.h5"]


def test_a_disk_that_is_full_at_the_end_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "features.h5"
    writer = FeaturesWriter(path)
    writer.__enter__()
    writer.append(make_view())

    def full(*args: object, **options: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(h5py.File, "create_dataset", full)
    with pytest.raises(OSError, match="no space"):
        writer.__exit__(None, None, None)
    writer._file.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["missing", "text", "other", "folder", "truncated"])
def test_a_wrong_file_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "features.h5"
    if kind == "text":
        path.write_text("boxes", encoding="utf-8")
    elif kind == "other":
        with h5py.File(path, "w") as file:
            file["images"] = [1, 2, 3]
    elif kind == "folder":
        path.mkdir()
    elif kind == "truncated":
        whole = write(path, [make_view()]).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"features\.h5: expected a file of cached features") as error:
        FeaturesFile(path)
    assert "\n" not in str(error.value)


def test_rows_are_those_of_a_view() -> None:
    names = set(ROWS)
    assert names == set(CachedView.__dataclass_fields__) - {"index", "flipped", "train"}
