"""A frozen body's feature maps, computed once for each picture and kept on disk for all stages and runs.

While no layer of the body learns, what it makes of a picture never changes, yet each epoch of each training would
compute it anew: a fifth of a step of joint training, half of one of the one-stage detector. Maps are found by the
content of the normalized picture and of the body's weights, so nothing can go stale: a mirrored picture, or other data,
has maps of its own. They lie in `.cache/maps`, the least recently used go first, and nothing depends on them but
seconds.

On a GPU the body is faster than a disk, so nothing is kept.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.core import paths
from src.core.errors import InputError
from src.core.params import RuntimeParams
from src.core.runtime import cache_dir, environment_info
from src.core.tensors import read_tensors, save_tensors
from src.data.prepared import PreparedFile
from src.detector.mask_rcnn import BackboneWithFpn

LIMIT: Final = 8_000_000_000  # bytes of all maps together; those of the default scenes take 6.6e9 in float32
SHARE_OF_DISK: Final = 0.25  # of what is free on the disk, at most


class KeptMaps:
    """Maps of pictures by one body.

    Args:
        folder: where they lie, this body's alone.
        pictures: how many are to come; where they do not fit together, none is kept.
        limit: bytes of the maps of all bodies beside this folder; by default `LIMIT`, or less on a small disk.
    """

    def __init__(self, folder: Path, pictures: int, limit: int | None = None) -> None:
        self.folder, self._pictures = folder, pictures
        folder.mkdir(parents=True, exist_ok=True)
        self._taken = sum(file.stat().st_size for file in self._files())
        free = shutil.disk_usage(folder).free
        self._limit = min(LIMIT, self._taken + int(SHARE_OF_DISK * free)) if limit is None else limit

    @torch.no_grad()
    def __call__(self, body: nn.Module, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """What `body(images)` gives; one picture is computed at a time, so that no map depends on its neighbors."""
        parts = [self._of_one(body, image) for image in images.split(1)]
        return [torch.cat(level) for level in zip(*parts, strict=True)]

    def _of_one(self, body: nn.Module, image: Float[Tensor, "1 3 h w"]) -> Sequence[Tensor]:
        path = self.folder / f"{digest([image])}.pt"
        if (maps := _read(path)) is None:
            maps = body(image)
            self._keep(path, maps)
        return maps

    def _keep(self, path: Path, maps: Sequence[Tensor]) -> None:
        """Writes a picture's maps, if those of all will have room."""
        size = sum(level.nbytes for level in maps)
        if size * self._pictures > self._limit:
            return
        try:
            self._make_room(size)
            save_tensors(path, {"maps": list(maps), "digest": digest(maps)})
        except OSError:  # the disk is full, or may not be written to
            self._limit = 0
        self._taken += size

    def _make_room(self, size: int) -> None:
        """Removes the maps that were not used for the longest time, until so many bytes fit."""
        if self._taken + size <= self._limit:
            return
        oldest = sorted((file.stat().st_mtime, file.stat().st_size, file) for file in self._files())
        self._taken = sum(bytes_ for _, bytes_, _ in oldest)
        for _, bytes_, file in oldest:
            if self._taken + size <= self._limit:
                return
            file.unlink(missing_ok=True)
            self._taken -= bytes_

    def _files(self) -> Iterable[Path]:
        return self.folder.parent.glob("*/[!.]*.pt")


def keep_maps(backbone: BackboneWithFpn, runtime: RuntimeParams, device: torch.device) -> None:
    """Has the backbone keep its body's maps of the prepared pictures; for a body that does not learn.

    Args:
        backbone: whose body stands still for as long as it keeps them.
        runtime: precision and threads are part of what is kept, since they may change the last digits.
        device: on a processor alone is there something to gain.
    """
    if device.type != "cpu":
        return
    with PreparedFile(paths.PREPARED) as prepared:
        pictures = 2 * len(prepared.names)  # and their mirror images
    conditions = environment_info(runtime)
    words = "".join(f"{name}={conditions[name]};" for name in ("precision", "convolutions", "threads", "torch"))
    backbone.kept = KeptMaps(cache_dir() / "maps" / digest(backbone.body.state_dict().values(), words), pictures)


def digest(tensors: Iterable[Tensor], words: str = "") -> str:
    """Forty hexadecimal digits that change with any value, shape or type of the tensors, and with the words."""
    found = hashlib.sha256(words.encode())
    for tensor in tensors:
        found.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        last = tensor.movedim(1, -1) if tensor.dim() == 4 else tensor  # as channels-last memory has it
        found.update(last.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:40]


def _read(path: Path) -> Sequence[Tensor] | None:
    """Kept maps; None where there are none, or not what was written, as after a machine lost its power."""
    if not path.exists():
        return None
    try:
        content = read_tensors(path)
        os.utime(path)
    except (InputError, FileNotFoundError):  # another process may just have made room
        return None
    if not isinstance(content, dict) or content.keys() != {"maps", "digest"}:
        return None
    maps: Sequence[Tensor] = content["maps"]
    return maps if content["digest"] == digest(maps) else None
