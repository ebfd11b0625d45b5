"""Kept maps are the body's own to the last byte, are found by content alone, and never stand in a training's way."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from src.detector import kept_maps
from src.detector.backbones import LiteBody
from src.detector.kept_maps import KeptMaps, digest

SIZE = (64, 96)


class Counting(nn.Module):
    """A body that counts the images that it was asked for."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.images = body, 0

    def forward(self, images: Tensor) -> list[Tensor]:
        self.images += len(images)
        return self.body(images)


@pytest.fixture(scope="module")
def lite() -> LiteBody:
    torch.manual_seed(3)
    return LiteBody("efficientnet_lite0", pretrained=False).requires_grad_(False)


@pytest.fixture
def body(lite: LiteBody) -> Counting:
    return Counting(lite)


def pictures(count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> Tensor:
    drawn = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))
    return drawn.contiguous(memory_format=torch.channels_last)


def same(found: list[Tensor], expected: list[Tensor]) -> bool:
    """Values, types and how they lie in memory."""
    return all(
        torch.equal(a, b) and a.dtype == b.dtype and a.stride() == b.stride()
        for a, b in zip(found, expected, strict=True)
    )


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.pt"))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_they_are_the_bodys_own_and_are_computed_once(precision: torch.dtype, body: Counting, tmp_path: Path) -> None:
    images = pictures(3)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        expected = body.body(images)
        first, second = KeptMaps(tmp_path / "a", 6), KeptMaps(tmp_path / "a", 6)
        assert same(first(body, images), expected)
        assert body.images == 3
        assert same(first(body, images), expected)
        assert same(second(body, images[1:]), [level[1:] for level in expected])
        assert body.images == 3
        assert expected[0].dtype == precision
        assert same(first(body, pictures(2, seed=9)), body.body(pictures(2, seed=9)))
        assert body.images == 5


def test_a_mirrored_picture_has_its_own(body: Counting, tmp_path: Path) -> None:
    kept, images = KeptMaps(tmp_path / "a", 2), pictures(1)
    kept(body, images)
    mirrored = images.flip(-1).contiguous(memory_format=torch.channels_last)
    assert same(kept(body, mirrored), body.body(mirrored))
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("damage", ["cut", "emptied", "changed", "other"])
def test_a_damaged_file_is_computed_anew(damage: str, body: Counting, tmp_path: Path) -> None:
    kept, images = KeptMaps(tmp_path / "a", 1), pictures(1)
    expected = kept(body, images)
    (file,) = files(tmp_path)
    content = bytearray(file.read_bytes())
    if damage == "changed":
        content[len(content) // 2] ^= 1
    other = io.BytesIO()
    torch.save([torch.zeros(1)], other)
    file.write_bytes({"cut": content[:-100], "emptied": b"", "changed": content, "other": other.getvalue()}[damage])
    assert same(kept(body, images), expected)
    assert body.images == 2
    assert same(kept(body, images), expected)
    assert body.images == 2


def test_where_not_all_fit_none_is_kept(body: Counting, tmp_path: Path) -> None:
    size = sum(level.nbytes for level in body.body(pictures(1)))
    for pictures_to_come, limit, there in ((3, 3 * size, 1), (3, 3 * size - 1, 0)):
        folder = tmp_path / str(limit) / "a"
        kept = KeptMaps(folder, pictures_to_come, limit)
        assert same(kept(body, pictures(1)), body.body(pictures(1)))
        assert len(files(folder)) == there


def test_the_least_recently_used_go_first_also_another_bodys(body: Counting, tmp_path: Path) -> None:
    limit = 4 * sum(level.nbytes for level in body.body(pictures(1))) + 50_000  # files are a little larger
    KeptMaps(tmp_path / "old", 1, limit)(body, pictures(1, seed=1))
    kept = KeptMaps(tmp_path / "new", 3, limit)
    for seed in (2, 3, 4):
        kept(body, pictures(1, seed=seed))
    for age, file in enumerate([*files(tmp_path / "old"), *sorted(files(tmp_path / "new"), key=os.path.getmtime)]):
        os.utime(file, (1000 + age, 1000 + age))
    kept(body, pictures(1, seed=2))  # used again
    kept(body, pictures(1, seed=5))
    kept(body, pictures(1, seed=6))
    assert files(tmp_path / "old") == []
    before = body.images
    for seed in (2, 5, 6):
        kept(body, pictures(1, seed=seed))
    assert body.images == before
    kept(body, pictures(1, seed=3))
    assert body.images == before + 1


def test_a_full_disk_is_no_error_and_is_asked_once(
    body: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def full(path: Path, _: object) -> None:
        asked.append(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_maps, "save_tensors", full)
    kept = KeptMaps(tmp_path / "a", 2)
    assert same(kept(body, pictures(2)), body.body(pictures(2)))
    assert len(asked) == 1


def test_on_a_small_disk_less_is_kept(body: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_maps.shutil, "disk_usage", lambda _: type("Disk", (), {"free": 1000})())
    KeptMaps(tmp_path / "a", 1)(body, pictures(1))
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t + 1e-7,
        lambda t: t.flip(-1),
        lambda t: t.double(),
        lambda t: t.reshape(2, 3, 6, 4),
        lambda t: t.transpose(2, 3),
        lambda t: t[:1],
    ],
)
def test_the_digest_changes_with_the_content(change: Callable[[Tensor], Tensor]) -> None:
    tensor = torch.linspace(0.1, 0.9, 144).reshape(2, 3, 4, 6)
    assert digest([tensor]) != digest([change(tensor)])
    assert digest([tensor]) != digest([tensor], "float32")
    assert digest([tensor]) == digest([tensor.contiguous(memory_format=torch.channels_last)])
    assert digest([tensor, tensor]) != digest([tensor])
    assert digest([torch.tensor(1.0)]) != digest([torch.tensor(2.0)])


def test_what_another_process_has_just_removed_is_computed(
    body: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptMaps(tmp_path / "a", 1)
    expected = kept(body, pictures(1))
    (file,) = files(tmp_path)
    monkeypatch.setattr(kept_maps, "read_tensors", lambda path: (path.unlink(), {})[1])
    assert same(kept(body, pictures(1)), expected)
    assert file.exists()  # kept anew


def test_nothing_is_unpickled_from_the_folder(body: Counting, tmp_path: Path) -> None:
    kept = KeptMaps(tmp_path / "a", 1)
    expected = kept(body, pictures(1))
    (file,) = files(tmp_path)
    torch.save({"maps": [print], "digest": ""}, file)
    assert same(kept(body, pictures(1)), expected)
    assert body.images == 2
