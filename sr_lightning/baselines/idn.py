"""IDN (Hui, Wang and Gao, CVPR 2018, arXiv:1803.09454): information distillation network.

Recipe of paper and release: 291 images (T91 and 200 of BSDS), upscaled eightfold by turns and
mirrorings and fivefold by downscaling, luminance, LR patches of 29, 15 and 11 at x2, x3 and x4 (39,
26 and 19 for fine-tuning), batch 64, L1 and then MSE, Adam at 1e-4 divided by ten every 250k of
600k steps, weight decay 1e-4, biases and the deconvolution at a tenth of the rate. Protocol
vdsr2016.

Cost: 552,769 parameters at every scale, published as 553k; 126.96, 56.47 and 31.74 GMACs for a
1280 x 720 output at x2, x3, x4. With the deconvolution counted per output pixel it is 139.7, 71.6
and 47.7. The published 202.8, 30.8 and 89.0 follow no convention that we found.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.nn.bicubic import bicubic
from sr_lightning.nn.layers import Deconvolution
from sr_lightning.nn.network import YNetwork
from sr_lightning.nn.receptive_field import side_of, through_convolution, through_deconvolution
from sr_lightning.nn.start import he_normal, zero

__all__ = ["IDN"]

_SLOPE = 0.05
_KERNEL = 17


def _activated(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SLOPE, inplace=True)


class DistillationBlock(nn.Module):
    """DBlock: an enhancement unit of two triples of convolutions, and a compression unit.

    A quarter of the first triple's output is kept and joins the block's input; the rest goes
    through the second triple, whose output is added to both (paper, equations 3 to 5).

    Args:
        channels: Number of channels in and out.
        difference: D of the paper, by which the layers' widths differ.
        groups: Number of groups of the second convolution of each triple.
    """

    def __init__(self, channels: int, difference: int, groups: int) -> None:
        super().__init__()
        self.kept = channels // 4
        narrow, short = channels - difference, channels - 2 * difference
        self.above = nn.ModuleList(
            [
                nn.Conv2d(channels, narrow, 3, padding=1),
                nn.Conv2d(narrow, short, 3, padding=1, groups=groups),
                nn.Conv2d(short, channels, 3, padding=1),
            ]
        )
        self.below = nn.ModuleList(
            [
                nn.Conv2d(channels - self.kept, channels, 3, padding=1),
                nn.Conv2d(channels, narrow, 3, padding=1, groups=groups),
                nn.Conv2d(narrow, channels + self.kept, 3, padding=1),
            ]
        )
        self.compression = nn.Conv2d(channels + self.kept, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        first = x
        for layer in self.above:
            first = _activated(layer(first))
        kept, second = first[:, : self.kept], first[:, self.kept :]
        for layer in self.below:
            second = _activated(layer(second))
        return _activated(self.compression(second + torch.cat([x, kept], dim=1)))


class IDN(YNetwork):
    """Information distillation network on luminance.

    Args:
        scale: 2, 3 or 4.
        channels: Number of channels of the features.
        blocks: Number of distillation blocks.
        difference: Difference of the widths within a block.
        groups: Number of groups of the grouped convolutions.
        start: Start of the deconvolution: zero, so that the untrained network gives its "skip", the
            bicubic image; or "random", the paper's start (He et al.). inferred: ours, "skip".

    Raises:
        ValueError: there is no such scale.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 64,
        blocks: int = 4,
        difference: int = 16,
        groups: int = 4,
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        if scale not in (2, 3, 4):
            raise ValueError(f"IDN upscales by 2, 3 or 4, not {scale}.")
        super().__init__((scale,))
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.blocks = nn.Sequential(
            *(DistillationBlock(channels, difference, groups) for _ in range(blocks))
        )
        # The release's deconvolution leaves out scale - 1 rows and columns, and its test script
        # takes them from the top and left of the interpolated image: tap 9 - scale comes first.
        self.upsample = Deconvolution(channels, 1, _KERNEL, scale, front=9 - scale)
        he_normal(self, _SLOPE)
        if start == "skip":
            zero(self.upsample)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels: deconvolution, six convolutions a block, two before them."""
        up = self.upsample
        span = through_deconvolution((0, self.scale - 1), _KERNEL, up.factor, up.front)
        return side_of(through_convolution(span, 6 * len(self.blocks) + 2))

    def predict(self, y: Tensor, scale: float) -> list[Tensor]:
        """Interpolated luminance and a residual; see :meth:`YNetwork.predict`."""
        features = self.blocks(_activated(self.second(_activated(self.first(y)))))
        return [bicubic(y, scale) + self.upsample(features)]
