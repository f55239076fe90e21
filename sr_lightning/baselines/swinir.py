"""SwinIR (Liang et al., ICCV Workshops 2021, arXiv:2108.10257): attention within shifted windows.

Residual groups of Swin transformer layers: attention within windows of 8x8 pixels, which lie half a
window further in every second layer, and a perceptron for each pixel. The defaults are the small
network, for "lightweight" super-resolution, which shuffles its features to the image at once.

Recipe of the release: DIV2K, RGB, LR patches of 64, batch 64, L1, Adam at 2e-4 halved at 250k,
400k, 450k and 475k of 500k steps, averaged weights (0.999), x3 and x4 from x2. Protocol imdn2019,
as the release's script reads grey files.

Cost (published in brackets): 910,152, 918,267 and 929,628 parameters, of which tables of relative
positions are 32,400 [878K, 886K, 897K without them], and 240.91, 109.25, 62.71 GMACs [195.6, 87.2,
49.6, counted in a way that is not known] at x2, x3, x4 (1280 x 720).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.nn.layers import ConvShuffle, MeanShift
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.start import carry_image

__all__ = ["SwinIR"]

# What is taken off the logits of pixels that must not see each other; their shares are e^-100.
_APART = 100.0


class WindowAttention(nn.Module):
    """Multi-head attention among the pixels of a window, which know how they lie to each other.

    Args:
        channels: Number of channels in and out.
        heads: Number of heads, of which the channels are a multiple.
        window: Side of a window.
    """

    index: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        span = 2 * window - 1
        self.position_bias = nn.Parameter(torch.empty(span**2, heads))
        nn.init.trunc_normal_(self.position_bias, std=0.02)
        side = torch.arange(window)
        places = torch.cartesian_prod(side, side)
        offset = places[:, None] - places[None] + window - 1
        self.register_buffer("index", offset[..., 0] * span + offset[..., 1], persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Let pixels see those of their window.

        Args:
            x: (N, windows, pixels, C).
            mask: (windows, pixels, pixels), added to the logits; None where all see all.
        """
        n, windows, pixels, channels = x.shape
        split = self.qkv(x).reshape(n, windows, pixels, 3, self.heads, channels // self.heads)
        q, k, v = split.permute(3, 0, 1, 4, 2, 5).unbind(0)
        bias = self.position_bias[self.index].permute(2, 0, 1)
        if mask is not None:
            bias = bias + mask.unsqueeze(1)
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias
        seen = logits.softmax(dim=-1) @ v
        return self.project(seen.transpose(2, 3).flatten(3))  # type: ignore[no-any-return]


class TransformerLayer(nn.Module):
    """STL: window attention and a perceptron of two layers, each after a norm and added.

    Args:
        channels: Number of channels in and out.
        heads: Number of heads of the attention.
        window: Side of a window.
        shift: Pixels by which the windows lie further to the bottom and right.
        expansion: Factor of the channels inside the perceptron.
    """

    def __init__(
        self, channels: int, heads: int, window: int, shift: int, expansion: float
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, window)
        self.norm2 = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, int(expansion * channels))
        self.project = nn.Linear(int(expansion * channels), channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, H, W, C), whose sides are multiples of the window, to the same shape.

        Args:
            x: Features.
            mask: For windows that are shifted; see :func:`_mask`.
        """
        size, shift = x.shape[1:3], self.shift
        inner = self.norm1(x)
        if shift:
            inner = inner.roll((-shift, -shift), (1, 2))
        windows = _cut(inner, self.window)
        inner = _joined(self.attention(windows, mask if shift else None), self.window, *size)
        if shift:
            inner = inner.roll((shift, shift), (1, 2))
        x = x + inner
        return x + self.project(F.gelu(self.expand(self.norm2(x))))  # type: ignore[no-any-return]


class ResidualGroup(nn.Module):
    """RSTB: transformer layers and a 3x3 convolution, added to the input (equations 4 and 5).

    Args:
        channels: Number of channels in and out.
        depth: Number of layers, of which every second one has shifted windows.
        heads: Number of heads of the attention.
        window: Side of a window.
        expansion: Factor of the channels inside the perceptrons.
    """

    def __init__(
        self, channels: int, depth: int, heads: int, window: int, expansion: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerLayer(channels, heads, window, index % 2 * (window // 2), expansion)
            for index in range(depth)
        )
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, H, W, C) to the same shape; arguments as of :meth:`TransformerLayer.forward`."""
        inner = x
        for layer in self.layers:
            inner = layer(inner, mask)
        return x + _last(self.conv(_first(inner)))


