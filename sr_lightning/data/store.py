"""Decoded images in one memory map: decode once, slice for ever.

A 2K PNG takes about 0.1 s to decode and a patch of it takes microseconds to slice, so training
images are decoded once into a flat file of RGBX pixels (four bytes, the last unused). Four bytes
instead of three because a pixel is then one machine word: a flipped or transposed patch is copied
four times faster, which is worth a third more disk.

A store is made under a lock in a temporary file and put in place in one step, so that it is safe
to interrupt and to start from several processes at once. It lies in the cache folder under a name
derived from the names, sizes and dates of its image files: changed images make a new store.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from rich.markup import escape
from rich.progress import track

from sr_lightning.data.images import Picture, read_picture
from sr_lightning.data.near_duplicates import perceptual_hash
from sr_lightning.errors import UserError
from sr_lightning.files import read_record, user_path

__all__ = ["PixelStore", "StoredImage", "cache_root", "pack_pixels"]

_VERSION = 1
_PIXELS = "pixels.u32"
_MANIFEST = "manifest.json"
Pixels = NDArray[np.uint32]
# Name, source path, and what decodes it.
NamedImages = Iterable[tuple[str, str, Callable[[], Picture]]]


def cache_root() -> Path:
    """Folder of everything that can be made again: ``SR_CACHE`` or the user's cache folder."""
    if named := os.environ.get("SR_CACHE"):
        return user_path(named)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "sr-lightning"


def pack_pixels(rgb: NDArray[np.uint8]) -> Pixels:
    """Pack uint8 (H, W, 3) into one uint32 word per pixel, (H, W); the fourth byte is 0."""
    words = np.zeros((*rgb.shape[:2], 4), dtype=np.uint8)
    words[..., :3] = rgb
    return words.view(np.uint32)[..., 0]


@dataclass(frozen=True)
class StoredImage:
    """What the manifest says of one image.

    Attributes:
        name: File name without suffix.
        source: Path of the image file when the store was made.
        height: Height in pixels.
        width: Width in pixels.
        offset: Offset of its first pixel in the store, in pixels.
        sha256: SHA-256 of its RGB bytes.
        grey: Whether the file holds one channel; the store always holds three.
        phash: 64-bit perceptual hash as 16 hex digits; see
            :mod:`sr_lightning.data.near_duplicates`.
    """

    name: str
    source: str
    height: int
    width: int
    offset: int
    sha256: str
    phash: str
    grey: bool


@dataclass(frozen=True)
class _Manifest:
    version: int
    pixels: int
    sha256: str
    images: list[StoredImage]


