"""What a checkpoint says of an optimiser, and which options hold when a run goes on with it."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch.optim import Optimizer

__all__ = ["hold_options", "optimizer_facts"]


def optimizer_facts(optimizer: Optimizer) -> dict[str, Any]:
    """Class and plain options of an optimiser, as it was made."""
    plain = (bool, int, float, str, tuple, type(None))
    options = {key: value for key, value in optimizer.defaults.items() if isinstance(value, plain)}
    return {"class": type(optimizer).__name__, "options": options}


def hold_options(
    checkpoint: dict[str, Any], before: dict[str, Any], now: dict[str, Any], name: str
) -> None:
    """Let the options of the config hold in a state to go on from, and say which have changed.

    Lightning restores the options with the optimiser's state, so that a learning rate given on
    resuming would be written into the config and not be used.

    Args:
        checkpoint: ``optimizer_states`` and ``lr_schedulers``, of which the first are changed.
        before: :func:`optimizer_facts` of the optimiser that the state is of.
        now: Those of the config's.
        name: What to call it.
    """
    for key, value in now["options"].items():
        old = before["options"].get(key)
        if old != value:
            rank_zero_info(f"{name}.{key} was {old} and is {value} from now on.")
            _set_option(checkpoint, key, value)


def _set_option(checkpoint: dict[str, Any], key: str, new: Any) -> None:
    """Change an option of the optimiser in a checkpoint, and of the schedule that scales it."""
    for group in checkpoint["optimizer_states"][0]["param_groups"]:
        if key == "lr" and "initial_lr" in group:
            group["lr"] *= new / group["initial_lr"]
            group["initial_lr"] = new
        else:
            group[key] = new
    if key == "lr":
        for schedule in checkpoint.get("lr_schedulers", []):
            schedule["base_lrs"] = [new] * len(schedule.get("base_lrs", []))
            schedule.pop("_last_lr", None)
