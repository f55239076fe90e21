"""CMSC's training: mean squared error of every stage's prediction and of the assembled one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sr_lightning.data.batch import Batch
from sr_lightning.errors import UserError
from sr_lightning.papers.cmsc.network import CMSC
from sr_lightning.training.module import SRModule

__all__ = ["CMSCModule"]


class CMSCModule(SRModule):
    """CMSC with cascaded supervision: ``loss = sum_s w_s MSE(y_s, HR) + w MSE(y, HR)``.

    Args:
        network: what is trained.
        supervision: w of each stage's prediction and of the assembled one, in this order;
            ``[0, 0, 0, 1]`` is the ablation without cascaded supervision. inferred: equal,
            summing to 1, as MemNet weighs its outputs.
        **kwargs: of :class:`~sr_lightning.training.module.SRModule`.

    Raises:
        UserError: there are more or fewer weights than predictions.
    """

    network: CMSC

    def __init__(
        self, network: CMSC, supervision: list[float] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(network, loss="mse", **kwargs)
        outputs = self.network.outputs
        if supervision is not None and len(supervision) != len(outputs):
            raise UserError(
                f"model.supervision has {len(supervision)} numbers, but there are {len(outputs)} "
                f"predictions ({', '.join(outputs)})."
            )
        self.supervision = supervision or [1 / len(outputs)] * len(outputs)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted mean squared error of every prediction; see the class."""
        target = self.network.target(batch["hr"])
        predictions = self.network.predictions(batch["lr"], batch["scale"])
        errors = [self.pixel_loss(prediction.float(), target) for prediction in predictions]
        weighted = [w * error for w, error in zip(self.supervision, errors, strict=True)]
        parts = zip(self.network.outputs, errors, strict=True)
        return {"loss": torch.stack(weighted).sum(), **{f"mse_{k}": error for k, error in parts}}
