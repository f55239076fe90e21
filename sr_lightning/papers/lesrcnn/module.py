"""LESRCNN's training: mean squared error, nothing else."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from sr_lightning.data.batch import Batch
from sr_lightning.papers.lesrcnn.network import LESRCNN
from sr_lightning.training.losses import zero_of
from sr_lightning.training.module import SRModule

__all__ = ["LESRCNNModule"]


class LESRCNNModule(SRModule):
    """LESRCNN, LESRCNN-S and ULESRCNN with the paper's loss.

    The paper writes the error's sum over 2T images, the release takes its mean over all samples:
    a constant factor, which Adam does not feel. The mean it is here.

    Args:
        network: Network that is trained.
        loss: Error per sample: "mse" as in the paper, or "l1", which the release's script offers
            too.
        **kwargs: Arguments of :class:`~sr_lightning.training.module.SRModule`.
    """

    network: LESRCNN

    def __init__(self, network: LESRCNN, loss: Literal["mse", "l1"] = "mse", **kwargs: Any) -> None:
        super().__init__(network, loss=loss, **kwargs)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch, in which the upsamplers of all scales take part.

        Those of other scales than the batch's get zero gradients instead of none: Adam's momentum
        moves them on, as in the release, and several devices can share the gradients.
        """
        return super().training_step(batch, batch_idx) + zero_of(self.network.upsamplers)
