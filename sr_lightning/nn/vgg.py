"""The part of VGG19 that perceptual losses compare images in, in plain torch.

Paper: "Very Deep Convolutional Networks for Large-Scale Image Recognition" (Simonyan and Zisserman,
ICLR 2015), table 1, configuration E, https://arxiv.org/abs/1409.1556.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["VGG19Features"]

# Convolutions of each block, and their width.
_BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))
# Of ImageNet's photographs, with which it was trained.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG19Features(nn.Module):
    """The last convolution of each block, before its activation.

    Layers have torchvision's names, ``features.0`` to ``features.34``.
    """

    LAYERS = ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4")

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self._last: list[int] = []
        width = 3
        for count, wider in _BLOCKS:
            for _ in range(count):
                self.features.append(nn.Conv2d(width, wider, 3, padding=1)).append(nn.ReLU())
                width = wider
            self._last.append(len(self.features) - 2)
            self.features.append(nn.MaxPool2d(2))
        # Nothing follows the last convolution.
        del self.features[-2:]
        statistics = torch.tensor([_MEAN, _DEVIATION])[:, None, :, None, None]
        self.register_buffer("_statistics", statistics, persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of each of `LAYERS`.

        Args:
            image: (N, 3, H, W) RGB in about [0, 1], from 16 pixels a side.
        """
        mean, deviation = self.get_buffer("_statistics")
        x = (image - mean) / deviation
        found = []
        for index, part in enumerate(self.features):
            x = part(x)
            if index in self._last:
                found.append(x)
        return found
