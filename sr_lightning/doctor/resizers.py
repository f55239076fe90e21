"""The ways in which people downscale HR images, as functions of 8-bit pixels.

Each is what a user of that library gets from the obvious call. OpenCV and kornia are not needed:
what their resizes do to 8-bit images is written out here, and tests compare it with their pixels.
For whole scales the bytes are the same; for others some differ by one level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from sr_lightning.data.resize import Boundary, imresize

__all__ = ["DOWNSCALERS", "REFERENCE", "UPSCALERS", "Pixels", "Resizer"]

Pixels = NDArray[np.uint8]
Size = tuple[int, int]
Make = Callable[[Pixels, Size], Pixels]

# Fixed-point OpenCV weights have 11 bits, and there are two passes.
_ONE = 2**11

# Float results that are whole numbers in exact arithmetic must not be truncated to the level below.
_ULP = 1e-3

_AGAIN = "make them again by MATLAB's bicubic ('sr-lightning test' makes its own from HR images)"
_CLOSE = "results move by hundredths of a dB; for exact comparisons " + _AGAIN
_DARK = "the images are half a level too dark: round (x + 0.5) when saving; " + _AGAIN
_CROP = "crop HR images to a multiple of the scale first ('modcrop'); then " + _AGAIN
_OTHER_TASK = (
    "published numbers are for MATLAB's antialiased bicubic: numbers on these images compare with "
    "none of them; " + _AGAIN
)


@dataclass(frozen=True)
class Resizer:
    """A way to downscale images.

    Attributes:
        key: Short name, for machines.
        label: Name for people.
        make: Function of uint8 pixels (H, W, 3) and a size (h, w) that gives uint8 (h, w, 3).
        remedy: What to do about LR images that were made so; empty where nothing need be done.
        same_task: Whether results on such images move by hundredths of a dB only.
        uncropped: Whether it takes HR images whose sides are no multiples of the scale.
    """

    key: str
    label: str
    make: Make
    remedy: str = _OTHER_TASK
    same_task: bool = False
    uncropped: bool = False


def _planes(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _saved(levels: Tensor, truncated: bool = False, even: bool = False) -> Pixels:
    """Float levels (3, h, w) as uint8 (h, w, 3), halves rounded up, or to even as torch does."""
    levels = levels.double()
    whole = levels.round() if even else levels.add(_ULP if truncated else 0.5).floor()
    return whole.clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


def _matlab(boundary: Boundary = "replicate", antialias: bool = True) -> Make:
    def make(pixels: Pixels, size: Size) -> Pixels:
        small = imresize(_planes(pixels), size=size, boundary=boundary, antialias=antialias)
        return small.permute(1, 2, 0).numpy()

    return make


def _matlab_scale(boundary: Boundary = "replicate") -> Make:
    """``imresize(A, 1 / s)`` of an image that was not cropped: the size is rounded up, s is not."""

    def make(pixels: Pixels, size: Size) -> Pixels:
        scale = 1 / round(pixels.shape[0] / size[0])
        small = imresize(_planes(pixels), scale, boundary=boundary).permute(1, 2, 0).numpy()
        # Another size means that this was not the call.
        return small if small.shape[:2] == size else np.zeros((*size, 3), np.uint8)

    return make


def _matlab_float(boundary: Boundary = "symmetric", truncated: bool = False) -> Make:
    def make(pixels: Pixels, size: Size) -> Pixels:
        small = imresize(_planes(pixels).double(), size=size, boundary=boundary)
        return _saved(small, truncated)

    return make


def _torch(mode: str, antialias: bool = False, truncated: bool = False) -> Make:
    def make(pixels: Pixels, size: Size) -> Pixels:
        image = _planes(pixels)[None].double()
        small = F.interpolate(image, size, mode=mode, antialias=antialias, align_corners=False)
        return _saved(small[0], truncated, even=not truncated)

    return make


def _pil(method: Image.Resampling) -> Make:
    def make(pixels: Pixels, size: Size) -> Pixels:
        return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), method))

    return make


def _kornia(pixels: Pixels, size: Size) -> Pixels:
    """``resize(antialias=True)``: a Gaussian blur that grows with the scale, then bicubic."""
    image = _planes(pixels)[:, None].float()
    # Columns first and in float32, as kornia does: then every byte is the same.
    for axis in (1, 0):
        sigma = max((pixels.shape[axis] / size[axis] - 1) / 2, 0.001)
        reach = int(max(4 * sigma, 3)) // 2
        line = torch.exp(-(torch.arange(-reach, reach + 1).float() ** 2) / (2 * sigma**2))
        line = (line / line.sum()).view((1, 1, 1, -1) if axis else (1, 1, -1, 1))
        padding = [reach, reach, 0, 0] if axis else [0, 0, reach, reach]
        image = F.conv2d(F.pad(image, padding, mode="reflect"), line)
    return _saved(F.interpolate(image, size, mode="bicubic", align_corners=False)[:, 0])


def _area(pixels: Pixels, size: Size) -> Pixels:
    """OpenCV's INTER_AREA: the mean of what lies under a pixel; halves up at x2, to even beyond."""
    rows, columns = (_coverage(n, m) for n, m in zip(pixels.shape[:2], size, strict=True))
    mean = np.einsum("iy,yxc,jx->ijc", rows, pixels.astype(np.float64), columns, optimize=True)
    halves_up = pixels.shape[:2] == (2 * size[0], 2 * size[1])
    whole: Pixels = (np.floor(mean + 0.5 + 1e-9) if halves_up else np.rint(mean.round(9))).astype(
        np.uint8
    )
    return whole


