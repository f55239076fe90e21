"""Metrics beside PSNR and SSIM: MS-SSIM and VIF, and those of networks, by well-kept libraries.

Each takes the two images as a protocol prepared them, (1, C, H, W) in [0, 255]; what is not
defined for an image is NaN. Networks look at RGB: under a protocol of luminance they give NaN.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_lightning.errors import UserError
from sr_lightning.metrics.similarity import gaussian

__all__ = ["MS_SSIM_SIDE", "ms_ssim", "of_network", "vif"]

# Wang, Simoncelli and Bovik 2003, section 3.2: from the finest scale to the coarsest.
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_SIDE = 11 * 2 ** (len(_WEIGHTS) - 1)
"""Smallest side in pixels of an image that has MS-SSIM: its window at the last scale."""
_VIF_SIDE = 41
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


@torch.no_grad()
def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Multi-scale SSIM (Wang, Simoncelli and Bovik 2003), mean over channels: (N, C, H, W) to (N,).

    Not torchmetrics', which pads borders. As the authors' ``msssim.m``: windows that fit in, halved
    by averages of 2 x 2 pixels, an odd last row or column with itself. NaN if a side has fewer than
    :data:`MS_SSIM_SIDE` pixels.
    """
    if min(a.shape[-2:]) < MS_SSIM_SIDE:
        return a.new_full(a.shape[:1], math.nan)
    product = torch.ones(a.shape[:2], dtype=torch.float64, device=a.device)
    a, b = a.double(), b.double()
    for index, weight in enumerate(_WEIGHTS):
        structure, luminance = _parts(a, b)
        last = index == len(_WEIGHTS) - 1
        mean = (structure * luminance if last else structure).mean(dim=(2, 3))
        # A negative mean has no real power; the authors' script would give a complex number.
        product *= mean.clamp_min(0) ** weight
        a, b = _halved(a), _halved(b)
    return product.mean(dim=1)


def _parts(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM's factors for each window: contrast and structure, and luminance."""
    taps = gaussian(11).to(a)

    def blur(image: Tensor) -> Tensor:
        planes = image.flatten(0, 1)[:, None]
        down = F.conv2d(planes, taps.view(1, 1, -1, 1))
        means = F.conv2d(down, taps.view(1, 1, 1, -1))
        return means.view(*image.shape[:2], *means.shape[-2:])

    mean_a, mean_b = blur(a), blur(b)
    variances = blur(a * a) + blur(b * b) - mean_a.square() - mean_b.square()
    covariance = blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a.square() + mean_b.square() + _C1)
    return (2 * covariance + _C2) / (variances + _C2), luminance


def _halved(image: Tensor) -> Tensor:
    odd = [image.shape[-1] % 2, image.shape[-2] % 2]
    return F.avg_pool2d(F.pad(image, (0, odd[0], 0, odd[1]), mode="replicate"), 2)


def vif(a: Tensor, b: Tensor) -> Tensor:
    """Visual information fidelity (Sheikh and Bovik 2006): (N, C, H, W) twice to (N,).

    Of pixels, by torchmetrics, mean over channels. NaN if a side has fewer than 41 pixels.
    """
    if min(a.shape[-2:]) < _VIF_SIDE:
        return a.new_full(a.shape[:1], math.nan)
    from torchmetrics.functional.image import visual_information_fidelity

    sr, hr = (image.flatten(0, 1)[:, None].double() for image in (a, b))
    found = visual_information_fidelity(sr, hr, reduction="none")
    return found.view(a.shape[:2]).mean(dim=1)


def of_network(name: str, a: Tensor, b: Tensor) -> Tensor:
    """A metric of pyiqa, such as LPIPS: (N, 3, H, W) twice to (N,); NaN for one channel.

    Args:
        name: Name in pyiqa.
        a: SR images.
        b: HR images; metrics without a reference leave them out.

    Raises:
        UserError: pyiqa is not here, or the network's weights cannot be had.
    """
    if a.shape[1] != 3:
        return a.new_full(a.shape[:1], math.nan)
    metric = _loaded(name, str(a.device))
    images = (a.float() / 255, b.float() / 255)
    with torch.no_grad():
        found: Tensor = metric(*images) if metric.metric_mode == "FR" else metric(images[0])
    return found.flatten()


@functools.lru_cache(maxsize=4)
def _loaded(name: str, device: str) -> Any:
    try:
        import pyiqa
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"The metric {name} needs pyiqa and a torchvision made for your torch ({error}): pip "
            "install 'sr-lightning[perceptual]'."
        ) from None
    try:
        return pyiqa.create_metric(name, device=torch.device(device))
    except OSError as error:
        raise UserError(
            f"The weights of {name} cannot be fetched ({error}); they are fetched once, so try it "
            "with a network connection first."
        ) from None
