"""SRMDNF (Zhang, Zuo and Zhang, CVPR 2018, arXiv:1712.06116): one network for many blur kernels.

Twelve convolutions over the LR image and 15 maps that tell the blur: the kernel in a PCA basis,
stretched over the image. NF is the noise-free variant of SRMD, which has a noise map besides.

Recipe: RGB; BSD400, DIV2K and 4,744 images of WED (Waterloo), LR patches of 40, batch 128, blurs by
15 x 15 Gaussians; MSE; Adam 1e-3 divided by ten as the loss stalls, batch norm folded into the
convolutions before the last tenth; x2, x3, x4; measured on the unrounded LR image: protocol
vdsr2016 is nearest.
Here: batches have no blur but the bicubic one, so `code` is constant and the network is that of the
tables' bicubic rows, without batch norm as its released form; DIV2K and BSDS400.
Cost (published in brackets): 1,510,540, 1,527,835, 1,552,048 parameters [1,511k, 1,528k, 1,552k]
and 347.7, 156.4, 89.3 GMACs at x2, x3, x4 (1280 x 720) [347.7G, 156.3G, 89.3G].
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.nn.layers import ConvShuffle
from sr_lightning.nn.network import SRNetwork

__all__ = ["SRMDNF"]


class SRMDNF(SRNetwork):
    """SRMDNF for blurs that are known.

    Args:
        scale: 2, 3 or 4.
        channels: Number of channels between the layers.
        layers: Number of convolutions.
        code_size: Coefficients of a blur kernel; 15 of the authors' PCA basis.

    Attributes:
        code: Code that :meth:`forward` uses, (code_size,): bicubic downscaling without further
            blur.
            inferred: the first unit vector, as the authors' basis is a file of theirs; a network
            trained with it constant learns to do with any.
    """

    code: Tensor

    def __init__(
        self, scale: int = 4, channels: int = 128, layers: int = 12, code_size: int = 15
    ) -> None:
        super().__init__()
        self.scales = (scale,)
        self.register_buffer("code", F.one_hot(torch.tensor(0), code_size).float())
        widths = [3 + code_size] + [channels] * (layers - 1)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.last = ConvShuffle(channels, 3, scale)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels, where all layers are."""
        return 2 * (len(self.layers) + 1) + 1

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale RGB images downscaled by bicubic; see :meth:`SRNetwork.forward`."""
        return self.deblur(lr, self.code.expand(lr.shape[0], -1))

    def deblur(self, lr: Tensor, code: Tensor) -> Tensor:
        """Upscale images that were blurred before they were downscaled.

        Args:
            lr: (N, 3, H, W) RGB in [0, 1].
            code: Code of the blur kernels, (N, code_size), or (N, code_size, H, W) where they vary.
        """
        if code.ndim == 2:
            code = code[:, :, None, None].expand(-1, -1, *lr.shape[2:])
        x = torch.cat([lr, code], dim=1)
        for layer in self.layers:
            x = layer(x).relu_()
        sr: Tensor = self.last(x)
        return sr.float()
