"""VDSR-Conv, EDSR-Conv and RDN-Conv: other trunks at the output's resolution with the LFR head.

The tables' comparison networks, trained as ASDN is. inferred: a trunk is its network up to the
layer that upscales or reconstructs, on RGB, and the branches are ASDN's.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from sr_lightning.baselines.edsr import ResidualBlock
from sr_lightning.baselines.rdn import ResidualDenseTrunk
from sr_lightning.nn.start import he_normal
from sr_lightning.papers.asdn.lfr import LaplacianNetwork

__all__ = ["EDSRConv", "RDNConv", "VDSRConv"]


class PlainTrunk(nn.Module):
    """Convolutions in a row, a ReLU after each.

    Args:
        layers: Number of convolutions.
        channels: Number of channels between them.
    """

    def __init__(self, layers: int, channels: int) -> None:
        super().__init__()
        widths = [3] + [channels] * layers
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to one feature map (N, C, H, W)."""
        x = image
        for layer in self.layers:
            x = layer(x).relu_()
        return [x]


class ResidualTrunk(nn.Module):
    """EDSR's trunk: a convolution, residual blocks, a convolution, and a skip around them.

    Args:
        blocks: Number of residual blocks.
        channels: Throughout.
        residual_scale: Factor of each block's residual.
    """

    def __init__(self, blocks: int, channels: int, residual_scale: float) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(ResidualBlock(channels, residual_scale) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to one feature map (N, C, H, W)."""
        x = self.head(image)
        return [x + self.body(x)]


class RDNTrunk(ResidualDenseTrunk):
    """RDN's trunk, whose one feature map is a list of one."""

    def forward(self, image: Tensor) -> list[Tensor]:  # type: ignore[override]
        """(N, 3, H, W) to one feature map (N, C, H, W)."""
        return [super().forward(image)]


class VDSRConv(LaplacianNetwork):
    """VDSR with the LFR head.

    Args:
        layers: Number of convolutions, the branch's included.
        channels: Number of channels between them.
        levels: See :class:`~sr_lightning.papers.asdn.lfr.LaplacianNetwork`, as for the rest.
        factors: Factors of every recursion.
        shared_pass: One run of the trunk for both levels.
        start: As the "skip" or "random".
    """

    def __init__(
        self,
        layers: int = 20,
        channels: int = 64,
        levels: int | list[float] = 11,
        factors: list[float] | None = None,
        shared_pass: bool = False,
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        trunk = PlainTrunk(layers - 1, channels)
        he_normal(trunk)
        super().__init__(trunk, [channels], levels, factors, shared_pass, start=start)


class EDSRConv(LaplacianNetwork):
    """EDSR with the LFR head; the defaults are EDSR's full size.

    Args:
        blocks: Number of residual blocks.
        channels: Number of channels of the trunk.
        residual_scale: Factor of each block's residual.
        levels: See :class:`~sr_lightning.papers.asdn.lfr.LaplacianNetwork`, as for the rest.
        factors: Factors of every recursion.
        shared_pass: One run of the trunk for both levels.
        start: As the "skip" or "random".
    """

    def __init__(
        self,
        blocks: int = 32,
        channels: int = 256,
        residual_scale: float = 0.1,
        levels: int | list[float] = 11,
        factors: list[float] | None = None,
        shared_pass: bool = False,
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        trunk = ResidualTrunk(blocks, channels, residual_scale)
        super().__init__(trunk, [channels], levels, factors, shared_pass, start=start)


class RDNConv(LaplacianNetwork):
    """RDN with the LFR head; the defaults are RDN's D = 16, C = 8, G = 64.

    Args:
        channels: Number of channels of the features, G0.
        growth: Growth rate of the blocks, G.
        blocks: D.
        layers: Number of layers of a block, C.
        levels: See :class:`~sr_lightning.papers.asdn.lfr.LaplacianNetwork`, as for the rest.
        factors: Factors of every recursion.
        shared_pass: One run of the trunk for both levels.
        start: As the "skip" or "random".
    """

    def __init__(
        self,
        channels: int = 64,
        growth: int = 64,
        blocks: int = 16,
        layers: int = 8,
        levels: int | list[float] = 11,
        factors: list[float] | None = None,
        shared_pass: bool = False,
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        trunk = RDNTrunk(channels, growth, blocks, layers)
        super().__init__(trunk, [channels], levels, factors, shared_pass, start=start)
