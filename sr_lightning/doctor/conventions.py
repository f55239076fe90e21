"""Every way of measuring that turns the same two images into another number.

The base is protocol ``edsr2017``. A deviation changes one thing about it; whoever expects another
number than the base gives has nearly always one or two of them in his script.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from kornia.metrics import ssim as kornia_ssim
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sr_lightning.colour import rgb_to_y
from sr_lightning.metrics.protocol import PROTOCOLS, Protocol
from sr_lightning.metrics.quality import psnr, ssim

__all__ = [
    "BASE",
    "Compared",
    "Convention",
    "Deviation",
    "Explanation",
    "Number",
    "combinations",
    "deviations",
    "image_psnr",
    "image_ssim",
]

Pixels = NDArray[np.uint8]
Axis = Literal[
    "colour", "rounding", "saving", "grey", "cut", "shave", "average", "ssim", "files", "pipeline"
]


@dataclass(frozen=True)
class Convention:
    """One way to measure.

    Attributes:
        colour: "y" (BT.601, limited range), "rgb", "y_full" (full range), "y_bgr" (the matrix
            applied to swapped channels of both images), "sr_bgr" (those of the SR image only).
        rounding: of luminance to whole levels: "none", "round", "truncate".
        saving: "as_is"; "truncated" takes half a level away, as truncation to 8 bits does on
            average; "untruncated" adds it.
        grey: of one-channel HR files: "direct" or "matrix"; see
            :class:`~sr_lightning.metrics.protocol.Protocol`. "content" takes files of three equal
            channels for grey ones, too, and both directly.
        cut: how HR images of another size are cut to the SR's: "corner", "centre", "resized".
        shave: extra pixels beyond the scale; -1000 for no shave at all.
        average: "images" (mean PSNR) or "pooled" (PSNR of the mean error).
        ssim: "gauss" (11 x 11, sigma 1.5, valid), "padded" (the same over the whole image with
            mirrored borders), "replicate" (with repeated borders),
            "uniform" (7 x 7, sample covariance), "range2" (the same with L twice too large).
        files: "as_is" or "mended", where the SR files have a fault that can be undone.
    """

    colour: Literal["y", "rgb", "y_full", "y_bgr", "sr_bgr"] = "y"
    rounding: Literal["none", "round", "truncate"] = "none"
    saving: Literal["as_is", "truncated", "untruncated"] = "as_is"
    grey: Literal["direct", "matrix", "content"] = "direct"
    cut: Literal["corner", "centre", "resized"] = "corner"
    shave: int = 0
    average: Literal["images", "pooled"] = "images"
    ssim: Literal["gauss", "padded", "replicate", "uniform", "range2"] = "gauss"
    files: Literal["as_is", "mended"] = "as_is"

    def border(self, scale: float) -> int:
        """Pixels shaved off at each side."""
        return max(0, round(scale) + self.shave)

    @property
    def pixels(self) -> Convention:
        """The part that decides which pixel values are compared."""
        return replace(self, shave=0, average="images", ssim="gauss")


BASE = Convention()
NO_SHAVE = -1000


@dataclass(frozen=True)
class Deviation:
    """One thing done otherwise.

    Attributes:
        axis: what it is about; two of the same axis exclude each other.
        key: for machines.
        text: for people; follows "the expected number comes out with".
        change: of a convention.
    """

    axis: Axis
    key: str
    text: str
    change: dict[str, object] = field(default_factory=dict, hash=False, compare=False)

    def applied(self, convention: Convention) -> Convention:
        """The convention with this changed."""
        return replace(convention, **self.change)  # type: ignore[arg-type]


def deviations(
    scale: float,
    *,
    grey: bool,
    equal: bool,
    cut: bool,
    colour: bool,
    truncated: bool,
    mended: str,
    swapped: bool,
    ssim: bool,
    several: bool,
) -> list[Deviation]:
    """What can be done otherwise with given images, the commonest first.

    Args:
        scale: of the task.
        grey: whether an HR file holds one channel.
        equal: whether an HR file holds three equal channels.
        cut: whether HR and SR images differ in size.
        colour: whether any image has colour.
        truncated: whether the SR files look truncated to 8 bits.
        mended: what was undone in the files; empty where nothing can be.
        swapped: whether that is swapped channels, so that swapping them is told already.
        ssim: whether an SSIM is expected, too.
        several: whether there are several images to average.
    """
    shave = round(scale)
    found = [Deviation("files", "mended", mended, {"files": "mended"})] if mended else []
    if colour:
        found.append(
            Deviation(
                "colour", "rgb", "all of RGB compared instead of luminance (Y)", {"colour": "rgb"}
            )
        )
    found += [
        Deviation(
            "colour",
            "y_full_range",
            "full-range Y (OpenCV, kornia, skimage's yuv) instead of MATLAB's 16-235",
            {"colour": "y_full"},
        ),
        Deviation("rounding", "y_rounded", "Y rounded to whole levels", {"rounding": "round"}),
        Deviation("shave", "no_shave", "no border shaved", {"shave": NO_SHAVE}),
        Deviation(
            "shave", "shave_6", f"a border of scale + 6 = {shave + 6} px shaved", {"shave": 6}
        ),
        Deviation(
            "shave", "shave_2", f"a border of scale + 2 = {shave + 2} px shaved", {"shave": 2}
        ),
    ]
    if several:
        found.append(
            Deviation(
                "average",
                "pooled",
                "the error pooled over all images instead of PSNR averaged",
                {"average": "pooled"},
            )
        )
    if grey:
        found.append(
            Deviation(
                "grey",
                "grey_matrix",
                "grey images sent through RGB -> Y instead of taken as Y",
                {"grey": "matrix"},
            )
        )
    if equal:
        found.append(
            Deviation(
                "grey",
                "grey_content",
                "images of three equal channels taken as Y, like files of one channel",
                {"grey": "content"},
            )
        )
    if truncated:
        found.append(
            Deviation(
                "saving",
                "untruncated",
                "SR rounded, not truncated, to 8 bits (estimated: half a level added)",
                {"saving": "untruncated"},
            )
        )
    else:
        found.append(
            Deviation(
                "saving",
                "truncated",
                "SR truncated to 8 bits instead of rounded (estimated: half a level taken away)",
                {"saving": "truncated"},
            )
        )
    found.append(
        Deviation(
            "rounding", "y_truncated", "Y truncated to whole levels", {"rounding": "truncate"}
        )
    )
    if colour:
        found += [
            Deviation(
                "colour",
                "bgr",
                "Y made of BGR taken for RGB (OpenCV's order) in both images",
                {"colour": "y_bgr"},
            )
        ]
        if not swapped:
            found.append(
                Deviation(
                    "colour",
                    "sr_bgr",
                    "red and blue swapped in the SR images only",
                    {"colour": "sr_bgr"},
                )
            )
    if cut:
        found += [
            Deviation("cut", "centre", "HR images cropped at their centre", {"cut": "centre"}),
            Deviation(
                "cut",
                "resized",
                "HR images resized to the SR's size, not cropped",
                {"cut": "resized"},
            ),
        ]
    if ssim:
        found += [
            Deviation(
                "ssim",
                "ssim_padded",
                "SSIM with padded borders (torchmetrics, kornia's default)",
                {"ssim": "padded"},
            ),
            Deviation(
                "ssim",
                "ssim_matlab",
                "SSIM with repeated borders (MATLAB's own ssim)",
                {"ssim": "replicate"},
            ),
            Deviation(
                "ssim",
                "ssim_uniform",
                "SSIM with a uniform 7x7 window (skimage's default)",
                {"ssim": "uniform"},
            ),
            Deviation(
                "ssim",
                "ssim_range",
                "SSIM of skimage on floats without data_range (L = 2)",
                {"ssim": "range2"},
            ),
        ]
    return found


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
        mended: SR pixels without the fault that was found; None where none was.
        others: HR pixels cut otherwise, where the sizes differed: "centre" and "resized".
    """

    hr: Pixels
    sr: Pixels
    grey: bool = False
    equal: bool = False
    mended: Pixels | None = None
    others: dict[str, Pixels] = field(default_factory=dict)

    def planes(self, convention: Convention) -> tuple[Tensor, Tensor]:
        """SR and HR as a convention compares them, before shaving: (1, C, H, W) in [0, 255]."""
        hr = self.others.get(convention.cut, self.hr)
        sr = self.sr
        if convention.files == "mended" and self.mended is not None:
            sr = self.mended
        a, b = _levels(sr), _levels(hr)
        if convention.saving != "as_is":
            half = 0.5 if convention.saving == "untruncated" else -0.5
            a = (a + half).clamp(0, 255)
        if convention.colour in {"y_bgr", "sr_bgr"}:
            a = a.flip(1)
            b = b.flip(1) if convention.colour == "y_bgr" else b
        return self._channels(a, convention), self._channels(b, convention)

    def _channels(self, levels: Tensor, convention: Convention) -> Tensor:
        if convention.colour == "rgb":
            return levels
        if (self.grey and convention.grey != "matrix") or (
            self.equal and convention.grey == "content"
        ):
            y = levels.mean(dim=1, keepdim=True)
        else:
            y = rgb_to_y(levels / 255) * 255
            if convention.colour == "y_full":
                y = (y - 16) * 255 / 219
        if convention.rounding == "round":
            return y.add(0.5).floor()
        # Whole levels that came out a rounding error too low stay whole.
        return y.add(1e-6).floor() if convention.rounding == "truncate" else y


