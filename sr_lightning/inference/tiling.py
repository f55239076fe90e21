"""Upscaling large images piece by piece, with the whole image's result.

A tile is cut with a margin of at least the network's receptive radius and only its core is kept,
so the pieces equal the whole image's answer (up to the last bit, since other sizes may use other
kernels). Networks that look at the whole image (channel attention, non-local attention) can only
be approximated by tiles; :attr:`SRNetwork.receptive_field` is None for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import torch
from torch import Tensor

__all__ = ["GLOBAL_MARGIN", "MOST_CLASSES", "classes_of", "default_margin", "upscaled_strips"]

# Margin for networks whose receptive field is the whole image: enough for their local part.
GLOBAL_MARGIN = 16
# Tiles of a real scale p / q begin at multiples of q; beyond this they would be too large.
MOST_CLASSES = 20


def default_margin(receptive_field: int | None) -> int:
    """LR pixels of margin that make tiles exact, or a fair guess for global networks."""
    return GLOBAL_MARGIN if receptive_field is None else receptive_field // 2


def classes_of(scale: float) -> int:
    """LR pixels after which HR pixels lie in them as before: q of a scale p / q."""
    return Fraction(scale).limit_denominator(1000).denominator


def upscaled_strips(
    piece: Callable[[slice, slice], Tensor],
    size: tuple[int, int],
    scale: float,
    tile: int,
    margin: int,
    smaller: Callable[[RuntimeError, int], int],
) -> Iterator[Tensor]:
    """Rows of tiles from top to bottom, each as wide as the image.

    Pieces are all of one size, for which engines plan once: tiles share the image evenly, and those
    at its borders get more of it on their other side.

    Args:
        piece: Upscales the pixels in given rows and columns: (..., scale * h, scale * w).
        size: Height and width of the image; multiples of :func:`classes_of` where there are several
            tiles.
        scale: Real scale.
        tile: Largest side of a tile's core in LR pixels; a multiple of the classes, as the margin.
        margin: LR pixels around it, where the image has them; see :func:`default_margin`.
        smaller: Side to go on with after an error, which it raises where there is none.
    """
    height, width = size
    top = 0
    while top < height:
        down, across = (_even(extent, tile, classes_of(scale)) for extent in size)
        rows = _span(top, down, margin, height)
        try:
            cores = []
            for left in range(0, width, across):
                columns = _span(left, across, margin, width)
                made = piece(slice(*rows[:2]), slice(*columns[:2]))
                core = made[..., _inner(rows, scale), _inner(columns, scale)]
                # Of the piece itself nothing else is kept.
                cores.append(core.clone() if core.shape != made.shape else core)
        except RuntimeError as error:
            tile = smaller(error, tile)
            continue
        yield cores[0] if len(cores) == 1 else torch.cat(cores, dim=-1)
        top = rows[3]


def _even(extent: int, tile: int, classes: int) -> int:
    """Side of as few tiles as that, of equal size."""
    count = -(-extent // tile)
    return -(-extent // (count * classes)) * classes


def _span(start: int, tile: int, margin: int, end: int) -> tuple[int, int, int, int]:
    """Where a piece begins and ends, then its core."""
    side = tile + 2 * margin
    begin = max(0, min(start - margin, end - side))
    return begin, min(end, begin + side), start, min(start + tile, end)


def _inner(span: tuple[int, int, int, int], scale: float) -> slice:
    """Where a core lies in its upscaled piece."""
    begin, end, start, stop = span
    if (begin, end) == (start, stop):
        return slice(None)
    return slice(round((start - begin) * scale), round((stop - begin) * scale))
