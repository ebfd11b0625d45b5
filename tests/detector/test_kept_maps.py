"""Kept maps are the body's own to the last byte, are found by content alone, and never stand in a training's way."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from src.core import paths
from src.core.runtime import has_fast_bf16
from src.data.prepared import PreparedFile
from src.detector import kept_maps
from src.detector.backbones import LiteBody, ResNetBody
from src.detector.kept_maps import KeptMaps, digest
from src.detector.mask_rcnn import BackboneWithFpn
from tests.factories import make_prepared

SIZE = (64, 96)
MUCH = 10**9  # bytes


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
        first, second = KeptMaps(tmp_path / "a", MUCH), KeptMaps(tmp_path / "a", MUCH)
        assert same(first(body, images), expected)
        assert body.images == 3
        assert same(first(body, images), expected)
        assert same(second(body, images[1:]), [level[1:] for level in expected])
        assert body.images == 3
        assert expected[0].dtype == precision
        assert same(first(body, pictures(2, seed=9)), body.body(pictures(2, seed=9)))
        assert body.images == 5


def test_a_mirrored_picture_has_its_own(body: Counting, tmp_path: Path) -> None:
    kept, images = KeptMaps(tmp_path / "a", MUCH), pictures(1)
    kept(body, images)
    mirrored = images.flip(-1).contiguous(memory_format=torch.channels_last)
    assert same(kept(body, mirrored), body.body(mirrored))
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("damage", ["cut", "emptied", "changed", "other"])
def test_a_damaged_file_is_computed_anew(damage: str, body: Counting, tmp_path: Path) -> None:
    kept, images = KeptMaps(tmp_path / "a", MUCH), pictures(1)
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


def test_the_least_recently_used_go_first_also_another_bodys(body: Counting, tmp_path: Path) -> None:
    KeptMaps(tmp_path / "old", MUCH)(body, pictures(1, seed=1))
    size = files(tmp_path)[0].stat().st_size
    (tmp_path / "old/.left-by-a-killed-process.pt").write_bytes(bytes(size))
    kept = KeptMaps(tmp_path / "new", 5 * size)
    for seed in (2, 3, 4):
        kept(body, pictures(1, seed=seed))
    new = sorted(files(tmp_path / "new"), key=lambda file: file.stat().st_mtime_ns)
    for age, file in enumerate([*(tmp_path / "old").iterdir(), *new]):
        os.utime(file, (1000 + age, 1000 + age))
    kept(body, pictures(1, seed=2))  # used again
    kept(body, pictures(1, seed=5))  # the sixth
    assert list((tmp_path / "old").iterdir()) == []
    kept(body, pictures(1, seed=6))
    kept(body, pictures(1, seed=7))
    before = body.images
    for seed in (2, 5, 6, 7):
        kept(body, pictures(1, seed=seed))
    assert body.images == before
    kept(body, pictures(1, seed=3))
    assert body.images == before + 1


def test_room_is_made_for_more_than_one(body: Counting, tmp_path: Path) -> None:
    """All files are listed once in a while, not at every picture."""
    KeptMaps(tmp_path / "a", MUCH)(body, pictures(20))
    size = sum(file.stat().st_size for file in files(tmp_path))
    KeptMaps(tmp_path / "a", size)(body, pictures(1, seed=5))
    assert 16 <= len(files(tmp_path)) <= 19


def test_a_reader_writes_nothing(body: Counting, tmp_path: Path) -> None:
    KeptMaps(tmp_path / "a", MUCH)(body, pictures(1))
    reader = KeptMaps(tmp_path / "a", MUCH, writes=False)
    reader(body, pictures(1))
    assert body.images == 1
    assert same(reader(body, pictures(1, seed=1)), body.body(pictures(1, seed=1)))
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("call", ["save_tensors", "os.utime"])
def test_a_disk_that_refuses_is_no_error(
    call: str, body: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full, or not to be written to."""

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    kept = KeptMaps(tmp_path / "a", MUCH)
    kept(body, pictures(1))
    monkeypatch.setattr(f"src.detector.kept_maps.{call}", refuse)
    assert same(kept(body, pictures(2)), body.body(pictures(2)))


def test_a_folder_that_is_removed_meanwhile_is_made_anew(body: Counting, tmp_path: Path) -> None:
    kept = KeptMaps(tmp_path / "a", MUCH)
    kept(body, pictures(1))
    shutil.rmtree(tmp_path / "a")
    assert same(kept(body, pictures(1)), body.body(pictures(1)))
    assert len(files(tmp_path)) == 1


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
    kept = KeptMaps(tmp_path / "a", MUCH)
    expected = kept(body, pictures(1))
    (file,) = files(tmp_path)
    monkeypatch.setattr(kept_maps, "read_tensors", lambda path: (path.unlink(), {})[1])
    assert same(kept(body, pictures(1)), expected)
    assert file.exists()  # kept anew


