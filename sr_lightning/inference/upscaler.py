"""One way to use a network: whole or tiled, plain or self-ensembled, falling back on tiles."""

from __future__ import annotations

import functools
import logging

import torch
from torch import Tensor

from sr_lightning.data.images import check_range
from sr_lightning.errors import UserError
from sr_lightning.inference.ensemble import self_ensemble
from sr_lightning.inference.tiling import default_margin, upscale_tiled
from sr_lightning.nn.network import SRNetwork

__all__ = ["Upscaler"]

_log = logging.getLogger(__name__)
_SMALLEST_TILE = 32
# LR images that a protocol does not round overshoot, and noise may be added to an image.
_BEYOND = 1.0


class Upscaler:
    """Upscales images with a network.

    Args:
        network: any network of the suite, in evaluation mode.
        tile: side of tiles in LR pixels; None upscales the whole image and turns to tiles only if
            memory runs out.
        margin: LR pixels around a tile; default: what makes tiles exact.
        ensemble: average over the 8 mirrorings and rotations.

    Raises:
        UserError: the tile is smaller than a pixel.
    """

    def __init__(
        self,
        network: SRNetwork,
        *,
        tile: int | None = None,
        margin: int | None = None,
        ensemble: bool = False,
    ) -> None:
        if tile is not None and tile < 1:
            raise UserError(f"A tile of {tile} pixels is too small; 128 is usual.")
        self.network = network
        self.tile = tile
        self.margin = default_margin(network.receptive_field) if margin is None else margin
        self.ensemble = ensemble
        if tile is not None and not self.exact:
            _warn_of_tiles(type(network).__name__, self.margin, network.receptive_field)

    @property
    def exact(self) -> bool:
        """Whether tiles give the whole image's result."""
        field = self.network.receptive_field
        return field is not None and self.margin >= field // 2

    def __call__(self, lr: Tensor, scale: float) -> Tensor:
        """Upscale images.

        Args:
            lr: (N, 3, H, W) float RGB in [0, 1]; computed in the precision of the network.
            scale: that the network can do.

        Returns:
            (N, 3, scale * H, scale * W), not clamped.

        Raises:
            UserError: `lr` is no such tensor.
            ValueError: the network is not made for that scale.
        """
        _check(lr)
        lr = lr.to(self.network.dtype)
        if not self.ensemble:
            return self._once(lr, scale)
        return self_ensemble(lambda turned: self._once(turned, scale), lr)

    def _once(self, lr: Tensor, scale: float) -> Tensor:
        tile = self.tile
        while True:
            try:
                if tile is None or max(lr.shape[-2:]) <= tile:
                    return self.network.upscale(lr, scale)
                # Pieces of a real scale would not meet on whole pixels.
                if not float(scale).is_integer():
                    raise UserError(f"Tiles need a whole scale, not {scale:g}; leave them out.")
                return upscale_tiled(
                    lambda piece: self.network.upscale(piece, scale),
                    lr,
                    int(scale),
                    tile,
                    self.margin,
                )
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error) or not float(scale).is_integer():
                    raise
                tile = _smaller(tile, lr)
                if tile is None:
                    raise
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                kind = "the same result" if self.exact else "not quite the whole image's result"
                _log.warning("Out of memory; going on with tiles of %d (%s).", tile, kind)


def _check(lr: Tensor) -> None:
    if lr.ndim != 4 or lr.shape[1] != 3 or lr.numel() == 0:
        raise UserError(
            f"The images are {tuple(lr.shape)}; give (N, 3, H, W), a single one as lr[None], a "
            "grey one as three equal channels."
        )
    if not lr.is_floating_point():
        raise UserError(f"The images are {lr.dtype}; give floats in [0, 1], of bytes lr / 255.")
    check_range(lr, _BEYOND)


@functools.cache
def _warn_of_tiles(network: str, margin: int, field: int | None) -> None:
    """Say once per kind of network what tiles do to its results."""
    sees = "the whole image" if field is None else f"{field // 2} pixels to each side"
    _log.warning(
        "%s sees %s: with tiles and a margin of %d, the results depend on the tiles.",
        network,
        sees,
        margin,
    )


def _is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in text
        or "can't allocate memory" in text
    )


def _smaller(tile: int | None, lr: Tensor) -> int | None:
    side = max(lr.shape[-2:]) if tile is None else min(tile, max(lr.shape[-2:]))
    return side // 2 if side // 2 >= _SMALLEST_TILE else None
