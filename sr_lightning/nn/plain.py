"""Layers as their papers write them, for counting costs and for proofs of equality."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

__all__ = ["is_plain", "plain"]

_PLAIN: list[bool] = []


@contextmanager
def plain() -> Iterator[None]:
    """Context in which layers with a faster arrangement compute what their papers write.

    The results are the same up to rounding (tested); it exists to show that, and what it saves.
    """
    _PLAIN.append(True)
    try:
        yield
    finally:
        _PLAIN.pop()


def is_plain(x: Tensor) -> bool:
    """Whether a layer has to compute `x` as its paper writes it.

    Always on the meta device, where costs are counted.
    """
    return x.is_meta or bool(_PLAIN)
