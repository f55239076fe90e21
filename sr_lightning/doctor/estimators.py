"""What can be wrong with the pixels of a picture, judged by themselves or beside the HR image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from sr_lightning.data.near_duplicates import LOOKS_ALIKE, hash_distance

__all__ = [
    "Levels",
    "Shift",
    "difference",
    "is_colourless",
    "is_swapped",
    "jpeg_quality",
    "levels_of",
    "luminance",
    "moved",
    "noise_level",
    "shift_of",
    "wrong_partners",
]

Plane = NDArray[np.float64]

# JPEG's example table for luminance (ITU-T T.81, K.1), which nearly every encoder scales, at the
# nine lowest frequencies: the step of each (row, column).
_STEPS = {
    (0, 1): 11,
    (1, 0): 12,
    (0, 2): 10,
    (1, 1): 12,
    (2, 0): 14,
    (0, 3): 16,
    (1, 2): 14,
    (2, 1): 13,
    (3, 0): 14,
}

# Shifts below this many pixels are not reported: real networks' images measure up to 0.1.
_SMALLEST_SHIFT = 0.15


def luminance(pixels: NDArray[np.number]) -> Plane:
    """Luma of RGB levels: (H, W, 3) to (H, W), full range."""
    weighted: Plane = pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return weighted


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean squared difference of two images of one size, in squared levels."""
    return float(np.square(a.astype(np.float64) - b).mean())


def is_swapped(pixels: NDArray[np.uint8], truth: NDArray[np.uint8], times: float) -> bool:
    """Whether red and blue are swapped: an image then is so many times nearer with them turned."""
    return times * difference(truth, pixels[..., ::-1]) < difference(truth, pixels)


def is_colourless(pixels: NDArray[np.uint8]) -> bool:
    """Whether the three channels of (H, W, 3) are the same."""
    return bool((pixels[..., :1] == pixels[..., 1:]).all())


