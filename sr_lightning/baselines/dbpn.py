"""DBPN (Haris, Shakhnarovich and Ukita, CVPR 2018, arXiv:1803.02735): deep back-projection.

Units that upscale, downscale again, and upscale what that lost (or the other way round) take turns;
each sees all units of the other kind before it, and the image is made of all upscaled features.

Recipe: RGB; DIV2K, Flickr2K and ImageNet, LR patches of 32, batch 20; L1; Adam 1e-4 divided by ten
at 500k of 1,000k steps, weight decay 1e-4; protocol edsr2017. x2, x4 and x8, from one architecture.
Here: without ImageNet.
Cost (published in brackets): D-DBPN has 5,953,526, 10,426,358, 23,205,878 parameters [5.95M,
10.43M, 23.21M] at x2, x4, x8; 1,436, 682, 419 GMACs (1280 x 720) with deconvolutions counted as
they cost, 3,474, 5,211, 11,121 per output pixel [5,715G at x4, of unknown convention].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sr_lightning.nn.layers import Deconvolution
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.receptive_field import (
    Span,
    side_of,
    through_convolution,
    through_deconvolution,
    through_strided,
)

__all__ = ["DBPN"]

# Kernel by scale; 2 pixels are cut off at every border.
_KERNEL = {2: 6, 4: 8, 8: 12}
_BORDER = 2


def _larger(channels: int, scale: int) -> nn.Sequential:
    """Deconvolution by `scale` and PReLU."""
    return nn.Sequential(
        Deconvolution(channels, channels, _KERNEL[scale], scale, front=_BORDER), nn.PReLU()
    )


def _smaller(channels: int, scale: int) -> nn.Sequential:
    """Strided convolution by `scale` and PReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, _KERNEL[scale], scale, padding=_BORDER), nn.PReLU()
    )


class ProjectionUnit(nn.Module):
    """Up- or down-projection: there, back, and there again for what was lost (equations 1 to 10).

    Args:
        inputs: How many feature maps are concatenated; more than one are squeezed to one first.
        channels: Number of channels of each.
        scale: Scale of the network.
        up: Whether it upscales.
    """

    def __init__(self, inputs: int, channels: int, scale: int, up: bool) -> None:
        super().__init__()
        there, back = (_larger, _smaller) if up else (_smaller, _larger)
        self.squeeze = (
            nn.Sequential(nn.Conv2d(inputs * channels, channels, 1), nn.PReLU())
            if inputs > 1
            else nn.Identity()
        )
        self.there = there(channels, scale)
        self.back = back(channels, scale)
        self.again = there(channels, scale)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Feature maps (N, C, H, W) to one of the other resolution."""
        x = self.squeeze(parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1))
        first = self.there(x)
        projected: Tensor = first + self.again(self.back(first) - x)
        return projected


class DBPN(SRNetwork):
    """Dense DBPN; the defaults are D-DBPN with 7 up- and 6 down-projections.

    Args:
        scale: 2, 4 or 8.
        channels: Number of channels of the units.
        shallow: Channels of the first layer.
        stages: Number of up-projections.

    Raises:
        ValueError: there is no such scale.
    """

    def __init__(
        self, scale: int = 4, channels: int = 64, shallow: int = 256, stages: int = 7
    ) -> None:
        super().__init__()
        if scale not in _KERNEL:
            raise ValueError(f"DBPN upscales by 2, 4 or 8, not {scale}.")
        self.scales = (scale,)
        self.first = nn.Sequential(nn.Conv2d(3, shallow, 3, padding=1), nn.PReLU())
        self.second = nn.Sequential(nn.Conv2d(shallow, channels, 1), nn.PReLU())
        # The first two up-projections see one map each, the shallow features' is not kept.
        self.up = nn.ModuleList(
            ProjectionUnit(max(1, stage), channels, scale, up=True) for stage in range(stages)
        )
        self.down = nn.ModuleList(
            ProjectionUnit(stage + 1, channels, scale, up=False) for stage in range(stages - 1)
        )
        self.last = nn.Conv2d(stages * channels, 3, 3, padding=1)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels; a unit is two deconvolutions and a convolution, or the reverse."""
        kernel, scale = _KERNEL[self.scale], self.scale
        span: Span = through_convolution((0, scale - 1), 1)
        for index in range(2 * len(self.up) - 1):
            up = index % 2 == 0
            for larger in (up, not up, up):
                through = through_deconvolution if larger else through_strided
                span = through(span, kernel, scale, _BORDER)
        return side_of(through_convolution(span, 1))

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`."""
        low: list[Tensor] = []
        high = [self.up[0]([self.second(self.first(lr))])]
        for up, down in zip(self.up[1:], self.down, strict=True):
            low.append(down(high))
            high.append(up(low))
        sr: Tensor = self.last(torch.cat(high, dim=1))
        return sr.float()
