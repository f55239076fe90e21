"""Faults of SR files, from what their pixels show; some can be undone to see what they cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sr_lightning.data.integrity import listed
from sr_lightning.doctor.checked import Checked, CheckedImage, interpolation
from sr_lightning.doctor.conventions import BASE, Convention, Pixels
from sr_lightning.doctor.diagnosis import Finding
from sr_lightning.doctor.traps import Shift, moved, wrong_partners

__all__ = ["Mend", "common_mend", "find_faults", "is_truncated"]


@dataclass
class Mend:
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
        return f"the SR files mended ({', '.join(parts)})" if parts else ""

    def applied(self, pixels: Pixels) -> Pixels:
        """SR pixels (H, W, 3) without the faults."""
        if self.swapped:
            pixels = np.ascontiguousarray(pixels[..., ::-1])
        if self.squeezed or self.stretched:
            levels = pixels.astype(np.float64)
            levels = (levels - 16) * 255 / 219 if self.squeezed else levels * 219 / 255 + 16
            pixels = np.floor(levels + 0.5).clip(0, 255).astype(np.uint8)
        return moved(pixels, *self.shift) if self.shift != (0, 0) else pixels


def common_mend(checked: Checked) -> Mend:
    """Faults that at least half of the images share and that can be undone."""
    mend = Mend(
        swapped=checked.most(lambda one: one.swapped),
        squeezed=checked.most(lambda one: one.levels.squeezed),
        stretched=checked.most(lambda one: one.levels.stretched),
    )
    common, count = Counter(one.shift.whole for one in checked.images).most_common(1)[0]
    if common != (0, 0) and 2 * count >= len(checked.images):
        gains = [one.shift.gain for one in checked.images if one.shift.whole == common]
        if float(np.median(gains)) > 0.1:
            mend.shift = common
    return mend


def is_truncated(checked: Checked, mend: Mend) -> bool:
    """Whether SR pixels are half a level too dark on average: truncated when saved."""
    bias = [one.levels.bias for one in checked.images]
    return (
        not (mend.squeezed or mend.stretched)
        and -0.65 < float(np.median(bias)) < -0.35
        and max(bias) < -0.2
        and min(bias) > -0.8
    )


def find_faults(checked: Checked, mend: Mend, truncated: bool, scale: float) -> list[Finding]:
    """What is wrong with the files, and what should be known of them.

    Args:
        checked: the images.
        mend: faults that most of them share.
        truncated: whether they were truncated to 8 bits.
        scale: of the task.
    """
    return [
        *_content_findings(checked),
        *_pixel_findings(checked, mend, truncated, scale),
        *_file_findings(checked),
        *_size_findings(checked),
        *_enlarger_findings(checked),
    ]


def _content_findings(checked: Checked) -> list[Finding]:
    found = []
    if checked.strange:
        found.append(
            Finding(
                "problem",
                f"left out, because their size is not that of the HR image: "
                f"{listed(checked.strange, 2)}",
                "enlarge by the scale and compare with the HR images of the same set",
            )
        )
    images = checked.images
    names = [one.pair.other.name for one in images]
    wrong = wrong_partners(
        names, [one.hashes[0] for one in images], [one.hashes[1] for one in images]
    )
    if wrong:
        high = {one.pair.other.name: one.pair.high.name for one in images}
        told = [f"{name} shows {high[other]}" for name, other in wrong]
        found.append(
            Finding(
                "problem",
                f"{len(wrong)} of {len(images)} SR files do not show their HR image: "
                f"{listed(told, 3)}",
                "name SR files as their HR files; a sorted list of another order mixes them up",
            )
        )
    same = checked.names(lambda one: bool((one.compared.sr == one.compared.hr).all()))
    if same:
        found.append(
            Finding(
                "problem",
                f"{_count(same, images)} the HR image itself",
                "name the folder of the network's output in --sr",
            )
        )
    return found


def _pixel_findings(checked: Checked, mend: Mend, truncated: bool, scale: float) -> list[Finding]:
    found = []
    worth = ""
    if mend.text:
        # More than one fault at a time is rare; their worth is told together.
        gain = _gain(checked, replace(BASE, mended=True), scale)
        worth = f", worth {gain:.2f} dB of PSNR-Y"
    if swapped := checked.names(lambda one: one.swapped):
        found.append(
            Finding(
                "problem",
                f"red and blue are swapped in {_those(swapped, checked.images)}"
                + (worth if mend.swapped else ""),
                "OpenCV reads and writes BGR: save image[..., ::-1]",
            )
        )
    if mend.squeezed:
        found.append(
            Finding(
                "problem",
                f"the levels were squeezed into 16-235 (video range){worth}",
                "convert Y with MATLAB's ycbcr2rgb or save full-range RGB",
            )
        )
    if mend.stretched:
        found.append(
            Finding(
                "problem",
                f"the levels were stretched as if they had been 16-235{worth}",
                "do not expand full-range RGB again when converting from YCbCr",
            )
        )
    if clipped := checked.names(lambda one: one.clipped and not one.levels.squeezed):
        found.append(
            Finding(
                "problem",
                f"no level is below 16 or above 235 in {_those(clipped, checked.images)}, though "
                "the HR images "
                "have them: RGB was clipped to the range of Y",
                "clip RGB to 0-255; only Y is limited to 16-235",
            )
        )
    found += _shift_findings(checked, mend, worth, scale)
    if truncated:
        bias = float(np.median([one.levels.bias for one in checked.images]))
        exact = replace(BASE.protocol, quantise="none")
        rounded = replace(BASE, protocol=exact, level_shift=0.5)
        gain = _gain(checked, rounded, scale)
        found.append(
            Finding(
                "problem",
                f"the SR images are {-bias:.2f} levels too dark on average, as truncation to "
                f"8 bits makes them; worth about {gain:.2f} dB",
                "round when saving: (255 * x + 0.5) before astype('uint8')",
            )
        )
    elif not (mend.squeezed or mend.stretched or mend.swapped):
        odd = checked.names(
            lambda one: abs(one.levels.slope - 1) > 0.05 or abs(one.levels.bias) > 2
        )
        if odd and len(odd) * 2 >= len(checked.images):
            slope, bias = (
                float(np.median([getattr(one.levels, key) for one in checked.images]))
                for key in ("slope", "bias")
            )
            found.append(
                Finding(
                    "problem",
                    "contrast or brightness differ from the HR images in "
                    f"{_those(odd, checked.images)} (contrast {slope:.3f}, {bias:+.1f} levels)",
                    "look for a missing or doubled mean shift, scaling or gamma where images are "
                    "saved",
                )
            )
    if colourless := checked.names(lambda one: one.colourless):
        found.append(
            Finding(
                "problem",
                f"{_count(colourless, checked.images)} grey though the HR image is in colour; "
                "their Y cannot be compared with the HR's",
                "save RGB: enlarge Cb and Cr by bicubic and convert back",
            )
        )
    return found


def _shift_findings(checked: Checked, mend: Mend, worth: str, scale: float) -> list[Finding]:
    down, right = (
        float(np.median([getattr(one.shift, axis) for one in checked.images]))
        for axis in ("down", "right")
    )
    median = Shift(down, right, 0.0)
    moved_alike = checked.most(
        lambda one: abs(one.shift.down - down) < 0.15 and abs(one.shift.right - right) < 0.15
    )
    if not (median.tells and moved_alike):
        return []
    return [
        Finding(
            "problem",
            f"the SR images lie {median} from where the HR images have their pixels"
            f"{worth if mend.shift != (0, 0) else ''}",
            "pixel centres differ: an LR pixel's centre is at (i + 0.5) * scale - 0.5; look for "
            f"align_corners=True, x[::{scale:g}, ::{scale:g}] or nearest-neighbour LR images, or "
            "an even kernel without its half-pixel padding",
        )
    ]


def _gain(checked: Checked, convention: Convention, scale: float) -> float:
    """Mean dB that a convention gives above the base."""
    return float(
        np.mean(
            [
                one.compared.psnr(convention, scale) - one.compared.psnr(BASE, scale)
                for one in checked.images
            ]
        )
    )


def _file_findings(checked: Checked) -> list[Finding]:
    found = []
    if lossy := checked.names(lambda one: one.lossy):
        found.append(
            Finding(
                "problem",
                f"{_count(lossy, checked.images)} JPEG or lossy WebP, and compression costs PSNR "
                "that nothing brings back",
                "save SR images as PNG",
            )
        )
    once = [
        f"{one.pair.other.name} (quality about {one.quality})"
        for one in checked.images
        if one.quality is not None and not one.lossy
    ]
    if once:
        found.append(
            Finding(
                "problem",
                f"lossless files whose pixels once went through JPEG: {listed(once, 3)}",
                "save SR images as PNG right from the network's output",
            )
        )
    return found


def _size_findings(checked: Checked) -> list[Finding]:
    sizes = [f"{one.pair.other.name} ({one.size})" for one in checked.images if one.size]
    if not sizes:
        return []
    return [
        Finding(
            "problem",
            f"{len(sizes)} of {len(checked.images)} SR files have not the size of their HR image "
            f"cropped to a multiple of the scale: {listed(sizes, 3)}; only what overlaps was "
            "measured",
            "crop HR images to a multiple of the scale before making LR images; save SR images "
            "whole, borders included",
        )
    ]


def _enlarger_findings(checked: Checked) -> list[Finding]:
    label = interpolation(checked)
    if label is None:
        return []
    usual = label.startswith("MATLAB")
    return [
        Finding(
            "note",
            f"the SR images are {label} of the usual LR images: a baseline, not a network's output"
            + ("" if usual else "; published bicubic rows are MATLAB's (a=-0.5)"),
            "" if usual else "enlarge by MATLAB's bicubic: sr_lightning.nn.bicubic.bicubic",
        )
    ]


def _count(names: Sequence[str], images: Sequence[CheckedImage]) -> str:
    if len(names) == len(images):
        return "all SR files are" if len(images) > 1 else "the SR file is"
    verb = "is" if len(names) == 1 else "are"
    return f"{len(names)} of {len(images)} SR files ({listed(names, 3)}) {verb}"


def _those(names: Sequence[str], images: Sequence[CheckedImage]) -> str:
    if len(names) == len(images):
        return "all SR files" if len(images) > 1 else "the SR file"
    return listed(names)
