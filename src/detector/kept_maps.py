"""A frozen body's feature maps, computed once for each picture and kept on disk for all stages and runs.

While no layer of the body learns, what it makes of a picture never changes, yet each epoch of each training would
compute it anew: a fifth of a step of joint training, half of one of the one-stage detector. Maps are found by the
content of the normalized picture, and by what the body is: its weights, its code, and its answer to a picture that is
always the same. So a mirrored picture, other data or other code have maps of their own. They lie in `.cache/maps`, the
least recently used go first, and nothing depends on them but seconds.

On a GPU nothing is kept.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import timm
import torch
import torchvision
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from src.core import paths
from src.core.errors import InputError
from src.core.one_stage_params import OneStageParams
from src.core.params import BackboneParams, JointParams
from src.core.runtime import cache_dir, generator
from src.core.tensors import read_tensors, save_tensors
from src.data.augmentation import Augmentation
from src.data.prepared import PreparedFile
from src.detector import backbones, depthwise
from src.detector.mask_rcnn import BackboneWithFpn
from src.structures.sample import TRAIN

LIMIT: Final = 8_000_000_000  # bytes of all maps together; those of the default scenes take 5.8e9 in float32
SHARE_OF_DISK: Final = 0.25  # of what the maps take and what is free on the disk, at most
ROOM: Final = 0.1  # of the limit: so much is freed at once


class KeptMaps:
    """Maps of pictures by one body.

    Args:
        folder: where they lie, this body's alone; the folders beside it have those of other bodies.
        limit: bytes of all of them.
        writes: keep what is computed; otherwise only what others kept is read.
    """

    def __init__(self, folder: Path, limit: int, *, writes: bool = True) -> None:
        self.folder, self._limit, self._writes = folder, limit, writes
        self._taken = sum(size for _, size, _ in _files(folder.parent))

    @torch.no_grad()
    def __call__(self, body: nn.Module, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """What `body` makes of each image by itself, whatever else is in the minibatch."""
        parts = [self._of_one(body, image) for image in images.split(1)]
        return [torch.cat(level) for level in zip(*parts, strict=True)]

    def _of_one(self, body: nn.Module, image: Float[Tensor, "1 3 h w"]) -> Sequence[Tensor]:
        path = self.folder / f"{digest([image])}.pt"
        if (maps := _read(path)) is None:
            maps = body(image)
            if self._writes:
                self._keep(path, maps)
        return maps

    def _keep(self, path: Path, maps: Sequence[Tensor]) -> None:
        size = size_of(maps)
        try:
            if self._taken + size > self._limit:
                self._make_room(size)
            save_tensors(path, {"maps": list(maps), "digest": digest(maps)})
        except OSError:  # the disk is full, or may not be written to
            return
        self._taken += size

    def _make_room(self, size: int) -> None:
        """Removes the maps that were not used for the longest time, until so many bytes and some more fit."""
        files = sorted(_files(self.folder.parent))
        self._taken = sum(taken for _, taken, _ in files)  # other processes write and remove too
        for _, taken, file in files:
            if self._taken + size <= (1 - ROOM) * self._limit:
                return
            file.unlink(missing_ok=True)
            self._taken -= taken


def keep_maps(backbone: BackboneWithFpn, fabric: Fabric, *, writes: bool = True) -> None:
    """Has the backbone keep its body's maps of the prepared pictures, if those of all have room.

    Args:
        backbone: its body stands still from now on.
        fabric: on a processor alone there is something to gain; its precision is part of what is kept.
        writes: keep what is computed; otherwise only what trainings kept is read.
    """
    if fabric.device.type != "cpu":
        return
    with PreparedFile(paths.PREPARED) as prepared:
        pictures, (height, width) = len(prepared.names) + len(prepared.indices(TRAIN)), prepared.size  # some mirrored
    always = torch.rand((1, 3, height, width), generator=generator(0)).contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), fabric.autocast():
        answer = backbone.body(2 * always - 1)
    folder = cache_dir() / "maps" / digest([*backbone.body.state_dict().values(), *answer], conditions())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = sum(size for _, size, _ in _files(folder.parent))
        limit = min(LIMIT, int(SHARE_OF_DISK * (taken + shutil.disk_usage(folder).free)))
    except OSError:  # it may not be written to
        return
    if pictures * size_of(answer) <= limit:
        backbone.kept = KeptMaps(folder, limit, writes=writes)


def keep_frozen_maps(
    backbone: BackboneWithFpn,
    options: BackboneParams | JointParams | OneStageParams,
    augmentation: Augmentation | None,
    fabric: Fabric,
) -> None:
    """In a training: keeps them where neither the body nor the pictures change from epoch to epoch."""
    if not options.trainable_layers and augmentation is None:
        keep_maps(backbone, fabric)


def conditions() -> str:
    """What a body's maps hang on beside its weights, and beside what its answer shows: code, versions, threads."""
    code = [Path(module.__file__ or "").read_text(encoding="utf-8") for module in (backbones, depthwise)]
    versions = [module.__version__ for module in (torch, torchvision, timm)]
    return "\n".join([*code, *versions, str(torch.get_num_threads())])


def digest(tensors: Iterable[Tensor], words: str = "") -> str:
    """Forty hexadecimal digits that change with any value, shape or type of the tensors, and with the words."""
    found = hashlib.sha256(words.encode())
    for tensor in tensors:
        found.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        last = tensor.movedim(1, -1) if tensor.dim() == 4 else tensor  # as channels-last memory has it
        found.update(last.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:40]


def size_of(maps: Iterable[Tensor]) -> int:
    """Bytes of one picture's maps."""
    return sum(level.nbytes for level in maps)


def _read(path: Path) -> Sequence[Tensor] | None:
    """Kept maps; None where there are none, or not what was written, as after a machine lost its power."""
    try:
        if not path.exists():
            return None
        content = read_tensors(path)
        os.utime(path)
    except (InputError, OSError):  # another process may just have made room
        return None
    if not isinstance(content, dict) or content.keys() != {"maps", "digest"}:
        return None
    maps: Sequence[Tensor] = content["maps"]
    return maps if content["digest"] == digest(maps) else None


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """When each file of all bodies was last used, its bytes, and the file; also of what a killed process left."""
    for file in folder.glob("*/*"):
        try:
            stat = file.stat()
        except FileNotFoundError:  # another process has just made room
            continue
        yield stat.st_mtime, stat.st_size, file
