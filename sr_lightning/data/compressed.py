"""Decoded images kept compressed, for sets whose pixels are larger than the disk.

Each image is cut into blocks of 128 x 128 pixels, and each block is a lossless WebP file of its
own, so that a patch decodes the few blocks that it lies on. A pixel of a photograph takes about a
third of its 4 bytes; what is read is the same to the last bit. What a patch takes longer is told
by ``python -m sr_lightning.bench --only data``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sr_lightning.data.store import Pixels, PixelStore, cache_root, pack_pixels
from sr_lightning.files import regular_file

__all__ = ["CompressedStore", "StoreKind", "open_store"]

StoreKind = Literal["decoded", "compressed"]

# Smaller ones compress less well; of larger ones a patch decodes more than it needs.
_SIDE = 128
_BLOCKS = "blocks.webp"
# Where each block ends in the file before.
_ENDS = "ends.i64"


def open_store(
    files: Sequence[Path], label: str, kind: StoreKind = "decoded", cache: Path | None = None
) -> PixelStore:
    """Open the store of these image files, making it first where it does not exist yet.

    Args:
        files: Image files in the order wanted.
        label: Readable part of the store's name, and what progress is shown for.
        kind: How pixels are kept.
        cache: Where stores lie; default :func:`~sr_lightning.data.store.cache_root`.

    Raises:
        UserError: a file cannot be read (nothing is left half-made).
    """
    if kind == "compressed":
        return CompressedStore.of_files(files, label=label, cache=_apart(cache))
    return PixelStore.of_files(files, label=label, cache=cache)


class CompressedStore(PixelStore):
    """Images behind one file of compressed blocks.

    Args:
        folder: A finished store.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        grids = [_grid(image.height, image.width) for image in self.images]
        self._first = np.cumsum([0, *(down * across for down, across in grids)])
        self._blocks: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_blocks": None}

    def __getitem__(self, index: int) -> Pixels:
        """Pixels of one image, which are decoded where they are indexed by rows and columns."""
        return cast(Pixels, _LazyImage(self, index))

    def rgb(self, index: int) -> NDArray[np.uint8]:
        """One image as uint8 (H, W, 3)."""
        words = self[index][:, :]
        return words.view(np.uint8).reshape(*words.shape, 4)[..., :3].copy()

    def block(self, index: int, row: int, column: int) -> Pixels:
        """One block of an image, packed.

        Args:
            index: Number of the image.
            row: Number of the block from above.
            column: Number of the block from the left.

        Raises:
            UserError: the file on disk is damaged.
        """
        if self._blocks is None:
            self._blocks = (
                np.asarray(np.memmap(self.folder / _BLOCKS, dtype=np.uint8, mode="r")),
                np.asarray(np.memmap(self.folder / _ENDS, dtype=np.int64, mode="r")),
            )
        image, (content, ends) = self.images[index], self._blocks
        number = self._first[index] + row * _grid(image.height, image.width)[1] + column
        rest = image.width - column * _SIDE, image.height - row * _SIDE
        try:
            begin = ends[number - 1] if number else 0
            stream = io.BytesIO(content[begin : ends[number]].tobytes())
            with Image.open(stream, formats=["WEBP"]) as block:
                if block.size == (min(rest[0], _SIDE), min(rest[1], _SIDE)):
                    return pack_pixels(np.asarray(block))
        except (OSError, ValueError, IndexError, Image.DecompressionBombError):
            pass
        raise self.damage()

    def derived(
        self,
        recipe: str,
        function: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
        *,
        cache: Path | None = None,
    ) -> PixelStore:
        """The store of this one's images after a pure function, compressed as well; see the base.

        Args:
            recipe: Names the function and all its arguments; part of the store's name.
            function: uint8 (H, W, 3) to uint8 (h, w, 3).
            cache: Where stores lie; default :func:`~sr_lightning.data.store.cache_root`.
        """
        return super().derived(recipe, function, cache=_apart(cache))

    @classmethod
    @contextmanager
    def _writing(cls, folder: Path) -> Iterator[Callable[[Pixels], object]]:
        with (folder / _BLOCKS).open("wb") as out, (folder / _ENDS).open("wb") as ends:

            def keep(words: Pixels) -> None:
                rgb = words.view(np.uint8).reshape(*words.shape, 4)[..., :3]
                for top in range(0, words.shape[0], _SIDE):
                    for left in range(0, words.shape[1], _SIDE):
                        block = np.ascontiguousarray(rgb[top : top + _SIDE, left : left + _SIDE])
                        # The fastest of its settings, and the files are hardly larger.
                        Image.fromarray(block).save(out, "WEBP", lossless=True, method=0, quality=0)
                        ends.write(np.int64(out.tell()).tobytes())

            yield keep

    @classmethod
    def _is_whole(cls, folder: Path, pixels: int) -> bool:
        ends = np.fromfile(regular_file(folder / _ENDS, "index of an image cache"), dtype=np.int64)
        return len(ends) > 0 and (folder / _BLOCKS).stat().st_size == ends[-1]


class _LazyImage:
    """An image that is indexed as an array (H, W) of packed pixels is."""

    def __init__(self, store: CompressedStore, index: int) -> None:
        image = store.images[index]
        self.shape = image.height, image.width
        self._store, self._index = store, index

    def __getitem__(self, where: tuple[Any, Any]) -> Pixels:
        """Pixels by slices or arrays of rows and columns; only their blocks are decoded."""
        rows, columns = (
            np.arange(extent)[part] if isinstance(part, slice) else np.ravel(part)
            for part, extent in zip(where, self.shape, strict=True)
        )
        (first, last), (left, right) = (
            (part.min() // _SIDE, part.max() // _SIDE + 1) for part in (rows, columns)
        )
        block = self._store.block
        window = np.block(
            [[block(self._index, i, j) for j in range(left, right)] for i in range(first, last)]
        )
        return cast(Pixels, window[np.ix_(rows - first * _SIDE, columns - left * _SIDE)])


def _grid(height: int, width: int) -> tuple[int, int]:
    """How many blocks an image has down and across."""
    return -(-height // _SIDE), -(-width // _SIDE)


def _apart(cache: Path | None) -> Path:
    """Where compressed stores lie, which have the names of decoded ones."""
    return (cache or cache_root()) / "compressed"
