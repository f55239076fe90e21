"""Laplacian frequency representation (LFR): every real scale from a few trained ones.

ASDN (Shen, Wang and Zhang, 2020, https://arxiv.org/abs/2010.02414) in the parts that any trunk can
have: levels, phases between them, recursion beyond the last, and reconstruction branches.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.cubic import upscaled_size
from sr_lightning.errors import UserError
from sr_lightning.nn.bicubic import bicubic_to
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.precision import full_precision
from sr_lightning.nn.start import zero

__all__ = [
    "LaplacianNetwork",
    "Normalise",
    "ReconstructionBranch",
    "SplitConv",
    "level_scales",
    "passes",
    "resized",
]

# Scales nearer to each other than this are one: (L - 1)(r - 1) is not whole in floating point for
# r = 1.1, 1.3 and 1.6, where its ceiling would be one level too high.
_NEAR = 1e-6

# Level 0 in the paper's figure: nothing to upscale, but a network to run.
_FIRST = 1.0001

# Mean and standard deviation of DIV2K: DBDN's mean shift, and what the student project divides by.
_COLOURS = {
    "mean": ((0.4488, 0.4371, 0.4040), (1.0, 1.0, 1.0)),
    "mean_std": ((0.4485, 0.4375, 0.4045), (0.2436, 0.2330, 0.2424)),
}


def level_scales(levels: int | Sequence[float]) -> tuple[float, ...]:
    """Scales r_l = 1 + l / (L - 1) of L levels, or those given.

    Level 0 stands at 1.0001, as in the paper's figure.

    Raises:
        ValueError: there are fewer than two levels, or those given do not rise from 1 on.
    """
    if isinstance(levels, int):
        if levels < 2:
            raise ValueError(f"LFR needs two levels, not {levels}.")
        return (_FIRST, *(1 + level / (levels - 1) for level in range(1, levels)))
    scales = tuple(levels)
    if len(scales) < 2 or scales[0] < 1 or sorted(set(scales)) != list(scales):
        raise ValueError(f"Levels must be two or more scales that rise, not {list(scales)}.")
    return scales


def passes(scale: float, largest: float) -> list[float]:
    """Factors of a recursive upscaling, "largest first".

    N = ceil(log R / log largest) factors: the largest N - 1 times, then the rest.

    Args:
        scale: R, at least 1.
        largest: Scale of the last level.
    """
    count = max(1, math.ceil(math.log(scale) / math.log(largest) - _NEAR))
    return [largest] * (count - 1) + [scale / largest ** (count - 1)]


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Images at a size near their own by antialiased bicubic, in float32 or more.

    Args:
        image: (N, C, H, W).
        size: (height, width), smaller or larger.
    """
    if tuple(image.shape[-2:]) == size:
        return image
    with full_precision(image):
        image = image.to(torch.promote_types(image.dtype, torch.float32))
        return F.interpolate(image, size, mode="bicubic", antialias=True)


