"""Reading and writing image files: the only place where pixels enter or leave the suite.

Every reader returns 8-bit RGB in the order that the eye expects (EXIF orientation applied), and
every problem with a file becomes one sentence that names the file.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from sr_lightning.errors import UserError

__all__ = [
    "IMAGE_SUFFIXES",
    "LOSSY_SUFFIXES",
    "Picture",
    "check_range",
    "find_images",
    "from_unit_range",
    "natural_key",
    "read_picture",
    "read_rgb",
    "to_pixels",
    "to_tensor",
    "to_unit_range",
    "write_image",
]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
LOSSY_SUFFIXES = frozenset({".jpg", ".jpeg"})

_LARGEST = {torch.uint8: 255, torch.uint16: 65535}


@dataclass(frozen=True)
class Picture:
    """One decoded image file.

    Attributes:
        rgb: uint8 array of shape (H, W, 3); grey files have three equal channels.
        alpha: uint8 array of shape (H, W), or None where the file has no transparency.
        grey: whether the file itself holds one colour channel.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None
    grey: bool


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts ``img2`` before ``img10``."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part.lower())
        for part in re.split(r"(\d+)", name)
    ]


def find_images(folder: str | Path) -> list[Path]:
    """List the image files of a folder in natural order (not recursive, hidden files left out).

    Raises:
        UserError: the folder does not exist or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"The folder {folder} does not exist; check the path.")
    files = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    if not files:
        kinds = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise UserError(f"The folder {folder} holds no image (looked for {kinds}).")
    return sorted(files, key=lambda path: natural_key(path.name))


def _open(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # A photograph over 89 megapixels is legitimate here; Pillow's hard limit (twice that)
            # still refuses a decompression bomb.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
            image.load()
    except FileNotFoundError:
        raise UserError(f"The file {path} does not exist; check the path.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; name an image file in it.") from None
    except Image.DecompressionBombError:
        raise UserError(f"The image {path} is too large to be read; cut it into pieces.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if path.stat().st_size == 0:
            raise UserError(f"The file {path} is empty; fetch it again or remove it.") from None
        reason = "truncated" if "truncated" in str(error).lower() else "damaged or not an image"
        raise UserError(f"The file {path} is {reason}; fetch it again or remove it.") from error
    return image


def _without_depth(image: Image.Image) -> Image.Image:
    """Bring 16-bit and float grey files to 8 bits; Pillow would clip them instead."""
    if image.mode.startswith("I;16") or image.mode == "I":
        wide = np.asarray(image).astype(np.int64)
        return Image.fromarray(((wide.clip(0, 65535) + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        real = np.asarray(image).astype(np.float64)
        top = 1.0 if float(real.max(initial=0.0)) <= 1.0 else 255.0
        return Image.fromarray((real / top * 255.0).round().clip(0, 255).astype(np.uint8))
    return image


def read_picture(path: str | Path) -> Picture:
    """Read one image file.

    Reads PNG, JPEG, BMP, TIFF and WebP; grey, grey + alpha, RGB, RGBA, palette, CMYK, 1-bit,
    16-bit and float. 16-bit samples are rounded (grey) or truncated (colour, by Pillow) to 8 bits.
    The EXIF orientation is applied; the first frame of an animation is taken.

    Raises:
        UserError: the file is missing, empty, truncated or no image.
    """
    path = Path(path)
    image = ImageOps.exif_transpose(_without_depth(_open(path)))
    transparent = image.mode in {"LA", "La", "RGBA", "RGBa", "PA"} or "transparency" in image.info
    if transparent and image.mode != "RGBA":
        grey = image.mode in {"LA", "La", "L"}
        image = image.convert("RGBA")
    else:
        grey = image.mode in {"L", "1"}
    alpha = np.asarray(image.getchannel("A")) if transparent else None
    rgb = np.array(image.convert("RGB"), dtype=np.uint8)
    return Picture(rgb=rgb, alpha=alpha, grey=grey)


def read_rgb(path: str | Path) -> NDArray[np.uint8]:
    """Read one image file as uint8 RGB of shape (H, W, 3); transparency is dropped.

    Raises:
        UserError: see :func:`read_picture`.
    """
    return read_picture(path).rgb


def check_range(image: Tensor, beyond: float = 0.01) -> None:
    """Refuse floats that are not levels in [0, 1].

    Args:
        image: float, any shape, not empty.
        beyond: how far outside of [0, 1] a value may lie.

    Raises:
        UserError: a value lies farther outside, or is not a number.
    """
    low, high = (float(value) for value in image.detach().aminmax())
    # NaN is neither.
    if not (low >= -beyond and high <= 1 + beyond):
        raise UserError(
            f"The image holds values from {low:g} to {high:g}, but floats are taken in [0, 1]; "
            "divide levels of 0 to 255 by 255, clip what overshoots, and replace NaN."
        )


def to_unit_range(image: Tensor, beyond: float = 0.01) -> Tensor:
    """Levels of an image in [0, 1], whatever type holds them.

    Args:
        image: uint8, uint16 (white is 65535) or float in [0, 1]; any shape.
        beyond: how far outside of [0, 1] a float may lie.

    Returns:
        float32 of integers; floats as they are.

    Raises:
        UserError: the image is empty, of another type, or outside of the range.
    """
    if image.numel() == 0:
        raise UserError(f"The image is empty: its shape is {tuple(image.shape)}.")
    if image.dtype in _LARGEST:
        return image.float().div_(_LARGEST[image.dtype])
    if not image.is_floating_point():
        kind = str(image.dtype).removeprefix("torch.")
        raise UserError(
            f"The image is of {kind}, which does not say which level is white; "
            "give uint8, uint16 (white is 65535) or floats in [0, 1]."
        )
    check_range(image, beyond)
    return image


def from_unit_range(image: Tensor, dtype: torch.dtype) -> Tensor:
    """The inverse of :func:`to_unit_range`, clamped; halves are rounded up, as MATLAB does.

    Args:
        image: float in about [0, 1]; any shape.
        dtype: uint8, uint16 or float.

    Raises:
        UserError: the image holds NaN.
    """
    image = image.detach()
    if bool(image.isnan().any()):
        raise UserError(
            "The result holds NaN: the network's weights are broken, or numbers overflowed in "
            "16 bits; use other weights, or compute in float32."
        )
    if dtype not in _LARGEST:
        return image.clamp(0, 1).to(dtype)
    largest = _LARGEST[dtype]
    # MPS has no float64.
    exact = image.float() if image.device.type == "mps" else image.double()
    return exact.mul(largest).add(0.5).floor().clamp(0, largest).to(dtype)


def to_tensor(pixels: NDArray[Any]) -> Tensor:
    """Turn an array (H, W, C) into a float32 tensor (C, H, W) in [0, 1].

    Args:
        pixels: uint8, uint16 (white is 65535) or float in [0, 1].

    Raises:
        UserError: it is no such array; :func:`sr_lightning.upscale` takes other kinds of images.
    """
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 3:
        what = f"shape {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise UserError(f"Give an array (H, W, C), not {what}; sr_lightning.upscale takes others.")
    return to_unit_range(torch.from_numpy(pixels.transpose(2, 0, 1).copy())).float()


def to_pixels(image: Tensor) -> NDArray[np.uint8]:
    """Round a float (C, H, W) tensor in [0, 1] to uint8 (H, W, C), as every protocol does.

    Raises:
        UserError: it is not one image, or holds NaN.
    """
    if image.ndim != 3:
        raise UserError(f"Give one image (C, H, W), not {tuple(image.shape)}; of a batch image[0].")
    return from_unit_range(image, torch.uint8).permute(1, 2, 0).cpu().numpy()


def write_image(
    path: str | Path,
    rgb: NDArray[np.uint8],
    *,
    alpha: NDArray[np.uint8] | None = None,
    grey: bool = False,
    quality: int = 95,
) -> None:
    """Write uint8 RGB pixels to a file whose suffix names the format.

    Args:
        path: where to; missing folders are made.
        rgb: (H, W, 3).
        alpha: (H, W), kept by the formats that can hold it.
        grey: write one channel (the first), for pictures that were grey when read.
        quality: of lossy formats.

    Raises:
        UserError: the suffix is unknown or the place cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise UserError(f"Cannot write {path}: use one of {', '.join(sorted(IMAGE_SUFFIXES))}.")
    bands = [rgb[..., 0]] if grey else [rgb[..., 0], rgb[..., 1], rgb[..., 2]]
    if alpha is not None and suffix not in LOSSY_SUFFIXES | {".bmp"}:
        if suffix == ".webp" and grey:
            bands = [rgb[..., 0]] * 3
        bands.append(alpha)
    pixels = bands[0] if len(bands) == 1 else np.stack(bands, axis=-1)
    options: dict[str, Any] = {"quality": quality} if suffix in LOSSY_SUFFIXES else {}
    if suffix == ".webp":
        options = {"lossless": True}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **options)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror or error}.") from error
