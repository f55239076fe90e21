"""TSCN (Hui, Wang and Gao, ICPR 2018): two-stage convolutional network.

A first stage of multi-path information fusion makes a coarse HR image, a second refines it.

Recipe of paper and release: 291 images (T91 and 200 of BSDS), luminance, LR patches of 35, 25 and
19 at x2, x3 and x4, batch 64, Adam at 1e-4 divided by ten every 200k of 500k steps, weight decay
1e-4, biases and the deconvolution at a tenth of the rate, L1 (the released weights ended with
MSE). The first stage is trained alone, then frozen while the second is. Protocol vdsr2016.

Cost: 784,834, 821,698 and 981,442 parameters at x2, x3, x4, as in the released files; published
without the deconvolution's 64 biases, 784.77k, 821.63k and 981.38k. 267.5, 187.4 and 165.4 GMACs
for a 1280 x 720 output; the published 225.7, 157.99 and 139.55 are ours for 1080 x 720.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.nn.layers import Deconvolution
from sr_lightning.nn.network import YNetwork
from sr_lightning.nn.receptive_field import side_of, through_convolution, through_deconvolution
from sr_lightning.nn.start import he_normal, zero

__all__ = ["TSCN"]

_SLOPE = 0.05

# Kernel and front rows of the deconvolution by scale.
_DECONVOLUTION = {2: (4, 1), 3: (5, 1), 4: (8, 2)}


def _activated(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SLOPE, inplace=True)


class FusionModule(nn.Module):
    """MIF: two triples of convolutions; input and both outputs are fused by a 1x1 convolution.

    Args:
        channels: Number of channels in and out.
        narrow: Number of channels within a triple.
        groups: Number of groups of the second convolution of each triple.
    """

    def __init__(self, channels: int, narrow: int, groups: int) -> None:
        super().__init__()
        self.triples = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.Conv2d(channels, narrow, 3, padding=1),
                    nn.Conv2d(narrow, narrow, 3, padding=1, groups=groups),
                    nn.Conv2d(narrow, channels, 3, padding=1),
                ]
            )
            for _ in range(2)
        )
        self.fusion = nn.Conv2d(3 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        paths = [x]
        for triple in self.triples:
            assert isinstance(triple, nn.ModuleList)
            state = paths[-1]
            for layer in triple:
                state = _activated(layer(state))
            paths.append(state)
        return _activated(self.fusion(torch.cat(paths, dim=1)))


class RefinementUnit(nn.Module):
    """Two convolutions, the first grouped, and half of the input added to their output."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(channels, channels, 3, padding=1, groups=groups)
        self.plain = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return _activated(self.plain(_activated(self.grouped(x)))).add(x, alpha=0.5)


class TSCN(YNetwork):
    """Two-stage convolutional network on luminance; its predictions are coarse and final.

    Args:
        scale: 2, 3 or 4.
        stage: "both"; "first", the coarse stage alone, as the release trains it first; or
            "second", both with the first frozen, as it is trained then.
        channels: Number of channels of the features.
        modules: MIF modules of the first stage.
        units: Number of residual units of the second.
        start: The refinement's last layer is zero, so that the second stage starts with what the
            first gives ("skip"); or "random", the paper's start (He et al.). inferred: ours.

    Raises:
        ValueError: there is no such scale.
    """

    def __init__(
        self,
        scale: int = 4,
        stage: Literal["both", "first", "second"] = "both",
        channels: int = 64,
        modules: int = 4,
        units: int = 3,
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        if scale not in _DECONVOLUTION:
            raise ValueError(f"TSCN upscales by 2, 3 or 4, not {scale}.")
        super().__init__((scale,))
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.fusions = nn.ModuleList(
            FusionModule(channels, channels - 16, 4) for _ in range(modules)
        )
        self.join = nn.Conv2d((modules + 1) * channels, channels, 1)
        kernel, front = _DECONVOLUTION[scale]
        self.upsample = Deconvolution(channels, channels, kernel, scale, front)
        self.coarse = nn.Conv2d(channels, 1, 3, padding=1)
        if stage == "second":
            self.requires_grad_(False)
        self.refinement: nn.Sequential | None = None
        if stage != "first":
            self.refinement = nn.Sequential(
                nn.Conv2d(1, channels, 3, padding=1),
                nn.LeakyReLU(_SLOPE, inplace=True),
                *(RefinementUnit(channels, 8) for _ in range(units)),
                nn.Conv2d(channels, 1, 3, padding=1),
            )
        he_normal(self, _SLOPE)
        if start == "skip" and self.refinement is not None:
            zero(self.refinement[-1])

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels: both stages' convolutions and the deconvolution between them."""
        fine = 1 if self.refinement is None else 2 * len(self.refinement) - 3
        up = self.upsample
        span = through_convolution((0, self.scale - 1), fine)
        span = through_deconvolution(span, up.kernel_size[0], up.factor, up.front)
        return side_of(through_convolution(span, 6 * len(self.fusions) + 2))

    def predict(self, y: Tensor, scale: float) -> list[Tensor]:
        """The coarse image, and the refined one; see :meth:`YNetwork.predict`."""
        state = _activated(self.second(_activated(self.first(y))))
        states = [state]
        for fusion in self.fusions:
            states.append(fusion(states[-1]))
        state = _activated(self.join(torch.cat(states, dim=1)))
        coarse = self.coarse(_activated(self.upsample(state)))
        coarse = coarse.to(torch.promote_types(coarse.dtype, torch.float32))
        if self.refinement is None:
            return [coarse]
        return [coarse, coarse + self.refinement(coarse)]