@lru_cache(maxsize=64)
def _coverage(n_in: int, n_out: int) -> NDArray[np.float64]:
    """Which part of each output sample each input sample covers: (n_out, n_in)."""
    step = n_in / n_out
    start = np.arange(n_out)[:, None] * step
    left = np.maximum(start, np.arange(n_in))
    right = np.minimum(start + step, np.arange(n_in) + 1)
    covered: NDArray[np.float64] = (right - left).clip(0) / step
    return covered


def _opencv(pixels: Pixels, size: Size, *, cubic: bool) -> Pixels:
    """INTER_CUBIC (a = -0.75) or INTER_LINEAR in OpenCV's whole-number arithmetic."""
    rows, columns = (_opencv_taps(n, m, cubic) for n, m in zip(pixels.shape[:2], size, strict=True))
    work = pixels.astype(np.int64)
    work = np.einsum("jkyc,jk->jyc", work.transpose(1, 0, 2)[columns[0]], columns[1])
    work = np.einsum("ikjc,ik->ijc", work.transpose(1, 0, 2)[rows[0]], rows[1])
    # Halves of cubic sums go to even: OpenCV's vectorised code rounds them as floats.
    whole = np.rint(work / _ONE**2) if cubic else np.floor(work / _ONE**2 + 0.5)
    levels: Pixels = whole.clip(0, 255).astype(np.uint8)
    return levels


