"""HFDN: hierarchical feature-driven network (Li, Li and Liu, ICIP 2020), in plain torch.

The paper's figures are only partly legible; what follows is the configuration that its published
parameter and MAC counts force or leave open (the card says which is which). Every open choice is
an argument marked "inferred".
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.colour import rgb_to_y
from sr_lightning.nn.bicubic import BicubicUpsample
from sr_lightning.nn.layers import ChannelAttention, Deconvolution, SpatialAttention
from sr_lightning.nn.network import SRNetwork, upscale_y
from sr_lightning.nn.start import zero

__all__ = ["HFDN", "AdaptiveDenseUnit", "ConcatConv"]

# Deconvolution kernel and padding by scale: they explain why the published x2 and x4 networks have
# the same number of parameters and x3 has 62.9k more (3 deconvolutions of 48 x 48 x (25 - 16)).
_DECONVOLUTION = {2: (4, 1), 3: (5, 1), 4: (4, 0)}


class ConcatConv(nn.Conv2d):
    """Convolution of a concatenation in which every tensor has its own learnable scalar.

    ``conv(cat(a * x, b * y))``, computed by scaling the kernel instead of the feature maps: the
    same numbers for a fraction of the memory traffic.

    Args:
        sizes: Channels of each tensor.
        out_channels: Number of channels of the result.
        kernel: Side of the kernel.
        adaptive: Whether there are scalars (initialised to 1) at all.
    """

    def __init__(
        self, sizes: Sequence[int], out_channels: int, kernel: int, adaptive: bool
    ) -> None:
        super().__init__(sum(sizes), out_channels, kernel, padding=kernel // 2)
        part_of = [part for part, size in enumerate(sizes) for _ in range(size)]
        self.register_buffer("_part_of", torch.tensor(part_of), persistent=False)
        self.scalars = nn.Parameter(torch.ones(len(sizes))) if adaptive and len(sizes) > 1 else None

    def forward(self, parts: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        """Convolve the concatenation of `parts`, each (N, C_i, H, W)."""
        weight = self.weight
        if self.scalars is not None:
            per_channel = self.scalars.index_select(0, self.get_buffer("_part_of"))
            weight = weight * per_channel[:, None, None]
        whole = parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)
        return F.conv2d(whole, weight, self.bias, padding=self.padding)


class AdaptiveDenseUnit(nn.Module):
    """ADU: densely connected 3x3 convolutions whose concatenations are weighted (HFM figure).

    Args:
        channels: Number of channels of the input.
        layers: Number of convolutions.
        growth: Channels that each adds.
        adaptive: Weight each tensor in a concatenation by a learnable scalar; off is the paper's
            "ADU/NA".

    Attributes:
        sizes: Channels of the tensors it returns: the input and every layer's output.
    """

    def __init__(self, channels: int, layers: int, growth: int, adaptive: bool) -> None:
        super().__init__()
        self.sizes = [channels] + [growth] * layers
        self.layers = nn.ModuleList(
            ConcatConv(self.sizes[: i + 1], growth, 3, adaptive) for i in range(layers)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """The tensors that the unit's final concatenation is made of."""
        parts = [x]
        for layer in self.layers:
            parts.append(layer(parts).relu())
        return parts


