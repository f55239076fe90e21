"""HFDN's training: L1 and structural similarity on every reconstructed level."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sr_lightning.data.batch import Batch
from sr_lightning.errors import UserError
from sr_lightning.papers.hfdn.network import HFDN
from sr_lightning.training.losses import ssim_loss
from sr_lightning.training.module import SRModule

__all__ = ["HFDNModule"]


class HFDNModule(SRModule):
    """HFDN with its multi-supervised loss.

    ``loss = sum_l w_l * (L1(SR_l, HR) + ssim_weight * (1 - SSIM(SR_l, HR)))`` over the supervised
    levels l (slides: "the combination of L1 loss and structural similarity loss").

    Args:
        network: what is trained.
        ssim_weight: of 1 - SSIM beside L1. inferred: 0.1 keeps the two terms of like size once
            trained (at x4, L1 is about 0.02 and 1 - SSIM about 0.2).
        level_weights: of the levels in the order of `levels`. inferred: equal, summing to 1.
        **kwargs: of :class:`~sr_lightning.training.module.SRModule`.
    """

    network: HFDN

    def __init__(
        self,
        network: HFDN,
        ssim_weight: float = 0.1,
        level_weights: list[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, **kwargs)
        count = len(self.network.levels)
        if level_weights is not None and len(level_weights) != count:
            raise UserError(
                f"model.level_weights has {len(level_weights)} numbers, but {count} levels are "
                f"supervised ({', '.join(self.network.levels)})."
            )
        self.ssim_weight = ssim_weight
        self.level_weights = level_weights or [1 / count] * count

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted L1 and SSIM of every level; see the class."""
        target = self.network.target(batch["hr"])
        predictions = self.network.predictions(batch["lr"], batch["scale"])
        losses: dict[str, Tensor] = {}
        total = target.new_zeros(())
        for level, weight, prediction in zip(
            self.network.levels, self.level_weights, predictions, strict=True
        ):
            pixel = self.pixel_loss(prediction.float(), target)
            structure = ssim_loss(prediction, target) if self.ssim_weight else target.new_zeros(())
            total = total + weight * (pixel + self.ssim_weight * structure)
            losses[f"l1_{level}"], losses[f"ssim_{level}"] = pixel, structure
        return {"loss": total, **losses}
