"""Starting a training from weights of another one: a x2 network for x4, a shallow for a deep."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from sr_lightning.errors import UserError
from sr_lightning.weights.files import read_weights

__all__ = ["load_matching"]


def load_matching(network: nn.Module, path: str | Path) -> None:
    """Copy every tensor whose name and shape the network has; leave the others as they are.

    Args:
        network: to be trained.
        path: weight file or checkpoint.

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
