"""Attention blocks that several networks share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["ChannelAttention", "SpatialAttention"]


class ChannelAttention(nn.Module):
    """Squeeze-and-excitation of channels (Hu et al. 2018; RCAN's CA layer).

    Global pooling, a bottleneck of two 1x1 convolutions, sigmoid, product.

    Args:
        channels: of the feature map.
        reduction: of the bottleneck.
        pool: "mean" or "max" over all positions.
    """

    def __init__(
        self, channels: int, reduction: int = 16, pool: Literal["mean", "max"] = "mean"
    ) -> None:
        super().__init__()
        self.pool = pool
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Weight the channels of (N, C, H, W)."""
        pooled = (x.mean if self.pool == "mean" else x.amax)(dim=(2, 3), keepdim=True)
        gate: Tensor = self.excite(self.squeeze(pooled).relu()).sigmoid()
        return x * gate


class SpatialAttention(nn.Module):
    """Attention over positions from the channels' mean and maximum (CBAM, Woo et al. 2018).

    Args:
        kernel: side of the convolution over the two maps.
    """

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Weight the positions of (N, C, H, W)."""
        maps = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        gate: Tensor = self.conv(maps).sigmoid()
        return x * gate
