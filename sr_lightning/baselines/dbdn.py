"""DBDN (Wang, Shen and Zhang, DICTA 2018, arXiv:1810.04873): deep bi-dense network.

Dense blocks (intra-block) that are densely connected themselves (inter-block): each sees the
outputs of all before it, squeezed by a 3x3 convolution.

Recipe: RGB; DIV2K and Flickr2K, LR patches of 48, 32 and 32 at x2, x3, x4, batch 16; L1; Adam 1e-4
halved every 200k of 600k steps; x3 and x4 started from x2; protocol edsr2017, with self-ensemble
for DBDN+.
Cost (published in brackets): 18,161,347, 18,345,667, 18,308,867 parameters at x2, x3, x4 [18.1M at
x4, read off a plot]; 4,184, 1,881, 1,081 GMACs (1280 x 720; none published). The README's training
commands have 8 layers in a block instead of 6, which makes 27.3M at x4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sr_lightning.nn.layers import Deconvolution, MeanShift
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.receptive_field import side_of, through_convolution, through_deconvolution

__all__ = ["DBDN"]

# Steps of the deconvolution by scale; a step by s has a kernel of 3 s.
_STEPS = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}


class IntraDenseBlock(nn.Module):
    """Squeezes what it is given, adds densely connected convolutions, fuses them, and a skip.

    Args:
        inputs: Channels of all blocks' outputs before it.
        channels: Number of channels of its output.
        growth: Channels that each convolution adds.
        layers: Number of them.
    """

    def __init__(self, inputs: int, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, channels, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Conv2d(channels + index * growth, growth, 3, padding=1) for index in range(layers)
        )
        self.fusion = nn.Conv2d(channels + layers * growth, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, channels, H, W)."""
        squeezed: Tensor = self.squeeze(x).relu_()
        seen = squeezed
        for layer in self.layers:
            seen = torch.cat([seen, layer(seen).relu_()], dim=1)
        fused: Tensor = self.fusion(seen)
        return squeezed + fused


class DBDN(SRNetwork):
    """Deep bi-dense network.

    Args:
        scale: 2, 3, 4 or 8.
        channels: Number of channels of the blocks' outputs.
        growth: Growth rate of the blocks.
        blocks: Number of them.
        layers: Number of dense convolutions of a block. inferred: 6, with which the published
            plot's size comes out.

    Raises:
        ValueError: there is no such scale.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 64,
        growth: int = 64,
        blocks: int = 16,
        layers: int = 6,
    ) -> None:
        super().__init__()
        if scale not in _STEPS:
            raise ValueError(f"DBDN upscales by 2, 3, 4 or 8, not {scale}.")
        self.scales = (scale,)
        self.shift = MeanShift()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.blocks = nn.ModuleList(
            IntraDenseBlock((index + 1) * channels, channels, growth, layers)
            for index in range(blocks)
        )
        self.fusion = nn.Conv2d((blocks + 1) * channels, channels, 1)
        self.third = nn.Conv2d(channels, channels, 3, padding=1)
        self.upsample = nn.Sequential(
            *(Deconvolution(channels, channels, 3 * step, step, step) for step in _STEPS[scale])
        )
        self.last = nn.Conv2d(channels, 3, 3, padding=1)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels."""
        span = through_convolution((0, self.scale - 1), 1)
        for step in reversed(_STEPS[self.scale]):
            span = through_deconvolution(span, 3 * step, step, step)
        depth = 3 + self.config["blocks"] * (1 + self.config["layers"])
        return side_of(through_convolution(span, depth))

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`."""
        shallow = self.first(self.shift(lr))
        seen = self.second(shallow)
        for block in self.blocks:
            seen = torch.cat([seen, block(seen)], dim=1)
        x = shallow + self.third(self.fusion(seen))
        return self.shift.back(self.last(self.upsample(x)))
