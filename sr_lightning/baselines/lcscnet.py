"""LCSCNet (Yang et al., TIP 2019, arXiv:1909.03573): linear compressing skip connections.

A unit compresses all features linearly by a 1x1 convolution and finds new ones by a 3x3
convolution; from block to block more is kept and less is new. Every block's output is upscaled by
the same layers to a prediction; predictions are fused one after another by learned gates per pixel.

Recipe: Y; LCSC_76 is trained on 291 images (T91 and BSDS200); L1 of the fused prediction, and 0.005
times that of each block's (the released RGB options); protocol vdsr2016.
Here, inferred: Adam 1e-4 halved every fifth of the run, LR patches of 24, batch 32; the loss by
`SupervisedModule`.
Cost (published in brackets): 76 layers, 1,844,368 weights [1,844k] and 1,849,177 parameters with
biases; 1,024.1, 798.2, 718.3 GMACs at x2, x3, x4 (1280 x 720) [1,024.1G, 797.6G, 726.3G; the last
has no explanation, the two others are met].
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.nn.bicubic import bicubic
from sr_lightning.nn.layers import is_reference
from sr_lightning.nn.network import YNetwork
from sr_lightning.nn.receptive_field import side_of, through_convolution, through_shuffle
from sr_lightning.nn.start import zero

__all__ = ["LCSCNet"]


class CompressingUnit(nn.Module):
    """LCSC unit: a 1x1 compression of the input beside a 3x3 convolution of its ReLU.

    Args:
        channels: Number of channels in and out.
        fresh: Number of them that are found by the 3x3 convolution.
    """

    def __init__(self, channels: int, fresh: int) -> None:
        super().__init__()
        self.compress = nn.Conv2d(channels, channels - fresh, 1)
        self.explore = nn.Conv2d(channels, fresh, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return torch.cat([self.compress(x), self.explore(x.relu())], dim=1)


class Reconstruction(nn.Module):
    """Upscales by repeating pixels, then three 3x3 convolutions at HR.

    Repeated pixels and a convolution are a deconvolution by the kernel's sums: a quarter of the
    MACs at x4.

    Args:
        channels: Number of channels of the features.
        scale: Scale by which they are upscaled.
    """

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 1, sH, sW)."""
        if is_reference(x):
            larger = self.first(F.interpolate(x, scale_factor=self.scale, mode="nearest"))
        else:
            larger = self._upscaled(x)
        image: Tensor = self.last(self.second(larger.relu_()).relu_())
        return image

    def _upscaled(self, x: Tensor) -> Tensor:
        weight, size = self.first.weight, self.scale
        cell = weight.new_ones(1, 1, size, size)
        sums = F.conv_transpose2d(weight.flip(2, 3).reshape(-1, 1, 3, 3), cell)
        kernel = sums.reshape(*weight.shape[:2], size + 2, size + 2).transpose(0, 1)
        # Deconvolutions on a CPU are twice as fast channels last.
        x = x.contiguous(memory_format=torch.channels_last)
        return F.conv_transpose2d(x, kernel, self.first.bias, size, padding=1)


class LCSCNet(YNetwork):
    """LCSCNet; the defaults are LCSC_76.

    Args:
        scale: 2, 3 or 4.
        channels: Number of channels of the features.
        blocks: Number of blocks whose outputs are reconstructed; new features go from 3/4 of the
            channels in the first to 1/2 in the last.
        units: Number of units of a block.
        start: Start of the last layer: zero, so that the untrained network gives its "skip", the
            bicubic image; or "random", PyTorch's start. inferred: ours, "skip".
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 64,
        blocks: int = 9,
        units: int = 8,
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        super().__init__([scale])
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        shares = torch.linspace(0.75, 0.5, blocks, device="cpu").tolist()
        self.blocks = nn.ModuleList(
            nn.Sequential(*(CompressingUnit(channels, int(share * channels)) for _ in range(units)))
            for share in shares
        )
        self.reconstruct = Reconstruction(channels, scale)
        self.gates = nn.ModuleList(nn.Conv2d(2, 1, 1) for _ in range(blocks - 1))
        if start == "skip":
            zero(self.reconstruct.last)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels: the trunk, then three convolutions at HR."""
        span = through_shuffle(through_convolution((0, self.scale - 1), 3), self.scale)
        depth = 1 + self.config["blocks"] * self.config["units"]
        return side_of(through_convolution(span, depth))

    def predict(self, y: Tensor, scale: float) -> list[Tensor]:
        """The prediction of every block, and the fused one."""
        x, residuals = self.first(y), []
        for block in self.blocks:
            x = block(x)
            residuals.append(self.reconstruct(x))
        fused = residuals[0]
        for gate, residual in zip(self.gates, residuals[1:], strict=True):
            share = gate(torch.cat([fused, residual], dim=1)).sigmoid()
            fused = residual + share * (fused - residual)
        base = bicubic(y, scale)
        return [base + residual for residual in (*residuals, fused)]
