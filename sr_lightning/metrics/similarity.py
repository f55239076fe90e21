"""Structural similarity of planes, several times faster than filtering with the whole window."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Similarity", "gaussian"]

_TILE = 32
"""Side of a tile: small for the sake of banded matrices, large for the sake of fast products."""


class Similarity:
    """Mean SSIM (Wang et al. 2004) of pairs of planes of one size, levels in [0, 255].

    With s = a + b and d = a - b, their means m and their variances v in the window,

        SSIM = (1 - 2 x) (1 - 2 y)
        x = m_d^2 / (m_s^2 + m_d^2 + 2 C1)
        y = v_d / (v_s + v_d + 2 C2)

    which takes four blurs instead of five and loses nothing where SSIM is nearly 1. A strip of
    rows that fits a core's cache is cut into overlapping tiles, whose blur is a product with a
    banded matrix from either side. v = mean(s^2) - m_s^2 would cancel in float32, so a tile's
    values are taken relative to one of its pixels.

    Args:
        height: Height of the planes, at least the window's side.
        width: Width of the planes, at least the window's side.
        window: Side of the Gaussian window of sigma 1.5.
        dtype: Precision of the arithmetic.
        device: Where the planes are.
    """

    def __init__(
        self, height: int, width: int, window: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.height, self.width = height - window + 1, width - window + 1
        count = math.ceil(self.width / _TILE)
        rows, columns = min(_TILE, self.height), math.ceil(self.width / count)
        high, wide = rows + window - 1, columns + window - 1

        taps = gaussian(window).to(device, dtype)
        self.down, self.across = _band(rows, taps), _band(columns, taps).T.contiguous()
        constants = [2 * (0.01 * 255) ** 2, 2 * (0.03 * 255) ** 2]
        self.constants = torch.tensor(constants, dtype=dtype, device=device).view(2, 1, 1, 1)

        # Memory that all strips share: fresh memory would cost as much as the arithmetic.
        strip = torch.zeros(2, high, count * columns + window - 1, dtype=dtype, device=device)
        self.sum, self.difference = strip[..., :width]
        self.tiles = strip.unfold(2, wide, columns)
        self.origin = self.tiles[:, high // 2, None, :, window // 2, None]
        self.values = strip.new_empty(2, high, count, wide)
        self.blurred_down = strip.new_empty(4, rows, count * wide)
        self.blurred = strip.new_empty(4, rows, count, columns)

    def mean(self, a: Tensor, b: Tensor) -> Tensor:
        """Mean SSIM of two planes (height, width) over the windows that fit in."""
        high, rows = self.values.shape[1], self.blurred.shape[1]
        halves = []
        for begin in range(0, self.height, rows):
            top = min(begin, self.height - rows)  # the last strip overlaps the one before it
            half = self._half_lost(a[top : top + high], b[top : top + high])
            halves.append(half[begin - top :].sum())
        exact = torch.float32 if a.device.type == "mps" else torch.float64
        return 1 - 2 * torch.stack(halves).sum(dtype=exact) / (self.height * self.width)

    def _half_lost(self, a: Tensor, b: Tensor) -> Tensor:
        """(1 - SSIM) / 2 = x + y - 2 x y of each window of a strip."""
        a, b = a.to(self.values.dtype), b.to(self.values.dtype)
        torch.add(a, b, out=self.sum)
        torch.sub(a, b, out=self.difference)
        self._blur()

        means, variances = self.blurred[:2], self.blurred[2:]
        variances.addcmul_(means, means, value=-1)
        means.add_(self.origin).square_()
        of_sum, of_difference = self.blurred[0::2], self.blurred[1::2]
        x, y = of_difference.div_(of_sum.add_(of_difference).add_(self.constants))
        return torch.addcmul(x + y, x, y, value=-2).flatten(1)[:, : self.width]

    def _blur(self) -> None:
        """Moments of sum and difference about their tile's origin: means, then mean squares."""
        torch.sub(self.tiles, self.origin, out=self.values)
        values = self.values.flatten(2)
        torch.matmul(self.down, values, out=self.blurred_down[:2])
        torch.matmul(self.down, values.square_(), out=self.blurred_down[2:])
        rows = self.blurred_down.view(-1, len(self.across))
        torch.mm(rows, self.across, out=self.blurred.flatten(0, 2))


def gaussian(window: int) -> Tensor:
    """Taps of SSIM's window, sigma 1.5, float64; their sum is 1."""
    place = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    taps = torch.exp(-place.square() / (2 * 1.5**2))
    return taps / taps.sum()


def _band(outputs: int, taps: Tensor) -> Tensor:
    """Matrix (outputs, outputs + window - 1) whose row i has the taps from column i on."""
    row = F.pad(taps, (0, outputs))
    return row.repeat(outputs)[: outputs * (len(row) - 1)].view(outputs, -1)
