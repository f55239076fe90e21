"""Every way of measuring that turns the same two images into another number.

The base is protocol ``edsr2017``. A deviation changes one thing about it; whoever expects another
number than the base gives has nearly always one or two of them in his script.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sr_lightning.metrics.protocol import PROTOCOLS, Protocol
from sr_lightning.metrics.quality import SSIM_WINDOW, psnr, ssim

__all__ = [
    "BASE",
    "Compared",
    "Convention",
    "Deviation",
    "Explanation",
    "combinations",
    "deviations",
    "on_files",
    "set_psnrs",
]

Pixels = NDArray[np.uint8]
Axis = Literal[
    "colour", "rounding", "saving", "grey", "cut", "border", "average", "ssim", "files", "pipeline"
]


@dataclass(frozen=True)
class Convention:
    """One way to measure: a protocol, what is done to the images before, and how to average.

    Attributes:
        protocol: measures one image.
        corrected: whether a fault of the SR files that can be undone is undone.
        swapped: whether red and blue are swapped in the SR images only.
        level_shift: levels added to the SR images: -0.5 is what truncation to 8 bits does on
            average, 0.5 undoes it.
        equal_as_grey: whether files of three equal channels count as files of one.
        cut: how HR images of another size are cut to the SR's.
        pooled: whether PSNR is that of the mean error of all images, not the mean of theirs.
        ssim: a key of the SSIMs of other libraries below, or "protocol".
    """

    protocol: Protocol = PROTOCOLS["edsr2017"]
    corrected: bool = False
    swapped: bool = False
    level_shift: float = 0.0
    equal_as_grey: bool = False
    cut: Literal["corner", "centre", "resized"] = "corner"
    pooled: bool = False
    ssim: Literal["protocol", "reflect", "uniform", "range2"] = "protocol"

    @property
    def pixels(self) -> Convention:
        """The part that decides which pixel values are compared, without a border cropped."""
        protocol = replace(self.protocol, crop_border=None, ssim_border="valid")
        return replace(self, protocol=protocol, pooled=False, ssim="protocol")

    @property
    def files(self) -> Convention:
        """The part that decides which images the protocol is given."""
        return replace(self, protocol=BASE.protocol, pooled=False, ssim="protocol")


BASE = Convention()


@dataclass(frozen=True)
class Deviation:
    """One thing done otherwise.

    Attributes:
        axis: what it is about; two of the same axis exclude each other.
        key: for machines.
        odds: how often it is met for each time that somebody measures as the base does; estimated.
        needs: what must be true of the images, see :func:`deviations`; words between spaces.
        change: fields of the convention or of its protocol.
        text: for people; follows "the expected number comes out with".
    """

    axis: Axis
    key: str
    odds: float
    needs: str = field(compare=False)
    change: dict[str, Any] = field(compare=False)
    text: str

    def applied(self, convention: Convention) -> Convention:
        """The convention with this changed."""
        own = {name: value for name, value in self.change.items() if hasattr(convention, name)}
        measuring = {name: value for name, value in self.change.items() if name not in own}
        return replace(convention, protocol=replace(convention.protocol, **measuring), **own)


_DEVIATIONS = (
    Deviation(
        "files", "corrected", 0.5, "corrected", {"corrected": True}, "the SR files corrected"
    ),
    Deviation(
        "colour",
        "rgb",
        0.3,
        "colour",
        {"channel": "rgb"},
        "all of RGB compared instead of luminance (Y)",
    ),
    Deviation(
        "colour",
        "y_full_range",
        0.3,
        "",
        {"channel": "y_full"},
        "full-range Y (OpenCV, kornia, skimage's yuv) instead of MATLAB's 16-235",
    ),
    Deviation(
        "rounding", "y_rounded", 0.3, "", {"quantise_y": "round"}, "Y rounded to whole levels"
    ),
    Deviation("border", "no_border", 0.3, "", {"crop_border": None}, "no border cropped"),
    Deviation(
        "border", "border_6", 0.05, "roomy", {"crop_border": 6}, "a border of scale + 6 px cropped"
    ),
    Deviation(
        "border", "border_2", 0.05, "roomy", {"crop_border": 2}, "a border of scale + 2 px cropped"
    ),
    Deviation(
        "average",
        "pooled",
        0.1,
        "several",
        {"pooled": True},
        "the error pooled over all images instead of PSNR averaged",
    ),
    Deviation(
        "grey",
        "grey_matrix",
        0.3,
        "grey",
        {"grey": "matrix"},
        "grey images sent through RGB -> Y instead of taken as Y",
    ),
    Deviation(
        "grey",
        "grey_content",
        0.05,
        "equal",
        {"equal_as_grey": True},
        "images of three equal channels taken as Y, like files of one channel",
    ),
    Deviation(
        "saving",
        "untruncated",
        0.3,
        "truncated",
        {"quantise": "none", "level_shift": 0.5},
        "SR rounded, not truncated, to 8 bits (estimated: half a level added)",
    ),
    Deviation(
        "saving",
        "truncated",
        0.1,
        "untruncated",
        {"quantise": "none", "level_shift": -0.5},
        "SR truncated to 8 bits instead of rounded (estimated: half a level taken away)",
    ),
    Deviation(
        "rounding",
        "y_truncated",
        0.05,
        "",
        {"quantise_y": "truncate"},
        "Y truncated to whole levels",
    ),
    Deviation(
        "colour",
        "bgr",
        0.1,
        "colour",
        {"channel": "y_bgr"},
        "Y made of BGR taken for RGB (OpenCV's order) in both images",
    ),
    Deviation(
        "colour",
        "sr_bgr",
        0.05,
        "colour unswapped",
        {"swapped": True},
        "red and blue swapped in the SR images only",
    ),
    Deviation("cut", "centre", 0.05, "cut", {"cut": "centre"}, "HR images cropped at their centre"),
    Deviation(
        "cut",
        "resized",
        0.1,
        "cut",
        {"cut": "resized"},
        "HR images resized to the SR's size, not cropped",
    ),
    Deviation(
        "ssim",
        "ssim_padded",
        0.2,
        "ssim",
        {"ssim": "reflect"},
        "SSIM with padded borders (torchmetrics, kornia's default)",
    ),
    Deviation(
        "ssim",
        "ssim_matlab",
        0.2,
        "ssim",
        {"ssim_border": "replicate"},
        "SSIM with repeated borders (MATLAB's own ssim)",
    ),
    Deviation(
        "ssim",
        "ssim_uniform",
        0.2,
        "ssim",
        {"ssim": "uniform"},
        "SSIM with a uniform 7x7 window (skimage's default)",
    ),
    Deviation(
        "ssim",
        "ssim_range",
        0.1,
        "ssim",
        {"ssim": "range2"},
        "SSIM of skimage on floats without data_range (L = 2)",
    ),
)


def deviations(facts: AbstractSet[str], corrected: str = "") -> list[Deviation]:
    """What can be done otherwise with given images.

    Args:
        facts: what is true of them: "colour" (an image has colour), "grey" (an HR file holds one
            channel), "equal" (one holds three equal channels), "cut" (HR and SR images differ in
            size), "roomy" (wide borders can be cropped), "several" (there is a mean), "truncated"
            or "untruncated" (how SR files were saved), "unswapped" (channels are in order) and
            "ssim" (an SSIM is expected).
        corrected: what was undone in the files, in words; empty where nothing can be.
    """
    facts = {*facts, "corrected"} if corrected else facts
    return [
        replace(one, text=corrected) if one.key == "corrected" else one
        for one in _DEVIATIONS
        if set(one.needs.split()) <= facts
    ]


def combinations(known: Sequence[Deviation]) -> list[tuple[Deviation, ...]]:
    """None, one or two deviations of different axes; what changes nothing together is left out."""
    pairs = [
        pair
        for pair in itertools.combinations(known, 2)
        if pair[0].axis != pair[1].axis and not _idle(pair)
    ]
    return [(), *((one,) for one in known), *pairs]


def _idle(pair: tuple[Deviation, Deviation]) -> bool:
    """Rounding of Y and the grey rule mean nothing where RGB is compared."""
    axes = {one.axis for one in pair}
    return any(one.key == "rgb" for one in pair) and bool(axes & {"rounding", "grey"})


@dataclass(frozen=True)
class Compared:
    """An SR image and its HR image, of one size.

    Attributes:
        hr: uint8 (H, W, 3).
        sr: the same size.
        grey: whether the HR file holds one channel.
        equal: whether it holds three equal ones.
        corrected: SR pixels without the fault that was found; None where none was.
        others: HR pixels cut otherwise, where the sizes differed: "centre" and "resized".
    """

    hr: Pixels
    sr: Pixels
    grey: bool = False
    equal: bool = False
    corrected: Pixels | None = None
    others: dict[str, Pixels] = field(default_factory=dict)

    def images(self, convention: Convention) -> tuple[Tensor, Tensor, bool]:
        """SR and HR, (1, 3, H, W) in [0, 1], and whether they are grey, as protocols take them."""
        corrected = self.corrected if convention.corrected else None
        sr = _levels(self.sr if corrected is None else corrected)
        hr = _levels(self.others.get(convention.cut, self.hr))
        if convention.swapped:
            sr = sr.flip(1)
        if convention.level_shift:
            sr = (sr + convention.level_shift).clamp(0, 255)
        grey = self.grey or (self.equal and convention.equal_as_grey)
        return sr.div_(255), hr.div_(255), grey

    def prepared(self, convention: Convention, scale: float) -> tuple[Tensor, Tensor]:
        """SR and HR as a convention compares them: (1, C, h, w) in [0, 255]."""
        sr, hr, grey = self.images(convention)
        return convention.protocol.prepare(sr, hr, scale, grey)

    def psnr(self, convention: Convention, scale: float) -> float:
        """PSNR in dB."""
        return float(psnr(*self.prepared(convention, scale)))

    def ssim(self, convention: Convention, scale: float) -> float:
        """SSIM; NaN where its window does not fit."""
        a, b = self.prepared(convention, scale)
        if min(a.shape[-2:]) < SSIM_WINDOW:
            return math.nan
        if convention.ssim == "protocol":
            return float(ssim(a, b, border=convention.protocol.ssim_border))
        return float(_SSIM[convention.ssim](a, b))


def _levels(pixels: Pixels) -> Tensor:
    planar = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return torch.from_numpy(planar)[None].double()


def _reflect_ssim(a: Tensor, b: Tensor) -> Tensor:
    """The Gaussian window over the whole image, borders mirrored."""
    padding = [SSIM_WINDOW // 2] * 4
    return ssim(F.pad(a, padding, mode="reflect"), F.pad(b, padding, mode="reflect"))


def _uniform_ssim(a: Tensor, b: Tensor, peak: float, side: int = 7) -> Tensor:
    """scikit-image's default: uniform window, sample covariance, valid region."""
    stack = F.avg_pool2d(torch.cat([a, b, a * a, b * b, a * b]), side, stride=1)
    mean_a, mean_b, aa, bb, ab = stack
    sample = side**2 / (side**2 - 1)
    var_a, var_b = sample * (aa - mean_a**2), sample * (bb - mean_b**2)
    cov = sample * (ab - mean_a * mean_b)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    bottom = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    mean: Tensor = (top / bottom).mean()
    return mean


