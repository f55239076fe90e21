"""Training of networks whose intermediate predictions count less than the last (DRCN, LCSCNet)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sr_lightning.errors import UserError
from sr_lightning.nn.network import SRNetwork
from sr_lightning.training.module import SRModule

__all__ = ["SupervisedModule"]


class SupervisedModule(SRModule):
    """Loss ``share * mean over intermediate predictions + (1 - share) * last prediction``.

    Args:
        network: gives several predictions.
        share: of the intermediate predictions, DRCN's alpha (equation 9), at the start.
        final_share: at the end of the run, reached linearly; default: it stays.
        **options: of :class:`~sr_lightning.training.module.SRModule`.
    """

    def __init__(
        self,
        network: SRNetwork,
        share: float = 0.5,
        final_share: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.share = share
        self.final_share = share if final_share is None else final_share

    def on_fit_start(self) -> None:
        """Check that the run has a length over which the share can change.

        Raises:
            UserError: it has none.
        """
        if self.share != self.final_share and self.trainer.max_steps < 1:
            raise UserError("model.final_share needs the run's length; set trainer.max_steps.")

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The weighted sum, and its two parts."""
        target = self.network.target(batch["hr"])
        *between, last = self.network.predictions(batch["lr"], batch["scale"])
        parts = [self.pixel_loss(prediction.float(), target) for prediction in between]
        intermediate, final = torch.stack(parts).mean(), self.pixel_loss(last.float(), target)
        progress = self.global_step / self.trainer.max_steps
        share = self.share + (self.final_share - self.share) * min(1.0, progress)
        loss = share * intermediate + (1 - share) * final
        return {"loss": loss, "intermediate": intermediate, "final": final}
