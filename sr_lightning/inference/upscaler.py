"""One way to use a network: whole or tiled, plain or self-ensembled, falling back on tiles."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sr_lightning.cubic import upscaled_size
from sr_lightning.data.degradation import bicubic_up
from sr_lightning.data.images import (
    check_range,
    from_unit_range,
    to_tensor,
    with_hidden_colours,
)
from sr_lightning.errors import UserError
from sr_lightning.inference.ensemble import self_ensemble
from sr_lightning.inference.tiling import (
    MOST_CLASSES,
    classes_of,
    default_margin,
    upscaled_strips,
)
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.precision import full_precision, layout_of

__all__ = ["Upscaler", "upscale_channels"]

_log = logging.getLogger(__name__)
_SMALLEST_TILE = 32
# LR images that a protocol does not round overshoot, and noise may be added to an image.
_BEYOND = 1.0


class Upscaler:
    """Upscales images with a network.

    Args:
        network: Any network of the suite, in evaluation mode.
        tile: Side of tiles in LR pixels; None upscales the whole image and turns to tiles only if
            memory runs out.
        margin: LR pixels around a tile; default: what makes tiles exact.
        ensemble: Average over the 8 mirrorings and rotations.

    Attributes:
        whole: Side in LR pixels up to which an image is not cut, whatever the tile.

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
        self.whole = 0
        self.margin = default_margin(network.receptive_field) if margin is None else margin
        self.ensemble = ensemble

    @property
    def exact(self) -> bool:
        """Whether tiles give the whole image's result."""
        field = self.network.receptive_field
        return field is not None and self.margin >= field // 2

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next((p.device for p in self.network.parameters()), torch.device("cpu"))

    def __call__(self, lr: Tensor, scale: float) -> Tensor:
        """Upscale images.

        Args:
            lr: (N, 3, H, W) float RGB in [0, 1]; computed in the precision of the network.
            scale: Scale that the network can do.

        Returns:
            (N, 3, scale * H, scale * W), not clamped.

        Raises:
            UserError: `lr` is no such tensor.
            ValueError: the network is not made for that scale.
        """
        _check(lr)
        lr = lr.to(self.network.dtype)

        def padded(below: int, right: int) -> Callable[[slice, slice], Tensor]:
            # Not in bytes: "replicate" is for floats.
            whole = F.pad(lr, (0, right, 0, below), mode="replicate") if below or right else lr
            # The layout decides between kernels, whose last bits differ.
            last = whole.is_contiguous(memory_format=torch.channels_last)
            return lambda rows, columns: self._piece(
                whole[:, :, rows, columns].contiguous(memory_format=layout_of(last)), scale
            )

        size = (lr.shape[-2], lr.shape[-1])
        height, width = upscaled_size(size, scale)
        whole: Tensor | None = None
        filled = 0
        for strip in self._strips(padded, size, scale):
            if strip.shape[-2:] == (height, width):
                return strip
            if whole is None:
                whole = strip.new_empty(*strip.shape[:-2], height, width)
            rows = min(strip.shape[-2], height - filled)
            whole[..., filled : filled + rows, :] = strip[..., :rows, :width]
            filled += rows
        assert whole is not None
        return whole

    def strips(
        self,
        pixels: NDArray[Any],
        scale: float,
        dtype: torch.dtype,
        done: Callable[[int], None] = lambda _: None,
    ) -> Iterator[NDArray[Any]]:
        """Upscale an image of whole levels strip by strip, so that it need not fit into memory.

        Args:
            pixels: (H, W, C) of uint8 or uint16; channels as :func:`upscale_channels` takes them.
            scale: That the network can do.
            dtype: Of the result, uint8 or uint16.
            done: Called with the number of LR pixels after each tile.

        Returns:
            (h, scale * W, C) each, from top to bottom.
        """
        pixels = with_hidden_colours(pixels)
        size = (pixels.shape[0], pixels.shape[1])

        def padded(below: int, right: int) -> Callable[[slice, slice], Tensor]:
            whole = pixels
            if below or right:
                whole = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge")

            def piece(rows: slice, columns: slice) -> Tensor:
                lr = to_tensor(whole[rows, columns])[None].to(self.device)
                levels = self.levels(lr, scale, dtype)
                done(lr.shape[-2] * lr.shape[-1])
                return levels

            return piece

        height, width = upscaled_size(size, scale)
        for strip in self._strips(padded, size, scale):
            yield strip[:, :height, :width].permute(1, 2, 0).numpy()
            height -= strip.shape[1]

    def levels(self, lr: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
        """Upscale an image to whole levels, without cutting it.

        Args:
            lr: (1, C, H, W) in [0, 1]; channels as :func:`upscale_channels` takes them.
            scale: That the network can do.
            dtype: Of the result, uint8 or uint16.

        Returns:
            (C, scale * H, scale * W) on the CPU.
        """
        sr = upscale_channels(lambda rgb: self._piece(rgb, scale), lr, scale)
        return from_unit_range(sr[0], dtype).cpu()

    def tiles(self, size: tuple[int, int]) -> bool:
        """Whether an image of this height and width is cut."""
        return self.tile is not None and max(size) > max(self.tile, self.whole)

    def _strips(
        self,
        padded: Callable[[int, int], Callable[[slice, slice], Tensor]],
        size: tuple[int, int],
        scale: float,
    ) -> Iterator[Tensor]:
        """Rows of tiles of an image that `padded` extends below and to the right."""
        tile = max(size) if self.tile is None else self.tile
        if not self.tiles(size):
            try:
                whole = padded(0, 0)(slice(0, size[0]), slice(0, size[1]))
            except RuntimeError as error:
                tile = self._smaller(error, max(size))
            else:
                yield whole
                return
        classes = classes_of(scale)
        if classes > MOST_CLASSES:
            raise UserError(f"Tiles need a scale such as 2.5 or 2.7, not {scale:g}.")
        if not self.exact:
            _warn_of_tiles(type(self.network).__name__, self.margin, self.network.receptive_field)

        def aligned(pixels: int) -> int:
            return -(-pixels // classes) * classes

        height, width = (aligned(extent) for extent in size)
        yield from upscaled_strips(
            padded(height - size[0], width - size[1]),
            (height, width),
            scale,
            aligned(tile),
            aligned(self.margin),
            lambda error, tile: aligned(self._smaller(error, tile)),
        )

    def _piece(self, lr: Tensor, scale: float) -> Tensor:
        lr = lr.to(self.network.dtype)
        if not self.ensemble:
            return self.network.upscale(lr, scale)
        return self_ensemble(lambda turned: self.network.upscale(turned, scale), lr)

    def _smaller(self, error: RuntimeError, tile: int) -> int:
        """Side of the tiles after memory ran out; other errors are raised again."""
        if not _is_out_of_memory(error):
            raise error
        if tile // 2 < _SMALLEST_TILE:
            raise UserError(
                f"There is too little memory for tiles of {tile} pixels; choose smaller weights."
            ) from error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        kind = "the same result" if self.exact else "not quite the whole image's result"
        _log.warning("Out of memory; going on with tiles of %d (%s).", tile // 2, kind)
        return tile // 2


def upscale_channels(upscale: Callable[[Tensor], Tensor], image: Tensor, scale: float) -> Tensor:
    """Upscale images of any channels; transparency is upscaled by bicubic and grey stays grey.

    Args:
        upscale: Upscales RGB images, (N, 3, H, W) to (N, 3, scale * H, scale * W).
        image: (N, C, H, W) in [0, 1]: C = 1 is grey, 2 grey with alpha, 3 RGB, 4 RGB with alpha.
        scale: By which it upscales.

    Returns:
        (N, C, scale * H, scale * W) float32, not clamped.
    """
    transparent = image.shape[1] in {2, 4}
    colour = image[:, :-1] if transparent else image
    grey = colour.shape[1] == 1
    lr = colour.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
    sr = upscale(lr).float()
    if grey:
        sr = sr.mean(dim=1, keepdim=True)
    if transparent:
        with full_precision(image):
            sr = torch.cat([sr, bicubic_up(image[:, -1:].float(), scale)], dim=1)
    return sr


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
    if field is None:
        # Measured with the weights that come along: 90 dB for HFDN in tiles of 64, CIRN 93.
        text = "%s sees the whole image; its result in tiles is an approximation."
        _log.warning(text, network)
        return
    text = "%s sees %d pixels to each side: with a margin of %d, the results depend on the tiles."
    _log.warning(text, network, field // 2, margin)


def _is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in text
        or "can't allocate memory" in text
    )
