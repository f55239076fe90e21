"""One SR file beside its HR file: sizes, levels, shift, numbers under every protocol."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from sr_lightning.data.images import read_picture, to_tensor
from sr_lightning.data.integrity import is_lossy
from sr_lightning.data.near_duplicates import perceptual_hash
from sr_lightning.doctor.conventions import Compared, Pixels, on_files
from sr_lightning.doctor.estimators import (
    Levels,
    Shift,
    is_colourless,
    jpeg_quality,
    levels_of,
    luminance,
    shift_of,
)
from sr_lightning.doctor.pairs import FilePair
from sr_lightning.doctor.resizers import ENLARGERS, REFERENCE
from sr_lightning.metrics.protocol import PROTOCOLS

__all__ = ["Checked", "CheckedImage", "examine", "interpolation"]

# Whether SR images are only interpolated is looked at on the first few.
_LOOKED_AT = 3

# PSNR between two 8-bit images that were upscaled in the same way but rounded otherwise.
_SAME = 47.0


@dataclass(frozen=True)
class CheckedImage:
    """What one pair of files shows."""

    pair: FilePair
    compared: Compared
    size: str
    rows: dict[str, dict[str, float]]
    lossy: bool
    quality: int | None
    colourless: bool
    swapped: bool
    shift: Shift
    levels: Levels
    clipped: bool
    upscaler: str | None
    hashes: tuple[str, str]

    @property
    def name(self) -> str:
        """Of the SR file."""
        return self.pair.other.name


@dataclass
class Checked:
    """The images that were looked at.

    Attributes:
        images: those that could be measured.
        strange: sentences on those whose size is not that of their HR image.
    """

    images: list[CheckedImage] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)

    def most(self, test: Callable[[CheckedImage], bool]) -> bool:
        """Whether at least half of the images are so."""
        return 2 * sum(map(test, self.images)) >= len(self.images)


def examine(pair: FilePair, scale: float, checked: Checked) -> CheckedImage | None:
    """Look at one SR file; None, noted as strange, if it has not the size of its HR image.

    Args:
        pair: HR and SR file.
        scale: of the task.
        checked: what was looked at before.
    """
    big, made = read_picture(pair.high), read_picture(pair.other)
    fitted = _fitted(big.rgb, made.rgb, scale)
    if fitted is None:
        (h, w), (y, x) = made.rgb.shape[:2], big.rgb.shape[:2]
        checked.strange.append(f"{pair.other} is {w} x {h}, but its HR image {x} x {y}")
        return None
    compared, size = fitted
    (h, w), border = compared.sr.shape[:2], round(scale)
    if min(h, w) <= 2 * border:
        checked.strange.append(
            f"nothing is left of {pair.other}, {w} x {h}, without a border of {border} px"
        )
        return None
    compared = replace(compared, grey=big.grey, equal=not big.grey and is_colourless(big.rgb))
    hr, sr = compared.hr, compared.sr
    straight, turned = (
        float(np.square(hr.astype(np.float64) - one).mean()) for one in (sr, sr[..., ::-1])
    )
    low, high = (int(f(sr)) for f in (np.min, np.max))
    return CheckedImage(
        pair=pair,
        compared=compared,
        size=size,
        rows=_rows(compared, scale),
        lossy=is_lossy(pair.other),
        quality=jpeg_quality(made.rgb),
        colourless=is_colourless(sr) and not is_colourless(hr),
        swapped=turned < straight / 1.5,
        shift=shift_of(luminance(sr), luminance(hr)),
        levels=levels_of(luminance(sr), luminance(hr)),
        clipped=low >= 16 and high <= 235 and int(hr.min()) < 8 and int(hr.max()) > 243,
        upscaler=_upscaler(compared, scale) if len(checked.images) < _LOOKED_AT else None,
        hashes=(perceptual_hash(hr), perceptual_hash(sr)),
    )


def _rows(compared: Compared, scale: float) -> dict[str, dict[str, float]]:
    """Numbers of an image under each protocol."""
    sr, hr = (to_tensor(pixels)[None] for pixels in (compared.sr, compared.hr))
    # Several protocols are the same for 8-bit files.
    alike = {name: on_files(protocol, compared.grey) for name, protocol in PROTOCOLS.items()}
    measured = {
        protocol: protocol.measure(sr, hr, scale, compared.grey) for protocol in set(alike.values())
    }
    return {name: measured[protocol] for name, protocol in alike.items()}


def _fitted(hr: Pixels, sr: Pixels, scale: float) -> tuple[Compared, str] | None:
    """HR and SR pixels of one size, and in words what had to be done; None if they are no pair."""
    (y, x), (h, w) = hr.shape[:2], sr.shape[:2]
    if (y, x) == (h, w):
        return Compared(hr, sr), ""
    # Cropped images lack the same at each side, at most two pixels more than any script crops.
    slack = 2 * (math.ceil(scale) + 8)
    if abs(y - h) > slack or abs(x - w) > slack:
        return None
    if h > y or w > x:
        height, width = min(y, h), min(x, w)
        compared = Compared(hr[:height, :width], sr[:height, :width])
        return compared, f"{w} x {h} instead of {x} x {y}"
    resized = np.asarray(Image.fromarray(hr).resize((w, h), Image.Resampling.BICUBIC))
    top, left = (y - h) // 2, (x - w) // 2
    corner, centre = hr[:h, :w], hr[top : top + h, left : left + w]
    # Cropped to a multiple of the scale: what every paper does.
    if 0 <= y - h < scale and 0 <= x - w < scale:
        return Compared(corner, sr, others={"centre": centre, "resized": resized}), ""
    errors = [float(np.square(one.astype(np.float64) - sr).mean()) for one in (corner, centre)]
    if y - h == x - w and errors[1] < errors[0]:
        return Compared(centre, sr), f"saved without {top} px at each border"
    others = {"centre": centre, "resized": resized}
    return Compared(corner, sr, others=others), f"{w} x {h} instead of {x} x {y}"


def _upscaler(compared: Compared, scale: float) -> str | None:
    """The interpolation that made an SR image out of the usual LR image, if one did."""
    height, width = compared.hr.shape[:2]
    if not float(scale).is_integer() or height % int(scale) or width % int(scale):
        return None
    small = REFERENCE.make(compared.hr, (height // int(scale), width // int(scale)))
    near = {}
    for way in ENLARGERS:
        made = way.make(small, (height, width)).astype(np.float64)
        error = float(np.square(made - compared.sr).mean())
        near[way.label] = 10 * math.log10(255**2 / max(error, 1e-9))
    best = max(near, key=lambda label: near[label])
    return best if near[best] > _SAME else None


def interpolation(checked: Checked) -> str | None:
    """The interpolation that made the SR images, if they are no network's output."""
    told = [one.upscaler for one in checked.images[:_LOOKED_AT]]
    return told[0] if len(set(told)) == 1 else None
