"""LESRCNN: lightweight image SR with an enhanced CNN (Tian et al., KBS 2020), in plain torch.

https://arxiv.org/abs/2007.04344. Paper and release disagree in places; the layers here are those
of the release, whose weights give the published numbers (see the card, README.md).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.nn.layers import ConvShuffle, SubPixelUpsample, is_reference
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.start import bilinear, passage

__all__ = ["LESRCNN"]

# RGB mean of DIV2K in [0, 1].
_MEAN = (0.4488, 0.4371, 0.4040)


def _convolution(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)


class TwoKernels(nn.Module):
    """ULESRCNN's layer: 3x3 and 5x5 side by side, half of the channels each.

    Args:
        channels: Number of channels in and out.
        as_run: The 3x3 half takes both places, as in layer 16 of the student project's code.
    """

    def __init__(self, channels: int, as_run: bool) -> None:
        super().__init__()
        self.narrow = _convolution(channels, channels // 2, 3)
        self.wide = None if as_run else _convolution(channels, channels // 2, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        narrow = self.narrow(x)
        return torch.cat([narrow, narrow if self.wide is None else self.wide(x)], dim=1)


class LayerPair(nn.Module):
    """An even layer with ReLU and the odd layer after it, which is linear.

    Args:
        even: Layer 2, 4, ... of the IEEB.
        odd: Layer 3, 5, ...
    """

    def __init__(self, even: nn.Module, odd: nn.Module) -> None:
        super().__init__()
        self.even = even
        self.odd = odd

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        inner = F.relu(self.even(x), inplace=True)
        return self.odd(inner)  # type: ignore[no-any-return]


class LESRCNN(SRNetwork):
    """Lightweight enhanced SR CNN, of one scale or blind (LESRCNN-S).

    Three blocks: information extraction and enhancement (IEEB, 17 layers at LR size, alternately
    3x3 and 1x1), reconstruction (RB: the first and the last features upscaled and added), and
    information refinement (IRB, five 3x3 layers at HR size).

    Args:
        scale: 2, 3, 4 or 8; several make the blind network, one upsampler per scale.
        channels: Number of channels of every layer.
        pairs: 3x3 and 1x1 layers after the first.
        variant: "full"; or the rows of the paper's ablation: "sn", plain 3x3 layers; "hn", with
            every other one 1x1; "ieeb", with skips; "ieeb_rb", with both features upscaled.
            inferred: those without the IRB end in ReLU and one 3x3 convolution, which gives
            their published parameter counts.
        skip: What a pair's output is added to: its own input ("after_relu"), or the running sum
            before ReLU ("before_relu"), as the paper's equations read. The release's code reads
            like the latter but its in-place ReLU makes it the former, and its weights need that.
        enhanced: ULESRCNN's even layers 4 to 16 with two kernel sizes: "intended", or "as_run"
            with the slip of its code in layer 16, or "no".
        start: "torch", PyTorch's initialisation throughout, as in the release; or "bilinear": six
            channels start as a passage for the image, so that the untrained network interpolates.
            inferred: ours, for small budgets; without a skip from the interpolated image the
            network otherwise spends its first thousands of steps on learning one.

    Raises:
        ValueError: a scale is none of these, or a bilinear start of fewer than six channels or of
            an enhanced network without skips.
    """

    mean: Tensor

    def __init__(
        self,
        scale: int | list[int] = 4,
        channels: int = 64,
        pairs: int = 8,
        variant: Literal["sn", "hn", "ieeb", "ieeb_rb", "full"] = "full",
        skip: Literal["after_relu", "before_relu"] = "after_relu",
        enhanced: Literal["no", "intended", "as_run"] = "no",
        start: Literal["torch", "bilinear"] = "torch",
    ) -> None:
        super().__init__()
        scales = [scale] if isinstance(scale, int) else list(scale)
        self.scales = tuple(scales)
        self.takes_scale = len(scales) > 1
        self.skip = None if variant in {"sn", "hn"} else skip
        self.both_ends = variant in {"ieeb_rb", "full"}
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.first = _convolution(3, channels)
        self.pairs = nn.ModuleList(
            LayerPair(
                TwoKernels(channels, as_run=enhanced == "as_run" and index == pairs - 1)
                if enhanced != "no" and index > 0
                else _convolution(channels, channels),
                _convolution(channels, channels, 3 if variant == "sn" else 1),
            )
            for index in range(pairs)
        )
        self.upsamplers = nn.ModuleDict({str(s): SubPixelUpsample(channels, s) for s in scales})
        self.refinement = nn.ModuleList(
            _convolution(channels, channels) for _ in range(4 if variant == "full" else 0)
        )
        self.last = _convolution(channels, 3)
        if start == "bilinear":
            self._start_as_bilinear()

    @torch.no_grad()
    def _start_as_bilinear(self) -> None:
        """Let channels 0 to 2 carry the image and 3 to 5 its negative, which ReLU needs apart."""
        weight = self.first.weight
        if len(weight) < 6:
            raise ValueError(f"A bilinear start takes six channels or more, not {len(weight)}.")
        weight[:6] = torch.cat([passage(weight[:3]), -passage(weight[:3])])
        for pair in self.pairs:
            if self.skip is not None:
                pair.get_parameter("odd.weight")[:6] = 0
            elif isinstance(pair.get_submodule("even"), TwoKernels):
                raise ValueError("A bilinear start of an enhanced network needs its skips.")
            else:
                for name in ("even.weight", "odd.weight"):
                    pair.get_parameter(name)[:6] = passage(pair.get_parameter(name)[:6])
        for upscale in self.upsamplers.modules():
            if isinstance(upscale, ConvShuffle):
                rows = 6 * upscale.factor**2
                upscale.weight[:rows] = bilinear(upscale.weight[:rows], upscale.factor)
                upscale.get_parameter("bias")[:rows] = 0
        for layer in self.refinement:
            layer.get_parameter("weight")[:6] = passage(layer.get_parameter("weight")[:6])
        image = passage(self.last.weight)
        self.last.weight.copy_((image - image.roll(3, 1)) / (2 if self.both_ends else 1))

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels, of the scale that needs most."""
        layers = [self.first, *(layer for pair in self.pairs for layer in pair.children())]
        coarse = sum(_reach(layer) for layer in layers)
        fine = len(self.refinement) + 1
        after = max(_reach_at_hr(upsampler, fine) for upsampler in self.upsamplers.values())
        return 2 * (coarse + after) + 1

    def features(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """First and last features of the IEEB, O_1 and O_17: (N, C, H, W) each."""
        linear = self.first(lr - self.mean)
        first = last = linear.relu()
        for pair in self.pairs:
            change = pair(last)
            if self.skip == "after_relu":
                change = change + last
            elif self.skip == "before_relu":
                change = linear = change + linear
            last = change.relu()
        return first, last

    def upscaled(self, first: Tensor, last: Tensor, scale: float) -> Tensor:
        """Mean of S(O_1) and S(O_17), or S(O_17) alone without the RB: (N, C, sH, sW).

        S is affine, so the mean may as well be taken before: one pass instead of two.
        """
        upsampler = self.upsamplers[str(int(scale))]
        if not self.both_ends:
            return upsampler(last)  # type: ignore[no-any-return]
        if is_reference(first):
            return (upsampler(first) + upsampler(last)) / 2  # type: ignore[no-any-return]
        return upsampler((first + last) / 2)  # type: ignore[no-any-return]

    def forward(self, lr: Tensor, scale: float | None = None) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`.

        Args:
            lr: (N, 3, H, W) RGB in [0, 1].
            scale: Scale, one of `scales`; a network of one scale needs none.
        """
        by = self.resolved(scale)
        state = self.upscaled(*self.features(lr), by).relu()
        for layer in self.refinement:
            state = F.relu(layer(state), inplace=True)
        # The paper sums where `upscaled` averages; with no bias after it, the 2 can wait till here.
        return torch.add(self.mean, self.last(state), alpha=2 if self.both_ends else 1)


def _reach(layer: nn.Module) -> int:
    """Pixels to each side that a layer sees; of parallel convolutions the widest counts."""
    return max(m.kernel_size[0] // 2 for m in layer.modules() if isinstance(m, nn.Conv2d))


def _reach_at_hr(upsampler: nn.Module, finer: int) -> int:
    """LR pixels to each side that sub-pixel convolutions and `finer` 3x3 layers after them see."""
    factors = [m.factor for m in upsampler.modules() if isinstance(m, ConvShuffle)]
    low, high = -finer, math.prod(factors) - 1 + finer
    for factor in reversed(factors):
        low, high = low // factor - 1, high // factor + 1
    return max(-low, high)
