"""MDSR (Lim et al., CVPR Workshops 2017, arXiv:1707.02921): one EDSR for x2, x3 and x4.

Two residual blocks of 5x5 kernels per scale before the shared trunk, an upsampler per scale after
it, and a shared last convolution (the authors' PyTorch release).

Recipe: RGB; DIV2K, LR patches of 48, batch 16, one scale drawn per step; L1; Adam 1e-4 halved at
200k of 300k steps, no residual scaling; protocol edsr2017.
Cost (published in brackets): baseline 3,227,203 parameters [3.2M]; the full network 7,953,987
[8.0M] and 1,498, 686, 410 GMACs at x2, x3, x4 (1280 x 720; no figure in the paper).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from sr_lightning.baselines.edsr import ResidualBlock
from sr_lightning.nn.layers import MeanShift, SubPixelUpsample
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.start import carry_image

__all__ = ["MDSR"]


class MDSR(SRNetwork):
    """MDSR; the defaults are the full network, 16 blocks the baseline.

    Args:
        scale: Scales that it is made for, each 2, 3, 4 or 8.
        channels: Number of channels of the trunk.
        blocks: Number of residual blocks of the trunk.
        start: "bilinear", the untrained network interpolates the image; or "random", PyTorch's
            start. inferred: ours, "bilinear", which saves the first thousand steps or so.
    """

    takes_scale = True

    def __init__(
        self,
        scale: tuple[int, ...] = (2, 3, 4),
        channels: int = 64,
        blocks: int = 80,
        start: Literal["bilinear", "random"] = "bilinear",
    ) -> None:
        super().__init__()
        self.scales = tuple(scale)
        self.blocks = blocks
        self.shift = MeanShift()
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.prepare = nn.ModuleDict(
            {
                str(by): nn.Sequential(*(ResidualBlock(channels, kernel=5) for _ in range(2)))
                for by in scale
            }
        )
        self.body = nn.Sequential(
            *(ResidualBlock(channels) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.upsample = nn.ModuleDict({str(by): SubPixelUpsample(channels, by) for by in scale})
        self.tail = nn.Conv2d(channels, 3, 3, padding=1)
        if start == "bilinear":
            first = [
                block.conv2 for block in self.prepare.modules() if isinstance(block, ResidualBlock)
            ]
            carry_image(self.head, [*first, self.body[-1]], self.upsample, self.tail)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels: head, four 5x5 convolutions, trunk, upsampler, tail."""
        return 2 * (1 + 4 * 2 + 2 * self.blocks + 1 + 1 + 1) + 1

    def forward(self, lr: Tensor, scale: float | None = None) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`.

        Args:
            lr: (N, 3, H, W) RGB in [0, 1].
            scale: Scale, one of `scales`; default: the only one.
        """
        by = str(int(self.resolved(scale)))
        x = self.prepare[by](self.head(self.shift(lr)))
        x = x + self.body(x)
        return self.shift.back(self.tail(self.upsample[by](x)))