def test_nothing_is_unpickled_from_the_folder(body: Counting, tmp_path: Path) -> None:
    kept = KeptMaps(tmp_path / "a", MUCH)
    expected = kept(body, pictures(1))
    (file,) = files(tmp_path)
    torch.save({"maps": [print], "digest": ""}, file)
    assert same(kept(body, pictures(1)), expected)
    assert body.images == 2


@pytest.fixture
def backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BackboneWithFpn:
    """In a workspace with prepared pictures."""
    prepared = make_prepared(tmp_path, images=4)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    paths.PREPARED.parent.mkdir(exist_ok=True)
    prepared.replace(paths.PREPARED)
    torch.manual_seed(3)
    return BackboneWithFpn("efficientnet_lite0", LiteBody("efficientnet_lite0", pretrained=False))


def folder_of(backbone: BackboneWithFpn, fabric: Fabric) -> Path:
    kept_maps.keep_maps(backbone, fabric)
    assert isinstance(backbone.kept, KeptMaps)
    return backbone.kept.folder


FABRIC = Fabric(accelerator="cpu", devices=1)


def test_the_folder_is_of_weights_code_layers_precision_and_threads(
    backbone: BackboneWithFpn, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = folder_of(backbone, FABRIC)
    assert folder_of(backbone, FABRIC) == first
    found = {first, folder_of(backbone, Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"))}
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 7)
        found.add(folder_of(backbone, FABRIC))
    with monkeypatch.context() as patch:
        patch.setattr(timm, "__version__", "0")
        found.add(folder_of(backbone, FABRIC))
    with monkeypatch.context() as patch:  # code of another package that answers otherwise
        patch.setattr(nn.ReLU6, "forward", lambda _, x: x.clamp(0, 5))
        found.add(folder_of(backbone, FABRIC))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", lambda *_, **__: "other code")
        found.add(folder_of(backbone, FABRIC))
    with torch.no_grad():
        next(backbone.body.parameters()).view(-1)[0] += 1e-3
    found.add(folder_of(backbone, FABRIC))
    assert len(found) == 7


def test_the_epsilon_of_resnets_normalization_counts(backbone: BackboneWithFpn) -> None:
    """It is part of the function and in no state dict."""
    found = set()
    for eps in (1e-5, 0.0):
        torch.manual_seed(0)
        found.add(folder_of(BackboneWithFpn("resnet50", ResNetBody(pretrained=False, eps=eps)), FABRIC))
    assert len(found) == 2


def test_where_not_all_have_room_none_is_kept(backbone: BackboneWithFpn, monkeypatch: pytest.MonkeyPatch) -> None:
    with PreparedFile(paths.PREPARED) as prepared:
        pictures_and_mirrored = len(prepared.names) + len(prepared.indices("train"))
        images = torch.zeros(1, 3, *prepared.size)
    limit = pictures_and_mirrored * kept_maps.size_of(backbone.body(images))
    monkeypatch.setattr(kept_maps, "LIMIT", limit - 1)
    kept_maps.keep_maps(backbone, FABRIC)
    assert backbone.kept is None
    monkeypatch.setattr(kept_maps, "LIMIT", limit)
    kept_maps.keep_maps(backbone, FABRIC)
    assert backbone.kept is not None


@pytest.mark.parametrize("free", [10_000, None])
def test_on_a_small_or_forbidden_disk_none_is_kept(
    free: int | None, backbone: BackboneWithFpn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usage(_: Path) -> Any:
        if free is None:
            raise PermissionError(13, "Permission denied")
        return SimpleNamespace(free=free)

    monkeypatch.setattr(kept_maps.shutil, "disk_usage", usage)
    kept_maps.keep_maps(backbone, FABRIC)
    assert backbone.kept is None


def test_on_another_device_none_is_kept(backbone: BackboneWithFpn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fabric, "device", torch.device("cuda"))
    kept_maps.keep_maps(backbone, FABRIC)
    assert backbone.kept is None


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_on_a_large_canvas_on_two_threads_no_map_depends_on_its_neighbor(precision: str, lite: LiteBody) -> None:
    """So a run in which maps are kept and one in which they have no room give the same."""
    images = pictures(2, size=(480, 640))
    if precision == "bf16" and not has_fast_bf16():
        pytest.skip("this processor has no bf16, and takes minutes")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            together, alone = lite(images), [lite(image) for image in images.split(1)]
    finally:
        torch.set_num_threads(threads)
    assert same([torch.cat(level) for level in zip(*alone, strict=True)], together)
