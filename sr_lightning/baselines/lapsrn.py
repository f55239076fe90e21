"""LapSRN (Lai et al., CVPR 2017, arXiv:1704.03915) and MS-LapSRN (TPAMI 2018, arXiv:1710.01992).

Both upscale step by step, x2 at a time; each step adds a predicted residual to an image that a
learned interpolation has doubled, and each step's image is supervised.

Recipe of papers and release: T91 and 200 images of BSDS, luminance, HR patches of 128 from images
downscaled by up to one half, batch 64, Charbonnier loss (eps 1e-3) summed over pixels and levels,
SGD with momentum 0.9 and weight decay 1e-4, rate 1e-5 (MS-LapSRN: 5e-6) halved every 50 (100)
epochs of 1000 steps, not below 1e-6, biases at a tenth of it. MS-LapSRN mixes x2, x4 and x8. Both
upscale by 3 through x4. Protocol lapsrn2017; see training/supervision.py for the loss.

Cost of LapSRN: 407,441, 814,242 and 1,221,043 parameters at x2, x4, x8. The published 813k are x4
without biases (812,768), and tables since CARN print them for x2 as well. Its 149.4 GMACs for a
1280 x 720 output at x4 count deconvolutions per output pixel; ours are 117.5. Its 29.9 at x2 are
those of the first step from 320 x 180 only: the whole is 119.7 so counted, and 94.1 of ours.
MS-LapSRN has 222,801 parameters whatever its recursions, published as 222k.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.nn.layers import Deconvolution
from sr_lightning.nn.network import YNetwork
from sr_lightning.nn.precision import full_precision
from sr_lightning.nn.receptive_field import (
    Span,
    side_of,
    through_convolution,
    through_deconvolution,
)
from sr_lightning.nn.start import he_normal, zero

__all__ = ["LapSRN", "MSLapSRN"]

_SLOPE = 0.2
_LEVELS = {2: 1, 4: 2, 8: 3}


class ImageDoubling(Deconvolution):
    """Learned interpolation of the image, bilinear to begin with; always in full precision."""

    def __init__(self) -> None:
        super().__init__(1, 1, 4, 2, front=1, bias=False)

    def bilinear(self) -> None:
        """Set the weights to bilinear interpolation."""
        line = torch.tensor([0.25, 0.75, 0.75, 0.25])
        self.weight.data.copy_(torch.outer(line, line))

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, 1, H, W) to (N, 1, 2H, 2W), at least float32."""
        with full_precision(x):
            return super().forward(x.to(torch.promote_types(x.dtype, torch.float32)))