def jpeg_quality(pixels: NDArray[np.uint8]) -> int | None:
    """Quality with which pixels once went through JPEG, or None.

    Quantised DCT coefficients lie near multiples of their step, also after the picture was saved
    as PNG. Recognised up to a quality of about 90, as long as the picture was not shifted since.

    Args:
        pixels: Levels of an image, uint8 (H, W, 3).
    """
    height, width = (min(512, side) // 8 * 8 for side in pixels.shape[:2])
    if min(height, width) < 64:
        return None
    y = luminance(pixels[:height, :width]) - 128
    blocks = y.reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2)
    coefficients = dctn(blocks, axes=(2, 3), norm="ortho")
    agreeing = []
    for quality in range(92, 19, -1):
        percent = 200 - 2 * quality if quality >= 50 else 5000 / quality
        scores = []
        for (row, column), base in _STEPS.items():
            step = max(1, int((base * percent + 50) // 100))
            values = coefficients[..., row, column]
            # Zeros fit every step, and a small step shows nothing above rounding noise.
            values = values[np.abs(values) > step / 2]
            if step >= 2 and len(values) >= 24:
                scores.append(float(np.cos(2 * np.pi * values / step).mean()))
        if len(scores) >= 4 and np.median(scores) > 0.5:
            agreeing.append((float(np.median(scores)), quality))
    return max(agreeing)[1] if agreeing else None


def noise_level(pixels: NDArray[np.uint8], clean: NDArray[np.uint8]) -> float | None:
    """Standard deviation in levels of Gaussian noise, or None where images differ otherwise.

    Args:
        pixels: Levels of an image that may be noisy, (H, W, 3).
        clean: The same image without noise.
    """
    difference = pixels.astype(np.float64) - clean
    spread = 1.4826 * float(np.median(np.abs(difference)))
    # Where noise was not clipped to 0 to 255.
    inside = (clean > 3 * spread) & (clean < 255 - 3 * spread)
    values = difference[inside]
    pairs = inside[:, 1:] & inside[:, :-1]
    if spread < 2 or len(values) < 1000 or not pairs.any():
        return None
    # Other resizes leave differences along edges: alike in neighbours, and with long tails.
    alike = float((difference[:, 1:] * difference[:, :-1])[pairs].mean()) / float(values.var())
    kurtosis = float((((values - values.mean()) / values.std()) ** 4).mean()) - 3
    return float(values.std()) if abs(alike) < 0.1 and abs(kurtosis) < 0.3 else None


@dataclass(frozen=True)
class Shift:
    """Where an image lies beside another.

    Attributes:
        down: Pixels that it lies too low; negative where it lies too high.
        right: Pixels that it lies too far right; negative where it lies too far left.
        gain: Decibels of PSNR that moving it back by whole pixels gives; 0 for less than half a
            pixel.
    """

    down: float
    right: float
    gain: float = 0.0

    @property
    def whole(self) -> tuple[int, int]:
        """The shift in whole pixels, where moving back gains most."""
        return round(self.down), round(self.right)

    @property
    def notable(self) -> bool:
        """Whether it is larger than what networks' images have."""
        return max(abs(self.down), abs(self.right)) >= _SMALLEST_SHIFT

    def __str__(self) -> str:
        ways = ((self.down, "down", "up"), (self.right, "to the right", "to the left"))
        parts = [
            f"{abs(value):.1f} px {more if value > 0 else less}"
            for value, more, less in ways
            if abs(value) >= 0.05
        ]
        return " and ".join(parts) or "nothing"


def shift_of(image: Plane, truth: Plane, reach: int = 2) -> Shift:
    """How far an image is shifted beside another: the best whole shift, then its remainder.

    The remainder solves ``truth - image = gradient . shift`` in the least squares sense.

    Args:
        image: Levels (H, W).
        truth: Levels (H, W) of what it should show.
        reach: Largest whole shift to try, in pixels.
    """
    edge = reach + 1
    if min(image.shape) <= 4 * edge:
        return Shift(0.0, 0.0)
    truth = truth[edge:-edge, edge:-edge]
    height, width = truth.shape

    def view(down: int, right: int) -> Plane:
        return image[edge + down : edge + down + height, edge + right : edge + right + width]

    steps = range(-reach, reach + 1)
    errors = {
        (down, right): float(np.square(view(down, right) - truth).mean())
        for down in steps
        for right in steps
    }
    y, x = min(errors, key=lambda step: errors[step])
    vertical = (view(y + 1, x) - view(y - 1, x)).ravel() / 2
    horizontal = (view(y, x + 1) - view(y, x - 1)).ravel() / 2
    gradient = np.stack([vertical, horizontal])
    normal = gradient @ gradient.T
    rest = np.zeros(2)
    if np.linalg.det(normal) > 1e-9 * max(1.0, float(np.trace(normal))) ** 2:
        missing = gradient @ (truth - view(y, x)).ravel()
        rest = np.linalg.solve(normal, missing).clip(-0.5, 0.5)
    gain = 10 * np.log10(max(errors[0, 0], 1e-9) / max(errors[y, x], 1e-9))
    return Shift(y + float(rest[0]), x + float(rest[1]), float(gain))


def moved(pixels: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) moved back by a whole shift, the border repeated."""
    rows, columns = (
        (np.arange(side) + step).clip(0, side - 1)
        for side, step in zip(pixels.shape, (down, right), strict=False)
    )
    return np.ascontiguousarray(pixels[rows][:, columns])


@dataclass(frozen=True)
class Levels:
    """How the grey levels of an image follow those of another: ``image = slope * truth + offset``.

    Attributes:
        slope: Contrast; 219 / 255 = 0.859 where full range was squeezed into 16 to 235.
        offset: Level of black.
        bias: Mean of image minus truth, in levels.
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
    bias = float((image - truth).mean())
    height, width = (side // 8 * 8 for side in truth.shape)
    if min(height, width) < 16:
        return Levels(1.0, 0.0, bias)
    x, y = (
        plane[:height, :width].reshape(height // 8, 8, width // 8, 8).mean(axis=(1, 3)).ravel()
        for plane in (truth, image)
    )
    if np.var(x) <= 1:
        return Levels(1.0, float(y.mean() - x.mean()), bias)
    slope, offset = np.polyfit(x, y, 1)
    return Levels(float(slope), float(offset), bias)


def wrong_partners(names: Sequence[str], hashes: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Images that show what another HR image shows, and in words, which.

    Args:
        names: Names of the files.
        hashes: Perceptual hashes of the HR image and of the file.
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
