"""CIRN's training: L1 on the prediction."""

from __future__ import annotations

from typing import Any

from sr_lightning.papers.cirn.network import CIRN
from sr_lightning.training.module import SRModule

__all__ = ["CIRNModule"]


class CIRNModule(SRModule):
    """CIRN with the mean absolute error. inferred: the loss of EDSR, RDN and RCAN.

    For its arguments see :class:`~sr_lightning.training.module.SRModule`; x8 is started from x4.
    """

    network: CIRN

    def __init__(self, network: CIRN, **kwargs: Any) -> None:
        super().__init__(network, **kwargs)
