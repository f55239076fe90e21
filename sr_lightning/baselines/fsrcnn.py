"""FSRCNN (Dong, Loy and Tang, ECCV 2016, arXiv:1608.00367): SRCNN at LR, an hourglass.

5x5 features, shrinking, `depth` 3x3 mappings, expanding, and a 9x9 deconvolution to the image.

Recipe: Y; MSE; SGD, rate 1e-3 (1e-4 in the deconvolution); T91, then General100 too, turned and
downscaled copies, LR patches of 10, 7, 6 at x2, x3, x4; x2 and x4 start from x3's convolutions;
protocol vdsr2016.
Here: Adam 1e-3 for all layers, patches of 10.
Cost (published in brackets): 12,809 parameters [12,464: without 173 biases and 172 PReLU slopes];
2.87, 1.28, 0.72 GMACs at x2, x3, x4 (1280 x 720). CARN's table has 6.0, 5.0, 4.6: the
deconvolution counted per output pixel (6.01, 5.00, 4.64 here), which it does not cost.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from sr_lightning.nn.layers import Deconvolution
from sr_lightning.nn.network import YNetwork
from sr_lightning.nn.receptive_field import side_of, through_convolution, through_deconvolution

__all__ = ["FSRCNN"]


class FSRCNN(YNetwork):
    """FSRCNN(d, s, m); the defaults are the paper's (56, 12, 4), FSRCNN-s is (32, 5, 1).

    Args:
        scale: 2, 3 or 4.
        channels: Number of channels of the features, d.
        shrunk: Number of channels inside the mapping, s.
        depth: Number of convolutions of the mapping, m.
        padding: What convolutions see beyond the border; the authors' test code replicates it.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 56,
        shrunk: int = 12,
        depth: int = 4,
        padding: Literal["zeros", "replicate"] = "zeros",
    ) -> None:
        super().__init__([scale])
        layers: list[nn.Module] = []
        widths = [(1, channels, 5), (channels, shrunk, 1)]
        widths += [(shrunk, shrunk, 3)] * depth + [(shrunk, channels, 1)]
        for inputs, outputs, kernel in widths:
            layers.append(
                nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, padding_mode=padding)
            )
            layers.append(nn.PReLU(outputs))
        self.features = nn.Sequential(*layers)
        # inferred: centred on the output cell; at x2 and x4 half a pixel beside it.
        self.deconvolution = Deconvolution(channels, 1, 9, scale, front=(10 - scale) // 2)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels."""
        up = self.deconvolution
        span = through_deconvolution((0, self.scale - 1), 9, up.factor, up.front)
        return side_of(through_convolution(span, 2 + self.config["depth"]))

    def predict(self, y: Tensor, scale: float) -> list[Tensor]:
        """Luminance upscaled by `scale`."""
        return [self.deconvolution(self.features(y))]
