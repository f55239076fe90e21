"""SPAN (Wan et al., CVPR Workshops 2024, arXiv:2311.12770): attention without parameters.

Every block multiplies its residual sum by an odd function of what it found, a shifted sigmoid, in
place of a learned attention. Its convolutions are four in training and one in use.

Recipe: RGB; DIV2K and Flickr2K. inferred: the rest of it, as experiments/compared/span_x4.yaml
says. Protocol imdn2019, as BasicSR reads grey files.

Cost (published in brackets) at x2 and x4, 52 channels as SPAN and 48 as SPAN-S: 481,324 and
498,208, 410,700 and 426,288 [426K at x4] parameters in use; 2,140,252 and 2,157,136, 1,824,900
and 1,840,488 in training; 110.64 and 28.63, 94.39 and 24.49 GMACs for a 1280 x 720 output.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.nn.layers import ConvShuffle, MeanShift, is_reference
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.precision import full_precision
from sr_lightning.nn.start import carry_image

__all__ = ["SPAN", "MergeableConv"]

_GAIN = 2


class MergeableConv(nn.Module):
    """Conv3XC: convolutions of 1x1, 3x3 and 1x1, wider between them, and a 1x1 beside.

    There is nothing between them, so that all four are one 3x3 convolution, which is computed in
    training, too: the same numbers and gradients, a fifth of the work.

    Args:
        inputs: Number of channels of the input.
        outputs: Number of channels of the output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(inputs, _GAIN * inputs, 1)
        self.conv = nn.Conv2d(_GAIN * inputs, _GAIN * outputs, 3)
        self.project = nn.Conv2d(_GAIN * outputs, outputs, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def merged(self) -> tuple[Tensor, Tensor]:
        """Weight (outputs, inputs, 3, 3) and bias of the one convolution."""
        expand, project = self.expand.weight.flatten(1), self.project.weight.flatten(1)
        with full_precision(expand):
            weight = torch.einsum("om,mnhw,ni->oihw", project, self.conv.weight, expand)
            weight = weight + F.pad(self.shortcut.weight, (1, 1, 1, 1))
            # Where the image is padded, the 3x3 sees the first one's bias.
            inner = self.conv.weight.sum((2, 3)) @ _bias(self.expand) + _bias(self.conv)
            return weight, project @ inner + _bias(self.project) + _bias(self.shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        if x.is_meta:
            # Costs are counted there, and merging is no cost of an image.
            weight = x.new_empty(self.project.out_channels, self.expand.in_channels, 3, 3)
            return F.conv2d(x, weight, self.project.bias, padding=1)
        if is_reference(x):
            apart = self.project(self.conv(self.expand(F.pad(x, (1, 1, 1, 1)))))
            return torch.add(apart, self.shortcut(x))
        weight, bias = self.merged()
        return F.conv2d(x, weight, bias, padding=1)


def _bias(layer: nn.Module) -> Tensor:
    return layer.get_parameter("bias")


def _convolution(inputs: int, outputs: int, merged: bool) -> nn.Module:
    if merged:
        return nn.Conv2d(inputs, outputs, 3, padding=1)
    return MergeableConv(inputs, outputs)


class AttentionBlock(nn.Module):
    """SPAB: three convolutions, whose output is residual and attention at once.

    Args:
        channels: Number of channels in and out.
        merged: Whether its convolutions are single ones.
    """

    def __init__(self, channels: int, merged: bool) -> None:
        super().__init__()
        self.conv1 = _convolution(channels, channels, merged)
        self.conv2 = _convolution(channels, channels, merged)
        self.conv3 = _convolution(channels, channels, merged)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Output and first activation, both of the shape (N, C, H, W) of the input."""
        first = F.silu(self.conv1(x))
        found: Tensor = self.conv3(F.silu(self.conv2(first)))
        return (found + x) * (found.sigmoid() - 0.5), first


class SPAN(SRNetwork):
    """Swift parameter-free attention network.

    Args:
        scale: Scale by which it upscales.
        channels: Number of channels of the features; 48 is SPAN-S.
        blocks: Number of attention blocks.
        white: What full white is in the network. inferred: 255, as the release has it, where the
            paper says nothing.
        merged: Whether its convolutions are single ones, the form for use; see :meth:`merge`.
        start: "bilinear", the untrained network interpolates the image; or "random", PyTorch's
            start. inferred: ours, "bilinear", which saves the first thousand steps or so.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 52,
        blocks: int = 6,
        white: float = 255.0,
        merged: bool = False,
        start: Literal["bilinear", "random"] = "bilinear",
    ) -> None:
        super().__init__()
        self.scales = (scale,)
        self.white = white
        self.shift = MeanShift()
        self.first = _convolution(3, channels, merged)
        self.blocks = nn.ModuleList(AttentionBlock(channels, merged) for _ in range(blocks))
        self.last = _convolution(channels, channels, merged)
        self.fusion = nn.Conv2d(4 * channels, channels, 1)
        self.upsample = ConvShuffle(channels, 3, scale)
        if start == "bilinear":
            self._carry_image()

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels: three convolutions a block, one at each end and in the upsampler."""
        return 2 * (3 * len(self.blocks) + 3) + 1

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`."""
        first = self.first(self.shift(lr) * self.white)
        x, outputs, inner = first, [], first
        for block in self.blocks:
            x, inner = block(x)
            outputs.append(x)
        # The release concatenates the last block's first convolution as its SiLU, which works in
        # place, has left it.
        kept = torch.cat([first, self.last(x), outputs[0], inner], dim=1)
        return self.upsample(self.fusion(kept))  # type: ignore[no-any-return]

    @torch.no_grad()
    def merge(self) -> SPAN:
        """The same network with single convolutions."""
        config = {**self.config, "merged": True, "start": "random"}
        network = SPAN(**config).to(self.fusion.weight).train(self.training)
        state = {k: v for k, v in self.state_dict().items() if k in network.state_dict()}
        for name, module in self.named_modules():
            if isinstance(module, MergeableConv):
                state[f"{name}.weight"], state[f"{name}.bias"] = module.merged()
        network.load_state_dict(state)
        return network

    @torch.no_grad()
    def _carry_image(self) -> None:
        carry_image(self.fusion, [], self.upsample, None)
        first = self.first
        if isinstance(first, MergeableConv):
            for kept in (first.project.weight, _bias(first.project)):
                kept[:3] = 0
            first = first.shortcut
        weight = first.get_parameter("weight")[:3]
        nn.init.dirac_(weight)
        weight /= self.white
        _bias(first)[:3] = 0
        # The release does not put the mean back: it is the last bias.
        _bias(self.upsample).copy_(self.shift.mean.flatten().repeat_interleave(self.scale**2))
