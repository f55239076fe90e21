"""Making LR images from HR images, as each evaluation protocol wants them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sr_lightning.colour import rgb_to_ycbcr, ycbcr_to_rgb
from sr_lightning.cubic import upscaled_size
from sr_lightning.data.resize import Boundary, imresize

__all__ = ["Recipe", "bicubic_up", "degrade", "downscale", "whole"]

Recipe = Literal["rgb_uint8", "rgb_float", "ycbcr_float"]


def whole(scale: float) -> int | None:
    """An integer scale as an int, None for a real one such as 2.8."""
    return int(scale) if float(scale).is_integer() else None


def downscale(image: Tensor, scale: float, boundary: Boundary = "replicate") -> Tensor:
    """Downscale by bicubic: ``imresize(A, 1 / s)``, or to the nearest size for a real scale.

    Args:
        image: (..., H, W), uint8 or float, cropped for the scale: H and W are multiples of an
            integer scale, and what some LR size is upscaled to by a real one, which is found again.
        scale: Scale, at least 1.
        boundary: See :func:`~sr_lightning.data.resize.imresize`.
    """
    if whole(scale) is not None:
        return imresize(image, 1 / scale, boundary=boundary)
    height, width = image.shape[-2:]
    # Rounded down, an image of 127 for 91 pixels at x1.4 would be downscaled to 90.
    return imresize(image, size=upscaled_size((height, width), 1 / scale), boundary=boundary)


def degrade(
    hr: Tensor,
    scale: float,
    recipe: Recipe = "rgb_uint8",
    *,
    grey: bool = False,
    boundary: Boundary = "replicate",
) -> Tensor:
    """Downscale HR images.

    Args:
        hr: (..., 3, H, W), RGB in [0, 1] holding 8-bit levels, cropped for the scale.
        scale: Scale, at least 1.
        recipe: "rgb_uint8" gives what an LR image file holds; "rgb_float" the same, but neither
            rounded nor clamped. "ycbcr_float" rounds YCbCr of the HR
            image, downscales it and does not round again (the SRCNN and VDSR scripts); the result
            is turned back to RGB without clamping, so that its luminance is exactly the downscaled
            one.
        grey: The HR file holds one channel, which those scripts take as luminance directly.
        boundary: See :func:`~sr_lightning.data.resize.imresize`.

    Returns:
        (..., 3, h, w) float32.
    """
    levels = hr.mul(255).round()
    if recipe == "rgb_uint8":
        return downscale(levels.to(torch.uint8), scale, boundary).float().div_(255)
    flat = levels.double().div_(255)
    if grey or recipe == "rgb_float":
        return downscale(flat, scale, boundary).float()
    ycbcr = rgb_to_ycbcr(flat).mul_(255).add_(0.5).floor_().div_(255)
    return ycbcr_to_rgb(downscale(ycbcr, scale, boundary)).float()


def bicubic_up(lr: Tensor, scale: float, boundary: Boundary = "replicate") -> Tensor:
    """Upscale float images by MATLAB's bicubic: the yardstick of every table.

    Args:
        lr: (..., H, W) float.
        scale: Any real scale of at least 1.
        boundary: See :func:`~sr_lightning.data.resize.imresize`.
    """
    height, width = lr.shape[-2:]
    return imresize(lr, size=upscaled_size((height, width), scale), boundary=boundary)