class SplitConv(nn.Conv2d):
    """Convolution of a concatenation that is never made: one convolution per part, summed.

    The same numbers and as fast; but a dense block's training keeps each feature map once instead
    of once per convolution that sees it (for ASDN, a sixth of the memory).

    Args:
        widths: Channels of each part.
        out_channels: Number of channels of the result.
        kernel: Side of the kernel.
        exact: Sum in float32, whatever the precision of the convolutions.
    """

    def __init__(
        self, widths: Sequence[int], out_channels: int, kernel: int, exact: bool = False
    ) -> None:
        super().__init__(sum(widths), out_channels, kernel, padding=kernel // 2)
        self.widths = list(widths)
        self.exact = exact

    def forward(self, parts: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        """Convolve the concatenation of `parts`, each (N, C_i, H, W)."""
        weights = torch.split(self.weight, self.widths, dim=1)
        total = F.conv2d(parts[0], weights[0], self.bias, padding=self.padding)
        if self.exact:
            total = total.to(torch.promote_types(total.dtype, torch.float32))
        for part, weight in zip(parts[1:], weights[1:], strict=True):
            total += F.conv2d(part, weight, padding=self.padding)
        return total


class ReconstructionBranch(nn.Module):
    """IRB: features to a residual image, weighted per pixel and colour by spatial attention.

    Args:
        widths: Channels of each feature map.
        attention: The spatial attention (SA), two 1x1 convolutions on the residual image.
        expansion: Channels between them, per colour.
    """

    def __init__(self, widths: Sequence[int], attention: bool, expansion: int) -> None:
        super().__init__()
        self.reconstruct = SplitConv(widths, 3, 1, exact=True)
        self.attention = (
            nn.Sequential(
                nn.Conv2d(3, 3 * expansion, 1),
                nn.ReLU(),
                nn.Conv2d(3 * expansion, 3, 1),
                nn.Sigmoid(),
            )
            if attention
            else None
        )

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Feature maps (N, C_i, H, W) to (N, 3, H, W) in float32."""
        residual: Tensor = self.reconstruct(parts)
        return residual if self.attention is None else residual * self.attention(residual)


class Normalise(nn.Module):
    """Centres colours for the trunk and scales its residual image back.

    Args:
        kind: "mean" or "mean_std" of DIV2K.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, kind: Literal["mean", "mean_std"]) -> None:
        super().__init__()
        for name, values in zip(("mean", "std"), _COLOURS[kind], strict=True):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """An image (N, 3, H, W) as the trunk sees it."""
        return (image - self.mean) / self.std

    def onto(self, base: Tensor, residual: Tensor) -> Tensor:
        """The image `base` and a residual in the trunk's units."""
        return base + self.std * residual


class LaplacianNetwork(SRNetwork):
    """A trunk at the output's resolution, and a reconstruction branch for each level of scale.

    Level l is trained at r_l alone: its image O_l is the bicubic upscaling by r_l and what its
    branch adds. Between two levels, ``O_r = O_i + w_r (O_{i-1} - O_i)`` with the phase
    ``w_r = (r_i - r) / (r_i - r_{i-1})``, and beyond the last the network takes its own output
    (paper, section on LFR; slides "LFR" and "Recursive deployment").

    Args:
        trunk: (N, 3, H, W) to feature maps (N, C_i, H, W).
        widths: Channels C_i of each.
        levels: Their number L, spaced evenly over (1, 2], or their scales; ``[2, 3, 4]`` is the
            tables' direct deployment, 101 is "-100" with its one branch for each of 100 scales.
        factors: Factors of every recursion, in place of "largest first".
        shared_pass: Between two levels, run the trunk once, at the output's size, for both
            branches. Off, each level runs at its own size, as it was trained, and its image is
            resized: exact in the paper's sense, at twice the cost. On a level the two are one.
        spatial_attention: Spatial attention in the branches (SA of the ablation).
        skip: Add the upscaled image (SC of the ablation).
        expansion: Expansion of the spatial attention. inferred: 2, as in the student project.
        normalise: Colours by the "mean", or "mean_std", of DIV2K. inferred: "mean", as in DBDN,
            the authors' network before.
        start: The branches are zero, so that the untrained network gives its "skip", the upscaled
            image; or "random", PyTorch's start. inferred: ours, "skip".

    Attributes:
        scales: Scales of the levels.
    """

    takes_scale = True

    def __init__(
        self,
        trunk: nn.Module,
        widths: Sequence[int],
        levels: int | Sequence[float] = 11,
        factors: Sequence[float] | None = None,
        shared_pass: bool = False,
        spatial_attention: bool = True,
        skip: bool = True,
        expansion: int = 2,
        normalise: Literal["mean", "mean_std"] = "mean",
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        super().__init__()
        self.scales = level_scales(levels)
        self.arbitrary_scale = self.scales[0] <= _FIRST
        self.factors = factors
        self.shared_pass = shared_pass
        self.skip = skip
        self.normalise = Normalise(normalise)
        self.trunk = trunk
        self.branches = nn.ModuleList(
            ReconstructionBranch(widths, spatial_attention, expansion) for _ in self.scales
        )
        if start == "skip" and skip:
            zero(*(branch.get_submodule("reconstruct") for branch in self.branches))

    @property
    def receptive_field(self) -> None:
        """None: tiles are not exact, whatever the trunk.

        A pass between two levels has pixel grids that begin anew in every tile.
        """
        return None

    def phase(self, scale: float) -> tuple[int, float]:
        """Level i at or above a scale, and the weight w_r, in [0, 1), of the level below it.

        Raises:
            UserError: the scale lies outside the levels.
        """
        lowest = 1.0 if self.scales[0] <= _FIRST else self.scales[0]
        if not lowest - _NEAR <= scale <= self.scales[-1] + _NEAR:
            raise UserError(
                f"This {type(self).__name__} has levels from {lowest:g} to {self.scales[-1]:g}; it "
                f"cannot upscale by {scale:g} in one pass."
            )
        upper = bisect_left(self.scales[:-1], scale - _NEAR)
        above = self.scales[upper] - scale
        if upper == 0 or above <= _NEAR:
            return upper, 0.0
        return upper, above / (self.scales[upper] - self.scales[upper - 1])

    def at_levels(
        self, image: Tensor, size: tuple[int, int], levels: Sequence[int]
    ) -> list[Tensor]:
        """Images of some levels' branches, from one run of the trunk.

        Args:
            image: (N, 3, H, W) RGB in [0, 1].
            size: (height, width) that the trunk works at.
            levels: Levels whose branches run.

        Returns:
            (N, 3, height, width) each.
        """
        upscaled = bicubic_to(image, size)
        parts = self.trunk(self.normalise(upscaled))
        base = upscaled if self.skip else self.normalise.mean
        return [self.normalise.onto(base, self.branches[level](parts)) for level in levels]

    def one_pass(self, image: Tensor, scale: float, size: tuple[int, int]) -> Tensor:
        """Upscale within the levels.

        Args:
            image: (N, 3, H, W) RGB in [0, 1].
            scale: Scale that decides the levels.
            size: (height, width) of the result, about `scale` times (H, W).
        """
        upper, weight = self.phase(scale)
        if not weight:
            return self.at_levels(image, size, [upper])[0]
        if self.shared_pass:
            low, high = self.at_levels(image, size, [upper - 1, upper])
        else:
            height, width = image.shape[-2:]
            low, high = (
                resized(
                    self.at_levels(
                        image, upscaled_size((height, width), self.scales[level]), [level]
                    )[0],
                    size,
                )
                for level in (upper - 1, upper)
            )
        return high + weight * (low - high)

    def forward(  # type: ignore[override]
        self, lr: Tensor, scale: float, factors: Sequence[float] | None = None
    ) -> Tensor:
        """Upscale images by any real scale; the size is rounded once, from the LR image's.

        Args:
            lr: (N, 3, H, W) RGB in [0, 1].
            scale: Scale, at least that of the first level.
            factors: Factors of the recursion, such as ``[1.8, 1.8, 1.234]`` for 4; default "largest
                first".

        Raises:
            UserError: the factors do not make the scale, or lie outside the levels.
        """
        factors = factors or self.factors or passes(scale, self.scales[-1])
        product = math.prod(factors)
        if not math.isclose(product, scale, rel_tol=0.01):
            raise UserError(f"The factors {list(factors)} make {product:.4g}, not {scale:g}.")
        height, width = lr.shape[-2:]
        image, reached = lr, 1.0
        for factor in factors[:-1]:
            reached *= factor
            image = self.one_pass(image, factor, upscaled_size((height, width), reached))
        return self.one_pass(image, factors[-1], upscaled_size((height, width), scale))