_SSIM: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "reflect": _reflect_ssim,
    "uniform": partial(_uniform_ssim, peak=255.0),
    "range2": partial(_uniform_ssim, peak=510.0),
}
"""SSIMs of other libraries, which no protocol of a paper uses."""


def set_psnrs(
    images: Iterable[Compared], conventions: Iterable[Convention], scale: float
) -> dict[Convention, float]:
    """PSNR in dB of a set under each convention; those that share pixel values share the work.

    Args:
        images: of the set.
        conventions: to measure by.
        scale: of the task.
    """
    groups: dict[Convention, list[Convention]] = defaultdict(list)
    for convention in conventions:
        groups[convention.pixels].append(convention)
    rows: dict[Convention, list[tuple[float, int]]] = defaultdict(list)
    for image in images:
        given = cache(image.images)
        for pixels, group in groups.items():
            sr, hr, grey = given(pixels.files)
            a, b = pixels.protocol.prepare(sr, hr, scale, grey)
            inside: dict[int, tuple[float, int]] = {}
            for convention in group:
                border = convention.protocol.border(scale)
                if border not in inside:
                    kept = [convention.protocol.crop(plane, scale) for plane in (a, b)]
                    inside[border] = float(psnr(*kept)), kept[0][0, 0].numel()
                rows[convention].append(inside[border])
    return {one: (_pooled if one.pooled else _mean)(numbers) for one, numbers in rows.items()}


