"""How far layers see: spans of pixels, followed from the output of a network back to its input.

A span ``(low, high)`` holds the pixels that something depends on, counted from the one pixel (or
the first of the cell of pixels) that is asked for. The functions take the span at a layer's output
and give the span at its input.
"""

from __future__ import annotations

import math

__all__ = [
    "Span",
    "side_of",
    "through_bicubic",
    "through_convolution",
    "through_deconvolution",
    "through_shuffle",
    "through_strided",
]

Span = tuple[int, int]


def through_convolution(span: Span, reach: int) -> Span:
    """Before convolutions that see `reach` pixels to each side, all together."""
    return span[0] - reach, span[1] + reach


def through_strided(span: Span, kernel: int, factor: int, padding: int) -> Span:
    """Before a convolution of stride `factor`."""
    return span[0] * factor - padding, span[1] * factor - padding + kernel - 1


def through_shuffle(span: Span, factor: int) -> Span:
    """Before a pixel shuffle, or upscaling by repeating pixels."""
    return span[0] // factor, span[1] // factor


def through_deconvolution(span: Span, kernel: int, factor: int, front: int) -> Span:
    """Before a transposed convolution; arguments as of `sr_lightning.nn.layers.Deconvolution`."""
    low, high = span
    return -((kernel - 1 - low - front) // factor), (high + front) // factor


def through_bicubic(span: Span, scale: int) -> Span:
    """Before bicubic upscaling by a whole number.

    An upscaled pixel in the middle of a pixel of the image is that pixel; others see two pixels to
    each side.
    """
    seen: list[int] = []
    # Pixels further inside see no further out than a whole cell at each end does.
    for pixel in {*range(span[0], span[0] + scale), *range(span[1] - scale + 1, span[1] + 1)}:
        centre = (pixel + 0.5) / scale - 0.5
        low, high = math.ceil(centre), math.floor(centre)
        seen += [low, high] if low == high else [low - 2, high + 2]
    return min(seen), max(seen)


def side_of(span: Span) -> int:
    """Side of the smallest odd square around pixel 0 that holds a span in both directions."""
    return 2 * max(-span[0], span[1]) + 1
