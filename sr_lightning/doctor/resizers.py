"""The ways in which people downscale HR images, as functions of 8-bit pixels.

Each is what a user of that library gets from the obvious call. OpenCV and kornia are not needed:
what their resizes do to 8-bit images is written out here, and tests compare it with their pixels.
For whole scales the bytes are the same; for others some differ by one level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Resizer:
    """A way to downscale images.

    Attributes:
        key: Short name, for machines.
        label: Name for people.
        make: Function of uint8 pixels (H, W, 3) and a size (h, w) that gives uint8 (h, w, 3).
        finding: What is found in LR images that were made so; see ``findings.yaml``.
        uncropped: Whether it takes HR images whose sides are no multiples of the scale.
    """

    key: str
    label: str
    make: Make
    finding: str
    uncropped: bool


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


_Method = Image.Resampling
_WAYS: dict[str, tuple[str, Make]] = {
    "matlab_classic_uncropped": ("MATLAB imresize, classic", _matlab_scale()),
    "matlab_symmetric_uncropped": ("MATLAB imresize, modern", _matlab_scale("symmetric")),
    "matlab_classic": ("MATLAB imresize, classic (the usual test LRs)", _matlab()),
    "matlab_symmetric": ("MATLAB imresize, modern (mirrored borders)", _matlab("symmetric")),
    "matlab_float": ("MATLAB imresize of floats, modern; BasicSR", _matlab_float()),
    "matlab_float_truncated": (
        "MATLAB imresize of floats or BasicSR, truncated to 8 bits",
        _matlab_float(truncated=True),
    ),
    "matlab_float_replicate": ("MATLAB imresize of floats, classic", _matlab_float("replicate")),
    "matlab_plain": (
        "bicubic a=-0.5 without antialiasing (TensorFlow 2, MATLAB 'Antialiasing' false)",
        _matlab(antialias=False),
    ),
    "pil_bicubic": ("Pillow BICUBIC (torchvision on images)", _pil(_Method.BICUBIC)),
    "torch_antialias": ("torch bicubic, antialias=True", _torch("bicubic", True)),
    "torch_antialias_truncated": (
        "torch bicubic, antialias=True, truncated to 8 bits",
        _torch("bicubic", True, truncated=True),
    ),
    "opencv_cubic": ("OpenCV INTER_CUBIC (a=-0.75, no antialias)", partial(_opencv, cubic=True)),
    "torch_plain": ("torch bicubic, no antialias (a=-0.75)", _torch("bicubic")),
    "torch_plain_truncated": (
        "torch bicubic, no antialias (a=-0.75), truncated to 8 bits",
        _torch("bicubic", truncated=True),
    ),
    "opencv_area": ("OpenCV INTER_AREA (mean of each cell)", _area),
    "opencv_linear": ("OpenCV INTER_LINEAR (no antialias)", partial(_opencv, cubic=False)),
    "torch_bilinear": ("torch bilinear, no antialias", _torch("bilinear")),
    "kornia": ("kornia resize, antialias=True", _kornia),
    "pil_bilinear": ("Pillow BILINEAR", _pil(_Method.BILINEAR)),
    "pil_lanczos": ("Pillow LANCZOS", _pil(_Method.LANCZOS)),
    "pil_box": ("Pillow BOX", _pil(_Method.BOX)),
    "pil_hamming": ("Pillow HAMMING", _pil(_Method.HAMMING)),
    "nearest_central": (
        "nearest neighbour, central pixel (Pillow, torch nearest-exact)",
        partial(_every, phase=0.5),
    ),
    "nearest_first": (
        "nearest neighbour, first pixel (OpenCV, torch, x[::s, ::s])",
        partial(_every, phase=0.0),
    ),
    "blur_first": (
        "Gaussian blur 7x7 sigma 1.6 and every s-th pixel ('BD')",
        partial(_blurred, phase=0.0),
    ),
    "blur_central": (
        "Gaussian blur 7x7 sigma 1.6 and central pixels ('BD')",
        partial(_blurred, phase=0.5),
    ),
}
# What is found in LR images that were made so; of all others, that they are for another task.
_FINDINGS = {
    "matlab_symmetric": "lr_other_borders",
    "matlab_float": "lr_nearly_usual",
    "matlab_float_truncated": "lr_truncated",
    "matlab_float_replicate": "lr_nearly_usual",
    "pil_bicubic": "lr_nearly_usual",
    "torch_antialias": "lr_nearly_usual",
    "torch_antialias_truncated": "lr_truncated",
    "nearest_first": "lr_first_pixels",
    "blur_first": "lr_bd",
    "blur_central": "lr_bd",
}


def _resizers(uncropped: bool) -> Iterator[Resizer]:
    of = ", of HR images that were not cropped" if uncropped else ""
    for key, (label, make) in _WAYS.items():
        if uncropped or not key.endswith("_uncropped"):
            found = "lr_uncropped" if uncropped else _FINDINGS.get(key, "lr_other_task")
            yield Resizer(key, label + of, make, found, uncropped)


DOWNSCALERS = (*_resizers(uncropped=False), *_resizers(uncropped=True))
"""Every way that is known, the usual one first."""

REFERENCE = DOWNSCALERS[0]
"""The way in which the usual LR images are made."""

UPSCALERS: dict[str, Make] = {
    "MATLAB's bicubic upscaling": _matlab_float("replicate"),
    "MATLAB's bicubic upscaling in uint8": _matlab(),
    "bicubic with a=-0.75 (torch, OpenCV)": _torch("bicubic"),
    "Pillow's BICUBIC": _pil(_Method.BICUBIC),
    "bilinear interpolation": _torch("bilinear"),
    "nearest neighbour": partial(_every, phase=0.5),
}
"""How a baseline is upscaled."""
