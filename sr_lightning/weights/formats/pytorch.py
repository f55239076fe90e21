"""PyTorch files, read with ``weights_only``: tensors and plain data, never code."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sr_lightning.errors import UserError
from sr_lightning.weights.formats.external import ExternalWeights

__all__ = ["is_whole", "load_plain", "read_pytorch"]

# Keys under which training scripts put the state dict beside other things.
_NESTS = ("state_dict", "params_ema", "params", "model")


def load_plain(path: Path) -> Any:
    """Tensors and plain data of a file that ``torch.save`` wrote.

    Raises:
        UserError: the file is damaged, or holds Python objects beside them.
    """
    try:
        if zipfile.is_zipfile(path) and not is_whole(path):
            raise UserError(f"{path} is damaged; fetch it again, or take an earlier one.")
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is damaged, or holds Python objects beside tensors, which are not loaded "
            "because they can run code; fetch it again, or save its state dict alone."
        ) from error
    except UserError:
        raise
    except Exception as error:
        # A reader of damaged bytes stumbles over whatever they say.
        raise UserError(f"{path} is damaged or not a weight file; fetch it again.") from error


def is_whole(path: Path) -> bool:
    """Whether a file is as ``torch.save`` wrote it: every part's checksum is compared.

    Parts that are packed, which could be far larger than the file, it never wrote.
    """
    try:
        with zipfile.ZipFile(path) as parts:
            packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist())
            return not packed and parts.testzip() is None
    except Exception:
        # A reader of damaged bytes stumbles over whatever they say.
        return False


def read_pytorch(path: Path) -> ExternalWeights:
    """Read a state dict; the prefix that ``DataParallel`` gives all names is taken away.

    Raises:
        UserError: the file is damaged, holds no tensors, or Python objects beside them.
    """
    content = load_plain(path)
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
