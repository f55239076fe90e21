"""PyTorch state dicts, read with ``weights_only``: tensors and plain data, never code."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from sr_lightning.errors import UserError
from sr_lightning.weights.formats.external import ExternalWeights

__all__ = ["read_pytorch"]

# Keys under which training scripts put the state dict beside other things.
_NESTS = ("state_dict", "params_ema", "params", "model")


def read_pytorch(path: Path) -> ExternalWeights:
    """Read a state dict; the prefix that ``DataParallel`` gives all names is taken away.

    Raises:
        UserError: the file is damaged, holds no tensors, or Python objects beside them.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is damaged, or holds Python objects beside tensors, which are not loaded "
            "because they can run code; save its state dict alone."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, AttributeError) as error:
        raise UserError(f"{path} is damaged; fetch it again.") from error
    for key in _NESTS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors: dict[str, Tensor] = {}
    if isinstance(content, dict):
        tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise UserError(f"{path} holds no tensors by name.")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return ExternalWeights(path, "pytorch", tensors)
