"""DRCN (Kim, Lee and Lee, CVPR 2016, arXiv:1511.04491): one convolution, sixteen times.

Two embedding convolutions, D recursions of a third, and two reconstruction convolutions that turn
every recursion into a prediction (recursive supervision); the output is their weighted sum.

Recipe: Y; one network per scale; 91 images (T91), HR patches of 41, batch 64; mean of the D
predictions' MSE times alpha, the output's times 1 - alpha, alpha going from 1 to 0; SGD, momentum
0.9, weight decay 1e-4, rate 0.01 divided by ten as the loss stalls; protocol vdsr2016.
Here: Adam 1e-4; alpha falls linearly (`SupervisedModule`).
Cost (published in brackets): 1,775,121 parameters [1,775k; 1,774k weights] and 17,974.3 GMACs at
every scale, all at HR (1280 x 720) [17,974.3G].
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sr_lightning.nn.network import PreUpsamplingYNetwork
from sr_lightning.nn.receptive_field import side_of, through_bicubic, through_convolution
from sr_lightning.nn.start import zero

__all__ = ["DRCN"]


class DRCN(PreUpsamplingYNetwork):
    """Deeply-recursive convolutional network.

    Args:
        scale: Scale, or several.
        channels: Number of channels of the features.
        recursions: D.
        start: Start of the last layer: zero, so that the untrained network gives its "skip", the
            bicubic image; or "random", PyTorch's start. inferred: ours, "skip".
    """

    def __init__(
        self,
        scale: int | tuple[int, ...] = 4,
        channels: int = 256,
        recursions: int = 16,
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        super().__init__((scale,) if isinstance(scale, int) else scale)
        self.embed1 = nn.Conv2d(1, channels, 3, padding=1)
        self.embed2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.recur = nn.Conv2d(channels, channels, 3, padding=1)
        self.reconstruct1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.reconstruct2 = nn.Conv2d(channels, 1, 3, padding=1)
        self.weights = nn.Parameter(torch.full((recursions,), 1 / recursions))
        if start == "skip":
            zero(self.reconstruct2)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels, of the scale that needs most (41 pixels of the upscaled image)."""
        reach = 2 + len(self.weights) + 2
        return max(
            side_of(through_bicubic(through_convolution((0, s - 1), reach), s))
            for s in map(int, self.scales)
        )

    def refine(self, y: Tensor) -> list[Tensor]:
        """The prediction of every recursion, and their weighted sum."""
        state = self.embed2(self.embed1(y).relu()).relu()
        predictions = []
        for _ in range(len(self.weights)):
            state = self.recur(state).relu()
            predictions.append(y + self.reconstruct2(self.reconstruct1(state).relu()))
        weighted = self.weights[:, None, None, None, None] * torch.stack(predictions)
        return [*predictions, weighted.sum(dim=0)]
