"""CIRN's training: L1 on the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable

from sr_lightning.papers.cirn.network import CIRN
from sr_lightning.training.module import SRModule

__all__ = ["CIRNModule"]


class CIRNModule(SRModule):
    """CIRN with the mean absolute error. inferred: the loss of EDSR, RDN and RCAN.

    Args:
        optimizer: makes the optimiser; see :class:`~sr_lightning.training.module.SRModule`, as for
            all that follows.
        scheduler: makes the learning-rate schedule.
        protocols: of validation and test.
        init_from: weights to start from; x8 is started from x4.
        ensemble: measure with the self-ensemble.
        tile: of measuring and predicting; changes the results, since attention is global.
        channels_last: memory layout.
        **network: arguments of :class:`~sr_lightning.papers.cirn.network.CIRN`.
    """

    network: CIRN

    def __init__(
        self,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        protocols: Sequence[str] = ("edsr2017",),
        init_from: str | None = None,
        ensemble: bool = False,
        tile: int | None = None,
        channels_last: bool = False,
        **network: Any,
    ) -> None:
        super().__init__(
            CIRN(**network),
            optimizer=optimizer,
            scheduler=scheduler,
            protocols=protocols,
            init_from=init_from,
            ensemble=ensemble,
            tile=tile,
            channels_last=channels_last,
        )
