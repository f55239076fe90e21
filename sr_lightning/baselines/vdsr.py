"""VDSR (Kim, Lee and Lee, CVPR 2016, arXiv:1511.04587): twenty layers on the interpolated image.

Recipe of the paper: 291 images (T91 and 200 of BSDS), one network for x2, x3 and x4, luminance,
41 x 41 patches of the interpolated image, batch 64, MSE, SGD with momentum 0.9 and weight decay
1e-4, rate 0.1 divided by ten every 20 of 80 epochs, gradients clipped at theta / rate. Protocol
vdsr2016.

Cost: 665,921 parameters, published as 665k; 612.6 GMACs for a 1280 x 720 output at every scale,
as published since CARN. That figure counts no biases, like ours.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from sr_lightning.nn.network import PreUpsamplingYNetwork
from sr_lightning.nn.receptive_field import side_of, through_bicubic, through_convolution
from sr_lightning.nn.start import he_normal, zero

__all__ = ["VDSR"]


class VDSR(PreUpsamplingYNetwork):
    """VDSR: a plain chain of 3x3 convolutions that predicts what bicubic interpolation lacks.

    Args:
        scale: Scale, or several for the paper's one network for all.
        layers: Number of convolutions, the first and the last included.
        channels: Number of channels between them.
        clip: Bring the interpolated luminance back into [16, 235] / 255, beyond which bicubic
            overshoots at sharp edges. inferred: the released weights give the paper's Set14 with
            it (0.03 dB less than without).
        start: Start of the last layer: zero, so that the untrained network gives its "skip", the
            bicubic image; or "random", the paper's start (He et al.). inferred: ours, "skip".
    """

    def __init__(
        self,
        scale: int | tuple[int, ...] = (2, 3, 4),
        layers: int = 20,
        channels: int = 64,
        clip: bool = False,
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        super().__init__((scale,) if isinstance(scale, int) else scale)
        self.clip = clip
        widths = [1, *[channels] * (layers - 1), 1]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        he_normal(self)
        if start == "skip":
            zero(self.layers[-1])

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels, of the scale that needs most (41 pixels of the upscaled image)."""
        return max(
            side_of(through_bicubic(through_convolution((0, s - 1), len(self.layers)), s))
            for s in map(int, self.scales)
        )

    def refine(self, y: Tensor) -> list[Tensor]:
        """The refined luminance; see :meth:`PreUpsamplingYNetwork.refine`."""
        if self.clip:
            y = y.clamp(16 / 255, 235 / 255)
        *layers, last = self.layers
        x = y
        for layer in layers:
            x = layer(x).relu_()
        return [y + last(x)]
