"""CMSC's training: mean squared error of every stage's prediction and of the assembled one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from sr_lightning.errors import UserError
from sr_lightning.papers.cmsc.network import CMSC
from sr_lightning.training.module import SRModule

__all__ = ["CMSCModule"]


class CMSCModule(SRModule):
    """CMSC with cascaded supervision: ``loss = sum_s w_s MSE(y_s, HR) + w MSE(y, HR)``.

    Args:
        supervision: w of each stage's prediction and of the assembled one, in this order;
            ``[0, 0, 0, 1]`` is the ablation without cascaded supervision. inferred: equal,
            summing to 1, as MemNet weighs its outputs.
        optimizer: makes the optimiser; see :class:`~sr_lightning.training.module.SRModule`, as for
            all that follows.
        scheduler: makes the learning-rate schedule.
        protocols: of validation and test. inferred: edsr2017 first, for the bicubic row beside the
            published numbers is that protocol's.
        init_from: weights to start from.
        ensemble: measure with the self-ensemble.
        tile: of measuring and predicting.
        channels_last: memory layout.
        **network: arguments of :class:`~sr_lightning.papers.cmsc.network.CMSC`.

    Raises:
        UserError: there are more or fewer weights than predictions.
    """

    network: CMSC

    def __init__(
        self,
        supervision: list[float] | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        protocols: Sequence[str] = ("edsr2017", "vdsr2016"),
        init_from: str | None = None,
        ensemble: bool = False,
        tile: int | None = None,
        channels_last: bool = False,
        **network: Any,
    ) -> None:
        super().__init__(
            CMSC(**network),
            loss="mse",
            optimizer=optimizer,
            scheduler=scheduler,
            protocols=protocols,
            init_from=init_from,
            ensemble=ensemble,
            tile=tile,
            channels_last=channels_last,
        )
        outputs = self.network.outputs
        if supervision is not None and len(supervision) != len(outputs):
            raise UserError(
                f"model.supervision has {len(supervision)} numbers, but there are {len(outputs)} "
                f"predictions ({', '.join(outputs)})."
            )
        self.supervision = supervision or [1 / len(outputs)] * len(outputs)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Weighted mean squared error of every prediction; see the class."""
        target = self.network.target(batch["hr"])
        predictions = self.network.predictions(batch["lr"], batch["scale"])
        errors = [self.pixel_loss(prediction.float(), target) for prediction in predictions]
        weighted = [w * error for w, error in zip(self.supervision, errors, strict=True)]
        parts = zip(self.network.outputs, errors, strict=True)
        return {"loss": torch.stack(weighted).sum(), **{f"mse_{k}": error for k, error in parts}}