def _levels(pixels: Pixels) -> Tensor:
    planar = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return torch.from_numpy(planar)[None].double()


class Number:
    """Squared errors of many conventions over the images of a set.

    Args:
        conventions: to measure; those that differ only in averaging and SSIM share the work.
        scale: of the task.
    """

    def __init__(self, conventions: Sequence[Convention], scale: float) -> None:
        self._scale = scale
        self._borders: dict[Convention, set[int]] = {}
        for convention in conventions:
            self._borders.setdefault(convention.pixels, set()).add(convention.border(scale))
        self._errors: dict[tuple[Convention, int], list[tuple[float, int]]] = {}

    def add(self, image: Compared) -> None:
        """Measure one image."""
        for pixels, borders in self._borders.items():
            a, b = image.planes(pixels)
            error = (a - b).square()
            for border in borders:
                kept = _shaved(error, border)
                # A pooled error weighs pixels, not channels.
                total = float(kept.sum()) / kept.shape[1]
                count = kept.numel() // kept.shape[1]
                self._errors.setdefault((pixels, border), []).append((total, count))

    def psnr(self, convention: Convention) -> float:
        """PSNR of the set in dB."""
        errors = self._errors[convention.pixels, convention.border(self._scale)]
        if convention.average == "pooled":
            return _decibels(sum(e for e, _ in errors), sum(n for _, n in errors))
        return float(np.mean([_decibels(error, count) for error, count in errors]))


