"""What a foreign weight file holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sr_lightning.errors import UserError

__all__ = ["ExternalWeights", "check_numbers", "not_real", "unwrapped"]

# Of torch's DataParallel and compile, and of training scripts' modules.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net_g.", "netG.", "generator.", "network.", "net.")


def check_numbers(weights: Mapping[str, Any], source: str | Path) -> None:
    """Refuse tensors that no weights are made of.

    Args:
        weights: Weights by name; what is no tensor is left to others.
        source: File to name in errors.

    Raises:
        UserError: one is complex, quantised or sparse, is larger than what the file has of it, or
            is not finite in float32.
    """
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            continue
        if value.is_complex() or value.is_quantized or value.layout != torch.strided:
            raise UserError(not_real(source, name, value))
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            # A few bytes can stand for any number of weights.
            raise UserError(f"{source}: '{name}' repeats its numbers; weights have their own each.")
        if value.is_floating_point() and not value.float().isfinite().all():
            raise UserError(
                f"{source} holds NaN or infinity in '{name}': the training that made it broke "
                "down; take an earlier checkpoint or other weights."
            )


def not_real(source: str | Path, name: str, value: Tensor) -> str:
    """Why a tensor is refused that does not hold real floating-point numbers."""
    kind = str(value.dtype).removeprefix("torch.")
    return f"{source}: '{name}' is of {kind}, but weights are plain floating-point numbers."


def unwrapped(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Weights as they are, and again without each prefix of a wrapper that all names share.

    Args:
        tensors: Weights by name.
    """
    inner = dict(tensors)
    while inner:
        yield inner
        common = (p for p in _PREFIXES if all(name.startswith(p) for name in inner))
        prefix = next(common, None)
        if prefix is None:
            return
        inner = {name.removeprefix(prefix): value for name, value in inner.items()}


@dataclass(frozen=True)
class ExternalWeights:
    """Tensors of a file, named and laid out as the file has them.

    Attributes:
        path: Path of the file.
        format: "pytorch", "safetensors", "matlab5", "matlab7.3" or "caffe".
        tensors: Tensors by the file's names.
        network: Class and arguments of the network, as files of this suite say it.
        strides: Strides of a Caffe file's layers that have one other than 1, by layer.
        layers: Names of a MatConvNet graph's layers.
    """

    path: Path
    format: Literal["pytorch", "safetensors", "matlab5", "matlab7.3", "caffe"]
    tensors: dict[str, Tensor]
    network: Any = None
    strides: dict[str, int] = field(default_factory=dict)
    layers: tuple[str, ...] = ()

    def tensor(self, name: str, shape: Sequence[int]) -> Tensor:
        """A tensor as PyTorch wants it.

        MATLAB files hold filters as (height, width, in, out), without last dimensions of 1, and
        biases as rows or columns; for transposed convolutions in and out change places in both
        worlds, so that one permutation serves.

        Args:
            name: Name in the file.
            shape: Shape that it must have.

        Raises:
            UserError: there is no such tensor, or it has another shape or no real numbers.
        """
        if name not in self.tensors:
            raise UserError(
                f"{self.path} lacks the tensor '{name}'; is it of that --arch, whole, and are the "
                "arguments of its network given by --set?"
            )
        value = self.tensors[name]
        if self.format.startswith("matlab"):
            if len(shape) == 4:
                value = value.reshape(*value.shape, *[1] * (4 - value.dim())).permute(3, 2, 0, 1)
            elif len(shape) == 1 and value.dim() == 2 and 1 in value.shape:
                value = value.flatten()
        if tuple(value.shape) != tuple(shape):
            found = tuple(self.tensors[name].shape)
            raise UserError(
                f"{self.path}: '{name}' is {found} and does not fit {tuple(shape)}; give the "
                "arguments of its network by --set, or fetch it again."
            )
        check_numbers({name: value}, self.path)
        if not value.is_floating_point():
            raise UserError(not_real(self.path, name, value))
        return value.float().contiguous()
