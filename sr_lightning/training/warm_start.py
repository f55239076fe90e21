"""Starting a training from weights of another one: a x2 network for x4, a shallow for a deep."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_info
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sr_lightning.errors import UserError

__all__ = ["load_matching", "read_weights"]


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a network from a safetensors file or a Lightning checkpoint.

    Nothing in a checkpoint is executed (``weights_only``).

    Raises:
        UserError: the file is missing, damaged or holds no network.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"The weight file {path} does not exist; check the path.")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{path} is damaged or not a weight file; fetch it again.") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    weights = {
        name.removeprefix("network."): value
        for name, value in state.items()
        if isinstance(value, Tensor) and (name.startswith("network.") or state is content)
    }
    if not weights:
        raise UserError(f"{path} holds no network weights.")
    return weights


def load_matching(network: nn.Module, path: str | Path) -> None:
    """Copy every tensor whose name and shape the network has; leave the others as they are.

    Raises:
        UserError: not one tensor fits.
    """
    weights = read_weights(path)
    own = network.state_dict()
    fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        raise UserError(f"No tensor of {path} fits this network; it is another architecture.")
    network.load_state_dict(fitting, strict=False)
    fresh = sorted(set(own) - set(fitting))
    rank_zero_info(
        f"Warm start from {path}: {len(fitting)} of {len(own)} tensors"
        + (f"; left at their initial values: {', '.join(fresh[:6])}" if fresh else "")
        + (" ..." if len(fresh) > 6 else "")
    )