class PixelStore:
    """Decoded images behind one memory map.

    Args:
        folder: A finished store.

    Attributes:
        images: What is known of each image, in the order given when the store was made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = read_record(folder / _MANIFEST, _Manifest, "record of an image cache")
        self.images = manifest.images
        self.checksum: str = manifest.sha256
        self._words: Pixels | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getstate__(self) -> dict[str, object]:
        # A memory map is opened anew in each worker instead of being copied into it.
        return {**self.__dict__, "_words": None}

    def __getitem__(self, index: int) -> Pixels:
        """Pixels of one image as read-only words of shape (H, W)."""
        if self._words is None:
            # A plain view: slicing np.memmap itself costs ten times as much.
            self._words = np.asarray(np.memmap(self.folder / _PIXELS, dtype=np.uint32, mode="r"))
        image = self.images[index]
        flat = self._words[image.offset : image.offset + image.height * image.width]
        return flat.reshape(image.height, image.width)

    def rgb(self, index: int) -> NDArray[np.uint8]:
        """One image as uint8 (H, W, 3)."""
        image = self.images[index]
        words = np.ascontiguousarray(self[index])
        return words.view(np.uint8).reshape(image.height, image.width, 4)[..., :3].copy()

    def verify(self) -> None:
        """Read the whole store and compare its checksum.

        Raises:
            UserError: the file on disk is not what was written.
        """
        digest = hashlib.sha256()
        for index in range(len(self)):
            digest.update(np.ascontiguousarray(self[index][:, :]).tobytes())
        if digest.hexdigest() != self.checksum:
            raise self.damage()

    def damage(self) -> UserError:
        """The error of a store that is not what was written."""
        return UserError(f"The cache {self.folder} is damaged; delete that folder and start again.")

    @classmethod
    def of_files(
        cls, files: Sequence[Path], *, label: str, cache: Path | None = None
    ) -> PixelStore:
        """Open the store of these image files, decoding them first where it does not exist yet.

        Args:
            files: Image files in the order wanted.
            label: Readable part of the store's name, and what progress is shown for.
            cache: Where stores lie; default :func:`cache_root`.

        Raises:
            UserError: a file cannot be read (nothing is left half-made).
        """
        facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        key = hashlib.sha256(json.dumps([_VERSION, facts]).encode()).hexdigest()[:16]
        images = ((path.stem, str(path), lambda path=path: read_picture(path)) for path in files)
        return cls._make(f"{label}-{key}", len(files), images, cache)

    def derived(
        self,
        recipe: str,
        function: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
        *,
        cache: Path | None = None,
    ) -> PixelStore:
        """Open the store of this one's images after a pure function, making it where needed.

        Args:
            recipe: Names the function and all its arguments; part of the store's name.
            function: uint8 (H, W, 3) to uint8 (h, w, 3).
            cache: Where stores lie; default :func:`cache_root`.
        """
        key = hashlib.sha256(f"{_VERSION} {self.checksum} {recipe}".encode()).hexdigest()[:16]
        label = self.folder.name.rsplit("-", 1)[0]
        images = (
            (
                image.name,
                image.source,
                lambda i=i: Picture(function(self.rgb(i)), None, self.images[i].grey),
            )
            for i, image in enumerate(self.images)
        )
        return self._make(f"{label}-{recipe}-{key}", len(self), images, cache)

    @classmethod
    def _make(cls, name: str, count: int, images: NamedImages, cache: Path | None) -> PixelStore:
        root = (cache or cache_root()) / "pixels"
        folder = root / name
        if not cls._is_finished(folder):
            try:
                root.mkdir(parents=True, exist_ok=True)
                with FileLock(root / f"{name}.lock"):
                    # Another process may have made it while this one waited for the lock.
                    if not cls._is_finished(folder):
                        cls._write(folder, count, images)
            except OSError as error:
                raise UserError(
                    f"Cannot write the image cache {folder}: {error.strerror or error}. "
                    "Free some space or name another folder in SR_CACHE."
                ) from error
        return cls(folder)

    # ---- files, which another kind of store has others of ---------------------------------------

    @classmethod
    @contextmanager
    def _writing(cls, folder: Path) -> Iterator[Callable[[Pixels], object]]:
        """Where the pixels of each image go in turn."""
        with (folder / _PIXELS).open("wb") as out:
            yield lambda words: out.write(words.tobytes())

    @classmethod
    def _is_whole(cls, folder: Path, pixels: int) -> bool:
        """Whether the files of a store are as long as they were written."""
        return (folder / _PIXELS).stat().st_size == 4 * pixels

    @classmethod
    def _is_finished(cls, folder: Path) -> bool:
        """Whether there is a store whose record can be believed."""
        try:
            manifest = read_record(folder / _MANIFEST, _Manifest)
            is_whole = cls._is_whole(folder, manifest.pixels)
        except (OSError, UserError):
            return False
        end = 0
        for image in manifest.images:
            if image.offset != end or min(image.height, image.width) < 1:
                return False
            if not re.fullmatch("[0-9a-f]{16}", image.phash):
                return False
            end += image.height * image.width
        return manifest.version == _VERSION and is_whole and manifest.pixels == end

    @classmethod
    def _write(cls, folder: Path, count: int, images: NamedImages) -> None:
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        digest, offset, entries = hashlib.sha256(), 0, []
        try:
            with cls._writing(part) as keep:
                for name, source, read in track(
                    images,
                    total=count,
                    description=escape(f"Decoding {folder.name.rsplit('-', 1)[0]}"),
                    disable=count < 20,
                ):
                    picture = read()
                    rgb = picture.rgb
                    words = pack_pixels(rgb)
                    keep(words)
                    digest.update(words.tobytes())
                    entries.append(
                        StoredImage(
                            name=name,
                            source=source,
                            height=rgb.shape[0],
                            width=rgb.shape[1],
                            offset=offset,
                            sha256=hashlib.sha256(rgb.tobytes()).hexdigest(),
                            phash=perceptual_hash(rgb),
                            grey=picture.grey,
                        )
                    )
                    offset += words.size
            manifest = {
                "version": _VERSION,
                "pixels": offset,
                "sha256": digest.hexdigest(),
                "images": [asdict(entry) for entry in entries],
            }
            (part / _MANIFEST).write_text(json.dumps(manifest, indent=1))
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
