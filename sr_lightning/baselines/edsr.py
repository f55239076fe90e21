"""EDSR (Lim et al., CVPR Workshops 2017, arXiv:1707.02921): residual blocks without batch norm.

Recipe of the paper: DIV2K, LR patches of 48, batch 16, L1, Adam 1e-4 halved every 200k of 300k
steps, x3 and x4 started from x2, RGB, protocol edsr2017 with self-ensemble for the "+" rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.upsample import SubPixelUpsample

__all__ = ["EDSR"]

# Mean of DIV2K, subtracted before and added after the network.
_MEAN = (0.4488, 0.4371, 0.4040)


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, scaled and added to the input (paper, figure 2c)."""

    def __init__(self, channels: int, residual_scale: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.residual_scale = residual_scale

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        residual: Tensor = self.conv2(self.conv1(x).relu())
        return x + residual if self.residual_scale == 1 else x + self.residual_scale * residual


class EDSR(SRNetwork):
    """EDSR; the defaults are the "baseline" of 1.5M parameters.

    The full network is ``channels=256, blocks=32, residual_scale=0.1`` (43M parameters at x4).

    Args:
        scale: 2, 3, 4 or 8.
        channels: of the trunk.
        blocks: residual blocks.
        residual_scale: of each block's residual.
    """

    mean: Tensor

    def __init__(
        self, scale: int = 4, channels: int = 64, blocks: int = 16, residual_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.scales = (scale,)
        self.blocks = blocks
        self.register_buffer("mean", torch.tensor(_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(ResidualBlock(channels, residual_scale) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.upsample = SubPixelUpsample(channels, scale)
        self.tail = nn.Conv2d(channels, 3, 3, padding=1)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels: head, two convolutions a block, one after them, upsampler, tail."""
        # The first upsampling step is at LR; the one or two convolutions after it reach one more.
        return 2 * (1 + 2 * self.blocks + 1 + 1 + 1) + 1

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge RGB images; see :meth:`SRNetwork.forward`."""
        x = self.head(lr - self.mean)
        x = x + self.body(x)
        sr: Tensor = self.tail(self.upsample(x)).float() + self.mean
        return sr
