"""ESPCN (Shi et al., CVPR 2016, arXiv:1609.05158): sub-pixel convolution.

Three convolutions at LR, the last one of scale^2 channels that are shuffled into the image.

Recipe: Y; MSE; 17 x 17 LR sub-images from T91 or 50,000 of ImageNet; rate 0.01 down to 1e-4 as
the loss stalls, stopping after 100 epochs without gain; protocol vdsr2016. tanh did best (ReLU is
the paper's other row).
Here: Adam, 1e-3 down to 1e-5.
Cost: 21,284, 22,729, 24,752 parameters and 4.88, 2.32, 1.42 GMACs at x2, x3, x4 (1280 x 720); the
paper gives the layers, (5, 64), (3, 32), 3, but no count.
"""

from __future__ import annotations

from torch import Tensor, nn

from sr_lightning.nn.layers import ConvShuffle
from sr_lightning.nn.network import YNetwork

__all__ = ["ESPCN"]


class ESPCN(YNetwork):
    """ESPCN.

    Args:
        scale: 2, 3, 4 or any other whole number.
        channels: Number of channels of the two hidden layers.
        kernels: Kernel sizes of the three convolutions.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: tuple[int, int] = (64, 32),
        kernels: tuple[int, int, int] = (5, 3, 3),
    ) -> None:
        super().__init__([scale])
        (first, second), (a, b, c) = channels, kernels
        self.first = nn.Conv2d(1, first, a, padding=a // 2)
        self.second = nn.Conv2d(first, second, b, padding=b // 2)
        self.last = ConvShuffle(second, 1, scale, kernel=c)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels, where all layers are."""
        kernels: tuple[int, int, int] = self.config["kernels"]
        return 2 * sum(kernel // 2 for kernel in kernels) + 1

    def predict(self, y: Tensor, scale: float) -> list[Tensor]:
        """Luminance upscaled by `scale`."""
        return [self.last(self.second(self.first(y).tanh()).tanh())]