class PyramidLevel(nn.Module):
    """One doubling of LapSRN: embedding, upscaled features, residual and image.

    Args:
        depth: Number of convolutions before the upscaling.
        channels: Number of channels of the features.
    """

    def __init__(self, depth: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(depth)
        )
        self.upsample = Deconvolution(channels, channels, 3, 2, front=0)
        self.residual = nn.Conv2d(channels, 1, 3, padding=1)
        self.image = ImageDoubling()

    def forward(self, features: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Both (N, C, H, W) and (N, 1, H, W), doubled."""
        for layer in self.embedding:
            features = F.leaky_relu(layer(features), _SLOPE, inplace=True)
        features = F.leaky_relu(self.upsample(features), _SLOPE)
        return features, self.image(image) + self.residual(features)


class LapSRN(YNetwork):
    """LapSRN: every level has weights of its own. Its predictions are x2, x4, ... in order.

    Args:
        scale: 2, 4 or 8.
        depth: Number of convolutions of a level before its upscaling.
        channels: Number of channels of the features.
        start: Residuals are zero, so that the untrained network gives its "skip", bilinear
            doublings; or "random", the release's start. inferred: ours, "skip".

    Raises:
        ValueError: there is no such scale.
    """

    def __init__(
        self,
        scale: int = 4,
        depth: int = 10,
        channels: int = 64,
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        if scale not in _LEVELS:
            raise ValueError(f"LapSRN upscales by 2, 4 or 8, not {scale}.")
        super().__init__((scale,))
        self.depth = depth
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.levels = nn.ModuleList(PyramidLevel(depth, channels) for _ in range(_LEVELS[scale]))
        _initialise(self, self.first)
        if start == "skip":
            zero(*(level.get_submodule("residual") for level in self.levels))

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels."""
        return side_of(_through_levels(self.scale, self.depth))

    def predict(self, y: Tensor, scale: float) -> list[Tensor]:
        """The image of every level; see :meth:`YNetwork.predict`."""
        features, image = F.leaky_relu(self.first(y), _SLOPE, inplace=True), y
        images = []
        for level in self.levels:
            features, image = level(features, image)
            images.append(image)
        return images


class MSLapSRN(YNetwork):
    """MS-LapSRN: one block of convolutions for all recursions, levels and scales.

    The block is pre-activated and recursive; with "source" skips every recursion's output is added
    to the level's input (LapSRN_SS of the paper). D5R2 is the default, D5R8 the best.

    Args:
        scale: 2, 4 or 8, or several for the paper's one network for all.
        depth: D, convolutions of the block.
        recursions: R of a level.
        channels: Number of channels of the features.
        skip: Skip to the "source" (the level's input), to the recursion's own input ("distinct"),
            or "none": SS, DS and NS of the paper's ablation.
        start: Residuals are zero, so that the untrained network gives its "skip", bilinear
            doublings; or "random", the release's start. inferred: ours, "skip".

    Raises:
        ValueError: there is no such scale.
    """

    def __init__(
        self,
        scale: int | tuple[int, ...] = (2, 4, 8),
        depth: int = 5,
        recursions: int = 2,
        channels: int = 64,
        skip: Literal["source", "distinct", "none"] = "source",
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        scales = (scale,) if isinstance(scale, int) else tuple(scale)
        if not scales or not set(scales) <= set(_LEVELS):
            raise ValueError(f"MS-LapSRN upscales by 2, 4 or 8, not by {scale}.")
        super().__init__(scales)
        self.recursions = recursions
        self.skip = skip
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.block = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(depth)
        )
        self.upsample = Deconvolution(channels, channels, 3, 2, front=0)
        self.residual = nn.Conv2d(channels, 1, 3, padding=1)
        self.image = ImageDoubling()
        _initialise(self, self.first)
        if start == "skip":
            zero(self.residual)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels, of the scale that needs most."""
        reach = len(self.block) * self.recursions
        return max(side_of(_through_levels(int(s), reach)) for s in self.scales)

    def embed(self, source: Tensor) -> Tensor:
        """Features of a level before its upscaling, (N, C, H, W)."""
        state = source
        for _ in range(self.recursions):
            entered = state
            for layer in self.block:
                state = layer(F.leaky_relu(state, _SLOPE))
            if self.skip != "none":
                state = state + (source if self.skip == "source" else entered)
        return state

    def predict(self, y: Tensor, scale: float) -> list[Tensor]:
        """The image of every level up to `scale`; see :meth:`YNetwork.predict`."""
        features, image = self.first(y), y
        images = []
        for _ in range(_LEVELS[int(scale)]):
            features = self.upsample(F.leaky_relu(self.embed(features), _SLOPE))
            image = self.image(image) + self.residual(features)
            images.append(image)
        return images


def _initialise(network: nn.Module, first: nn.Conv2d) -> None:
    he_normal(network)
    nn.init.normal_(first.weight, std=1e-3)
    for module in network.modules():
        if isinstance(module, ImageDoubling):
            module.bilinear()


def _through_levels(scale: int, reach: int) -> Span:
    """What a cell of the last level sees of the LR image, the first convolution included."""
    span = through_convolution((0, scale - 1), 1)
    for _ in range(_LEVELS[scale]):
        span = through_convolution(through_deconvolution(span, 3, 2, 0), reach)
    return through_convolution(span, 1)
