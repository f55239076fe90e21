"""PyTorch files, read with ``weights_only``, and safetensors: plain data, never code."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from sr_lightning.errors import UserError
from sr_lightning.weights.formats.external import ExternalWeights

__all__ = ["is_whole", "load_plain", "read_pytorch", "read_safetensors"]

# Keys under which training scripts put the state dict beside other things.
_NESTS = (
    *("state_dict", "model_state_dict", "params_ema", "params", "model"),
    *("net_g", "netG", "generator", "network_g", "net"),
)


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
    if not path.is_file():
        # Whoever opened a pipe would wait.
        return False
    try:
        with zipfile.ZipFile(path) as parts:
            packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist())
            return not packed and parts.testzip() is None
    except Exception:
        # A reader of damaged bytes stumbles over whatever they say.
        return False


def read_pytorch(path: Path) -> ExternalWeights:
    """Read a state dict, or the checkpoint of a training, of this suite or of others.

    Raises:
        UserError: the file is damaged, holds no tensors, or Python objects beside them.
    """
    content = load_plain(path)
    # Where a checkpoint of this suite says what network it is, others may have its state dict.
    noted = content.get("network") if isinstance(content, dict) else None
    state = content
    for key in _NESTS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    tensors: dict[str, Tensor] = {}
    if isinstance(state, dict):
        tensors = {str(k): v for k, v in state.items() if isinstance(v, Tensor)}
    if state is not content and any(name.startswith("network.") for name in tensors):
        # A Lightning module may have more than its network.
        tensors = {
            name.removeprefix("network."): value
            for name, value in tensors.items()
            if name.startswith("network.")
        }
    if not tensors and noted is None:
        raise UserError(f"{path} holds no network weights: no tensors by name.")
    return ExternalWeights(path, "pytorch", tensors, noted)


def read_safetensors(path: Path) -> ExternalWeights:
    """Read safetensors; files of this suite say in their metadata which network they are.

    Raises:
        UserError: the file is damaged or holds no tensors.
    """
    try:
        with safe_open(path, "pt") as opened:
            noted = (opened.metadata() or {}).get("network")
        tensors = dict(load_file(path))
        network = json.loads(noted) if noted else None
    except Exception as error:
        # A reader of damaged bytes stumbles over whatever they say.
        raise UserError(f"{path} is damaged or not a weight file; fetch it again.") from error
    if not tensors and noted is None:
        raise UserError(f"{path} holds no network weights: no tensors by name.")
    return ExternalWeights(path, "safetensors", tensors, network)
