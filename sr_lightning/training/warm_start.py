"""Starting a training from weights of another one: a x2 network for x4, a shallow for a deep."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from sr_lightning.errors import UserError
from sr_lightning.weights.files import check_fit, read_weights
from sr_lightning.weights.formats.external import unwrapped
from sr_lightning.weights.zoo import records, weight_file

__all__ = ["load_matching", "start_facts"]


def load_matching(network: nn.Module, path: str) -> None:
    """Copy every tensor whose name and shape the network has; leave the others as they are.

    Names may stand behind the prefixes of wrappers, as DataParallel and compiled networks have.

    Args:
        network: Network to be trained.
        path: Weight file, checkpoint, folder of a run or name of the zoo.

    Raises:
        UserError: there are no such weights, not one tensor fits, or one is not finite.
    """
    file = weight_file(path)
    own = network.state_dict()
    fitting: dict[str, Tensor] = max(
        (
            {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
            for weights in unwrapped(read_weights(file))
        ),
        key=len,
        default={},
    )
    if not fitting:
        raise UserError(f"No tensor of {path} fits this network; it is another architecture.")
    check_fit({name: own[name] for name in fitting}, fitting, file)
    network.load_state_dict(fitting, strict=False)
    fresh = sorted(set(own) - set(fitting))
    rank_zero_info(
        f"Warm start from {path}: {len(fitting)} of {len(own)} tensors"
        + (f"; left at their initial values: {', '.join(fresh[:6])}" if fresh else "")
        + (" ..." if len(fresh) > 6 else "")
    )


def start_facts(path: str) -> dict[str, Any]:
    """What a training notes of the weights that it starts from.

    Args:
        path: Weight file, checkpoint, folder of a run or name of the zoo.

    Returns:
        ``init_from``, the file's ``sha256``, and as ``stages`` the trainings behind it, as far as
        it is weights of the zoo.
    """
    digest = hashlib.sha256(weight_file(path).read_bytes()).hexdigest()
    record = next((record for record in records() if record.sha256 == digest), None)
    history = record.history if record is not None else ()
    return {"init_from": path, "sha256": digest, "stages": [asdict(stage) for stage in history]}
