"""What a foreign weight file holds, and which reader reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor

from sr_lightning.errors import UserError

__all__ = ["ForeignWeights", "read_foreign"]


@dataclass(frozen=True)
class ForeignWeights:
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


def read_foreign(path: str | Path) -> ForeignWeights:
    """Read a PyTorch state dict, a MATLAB file or a Caffe model; the content tells which it is.

    Raises:
        UserError: the file is missing, damaged or none of these.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"The weight file {path} does not exist; check the path.")
    with path.open("rb") as opened:
        head = opened.read(520)
    return _reader(head)(path)


def _reader(head: bytes) -> Callable[[Path], ForeignWeights]:
    # Imported here: each reader imports this module.
    from sr_lightning.weights.formats import caffe, matlab, pytorch

    if head.startswith((b"PK\x03\x04", b"\x80\x02")):
        return pytorch.read_pytorch
    if head.startswith(b"MATLAB 7.3") or head[512:].startswith(b"\x89HDF"):
        return matlab.read_matlab_73
    if head.startswith(b"MATLAB 5.0"):
        return matlab.read_matlab_5
    return caffe.read_caffe
