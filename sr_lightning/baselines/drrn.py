"""DRRN (Tai, Yang and Liu, CVPR 2017): deep recursive residual network.

A recursive block of residual units that share their weights and add to the block's first features;
every convolution comes after batch norm and ReLU, the first included. Norms are not shared (the
authors' prototxt).

Recipe: Y; one network for x2, x3, x4; MSE; 291 images (T91 and BSDS200), turned and downscaled, HR
patches of 31, batch 128; SGD, momentum 0.9, weight decay 1e-4, rate 0.1 halved every 10 epochs
(65,360 steps), gradients clipped at norm 0.01 / rate on a loss summed over the patch; protocol
vdsr2016.
Here: Adam 1e-4, which needs no such clipping.
Cost (published in brackets): B1U25 has 297,216 convolution weights [297k] and 310,659 parameters
with biases and norms; 6,796.9 GMACs at every scale, all at HR (1280 x 720) [6,796.9G].
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from sr_lightning.nn.network import PreUpsamplingYNetwork
from sr_lightning.nn.receptive_field import side_of, through_bicubic, through_convolution
from sr_lightning.nn.start import zero

__all__ = ["DRRN", "Norm"]


class Norm(nn.BatchNorm2d):
    """Batch norm and ReLU, before a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return super().forward(x).relu_()


class RecursiveBlock(nn.Module):
    """A convolution and residual units that share two more.

    Args:
        inputs: Number of channels of the input.
        channels: Number of channels of the output.
        units: U, how often the residual unit recurs.
    """

    def __init__(self, inputs: int, channels: int, units: int) -> None:
        super().__init__()
        self.before = Norm(inputs)
        self.first = nn.Conv2d(inputs, channels, 3, padding=1)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norms1 = nn.ModuleList(Norm(channels) for _ in range(units))
        self.norms2 = nn.ModuleList(Norm(channels) for _ in range(units))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, channels, H, W)."""
        start: Tensor = self.first(self.before(x))
        state = start
        for norm1, norm2 in zip(self.norms1, self.norms2, strict=True):
            state = start + self.conv2(norm2(self.conv1(norm1(state))))
        return state


class DRRN(PreUpsamplingYNetwork):
    """DRRN; the defaults are the paper's B1U25 of 52 layers.

    Args:
        scale: Scale, or several for the paper's one network for all.
        channels: Number of channels of the features.
        blocks: B, recursive blocks.
        units: U, residual units of each.
        start: Start of the last convolution: zero, so that the untrained network gives its "skip",
            the bicubic image; or "random", PyTorch's start. inferred: ours, "skip".
    """

    def __init__(
        self,
        scale: int | tuple[int, ...] = (2, 3, 4),
        channels: int = 128,
        blocks: int = 1,
        units: int = 25,
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        super().__init__((scale,) if isinstance(scale, int) else scale)
        self.reach = blocks * (1 + 2 * units) + 1
        self.blocks = nn.Sequential(
            *(RecursiveBlock(channels if b else 1, channels, units) for b in range(blocks))
        )
        self.last = nn.Sequential(Norm(channels), nn.Conv2d(channels, 1, 3, padding=1))
        if start == "skip":
            zero(self.last[1])

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels, of the scale that needs most."""
        return max(
            side_of(through_bicubic(through_convolution((0, s - 1), self.reach), s))
            for s in map(int, self.scales)
        )

    def refine(self, y: Tensor) -> list[Tensor]:
        """The image and a residual; see :meth:`PreUpsamplingYNetwork.refine`."""
        return [y + self.last(self.blocks(y))]
