"""The ways in which people downscale HR images, as functions of 8-bit pixels.

Each is what a user of that library gets from the obvious call. OpenCV is not needed: what its
resizes do to 8-bit images is written out here, and tests compare it with pixels that OpenCV 5.0
made. For whole scales the bytes are the same; for others some differ by one level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from kornia.geometry.transform import resize as kornia_resize
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sr_lightning.data.resize import Boundary, imresize

__all__ = ["ENLARGERS", "REFERENCE", "RESIZERS", "SCALAR", "Pixels", "Resizer"]

Pixels = NDArray[np.uint8]
Size = tuple[int, int]

# Fixed-point OpenCV weights have 11 bits, and there are two passes.
_ONE = 2**11

# Float results that are whole numbers in exact arithmetic must not be truncated to the level below.
_ULP = 1e-3


@dataclass(frozen=True)
class Resizer:
    """A way to downscale images.

    Attributes:
        key: short name, for machines.
        label: for people.
        make: uint8 (H, W, 3) and (h, w) to uint8 (h, w, 3).
        remedy: what to do about LR images that were made so; empty where nothing need be done.
    """

    key: str
    label: str
    make: Callable[[Pixels, Size], Pixels]
    remedy: str = ""


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _pixels(levels: Tensor, truncated: bool = False, even: bool = False) -> Pixels:
    """Float levels (3, h, w) as uint8 (h, w, 3), halves rounded up, or to even as torch does."""
    levels = levels.double()
    whole = levels.round() if even else levels.add(_ULP if truncated else 0.5).floor()
    whole = whole.clamp(0, 255)
    return whole.to(torch.uint8).permute(1, 2, 0).numpy()


def _matlab(
    pixels: Pixels, size: Size, *, boundary: Boundary = "replicate", antialias: bool = True
) -> Pixels:
    small = imresize(_tensor(pixels), size=size, boundary=boundary, antialias=antialias)
    return small.permute(1, 2, 0).numpy()


def _matlab_scalar(pixels: Pixels, size: Size, *, boundary: Boundary = "replicate") -> Pixels:
    """``imresize(A, 1 / s)`` of an image that was not cropped: the size is rounded up, s is not."""
    scale = 1 / round(pixels.shape[0] / size[0])
    small = imresize(_tensor(pixels), scale, boundary=boundary).permute(1, 2, 0).numpy()
    # Another size means that this was not the call.
    return small if small.shape[:2] == size else np.zeros((*size, 3), np.uint8)


def _matlab_float(
    pixels: Pixels, size: Size, *, boundary: Boundary = "symmetric", truncated: bool = False
) -> Pixels:
    return _pixels(imresize(_tensor(pixels).double(), size=size, boundary=boundary), truncated)


def _torch(
    pixels: Pixels, size: Size, *, mode: str, antialias: bool = False, truncated: bool = False
) -> Pixels:
    image = _tensor(pixels)[None].double()
    small = F.interpolate(image, size, mode=mode, antialias=antialias, align_corners=False)
    return _pixels(small[0], truncated, even=not truncated)


def _kornia(pixels: Pixels, size: Size) -> Pixels:
    image = _tensor(pixels)[None].float()
    return _pixels(kornia_resize(image, size, "bicubic", antialias=True)[0])


def _pil(pixels: Pixels, size: Size, *, method: Image.Resampling) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), method))


def _clipped(levels: NDArray[np.float64]) -> Pixels:
    whole: Pixels = levels.clip(0, 255).astype(np.uint8)
    return whole


def _area(pixels: Pixels, size: Size) -> Pixels:
    """OpenCV's INTER_AREA: the mean of what lies under a pixel; halves up at x2, to even beyond."""
    rows, columns = (_coverage(n, m) for n, m in zip(pixels.shape[:2], size, strict=True))
    mean = np.einsum("iy,yxc,jx->ijc", rows, pixels.astype(np.float64), columns, optimize=True)
    if pixels.shape[:2] == (2 * size[0], 2 * size[1]):
        return _clipped(np.floor(mean + 0.5 + 1e-9))
    return _clipped(np.rint(mean.round(9)))


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
    if cubic:
        # Halves go to even: OpenCV's vectorised code rounds the sum as a float.
        return _clipped(np.rint(work / _ONE**2))
    return _clipped(np.floor(work / _ONE**2 + 0.5))


