"""EDSR (Lim et al., CVPR Workshops 2017, arXiv:1707.02921): residual blocks without batch norm.

Recipe: RGB; DIV2K, LR patches of 48, batch 16; L1; Adam 1e-4 halved every 200k of 300k steps; x3
and x4 started from x2; protocol edsr2017, with self-ensemble for the "+" rows.
Cost (published in brackets): baseline 1,369,859, 1,554,499, 1,517,571 parameters [1.37M, 1.56M,
1.52M] and 316.2, 160.4, 114.2 GMACs at x2, x3, x4 (1280 x 720); the full
network 40,729,603, 43,680,003, 43,089,923 parameters [43M] and 9,385, 4,480, 2,895 GMACs.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from sr_lightning.nn.layers import MeanShift, SubPixelUpsample
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.start import carry_image

__all__ = ["EDSR", "ResidualBlock"]


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, scaled and added to the input (paper, figure 2c).

    Args:
        channels: Number of channels in and out.
        residual_scale: Factor of what is added; 0.1 keeps wide networks stable.
        kernel: Side of both convolutions.
    """

    def __init__(self, channels: int, residual_scale: float = 1.0, kernel: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
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
        channels: Number of channels of the trunk.
        blocks: Number of residual blocks.
        residual_scale: Factor of each block's residual.
        start: "bilinear", the untrained network interpolates the image; or "random", PyTorch's
            start. inferred: ours, "bilinear", which saves the first thousand steps or so.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 64,
        blocks: int = 16,
        residual_scale: float = 1.0,
        start: Literal["bilinear", "random"] = "bilinear",
    ) -> None:
        super().__init__()
        self.scales = (scale,)
        self.blocks = blocks
        self.shift = MeanShift()
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(ResidualBlock(channels, residual_scale) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.upsample = SubPixelUpsample(channels, scale)
        self.tail = nn.Conv2d(channels, 3, 3, padding=1)
        if start == "bilinear":
            carry_image(self.head, [self.body[-1]], self.upsample, self.tail)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels: head, two convolutions a block, one after them, upsampler, tail."""
        # The first upsampling step is at LR; the one or two convolutions after it reach one more.
        return 2 * (1 + 2 * self.blocks + 1 + 1 + 1) + 1

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`."""
        x = self.head(self.shift(lr))
        x = x + self.body(x)
        return self.shift.back(self.tail(self.upsample(x)))
