"""CIRN: cross-layer information refining network (Zhang and Lu), in plain torch.

Known are the motivation, the two-stage block and its formulas, and the gain that it brings. Trunk,
depth and width are inferred (the card says how); every open choice is an argument marked so.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sr_lightning.nn.layers import ConvShuffle, MeanShift, SubPixelUpsample
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.receptive_field import side_of, through_convolution, through_shuffle
from sr_lightning.nn.start import carry_image
from sr_lightning.papers.cirn.criss_cross import criss_cross_attention

__all__ = ["CIRN", "ISAB", "CrissCross", "ResidualGroup"]


class CrissCross(nn.Module):
    """One stage of attention: 1x1 projections and the sum over row and column, without residual.

    Args:
        channels: Number of channels of both feature maps and of the values.
        keys: Number of channels of queries and keys.
    """

    def __init__(self, channels: int, keys: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, keys, 1)
        # K and V come from the same features, so that one convolution gives both.
        self.key_value = nn.Conv2d(channels, keys + channels, 1)

    def forward(self, asking: Tensor, asked: Tensor) -> Tensor:
        """What the pixels of `asking` find in the rows and columns of `asked`, (N, C, H, W)."""
        sizes = [self.query.out_channels, asking.shape[1]]
        key, value = self.key_value(asked).split(sizes, dim=1)
        return criss_cross_attention(self.query(asking), key, value)


class ISAB(nn.Module):
    """Interlaced spatial attention block: refines a deeper layer by the one before it.

    Two stages, ``X' = CC(Y, X) + X`` and ``Y' = CC(Y, X') + Y``: information of X goes from pixel n
    along n's row or column to the crossing points with m's, and from there to m. So every pixel of
    Y' depends on all of X (the slides' propagation formula with S1 and S2).

    Args:
        channels: Number of channels of both feature maps.
        reading: "interlaced" as above; "mutual" is the other reading of the name,
            ``Y' = CC(X', Y) + Y``, after which a pixel has seen its own row and column only.
        reduction: Factor by which the channels are reduced in queries and keys.
        shared: The two stages have the same projections.
        gain: Initial value of the two learned factors of CC.
    """

    def __init__(
        self,
        channels: int,
        reading: Literal["interlaced", "mutual"] = "interlaced",
        reduction: int = 8,
        shared: bool = False,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.reading = reading
        count = 1 if shared else 2
        self.stages = nn.ModuleList(
            CrissCross(channels, channels // reduction) for _ in range(count)
        )
        self.gains = nn.Parameter(torch.full((2,), float(gain)))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Refine Y.

        Args:
            x: The lower features X, (N, C, H, W).
            y: The higher features Y, (N, C, H, W).

        Returns:
            Y', of the same shape.
        """
        first, second = self.stages[0], self.stages[-1]
        x = x + self.gains[0] * first(y, x)
        found: Tensor = second(y, x) if self.reading == "interlaced" else second(x, y)
        return y + self.gains[1] * found


class ResidualBlock(nn.Module):
    """EDSR's: convolution, ReLU, convolution and skip.

    Args:
        channels: Number of channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        residual: Tensor = self.conv2(self.conv1(x).relu())
        return x + residual


class ResidualGroup(nn.Module):
    """RCAN's residual group without channel attention: blocks, a convolution and a skip.

    Args:
        channels: Number of channels in and out.
        blocks: Number of residual blocks.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(ResidualBlock(channels) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        residual: Tensor = self.body(x)
        return x + residual


class CIRN(SRNetwork):
    """Cross-layer information refining network.

    ``y_1 = G_1(x)`` and ``y_i = ISAB(y_(i-1), G_i(y_(i-1)))``: each residual group's features are
    refined by the ones that it was given. The defaults are the "paper-like" size (8.2M parameters
    at x4); the "light" one is ``groups=6, blocks=4, channels=48`` (1.3M).

    Args:
        scale: 2, 3, 4 or 8.
        groups: Number of residual groups. inferred: no size is published; 10 groups of 10 blocks is
            half of RCAN, whose numbers CIRN passes "with fewer parameters".
        blocks: Number of blocks of each group. inferred: see `groups`.
        channels: Number of channels of all features. inferred: 64 as in RCAN, RDN and EDSR's
            baseline.
        isab: Which attention refines; "none" is the ablation "w/o ISAB". inferred: "interlaced",
            since only it lets a pixel see the whole map after two stages, as the slides derive;
            "mutual" is the other reading of "interlaced"; see :class:`ISAB`.
        reduction: Factor by which the channels are reduced in queries and keys. inferred: 8,
            CCNet's.
        shared: Whether both stages of an ISAB have the same projections. inferred: no; the slides
            write two stages with features of different layers.
        gain: Initial value of the attention's learned factors. inferred: 1, for the slides' formula
            has no factor; with CCNet's 0 the network starts as the one without ISAB, and short
            trainings leave it there.
        start: "bilinear", the untrained network interpolates the image; or "random", PyTorch's
            start. inferred: ours, "bilinear", which saves the first thousand steps or so.

    Raises:
        ValueError: there is no group, no block, or no channel left for keys; or another scale.
    """

    def __init__(
        self,
        scale: int = 4,
        groups: int = 10,
        blocks: int = 10,
        channels: int = 64,
        isab: Literal["interlaced", "mutual", "none"] = "interlaced",
        reduction: int = 8,
        shared: bool = False,
        gain: float = 1.0,
        start: Literal["bilinear", "random"] = "bilinear",
    ) -> None:
        super().__init__()
        if groups < 1 or blocks < 1:
            raise ValueError(f"CIRN needs a group and a block in it, not {groups} and {blocks}.")
        if not 1 <= reduction <= channels:
            raise ValueError(f"Keys of {channels} channels over {reduction} have no channel.")
        self.scales = (scale,)
        # inferred: the mean is taken off as in EDSR and RCAN.
        self.shift = MeanShift()
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.groups = nn.ModuleList(ResidualGroup(channels, blocks) for _ in range(groups))
        self.isabs = nn.ModuleList()
        if isab != "none":
            self.isabs.extend(
                ISAB(channels, isab, reduction, shared, gain) for _ in range(groups - 1)
            )
        self.last = nn.Conv2d(channels, channels, 3, padding=1)
        self.upsample = SubPixelUpsample(channels, scale)
        self.tail = nn.Conv2d(channels, 3, 3, padding=1)
        if start == "bilinear":
            carry_image(self.head, [self.last], self.upsample, self.tail)

    @property
    def receptive_field(self) -> int | None:
        """The whole image (None), unless there is no attention."""
        if self.isabs:
            return None
        span = through_convolution((0, self.scale - 1), 1)
        for step in reversed(self.upsample):
            assert isinstance(step, ConvShuffle)
            span = through_convolution(through_shuffle(span, step.factor), 1)
        deep = sum(isinstance(m, nn.Conv2d) for m in self.groups.modules())
        return side_of(through_convolution(span, 1 + deep + 1))

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`."""
        shallow = self.head(self.shift(lr))
        features = self.groups[0](shallow)
        for index, group in enumerate(self.groups[1:]):
            deeper = group(features)
            features = self.isabs[index](features, deeper) if self.isabs else deeper
        features = shallow + self.last(features)
        return self.shift.back(self.tail(self.upsample(features)))
