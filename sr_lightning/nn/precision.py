"""Keeping images exact inside networks that otherwise compute in 16 bits."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ["full_precision"]


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Context in which autocast is off on the device of `like`.

    Colour transforms and the global bicubic skip run in it: an image in bfloat16 is 55 dB away
    from itself, which a network that is good to 38 dB would feel.
    """
    if like.device.type == "meta":
        return nullcontext()
    return torch.autocast(like.device.type, enabled=False)
