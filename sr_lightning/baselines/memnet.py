"""MemNet (Tai, Yang, Liu and Xu, ICCV 2017, arXiv:1708.02209): persistent memory network.

Memory blocks of one residual unit that recurs; a 1x1 gate at a block's end sees all recursions
(short-term memory) and the outputs of all blocks before it (long-term memory). Every convolution
comes after batch norm and ReLU. A shared reconstruction turns every block into a prediction; the
output is their weighted sum (the multi-supervised network).

Recipe: Y; one network for x2, x3, x4; MSE, equally of the M predictions and the output; 291 images
(T91 and BSDS200), turned and downscaled, HR patches of 31, batch 64; SGD, momentum 0.9, weight
decay 1e-4, rate 0.1 divided by ten every 20 epochs, gradients clipped at norm 0.01 / rate on a loss
summed over the patch; protocol vdsr2016.
Here: Adam 1e-4, which needs no such clipping.
Cost (published in brackets): M6R6 has 676,992 convolution weights [677k] and 695,497 parameters
with biases, norms and output weights; 2,665.0 GMACs at every scale, all at HR (1280 x 720)
[2,662.4G, with the shared reconstruction counted once instead of six times].
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sr_lightning.baselines.drrn import Norm
from sr_lightning.nn.network import PreUpsamplingYNetwork
from sr_lightning.nn.receptive_field import side_of, through_bicubic, through_convolution
from sr_lightning.nn.start import zero

__all__ = ["MemNet"]


class MemoryBlock(nn.Module):
    """Recursions of one residual unit, and the gate.

    Args:
        channels: Number of channels of the features.
        recursions: R; the two convolutions are shared, the norms are not.
        memories: Features that the gate sees besides the recursions.
    """

    def __init__(self, channels: int, recursions: int, memories: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norms1 = nn.ModuleList(Norm(channels) for _ in range(recursions))
        self.norms2 = nn.ModuleList(Norm(channels) for _ in range(recursions))
        # The gate is a 1x1 convolution of all features concatenated: the sum of one for each, so
        # that nothing has to be copied together (a sixth of the fp32 time, half of the memory).
        self.gate = nn.ModuleList(
            nn.Sequential(Norm(channels), nn.Conv2d(channels, channels, 1, bias=not index))
            for index in range(memories + recursions)
        )

    def forward(self, memories: list[Tensor]) -> Tensor:
        """Outputs of all blocks before, (N, C, H, W) each, to the next."""
        states, state = list(memories), memories[-1]
        for norm1, norm2 in zip(self.norms1, self.norms2, strict=True):
            state = state + self.conv2(norm2(self.conv1(norm1(state))))
            states.append(state)
        gated: Tensor = self.gate[0](states[0])
        for part, seen in zip(self.gate[1:], states[1:], strict=True):
            gated = gated + part(seen)
        return gated


class MemNet(PreUpsamplingYNetwork):
    """MemNet; the defaults are the paper's M6R6 of 80 layers.

    Args:
        scale: Scale, or several for the paper's one network for all.
        channels: Number of channels of the features.
        blocks: M, memory blocks.
        recursions: R, of each.
        start: Start of the reconstruction: zero, so that the untrained network gives its "skip",
            the bicubic image; or "random", PyTorch's start. inferred: ours, "skip".
    """

    def __init__(
        self,
        scale: int | tuple[int, ...] = (2, 3, 4),
        channels: int = 64,
        blocks: int = 6,
        recursions: int = 6,
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        super().__init__((scale,) if isinstance(scale, int) else scale)
        self.reach = 1 + 2 * blocks * recursions + 1
        self.first = nn.Sequential(Norm(1), nn.Conv2d(1, channels, 3, padding=1))
        self.blocks = nn.ModuleList(
            MemoryBlock(channels, recursions, index + 1) for index in range(blocks)
        )
        self.norms = nn.ModuleList(Norm(channels) for _ in range(blocks))
        self.reconstruct = nn.Conv2d(channels, 1, 3, padding=1)
        self.weights = nn.Parameter(torch.full((blocks,), 1 / blocks))
        if start == "skip":
            zero(self.reconstruct)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels, of the scale that needs most."""
        return max(
            side_of(through_bicubic(through_convolution((0, s - 1), self.reach), s))
            for s in map(int, self.scales)
        )

    def refine(self, y: Tensor) -> list[Tensor]:
        """The prediction of every block, and their weighted sum."""
        memories = [self.first(y)]
        for block in self.blocks:
            memories.append(block(memories))
        predictions = [
            y + self.reconstruct(norm(memory))
            for norm, memory in zip(self.norms, memories[1:], strict=True)
        ]
        weighted = self.weights[:, None, None, None, None] * torch.stack(predictions)
        return [*predictions, weighted.sum(dim=0)]
