"""What can be wrong with the pixels of a picture, judged by themselves or beside the HR image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sr_lightning.data.near_duplicates import LOOKS_ALIKE, hash_distance

__all__ = [
    "Levels",
    "Shift",
    "is_colourless",
    "jpeg_quality",
    "levels_of",
    "luminance",
    "moved",
    "shift_of",
    "wrong_partners",
]

Plane = NDArray[np.float64]

# JPEG's example table for luminance (ITU-T T.81, K.1), which nearly every encoder scales, at the
# nine lowest frequencies; (row, column) of each.
_FREQUENCIES = ((0, 1), (1, 0), (0, 2), (1, 1), (2, 0), (0, 3), (1, 2), (2, 1), (3, 0))
_STEPS = (11, 12, 10, 12, 14, 16, 14, 13, 14)

# A shift below this many pixels is not told: real networks' images measure up to 0.1.
_SMALLEST_SHIFT = 0.15


def luminance(pixels: NDArray[np.number]) -> Plane:
    """Luma of RGB levels: (H, W, 3) to (H, W), full range."""
    weighted: Plane = pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return weighted


def is_colourless(pixels: NDArray[np.uint8]) -> bool:
    """Whether the three channels of (H, W, 3) are the same."""
    return bool((pixels[..., :1] == pixels[..., 1:]).all())


@lru_cache(maxsize=1)
def _dct() -> Plane:
    n = np.arange(8)
    basis = np.cos(np.pi * (2 * n + 1) * n[:, None] / 16) / 2
    basis[0] /= np.sqrt(2)
    return basis


def jpeg_quality(pixels: NDArray[np.uint8]) -> int | None:
    """Quality with which pixels once went through JPEG, or None.

    Quantised DCT coefficients lie near multiples of their step, also after the picture was saved
    as PNG. Recognised up to a quality of about 90, as long as the picture was not shifted since.

    Args:
        pixels: uint8 (H, W, 3).
    """
    height, width = (min(512, side) // 8 * 8 for side in pixels.shape[:2])
    if min(height, width) < 64:
        return None
    y = luminance(pixels[:height, :width]) - 128
    blocks = y.reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2)
    coefficients = _dct() @ blocks @ _dct().T
    agreeing = []
    for quality in range(92, 19, -1):
        percent = 200 - 2 * quality if quality >= 50 else 5000 / quality
        scores = []
        for (row, column), base in zip(_FREQUENCIES, _STEPS, strict=True):
            step = max(1, int((base * percent + 50) // 100))
            values = coefficients[..., row, column]
            # Zeros fit every step, and a small step tells nothing against rounding noise.
            values = values[np.abs(values) > step / 2]
            if step >= 2 and len(values) >= 24:
                scores.append(float(np.cos(2 * np.pi * values / step).mean()))
        if len(scores) >= 4 and np.median(scores) > 0.5:
            agreeing.append((float(np.median(scores)), quality))
    return max(agreeing)[1] if agreeing else None


@dataclass(frozen=True)
class Shift:
    """Where an image lies beside another.

    Attributes:
        down: pixels that it lies too low; negative: too high.
        right: pixels that it lies too far right; negative: left.
        gain: dB of PSNR that moving it back by whole pixels gives; 0 for less than half a pixel.
    """

    down: float
    right: float
    gain: float

    @property
    def whole(self) -> tuple[int, int]:
        """The shift in whole pixels, where moving back gains most."""
        return round(self.down), round(self.right)

    @property
    def tells(self) -> bool:
        """Whether it is large enough to be told."""
        return max(abs(self.down), abs(self.right)) >= _SMALLEST_SHIFT

    def __str__(self) -> str:
        parts = [
            f"{abs(value):.1f} px {more if value > 0 else less}"
            for value, more, less in (
                (self.down, "down", "up"),
                (self.right, "to the right", "to the left"),
            )
            if abs(value) >= 0.05
        ]
        return " and ".join(parts) or "nothing"


def shift_of(image: Plane, beside: Plane, reach: int = 2) -> Shift:
    """How far an image is shifted beside another: the best whole shift, then its remainder.

    The remainder solves ``beside - image = gradient . shift`` in the least squares sense.

    Args:
        image: (H, W) levels.
        beside: (H, W) levels; the truth.
        reach: largest whole shift to try.
    """
    edge = reach + 1
    if min(image.shape) <= 4 * edge:
        return Shift(0.0, 0.0, 0.0)
    truth = beside[edge:-edge, edge:-edge]
    height, width = truth.shape

    def view(down: int, right: int) -> Plane:
        return image[edge + down : edge + down + height, edge + right : edge + right + width]

    steps = range(-reach, reach + 1)
    errors = {
        (down, right): float(np.square(view(down, right) - truth).mean())
        for down in steps
        for right in steps
    }
    best = min(errors, key=lambda step: errors[step])
    vertical = (view(best[0] + 1, best[1]) - view(best[0] - 1, best[1])) / 2
    horizontal = (view(best[0], best[1] + 1) - view(best[0], best[1] - 1)) / 2
    missing = truth - view(*best)
    normal = np.array(
        [
            [np.vdot(vertical, vertical), np.vdot(vertical, horizontal)],
            [np.vdot(vertical, horizontal), np.vdot(horizontal, horizontal)],
        ]
    )
    moments = np.array([np.vdot(vertical, missing), np.vdot(horizontal, missing)])
    if np.linalg.det(normal) <= 1e-9 * max(1.0, float(np.trace(normal))) ** 2:
        rest = np.zeros(2)
    else:
        rest = np.linalg.solve(normal, moments).clip(-0.5, 0.5)
    gain = 10 * np.log10(max(errors[0, 0], 1e-9) / max(errors[best], 1e-9))
    return Shift(best[0] + float(rest[0]), best[1] + float(rest[1]), float(gain))


def moved(pixels: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """Pixels moved back by a whole shift, the border repeated: (H, W, 3)."""
    height, width = pixels.shape[:2]
    rows = (np.arange(height) + down).clip(0, height - 1)
    columns = (np.arange(width) + right).clip(0, width - 1)
    return np.ascontiguousarray(pixels[rows][:, columns])


@dataclass(frozen=True)
class Levels:
    """How the grey levels of an image follow those of another: ``image = slope * truth + offset``.

    Attributes:
        slope: 219 / 255 = 0.859 where full range was squeezed into 16 to 235.
        offset: in levels.
        bias: mean of image minus truth, in levels.
    """

    slope: float
    offset: float
    bias: float

    @property
    def squeezed(self) -> bool:
        """Whether the image was squeezed into 16 to 235."""
        return abs(self.slope - 219 / 255) < 0.03 and abs(self.offset - 16) < 5

    @property
    def stretched(self) -> bool:
        """Whether the image was stretched from 16..235 to full range that it had already."""
        return abs(self.slope - 255 / 219) < 0.04 and abs(self.offset + 18.6) < 6


def levels_of(image: Plane, truth: Plane) -> Levels:
    """Fit the levels of an image to those of another, both (H, W).

    Fine detail that the image lacks would make a plain fit too flat, so means of 8 x 8 pixels are
    compared.
    """
    height, width = (side // 8 * 8 for side in truth.shape)
    if min(height, width) < 16:
        return Levels(1.0, 0.0, float((image - truth).mean()))

    def cells(plane: Plane) -> Plane:
        cut = plane[:height, :width].reshape(height // 8, 8, width // 8, 8)
        mean: Plane = cut.mean(axis=(1, 3)).ravel()
        return mean

    x, y = cells(truth), cells(image)
    spread = float(np.var(x))
    slope = float(np.mean((x - x.mean()) * (y - y.mean()))) / spread if spread > 1 else 1.0
    return Levels(slope, float(y.mean() - slope * x.mean()), float((image - truth).mean()))


def wrong_partners(names: Sequence[str], hashes: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Images that show what another HR image shows, and in words, which.

    Args:
        names: of the files.
        hashes: perceptual hashes of the HR image and of the file.
    """
    wrong = {}
    for name, (own, shown) in zip(names, hashes, strict=True):
        distance, nearest = min(
            (hash_distance(shown, high), other)
            for other, (high, _) in zip(names, hashes, strict=True)
        )
        if hash_distance(shown, own) > 2 * LOOKS_ALIKE and distance <= LOOKS_ALIKE:
            wrong[name] = f"shows what {nearest} should"
    return wrong
