"""Every way of measuring that turns the same two images into another number.

The base is protocol ``edsr2017``. A deviation changes one thing about it; whoever expects another
number than the base gives has nearly always one or two of them in his script.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
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


@dataclass(frozen=True)
class Convention:
    """One way to measure: a protocol, what is done to the images before, and how to average.

    Attributes:
        protocol: Protocol that measures one image.
        corrected: Whether a fault of the SR files that can be undone is undone.
        swapped: Whether red and blue are swapped in the SR images only.
        level_shift: Levels added to the SR images: -0.5 is what truncation to 8 bits does on
            average, 0.5 undoes it.
        equal_as_grey: Whether files of three equal channels count as files of one.
        cut: How HR images of another size are cut to the SR's.
        pooled: Whether PSNR is that of the mean error of all images, not the mean of theirs.
        ssim: Whose SSIM: the protocol's; one whose borders are padded by "reflect"; scikit-image's
            "uniform" window, or the same with a "range2" of levels, as it takes floats.
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


BASE = Convention()


@dataclass(frozen=True)
class Deviation:
    """One thing done otherwise.

    Attributes:
        key: Name for machines.
        axis: What it is about; two of the same axis exclude each other.
        odds: How often it is met for each time that somebody measures as the base does; estimated.
        text: Name for people; follows "the expected number comes out with".
        needs: What must be true of the images; see :func:`deviations`.
        change: Fields of the convention or of its protocol with their values.
    """

    key: str
    axis: str
    odds: float
    text: str
    needs: Sequence[str] = field(default=(), compare=False)
    change: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def applied(self, convention: Convention) -> Convention:
        """The convention with this changed."""
        own = {name: value for name, value in self.change.items() if hasattr(convention, name)}
        measuring = {name: value for name, value in self.change.items() if name not in own}
        return replace(convention, protocol=replace(convention.protocol, **measuring), **own)


@cache
def _known() -> tuple[Deviation, ...]:
    table = yaml.safe_load(Path(__file__).with_name("conventions.yaml").read_text(encoding="utf-8"))
    return tuple(Deviation(key, **row) for key, row in table.items())


def deviations(facts: AbstractSet[str], corrected: str = "") -> list[Deviation]:
    """What can be done otherwise with given images.

    Args:
        facts: What is true of them: "colour" (an image has colour), "grey" (an HR file holds one
            channel), "equal" (one holds three equal channels), "cut" (HR and SR images differ in
            size), "roomy" (wide borders can be cropped), "several" (there is a mean), "truncated"
            or "untruncated" (how SR files were saved), "unswapped" (channels are in order) and
            "ssim" (an SSIM is expected).
        corrected: What was undone in the files, in words; empty where nothing can be.
    """
    facts = {*facts, "corrected"} if corrected else facts
    return [
        replace(one, text=corrected) if one.key == "corrected" else one
        for one in _known()
        if facts >= set(one.needs)
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
    return any(one.key == "rgb" for one in pair) and any(
        one.axis in {"rounding", "grey"} for one in pair
    )


@dataclass(frozen=True)
class Compared:
    """An SR image and its HR image, of one size.

    Attributes:
        hr: HR pixels, uint8 (H, W, 3).
        sr: SR pixels of the same size.
        grey: Whether the HR file holds one channel.
        equal: Whether it holds three equal ones.
        corrected: SR pixels without the fault that was found; None where none was.
        others: HR pixels cut otherwise, where the sizes differed: "centre" and "resized".
    """

    hr: Pixels
    sr: Pixels
    grey: bool = False
    equal: bool = False
    corrected: Pixels | None = None
    others: dict[str, Pixels] = field(default_factory=dict)

    def prepared(self, convention: Convention, scale: float) -> tuple[Tensor, Tensor]:
        """SR and HR as a convention compares them: (1, C, h, w) in [0, 255]."""
        corrected = self.corrected if convention.corrected else None
        sr = _levels(self.sr if corrected is None else corrected)
        hr = _levels(self.others.get(convention.cut, self.hr))
        if convention.swapped:
            sr = sr.flip(1)
        if convention.level_shift:
            sr = (sr + convention.level_shift).clamp(0, 255)
        grey = self.grey or (self.equal and convention.equal_as_grey)
        return convention.protocol.prepare(sr.div_(255), hr.div_(255), scale, grey)

    def ssim(self, convention: Convention, scale: float) -> float:
        """SSIM; NaN where its window does not fit."""
        a, b = self.prepared(convention, scale)
        if min(a.shape[-2:]) < SSIM_WINDOW:
            return math.nan
        if convention.ssim == "reflect":
            a, b = (F.pad(image, [SSIM_WINDOW // 2] * 4, mode="reflect") for image in (a, b))
        elif convention.ssim != "protocol":
            return _uniform_ssim(a, b, 255.0 if convention.ssim == "uniform" else 510.0)
        return float(ssim(a, b, border=convention.protocol.ssim_border))


def _levels(pixels: Pixels) -> Tensor:
    planar = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return torch.from_numpy(planar)[None].double()


def _uniform_ssim(a: Tensor, b: Tensor, peak: float, side: int = 7) -> float:
    """scikit-image's default: uniform window, sample covariance, valid region."""
    stack = F.avg_pool2d(torch.cat([a, b, a * a, b * b, a * b]), side, stride=1)
    mean_a, mean_b, aa, bb, ab = stack
    sample = side**2 / (side**2 - 1)
    var_a, var_b = sample * (aa - mean_a**2), sample * (bb - mean_b**2)
    cov = sample * (ab - mean_a * mean_b)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    bottom = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return float((top / bottom).mean())


def set_psnrs(
    images: Iterable[Compared], conventions: Iterable[Convention], scale: float
) -> dict[Convention, float]:
    """PSNR in dB of a set under each convention; those that share pixel values share the work.

    Args:
        images: Images of the set.
        conventions: Conventions to measure by.
        scale: Scale of the task.
    """
    groups: dict[Convention, list[Convention]] = defaultdict(list)
    for convention in conventions:
        groups[convention.pixels].append(convention)
    rows: dict[Convention, list[tuple[float, int]]] = defaultdict(list)
    for image in images:
        for pixels, group in groups.items():
            planes = image.prepared(pixels, scale)
            known: dict[int, tuple[float, int]] = {}
            for one in group:
                border = one.protocol.border(scale)
                if border not in known:
                    a, b = (one.protocol.crop(plane, scale) for plane in planes)
                    known[border] = float(psnr(a, b)), a[0, 0].numel()
                rows[one].append(known[border])
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
        deviations: At most two; none is the base.
        psnr: PSNR in dB.
        ssim: SSIM; None where it was not needed.
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
        protocol: Protocol for any SR image.
        grey: Whether the HR file holds one channel, so that its rule for these counts.
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
