"""RDN (Zhang et al., CVPR 2018, arXiv:1802.08797): residual dense network.

Densely connected blocks with a 1x1 fusion and a skip each (contiguous memory, local feature
fusion), whose outputs are all fused at the end (global feature fusion).

Recipe: RGB; DIV2K, LR patches of 32, batch 16; L1; Adam 1e-4 halved every 200k steps (epochs of
1,000 steps); the scale's upsampler as in EDSR; protocol edsr2017, with self-ensemble for RDN+.
Cost (published in brackets): 22,123,395, 22,308,035, 22,271,107 parameters [22M] and 5,096, 2,287,
1,309 GMACs at x2, x3, x4 (1280 x 720) [5,098G, 2,281G, 1,309G in later papers' tables].
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sr_lightning.nn.layers import MeanShift, SubPixelUpsample
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.start import carry_image

__all__ = ["RDN", "ResidualDenseTrunk"]


class ResidualDenseBlock(nn.Module):
    """RDB: each convolution sees the block's input and all outputs before it (equations 5 to 7).

    Args:
        channels: Number of channels in and out, G0 of the paper.
        growth: Channels that each convolution adds, G.
        layers: Number of convolutions, C.
    """

    def __init__(self, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(channels + index * growth, growth, 3, padding=1) for index in range(layers)
        )
        self.fusion = nn.Conv2d(channels + layers * growth, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        seen = x
        for layer in self.layers:
            seen = torch.cat([seen, layer(seen).relu_()], dim=1)
        fused: Tensor = self.fusion(seen)
        return x + fused


class ResidualDenseTrunk(nn.Module):
    """Image to features: two convolutions, residual dense blocks, global fusion and skip.

    Args:
        channels: Number of channels of the features.
        growth: Growth rate of the blocks.
        blocks: D of the paper.
        layers: Number of layers of a block.
    """

    def __init__(self, channels: int, growth: int, blocks: int, layers: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.blocks = nn.ModuleList(
            ResidualDenseBlock(channels, growth, layers) for _ in range(blocks)
        )
        self.fusion = nn.Conv2d(blocks * channels, channels, 1)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)
        self.reach = 2 + blocks * layers + 1

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, C, H, W)."""
        shallow = self.first(x)
        x, outputs = self.second(shallow), []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        deep = self.last(self.fusion(torch.cat(outputs, dim=1)))
        features: Tensor = shallow + deep
        return features


class RDN(SRNetwork):
    """Residual dense network; the defaults are D = 16, C = 8, G = 64, the paper's best.

    Args:
        scale: 2, 3, 4 or 8.
        channels: Number of channels of the features, G0.
        growth: Growth rate of the blocks, G.
        blocks: D.
        layers: Number of layers of a block, C.
        mean_shift: Take DIV2K's mean colour off the image, as EDSR does; the PyTorch releases of
            RDN do not.
        start: "bilinear", the untrained network interpolates the image; or "random", PyTorch's
            start. inferred: ours, "bilinear", which saves the first thousand steps or so.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 64,
        growth: int = 64,
        blocks: int = 16,
        layers: int = 8,
        mean_shift: bool = True,
        start: Literal["bilinear", "random"] = "bilinear",
    ) -> None:
        super().__init__()
        self.scales = (scale,)
        self.shift = MeanShift() if mean_shift else None
        self.trunk = ResidualDenseTrunk(channels, growth, blocks, layers)
        self.upsample = SubPixelUpsample(channels, scale)
        self.tail = nn.Conv2d(channels, 3, 3, padding=1)
        if start == "bilinear":
            carry_image(self.trunk.first, [self.trunk.last], self.upsample, self.tail)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels: trunk, upsampler, tail."""
        return 2 * (self.trunk.reach + 1 + 1) + 1

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`."""
        x = self.trunk(lr if self.shift is None else self.shift(lr))
        sr: Tensor = self.tail(self.upsample(x))
        return sr.float() if self.shift is None else self.shift.back(sr)
