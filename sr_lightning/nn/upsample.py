"""Sub-pixel enlargement (Shi et al. 2016), arranged so that channels-last memory stays so."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ConvShuffle", "SubPixelUpsample"]


class ConvShuffle(nn.Conv2d):
    """A convolution followed by a pixel shuffle; weights are in the usual order.

    ``F.pixel_shuffle`` scatters single values of a channels-last tensor. With the output channels
    computed in the order (row, column, channel) whole runs of channels move instead: the same
    numbers, a fifth of a small network's training step saved.

    Args:
        in_channels: of the input.
        out_channels: of the enlarged output.
        factor: by which height and width grow.
        kernel: side of the convolution's kernel.
        bias: whether there is one.
        groups: of the convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        factor: int,
        kernel: int = 3,
        bias: bool = True,
        groups: int = 1,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels * factor**2,
            kernel,
            padding=kernel // 2,
            bias=bias,
            groups=groups,
        )
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) to (N, out, factor * H, factor * W)."""
        factor = self.factor
        if self.groups != 1 or not x.is_contiguous(memory_format=torch.channels_last):
            return F.pixel_shuffle(super().forward(x), factor)
        channels = self.out_channels // factor**2
        cells, rest = factor * factor, self.weight.shape[1:]
        weight = self.weight.reshape(channels, cells, *rest).transpose(0, 1).flatten(0, 1)
        bias = None
        if self.bias is not None:
            bias = self.bias.reshape(channels, cells).T.flatten()
        y = F.conv2d(x, weight, bias, padding=self.padding).permute(0, 2, 3, 1)
        n, h, w, _ = y.shape
        spread = y.reshape(n, h, w, factor, factor, channels).transpose(2, 3)
        return spread.reshape(n, h * factor, w * factor, channels).permute(0, 3, 1, 2)


class SubPixelUpsample(nn.Sequential):
    """EDSR's upsampler: one x3 step, or as many x2 steps as the scale needs.

    Args:
        channels: in and out.
        scale: 2, 3, 4 or 8.
        bias: of the convolutions.
        activation: whether a ReLU follows each step (CARN's variant).
        groups: of the convolutions.

    Raises:
        ValueError: the scale is none of these.
    """

    def __init__(
        self,
        channels: int,
        scale: int,
        bias: bool = True,
        activation: bool = False,
        groups: int = 1,
    ) -> None:
        factors = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}.get(scale)
        if factors is None:
            raise ValueError(f"A sub-pixel upsampler enlarges by 2, 3, 4 or 8, not {scale}.")
        layers: list[nn.Module] = []
        for factor in factors:
            layers.append(ConvShuffle(channels, channels, factor, bias=bias, groups=groups))
            if activation:
                layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)
