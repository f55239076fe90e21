"""CMSC's training: mean squared error of every stage's prediction and of the assembled one."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sr_lightning.data.batch import Batch
from sr_lightning.papers.cmsc.network import CMSC
from sr_lightning.training.losses import DeepSupervision
from sr_lightning.training.module import SRModule

__all__ = ["CMSCModule"]


class CMSCModule(SRModule):
    """CMSC with cascaded supervision: ``loss = sum_s w_s MSE(y_s, HR) + w MSE(y, HR)``.

    Args:
        network: Network that is trained.
        supervision: Weights of each stage's prediction and of the assembled one, in this order;
            ``[0, 0, 0, 1]`` is the ablation without cascaded supervision. inferred: equal,
            summing to 1, as MemNet weighs its outputs.
        **kwargs: Arguments of :class:`~sr_lightning.training.module.SRModule`.

    Raises:
        UserError: there are more or fewer weights than predictions.
    """

    network: CMSC

    def __init__(
        self, network: CMSC, supervision: list[float] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(network, loss="mse", supervise="all", **kwargs)
        self.supervision = DeepSupervision(network.outputs, supervision, "model.supervision")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted mean squared error of every prediction; see the class."""
        outputs, target = self.outputs_and_target(batch)
        errors = [self.pixel_loss(output, target) for output in outputs]
        return {"loss": self.supervision(errors), **self.supervision.named("mse", errors)}
