"""LESRCNN's training: mean squared error, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from sr_lightning.papers.lesrcnn.network import LESRCNN
from sr_lightning.training.module import SRModule

__all__ = ["LESRCNNModule"]


class LESRCNNModule(SRModule):
    """LESRCNN, LESRCNN-S and ULESRCNN with the paper's loss.

    The paper writes the error's sum over 2T images, the release takes its mean over all samples:
    a constant factor, which Adam does not feel. The mean it is here.

    Args:
        loss: "mse" as in the paper, or "l1", which the release's script offers too.
        optimizer: makes the optimiser; see :class:`~sr_lightning.training.module.SRModule`, as for
            all that follows.
        scheduler: makes the learning-rate schedule.
        protocols: of validation and test; by default the authors' own first.
        init_from: weights to start from.
        ensemble: measure with the self-ensemble.
        tile: of measuring and predicting.
        channels_last: memory layout.
        **network: arguments of :class:`~sr_lightning.papers.lesrcnn.network.LESRCNN`.
    """

    network: LESRCNN

    def __init__(
        self,
        loss: Literal["mse", "l1"] = "mse",
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        protocols: Sequence[str] = ("lesrcnn2020", "edsr2017"),
        init_from: str | None = None,
        ensemble: bool = False,
        tile: int | None = None,
        channels_last: bool = False,
        **network: Any,
    ) -> None:
        super().__init__(
            LESRCNN(**network),
            loss=loss,
            optimizer=optimizer,
            scheduler=scheduler,
            protocols=protocols,
            init_from=init_from,
            ensemble=ensemble,
            tile=tile,
            channels_last=channels_last,
        )

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of one batch, in which the upsamplers of all scales take part.

        Those of other scales than the batch's get zero gradients instead of none: Adam's momentum
        moves them on, as in the release, and several devices can share the gradients.
        """
        everyone = torch.stack([p.sum() for p in self.network.upsamplers.parameters()]).sum()
        return super().training_step(batch, batch_idx) + 0 * everyone
