"""What are these super-resolved images worth, under which protocol, and are the files sound?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sr_lightning.data.degradation import bicubic_up, degrade
from sr_lightning.data.images import read_picture, to_tensor
from sr_lightning.data.integrity import is_lossy, listed
from sr_lightning.data.leaks import perceptual_hash
from sr_lightning.doctor.conventions import (
    BASE,
    Compared,
    Convention,
    Deviation,
    Explanation,
    Number,
    Pixels,
    combinations,
    deviations,
    image_psnr,
    image_ssim,
)
from sr_lightning.doctor.diagnosis import Diagnosis, Finding, Table
from sr_lightning.doctor.explain import Answer, Expected, explain
from sr_lightning.doctor.known_sets import hr_findings
from sr_lightning.doctor.pairs import (
    FilePair,
    pair_files,
    pairing_findings,
    scale_in_name,
)
from sr_lightning.doctor.resizers import ENLARGERS, REFERENCE
from sr_lightning.doctor.traps import (
    Levels,
    Shift,
    is_colourless,
    jpeg_quality,
    levels_of,
    luminance,
    moved,
    shift_of,
    wrong_partners,
)
from sr_lightning.errors import UserError
from sr_lightning.metrics.protocol import PROTOCOLS, Protocol
from sr_lightning.metrics.quality import psnr, ssim

__all__ = ["diagnose_results"]

Progress = Callable[[Sequence[FilePair], str], Iterator[FilePair]]
Row = dict[str, Any]

# Whether SR images are only interpolated is looked at on the first few.
_LOOKED_AT = 3

# PSNR between two 8-bit images that were enlarged in the same way but rounded otherwise.
_SAME = 47.0


@dataclass(frozen=True)
class _Image:
    """What one pair of files shows."""

    pair: FilePair
    compared: Compared
    size: str
    rows: dict[str, tuple[float, float]]
    lossy: bool
    quality: int | None
    colourless: bool
    swapped: bool
    shift: Shift
    levels: Levels
    clipped: bool
    enlarger: str | None
    hashes: tuple[str, str]


@dataclass
class _Mend:
    """Faults of the files that can be undone, the same in most of them."""

    swapped: bool = False
    squeezed: bool = False
    stretched: bool = False
    shift: tuple[int, int] = (0, 0)

    @property
    def text(self) -> str:
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
        if self.swapped:
            pixels = np.ascontiguousarray(pixels[..., ::-1])
        if self.squeezed or self.stretched:
            levels = pixels.astype(np.float64)
            levels = (levels - 16) * 255 / 219 if self.squeezed else levels * 219 / 255 + 16
            pixels = np.floor(levels + 0.5).clip(0, 255).astype(np.uint8)
        return moved(pixels, *self.shift) if self.shift != (0, 0) else pixels


@dataclass
class _Checked:
    images: list[_Image] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)

    def most(self, test: Callable[[_Image], bool]) -> bool:
        """Whether at least half of the images are so."""
        return 2 * sum(map(test, self.images)) >= len(self.images)

    def names(self, test: Callable[[_Image], bool]) -> list[str]:
        return [image.pair.other.name for image in self.images if test(image)]


def diagnose_results(
    high: Sequence[Path],
    sr: Sequence[Path],
    scale: float | None = None,
    *,
    expected: Expected | None = None,
    subject: str = "SR images",
    per_image: bool = False,
    progress: Progress | None = None,
) -> Diagnosis:
    """Measure SR images under every protocol, look for faults, and explain an expected number.

    Args:
        high: HR files.
        sr: SR files.
        scale: of the task; default: what file and folder names tell.
        expected: mean over the set that the user expected.
        subject: what is looked at, for the title.
        per_image: show a row per image.
        progress: shows progress over pairs.

    Raises:
        UserError: nothing can be paired or measured, or the scale is unknown.
    """
    pairing = pair_files(high, sr)
    if not pairing.pairs:
        raise UserError(
            f"No SR file in {sr[0].parent} belongs to an HR file in {high[0].parent} by its name "
            f"({sr[0].name}, {high[0].name}); name matching folders in --hr and --sr."
        )
    scale = scale or _told_scale(pairing.pairs)
    shown = progress or (lambda pairs, _: iter(pairs))
    checked = _Checked()
    for pair in shown(pairing.pairs, "Measuring"):
        image = _examine(pair, scale, checked)
        if image is not None:
            checked.images.append(image)
    if not checked.images:
        raise UserError(
            f"No SR image has the size of its HR image: {listed(checked.strange, 2)}; enlarge them "
            "by the scale first, or use --lr for LR images."
        )
    mend = _mend(checked)
    truncated = _is_truncated(checked, mend)
    if mend.text:
        checked.images = [
            replace(one, compared=replace(one.compared, mended=mend.applied(one.compared.sr)))
            for one in checked.images
        ]
    findings = [
        *_content_findings(checked),
        *_pixel_findings(checked, mend, truncated, scale),
        *_file_findings(checked),
        *pairing_findings(pairing, "SR"),
        *_size_findings(checked),
        *_enlarger_findings(checked),
        *hr_findings(high),
    ]
    findings.sort(key=lambda finding: finding.kind != "problem")
    answer = None
    if expected is not None:
        answer = _answer(expected, checked, scale, mend, truncated, shown)
    return _conclude(checked, scale, subject, findings, answer, per_image)


def _told_scale(pairs: Sequence[FilePair]) -> float:
    for pair in pairs:
        told = scale_in_name(pair.other) or scale_in_name(pair.high)
        if told is not None:
            return told
    raise UserError(
        f"Neither {pairs[0].other} nor its folder tells the scale, which sets the shaved border; "
        "add --scale, such as --scale 4."
    )


# ---- one image -----------------------------------------------------------------------------------


def _examine(pair: FilePair, scale: float, checked: _Checked) -> _Image | None:
    big, made = read_picture(pair.high), read_picture(pair.other)
    fitted = _fitted(big.rgb, made.rgb, scale)
    if fitted is None:
        (h, w), (y, x) = made.rgb.shape[:2], big.rgb.shape[:2]
        checked.strange.append(f"{pair.other} is {w} x {h}, but its HR image {x} x {y}")
        return None
    compared, size = fitted
    compared = replace(compared, grey=big.grey, equal=not big.grey and is_colourless(big.rgb))
    hr, sr = compared.hr, compared.sr
    straight, turned = (
        float(np.square(hr.astype(np.float64) - one).mean()) for one in (sr, sr[..., ::-1])
    )
    low, high = (int(f(sr)) for f in (np.min, np.max))
    return _Image(
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
        enlarger=_enlarger(compared, scale) if len(checked.images) < _LOOKED_AT else None,
        hashes=(perceptual_hash(hr), perceptual_hash(sr)),
    )


def _rows(compared: Compared, scale: float) -> dict[str, tuple[float, float]]:
    """PSNR and SSIM of an image under each protocol."""
    sr, hr = (to_tensor(pixels)[None] for pixels in (compared.sr, compared.hr))
    rows: dict[str, tuple[float, float]] = {}
    seen: list[tuple[torch.Tensor, torch.Tensor, Protocol]] = []
    for name, protocol in PROTOCOLS.items():
        a, b = protocol.compared(sr, hr, scale, compared.grey)
        # What truncates floats leaves 8-bit files alone; SSIM is slow.
        window = protocol.ssim_window, protocol.ssim_border
        twin = next(
            (
                one.name
                for x, y, one in seen
                if (one.ssim_window, one.ssim_border) == window
                and torch.equal(a, x)
                and torch.equal(b, y)
            ),
            None,
        )
        seen.append((a, b, protocol))
        if twin is not None:
            rows[name] = rows[twin]
            continue
        enough = min(a.shape[-2:]) >= protocol.ssim_window
        rows[name] = float(psnr(a, b)), float(ssim(a, b, *window)) if enough else math.nan
    return rows


def _fitted(hr: Pixels, sr: Pixels, scale: float) -> tuple[Compared, str] | None:
    """HR and SR pixels of one size, and in words what had to be done; None if they are no pair."""
    (y, x), (h, w) = hr.shape[:2], sr.shape[:2]
    if (y, x) == (h, w):
        return Compared(hr, sr), ""
    # Shaved images lack the same at each side, at most two pixels more than any script shaves.
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


def _enlarger(compared: Compared, scale: float) -> str | None:
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


# ---- faults --------------------------------------------------------------------------------------


def _mend(checked: _Checked) -> _Mend:
    mend = _Mend(
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


def _is_truncated(checked: _Checked, mend: _Mend) -> bool:
    """Whether SR pixels are half a level too dark on average: truncated when saved."""
    bias = [one.levels.bias for one in checked.images]
    return (
        not (mend.squeezed or mend.stretched)
        and -0.65 < float(np.median(bias)) < -0.35
        and max(bias) < -0.2
        and min(bias) > -0.8
    )


def _content_findings(checked: _Checked) -> list[Finding]:
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


def _pixel_findings(checked: _Checked, mend: _Mend, truncated: bool, scale: float) -> list[Finding]:
    found = []
    worth = ""
    if mend.text:
        # More than one fault at a time is rare; their worth is told together.
        gain = _gain(checked, replace(BASE, files="mended"), scale)
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
        gain = _gain(checked, replace(BASE, saving="untruncated"), scale)
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


def _shift_findings(checked: _Checked, mend: _Mend, worth: str, scale: float) -> list[Finding]:
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


def _gain(checked: _Checked, convention: Convention, scale: float) -> float:
    """Mean dB that a convention gives above the base."""
    return float(
        np.mean(
            [
                image_psnr(one.compared, convention, scale) - image_psnr(one.compared, BASE, scale)
                for one in checked.images
            ]
        )
    )


def _file_findings(checked: _Checked) -> list[Finding]:
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


def _size_findings(checked: _Checked) -> list[Finding]:
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


def _enlarger_findings(checked: _Checked) -> list[Finding]:
    label = _interpolation(checked)
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


def _interpolation(checked: _Checked) -> str | None:
    told = [one.enlarger for one in checked.images[:_LOOKED_AT]]
    return told[0] if len(set(told)) == 1 else None


def _count(names: Sequence[str], images: Sequence[_Image]) -> str:
    if len(names) == len(images):
        return "all SR files are" if len(images) > 1 else "the SR file is"
    verb = "is" if len(names) == 1 else "are"
    return f"{len(names)} of {len(images)} SR files ({listed(names, 3)}) {verb}"


def _those(names: Sequence[str], images: Sequence[_Image]) -> str:
    if len(names) == len(images):
        return "all SR files" if len(images) > 1 else "the SR file"
    return listed(names)


# ---- the expected number -------------------------------------------------------------------------


def _answer(
    expected: Expected,
    checked: _Checked,
    scale: float,
    mend: _Mend,
    truncated: bool,
    shown: Progress,
) -> Answer:
    images = [one.compared for one in checked.images]
    known = deviations(
        scale,
        grey=any(one.grey for one in images),
        equal=any(one.equal for one in images),
        cut=any(one.others for one in images),
        colour=not all(is_colourless(one.sr) and is_colourless(one.hr) for one in images),
        truncated=truncated,
        mended=mend.text,
        swapped=mend.swapped,
        ssim=expected.ssim is not None,
        several=len(images) > 1,
    )
    conventions = {combination: _convention(combination) for combination in combinations(known)}
    numbers = Number(list(conventions.values()), scale)
    pairs = [one.pair for one in checked.images]
    for _, image in zip(shown(pairs, "Trying conventions"), images, strict=True):
        numbers.add(image)
    candidates = [
        Explanation(combination, numbers.psnr(convention), None)
        for combination, convention in conventions.items()
    ]
    if (_interpolation(checked) or "").startswith("MATLAB"):
        candidates += [
            _pipeline(protocol, images, scale)
            for protocol in PROTOCOLS.values()
            if protocol.lr != "rgb_uint8"
        ]
    known_ssim: dict[Convention, float] = {}

    def similarity(one: Explanation) -> float:
        # Averaging of PSNR does not touch SSIM.
        convention = replace(conventions[one.deviations], average="images")
        if convention not in known_ssim:
            values = [image_ssim(image, convention, scale) for image in images]
            known_ssim[convention] = float(np.nanmean(values))
        return known_ssim[convention]

    return explain(expected, candidates, similarity)


def _convention(combination: Sequence[Deviation]) -> Convention:
    convention = BASE
    for deviation in combination:
        convention = deviation.applied(convention)
    return convention


def _pipeline(protocol: Protocol, images: Sequence[Compared], scale: float) -> Explanation:
    """The bicubic row as a protocol makes it from HR to SR."""
    rows = []
    for image in images:
        hr = to_tensor(image.hr)[None]
        sr = bicubic_up(degrade(hr, scale, protocol.lr, grey=image.grey), scale)
        a, b = protocol.compared(sr, hr, scale, image.grey)
        similar = ssim(a, b, protocol.ssim_window, protocol.ssim_border)
        rows.append((float(psnr(a, b)), float(similar)))
    means = torch.tensor(rows, dtype=torch.float64).mean(dim=0).tolist()
    text = (
        f"the bicubic row made as protocol {protocol.name} makes it, from an LR image that is "
        "never rounded to 8 bits"
    )
    return Explanation((Deviation("pipeline", protocol.name, text),), means[0], means[1])


# ---- conclusions ---------------------------------------------------------------------------------


def _conclude(
    checked: _Checked,
    scale: float,
    subject: str,
    findings: list[Finding],
    answer: Answer | None,
    per_image: bool,
) -> Diagnosis:
    means = {
        name: (
            float(np.mean([one.rows[name][0] for one in checked.images])),
            float(np.nanmean([one.rows[name][1] for one in checked.images])),
        )
        for name in PROTOCOLS
    }
    tables = [_protocol_table(means)]
    if per_image:
        tables.append(_image_table(checked))
    if answer is not None:
        tables.append(_answer_table(answer))
    here = means["edsr2017"]
    verdict = (
        _plain_verdict(here, findings, checked)
        if answer is None
        else _answer_verdict(here, findings, answer)
    )
    facts: dict[str, Any] = {
        "scale": scale,
        "images": len(checked.images),
        "means": {name: {"psnr": p, "ssim": s} for name, (p, s) in means.items()},
        "per_image": {
            one.pair.other.name: {name: {"psnr": p, "ssim": s} for name, (p, s) in one.rows.items()}
            for one in checked.images
        },
    }
    if answer is not None:
        facts["expectation"] = answer.as_json()
    return Diagnosis("sr", subject, verdict, tuple(findings), tuple(tables), facts)


def _told(number: tuple[float, float]) -> str:
    return f"{number[0]:.2f} dB / {number[1]:.4f}"


def _plain_verdict(
    here: tuple[float, float], findings: Sequence[Finding], checked: _Checked
) -> str:
    count = len(checked.images)
    what = f"The mean of {count} SR images is" if count > 1 else "The SR image has"
    number = f"{what} {_told(here)} (PSNR-Y / SSIM-Y, protocol edsr2017, as most papers since 2017)"
    problems = [finding for finding in findings if finding.kind == "problem"]
    if not problems:
        return f"{number}; nothing is wrong with the files."
    return f"{number}, but {_first(problems)}."


def _first(problems: Sequence[Finding]) -> str:
    if len(problems) == 1:
        return problems[0].text
    more = f"{len(problems) - 1} more problem{'s' if len(problems) > 2 else ''} below"
    return f"{problems[0].text} ({more})"


def _answer_verdict(here: tuple[float, float], findings: Sequence[Finding], answer: Answer) -> str:
    expected, best = answer.expected, answer.best
    have = f"Under protocol edsr2017 these images have {_told(here)}."
    problems = [finding for finding in findings if finding.kind == "problem"]
    also = f" Besides, {_first(problems)}." if problems else ""
    if answer.band < 2 and not best.deviations:
        if answer.band == 0:
            return f"The images have the expected {expected.text} under protocol edsr2017.{also}"
        sentence = (
            f"The images are within hundredths of a dB of the expected {expected.text} under "
            f"protocol edsr2017: {_told(here)}"
        )
        if answer.exact is not None:
            sentence += (
                f"; its digits come out with {answer.exact.text}, which may well be a coincidence"
            )
        return f"{sentence}.{also}"
    if answer.band < 2:
        degree = "comes out" if answer.band == 0 else "nearly comes out"
        sentence = f"The expected {expected.text} {degree} with {best.text}"
        if any(deviation.axis == "files" for deviation in best.deviations):
            also = f" The fault: {_first(problems)}."
        if answer.rivals:
            count = len(answer.rivals)
            sentence += (
                f"; {count} other explanation{'s fit' if count > 1 else ' fits'} as well, and the "
                "images alone cannot tell which is true"
            )
        return f"{sentence}. {have}{also}"
    decibels, _ = expected.gaps(best)
    near = f"of {answer.tried} tried, the nearest is {abs(decibels):.2f} dB off"
    alone = answer.psnr_alone
    if expected.ssim is not None and alone is not None:
        similar = expected.gaps(alone)[1]
        near = f"its PSNR comes out with {alone.text}, but SSIM is then {similar:+.4f} off"
    return f"No way of measuring explains the expected {expected.text}: {near}. {have}" + (
        f" A fault of the files may be the cause: {_first(problems)}."
        if problems
        else " The difference is in the images themselves: weights, LR images (see doctor "
        "--lr), self-ensemble or training."
    )


def _protocol_table(means: dict[str, tuple[float, float]]) -> Table:
    """A row for each protocol that gives other numbers, and in a note, which give the same."""
    groups: dict[tuple[float, float], list[str]] = {}
    for name, number in means.items():
        groups.setdefault(number, []).append(name)
    same = [
        f"{', '.join(names[1:])} {'give' if len(names) > 2 else 'gives'} the same as {names[0]}"
        for names in groups.values()
        if len(names) > 1
    ]
    return Table(
        "Mean over images",
        ("protocol", "PSNR (dB)", "SSIM", ""),
        tuple(
            (names[0], f"{p:.2f}", f"{s:.4f}", PROTOCOLS[names[0]].summary)
            for (p, s), names in groups.items()
        ),
        f"On these files, {'; '.join(same)}." if same else "",
    )


def _image_table(checked: _Checked) -> Table:
    shown = ("edsr2017", "vdsr2016", "rgb")
    return Table(
        "Each image: PSNR (dB) / SSIM",
        ("image", *shown),
        tuple(
            (
                one.pair.other.name,
                *(f"{one.rows[name][0]:.2f} / {one.rows[name][1]:.4f}" for name in shown),
            )
            for one in checked.images
        ),
        "The other protocols are in the file that --json writes.",
    )


def _answer_table(answer: Answer) -> Table:
    expected = answer.expected
    rows = []
    for one in answer.ranked:
        decibels, similar = expected.gaps(one)
        cells = [one.text, f"{one.psnr:.2f}", f"{decibels:+.3f}"]
        if expected.ssim is not None:
            known = one.ssim is not None
            cells += [f"{one.ssim:.4f}" if known else "-", f"{similar:+.4f}" if known else "-"]
        rows.append((*cells, ("yes", "nearly", "no")[expected.band(one)]))
    headings = ["measured with", "PSNR (dB)", "gap"]
    if expected.ssim is not None:
        headings += ["SSIM", "gap"]
    note = (
        f"{answer.tried} combinations of at most two deviations were tried; "
        f"{100 * answer.chance:.0f} % of all PSNRs within half a dB would be hit by one of them by "
        "chance" + (", before SSIM is looked at." if expected.ssim is not None else ".")
    )
    return Table(f"What gives {expected.text}?", (*headings, "explains"), tuple(rows), note)
