"""Bicubic interpolation as a network: the row that every table begins with.

It has no parameters and takes nothing to train; as a network it goes the same way as all
others (`Upscaler`, tables, `upscale`), at any real scale.

Recipe: MATLAB's ``imresize`` with the cubic kernel a = -0.5, replicated borders, RGB.
Cost: no parameters; tables count no MACs. Set5 under vdsr2016: 33.66/0.9299, 30.39/0.8682,
28.42/0.8104 at x2, x3, x4.
"""

from __future__ import annotations

from torch import Tensor

from sr_lightning.nn.bicubic import bicubic
from sr_lightning.nn.network import SRNetwork

__all__ = ["Bicubic"]


class Bicubic(SRNetwork):
    """Bicubic upscaling.

    Args:
        scale: Scale, at least 1, or several; images can be upscaled by others too.
    """

    takes_scale = True
    arbitrary_scale = True

    def __init__(self, scale: float | list[float] = 4) -> None:
        super().__init__()
        self.scales = tuple(scale) if isinstance(scale, list | tuple) else (scale,)

    @property
    def receptive_field(self) -> int:
        """Two LR pixels to each side."""
        return 5

    def forward(self, lr: Tensor, scale: float | None = None) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`.

        Args:
            lr: (N, 3, H, W) RGB in [0, 1].
            scale: Scale; default: the first of `scales`.
        """
        return bicubic(lr, self.scales[0] if scale is None else scale)
