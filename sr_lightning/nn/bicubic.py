"""Bicubic enlargement inside networks: interpolated inputs and global skips of the papers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.cubic import cubic, enlarged_size
from sr_lightning.nn.precision import full_precision

__all__ = ["BicubicUpsample", "bicubic", "uncounted_bicubic"]


def bicubic(image: Tensor, scale: float) -> Tensor:
    """Enlarge by MATLAB's bicubic with replicated borders, always in float32.

    Equal to ``imresize(image, size=...)`` (tested) but differentiable, exportable and, for whole
    scales, one small convolution per channel. Autocast is off inside: an image in bfloat16 is
    55 dB away from itself.

    Args:
        image: (N, C, H, W).
        scale: at least 1; the output size is :func:`~sr_lightning.cubic.enlarged_size`.
    """
    if _UNCOUNTED and image.device.type == "meta":
        n, c, h, w = image.shape
        return image.new_empty(n, c, *enlarged_size((h, w), scale))
    with full_precision(image):
        image = image.float()
        if scale == 1:
            return image
        n, c, h, w = image.shape
        if float(scale).is_integer():
            whole = int(scale)
            kernel = _cell_kernel(whole, image.device)
            single = F.pad(image.reshape(n * c, 1, h, w), (2, 2, 2, 2), mode="replicate")
            cells = F.conv2d(single, kernel)
            return F.pixel_shuffle(cells, whole).reshape(n, c, h * whole, w * whole)
        height, width = enlarged_size((h, w), scale)
        rows = _line_matrix(h, height, image.device)
        columns = _line_matrix(w, width, image.device)
        return rows @ image @ columns.T


class BicubicUpsample(nn.Module):
    """:func:`bicubic` by a fixed scale, as a layer.

    Args:
        scale: at least 1.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge (N, C, H, W), float32."""
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


@lru_cache(maxsize=64)
def _cell_kernel(scale: int, device: torch.device) -> Tensor:
    """Weights (scale^2, 1, 5, 5) of the output pixels of one LR pixel's cell.

    Output pixel p of a cell lies (p + 0.5) / s - 0.5 LR pixels from the cell's centre and sees the
    two LR pixels to each side of it; five taps hold all phases.
    """
    phase = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
    taps = torch.arange(-2, 3, dtype=torch.float64)
    line = cubic(phase[:, None] - taps)
    kernel = torch.einsum("py,qx->pqyx", line, line).reshape(scale * scale, 1, 5, 5)
    return kernel.to(device, torch.float32)


@lru_cache(maxsize=64)
def _line_matrix(n_in: int, n_out: int, device: torch.device) -> Tensor:
    """Weights (n_out, n_in) of a one-dimensional enlargement."""
    centre = (torch.arange(n_out, dtype=torch.float64) + 0.5) * n_in / n_out - 0.5
    left = torch.floor(centre) - 1
    taps = left[:, None] + torch.arange(4, dtype=torch.float64)
    weight = cubic(centre[:, None] - taps)
    index = taps.long().clamp(0, n_in - 1)
    matrix = torch.zeros(n_out, n_in, dtype=torch.float64).scatter_add_(1, index, weight)
    return matrix.to(device, torch.float32)
