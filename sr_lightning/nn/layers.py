"""Layers that networks share: learned upsampling, attention, the mean colour.

Upsampling is arranged to be fast (sub-pixel, Shi et al. 2016, and deconvolution); inside
:func:`reference` layers compute what their papers write, for counting costs and proofs of equality.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "ChannelAttention",
    "ConvShuffle",
    "Deconvolution",
    "MeanShift",
    "SpatialAttention",
    "SubPixelUpsample",
    "is_reference",
    "reference",
]

_REFERENCE: list[bool] = []


@contextmanager
def reference() -> Iterator[None]:
    """Context in which layers with a faster arrangement compute what their papers write.

    The results are the same up to rounding (tested); it exists to show that, and what it saves.
    """
    _REFERENCE.append(True)
    try:
        yield
    finally:
        _REFERENCE.pop()


def is_reference(x: Tensor) -> bool:
    """Whether a layer has to compute `x` as its paper writes it.

    Always on the meta device, where costs are counted.
    """
    return x.is_meta or bool(_REFERENCE)


class ConvShuffle(nn.Conv2d):
    """A convolution followed by a pixel shuffle; weights are in the usual order.

    ``F.pixel_shuffle`` scatters single values of a channels-last tensor. With the output channels
    computed in the order (row, column, channel) whole runs of channels move instead: the same
    numbers, a fifth of a small network's training step saved.

    Args:
        in_channels: Number of channels of the input.
        out_channels: Number of channels of the upscaled output.
        factor: Factor by which height and width grow.
        kernel: Side of the convolution's kernel.
        bias: Whether there is one.
        groups: Number of groups of the convolution.
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
        last = x.is_contiguous(memory_format=torch.channels_last)
        if self.groups != 1 or not last or is_reference(x):
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
        channels: Number of channels in and out.
        scale: 2, 3, 4 or 8.
        bias: Bias of the convolutions.
        activation: Whether a ReLU follows each step (CARN's variant).
        groups: Number of groups of the convolutions.

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
            raise ValueError(f"A sub-pixel upsampler upscales by 2, 3, 4 or 8, not {scale}.")
        layers: list[nn.Module] = []
        for factor in factors:
            layers.append(ConvShuffle(channels, channels, factor, bias=bias, groups=groups))
            if activation:
                layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class Deconvolution(nn.ConvTranspose2d):
    """A transposed convolution that upscales by exactly `factor`, aligned as its network wants.

    Output pixel p sees input pixel q through the kernel's tap ``p + front - factor * q``.

    The same numbers are computed otherwise where that is faster on a CPU: as a product and a
    shuffle where kernels do not overlap (half of the backward pass), as a convolution of all phases
    and a pixel shuffle where fewer channels come out than one pixel has phases (several times).

    Args:
        in_channels: Number of channels of the input.
        out_channels: Number of channels of the upscaled output.
        kernel: Side of the kernel.
        factor: Factor by which height and width grow.
        front: Rows and columns cut off at the top and left of all that the input reaches; the
            rest is cut off at the bottom and right.
        bias: Whether there is one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        factor: int,
        front: int,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, factor, bias=bias)
        self.factor = factor
        self.front = front

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, in, H, W) to (N, out, factor * H, factor * W)."""
        kernel, factor, front = self.kernel_size[0], self.factor, self.front
        if not is_reference(x):
            if kernel == factor and front == 0:
                return self._product(x)
            if self.out_channels < factor**2:
                return self._phases(x)
        if 2 * front == kernel - factor:
            return F.conv_transpose2d(x, self.weight, self.bias, factor, front)
        height, width = (factor * extent for extent in x.shape[-2:])
        whole = F.conv_transpose2d(x, self.weight, self.bias, factor)
        return whole[..., front : front + height, front : front + width]

    def _product(self, x: Tensor) -> Tensor:
        factor = self.factor
        weight = self.weight.permute(2, 3, 1, 0).reshape(-1, self.in_channels, 1, 1)
        bias = None if self.bias is None else self.bias.repeat(factor * factor)
        y = F.conv2d(x, weight, bias).permute(0, 2, 3, 1)
        n, h, w, _ = y.shape
        spread = y.reshape(n, h, w, factor, factor, self.out_channels).transpose(2, 3)
        return spread.reshape(n, h * factor, w * factor, self.out_channels).permute(0, 3, 1, 2)

    def _phases(self, x: Tensor) -> Tensor:
        kernel, factor, front = self.kernel_size[0], self.factor, self.front
        # An output cell sees the input pixels from `before` to the left up to `after` to the right.
        before, after = (kernel - 1 - front) // factor, (factor - 1 + front) // factor
        cells = before + after + 1
        low = factor * after - front
        edges = (low, factor * cells - low - kernel)
        ordered = (
            F.pad(self.weight, (*edges, *edges))
            .reshape(*self.weight.shape[:2], cells, factor, cells, factor)
            .flip(2, 4)
            .permute(1, 3, 5, 0, 2, 4)
            .flatten(0, 2)
        )
        bias = None if self.bias is None else self.bias.repeat_interleave(factor**2)
        if before == after:
            y = F.conv2d(x, ordered, bias, padding=before)
        else:
            y = F.conv2d(F.pad(x, (before, after, before, after)), ordered, bias)
        return F.pixel_shuffle(y, factor)


class ChannelAttention(nn.Module):
    """Squeeze-and-excitation of channels (Hu et al. 2018; RCAN's CA layer).

    Global pooling, a bottleneck of two 1x1 convolutions, sigmoid, product.

    Args:
        channels: Number of channels of the feature map.
        reduction: Factor by which the bottleneck reduces the channels.
        pool: "mean" or "max" over all positions.
    """

    def __init__(
        self, channels: int, reduction: int = 16, pool: Literal["mean", "max"] = "mean"
    ) -> None:
        super().__init__()
        self.pool = pool
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Weight the channels of (N, C, H, W)."""
        pooled = (x.mean if self.pool == "mean" else x.amax)(dim=(2, 3), keepdim=True)
        gate: Tensor = self.excite(self.squeeze(pooled).relu()).sigmoid()
        return x * gate


class SpatialAttention(nn.Module):
    """Attention over positions from the channels' mean and maximum (CBAM, Woo et al. 2018).

    Args:
        kernel: Side of the convolution over the two maps.
    """

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Weight the positions of (N, C, H, W)."""
        maps = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        gate: Tensor = self.conv(maps).sigmoid()
        return x * gate


class MeanShift(nn.Module):
    """Takes the mean of DIV2K off an image, and puts it back on a prediction."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean = torch.tensor((0.4488, 0.4371, 0.4040)).reshape(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)

    def forward(self, lr: Tensor) -> Tensor:
        """An image (N, 3, H, W) less the mean."""
        return lr - self.mean

    def back(self, prediction: Tensor) -> Tensor:
        """A prediction (N, 3, H, W) and the mean, in float32 whatever the network's precision."""
        return prediction.float() + self.mean
