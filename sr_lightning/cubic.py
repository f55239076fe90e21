"""The kernel behind every bicubic resize of the suite, and the size of a resized image."""

import math

import torch
from torch import Tensor

__all__ = ["cubic", "upscaled_size"]


def cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = -0.5, MATLAB's choice.

    torch's, OpenCV's and kornia's default is a = -0.75, which moves a bicubic baseline by 0.3 dB.

    Args:
        x: Distances in samples.
    """
    x = x.abs()
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x <= 2, far, torch.zeros_like(x)))


def upscaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(H, W) of an image upscaled by a real scale: each side rounded, halves up."""
    return math.floor(size[0] * scale + 0.5), math.floor(size[1] * scale + 0.5)