class SwinIR(SRNetwork):
    """SwinIR with a direct upsampler; the defaults are its small network.

    Sides that are no multiples of the window are mirrored up to the next one, the last pixel too,
    as the release's script does; where they are multiples that has a whole window more.

    Args:
        scale: Scale by which it upscales.
        channels: Number of channels of the features, a multiple of the heads.
        depths: Number of transformer layers of each residual group.
        heads: Number of heads of the attention.
        window: Side of a window, in pixels.
        expansion: Factor of the channels inside the perceptrons.
        start: "bilinear", the untrained network interpolates the image; or "random", the release's
            start. inferred: ours, "bilinear", which saves the first thousand steps or so. The
            release also drops residuals by chance in training, a tenth of the deepest, which by its
            own remark does not matter; left out.

    Raises:
        ValueError: the channels are no multiple of the heads.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 60,
        depths: Sequence[int] = (6, 6, 6, 6),
        heads: int = 6,
        window: int = 8,
        expansion: float = 2.0,
        start: Literal["bilinear", "random"] = "bilinear",
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{heads} heads need a multiple of {heads} channels, not {channels}.")
        self.scales = (scale,)
        self.window = window
        self.shift = MeanShift()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.norm = nn.LayerNorm(channels)
        self.groups = nn.ModuleList(
            ResidualGroup(channels, depth, heads, window, expansion) for depth in depths
        )
        self.last_norm = nn.LayerNorm(channels)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)
        self.upsample = ConvShuffle(channels, 3, scale)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        if start == "bilinear":
            carry_image(self.first, [self.last], self.upsample, None)

    @property
    def receptive_field(self) -> None:
        """The whole image: how windows lie depends on its sides.

        Of an image whose sides are multiples of the window, tiles that begin and end at multiples
        of it are exact with a margin of one window for each layer and one more.
        """

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`."""
        height, width = lr.shape[-2:]
        first = self.first(_mirrored(self.shift(lr), self.window))
        mask = _mask(first, self.window)
        x = self.norm(_last(first))
        for group in self.groups:
            x = group(x, mask)
        features = self.last(_first(self.last_norm(x))) + first
        sr = self.shift.back(self.upsample(features))
        return _cropped(sr, height * self.scale, width * self.scale)


def _first(x: Tensor) -> Tensor:
    """Channels last to first."""
    return x.permute(0, 3, 1, 2)


def _last(x: Tensor) -> Tensor:
    """Channels first to last."""
    return x.permute(0, 2, 3, 1)


def _cut(x: Tensor, window: int) -> Tensor:
    """(N, H, W, C) to (N, windows, pixels, C)."""
    n, height, width, channels = x.shape
    cut = x.reshape(n, height // window, window, width // window, window, channels)
    return cut.transpose(2, 3).reshape(n, -1, window * window, channels)


def _joined(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """The inverse of :func:`_cut`."""
    n, channels = windows.shape[0], windows.shape[-1]
    cut = windows.reshape(n, height // window, width // window, window, window, channels)
    return cut.transpose(2, 3).reshape(n, height, width, channels)


def _mirrored(image: Tensor, window: int) -> Tensor:
    """Extend an image below and to the right to multiples of the window, as often as it takes."""
    for dim in (2, 3):
        side = image.shape[dim]
        place = torch.arange((side + window - 1) // window * window, device=image.device)
        # Not %, which ONNX has with fixed numbers alone.
        place = place - place // (2 * side) * (2 * side)
        image = image.index_select(dim, torch.minimum(place, 2 * side - 1 - place))
    return image


def _cropped(image: Tensor, height: int, width: int) -> Tensor:
    """The upper left part of an image."""
    if not torch.compiler.is_exporting():
        return image[..., :height, :width]
    # A slice would bind the file to sizes that need one, or to those that need none.
    for dim, side in ((2, height), (3, width)):
        image = image.index_select(dim, torch.arange(side, device=image.device))
    return image


def _mask(like: Tensor, window: int) -> Tensor:
    """Logits that keep pixels apart which only share a window because it was shifted past an end.

    Args:
        like: Features (N, C, H, W).
        window: Side of a window; they are shifted by half of it.

    Returns:
        (windows, pixels, pixels): 0, or less by far.
    """
    height, width = like.shape[-2:]
    rows, columns = (_parts(side, window, like.device) for side in (height, width))
    region = 3 * rows[:, None] + columns
    (windows,) = _cut(region[None, ..., None], window).squeeze(-1)
    apart = windows[:, :, None] != windows[:, None]
    return torch.where(apart, -_APART, 0.0).to(like.dtype)


def _parts(side: int, window: int, device: torch.device) -> Tensor:
    """Of each pixel of a side: 0 before the last window, 1 in its first half, 2 in its second."""
    place = torch.arange(side, device=device)
    return (place >= side - window).long() + (place >= side - window // 2)
