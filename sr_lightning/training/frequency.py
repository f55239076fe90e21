"""A pixel loss and the error of the Fourier transform, as SAFMN's recipe has them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sr_lightning.data.batch import Batch
from sr_lightning.nn.network import SRNetwork
from sr_lightning.training.module import SRModule

__all__ = ["FrequencyModule"]


class FrequencyModule(SRModule):
    """Loss ``pixel + frequency_weight * |FFT(prediction) - FFT(target)|`` of the last prediction.

    The second term is the mean over real and imaginary parts of the two-dimensional transform, not
    normalised, of each channel (SAFMN's release).

    Args:
        network: Network that is trained.
        frequency_weight: Weight of the transform's error.
        **kwargs: Arguments of :class:`~sr_lightning.training.module.SRModule`.
    """

    def __init__(self, network: SRNetwork, frequency_weight: float = 0.05, **kwargs: Any) -> None:
        super().__init__(network, **kwargs)
        self.frequency_weight = frequency_weight

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The weighted sum, and its two parts."""
        outputs, target = self.outputs_and_target(batch)
        pixel = self.pixel_loss(outputs[-1], target)
        # The transform is linear: one is enough. Half of it holds all there is of real images.
        transform = torch.fft.rfft2(outputs[-1] - target.float())
        frequency = torch.view_as_real(transform).abs().mean()
        loss = pixel + self.frequency_weight * frequency
        return {"loss": loss, "pixel": pixel, "frequency": frequency}
