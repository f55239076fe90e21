"""Writing large photographs strip by strip, with what the original says of itself.

Strips go to an uncompressed TIFF beside the result, which libvips then encodes from top to bottom,
so that no more than a strip is ever in memory. (It would map a file of raw levels as a whole.)
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sr_lightning.data.images import Photo
from sr_lightning.errors import UserError

if TYPE_CHECKING:
    import pyvips

__all__ = ["check_format", "write_photo"]

# libvips' name and options of each format, and the longest side that it can hold.
_FORMATS: dict[str, tuple[str, dict[str, Any], int]] = {
    ".png": ("pngsave", {"filter": "sub"}, 2**31 - 1),
    ".jpg": ("jpegsave", {"Q": 95}, 65500),
    ".tif": ("tiffsave", {"compression": "deflate", "predictor": "horizontal"}, 2**31 - 1),
    ".webp": ("webpsave", {"lossless": True}, 16383),
}
_SAME = {".jpeg": ".jpg", ".tiff": ".tif"}
_COLOURS = {1: ("b-w", "grey16"), 3: ("srgb", "rgb16")}
_USUAL_DPI = 72.0
_REMEDY = "free some space (twice the result), or name another place"
# Of the file between.
_ROWS = 64


def check_format(
    path: Path, size: tuple[int, int] | None = None, *, transparent: bool = False
) -> None:
    """Refuse what a file's format cannot hold, before anything is computed.

    Args:
        path: Where an image will be written.
        size: Its height and width, where known.
        transparent: Whether it has alpha.

    Raises:
        UserError: the suffix is unknown, or the format cannot hold such an image.
    """
    suffix = path.suffix.lower()
    suffix = _SAME.get(suffix, suffix)
    if suffix not in _FORMATS:
        raise UserError(f"Cannot write {path}: use one of {', '.join(sorted(_FORMATS))}.")
    if transparent and suffix == ".jpg":
        raise UserError(f"{path} cannot hold transparency; name a .png, .tif or .webp.")
    longest = _FORMATS[suffix][2]
    if size is not None and max(size) > longest:
        raise UserError(
            f"{path} would be {size[1]} x {size[0]}, but {suffix} holds {longest} pixels a side; "
            "name a .png or .tif."
        )


def write_photo(
    path: str | Path,
    strips: Iterable[NDArray[Any]],
    like: Photo,
    made: tuple[int, int],
    size: tuple[int, int] | None = None,
) -> None:
    """Write an image that is made strip by strip; the file appears once it is whole.

    Args:
        path: Where to, with a suffix that :func:`check_format` knows; missing folders are made.
        strips: (h, W, C) of uint8 or uint16 each, from top to bottom.
        like: Photograph whose profile, EXIF, XMP and resolution are kept.
        made: (height, width) of the strips together.
        size: (height, width) that they are resized to by bicubic, antialiased; default: as is.

    Raises:
        UserError: the file cannot be written.
    """
    import pyvips

    path = Path(path)
    check_format(path, transparent=like.transparent)
    # Files of one name are others each time.
    pyvips.cache_set_max(0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".upscale-", dir=path.parent) as folder:
            levels, coded = Path(folder) / "levels", Path(folder) / "image"
            image = _described(_gathered(levels, strips, made), like)
            if size is not None and size != made:
                image = _resized(image, size)
            _encode(image, coded, path.suffix.lower())
            # Windows deletes no file that is open.
            del image
            coded.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"Cannot write {path}: {reason}; {_REMEDY}.") from error
    except pyvips.Error as error:
        reason = " ".join(str(error).split())
        raise UserError(f"Cannot write {path}: {reason}; {_REMEDY}.") from error


def _gathered(path: Path, strips: Iterable[NDArray[Any]], size: tuple[int, int]) -> pyvips.Image:
    """The strips as an image whose pixels stay in a file."""
    import pyvips
    import tifffile

    strips = iter(strips)
    first = next(strips)
    channels, deep = first.shape[2], first.dtype == np.uint16
    even = _even(itertools.chain([first], strips))
    with tifffile.TiffWriter(path, bigtiff=True) as out:
        out.write(
            (rows[..., 0] for rows in even) if channels == 1 else even,
            shape=size if channels == 1 else (*size, channels),
            dtype=first.dtype,
            rowsperstrip=_ROWS,
            photometric="minisblack",
            planarconfig=None if channels == 1 else "contig",
            metadata=None,
        )
    image = pyvips.Image.tiffload(os.fsencode(path), access="sequential")
    return image.copy(interpretation=_COLOURS[1 if channels < 3 else 3][deep])


def _even(strips: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The same rows in strips of `_ROWS`, but for the last."""
    begun: list[NDArray[Any]] = []
    for strip in strips:
        start = 0
        while start < len(strip):
            part = strip[start : start + _ROWS - sum(map(len, begun))]
            start += len(part)
            begun.append(part)
            if sum(map(len, begun)) == _ROWS:
                yield np.concatenate(begun)
                begun = []
    if begun:
        yield np.concatenate(begun)


def _described(image: pyvips.Image, like: Photo) -> pyvips.Image:
    import pyvips

    across, down = like.dpi or (_USUAL_DPI, _USUAL_DPI)
    image = image.copy(xres=across / 25.4, yres=down / 25.4)
    for name, data in like.metadata.items():
        image.set_type(pyvips.GValue.blob_type, name, data)
    return image


def _resized(image: pyvips.Image, size: tuple[int, int]) -> pyvips.Image:
    """An image at exactly a size; what is transparent does not colour what is not."""
    format_, transparent = image.format, image.bands in {2, 4}
    white = 255 if format_ == "uchar" else 65535
    if transparent:
        image = image.premultiply(max_alpha=white)
    across, down = size[1] / image.width, size[0] / image.height
    # Without a gap nothing is averaged before the cubic.
    image = image.resize(across, vscale=down, kernel="cubic", gap=0)
    if transparent:
        image = image.unpremultiply(max_alpha=white)
    return image.rint().cast(format_) if image.format != format_ else image


def _encode(image: pyvips.Image, path: Path, suffix: str) -> None:
    save, options, _ = _FORMATS[_SAME.get(suffix, suffix)]
    if save == "tiffsave" and image.width * image.height * image.bands >= 2**30:
        options = {**options, "bigtiff": True}
    getattr(image, save)(os.fsencode(path), keep="all", **options)
