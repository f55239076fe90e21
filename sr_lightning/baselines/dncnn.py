"""DnCNN (Zhang et al., IEEE TIP 2017, arXiv:1608.03981) for super-resolution: DnCNN-3.

DnCNN-3 is one network of 20 layers for Gaussian denoising, super-resolution at x2, x3, x4 and JPEG
deblocking, blind to which it is given; it removes what is wrong with the interpolated image.

Recipe of the paper: T91 and 200 images of BSDS, luminance, 50 x 50 patches of all three tasks,
128 x 8000 of them, batch 128, MSE, SGD with momentum 0.9 and weight decay 1e-4, rate from 1e-1 to
1e-4 over 50 epochs. The data module here makes super-resolution patches only. Protocol dncnn2017.

Cost: 667,073 parameters with batch normalisation, 665,921 as released, where it is merged into
the convolutions (the 17 layers of DnCNN: 555,137); 612.6 GMACs for a 1280 x 720 output.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from sr_lightning.nn.network import PreUpsamplingYNetwork
from sr_lightning.nn.receptive_field import side_of, through_bicubic, through_convolution
from sr_lightning.nn.start import he_normal, zero

__all__ = ["DnCNN"]


class DnCNN(PreUpsamplingYNetwork):
    """DnCNN on the interpolated image; the defaults are DnCNN-3.

    Args:
        scale: Scale, or several.
        layers: Number of convolutions, the first and the last included.
        channels: Number of channels between them.
        batch_norm: Normalise after each convolution but the first and the last, as in training.
            The released weights have the normalisation merged into the convolutions.
        start: Start of the last layer: zero, so that the untrained network gives its "skip", the
            bicubic image; or "random", the paper's start (He et al.). inferred: ours, "skip".
    """

    def __init__(
        self,
        scale: int | tuple[int, ...] = (2, 3, 4),
        layers: int = 20,
        channels: int = 64,
        batch_norm: bool = True,
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        super().__init__((scale,) if isinstance(scale, int) else scale)
        self.depth = layers
        body: list[nn.Module] = [nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(layers - 2):
            body.append(nn.Conv2d(channels, channels, 3, padding=1, bias=not batch_norm))
            if batch_norm:
                body.append(nn.BatchNorm2d(channels))
            body.append(nn.ReLU(inplace=True))
        self.body = nn.Sequential(*body, nn.Conv2d(channels, 1, 3, padding=1))
        he_normal(self)
        if start == "skip":
            zero(self.body[-1])

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels, of the scale that needs most (41 pixels of the upscaled image)."""
        return max(
            side_of(through_bicubic(through_convolution((0, s - 1), self.depth), s))
            for s in map(int, self.scales)
        )

    def refine(self, y: Tensor) -> list[Tensor]:
        """The refined luminance; see :meth:`PreUpsamplingYNetwork.refine`."""
        return [y - self.body(y)]
