"""The discriminator of adversarial training, in plain torch: Real-ESRGAN's U-Net.

Paper: "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data" (Wang et
al., ICCV Workshops 2021), section 3.4, https://arxiv.org/abs/2107.10833.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from sr_lightning.nn.precision import full_precision
from sr_lightning.nn.start import draw_by_name

__all__ = ["UNetDiscriminator"]

_SLOPE = 0.2


class UNetDiscriminator(nn.Module):
    """Judges every pixel of an image: a U-Net with skip connections and spectral normalisation.

    What the paper's text leaves open follows its released network: three halvings by convolutions
    of 4 x 4, bilinear enlargement, skips that are added, leaky ReLU of slope 0.2, and no
    normalisation of the first and the last convolution.

    Args:
        channels: Number of channels at full size; each halving doubles it.
    """

    def __init__(self, channels: int = 64) -> None:
        draw_by_name(self, lambda: self._construct(channels))

    def _construct(self, channels: int) -> None:
        super().__init__()
        levels = list(pairwise(channels * 2**halvings for halvings in range(4)))
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.down = nn.ModuleList(_normalised(fine, coarse, 4, 2) for fine, coarse in levels)
        self.up = nn.ModuleList(_normalised(coarse, fine, 3) for fine, coarse in reversed(levels))
        self.last = nn.ModuleList(_normalised(channels, channels, 3) for _ in range(2))
        self.judge = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """How real each pixel looks.

        Args:
            image: (N, 3, H, W) in about [0, 1], from 8 pixels a side.

        Returns:
            (N, 1, H, W) in float32: logits, above 0 where it looks like a photograph.
        """
        # One power iteration a call; and not in 16 bits, where their singular values are not exact
        # and on GPUs vectors of two precisions meet.
        with parametrize.cached():
            with full_precision(image):
                for layer in (*self.down, *self.up, *self.last):
                    assert isinstance(layer.weight, Tensor)
            return self._judged(image).float()

    def _judged(self, image: Tensor) -> Tensor:
        x = F.leaky_relu(self.first(image), _SLOPE)
        skips = []
        for down in self.down:
            skips.append(x)
            x = F.leaky_relu(down(x), _SLOPE)
        for up, skip in zip(self.up, reversed(skips), strict=True):
            # To the skip's size, which is odd where the image's sides are no multiples of 8.
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = F.leaky_relu(up(x), _SLOPE) + skip
        for layer in self.last:
            x = F.leaky_relu(layer(x), _SLOPE)
        judged: Tensor = self.judge(x)
        return judged


def _normalised(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=1, bias=False)
    return spectral_norm(layer)
