"""RCAN (Zhang et al., ECCV 2018, arXiv:1807.02758): residual in residual, channel attention.

Groups of residual blocks, each block's residual weighted per channel by a squeeze over the whole
image; a skip around every group and around all of them.

Recipe: RGB; DIV2K, LR patches of 48, batch 16; L1; Adam 1e-4 halved every 200k of 1,000k steps;
x3, x4, x8 started from x2; protocol edsr2017, with self-ensemble for RCAN+.
Cost (published in brackets): 15,444,643, 15,629,283, 15,592,355 parameters [16M; 24 more with the
frozen mean shifts of the release] and 3,527, 1,588, 917 GMACs at x2, x3, x4 (1280 x 720) [3,530G,
1,586G, 918G in later papers' tables].
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from sr_lightning.nn.layers import ChannelAttention, MeanShift, SubPixelUpsample
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.start import carry_image

__all__ = ["RCAN"]


class AttentionBlock(nn.Module):
    """RCAB: convolution, ReLU, convolution, channel attention, added to the input.

    Args:
        channels: Number of channels in and out.
        reduction: Factor by which the attention reduces the channels.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.attention = ChannelAttention(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        residual: Tensor = self.attention(self.conv2(self.conv1(x).relu()))
        return x + residual


class Residual(nn.Sequential):
    """Parts in a row and a skip around them."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        residual = x
        for part in self:
            residual = part(residual)
        return x + residual


class RCAN(SRNetwork):
    """Residual channel attention network.

    Args:
        scale: 2, 3, 4 or 8.
        channels: Number of channels of the trunk.
        groups: Number of residual groups.
        blocks: Number of residual blocks of a group.
        reduction: Factor by which the channel attention reduces the channels.
        start: "bilinear", the untrained network interpolates the image; or "random", PyTorch's
            start. inferred: ours, "bilinear", which saves the first thousand steps or so.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 64,
        groups: int = 10,
        blocks: int = 20,
        reduction: int = 16,
        start: Literal["bilinear", "random"] = "bilinear",
    ) -> None:
        super().__init__()
        self.scales = (scale,)

        def group() -> Residual:
            attended = (AttentionBlock(channels, reduction) for _ in range(blocks))
            return Residual(*attended, nn.Conv2d(channels, channels, 3, padding=1))

        self.shift = MeanShift()
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = Residual(
            *(group() for _ in range(groups)), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.upsample = SubPixelUpsample(channels, scale)
        self.tail = nn.Conv2d(channels, 3, 3, padding=1)
        if start == "bilinear":
            carry_image(self.head, [self.body[-1]], self.upsample, self.tail)

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`."""
        x = self.body(self.head(self.shift(lr)))
        return self.shift.back(self.tail(self.upsample(x)))
