"""MATLAB's ``imresize`` (bicubic) in torch, byte for byte.

Benchmark LR images in super-resolution are made by MATLAB, and no stock Python resizer makes the
same ones. Two MATLABs exist: the classic one that made the usual test sets (borders replicated,
uint8 images rounded after each of the two passes) and the modern one (borders mirrored). Both are
reproduced here without a differing byte (``tests/test_oracle_matlab.py``).

A resize is two small matrix products, one per axis, so it runs by batch on any device and is
differentiable for float images.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from sr_lightning.cubic import cubic

__all__ = ["Boundary", "imresize", "lr_size", "resize_matrix"]

Boundary = Literal["replicate", "symmetric"]

# Pixel values of an integer resize are multiples of 1/D with a small D, so exact halves are common
# (one pixel in 162 at x3). Double precision misses a half by about 1e-13; this pushes it over the
# edge the way MATLAB goes, whatever the order of summation.
_TIE = 1e-9

# Downscaling by 2, 3, 4 has weights n / D with these D. Whole numbers up to 2^24 are exact in
# float32, so n can be summed there in any order, on any device, at twice the speed of float64.
_DENOMINATOR = {1 / 2: 256, 1 / 3: 162, 1 / 4: 4096}

# Rows of the weight matrix are multiplied in blocks of this many: a block touches only the few
# input samples under its kernels, which turns a dense product into a banded one.
_BLOCK = 32


@lru_cache(maxsize=256)
def resize_matrix(
    n_in: int, n_out: int, scale: float, boundary: Boundary = "replicate", antialias: bool = True
) -> Tensor:
    """Weights of a one-dimensional bicubic resize.

    Args:
        n_in: Samples before.
        n_out: Samples after.
        scale: What maps coordinates, ``out / in``; not always ``n_out / n_in`` (MATLAB's
            ``imresize(A, scale)`` rounds the size up but keeps the scale).
        boundary: What lies outside: the last sample (classic) or the mirror image (modern).
        antialias: Widen the kernel when downscaling, as MATLAB does.

    Returns:
        float64 matrix of shape (n_out, n_in) whose rows sum to 1.
    """
    stretch = min(scale, 1.0) if antialias else 1.0
    width = 4.0 / stretch
    centre = torch.arange(1, n_out + 1, dtype=torch.float64) / scale + 0.5 * (1 - 1 / scale)
    left = torch.floor(centre - width / 2)
    taps = left[:, None] + torch.arange(math.ceil(width) + 2, dtype=torch.float64)
    weight = stretch * cubic(stretch * (centre[:, None] - taps))
    weight = weight / weight.sum(dim=1, keepdim=True)
    index = taps.long() - 1
    if boundary == "replicate":
        index = index.clamp(0, n_in - 1)
    else:
        mirror = torch.cat([torch.arange(n_in), torch.arange(n_in - 1, -1, -1)])
        index = mirror[index % (2 * n_in)]
    return torch.zeros(n_out, n_in, dtype=torch.float64).scatter_add_(1, index, weight)


def lr_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Size of the LR image of an HR image: (H, W) -> (floor(H / s), floor(W / s)).

    Benchmarks crop the HR image to a multiple of an integer scale first; for a real scale the
    nearest whole size not above is taken (within 1e-6, so that 96 / 1.2 is 80).
    """
    height, width = size
    return math.floor(height / scale + 1e-6), math.floor(width / scale + 1e-6)


def imresize(
    image: Tensor,
    scale: float | None = None,
    *,
    size: tuple[int, int] | None = None,
    boundary: Boundary = "replicate",
    antialias: bool = True,
) -> Tensor:
    """Resize by bicubic convolution as MATLAB does.

    uint8 images are rounded and clamped after each pass, as MATLAB does with uint8 arrays; float
    images are not rounded or clamped.

    Args:
        image: (..., H, W), uint8 or float, any device.
        scale: ``imresize(A, scale)``: output of ``ceil(scale * H)`` x ``ceil(scale * W)``.
        size: ``imresize(A, [h w])``: exact output size, one scale per axis. Give this or `scale`.
        boundary: "replicate" (classic MATLAB, the usual test LRs) or "symmetric" (modern).
        antialias: As MATLAB's ``'Antialiasing'``.

    Returns:
        (..., h, w) of the same dtype and device. uint8 is computed in float64, float in its own
        precision.

    Raises:
        ValueError: neither or both of `scale` and `size`, or an empty image or result.
    """
    if (scale is None) == (size is None):
        raise ValueError("Give either scale or size.")
    height, width = image.shape[-2:]
    if size is None:
        assert scale is not None
        # The guard keeps 0.1 * 30 = 3.0000000000000004 from becoming 4.
        size = math.ceil(scale * height - 1e-9), math.ceil(scale * width - 1e-9)
        scales = scale, scale
    else:
        scales = size[0] / height, size[1] / width
    if min(height, width, *size) < 1:
        raise ValueError(f"Cannot resize {height} x {width} to {size[0]} x {size[1]}.")

    exact = image.dtype == torch.uint8
    if not exact and not image.is_floating_point():
        raise ValueError(f"imresize takes uint8 or float images, not {image.dtype}.")
    # MATLAB resizes the axis that downscales most first, rows on a tie.
    rows_first = scales[0] <= scales[1]
    work = image
    for rows in (rows_first, not rows_first):
        axis = 0 if rows else 1
        scaled = image.shape[axis - 2], size[axis], scales[axis], boundary, antialias
        if not exact:
            work = _product(_plan(*scaled, 1, work.dtype, work.device), work, rows)
        elif antialias and (whole := _DENOMINATOR.get(scales[axis])):
            plan = _plan(*scaled, whole, torch.float32, work.device)
            summed = _product(plan, work.to(torch.float32), rows)
            work = summed.add_(whole // 2).div_(whole).floor_().clamp_(0, 255)
        else:
            plan = _plan(*scaled, 1, torch.float64, work.device)
            summed = _product(plan, work.to(torch.float64), rows)
            work = summed.add_(0.5 + _TIE).floor_().clamp_(0, 255)
    return work.to(image.dtype)


@lru_cache(maxsize=256)
def _plan(
    n_in: int,
    n_out: int,
    scale: float,
    boundary: Boundary,
    antialias: bool,
    denominator: int,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[tuple[Tensor, int, int], ...]:
    """The weight matrix as blocks of rows, each with the range of input samples that it reads."""
    matrix = resize_matrix(n_in, n_out, scale, boundary, antialias)
    if denominator != 1:
        matrix = (matrix * denominator).round()
    blocks = []
    for start in range(0, n_out, _BLOCK):
        block = matrix[start : start + _BLOCK]
        used = block.ne(0).any(dim=0).nonzero()
        low, high = int(used[0]), int(used[-1]) + 1
        blocks.append((block[:, low:high].to(device, dtype), low, high))
    return tuple(blocks)


def _product(plan: tuple[tuple[Tensor, int, int], ...], work: Tensor, rows: bool) -> Tensor:
    """The planned matrix applied along the rows or the columns of `work`."""
    if rows:
        parts = [block @ work[..., low:high, :] for block, low, high in plan]
    else:
        parts = [work[..., low:high] @ block.T for block, low, high in plan]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2 if rows else -1)