def _mean(numbers: Sequence[tuple[float, int]]) -> float:
    return float(np.mean([decibels for decibels, _ in numbers]))


def _pooled(numbers: Sequence[tuple[float, int]]) -> float:
    """PSNR of the mean error of all pixels, from each image's PSNR and number of pixels."""
    error = sum(10 ** (-decibels / 10) * pixels for decibels, pixels in numbers)
    return -10 * math.log10(error / sum(pixels for _, pixels in numbers)) if error else math.inf


@dataclass(frozen=True)
class Explanation:
    """A combination of deviations with the numbers that it gives.

    Attributes:
        deviations: at most two; none is the base.
        psnr: in dB.
        ssim: None where it was not needed.
    """

    deviations: tuple[Deviation, ...]
    psnr: float
    ssim: float | None

    @property
    def convention(self) -> Convention:
        """The base with all deviations."""
        convention = BASE
        for deviation in self.deviations:
            convention = deviation.applied(convention)
        return convention

    @property
    def protocols(self) -> tuple[str, ...]:
        """Protocols that measure files in this way (with or without one-channel files)."""
        convention = self.convention
        if convention == BASE or replace(convention, protocol=BASE.protocol) != BASE:
            return ()
        return tuple(
            name
            for name, protocol in PROTOCOLS.items()
            if on_files(convention.protocol, grey=True)
            in (on_files(protocol, grey=True), on_files(protocol, grey=False))
        )

    @property
    def text(self) -> str:
        """In words."""
        if not self.deviations:
            return "protocol edsr2017 as it is"
        named = f" (protocol {' or '.join(self.protocols)})" if self.protocols else ""
        return " and ".join(one.text for one in self.deviations) + named


def on_files(protocol: Protocol, grey: bool) -> Protocol:
    """What is left of a protocol for SR files: their levels are 8 bits already.

    Args:
        protocol: any.
        grey: whether the HR file holds one channel, so that its rule for these counts.
    """
    rule = protocol.grey if grey else "direct"
    return replace(
        BASE.protocol,
        channel=protocol.channel,
        quantise_y=protocol.quantise_y,
        grey=rule,
        crop_border=protocol.crop_border,
        ssim_border=protocol.ssim_border,
    )