def _decibels(error: float, count: int) -> float:
    return math.inf if error == 0 else 10 * math.log10(255**2 * count / error)


def _shaved(plane: Tensor, border: int) -> Tensor:
    # A tiny image keeps its middle.
    border = min(border, (min(plane.shape[-2:]) - 1) // 2)
    return plane[..., border:-border, border:-border] if border else plane


def image_psnr(image: Compared, convention: Convention, scale: float) -> float:
    """PSNR of one image in dB."""
    a, b = image.planes(convention)
    border = convention.border(scale)
    return float(psnr(_shaved(a, border), _shaved(b, border)))


def image_ssim(image: Compared, convention: Convention, scale: float) -> float:
    """SSIM of one image."""
    border = convention.border(scale)
    a, b = (_shaved(plane, border) for plane in image.planes(convention))
    if min(a.shape[-2:]) < 11:
        return math.nan
    if convention.ssim == "gauss":
        return float(ssim(a, b))
    if convention.ssim == "replicate":
        return float(ssim(a, b, border="replicate"))
    if convention.ssim == "padded":
        return float(kornia_ssim(a, b, 11, max_val=255.0, eps=0.0, padding="same").mean())
    return _uniform_ssim(a, b, 255.0 if convention.ssim == "uniform" else 510.0)


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
    def protocols(self) -> tuple[str, ...]:
        """Protocols that measure files in this way (with or without one-channel files)."""
        keys = {one.key for one in self.deviations}
        return tuple(
            name
            for name, protocol in PROTOCOLS.items()
            if keys and keys in (_keys_of(protocol), _keys_of(protocol) - {"grey_matrix"})
        )

    @property
    def text(self) -> str:
        """In words."""
        if not self.deviations:
            return "protocol edsr2017 as it is"
        named = f" (protocol {' or '.join(self.protocols)})" if self.protocols else ""
        return " and ".join(one.text for one in self.deviations) + named


def _keys_of(protocol: Protocol) -> set[str]:
    """The deviations that a protocol is, for SR files (whose levels are 8 bits already)."""
    keys = {
        "rgb": protocol.channel == "rgb",
        "y_rounded": protocol.quantise_y,
        "grey_matrix": protocol.grey == "matrix",
        "ssim_matlab": protocol.ssim_border == "replicate",
    }
    return {key for key, true in keys.items() if true}
