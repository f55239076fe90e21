"""Bicubic upscaling inside networks: interpolated inputs and global skips of the papers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.cubic import cubic, upscaled_size
from sr_lightning.nn.precision import full_precision

__all__ = ["BicubicUpsample", "bicubic", "bicubic_to", "uncounted_bicubic"]


def bicubic(image: Tensor, scale: float) -> Tensor:
    """Upscale by MATLAB's bicubic with replicated borders, in float32 (of float64: in that).

    Equal to ``imresize(image, size=...)`` (tested) but differentiable, exportable and, for whole
    scales, one small convolution per channel. Autocast is off inside: an image in bfloat16 is
    55 dB away from itself.

    Args:
        image: (N, C, H, W).
        scale: Scale, at least 1; the output size is :func:`~sr_lightning.cubic.upscaled_size`.
    """
    height, width = image.shape[-2:]
    if float(scale).is_integer():
        # Said outright: in an exported graph the sizes are symbols that it cannot be read from.
        return _bicubic_to(image, (height * int(scale), width * int(scale)), int(scale))
    return bicubic_to(image, upscaled_size((height, width), scale))


def bicubic_to(image: Tensor, size: tuple[int, int]) -> Tensor:
    """:func:`bicubic` to a size, with a scale of its own for each axis.

    Args:
        image: (N, C, H, W).
        size: (height, width), at least (H, W).
    """
    height, width = image.shape[-2:]
    whole = size[0] // height
    return _bicubic_to(image, size, whole if size == (height * whole, width * whole) else None)


def _bicubic_to(image: Tensor, size: tuple[int, int], whole: int | None) -> Tensor:
    n, c, h, w = image.shape
    if _UNCOUNTED and image.device.type == "meta":
        return image.new_empty(n, c, *size)
    with full_precision(image):
        image = image.to(torch.promote_types(image.dtype, torch.float32))
        if whole == 1:
            return image
        if whole is not None:
            kernel = _cell_kernel(whole, image.device, image.dtype)
            single = F.pad(image.reshape(n * c, 1, h, w), (2, 2, 2, 2), mode="replicate")
            cells = F.conv2d(single, kernel)
            return F.pixel_shuffle(cells, whole).reshape(n, c, *size)
        rows = _line_matrix(h, size[0], image.device, image.dtype)
        columns = _line_matrix(w, size[1], image.device, image.dtype)
        return rows @ image @ columns.T


class BicubicUpsample(nn.Module):
    """:func:`bicubic` by a fixed scale, as a layer.

    Args:
        scale: Scale, at least 1.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, image: Tensor) -> Tensor:
        """Upscale (N, C, H, W), float32."""
        return bicubic(image, self.scale)


_UNCOUNTED: list[bool] = []


@contextmanager
def uncounted_bicubic() -> Iterator[None]:
    """Context in which interpolation on the meta device costs nothing, as papers count it."""
    _UNCOUNTED.append(True)
    try:
        yield
    finally:
        _UNCOUNTED.pop()


def _kept(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keep what `make` gives, but not what it gives to a graph: those are symbols, no numbers."""
    # What is made in inference mode could not be used in a training later.
    keeping = lru_cache(maxsize=64)(torch.inference_mode(False)(make))

    @wraps(make)
    def get(*args: Any) -> Tensor:
        return make(*args) if torch.compiler.is_compiling() else keeping(*args)

    return get


@_kept
def _cell_kernel(scale: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Weights (scale^2, 1, 5, 5) of the output pixels of one LR pixel's cell.

    Output pixel p of a cell lies (p + 0.5) / s - 0.5 LR pixels from the cell's centre and sees the
    two LR pixels to each side of it; five taps hold all phases.
    """
    phase = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
    taps = torch.arange(-2, 3, dtype=torch.float64)
    line = cubic(phase[:, None] - taps)
    kernel = torch.einsum("py,qx->pqyx", line, line).reshape(scale * scale, 1, 5, 5)
    return kernel.to(device, dtype)


@_kept
def _line_matrix(n_in: int, n_out: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Weights (n_out, n_in) of a one-dimensional upscaling."""
    centre = (torch.arange(n_out, dtype=torch.float64) + 0.5) * n_in / n_out - 0.5
    left = torch.floor(centre) - 1
    taps = left[:, None] + torch.arange(4, dtype=torch.float64)
    weight = cubic(centre[:, None] - taps)
    index = taps.long().clamp(0, n_in - 1)
    matrix = torch.zeros(n_out, n_in, dtype=torch.float64).scatter_add_(1, index, weight)
    return matrix.to(device, dtype)
