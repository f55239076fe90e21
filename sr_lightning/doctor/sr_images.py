"""SR files beside their HR files: sizes, levels, shift, numbers under each protocol, faults."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
from PIL import Image

from sr_lightning.data.images import read_picture, to_tensor
from sr_lightning.data.integrity import is_lossy, listed
from sr_lightning.data.near_duplicates import perceptual_hash
from sr_lightning.doctor import estimators
from sr_lightning.doctor.conventions import (
    BASE,
    Compared,
    Convention,
    Pixels,
    on_files,
    set_psnrs,
)
from sr_lightning.doctor.diagnosis import Finding, Numbers, faults_found, finding
from sr_lightning.doctor.estimators import Levels, Shift, difference, is_colourless
from sr_lightning.doctor.pairs import FilePair, Progress
from sr_lightning.doctor.resizers import REFERENCE, UPSCALERS
from sr_lightning.errors import UserError
from sr_lightning.metrics.protocol import PROTOCOLS

__all__ = ["SRImage", "SRImages", "examined", "find_faults"]

# Whether SR images are only interpolated is looked at on the first few.
_LOOKED_AT = 3

# PSNR between two 8-bit images that were upscaled in the same way but rounded otherwise.
_SAME = 47.0

# Truncation to 8 bits takes half a level on average; this puts it back.
_ROUNDED = replace(BASE, protocol=replace(BASE.protocol, quantise="none"), level_shift=0.5)


# Faults that can be undone, and what to call the undoing.
_UNDONE = {
    "swapped": "red and blue put right",
    "squeezed": "16-235 spread to 0-255",
    "stretched": "levels squeezed to 16-235",
    "shifted": "the shift undone",
}


def _corrected(pixels: Pixels, faults: Set[str], shift: tuple[int, int]) -> Pixels:
    """SR pixels (H, W, 3) without faults of :data:`_UNDONE`."""
    if "swapped" in faults:
        pixels = np.ascontiguousarray(pixels[..., ::-1])
    if faults & {"squeezed", "stretched"}:
        levels = pixels.astype(np.float64)
        levels = (levels - 16) * 255 / 219 if "squeezed" in faults else levels * 219 / 255 + 16
        pixels = np.floor(levels + 0.5).clip(0, 255).astype(np.uint8)
    return estimators.moved(pixels, *shift) if "shifted" in faults else pixels


@dataclass(frozen=True)
class SRImage:
    """What one pair of files shows.

    Attributes:
        size: What had to be cropped to compare them, in words; empty where nothing had to.
        rows: Numbers under each protocol.
        quality: Quality of JPEG that the SR pixels once went through; None for none.
        clipped: Whether levels end at 16 and 235 though those of the HR image do not.
        upscaler: Interpolation that made it out of the usual LR image; None for none.
        hashes: Perceptual hashes of the HR image and of the SR image.
    """

    pair: FilePair
    compared: Compared
    size: str
    rows: dict[str, Numbers]
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
        """Name of the SR file."""
        return self.pair.other.name

    @property
    def odd_levels(self) -> bool:
        """Whether contrast or brightness differ from those of the HR image."""
        return abs(self.levels.slope - 1) > 0.05 or abs(self.levels.bias) > 2


@dataclass(frozen=True)
class SRImages:
    """The images that were looked at, and what most of them share.

    Attributes:
        images: Those that could be measured.
        strange: Sentences on those whose size is not that of their HR image.
        scale: Scale of the task.
    """

    images: list[SRImage]
    strange: list[str]
    scale: float

    def most(self, test: Callable[[SRImage], bool]) -> bool:
        """Whether at least half of the images are so."""
        return 2 * sum(map(test, self.images)) >= len(self.images)

    @cached_property
    def whole_shift(self) -> tuple[int, int]:
        """Whole pixels that at least half of the images lie too low and too far right."""
        shift, count = Counter(one.shift.whole for one in self.images).most_common(1)[0]
        gains = [one.shift.gain for one in self.images if one.shift.whole == shift]
        common = 2 * count >= len(self.images) and float(np.median(gains)) > 0.1
        return shift if common else (0, 0)

    @cached_property
    def undone(self) -> set[str]:
        """Faults that at least half of the images share and that can be undone."""
        common = {
            "swapped": self.most(lambda one: one.swapped),
            "squeezed": self.most(lambda one: one.levels.squeezed),
            "stretched": self.most(lambda one: one.levels.stretched),
            "shifted": self.whole_shift != (0, 0),
        }
        return {fault for fault, true in common.items() if true}

    @property
    def correction(self) -> str:
        """What is undone, in words; empty for nothing."""
        undone = ", ".join(text for fault, text in _UNDONE.items() if fault in self.undone)
        return f"the SR files corrected ({undone})" if undone else ""

    @cached_property
    def compared(self) -> list[Compared]:
        """Pixels of all images, corrected where they can be."""
        pixels = [one.compared for one in self.images]
        if not self.undone:
            return pixels
        return [
            replace(one, corrected=_corrected(one.sr, self.undone, self.whole_shift))
            for one in pixels
        ]

    @property
    def truncated(self) -> bool:
        """Whether SR pixels are half a level too dark on average: truncated when saved."""
        bias = [one.levels.bias for one in self.images]
        return (
            not self.undone & {"squeezed", "stretched"}
            and -0.65 < float(np.median(bias)) < -0.35
            and max(bias) < -0.2
            and min(bias) > -0.8
        )

    @property
    def upscaler(self) -> str | None:
        """The interpolation that made the images, if they are no network's output."""
        ways = {one.upscaler for one in self.images[:_LOOKED_AT]}
        return ways.pop() if len(ways) == 1 else None

    @property
    def shift(self) -> Shift | None:
        """The median shift, if at least half of the images have it and it is notable."""
        down = float(np.median([one.shift.down for one in self.images]))
        right = float(np.median([one.shift.right for one in self.images]))
        alike = self.most(
            lambda one: abs(one.shift.down - down) < 0.15 and abs(one.shift.right - right) < 0.15
        )
        median = Shift(down, right)
        return median if median.notable and alike else None

    def gain(self, convention: Convention) -> float:
        """Mean dB that a convention gives above the base."""
        numbers = set_psnrs(self.compared, [convention, BASE], self.scale)
        return numbers[convention] - numbers[BASE]