@lru_cache(maxsize=64)
def _opencv_taps(n_in: int, n_out: int, cubic: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices and fixed-point weights of what an output sample sees: both (n_out, k)."""
    position = (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5
    first = np.floor(position)
    x = position - first
    if cubic:
        a = -0.75
        far, near = a * (x + 1), (a + 2) * x
        weight = np.stack(
            [
                ((far - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a,
                (near - (a + 3)) * x * x + 1,
                ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1,
            ],
            axis=1,
        )
        weight = np.concatenate([weight, 1 - weight.sum(axis=1, keepdims=True)], axis=1)
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
    offsets = np.arange(-3, 4)
    kernel = np.exp(-(offsets**2) / (2 * 1.6**2))
    line = torch.from_numpy(kernel / kernel.sum())
    image = F.pad(_tensor(pixels)[:, None].double(), (3, 3, 3, 3), mode="replicate")
    image = F.conv2d(F.conv2d(image, line.view(1, 1, 7, 1)), line.view(1, 1, 1, 7))
    return _every(_pixels(image[:, 0]), size, phase=phase)


_AGAIN = "make them again by MATLAB's bicubic ('sr-lightning test' makes its own from HR images)"
_CLOSE = "results move by hundredths of a dB; for exact comparisons " + _AGAIN
_OTHER_TASK = (
    "published numbers are for MATLAB's antialiased bicubic: numbers on these images compare with "
    "none of them; " + _AGAIN
)

REFERENCE = Resizer("matlab_classic", "MATLAB imresize, classic (the usual test LRs)", _matlab)

RESIZERS: tuple[Resizer, ...] = (
    REFERENCE,
    Resizer(
        "matlab_symmetric",
        "MATLAB imresize, modern (mirrored borders)",
        partial(_matlab, boundary="symmetric"),
        remedy="only the rim differs from the usual test LRs: " + _CLOSE,
    ),
    Resizer(
        "matlab_float", "MATLAB imresize of floats, modern; BasicSR", _matlab_float, remedy=_CLOSE
    ),
    Resizer(
        "matlab_float_truncated",
        "MATLAB imresize of floats or BasicSR, truncated to 8 bits",
        partial(_matlab_float, truncated=True),
        remedy="the images are half a level too dark: round (x + 0.5) when saving; " + _AGAIN,
    ),
    Resizer(
        "matlab_float_replicate",
        "MATLAB imresize of floats, classic",
        partial(_matlab_float, boundary="replicate"),
        remedy=_CLOSE,
    ),
    Resizer(
        "matlab_plain",
        "bicubic a=-0.5 without antialiasing (TensorFlow 2, MATLAB 'Antialiasing' false)",
        partial(_matlab, antialias=False),
        remedy=_OTHER_TASK,
    ),
    Resizer(
        "pil_bicubic",
        "Pillow BICUBIC (torchvision on images)",
        partial(_pil, method=Image.Resampling.BICUBIC),
        remedy=_CLOSE,
    ),
    Resizer(
        "torch_antialias",
        "torch bicubic, antialias=True",
        partial(_torch, mode="bicubic", antialias=True),
        remedy=_CLOSE,
    ),
    Resizer(
        "torch_antialias_truncated",
        "torch bicubic, antialias=True, truncated to 8 bits",
        partial(_torch, mode="bicubic", antialias=True, truncated=True),
        remedy="the images are half a level too dark: round (x + 0.5) when saving; " + _AGAIN,
    ),
    Resizer(
        "opencv_cubic",
        "OpenCV INTER_CUBIC (a=-0.75, no antialias)",
        partial(_opencv, cubic=True),
        remedy=_OTHER_TASK,
    ),
    Resizer(
        "torch_plain",
        "torch bicubic, no antialias (a=-0.75)",
        partial(_torch, mode="bicubic"),
        remedy=_OTHER_TASK,
    ),
    Resizer(
        "torch_plain_truncated",
        "torch bicubic, no antialias (a=-0.75), truncated to 8 bits",
        partial(_torch, mode="bicubic", truncated=True),
        remedy=_OTHER_TASK,
    ),
    Resizer("opencv_area", "OpenCV INTER_AREA (mean of each cell)", _area, remedy=_OTHER_TASK),
    Resizer(
        "opencv_linear",
        "OpenCV INTER_LINEAR (no antialias)",
        partial(_opencv, cubic=False),
        remedy=_OTHER_TASK,
    ),
    Resizer(
        "torch_bilinear",
        "torch bilinear, no antialias",
        partial(_torch, mode="bilinear"),
        remedy=_OTHER_TASK,
    ),
    Resizer("kornia", "kornia resize, antialias=True", _kornia, remedy=_OTHER_TASK),
    Resizer(
        "pil_bilinear",
        "Pillow BILINEAR",
        partial(_pil, method=Image.Resampling.BILINEAR),
        remedy=_OTHER_TASK,
    ),
    Resizer(
        "pil_lanczos",
        "Pillow LANCZOS",
        partial(_pil, method=Image.Resampling.LANCZOS),
        remedy=_OTHER_TASK,
    ),
    Resizer(
        "pil_box", "Pillow BOX", partial(_pil, method=Image.Resampling.BOX), remedy=_OTHER_TASK
    ),
    Resizer(
        "pil_hamming",
        "Pillow HAMMING",
        partial(_pil, method=Image.Resampling.HAMMING),
        remedy=_OTHER_TASK,
    ),
    Resizer(
        "nearest_central",
        "nearest neighbour, central pixel (Pillow, torch nearest-exact)",
        partial(_every, phase=0.5),
        remedy=_OTHER_TASK,
    ),
    Resizer(
        "nearest_first",
        "nearest neighbour, first pixel (OpenCV, torch, x[::s, ::s])",
        partial(_every, phase=0.0),
        remedy=_OTHER_TASK + "; they are also shifted by (s - 1) / 2 HR pixels",
    ),
    Resizer(
        "blur_first",
        "Gaussian blur 7x7 sigma 1.6 and every s-th pixel ('BD')",
        partial(_blurred, phase=0.0),
        remedy="this is the BD degradation: compare with BD rows only",
    ),
    Resizer(
        "blur_central",
        "Gaussian blur 7x7 sigma 1.6 and central pixels ('BD')",
        partial(_blurred, phase=0.5),
        remedy="this is the BD degradation: compare with BD rows only",
    ),
)

SCALAR: tuple[Resizer, ...] = (
    Resizer(
        "matlab_classic_uncropped",
        "MATLAB imresize, classic, of HR images that were not cropped",
        _matlab_scalar,
        remedy="crop HR images to a multiple of the scale first ('modcrop') and " + _AGAIN,
    ),
    Resizer(
        "matlab_symmetric_uncropped",
        "MATLAB imresize, modern, of HR images that were not cropped",
        partial(_matlab_scalar, boundary="symmetric"),
        remedy="crop HR images to a multiple of the scale first ('modcrop') and " + _AGAIN,
    ),
)

ENLARGERS: tuple[Resizer, ...] = (
    Resizer(
        "matlab_float", "MATLAB's bicubic upscaling", partial(_matlab_float, boundary="replicate")
    ),
    Resizer("matlab_classic", "MATLAB's bicubic upscaling in uint8", _matlab),
    Resizer("torch_plain", "bicubic with a=-0.75 (torch, OpenCV)", partial(_torch, mode="bicubic")),
    Resizer("pil_bicubic", "Pillow's BICUBIC", partial(_pil, method=Image.Resampling.BICUBIC)),
    Resizer("bilinear", "bilinear interpolation", partial(_torch, mode="bilinear")),
    Resizer("nearest", "nearest neighbour", partial(_every, phase=0.5)),
)
"""How a baseline is upscaled; the functions are those of :data:`RESIZERS`."""
