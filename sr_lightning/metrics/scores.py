"""Means over images on any number of devices, with a row for every image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

__all__ = ["ImageScores"]


class ImageScores(Metric):
    """Numbers of images and their means, exact on any number of devices.

    Each image carries its index in the set. When images are repeated to share them evenly among
    devices, the repeats are dropped here.

    Args:
        names: Names of the numbers.
        **kwargs: Arguments of :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False

    values: list[Tensor]
    indices: list[Tensor]

    def __init__(self, names: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names = tuple(names)
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.add_state("indices", default=[], dist_reduce_fx="cat")

    def update(self, numbers: dict[str, float], index: int) -> None:
        """Add an image.

        Args:
            numbers: Numbers of the image, one for each of `names`.
            index: Index of the image in its set.
        """
        row = [numbers[name] for name in self.names]
        self.values.append(torch.tensor([row], dtype=torch.float32, device=self.device))
        self.indices.append(torch.tensor([index], device=self.device))

    def rows(self) -> dict[int, dict[str, float]]:
        """Numbers of each image by its index; complete once synchronised."""
        if not len(self.values):
            return {}
        values, indices = (dim_zero_cat(state).tolist() for state in (self.values, self.indices))
        numbers = (dict(zip(self.names, row, strict=True)) for row in values)
        return dict(sorted(zip(indices, numbers, strict=True)))

    def compute(self) -> dict[str, Tensor]:
        """Mean of each number over the images; NaN without any."""
        rows = self.rows().values()
        return {
            name: torch.tensor([row[name] for row in rows], dtype=torch.float64)
            .mean()
            .to(self.device, torch.float32)
            for name in self.names
        }
