"""CARN and CARN-M (Ahn, Kang and Sohn, ECCV 2018, arXiv:1803.08664): cascading residual network.

Recipe of paper and release: DIV2K, RGB, LR patches of 64, batch 64, L1, Adam at 1e-4 halved every
400k of 600k steps, gradients clipped at norm 10, one network for x2, x3 and x4 of which every step
draws one. The release truncates SR pixels to 8 bits: protocol lesrcnn2020, whose script is CARN's.

Cost: 1,591,939 parameters (CARN-M 414,787) with the upsamplers of all three scales, published as
1,592k (412k); 222.82, 118.88 and 90.87 (91.17, 46.16 and 32.48) GMACs for a 1280 x 720 output at
x2, x3, x4, as published: 222.8, 118.8, 90.9 (91.2, 46.1, 32.5). What 412k counts is not said; the
released file has 414,787 numbers and 24 of the mean shifts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sr_lightning.nn.layers import SubPixelUpsample
from sr_lightning.nn.network import SRNetwork

__all__ = ["CARN"]

# RGB mean of DIV2K in [0, 1].
_MEAN = (0.4488, 0.4371, 0.4040)


class ResidualUnit(nn.Module):
    """Two convolutions with a skip; of CARN-M two grouped ones and a 1x1 (ResNet-E block).

    Args:
        channels: Number of channels in and out.
        groups: 1 for CARN.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(channels, channels, 3, padding=1, groups=groups) for _ in range(2)]
        if groups > 1:
            layers.append(nn.Conv2d(channels, channels, 1))
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        *layers, last = self.layers
        state = x
        for layer in layers:
            state = layer(state).relu_()
        output: Tensor = (last(state) + x).relu_()
        return output


class Cascade(nn.Module):
    """A chain of parts; what each gives and all before it are fused by a 1x1 convolution.

    The network is a cascade of blocks, a block a cascade of residual units.

    Args:
        channels: Number of channels in and out.
        parts: The chain; of CARN-M's blocks, one unit several times.
    """

    def __init__(self, channels: int, parts: list[nn.Module]) -> None:
        super().__init__()
        self.count = len(parts)
        self.parts = nn.ModuleList(dict.fromkeys(parts))
        self.fusions = nn.ModuleList(
            nn.Conv2d((2 + index) * channels, channels, 1) for index in range(self.count)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        seen, state = [x], x
        for index, fusion in enumerate(self.fusions):
            seen.append(self.parts[index % len(self.parts)](state))
            state = fusion(torch.cat(seen, dim=1)).relu_()
        return state


class CARN(SRNetwork):
    """Cascading residual network of one or several scales.

    CARN-M is ``groups=4, recursive=True``.

    Args:
        scale: 2, 3 or 4, or several for the paper's one network for all.
        channels: Number of channels of the features.
        blocks: Number of cascading blocks.
        units: Number of residual units of a block.
        groups: Number of groups of the residual units' and the upsamplers' 3x3 convolutions.
        recursive: The units of a block share their weights.
    """

    mean: Tensor

    def __init__(
        self,
        scale: int | tuple[int, ...] = (2, 3, 4),
        channels: int = 64,
        blocks: int = 3,
        units: int = 3,
        groups: int = 1,
        recursive: bool = False,
    ) -> None:
        super().__init__()
        self.scales = (scale,) if isinstance(scale, int) else tuple(scale)
        self.takes_scale = len(self.scales) > 1
        self.depth = blocks * units

        def block() -> Cascade:
            shared = ResidualUnit(channels, groups)
            return Cascade(
                channels,
                [shared if recursive else ResidualUnit(channels, groups) for _ in range(units)],
            )

        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.body = Cascade(channels, [block() for _ in range(blocks)])
        self.upsamplers = nn.ModuleDict(
            {
                str(s): SubPixelUpsample(channels, int(s), activation=True, groups=groups)
                for s in self.scales
            }
        )
        self.last = nn.Conv2d(channels, 3, 3, padding=1)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels: first convolution, two a unit, upsampler and last one."""
        # A step of upscaling sees one pixel; what follows it sees one pixel of the finer grid,
        # which is at most one more in all.
        return 2 * (1 + 2 * self.depth + 1 + 1) + 1

    def forward(self, lr: Tensor, scale: float | None = None) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`.

        Args:
            lr: (N, 3, H, W) RGB in [0, 1].
            scale: Scale, one of `scales`; a network of one scale needs none.
        """
        by = self.resolved(scale)
        features = self.body(self.first(lr - self.mean))
        sr: Tensor = self.last(self.upsamplers[str(int(by))](features))
        return sr.float() + self.mean
