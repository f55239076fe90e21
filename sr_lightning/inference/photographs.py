"""From a photograph to a larger one: passes of a network, and at most one resize."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sr_lightning.cubic import upscaled_size
from sr_lightning.data.images import Photo, from_unit_range, to_tensor
from sr_lightning.data.photo_writer import check_format, write_photo
from sr_lightning.errors import UserError
from sr_lightning.inference.tiling import MOST_CLASSES, classes_of
from sr_lightning.inference.upscaler import Upscaler, upscale_channels
from sr_lightning.nn.network import SRNetwork

__all__ = ["Goal", "passes_for", "upscale_photo", "write_upscaled"]

# By so much bicubic interpolation may enlarge what a network made, before another pass pays.
_LITTLE = 1.1


@dataclass(frozen=True)
class Goal:
    """How large an image shall become; one of the three.

    Attributes:
        scale: By which to upscale.
        size: Height and width of the result.
        fit: Longer side of the result in pixels.
    """

    scale: float | None = None
    size: tuple[int, int] | None = None
    fit: int | None = None

    @property
    def label(self) -> str:
        """The goal in the name of a file."""
        if self.size is not None:
            return f"{self.size[1]}x{self.size[0]}"
        return f"x{self.scale:g}" if self.fit is None else f"fit{self.fit}"

    def reached(self, size: tuple[int, int]) -> tuple[float, tuple[int, int]]:
        """Scale and size of what an image of a height and width becomes.

        Raises:
            UserError: the image is larger, or of another shape.
        """
        if self.scale is not None:
            return self.scale, upscaled_size(size, self.scale)
        result = self.size
        if self.fit is not None:
            larger = self.fit / max(size)
            height, width = upscaled_size(size, larger)
            result = max(height, 1), max(width, 1)
        assert result is not None
        down, across = result[0] / size[0], result[1] / size[1]
        given = f"The image is {size[1]} x {size[0]}"
        if max(down, across) < 1:
            raise UserError(f"{given}, larger than {self.label}; there is nothing to upscale.")
        # A pixel more or less comes of rounding.
        if self.fit is None and abs(down / across - 1) > max(0.01, 1 / min(result)):
            raise UserError(
                f"{given} and would be stretched to {self.label}; "
                f"--fit {max(result)} keeps its shape."
            )
        return max(down, across, 1.0), result


def passes_for(network: SRNetwork, scale: float) -> list[float]:
    """Scales that a network upscales by, one after another, to reach a scale or a little more.

    Args:
        network: Any.
        scale: At least 1; where the passes make another, one resize is left to do.
    """
    if network.supports_scale(scale) and classes_of(scale) <= MOST_CLASSES:
        return [scale]
    if network.arbitrary_scale:
        return [math.ceil(scale * 10) / 10]
    passes: list[float] = []
    left, largest = scale, max(network.scales)
    while not passes or left > _LITTLE:
        passes.append(min((s for s in network.scales if s >= left - 1e-9), default=largest))
        left /= passes[-1]
    return passes


def upscale_photo(
    upscaler: Upscaler,
    photo: Photo,
    goal: Goal,
    target: Path,
    *,
    done: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[tuple[int, int], str]:
    """Upscale a photograph into a file, of which no more than a strip is in memory.

    Args:
        upscaler: With the network.
        photo: As read.
        goal: How large it shall become.
        target: File to write.
        done: Called after each tile with the LR pixels that are done, and all that there are.

    Returns:
        Height and width of the result, and how it was made, such as "x4, then bicubic".

    Raises:
        UserError: the photograph cannot be upscaled so, or the file not written.
    """
    if photo.frames > 1:
        raise UserError(
            f"It has {photo.frames} frames or pages; save them as files of their own "
            "(ffmpeg -i FILE frame%04d.png) and upscale these."
        )
    pixels = photo.pixels
    scale, size = goal.reached((pixels.shape[0], pixels.shape[1]))
    passes = passes_for(upscaler.network, scale)
    check_format(target, size, transparent=photo.transparent)
    final = torch.uint8 if pixels.dtype == np.uint8 else torch.uint16
    areas = [pixels.shape[0] * pixels.shape[1]]
    for factor in passes[:-1]:
        areas.append(round(areas[-1] * factor**2))
    counted = 0

    def count(more: int) -> None:
        nonlocal counted
        counted += more
        done(min(counted, sum(areas)), sum(areas))

    for factor in passes[:-1]:
        strips = upscaler.strips(pixels, factor, torch.uint16, count)
        pixels = np.concatenate(list(strips))
    made = upscaled_size((pixels.shape[0], pixels.shape[1]), passes[-1])
    strips = upscaler.strips(pixels, passes[-1], final, count)
    write_photo(target, strips, photo, made, size)
    how = ", ".join(f"x{factor:g}" for factor in passes)
    return size, how if made == size else f"{how}, then bicubic"


def write_upscaled(target: Path, sr: Tensor, photo: Photo, scale: float) -> None:
    """Write what a network made of a photograph's colours as :func:`upscale_photo` does.

    Args:
        target: File to write.
        sr: (1, 3, scale * H, scale * W) RGB.
        photo: That it was made of.
        scale: By which it was upscaled.

    Raises:
        UserError: the file cannot be written.
    """
    lr = to_tensor(photo.pixels)[None].to(sr.device)
    large = upscale_channels(lambda _: sr, lr, scale)[0]
    levels = from_unit_range(large, torch.from_numpy(photo.pixels).dtype)
    made = (levels.shape[1], levels.shape[2])
    write_photo(target, [levels.permute(1, 2, 0).cpu().numpy()], photo, made)
