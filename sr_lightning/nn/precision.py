"""Precision and memory layout: exact images inside 16-bit networks, channels last or not."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

__all__ = ["full_precision", "layout_of", "set_layout"]


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Context in which autocast is off on the device of `like`.

    Colour transforms and the global bicubic skip run in it: an image in bfloat16 is 55 dB away
    from itself, which a network that is good to 38 dB would feel.
    """
    if like.device.type == "meta":
        return nullcontext()
    return torch.autocast(like.device.type, enabled=False)


def layout_of(channels_last: bool) -> torch.memory_format:
    """The memory layout by its name."""
    return torch.channels_last if channels_last else torch.contiguous_format


def set_layout(network: nn.Module, channels_last: bool) -> None:
    """Lay out a network's weights channels last or not, in place; activations follow."""
    network.to(memory_format=layout_of(channels_last))  # type: ignore[call-overload]
