"""Picture strips that show what a network does: LR, bicubic, SR and HR side by side."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from sr_lightning.data.images import to_pixels, write_image

__all__ = ["busiest_square", "comparison", "save_crops", "sheet", "strip"]

Pixels = NDArray[np.uint8]
_GAP, _LABEL = 6, 22
_MOST_COLUMNS = 4


def busiest_square(hr: Tensor, side: int) -> tuple[int, int]:
    """Top-left corner of the square with the most fine detail, where methods differ.

    Args:
        hr: (3, H, W) in [0, 1].
        side: Side of the square in pixels.
    """
    grey = hr.mean(dim=0, keepdim=True)[None]
    detail = (grey - F.avg_pool2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), 3, 1)).abs()
    density = F.avg_pool2d(detail, side, stride=max(1, side // 8))[0, 0]
    flat = int(density.argmax())
    row, column = divmod(flat, density.shape[1])
    step = max(1, side // 8)
    return row * step, column * step


def strip(panels: list[tuple[str, Pixels]], height: int) -> Image.Image:
    """Labelled pictures of one height in a row, on white.

    Args:
        panels: Label and uint8 (H, W, 3) pixels; each is scaled to `height` by nearest neighbour
            when upscaled, so that pixels stay visible.
        height: Height of the pictures.
    """
    font = ImageFont.load_default(14)
    scaled = []
    for label, pixels in panels:
        image = Image.fromarray(pixels)
        width = max(1, round(image.width * height / image.height))
        kind = Image.Resampling.NEAREST if image.height < height else Image.Resampling.LANCZOS
        scaled.append((label, image.resize((width, height), kind)))
    total = sum(image.width for _, image in scaled) + _GAP * (len(scaled) - 1)
    canvas = Image.new("RGB", (total, height + _LABEL), "white")
    draw = ImageDraw.Draw(canvas)
    left = 0
    for label, image in scaled:
        draw.text((left + 2, 2), label, fill="black", font=font)
        canvas.paste(image, (left, _LABEL))
        left += image.width + _GAP
    return canvas


def comparison(
    methods: list[tuple[str, Tensor]],
    hr: Tensor,
    *,
    side: int = 96,
    whole: int | None = 360,
) -> Image.Image:
    """The whole pictures in one row and the busiest square of each, upscaled, in a row below.

    Args:
        methods: Label and image (3, H, W) in about [0, 1], all of the size of `hr`.
        hr: The original, (3, H, W); shown last.
        side: Side of the square that is upscaled, in HR pixels.
        whole: Height of the whole pictures, or None to show squares only.
    """
    panels = [*methods, ("HR (original)", hr)]
    side = min(side, *hr.shape[1:])
    top, left = busiest_square(hr, side)
    # The upscaled squares stand under their pictures.
    zoom = 288 if whole is None else round(whole * hr.shape[2] / hr.shape[1])
    squares = strip(
        [
            (label, to_pixels(image[:, top : top + side, left : left + side]))
            for label, image in panels
        ],
        zoom,
    )
    if whole is None:
        return squares
    pictures = [(label, _framed(image, top, left, side)) for label, image in panels]
    return _stack([strip(pictures, whole), squares])


def sheet(
    title: str,
    methods: list[tuple[str, Tensor]],
    hr: Tensor,
    square: tuple[int, int, int],
    *,
    height: int = 256,
) -> Image.Image:
    """The whole original, and beside it a square of it by every method, in rows.

    Args:
        title: Stands above the whole original.
        methods: Label and image (3, H, W) in about [0, 1], all of the size of `hr`.
        hr: The original, (3, H, W).
        square: Top, left and side of what is shown of each, in pixels.
        height: Height of an upscaled square.
    """
    top, left, side = square
    squares = [
        (label, to_pixels(image[:, top : top + side, left : left + side]))
        for label, image in methods
    ]
    columns = math.ceil(len(squares) / math.ceil(len(squares) / _MOST_COLUMNS))
    rows = [squares[first : first + columns] for first in range(0, len(squares), columns)]
    grid = _stack([strip(row, height) for row in rows])
    whole = strip([(title, _framed(hr, top, left, side))], grid.height - _LABEL)
    canvas = Image.new("RGB", (whole.width + 2 * _GAP + grid.width, grid.height), "white")
    canvas.paste(whole, (0, 0))
    canvas.paste(grid, (whole.width + 2 * _GAP, 0))
    return canvas


def _stack(rows: list[Image.Image]) -> Image.Image:
    """Pictures below one another, on white."""
    height = sum(row.height for row in rows) + _GAP * (len(rows) - 1)
    canvas = Image.new("RGB", (max(row.width for row in rows), height), "white")
    top = 0
    for row in rows:
        canvas.paste(row, (0, top))
        top += row.height + _GAP
    return canvas


def _framed(image: Tensor, top: int, left: int, side: int) -> Pixels:
    """The pixels of an image with a frame around a square of it."""
    framed = Image.fromarray(to_pixels(image))
    ImageDraw.Draw(framed).rectangle(
        (left, top, left + side, top + side), outline="yellow", width=2
    )
    return np.asarray(framed)


def upscaled_lr(lr: Tensor, size: tuple[int, int]) -> Tensor:
    """The LR image with its pixels as squares: (3, h, w) to (3, *size)."""
    return F.interpolate(lr[None], size, mode="nearest-exact")[0]


def save_crops(
    folder: Path,
    lr: Tensor,
    methods: dict[str, Tensor],
    scale: float,
    side: int = 256,
    corner: tuple[int, int] | None = None,
) -> tuple[int, int, int]:
    """Save the same square of every method, pixel for pixel, and the LR pixels under it.

    Reports upscale and align them; a strip's pictures are scaled and labelled already.

    Args:
        folder: Where ``lr.png`` and one ``<method>.png`` each go.
        lr: (3, h, w) in about [0, 1].
        methods: Images (3, H, W) in about [0, 1], with "hr", the original.
        scale: H / h.
        side: Largest side of the square in HR pixels.
        corner: About where its top and left are, in HR pixels; default: where "hr" has most detail.

    Returns:
        Top, left and side of the square in HR pixels.
    """
    hr = methods["hr"]
    # Whole LR pixels, so that the LR square covers the same part of the scene.
    cells = max(1, int(min(side, *hr.shape[1:]) / scale))
    side = round(cells * scale)
    corner = busiest_square(hr, side) if corner is None else corner
    y, x = (
        min(round(n / scale), size - cells) for n, size in zip(corner, lr.shape[1:], strict=True)
    )
    top, left = (
        min(round(n * scale), size - side) for n, size in zip((y, x), hr.shape[1:], strict=True)
    )
    squares = {
        name: image[:, top : top + side, left : left + side] for name, image in methods.items()
    }
    squares["lr"] = lr[:, y : y + cells, x : x + cells]
    for name, square in squares.items():
        write_image(folder / f"{name}.png", to_pixels(square))
    return top, left, side
