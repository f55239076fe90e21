"""PSNR and SSIM of whole images under a protocol, as torchmetrics metrics with per-image rows.

torchmetrics' own PSNR pools the error of all images and its SSIM pads the borders: both differ
from MATLAB's numbers, which papers report as the mean over images.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from kornia.metrics import ssim as kornia_ssim
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from sr_lightning.metrics.protocol import Protocol

__all__ = ["PSNR", "SSIM", "PerImageMetric", "psnr", "ssim"]


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [0, 255]: (N, C, H, W) twice to (N,).

    Identical images give infinity.
    """
    error = (a - b).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(255.0**2 / error)


def ssim(
    a: Tensor, b: Tensor, window: int = 11, border: Literal["valid", "replicate"] = "valid"
) -> Tensor:
    """Structural similarity (Wang et al. 2004) of images in [0, 255]: (N, C, H, W) twice to (N,).

    Gaussian window of sigma 1.5, population statistics, K = 0.01 and 0.03: MATLAB's numbers
    (``tests/test_oracle_matlab.py`` compares 30 images).

    Args:
        a: images.
        b: images to compare them with.
        window: side of the window.
        border: see :class:`~sr_lightning.metrics.protocol.Protocol`.
    """
    if border == "replicate":
        a, b = (F.pad(image, [window // 2] * 4, mode="replicate") for image in (a, b))
    kept: Tensor = kornia_ssim(a, b, window, max_val=255.0, eps=0.0, padding="valid")
    return kept.mean(dim=(1, 2, 3))


class PerImageMetric(Metric):
    """Mean over images of a number per image, exact on any number of devices.

    Each image carries its index in the set. When images are repeated to share them evenly among
    devices, the repeats are dropped here.

    Args:
        protocol: that made the compared images; kept to be printed beside the number.
        **kwargs: of :class:`torchmetrics.Metric`.
    """

    higher_is_better = True
    full_state_update = False
    is_differentiable = False

    values: list[Tensor]
    indices: list[Tensor]

    def __init__(self, protocol: Protocol, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.protocol = protocol
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.add_state("indices", default=[], dist_reduce_fx="cat")

    def measure(self, a: Tensor, b: Tensor) -> Tensor:
        """Number of each image of a batch."""
        raise NotImplementedError

    def update(self, a: Tensor, b: Tensor, index: int) -> None:
        """Measure one image.

        Args:
            a: SR image as :meth:`Protocol.compared` gives it, (1, C, h, w) in [0, 255].
            b: HR image, the same.
            index: of the image in its set.
        """
        self.values.append(self.measure(a, b).to(self.device, torch.float32))
        self.indices.append(torch.tensor([index], device=self.device))

    def rows(self) -> dict[int, float]:
        """Number per image index; complete after :meth:`compute` under several devices."""
        if not len(self.values):
            return {}
        values, indices = (dim_zero_cat(state) for state in (self.values, self.indices))
        return dict(zip(indices.tolist(), values.tolist(), strict=True))

    def compute(self) -> Tensor:
        """Mean over the images."""
        rows = self.rows()
        if not rows:
            return torch.tensor(float("nan"), device=self.device)
        ordered = [rows[index] for index in sorted(rows)]
        return torch.tensor(ordered, dtype=torch.float64).mean().float().to(self.device)


class PSNR(PerImageMetric):
    """Mean PSNR in dB under a protocol; see :class:`PerImageMetric`."""

    def measure(self, a: Tensor, b: Tensor) -> Tensor:
        """PSNR of each image of a batch."""
        return psnr(a, b)


class SSIM(PerImageMetric):
    """Mean SSIM under a protocol; see :class:`PerImageMetric`."""

    def measure(self, a: Tensor, b: Tensor) -> Tensor:
        """SSIM of each image of a batch."""
        return ssim(a, b, self.protocol.ssim_window, self.protocol.ssim_border)
