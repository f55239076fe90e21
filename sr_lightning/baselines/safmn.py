"""SAFMN (Sun et al., ICCV 2023, arXiv:2302.13800): spatially adaptive feature modulation.

Blocks of two residuals, both after a layer norm: a quarter of the channels each is looked at whole,
halved, quartered and in eighths, and what is found modulates all of them; then a 3x3 and a 1x1
convolution mix the channels.

Recipe of paper and release: DIV2K and Flickr2K, RGB, LR patches of 64, batch 64, L1 and 0.05 times
the L1 of the Fourier transforms, Adam (0.9, 0.99) at 1e-3 down to 1e-5 by a cosine over 500k steps,
averaged weights (0.999). Protocol imdn2019, as the release reads grey files.

Cost (published in brackets): 227,820, 232,695 and 239,520 parameters [228K, 233K, 240K] and 51.48,
23.40, 13.54 GMACs [51.53, 23.42, 13.56] at x2, x3, x4 (1280 x 720).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.nn.layers import ConvShuffle
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.start import carry_image

__all__ = ["SAFMN", "adaptive_maxima"]

_LEVELS = 4


def adaptive_maxima(x: Tensor, factor: int) -> Tensor:
    """Maxima of (N, C, H, W) over a grid of (H // factor, W // factor) cells, at least one each.

    Where a side is no multiple, cells overlap, as in PyTorch's adaptive pooling.
    """
    height, width = (
        torch.sym_max(1, side // factor)  # type: ignore[no-untyped-call]
        for side in x.shape[-2:]
    )
    if not torch.compiler.is_exporting():
        return F.adaptive_max_pool2d(x, (height, width))
    # ONNX has no pooling into so many cells. They are between one and two times `factor` long, so
    # that the maxima of two windows of that length, one from each end, hold all of a cell.
    for dim, count in ((2, height), (3, width)):
        extent, index = x.shape[dim], torch.arange(count, device=x.device)
        kernel, pad = [1, 1], [0, 0, 0, 0]
        kernel[dim - 2], pad[2 * (3 - dim) + 1] = factor, factor - 1
        windows = F.max_pool2d(F.pad(x, pad, value=float("-inf")), kernel, stride=1)
        first = index * extent // count
        last = ((index + 1) * extent + count - 1) // count - factor
        x = torch.maximum(
            windows.index_select(dim, first), windows.index_select(dim, last.clamp(min=0))
        )
    return x


class _LayerNorm(nn.LayerNorm):
    """Layer norm over the channels of (N, C, H, W), of each pixel by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class FeatureModulation(nn.Module):
    """SAFM: features times the activated sum of what four scales see.

    Args:
        channels: Number of channels in and out, a multiple of four.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        part = channels // _LEVELS
        self.depthwise = nn.ModuleList(
            nn.Conv2d(part, part, 3, padding=1, groups=part) for _ in range(_LEVELS)
        )
        self.fusion = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        seen = []
        for level, part in enumerate(x.chunk(_LEVELS, dim=1)):
            if level == 0:
                seen.append(self.depthwise[0](part))
            else:
                small = self.depthwise[level](adaptive_maxima(part, 2**level))
                seen.append(F.interpolate(small, size=x.shape[-2:], mode="nearest"))
        return F.gelu(self.fusion(torch.cat(seen, dim=1))) * x


class MixingBlock(nn.Module):
    """FMM: feature modulation and convolutional channel mixer, each added to its input.

    Args:
        channels: Number of channels in and out.
        expansion: Factor of the channels inside the mixer.
    """

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        inner = int(expansion * channels)
        self.norm1 = _LayerNorm(channels, eps=1e-6)
        self.modulation = FeatureModulation(channels)
        self.norm2 = _LayerNorm(channels, eps=1e-6)
        self.expand = nn.Conv2d(channels, inner, 3, padding=1)
        self.project = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        x = x + self.modulation(self.norm1(x))
        mixed: Tensor = self.project(F.gelu(self.expand(self.norm2(x))))
        return x + mixed


class SAFMN(SRNetwork):
    """Spatially-adaptive feature modulation network.

    The large one of the paper is ``channels=128, blocks=16``.

    Args:
        scale: Scale by which it upscales.
        channels: Number of channels of the features, a multiple of four.
        blocks: Number of feature mixing modules.
        expansion: Factor of the channels inside the channel mixers.
        start: "bilinear", the untrained network interpolates the image; or "random", PyTorch's
            start. inferred: ours, "bilinear", which saves the first thousand steps or so.

    Raises:
        ValueError: the channels are no multiple of four.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 36,
        blocks: int = 8,
        expansion: float = 2.0,
        start: Literal["bilinear", "random"] = "bilinear",
    ) -> None:
        super().__init__()
        if channels % _LEVELS:
            raise ValueError(f"SAFMN needs a multiple of {_LEVELS} channels, not {channels}.")
        self.scales = (scale,)
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(MixingBlock(channels, expansion) for _ in range(blocks)))
        self.upsample = ConvShuffle(channels, 3, scale)
        if start == "bilinear":
            lasts = [part for block in self.blocks for part in _lasts(block)]
            carry_image(self.first, lasts, self.upsample, None)
            with torch.no_grad():
                # The features come twice: through the blocks and around them.
                self.first.weight[:3] /= 2

    @property
    def receptive_field(self) -> None:
        """The whole image: how cells lie depends on its sides.

        Of an image whose sides are multiples of eight, tiles that begin and end at multiples of
        eight are exact with a margin of 16 pixels for each block and eight more.
        """

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`."""
        x = self.first(lr)
        return self.upsample(self.blocks(x) + x)  # type: ignore[no-any-return]


def _lasts(block: nn.Module) -> tuple[nn.Conv2d, nn.Conv2d]:
    """The last convolution of both residuals of a block."""
    assert isinstance(block, MixingBlock)
    return block.modulation.fusion, block.project
