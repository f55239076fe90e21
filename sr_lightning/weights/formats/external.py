"""What a foreign weight file holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor

from sr_lightning.errors import UserError

__all__ = ["ExternalWeights"]


@dataclass(frozen=True)
class ExternalWeights:
    """Tensors of a file, named and laid out as the file has them.

    Attributes:
        path: of the file.
        format: "pytorch", "matlab5", "matlab7.3" or "caffe".
        tensors: by the file's names.
        strides: of a Caffe file's layers that have one other than 1, by layer.
        layers: names of a MatConvNet graph's layers.
    """

    path: Path
    format: Literal["pytorch", "matlab5", "matlab7.3", "caffe"]
    tensors: dict[str, Tensor]
    strides: dict[str, int] = field(default_factory=dict)
    layers: tuple[str, ...] = ()

    def tensor(self, name: str, shape: Sequence[int]) -> Tensor:
        """A tensor as PyTorch wants it.

        MATLAB files hold filters as (height, width, in, out), without last dimensions of 1, and
        biases as rows or columns; for transposed convolutions in and out change places in both
        worlds, so that one permutation serves.

        Args:
            name: in the file.
            shape: that it must have.

        Raises:
            UserError: there is no such tensor, or it has another shape.
        """
        if name not in self.tensors:
            raise UserError(f"{self.path} lacks the tensor '{name}'.")
        value = self.tensors[name]
        if self.format.startswith("matlab"):
            if len(shape) == 4:
                value = value.reshape(*value.shape, *[1] * (4 - value.dim())).permute(3, 2, 0, 1)
            elif len(shape) == 1 and value.dim() == 2 and 1 in value.shape:
                value = value.flatten()
        if tuple(value.shape) != tuple(shape):
            found = tuple(self.tensors[name].shape)
            raise UserError(f"{self.path}: '{name}' is {found} and does not fit {tuple(shape)}.")
        return value.float().contiguous()
