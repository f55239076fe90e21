"""Losses over the supervised outputs of compared networks: DRCN's, MemNet's, LapSRN's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sr_lightning.data.batch import Batch
from sr_lightning.data.degradation import downscale
from sr_lightning.errors import UserError
from sr_lightning.nn.network import SRNetwork
from sr_lightning.training.module import SRModule

__all__ = ["PyramidModule", "SupervisedModule"]


class SupervisedModule(SRModule):
    """Loss ``alpha * mean over intermediate predictions + (1 - alpha) * last prediction``.

    Args:
        network: Network that gives several predictions.
        alpha: Share of the intermediate predictions at the start, DRCN's alpha (equation 9).
        final_alpha: Share at the end of the run, reached linearly; default: it stays.
        **kwargs: Arguments of :class:`~sr_lightning.training.module.SRModule`.
    """

    def __init__(
        self,
        network: SRNetwork,
        alpha: float = 0.5,
        final_alpha: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, supervise="all", **kwargs)
        self.alpha = alpha
        self.final_alpha = alpha if final_alpha is None else final_alpha

    def on_fit_start(self) -> None:
        """Check that the run has a length over which alpha can change.

        Raises:
            UserError: it has none.
        """
        if self.alpha != self.final_alpha and self.trainer.max_steps < 1:
            raise UserError("model.final_alpha needs the run's length; set trainer.max_steps.")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The weighted sum, and its two parts."""
        outputs, target = self.outputs_and_target(batch)
        *between, final = [self.pixel_loss(output, target) for output in outputs]
        intermediate = torch.stack(between).mean()
        progress = self.global_step / self.trainer.max_steps
        alpha = self.alpha + (self.final_alpha - self.alpha) * min(1.0, progress)
        loss = alpha * intermediate + (1 - alpha) * final
        return {"loss": loss, "intermediate": intermediate, "final": final}


class PyramidModule(SRModule):
    """Deep supervision of networks that predict x2, x4, ... on the way to their scale.

    The target of a level is the HR luminance downscaled to its size by bicubic, not rounded; the
    loss is the sum over levels and pixels, and the mean over images (LapSRN, equation 2, and
    release). It is that large because the published rates, 1e-5 and 5e-6, belong to it.
    """

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The sum over all levels, and each level's mean per pixel."""
        outputs, target = self.outputs_and_target(batch)
        total = target.new_zeros(())
        losses: dict[str, Tensor] = {}
        for output in outputs:
            factor = target.shape[-1] // output.shape[-1]
            aim = target if factor == 1 else downscale(target, factor)
            mean = self.pixel_loss(output, aim)
            total = total + mean * aim[0].numel()
            losses[f"x{output.shape[-1] // batch['lr'].shape[-1]}"] = mean
        return {"loss": total, **losses}