def examined(pairs: Sequence[FilePair], scale: float, progress: Progress) -> SRImages:
    """Look at SR files.

    Args:
        pairs: HR and SR files.
        scale: Scale of the task.
        progress: Goes through pairs and shows how far it has come.

    Raises:
        UserError: none can be measured.
    """
    looked = SRImages([], [], scale)
    for pair in progress(pairs, "Measuring"):
        _examine(pair, looked)
    if not looked.images:
        raise UserError(
            f"No SR image has a size that can be compared: {listed(looked.strange, 2)}; upscale "
            "them by the scale first, or use --lr for LR images."
        )
    return looked


def _examine(pair: FilePair, looked: SRImages) -> None:
    scale = looked.scale
    big, made = read_picture(pair.high), read_picture(pair.other)
    fitted = _fitted(big.rgb, made.rgb, scale)
    if fitted is None:
        (h, w), (y, x) = made.rgb.shape[:2], big.rgb.shape[:2]
        looked.strange.append(f"{pair.other} is {w} x {h}, but its HR image {x} x {y}")
        return
    compared, size = fitted
    hr, sr = compared.hr, compared.sr
    if min(sr.shape[:2]) <= 2 * round(scale):
        looked.strange.append(
            f"nothing is left of {pair.other}, {sr.shape[1]} x {sr.shape[0]}, without a border of "
            f"{round(scale)} px"
        )
        return
    compared = replace(compared, grey=big.grey, equal=not big.grey and is_colourless(big.rgb))
    looked.images.append(
        SRImage(
            pair=pair,
            compared=compared,
            size=size,
            rows=_rows(compared, scale),
            lossy=is_lossy(pair.other),
            quality=estimators.jpeg_quality(made.rgb),
            colourless=is_colourless(sr) and not is_colourless(hr),
            swapped=estimators.is_swapped(sr, hr, 1.5),
            shift=estimators.shift_of(estimators.luminance(sr), estimators.luminance(hr)),
            levels=estimators.levels_of(estimators.luminance(sr), estimators.luminance(hr)),
            clipped=sr.min() >= 16 and sr.max() <= 235 and hr.min() < 8 and hr.max() > 243,
            upscaler=_upscaler(compared, scale) if len(looked.images) < _LOOKED_AT else None,
            hashes=(perceptual_hash(hr), perceptual_hash(sr)),
        )
    )


def _rows(compared: Compared, scale: float) -> dict[str, Numbers]:
    """Numbers of an image under each protocol."""
    sr, hr = (to_tensor(pixels)[None] for pixels in (compared.sr, compared.hr))
    grey = compared.grey
    # Several protocols are the same for 8-bit files.
    measure = cache(lambda protocol: protocol.measure(sr, hr, scale, grey))
    return {name: measure(on_files(protocol, grey)) for name, protocol in PROTOCOLS.items()}


