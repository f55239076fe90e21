"""HFDN's training: L1 and structural similarity on every reconstructed level."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sr_lightning.data.batch import Batch
from sr_lightning.papers.hfdn.network import HFDN
from sr_lightning.training.losses import DeepSupervision, ssim_loss
from sr_lightning.training.module import SRModule

__all__ = ["HFDNModule"]


class HFDNModule(SRModule):
    """HFDN with its multi-supervised loss.

    ``loss = sum_l w_l * (L1(SR_l, HR) + ssim_weight * (1 - SSIM(SR_l, HR)))`` over the supervised
    levels l (slides: "the combination of L1 loss and structural similarity loss").

    Args:
        network: Network that is trained.
        ssim_weight: Weight of 1 - SSIM beside L1. inferred: 0.1 keeps the two terms of like size
            once trained (at x4, L1 is about 0.02 and 1 - SSIM about 0.2).
        level_weights: Weights of the levels, in the order of the network's `levels`. inferred:
            equal, summing to 1.
        **kwargs: Arguments of :class:`~sr_lightning.training.module.SRModule`.

    Raises:
        UserError: there are more or fewer weights than levels.
    """

    network: HFDN

    def __init__(
        self,
        network: HFDN,
        ssim_weight: float = 0.1,
        level_weights: list[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, loss="l1", supervise="all", **kwargs)
        self.ssim_weight = ssim_weight
        self.levels = DeepSupervision(network.levels, level_weights, "model.level_weights")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted L1 and SSIM of every level; see the class."""
        outputs, target = self.outputs_and_target(batch)
        pixel = [self.pixel_loss(output, target) for output in outputs]
        structure = [
            ssim_loss(output, target) if self.ssim_weight else target.new_zeros(())
            for output in outputs
        ]
        both = [a + self.ssim_weight * b for a, b in zip(pixel, structure, strict=True)]
        parts = self.levels.named("l1", pixel) | self.levels.named("ssim", structure)
        return {"loss": self.levels(both), **parts}
