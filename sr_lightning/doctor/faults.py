"""Faults of SR files, from what their pixels show; some can be undone to see what they cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from sr_lightning.data.integrity import listed
from sr_lightning.doctor.checked import Checked, CheckedImage, interpolation
from sr_lightning.doctor.conventions import BASE, Convention, Pixels, set_psnrs
from sr_lightning.doctor.diagnosis import Fault, Finding, tell_faults
from sr_lightning.doctor.estimators import Shift, moved, wrong_partners

__all__ = ["Correction", "common_correction", "find_faults", "is_truncated"]


@dataclass
class Correction:
    """Faults of the files that can be undone, the same in most of them."""

    swapped: bool = False
    squeezed: bool = False
    stretched: bool = False
    shift: tuple[int, int] = (0, 0)

    @property
    def text(self) -> str:
        """What is undone, in words; empty for nothing."""
        parts = []
        if self.swapped:
            parts.append("red and blue put right")
        if self.squeezed:
            parts.append("16-235 spread to 0-255")
        if self.stretched:
            parts.append("levels squeezed to 16-235")
        if self.shift != (0, 0):
            parts.append("the shift undone")
        return f"the SR files corrected ({', '.join(parts)})" if parts else ""

    def applied(self, pixels: Pixels) -> Pixels:
        """SR pixels (H, W, 3) without the faults."""
        if self.swapped:
            pixels = np.ascontiguousarray(pixels[..., ::-1])
        if self.squeezed or self.stretched:
            levels = pixels.astype(np.float64)
            levels = (levels - 16) * 255 / 219 if self.squeezed else levels * 219 / 255 + 16
            pixels = np.floor(levels + 0.5).clip(0, 255).astype(np.uint8)
        return moved(pixels, *self.shift) if self.shift != (0, 0) else pixels


def common_correction(checked: Checked) -> Correction:
    """Faults that at least half of the images share and that can be undone."""
    correction = Correction(
        swapped=checked.most(lambda one: one.swapped),
        squeezed=checked.most(lambda one: one.levels.squeezed),
        stretched=checked.most(lambda one: one.levels.stretched),
    )
    common, count = Counter(one.shift.whole for one in checked.images).most_common(1)[0]
    if common != (0, 0) and 2 * count >= len(checked.images):
        gains = [one.shift.gain for one in checked.images if one.shift.whole == common]
        if float(np.median(gains)) > 0.1:
            correction.shift = common
    return correction


def is_truncated(checked: Checked, correction: Correction) -> bool:
    """Whether SR pixels are half a level too dark on average: truncated when saved."""
    bias = [one.levels.bias for one in checked.images]
    return (
        not (correction.squeezed or correction.stretched)
        and -0.65 < float(np.median(bias)) < -0.35
        and max(bias) < -0.2
        and min(bias) > -0.8
    )


def find_faults(
    checked: Checked, correction: Correction, truncated: bool, scale: float
) -> list[Finding]:
    """What is wrong with the files, and what should be known of them.

    Args:
        checked: the images.
        correction: faults that most of them share.
        truncated: whether they were truncated to 8 bits.
        scale: of the task.
    """
    strange = Finding(
        "problem",
        f"left out, because their size does not fit: {listed(checked.strange, 2)}",
        "upscale by the scale and compare with the HR images of the same set",
    )
    found = [strange] if checked.strange else []
    return found + tell_faults(
        [
            *_content_faults(checked),
            *_pixel_faults(checked, correction, truncated, scale),
            *_file_faults(checked),
        ],
        checked.images,
        "SR file",
    )


def _content_faults(checked: Checked) -> list[Fault[CheckedImage]]:
    images = checked.images
    wrong = wrong_partners([one.name for one in images], [one.hashes for one in images])
    return [
        Fault(
            lambda one: wrong.get(one.name, ""),
            "{some} do not show their HR image: {list}",
            "name SR files as their HR files; a sorted list of another order mixes them up",
        ),
        Fault(
            lambda one: bool((one.compared.sr == one.compared.hr).all()),
            "{are} the HR image itself",
            "name the folder of the network's output in --sr",
        ),
    ]


def _pixel_faults(
    checked: Checked, correction: Correction, truncated: bool, scale: float
) -> list[Fault[CheckedImage]]:
    images = checked.images
    # More than one fault at a time is rare; their worth is told together.
    worth = ""
    if correction.text:
        worth = f", worth {_gain(checked, replace(BASE, corrected=True), scale):.2f} dB of PSNR-Y"
    darker = _gain(checked, _ROUNDED, scale) if truncated else 0.0
    slope = float(np.median([one.levels.slope for one in images]))
    bias = float(np.median([one.levels.bias for one in images]))
    explained = truncated or correction.squeezed or correction.stretched or correction.swapped
    odd = not explained and checked.most(_has_odd_levels)
    shift = _common_shift(checked)
    return [
        Fault(
            lambda one: one.swapped,
            "red and blue are swapped in {those}" + (worth if correction.swapped else ""),
            "OpenCV reads and writes BGR: save image[..., ::-1]",
        ),
        Fault(
            lambda _: correction.squeezed,
            f"the levels were squeezed into 16-235 (video range){worth}",
            "convert Y with MATLAB's ycbcr2rgb or save full-range RGB",
        ),
        Fault(
            lambda _: correction.stretched,
            f"the levels were stretched as if they had been 16-235{worth}",
            "do not expand full-range RGB again when converting from YCbCr",
        ),
        Fault(
            lambda one: one.clipped and not one.levels.squeezed,
            "no level is below 16 or above 235 in {those}, though the HR images have them: RGB was "
            "clipped to the range of Y",
            "clip RGB to 0-255; only Y is limited to 16-235",
        ),
        Fault(
            lambda _: shift is not None,
            f"the SR images lie {shift} from where the HR images have their pixels"
            + (worth if correction.shift != (0, 0) else ""),
            "pixel centres differ: an LR pixel's centre is at (i + 0.5) * scale - 0.5; look for "
            f"align_corners=True, x[::{scale:g}, ::{scale:g}] or nearest-neighbour LR images, or "
            "an even kernel without its half-pixel padding",
        ),
        Fault(
            lambda _: truncated,
            f"the SR images are {-bias:.2f} levels too dark on average, as truncation to 8 bits "
            f"makes them; worth about {darker:.2f} dB",
            "round when saving: (255 * x + 0.5) before astype('uint8')",
        ),
        Fault(
            lambda one: odd and _has_odd_levels(one),
            "contrast or brightness differ from the HR images in {those} "
            f"(contrast {slope:.3f}, {bias:+.1f} levels)",
            "look for a missing or doubled mean shift, scaling or gamma where images are saved",
        ),
        Fault(
            lambda one: one.colourless,
            "{are} grey though the HR image is in colour; their Y cannot be compared with the HR's",
            "save RGB: upscale Cb and Cr by bicubic and convert back",
        ),
    ]


def _file_faults(checked: Checked) -> list[Fault[CheckedImage]]:
    upscaler = interpolation(checked)
    usual = (upscaler or "").startswith("MATLAB")
    return [
        Fault(
            lambda one: one.lossy,
            "{are} JPEG or lossy WebP, and compression costs PSNR that nothing brings back",
            "save SR images as PNG",
        ),
        Fault(
            lambda one: f"(quality about {one.quality})" if one.quality and not one.lossy else "",
            "lossless files whose pixels once went through JPEG: {list}",
            "save SR images as PNG right from the network's output",
        ),
        Fault(
            lambda one: one.size and f"({one.size})",
            "{some} have not the size of their HR image cropped to a multiple of the scale: "
            "{list}; only what overlaps was measured",
            "crop HR images to a multiple of the scale before making LR images; save SR images "
            "whole, borders included",
        ),
        Fault(
            lambda _: upscaler is not None,
            f"the SR images are {upscaler} of the usual LR images: a baseline, not a network's "
            "output" + ("" if usual else "; published bicubic rows are MATLAB's (a=-0.5)"),
            "" if usual else "upscale by MATLAB's bicubic: sr_lightning.nn.bicubic.bicubic",
            "note",
        ),
    ]


_ROUNDED = replace(BASE, protocol=replace(BASE.protocol, quantise="none"), level_shift=0.5)


def _gain(checked: Checked, convention: Convention, scale: float) -> float:
    """Mean dB that a convention gives above the base."""
    numbers = set_psnrs([one.compared for one in checked.images], [convention, BASE], scale)
    return numbers[convention] - numbers[BASE]


def _has_odd_levels(one: CheckedImage) -> bool:
    return abs(one.levels.slope - 1) > 0.05 or abs(one.levels.bias) > 2


def _common_shift(checked: Checked) -> Shift | None:
    """The median shift, if at least half of the images have it and it is large enough to tell."""
    down, right = (
        float(np.median([getattr(one.shift, axis) for one in checked.images]))
        for axis in ("down", "right")
    )
    median = Shift(down, right, 0.0)
    alike = checked.most(
        lambda one: abs(one.shift.down - down) < 0.15 and abs(one.shift.right - right) < 0.15
    )
    return median if median.tells and alike else None
