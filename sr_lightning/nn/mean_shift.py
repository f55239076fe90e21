"""The mean colour of the training images, which RGB networks since EDSR work without."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["MeanShift"]


class MeanShift(nn.Module):
    """Takes the mean of DIV2K off an image, and puts it back on a prediction."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean = torch.tensor((0.4488, 0.4371, 0.4040)).reshape(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)

    def forward(self, lr: Tensor) -> Tensor:
        """An image (N, 3, H, W) less the mean."""
        return lr - self.mean

    def back(self, prediction: Tensor) -> Tensor:
        """A prediction (N, 3, H, W) and the mean, in float32 whatever the network's precision."""
        return prediction.float() + self.mean