class HierarchicalFuseModule(nn.Module):
    """HFM: an ADU, then an enhancement unit (EU) of two convolutions, and an identity skip.

    Args:
        channels: Number of channels in and out.
        layers: Number of layers of the ADU.
        growth: Growth rate of the ADU.
        unit: "adu"; "adu_na" without the scalars; "dense", a plain dense block.
        kernels: Kernel sizes of the EU's two convolutions.
        squeeze: A 1x1 convolution between ADU and EU.
    """

    def __init__(
        self,
        channels: int,
        layers: int,
        growth: int,
        unit: Literal["adu", "adu_na", "dense"],
        kernels: Sequence[int],
        squeeze: bool,
    ) -> None:
        super().__init__()
        adaptive = unit == "adu"
        self.unit = AdaptiveDenseUnit(channels, layers, growth, adaptive)
        self.keep_input = unit != "dense"
        sizes = self.unit.sizes if self.keep_input else self.unit.sizes[1:]
        self.squeeze = ConcatConv(sizes, channels, 1, adaptive) if squeeze else None
        first, second = kernels
        inner = [channels] if squeeze else sizes
        self.enhance = ConcatConv(inner, channels, first, adaptive)
        self.refine = nn.Conv2d(channels, channels, second, padding=second // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        parts = self.unit(x)
        if not self.keep_input:
            parts = parts[1:]
        if self.squeeze is not None:
            parts = [self.squeeze(parts)]
        residual: Tensor = self.refine(self.enhance(parts).relu())
        return x + residual


class HFDN(SRNetwork):
    """Hierarchical feature-driven network.

    Four parts: shallow feature extraction, non-linear mapping by hierarchical fuse modules, an
    attention block, and multi-supervised reconstruction, in which three deconvolutions upscale
    the shallow, middle and deep features and each level refines the one before.

    Args:
        scale: 2, 3 or 4.
        channels: Number of channels of the trunk. 48 is what the published counts give for the
            deconvolutions; that the trunk has as many is inferred, the simplest reading.
        blocks: Number of HFMs. inferred: 4 fits the published counts within 0.2%.
        layers: Number of convolutions of an ADU. inferred, the same.
        growth: Channels that each of them adds. inferred, the same.
        unit: "adu", or the rows of the paper's ADU ablation: "adu_na" (no adaptive weights) and
            "dense" (a plain dense block; inferred: as in SRDenseNet, its output is the
            concatenation of its layers without its input).
        enhance_kernels: Kernel sizes of the enhancement unit's two convolutions. inferred: 3 and 1
            fit.
        squeeze: 1x1 convolution after the ADU's concatenation. inferred: none.
        shallow_layers: 3x3 convolutions of the shallow feature extraction. inferred: 2.
        global_fusion: How the trunk ends: "concat" fuses all HFM outputs by a 1x1 convolution,
            "tail" puts a 3x3 convolution after the last. inferred: "concat".
        channel_attention: First half of the attention block (the paper's CA).
        spatial_attention: Second half (SA). inferred: CA comes first, SA is a 7x7 convolution over
            the channels' mean and maximum.
        reduction: Factor by which the channel attention reduces the channels. inferred: 16, as
            usual.
        levels: Which levels are reconstructed and supervised: "smd", or the rows of the paper's
            ablation, "sd" and "d".
        shallow_level: HFM whose output is the shallow level; 0 is the shallow feature extraction.
            inferred.
        middle_level: HFM whose output is the middle level. inferred: the middle one.
        combine: How a level joins the one before: "concat" and one 3x3 convolution, or "sum" and
            two. inferred: "concat".
        colour: Predict "rgb", or luminance only ("y"). inferred: "rgb".
        start: The heads are zero, so that the untrained network gives its "skip", the bicubic
            image; or "random", PyTorch's start. inferred: ours, "skip"; random heads begin with
            a colour offset of 1 to 8 dB, another one for every seed.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 48,
        blocks: int = 4,
        layers: int = 3,
        growth: int = 32,
        unit: Literal["adu", "adu_na", "dense"] = "adu",
        enhance_kernels: tuple[int, int] = (3, 1),
        squeeze: bool = False,
        shallow_layers: int = 2,
        global_fusion: Literal["concat", "tail"] = "concat",
        channel_attention: bool = True,
        spatial_attention: bool = True,
        reduction: int = 16,
        levels: Literal["smd", "sd", "d"] = "smd",
        shallow_level: int = 0,
        middle_level: int | None = None,
        combine: Literal["concat", "sum"] = "concat",
        colour: Literal["rgb", "y"] = "rgb",
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        super().__init__()
        if scale not in _DECONVOLUTION:
            raise ValueError(f"HFDN upscales by 2, 3 or 4, not {scale}.")
        self.scales = (scale,)
        self.colour = colour
        self.levels = levels
        self._shallow = shallow_level
        self._middle = middle_level if middle_level is not None else (blocks + 1) // 2
        if not 0 <= self._shallow <= self._middle <= blocks:
            raise ValueError(f"The levels must lie in order within the {blocks} HFMs.")
        image = 1 if colour == "y" else 3
        widths = [image] + [channels] * shallow_layers
        self.shallow = nn.Sequential(*(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)))
        self.mapping = nn.ModuleList(
            HierarchicalFuseModule(channels, layers, growth, unit, enhance_kernels, squeeze)
            for _ in range(blocks)
        )
        self.fusion: nn.Module = (
            nn.Conv2d(blocks * channels, channels, 1)
            if global_fusion == "concat"
            else nn.Conv2d(channels, channels, 3, padding=1)
        )
        self._fuse_all = global_fusion == "concat"
        attention: list[nn.Module] = []
        if channel_attention:
            attention.append(ChannelAttention(channels, reduction))
        if spatial_attention:
            attention.append(SpatialAttention(7))
        self.attention = nn.Sequential(*attention)
        kernel, padding = _DECONVOLUTION[scale]
        self.deconvolution = nn.ModuleDict(
            {level: Deconvolution(channels, channels, kernel, scale, padding) for level in levels}
        )
        self.combine = nn.ModuleDict({level: _join(combine, channels) for level in levels[1:]})
        self._concat = combine == "concat"
        self.heads = nn.ModuleDict({level: nn.Conv2d(channels, image, 1) for level in levels})
        self.skip = BicubicUpsample(scale)
        if start == "skip":
            zero(*self.heads.values())

    @property
    def receptive_field(self) -> int | None:
        """Side in LR pixels; None with channel attention, which pools the whole image."""
        if any(isinstance(part, ChannelAttention) for part in self.attention):
            return None
        trunk = [self.shallow, self.mapping, self.attention, self.fusion]
        reach = sum(_half_kernels(part) for part in trunk)
        # The deep level's path is the longest: after its deconvolution it passes one join at HR.
        last = self.levels[-1]
        finer = _half_kernels(self.combine[last]) if last in self.combine else 0
        reach += _reach_at_hr(self.scale, finer)
        return 2 * max(reach, 2) + 1

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Shallow, middle and deep level features of an image in the network's colour."""
        outputs = [self.shallow(x)]
        for module in self.mapping:
            outputs.append(module(outputs[-1]))
        deep = torch.cat(outputs[1:], dim=1) if self._fuse_all else outputs[-1]
        deep = self.attention(self.fusion(deep)) + outputs[0]
        return {"s": outputs[self._shallow], "m": outputs[self._middle], "d": deep}

    def reconstruct(self, x: Tensor, *, every: bool) -> list[Tensor]:
        """Predictions of the supervised levels, or of the last one only.

        Args:
            x: (N, C, H, W) in the network's colour.
            every: Whether the intermediate predictions are wanted.
        """
        features = self.features(x)
        base = self.skip(x)
        predictions, state = [], None
        for level in self.levels:
            larger = self.deconvolution[level](features[level]).relu()
            if state is None:
                state = larger
            elif self._concat:
                state = self.combine[level](torch.cat([state, larger], dim=1))
            else:
                state = self.combine[level](state + larger)
            if every or level == self.levels[-1]:
                predictions.append(base + self.heads[level](state))
        return predictions

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`."""
        if self.colour == "rgb":
            return self.reconstruct(lr, every=False)[-1]
        return upscale_y(
            lr, lambda y: self.reconstruct(y.to(self.dtype), every=False)[-1], self.scale
        )

    def supervised_outputs(self, lr: Tensor, scale: float | None = None) -> list[Tensor]:
        """Predictions of the shallow, middle and deep level, in `colour`."""
        self.resolved(scale)
        return self.reconstruct(lr if self.colour == "rgb" else rgb_to_y(lr), every=True)


def _join(combine: str, channels: int) -> nn.Sequential:
    if combine == "concat":
        return nn.Sequential(nn.Conv2d(2 * channels, channels, 3, padding=1), nn.ReLU())
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
    )


def _half_kernels(part: nn.Module) -> int:
    return sum(m.kernel_size[0] // 2 for m in part.modules() if isinstance(m, nn.Conv2d))


def _reach_at_hr(scale: int, finer: int) -> int:
    """LR pixels that HR convolutions of total reach `finer` and the deconvolution add."""
    kernel, padding = _DECONVOLUTION[scale]
    # HR pixel p takes LR pixel q where scale * q - padding <= p < scale * q - padding + kernel.
    low = min(-(-(p + padding - kernel + 1) // scale) for p in range(-finer, scale + finer))
    high = max((p + padding) // scale for p in range(-finer, scale + finer))
    return max(-low, high)
