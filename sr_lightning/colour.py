"""MATLAB's RGB <-> YCbCr (BT.601, limited range): Y of [0, 1] RGB is [16, 235] / 255.

kornia and OpenCV use the full-range transform, whose Y gives a PSNR that is 1.32 dB lower for the
same pictures; that difference is a frequent cause of numbers that do not match a paper.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["RGB_TO_Y", "rgb_to_y", "rgb_to_ycbcr", "ycbcr_to_rgb"]

RGB_TO_Y = (65.481, 128.553, 24.966)
"""What red, green and blue in [0, 1] add to Y in [16, 235]."""
# MATLAB's rgb2ycbcr for RGB in [0, 1], result in [0, 255].
_MATRIX = (
    RGB_TO_Y,
    (-37.797, -74.203, 112.0),
    (112.0, -93.786, -18.214),
)
_OFFSET = (16.0, 128.0, 128.0)
# Numbers, not a computation at each call: exported graphs have no inverse of a matrix.
_INVERSE = torch.linalg.inv(torch.tensor(_MATRIX, dtype=torch.float64)).mul_(255).tolist()


def rgb_to_y(rgb: Tensor) -> Tensor:
    """Luminance of RGB in [0, 1]: (..., 3, H, W) to (..., 1, H, W) in [16, 235] / 255."""
    weight = rgb.new_tensor(_MATRIX[0]).div_(255)
    y = (rgb * weight[:, None, None]).sum(dim=-3, keepdim=True)
    return y + 16 / 255


def rgb_to_ycbcr(rgb: Tensor) -> Tensor:
    """RGB in [0, 1] to YCbCr in [0, 1], both (..., 3, H, W)."""
    matrix = rgb.new_tensor(_MATRIX).div_(255)
    offset = rgb.new_tensor(_OFFSET).div_(255)
    return torch.einsum("dc,...chw->...dhw", matrix, rgb) + offset[:, None, None]


def ycbcr_to_rgb(ycbcr: Tensor) -> Tensor:
    """Exact inverse of :func:`rgb_to_ycbcr`; not clamped."""
    inverse = ycbcr.new_tensor(_INVERSE)
    offset = ycbcr.new_tensor(_OFFSET).div_(255)
    return torch.einsum("dc,...chw->...dhw", inverse, ycbcr - offset[:, None, None])
