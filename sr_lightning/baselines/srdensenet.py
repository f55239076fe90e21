"""SRDenseNet (Tong, Li, Liu and Gao, ICCV 2017): dense blocks and dense skips between them.

Eight blocks of eight convolutions; every block sees the first features and all blocks before it
(SRDenseNet_All); a 1x1 bottleneck, deconvolutions, and one convolution to the image.

Recipe: Y; x4 only; MSE; 50,000 images of ImageNet, HR patches of 100, batch 32; Adam 1e-4 divided
by ten after 30 of 60 epochs; protocol vdsr2016.
Here: DIV2K instead of ImageNet.
Cost (published in brackets): 2,004,225 parameters at x4 [2,015K in CARN's table]; 162.6 GMACs
(1280 x 720), 389.1 with deconvolutions counted per output pixel [389.9G]. The 0.5% of parameters
and 0.2% of MACs between are some 12k weights at LR that the paper does not mention.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sr_lightning.nn.layers import Deconvolution
from sr_lightning.nn.network import YNetwork
from sr_lightning.nn.receptive_field import side_of, through_convolution, through_deconvolution

__all__ = ["SRDenseNet"]


class DenseBlock(nn.Module):
    """Convolutions that see all before them in the block; the output holds all of them.

    Args:
        inputs: Channels of the input, which only the first convolution sees.
        growth: Channels of each convolution.
        layers: Number of convolutions.
    """

    def __init__(self, inputs: int, growth: int, layers: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, growth, 3, padding=1)
        self.others = nn.ModuleList(
            nn.Conv2d(index * growth, growth, 3, padding=1) for index in range(1, layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, layers * growth, H, W)."""
        seen: Tensor = self.first(x).relu_()
        for layer in self.others:
            seen = torch.cat([seen, layer(seen).relu_()], dim=1)
        return seen


class SRDenseNet(YNetwork):
    """SRDenseNet_All.

    Args:
        scale: 2, 4 or 8: one deconvolution by 2 after another.
        blocks: Number of dense blocks.
        layers: Number of layers of a block.
        growth: Channels that each layer adds.
        bottleneck: Channels after the 1x1 convolution and of the deconvolutions, whose kernels of 2
            are inferred from CARN's count of MACs; that the first features have as many channels
            as a block's output is inferred too.

    Raises:
        ValueError: there is no such scale.
    """

    def __init__(
        self,
        scale: int = 4,
        blocks: int = 8,
        layers: int = 8,
        growth: int = 16,
        bottleneck: int = 256,
    ) -> None:
        if scale not in (2, 4, 8):
            raise ValueError(f"SRDenseNet upscales by 2, 4 or 8, not {scale}.")
        super().__init__([scale])
        width = layers * growth
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            DenseBlock((index + 1) * width, growth, layers) for index in range(blocks)
        )
        self.bottleneck = nn.Conv2d((blocks + 1) * width, bottleneck, 1)
        self.upsample = nn.ModuleList(
            Deconvolution(bottleneck, bottleneck, 2, 2, front=0)
            for _ in range(scale.bit_length() - 1)
        )
        self.last = nn.Conv2d(bottleneck, 1, 3, padding=1)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels."""
        span = through_convolution((0, self.scale - 1), 1)
        for _ in self.upsample:
            span = through_deconvolution(span, 2, 2, 0)
        depth = 1 + self.config["blocks"] * self.config["layers"]
        return side_of(through_convolution(span, depth))

    def predict(self, y: Tensor, scale: float) -> list[Tensor]:
        """Luminance upscaled by `scale`."""
        seen = self.first(y).relu_()
        for block in self.blocks:
            seen = torch.cat([seen, block(seen)], dim=1)
        x = self.bottleneck(seen)
        for layer in self.upsample:
            x = layer(x).relu_()
        return [self.last(x)]
