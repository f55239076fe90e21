"""ASDN's training: one level of scale per batch, or the student project's two neighbours."""

from __future__ import annotations

import os
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional as F

from sr_lightning.data.batch import Batch
from sr_lightning.data.sampling import LEVEL, draw_one
from sr_lightning.errors import UserError
from sr_lightning.papers.asdn.lfr import LaplacianNetwork, resized
from sr_lightning.training.losses import zero_of
from sr_lightning.training.module import SRModule

__all__ = ["ASDNModule"]


class ASDNModule(SRModule):
    """ASDN, or any network with its LFR head (the tables' "-Conv" networks), with its L1 loss.

    Args:
        network: Network with the LFR head.
        recipe: "level" takes batches of one level's scale each, as the data module draws them from
            the network's scales, and trains that level's branch (the paper). "neighbours" is the
            student project's: whatever the batch's LR patches are, each HR patch is downscaled to
            half by the mean of 2 x 2 pixels; r is drawn from (1, 2], levels i - 1 and i are
            combined by w_r, and the target is the HR patch at level i's size. Give it
            ``data.scale: [2]``. It is for levels over (1, 2].
        **kwargs: Arguments of :class:`~sr_lightning.training.module.SRModule`.

    Raises:
        UserError: the recipe is "neighbours" and the network's levels are not over (1, 2].
    """

    network: LaplacianNetwork

    def __init__(
        self,
        network: LaplacianNetwork,
        recipe: Literal["level", "neighbours"] = "level",
        **kwargs: Any,
    ) -> None:
        super().__init__(network, loss="l1", **kwargs)
        lowest, highest = network.scales[0], network.scales[-1]
        if recipe == "neighbours" and (lowest > 1.001 or highest != 2):
            raise UserError(
                f"model.recipe 'neighbours' needs levels from 1 to 2, not from {lowest:g} to "
                f"{highest:g}; leave model.network.levels a number."
            )
        self.recipe = recipe

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """L1 of the recipe; see the class."""
        if self.recipe == "level":
            return super().losses(batch)
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        return {"loss": self.neighbours(batch["hr"], 2 - draw_one(seed, LEVEL, self.global_step))}

    def neighbours(self, hr: Tensor, scale: float) -> Tensor:
        """The student project's loss at a scale in (1, 2].

        Sizes are rounded down, 48, 52, 57, ... 96 for a patch of 96, as in that project.

        Args:
            hr: (N, 3, S, S) HR patches, S even.
            scale: Scale r.
        """
        side = hr.shape[-1] // 2
        lr = F.avg_pool2d(hr, 2)
        upper, weight = self.network.phase(scale)

        def level(index: int) -> Tensor:
            extent = int(side * self.network.scales[index] + 1e-6)
            return self.network.at_levels(lr, (extent, extent), [index])[0]

        prediction = level(upper)
        size = (prediction.shape[-2], prediction.shape[-1])
        if weight:
            prediction = prediction + weight * (resized(level(upper - 1), size) - prediction)
        return self.pixel_loss(prediction, resized(hr, size))  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch, in which the branches of all levels take part.

        Those of other levels than the batch's get zero gradients instead of none, so that several
        devices can share the gradients.
        """
        return super().training_step(batch, batch_idx) + zero_of(self.network.branches)
