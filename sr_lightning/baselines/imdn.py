"""IMDN (Hui et al., ACM MM 2019, arXiv:1909.11856): information multi-distillation network.

Recipe of paper and release: DIV2K, RGB, HR patches of 192, batch 16, L1, Adam at 2e-4 halved every
200 of 1000 epochs of 1000 steps, x3 and x4 started from x2. Protocol edsr2017, grey files through
RGB -> Y.

Cost: 694,404, 703,059 and 715,176 parameters at x2, x3, x4, as published (694k, 703k, 715k);
158.8, 71.5 and 40.9 GMACs for a 1280 x 720 output, as published.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.nn.layers import ConvShuffle
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.start import carry_image

__all__ = ["IMDN"]

_SLOPE = 0.05


class ContrastAttention(nn.Module):
    """CCA: channels weighted by their standard deviation and mean over the image (equation 5).

    Args:
        channels: Number of channels of the feature map.
        reduction: Factor by which the bottleneck reduces the channels.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Weight the channels of (N, C, H, W)."""
        variance, mean = torch.var_mean(x.float(), dim=(2, 3), keepdim=True, correction=0)
        # The root's slope at 0, where a channel is constant, is infinite.
        contrast = variance.clamp_min(1e-12).sqrt() + mean
        gate: Tensor = self.excite(self.squeeze(contrast).relu()).sigmoid()
        return x * gate


class MultiDistillationBlock(nn.Module):
    """IMDB: four convolutions, each of which but the last passes three quarters on.

    Args:
        channels: Number of channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.kept = channels // 4
        rest = channels - self.kept
        self.steps = nn.ModuleList(
            nn.Conv2d(channels if index == 0 else rest, channels, 3, padding=1)
            for index in range(3)
        )
        self.last = nn.Conv2d(rest, self.kept, 3, padding=1)
        self.attention = ContrastAttention(4 * self.kept)
        self.fusion = nn.Conv2d(4 * self.kept, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        distilled, rest = [], x
        for step in self.steps:
            state = F.leaky_relu(step(rest), _SLOPE, inplace=True)
            distilled.append(state[:, : self.kept])
            rest = state[:, self.kept :]
        distilled.append(self.last(rest))
        change: Tensor = self.fusion(self.attention(torch.cat(distilled, dim=1)))
        return x + change


class IMDN(SRNetwork):
    """Information multi-distillation network.

    Args:
        scale: Scale by which it upscales.
        channels: Number of channels of the features.
        blocks: Number of multi-distillation blocks.
        start: "bilinear", the untrained network interpolates the image; or "random", PyTorch's
            start. inferred: ours, "bilinear", which saves the first thousand steps or so.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 64,
        blocks: int = 6,
        start: Literal["bilinear", "random"] = "bilinear",
    ) -> None:
        super().__init__()
        self.scales = (scale,)
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.ModuleList(MultiDistillationBlock(channels) for _ in range(blocks))
        self.fusion = nn.Conv2d(blocks * channels, channels, 1)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)
        self.upsample = ConvShuffle(channels, 3, scale)
        if start == "bilinear":
            carry_image(self.first, [self.last], self.upsample, None)

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`."""
        first = self.first(lr)
        states = [first]
        for block in self.blocks:
            states.append(block(states[-1]))
        fused = F.leaky_relu(self.fusion(torch.cat(states[1:], dim=1)), _SLOPE, inplace=True)
        return self.upsample(self.last(fused) + first)  # type: ignore[no-any-return]
