"""CIRN's training: L1 on the prediction."""

from __future__ import annotations

from typing import Any

from sr_lightning.papers.cirn.network import CIRN
from sr_lightning.training.module import SRModule

__all__ = ["CIRNModule"]


class CIRNModule(SRModule):
    """CIRN with the mean absolute error. inferred: the loss of EDSR, RDN and RCAN.

    Args:
        network: Network that is trained; x8 is started from x4 (`init_from`).
        **kwargs: Arguments of :class:`~sr_lightning.training.module.SRModule`. Tiles change the
            results, since attention is global.
    """

    network: CIRN

    def __init__(self, network: CIRN, **kwargs: Any) -> None:
        super().__init__(network, loss="l1", **kwargs)