def _fitted(hr: Pixels, sr: Pixels, scale: float) -> tuple[Compared, str] | None:
    """HR and SR pixels of one size, and in words what had to be done; None if they are no pair."""
    (y, x), (h, w) = hr.shape[:2], sr.shape[:2]
    if (y, x) == (h, w):
        return Compared(hr, sr), ""
    sizes = f"{w} x {h} instead of {x} x {y}"
    # Cropped images lack the same at each side, at most two pixels more than any script crops.
    slack = 2 * (math.ceil(scale) + 8)
    if abs(y - h) > slack or abs(x - w) > slack:
        return None
    if h > y or w > x:
        height, width = min(y, h), min(x, w)
        return Compared(hr[:height, :width], sr[:height, :width]), sizes
    resized = np.asarray(Image.fromarray(hr).resize((w, h), Image.Resampling.BICUBIC))
    top, left = (y - h) // 2, (x - w) // 2
    corner, centre = hr[:h, :w], hr[top : top + h, left : left + w]
    others = {"centre": centre, "resized": resized}
    # Cropped to a multiple of the scale: what every paper does.
    if y - h < scale and x - w < scale:
        return Compared(corner, sr, others=others), ""
    if y - h == x - w and difference(centre, sr) < difference(corner, sr):
        return Compared(centre, sr), f"saved without {top} px at each border"
    return Compared(corner, sr, others=others), sizes


def _upscaler(compared: Compared, scale: float) -> str | None:
    """The interpolation that made an SR image out of the usual LR image, if one did."""
    height, width = compared.hr.shape[:2]
    if not float(scale).is_integer() or height % int(scale) or width % int(scale):
        return None
    small = REFERENCE.make(compared.hr, (height // int(scale), width // int(scale)))
    errors = {
        label: difference(make(small, (height, width)), compared.sr)
        for label, make in UPSCALERS.items()
    }
    best = min(errors, key=lambda label: errors[label])
    return best if errors[best] < 255**2 / 10 ** (_SAME / 10) else None


# ---- faults --------------------------------------------------------------------------------------


def find_faults(looked: SRImages) -> list[Finding]:
    """What is wrong with the files, and what should be known of them.

    Args:
        looked: The images.
    """
    found = []
    if looked.strange:
        found.append(finding("sr_left_out", names=listed(looked.strange, 2)))
    images, undone, shift = looked.images, looked.undone, looked.shift
    wrong = estimators.wrong_partners([one.name for one in images], [one.hashes for one in images])
    # More than one fault at a time is rare; what they cost is said together.
    cost = ""
    if undone:
        cost = f", which costs {looked.gain(replace(BASE, corrected=True)):.2f} dB of PSNR-Y"
    slope = float(np.median([one.levels.slope for one in images]))
    bias = float(np.median([one.levels.bias for one in images]))
    explained = looked.truncated or undone - {"shifted"}
    odd = not explained and looked.most(lambda one: one.odd_levels)
    upscaler = looked.upscaler or ""
    tests: dict[str, bool | Callable[[SRImage], object]] = {
        "sr_wrong_partner": lambda one: wrong.get(one.name),
        "sr_is_hr": lambda one: bool((one.compared.sr == one.compared.hr).all()),
        "sr_swapped": lambda one: one.swapped,
        "sr_squeezed": "squeezed" in undone,
        "sr_stretched": "stretched" in undone,
        "sr_clipped": lambda one: one.clipped and not one.levels.squeezed,
        "sr_shifted": shift is not None,
        "sr_truncated": looked.truncated,
        "sr_levels": lambda one: odd and one.odd_levels,
        "sr_grey": lambda one: one.colourless,
        "sr_lossy": lambda one: one.lossy,
        "sr_was_jpeg": lambda one: (
            one.quality and not one.lossy and f"(quality about {one.quality})"
        ),
        "sr_size": lambda one: one.size and f"({one.size})",
        "sr_bicubic": upscaler.startswith("MATLAB"),
        "sr_interpolated": upscaler != "" and not upscaler.startswith("MATLAB"),
    }
    return found + faults_found(
        tests,
        images,
        "SR file",
        scale=looked.scale,
        cost=cost,
        swap_cost=cost if "swapped" in undone else "",
        shift=shift,
        shift_cost=cost if "shifted" in undone else "",
        darker=-bias,
        truncation_cost=looked.gain(_ROUNDED) if looked.truncated else 0.0,
        slope=slope,
        bias=bias,
        upscaler=upscaler,
    )
