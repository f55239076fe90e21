"""Training of LapSRN and MS-LapSRN: every level of the pyramid has a target of its own."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sr_lightning.data.degradation import shrink
from sr_lightning.training.module import SRModule

__all__ = ["PyramidModule"]


class PyramidModule(SRModule):
    """Deep supervision of networks that predict x2, x4, ... on the way to their scale.

    The target of a level is the HR luminance shrunk to its size by bicubic, not rounded; the loss
    is the sum over levels and pixels, and the mean over images (LapSRN, equation 2, and release).
    It is that large because the published rates, 1e-5 and 5e-6, belong to it.
    """

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The sum over all levels, and each level's mean per pixel."""
        target = self.network.target(batch["hr"])
        predictions = self.network.predictions(batch["lr"], batch["scale"])
        total = target.new_zeros(())
        losses: dict[str, Tensor] = {}
        for prediction in predictions:
            factor = target.shape[-1] // prediction.shape[-1]
            aim = target if factor == 1 else shrink(target, factor)
            mean = self.pixel_loss(prediction.float(), aim)
            total = total + mean * aim[0].numel()
            losses[f"x{prediction.shape[-1] // batch['lr'].shape[-1]}"] = mean
        return {"loss": total, **losses}
