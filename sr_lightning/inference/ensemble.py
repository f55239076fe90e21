"""Geometric self-ensemble: the "+" rows of the papers' tables (EDSR, Lim et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["dihedral", "inverse_dihedral", "self_ensemble"]


def dihedral(image: Tensor, which: int) -> Tensor:
    """One of the 8 mirrorings and rotations: bit 2 transposes, bit 1 and 0 mirror rows, columns."""
    if which & 4:
        image = image.transpose(-1, -2)
    axes = [axis for bit, axis in ((2, -2), (1, -1)) if which & bit]
    return image.flip(axes) if axes else image


def inverse_dihedral(image: Tensor, which: int) -> Tensor:
    """The inverse of :func:`dihedral`."""
    axes = [axis for bit, axis in ((2, -2), (1, -1)) if which & bit]
    image = image.flip(axes) if axes else image
    return image.transpose(-1, -2) if which & 4 else image


def self_ensemble(upscale: Callable[[Tensor], Tensor], lr: Tensor) -> Tensor:
    """Mean answer over the 8 mirrorings and rotations of an image.

    Args:
        upscale: (N, 3, H, W) to (N, 3, sH, sW).
        lr: (N, 3, H, W).
    """
    total = torch.zeros(())
    for which in range(8):
        answer = inverse_dihedral(upscale(dihedral(lr, which)), which)
        total = answer if which == 0 else total + answer
    return total / 8
