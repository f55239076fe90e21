"""CSFM (Hu, Li, Huang and Gao, TCSVT 2019, arXiv:1809.11130): channel and spatial modulation.

Feature-modulation memory (FMM) modules of residual blocks with channel and spatial attention side
by side (CSAR); a module ends with a gate that fuses it with all modules' outputs before it.

Recipe: RGB; DIV2K, LR patches of 48, batch 16; L1; Adam 1e-4 halved every 200k steps; protocol
edsr2017, with self-ensemble for CSFM+.
Cost: 12,071,875, 12,256,515, 12,219,587 parameters and 2,756, 1,246, 724 GMACs at x2, x3, x4
(1280 x 720); published figures are not at hand (about 12 to 13M).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sr_lightning.nn.layers import ChannelAttention, MeanShift, SubPixelUpsample
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.start import carry_image

__all__ = ["CSFM"]


class ModulatedBlock(nn.Module):
    """CSAR: two convolutions, channel and spatial attention of the result, a 1x1 fusion, a skip.

    Args:
        channels: Number of channels in and out.
        reduction: Factor by which the channel attention's bottleneck reduces the channels.
        increase: Factor by which the spatial attention widens.
    """

    def __init__(self, channels: int, reduction: int, increase: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.channel = ChannelAttention(channels, reduction)
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, increase * channels, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(increase * channels, 1, 1),
            nn.Sigmoid(),
        )
        self.fusion = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        features = self.conv2(self.conv1(x).relu())
        both = torch.cat([self.channel(features), features * self.spatial(features)], dim=1)
        fused: Tensor = self.fusion(both)
        return x + fused


class CSFM(SRNetwork):
    """Channel-wise and spatial feature modulation network.

    Args:
        scale: 2, 3, 4 or 8.
        channels: Number of channels of the features.
        modules: M, FMM modules. inferred: 8 with 16 blocks each, after a re-implementation whose
            size fits what is remembered of the paper's.
        blocks: B, CSAR blocks of a module. inferred, the same.
        reduction: Factor by which the channel attention reduces the channels, 16 in the paper.
        increase: Factor of the spatial attention, 2 in the paper.
        start: "bilinear", the untrained network interpolates the image; or "random", PyTorch's
            start. inferred: ours, "bilinear", which saves the first thousand steps or so.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 64,
        modules: int = 8,
        blocks: int = 16,
        reduction: int = 16,
        increase: int = 2,
        start: Literal["bilinear", "random"] = "bilinear",
    ) -> None:
        super().__init__()
        self.scales = (scale,)
        self.shift = MeanShift()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.chains = nn.ModuleList(
            nn.Sequential(*(ModulatedBlock(channels, reduction, increase) for _ in range(blocks)))
            for _ in range(modules)
        )
        self.gates = nn.ModuleList(
            nn.Conv2d((index + 2) * channels, channels, 1) for index in range(modules)
        )
        self.third = nn.Conv2d(channels, channels, 3, padding=1)
        self.upsample = SubPixelUpsample(channels, scale)
        self.last = nn.Conv2d(channels, 3, 3, padding=1)
        if start == "bilinear":
            carry_image(self.first, [self.third], self.upsample, self.last)

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`."""
        shallow = self.first(self.shift(lr))
        memories = [self.second(shallow)]
        for chain, gate in zip(self.chains, self.gates, strict=True):
            memories.append(gate(torch.cat([chain(memories[-1]), *memories], dim=1)))
        x = shallow + self.third(memories[-1])
        return self.shift.back(self.last(self.upsample(x)))
