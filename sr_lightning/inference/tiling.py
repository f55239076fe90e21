"""Upscaling large images piece by piece, with the whole image's result.

A tile is cut with a margin of at least the network's receptive radius and only its core is kept,
so the pieces equal the whole image's answer (up to the last bit, since other sizes may use other
kernels). Networks that look at the whole image (channel attention, non-local attention) can only
be approximated by tiles; :attr:`SRNetwork.receptive_field` is None for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

__all__ = ["Tile", "default_margin", "tiles", "upscale_tiled"]

Tile = tuple[slice, slice, slice, slice]
"""Rows and columns of the piece with its margin, then of its core inside the whole image."""

# Margin for networks whose receptive field is the whole image: enough for their local part.
_GLOBAL_MARGIN = 32


def default_margin(receptive_field: int | None) -> int:
    """LR pixels of margin that make tiles exact, or a fair guess for global networks."""
    return _GLOBAL_MARGIN if receptive_field is None else receptive_field // 2


def tiles(height: int, width: int, tile: int, margin: int) -> Iterator[Tile]:
    """Cut an image into cores of `tile` x `tile` pixels with a margin around each.

    Args:
        height: of the image.
        width: of the image.
        tile: side of a core in pixels.
        margin: pixels added at each side where the image has them.
    """
    for top in range(0, height, tile):
        bottom = min(top + tile, height)
        for left in range(0, width, tile):
            right = min(left + tile, width)
            yield (
                slice(max(0, top - margin), min(height, bottom + margin)),
                slice(max(0, left - margin), min(width, right + margin)),
                slice(top, bottom),
                slice(left, right),
            )


def upscale_tiled(
    upscale: Callable[[Tensor], Tensor], lr: Tensor, scale: int, tile: int, margin: int
) -> Tensor:
    """Upscale (N, C, H, W) by an integer scale, tile by tile.

    Args:
        upscale: (N, C, h, w) to (N, C, scale * h, scale * w).
        lr: the whole images.
        scale: integer scale.
        tile: side of a tile's core in LR pixels.
        margin: LR pixels around it; see :func:`default_margin`.

    Raises:
        ValueError: tile or margin make no sense.
    """
    if tile < 1 or margin < 0:
        raise ValueError(f"A tile of {tile} with a margin of {margin} makes no sense.")
    n, c, height, width = lr.shape
    whole: Tensor | None = None
    for rows, columns, core_rows, core_columns in tiles(height, width, tile, margin):
        piece = upscale(lr[:, :, rows, columns])
        if whole is None:
            whole = torch.empty(
                n, c, height * scale, width * scale, dtype=piece.dtype, device=piece.device
            )
        top = (core_rows.start - rows.start) * scale
        left = (core_columns.start - columns.start) * scale
        high = (core_rows.stop - core_rows.start) * scale
        wide = (core_columns.stop - core_columns.start) * scale
        whole[
            :,
            :,
            core_rows.start * scale : core_rows.stop * scale,
            core_columns.start * scale : core_columns.stop * scale,
        ] = piece[:, :, top : top + high, left : left + wide]
    assert whole is not None
    return whole
