"""Which resize made these LR images, and what does it cost?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sr_lightning.cubic import upscaled_size
from sr_lightning.data.batch import Batch
from sr_lightning.data.degradation import degrade
from sr_lightning.data.images import read_picture, to_tensor
from sr_lightning.data.integrity import is_lossy, listed
from sr_lightning.data.near_duplicates import perceptual_hash
from sr_lightning.doctor.diagnosis import (
    Diagnosis,
    Finding,
    Numbers,
    Table,
    faults_found,
    finding,
    mean_numbers,
)
from sr_lightning.doctor.estimators import (
    is_colourless,
    is_swapped,
    jpeg_quality,
    noise_level,
    wrong_partners,
)
from sr_lightning.doctor.pairs import FilePair, Progress, paired, scale_in_name, scale_of_pairs
from sr_lightning.doctor.resizers import DOWNSCALERS, REFERENCE, Pixels, Resizer
from sr_lightning.doctor.sets import hr_findings
from sr_lightning.errors import UserError
from sr_lightning.inference.evaluate import Evaluator
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.metrics.quality import METRICS, numbers_text
from sr_lightning.nn.network import SRNetwork

__all__ = ["diagnose_lr"]

# Every resize is tried on the first images; on the others, only these many of the nearest.
_TRIED_ON, _KEPT = 3, 5

# Rounding of halves differs between versions and processors; nothing else is as small.
_ROUNDING = 0.05

# Pixels of the LR rim that borders can reach.
_RIM = 3

# Levels of noise that are the RDN paper's 30, as estimated from small images.
_DN = (27.0, 33.0)

_PROTOCOL = PROTOCOLS["edsr2017"]


@dataclass
class _Match:
    """How near one resize comes to the LR files.

    Attributes:
        resizer: The resize.
        sums: By image, the bytes that differ, those of them inside of the rim, the sum of squared
            differences and the number of bytes.
        largest: Largest difference, in levels.
    """

    resizer: Resizer
    sums: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    largest: int = 0

    def add(self, name: str, made: Pixels, there: Pixels) -> None:
        error = np.abs(made.astype(np.float64) - there)
        differing = (np.count_nonzero(one) for one in (error, error[_RIM:-_RIM, _RIM:-_RIM]))
        self.sums[name] = np.array([*differing, np.square(error).sum(), error.size])
        self.largest = max(self.largest, int(error.max()))

    @property
    def exact(self) -> list[str]:
        """Images of which every byte is the same."""
        return [name for name, (differing, *_) in self.sums.items() if not differing]

    @property
    def means(self) -> tuple[float, float, float]:
        """Part of the bytes that differ, part that differs inside, and mean squared difference."""
        differing, inside, squares, count = sum(self.sums.values(), np.zeros(4)).tolist()
        return differing / count, inside / count, squares / count

    @property
    def decibels(self) -> float:
        return 10 * math.log10(255**2 / self.means[2]) if self.largest else math.inf

    @property
    def certain(self) -> bool:
        """Whether this made the files: every byte is the same, but for the rounding of halves."""
        return self.largest <= 1 and self.means[0] <= _ROUNDING

    def row(self) -> tuple[str, ...]:
        if not self.largest:
            return (self.resizer.label, "0 %", "0", "identical")
        percent = 100 * self.means[0]
        share = f"{percent:.2f} %" if percent < 10 else f"{percent:.0f} %"
        return (self.resizer.label, share, str(self.largest), f"{self.decibels:.1f} dB")

    def as_json(self) -> dict[str, Any]:
        differing, inside, _ = self.means
        return {
            "resize": self.resizer.key,
            "label": self.resizer.label,
            "uncropped_hr": self.resizer.uncropped,
            "images": len(self.sums),
            "identical_images": len(self.exact),
            "differing_bytes": differing,
            "differing_bytes_inside": inside,
            "max_difference": self.largest,
            "psnr_between": self.decibels if self.largest else None,
        }


@dataclass
class _Seen:
    """What one LR file shows."""

    name: str
    hashes: tuple[str, str]
    lossy: bool
    quality: int | None
    size: str = ""
    larger: bool = False
    colourless: bool = False
    swapped: bool = False
    noise: float | None = None
    reached: dict[str, Numbers] | None = None


@dataclass
class _Evidence:
    """What the images showed."""

    matches: dict[Resizer, _Match] = field(default_factory=dict)
    images: list[_Seen] = field(default_factory=list)
    misfit: Finding | None = None

    @property
    def noise(self) -> float | None:
        """Mean level of the Gaussian noise of all images; None where one has something else."""
        levels = [one.noise for one in self.images if one.noise is not None]
        usual, best = self.matches.get(REFERENCE), self.ranked()[0]
        # Of images that were blurred before, another resize would be nearer.
        fits = usual is not None and usual.means[2] <= 1.01 * best.means[2]
        return float(np.mean(levels)) if fits and len(levels) == len(self.images) else None

    def ranked(self) -> list[_Match]:
        """Nearest first; a resize that was not tried on every image comes after."""
        most = max((len(match.sums) for match in self.matches.values()), default=0)
        return sorted(
            self.matches.values(),
            key=lambda one: (len(one.sums) < most, one.means[2], one.resizer.uncropped),
        )


def diagnose_lr(
    high: Sequence[Path],
    low: Sequence[Path],
    scale: float | None = None,
    *,
    network: SRNetwork | None = None,
    progress: Progress = lambda pairs, _: iter(pairs),
) -> Diagnosis:
    """Find out which resize made LR images.

    Args:
        high: HR files.
        low: LR files.
        scale: Scale of the task; default: by the sizes of the images.
        network: Network in evaluation mode, to say what other LR images cost it; what they cost
            bicubic is always said.
        progress: Goes through pairs and shows how far it has come.

    Raises:
        UserError: nothing can be paired, a file cannot be used, or the network has other scales.
    """
    pairs, findings = paired(high, low, "LR")
    named = {scale_in_name(pair.other) for pair in pairs} if scale is None else set()
    scale = scale or scale_of_pairs(pairs)
    if scale < 1.05:
        raise UserError(
            f"{pairs[0].other} is not smaller than its HR image; for super-resolved images "
            "use --sr instead of --lr."
        )
    if network is not None and not network.supports_scale(scale):
        have = ", ".join(f"x{one:g}" for one in network.scales)
        what = type(network).__name__
        raise UserError(f"The {what} of --weights upscales by {have}, not by x{scale:g}.")
    evidence = _Evidence()
    evaluator = Evaluator(network, [_PROTOCOL], bicubic=True)
    for pair in progress(pairs, "Comparing resizes"):
        _examine(pair, scale, evidence, evaluator)
    if all(one.size for one in evidence.images):
        sizes = listed([f"{one.name} ({one.size})" for one in evidence.images], 3)
        raise UserError(f"No LR image has the size that x{scale:g} wants: {sizes}; check --scale.")
    if len(named) == 1 and None not in named and scale not in named:
        evidence.misfit = finding("lr_of_other_hr", named=named.pop(), scale=scale)
        findings.append(evidence.misfit)
    findings += [*_file_findings(evidence.images, scale), *hr_findings(high)]
    name = type(network).__name__ if network is not None else None
    subject = f"LR images in {low[0].parent if len(low) > 1 else low[0]}"
    return _conclude(evidence, scale, subject, findings, name)


def _examine(pair: FilePair, scale: float, evidence: _Evidence, evaluator: Evaluator) -> None:
    big, lr = read_picture(pair.high), read_picture(pair.other).rgb
    hr, lossy = big.rgb, is_lossy(pair.other)
    hashes = perceptual_hash(hr), perceptual_hash(lr)
    seen = _Seen(pair.other.name, hashes, lossy, None if lossy else jpeg_quality(lr))
    evidence.images.append(seen)
    cut = upscaled_size((lr.shape[0], lr.shape[1]), scale)
    slack = max(2.0, scale)
    if any(abs(a - b) > slack for a, b in zip(cut, hr.shape, strict=False)):
        seen.size = f"{lr.shape[1]} x {lr.shape[0]}, its HR image {hr.shape[1]} x {hr.shape[0]}"
        return
    seen.larger = cut[0] > hr.shape[0] or cut[1] > hr.shape[1]
    seen.colourless = is_colourless(lr) and not is_colourless(hr)
    if seen.colourless:
        return
    # By whether they were cropped for the scale.
    sources = {False: hr[: cut[0], : cut[1]]} if not seen.larger else {}
    if cut != hr.shape[:2]:
        sources[True] = hr
    usual = REFERENCE.make(next(iter(sources.values())), (lr.shape[0], lr.shape[1]))
    seen.swapped = is_swapped(lr, usual, 2)
    if seen.swapped:
        lr = np.ascontiguousarray(lr[..., ::-1])
    seen.noise = noise_level(lr, usual)
    _compare(seen.name, sources, lr, evidence)
    # Of a tiny image, nothing is left without its border.
    if not seen.larger and min(cut) > 2 * round(scale):
        seen.reached = _reached(evaluator, sources[False], lr, scale, big.grey)


def _compare(name: str, sources: Mapping[bool, Pixels], lr: Pixels, evidence: _Evidence) -> None:
    size = (lr.shape[0], lr.shape[1])
    kept = None
    if len(evidence.images) > _TRIED_ON and evidence.matches:
        kept = {match.resizer for match in evidence.ranked()[:_KEPT]}
    for only in (kept, None):
        # What none of the nearest made may be the work of another resize: then all are tried.
        for resizer in DOWNSCALERS:
            if resizer.uncropped not in sources or (only is not None and resizer not in only):
                continue
            match = evidence.matches.setdefault(resizer, _Match(resizer))
            if name not in match.sums:
                match.add(name, resizer.make(sources[resizer.uncropped], size), lr)
        done = [match for match in evidence.matches.values() if name in match.sums]
        if any(name in match.exact for match in done) or not any(match.exact for match in done):
            break


@torch.inference_mode()
def _reached(
    evaluator: Evaluator, hr: Pixels, lr: Pixels, scale: float, grey: bool
) -> dict[str, Numbers]:
    """Numbers that bicubic and a network reach from these LR pixels and from the usual ones."""
    truth = to_tensor(hr)[None]
    images = {"these": to_tensor(lr)[None], "usual": degrade(truth, scale)}
    return {
        f"{one.method}/{which}": one.numbers
        for which, image in images.items()
        for one in evaluator.measure(
            Batch(lr=image, hr=truth, scale=scale, name=[which], grey=grey)
        )
    }


# ---- conclusions ---------------------------------------------------------------------------------


def _file_findings(images: Sequence[_Seen], scale: float) -> list[Finding]:
    """Faults of single files."""
    wrong = wrong_partners([one.name for one in images], [one.hashes for one in images])
    tests: dict[str, bool | Callable[[_Seen], object]] = {
        "lr_lossy": lambda one: one.lossy,
        "lr_was_jpeg": lambda one: one.quality and f"(quality about {one.quality})",
        "lr_grey": lambda one: one.colourless,
        "lr_swapped": lambda one: one.swapped,
        "lr_wrong_partner": lambda one: wrong.get(one.name),
        "lr_larger": lambda one: one.larger,
        "lr_size": lambda one: one.size and f"({one.size})",
    }
    return faults_found(tests, images, "LR file", scale=scale)


def _conclude(
    evidence: _Evidence,
    scale: float,
    subject: str,
    findings: list[Finding],
    network: str | None,
) -> Diagnosis:
    ranked = evidence.ranked()
    facts: dict[str, Any] = {
        "scale": scale,
        "images": len(evidence.images),
        "resizes": [match.as_json() for match in ranked],
    }
    if not ranked:
        verdict = (
            "The LR images are grey although the HR images are in colour, so that no resize can be "
            "recognised."
        )
        return Diagnosis("lr", subject, verdict, tuple(findings), facts=facts)
    verdict, cause, facts["made_by"] = _verdict(ranked, evidence)
    tables = [_match_table(ranked)]
    if reached := [one.reached for one in evidence.images if one.reached is not None]:
        names = {"bicubic": "bicubic"} | ({"sr": network} if network is not None else {})
        means = {
            f"{names[way]}/{which}": mean_numbers([one[f"{way}/{which}"] for one in reached])
            for way in names
            for which in ("these", "usual")
        }
        facts["upscaled"] = {
            key: {**numbers, "protocol": _PROTOCOL.name} for key, numbers in means.items()
        }
        if cause is not None or network is not None:
            tables.append(_reached_table(means, [*names.values()]))
        else:
            verdict += (
                f" MATLAB's bicubic upscaling of them has {numbers_text(means['bicubic/these'])} "
                f"(PSNR-Y / SSIM-Y, protocol {_PROTOCOL.name})."
            )
        if cause is not None:
            gaps = {
                name: means[f"{name}/these"]["psnr"] - means[f"{name}/usual"]["psnr"]
                for name in names.values()
            }
            cost = f"bicubic upscaling of them gives {gaps.pop('bicubic'):+.2f} dB"
            cost += "".join(f", {name} {gap:+.2f} dB" for name, gap in gaps.items())
            verdict += f" Beside the usual LR images, {cost} (mean PSNR-Y, {_PROTOCOL.name})."
    if cause is not None and cause is not evidence.misfit:
        findings = [cause, *findings]
    return Diagnosis("lr", subject, verdict, tuple(findings), tuple(tables), facts)


def _verdict(
    ranked: Sequence[_Match], evidence: _Evidence
) -> tuple[str, Finding | None, str | None]:
    """The sentence, the finding with the remedy where one is needed, and what made the files."""
    best = ranked[0]
    usual = best.resizer is REFERENCE
    cause = None if usual else finding(best.resizer.finding, resize=best.resizer.label)
    if best.certain:
        alike = [one for one in ranked if not one.largest and one.sums.keys() == best.sums.keys()]
        sentence = _made_by(best, alike)
        if usual:
            sentence += " Nothing needs to be corrected."
        return sentence, cause, best.resizer.key
    near = (
        f"the nearest is {best.resizer.label} ({best.decibels:.1f} dB, {100 * best.means[0]:.0f} % "
        f"of the bytes differ, by at most {best.largest})"
    )
    if any(one.lossy or one.quality for one in evidence.images):
        if cause is not None:
            text = f"as far as JPEG shows: {best.resizer.label}"
            cause = replace(cause, kind="note", text=text)
        return f"JPEG hides which resize made these LR images; {near}.", cause, None
    if mixed := {
        one.resizer.label: one.exact for one in ranked if 0 < len(one.exact) < len(one.sums)
    }:
        parts = [f"{label}: {listed(names, 3)}" for label, names in list(mixed.items())[:3]]
        unknown = len(evidence.images) - len({name for names in mixed.values() for name in names})
        if unknown:
            parts.append(f"unknown: {unknown} files")
        sentence = f"These LR images were made in several ways ({'; '.join(parts)})."
        return sentence, finding("lr_mixture"), None
    if (noise := evidence.noise) is not None:
        is_dn = _DN[0] <= noise <= _DN[1]
        sentence = (
            f"These LR images are the usual ones (MATLAB's bicubic) with Gaussian noise of level "
            f"{noise:.0f} added{', the DN degradation of the RDN paper' if is_dn else ''}."
        )
        cause = finding("lr_noise_dn" if is_dn else "lr_noise", level=noise)
        return sentence, cause, "dn" if is_dn else None
    if evidence.misfit is not None:
        sentence = f"These LR images were not made of these HR images: {evidence.misfit.text}."
        return sentence, evidence.misfit, None
    count = len({resizer.key for resizer in DOWNSCALERS if not resizer.uncropped})
    sentence = f"None of the {count} resizes that doctor knows made these LR images; {near}."
    return sentence, finding("lr_unknown"), None


def _made_by(best: _Match, alike: Sequence[_Match]) -> str:
    """The sentence on a resize that is certain, and on those that make the same bytes here."""
    if len(alike) > 1:
        *some, last = [match.resizer.label for match in alike]
        return (
            f"These LR images were made, byte for byte, by {', '.join(some)} or {last}, which "
            "cannot be told apart here."
        )
    exactness = "byte for byte"
    if best.largest:
        exactness = (
            f"but for rounding ({100 * best.means[0]:.2f} % of the bytes differ by one level, "
            "which versions and processors do)"
        )
    return f"These LR images were made by {best.resizer.label}, {exactness}."


def _match_table(ranked: Sequence[_Match]) -> Table:
    # The usual one is what a user compares with.
    shown = [*ranked[:6], *(match for match in ranked[6:] if match.resizer is REFERENCE)]
    note = f"The nearest differs only in the outermost {_RIM} pixels, where borders matter."
    return Table(
        "LR files beside what each resize makes of the HR images",
        ("resize", "differing bytes", "largest difference", "PSNR between"),
        tuple(match.row() for match in shown),
        note if ranked[0].largest and ranked[0].means[1] == 0 else "",
    )


def _reached_table(means: Mapping[str, Numbers], names: Sequence[str]) -> Table:
    rows = []
    for name in names:
        these, usual = means[f"{name}/these"], means[f"{name}/usual"]
        gaps = [f"{these[key] - usual[key]:+.{METRICS[key].digits}f}" for key in these]
        numbers = (numbers_text(one, unit=False) for one in (these, usual))
        rows.append((name, *numbers, " / ".join(gaps)))
    return Table(
        f"What is reached from them: PSNR-Y (dB) / SSIM-Y, protocol {_PROTOCOL.name}",
        ("upscaled by", "these LR files", "the usual LR files", "difference"),
        tuple(rows),
    )
