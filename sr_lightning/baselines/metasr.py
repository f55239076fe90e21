"""Meta-SR (Hu et al., CVPR 2019, arXiv:1903.00875): one network for every scale from 1.1 to 4.

The features of EDSR or RDN, and an upscaler whose filters are predicted per HR pixel from where the
pixel lies in its LR pixel, and from the scale.

Recipe: RGB; DIV2K, LR patches of 50, batch 16, one of the scales 1.1, 1.2, .., 4.0 per step; L1;
Adam 1e-4 halved every 200k of 1,000k steps; protocol edsr2017.
Cost: Meta-EDSR 1,665,536 parameters and 282.3, 126.4, 71.8 GMACs at x2, x3, x4 (1280 x 720);
Meta-RDN 22,419,072 and 5,062, 2,253, 1,267. 445,120 of the parameters predict filters; the paper
gives no count. The authors warn of a bug in their released code; HR pixels lie here where the paper
says, pixel i in LR pixel floor(i / r).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.baselines.edsr import ResidualBlock
from sr_lightning.baselines.rdn import ResidualDenseTrunk
from sr_lightning.cubic import upscaled_size
from sr_lightning.nn.layers import MeanShift
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.precision import full_precision

__all__ = ["MetaEDSR", "MetaNetwork", "MetaRDN", "MetaUpscale"]

_SCALES = tuple(tenths / 10 for tenths in range(11, 41))


class MetaUpscale(nn.Module):
    """Filters predicted by two fully connected layers from (1 / r, row offset, column offset).

    At a scale r = p / q offsets repeat every p HR and q LR pixels, so that all LR pixels in one
    class of q x q share their filters, and at a whole scale all of them: one sub-pixel convolution.

    Args:
        channels: Number of channels of the features.
        hidden: Number of channels between the two layers.
        kernel: Side of the filters.
    """

    def __init__(self, channels: int, hidden: int = 256, kernel: int = 3) -> None:
        super().__init__()
        self.kernel = kernel
        self.predict = nn.Sequential(
            nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, channels * kernel**2 * 3)
        )

    def filters(self, ratio: Fraction, rows: range, columns: range) -> Tensor:
        """Filters (rows, most, columns, most, C * k^2, 3) of LR pixels' HR pixels.

        Args:
            ratio: The scale.
            rows: Rows of LR pixels.
            columns: Columns of LR pixels. `most` HR pixels, ceil(r), are taken of each row and
                column, beginning with the first that lies in it; the last of them may lie in the
                next.
        """
        most, like = math.ceil(ratio), next(self.parameters())

        def offsets(pixels: range) -> Tensor:
            first = (math.ceil(pixel * ratio) for pixel in pixels)
            inside = [float((f + k) / ratio % 1) for f in first for k in range(most)]
            return torch.tensor(inside, device=like.device, dtype=like.dtype)

        grid = torch.cartesian_prod(offsets(rows), offsets(columns))
        inverse = torch.full_like(grid[:, :1], float(1 / ratio))
        with full_precision(grid):
            predicted: Tensor = self.predict(torch.cat([inverse, grid], dim=1))
        return predicted.reshape(len(rows), most, len(columns), most, -1, 3)

    def forward(self, x: Tensor, scale: float) -> Tensor:
        """(N, C, H, W) to (N, 3, round(rH), round(rW))."""
        ratio = Fraction(scale).limit_denominator(1000)
        if ratio.denominator > 1:
            return self._by_class(x, ratio)
        factor, channels = int(ratio), x.shape[1]
        weight = self.filters(ratio, range(1), range(1)).reshape(factor**2, -1, 3)
        weight = weight.permute(2, 0, 1).reshape(-1, channels, self.kernel, self.kernel)
        return F.pixel_shuffle(F.conv2d(x, weight, padding=self.kernel // 2), factor)

    def _by_class(self, x: Tensor, ratio: Fraction) -> Tensor:
        n, _, height, width = x.shape
        most, margin = math.ceil(ratio), self.kernel // 2
        down, across = (min(ratio.denominator, extent) for extent in (height, width))
        # Whole periods of classes: what the padding makes is not selected in the end.
        x = F.pad(x, (0, -width % across, 0, -height % down))
        tall, wide = x.shape[2] // down, x.shape[3] // across
        patches = F.unfold(x, self.kernel, padding=margin).reshape(n, -1, tall, down, wide, across)
        classes = []
        for row in range(down):
            # (columns' class, N * tall * wide, C * k^2) @ (columns' class, C * k^2, most^2 * 3)
            seen = patches[:, :, :, row].permute(4, 0, 2, 3, 1).flatten(1, 3)
            filters = self.filters(ratio, range(row, row + 1), range(across))[0]
            made = seen @ filters.permute(1, 3, 0, 2, 4).flatten(2)
            made = made.reshape(across, n, tall, wide, most, most, 3)
            classes.append(made.permute(1, 6, 2, 4, 3, 0, 5).flatten(4))
        # (N, 3, tall, class, row in it, columns) to all rows that were made, one under another
        image = torch.stack(classes, dim=3).flatten(2, 4)
        rows, columns = (
            torch.tensor(_made(ratio, extent), device=x.device)
            for extent in upscaled_size((height, width), float(ratio))
        )
        return image.index_select(2, rows).index_select(3, columns)


def _made(ratio: Fraction, extent: int) -> list[int]:
    """Where HR pixels lie in a line that holds `most` pixels of every LR pixel."""
    most, places = math.ceil(ratio), []
    for pixel in range(extent):
        low = int(pixel / ratio)
        places.append(low * most + pixel - math.ceil(low * ratio))
    return places


class MetaNetwork(SRNetwork):
    """Any network's features and the meta-upscaler.

    Args:
        trunk: (N, 3, H, W) to (N, C, H, W) at LR.
        reach: LR pixels to each side that it sees.
        channels: C.
        scales: Scales that it is trained and validated at; images can be upscaled by any.
    """

    takes_scale = True

    def __init__(
        self, trunk: nn.Module, reach: int, channels: int, scales: Sequence[float]
    ) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.reach = reach
        self.shift = MeanShift()
        self.trunk = trunk
        self.upscaler = MetaUpscale(channels)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels: the trunk and the predicted filters."""
        return 2 * (self.reach + self.upscaler.kernel // 2) + 1

    def forward(self, lr: Tensor, scale: float | None = None) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`.

        Args:
            lr: (N, 3, H, W) RGB in [0, 1].
            scale: Any scale of at least 1; default: the only one of `scales`.
        """
        by = self.scale if scale is None else scale
        return self.shift.back(self.upscaler(self.trunk(self.shift(lr)), by))


class EDSRTrunk(nn.Module):
    """EDSR up to its upsampler: a convolution, residual blocks, a convolution, a skip.

    Args:
        channels: Number of channels of the features.
        blocks: Number of residual blocks.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(ResidualBlock(channels) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, C, H, W)."""
        x = self.head(x)
        features: Tensor = x + self.body(x)
        return features


class MetaEDSR(MetaNetwork):
    """Meta-EDSR; the defaults are the released options', EDSR's baseline.

    Args:
        scale: Scales that it is trained and validated at.
        channels: Number of channels of the features.
        blocks: Number of residual blocks.
    """

    def __init__(
        self, scale: Sequence[float] = _SCALES, channels: int = 64, blocks: int = 16
    ) -> None:
        super().__init__(EDSRTrunk(channels, blocks), 2 + 2 * blocks, channels, scale)


class MetaRDN(MetaNetwork):
    """Meta-RDN; the defaults are RDN's.

    Args:
        scale: Scales that it is trained and validated at.
        channels: Number of channels of the features, G0.
        growth: Growth rate of the blocks, G.
        blocks: D.
        layers: Number of layers of a block, C.
    """

    def __init__(
        self,
        scale: Sequence[float] = _SCALES,
        channels: int = 64,
        growth: int = 64,
        blocks: int = 16,
        layers: int = 8,
    ) -> None:
        trunk = ResidualDenseTrunk(channels, growth, blocks, layers)
        super().__init__(trunk, trunk.reach, channels, scale)
