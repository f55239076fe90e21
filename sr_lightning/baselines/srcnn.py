"""SRCNN (Dong, Loy, He and Tang, ECCV 2014 and TPAMI 2016, arXiv:1501.00092): the first CNN.

Three convolutions over the bicubic-upscaled luminance: patches, a non-linear mapping, an average.

Recipe: Y; MSE; Caffe's SGD, momentum 0.9, rate 1e-4 (1e-5 in the last layer) on a loss summed over
the patch, weights from N(0, 0.001^2); HR patches of 33 from T91 or ImageNet, batch 128, 8e8
back-propagations; one network per scale, protocol vdsr2016.
Here: Adam 1e-4 for all layers, which needs neither that initialisation nor a rate per layer;
borders are replicated in training as the authors' test code does (they train without borders).
Cost (published in brackets): 9-5-5 57,281 parameters and 52.7 GMACs [57k, 52.7G]; 9-1-5 8,129
[8,032, weights alone] and 7.40 GMACs, at any scale since all layers are at HR (1280 x 720).
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from sr_lightning.nn.network import PreUpsamplingYNetwork
from sr_lightning.nn.receptive_field import side_of, through_bicubic, through_convolution

__all__ = ["SRCNN"]


class SRCNN(PreUpsamplingYNetwork):
    """SRCNN; the defaults are 9-5-5, ``kernels=[9, 1, 5]`` is the earlier and lighter 9-1-5.

    Args:
        scale: 2, 3 or 4, or several for one model of all.
        channels: Number of channels of the two hidden layers.
        kernels: Kernel sizes of the three convolutions.
    """

    def __init__(
        self,
        scale: int | list[int] = 4,
        channels: tuple[int, int] = (64, 32),
        kernels: tuple[int, int, int] = (9, 5, 5),
    ) -> None:
        super().__init__([scale] if isinstance(scale, int) else scale)
        widths = pairwise((1, *channels, 1))
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, kernel, padding=kernel // 2, padding_mode="replicate")
            for (a, b), kernel in zip(widths, kernels, strict=True)
        )

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels, of the scale that needs most."""
        reach = sum(kernel // 2 for kernel in self.config["kernels"])
        return max(
            side_of(through_bicubic(through_convolution((0, scale - 1), reach), scale))
            for scale in map(int, self.scales)
        )

    def refine(self, y: Tensor) -> list[Tensor]:
        """Sharpened luminance, (N, 1, sH, sW)."""
        patches, mapping, average = self.layers
        return [average(mapping(patches(y).relu()).relu())]