@lru_cache(maxsize=64)
def _opencv_taps(n_in: int, n_out: int, cubic: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices and fixed-point weights of what an output sample sees: both (n_out, k)."""
    position = (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5
    first = np.floor(position)
    x = position - first
    if cubic:
        a = -0.75
        far, near = a * (x + 1), (a + 2) * x
        weights = [
            ((far - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a,
            (near - (a + 3)) * x * x + 1,
            ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1,
        ]
        weight = np.stack([*weights, 1 - sum(weights)], axis=1)
        offset = np.arange(-1, 3)
    else:
        weight, offset = np.stack([1 - x, x], axis=1), np.arange(2)
    index = (first[:, None].astype(np.int64) + offset).clip(0, n_in - 1)
    return index, np.rint(weight * _ONE).astype(np.int64)


def _every(pixels: Pixels, size: Size, *, phase: float) -> Pixels:
    """One pixel of each cell, by nearest-neighbour: its first (phase 0) or central one (0.5)."""
    rows, columns = (
        np.floor((np.arange(m) + phase) * (n / m)).astype(np.int64)
        for n, m in zip(pixels.shape[:2], size, strict=True)
    )
    return np.ascontiguousarray(pixels[rows][:, columns])


def _blurred(pixels: Pixels, size: Size, *, phase: float) -> Pixels:
    """The "BD" degradation: 7 x 7 Gaussian of sigma 1.6, then one pixel of each cell."""
    image = pixels.astype(np.float64)
    blurred = gaussian_filter(image, 1.6, radius=3, mode="nearest", axes=(0, 1))
    return _every(np.floor(blurred + 0.5).astype(np.uint8), size, phase=phase)


def _close(key: str, label: str, make: Make, first: str = "") -> Resizer:
    return Resizer(key, label, make, first + _CLOSE, same_task=True)


def _bd(key: str, which: str, phase: float) -> Resizer:
    label = f"Gaussian blur 7x7 sigma 1.6 and {which} ('BD')"
    remedy = "this is the BD degradation: compare with BD rows only"
    return Resizer(key, label, partial(_blurred, phase=phase), remedy)


_Method = Image.Resampling
REFERENCE = Resizer(
    "matlab_classic", "MATLAB imresize, classic (the usual test LRs)", _matlab(), "", same_task=True
)
_CROPPED: tuple[Resizer, ...] = (
    REFERENCE,
    _close(
        "matlab_symmetric",
        "MATLAB imresize, modern (mirrored borders)",
        _matlab("symmetric"),
        "only the rim differs from the usual test LRs: ",
    ),
    _close("matlab_float", "MATLAB imresize of floats, modern; BasicSR", _matlab_float()),
    Resizer(
        "matlab_float_truncated",
        "MATLAB imresize of floats or BasicSR, truncated to 8 bits",
        _matlab_float(truncated=True),
        _DARK,
    ),
    _close(
        "matlab_float_replicate", "MATLAB imresize of floats, classic", _matlab_float("replicate")
    ),
    Resizer(
        "matlab_plain",
        "bicubic a=-0.5 without antialiasing (TensorFlow 2, MATLAB 'Antialiasing' false)",
        _matlab(antialias=False),
    ),
    _close("pil_bicubic", "Pillow BICUBIC (torchvision on images)", _pil(_Method.BICUBIC)),
    _close("torch_antialias", "torch bicubic, antialias=True", _torch("bicubic", True)),
    Resizer(
        "torch_antialias_truncated",
        "torch bicubic, antialias=True, truncated to 8 bits",
        _torch("bicubic", True, truncated=True),
        _DARK,
    ),
    Resizer(
        "opencv_cubic", "OpenCV INTER_CUBIC (a=-0.75, no antialias)", partial(_opencv, cubic=True)
    ),
    Resizer("torch_plain", "torch bicubic, no antialias (a=-0.75)", _torch("bicubic")),
    Resizer(
        "torch_plain_truncated",
        "torch bicubic, no antialias (a=-0.75), truncated to 8 bits",
        _torch("bicubic", truncated=True),
    ),
    Resizer("opencv_area", "OpenCV INTER_AREA (mean of each cell)", _area),
    Resizer("opencv_linear", "OpenCV INTER_LINEAR (no antialias)", partial(_opencv, cubic=False)),
    Resizer("torch_bilinear", "torch bilinear, no antialias", _torch("bilinear")),
    Resizer("kornia", "kornia resize, antialias=True", _kornia),
    Resizer("pil_bilinear", "Pillow BILINEAR", _pil(_Method.BILINEAR)),
    Resizer("pil_lanczos", "Pillow LANCZOS", _pil(_Method.LANCZOS)),
    Resizer("pil_box", "Pillow BOX", _pil(_Method.BOX)),
    Resizer("pil_hamming", "Pillow HAMMING", _pil(_Method.HAMMING)),
    Resizer(
        "nearest_central",
        "nearest neighbour, central pixel (Pillow, torch nearest-exact)",
        partial(_every, phase=0.5),
    ),
    Resizer(
        "nearest_first",
        "nearest neighbour, first pixel (OpenCV, torch, x[::s, ::s])",
        partial(_every, phase=0.0),
        _OTHER_TASK + "; they are also shifted by (s - 1) / 2 HR pixels",
    ),
    _bd("blur_first", "every s-th pixel", 0.0),
    _bd("blur_central", "central pixels", 0.5),
)


def _uncropped(resizer: Resizer) -> Resizer:
    label = f"{resizer.label}, of HR images that were not cropped"
    return replace(resizer, label=label, remedy=_CROP, same_task=False, uncropped=True)


DOWNSCALERS: tuple[Resizer, ...] = (
    *_CROPPED,
    *map(
        _uncropped,
        (
            Resizer("matlab_classic_uncropped", "MATLAB imresize, classic", _matlab_scale()),
            Resizer(
                "matlab_symmetric_uncropped", "MATLAB imresize, modern", _matlab_scale("symmetric")
            ),
            *_CROPPED,
        ),
    ),
)
"""Every way that is known, the usual one first; commoner ones stand before others."""

UPSCALERS: dict[str, Make] = {
    "MATLAB's bicubic upscaling": _matlab_float("replicate"),
    "MATLAB's bicubic upscaling in uint8": _matlab(),
    "bicubic with a=-0.75 (torch, OpenCV)": _torch("bicubic"),
    "Pillow's BICUBIC": _pil(_Method.BICUBIC),
    "bilinear interpolation": _torch("bilinear"),
    "nearest neighbour": partial(_every, phase=0.5),
}
"""How a baseline is upscaled."""
