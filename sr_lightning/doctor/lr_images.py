"""Which resize made these LR images, and what does it cost?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sr_lightning.cubic import upscaled_size
from sr_lightning.data.degradation import bicubic_up, downscale
from sr_lightning.data.images import read_picture, to_tensor
from sr_lightning.data.integrity import is_lossy, listed
from sr_lightning.data.near_duplicates import perceptual_hash
from sr_lightning.doctor.diagnosis import (
    Diagnosis,
    Fault,
    Finding,
    Numbers,
    Table,
    mean_numbers,
    tell_faults,
)
from sr_lightning.doctor.estimators import is_colourless, jpeg_quality, wrong_partners
from sr_lightning.doctor.known_sets import hr_findings
from sr_lightning.doctor.pairs import (
    FilePair,
    image_size,
    pair_files,
    pairing_findings,
    scale_of_sizes,
)
from sr_lightning.doctor.resizers import REFERENCE, RESIZERS, SCALAR, Pixels, Resizer
from sr_lightning.errors import UserError
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.metrics.quality import METRICS, numbers_text

__all__ = ["diagnose_low"]

Upscale = Callable[[Tensor, float], Tensor]
Progress = Callable[[Sequence[FilePair], str], Iterator[FilePair]]

# Every resize is tried on the first images; on the others, only these many of the nearest.
_TRIED_ON, _KEPT = 3, 5

# Rounding of halves differs between versions and processors; nothing else is as small.
_ROUNDING = 0.05

# Pixels of the LR rim that borders can reach.
_RIM = 3


@dataclass
class _Match:
    """How near one resize comes to the LR files, summed over images."""

    resizer: Resizer
    uncropped: bool
    images: list[str] = field(default_factory=list)
    exact: list[str] = field(default_factory=list)
    differing: int = 0
    inside: int = 0
    largest: int = 0
    squares: float = 0.0
    count: int = 0

    def add(self, name: str, made: Pixels, there: Pixels) -> None:
        error = np.abs(made.astype(np.int16) - there)
        differs = error > 0
        self.images.append(name)
        self.differing += int(differs.sum())
        self.inside += int(differs[_RIM:-_RIM, _RIM:-_RIM].sum())
        self.largest = max(self.largest, int(error.max()))
        self.squares += float(np.square(error.astype(np.float64)).sum())
        self.count += error.size
        if not differs.any():
            self.exact.append(name)

    @property
    def label(self) -> str:
        return self.resizer.label + (
            ", of HR images that were not cropped" if self.uncropped else ""
        )

    @property
    def share(self) -> float:
        """Part of the bytes that differ."""
        return self.differing / self.count

    @property
    def error(self) -> float:
        """Mean squared difference."""
        return self.squares / self.count

    @property
    def decibels(self) -> float:
        return float("inf") if self.squares == 0 else float(10 * np.log10(255**2 / self.error))

    @property
    def same(self) -> bool:
        """Whether every byte is the same."""
        return self.differing == 0

    @property
    def rounding_only(self) -> bool:
        """Whether the difference may be one of rounding halves."""
        return self.largest <= 1 and self.share <= _ROUNDING

    def row(self) -> tuple[str, ...]:
        if self.same:
            return (self.label, "0 %", "0", "identical")
        share = f"{100 * self.share:.2f} %" if self.share < 0.1 else f"{100 * self.share:.0f} %"
        return (self.label, share, str(self.largest), f"{self.decibels:.1f} dB")

    def as_json(self) -> dict[str, Any]:
        return {
            "resize": self.resizer.key,
            "label": self.label,
            "uncropped_hr": self.uncropped,
            "images": len(self.images),
            "identical_images": len(self.exact),
            "differing_bytes": self.share,
            "differing_bytes_inside": self.inside / self.count,
            "max_difference": self.largest,
            "psnr_between": None if self.same else self.decibels,
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
    worth: dict[str, Numbers] | None = None


@dataclass
class _Evidence:
    """What the images showed."""

    matches: dict[tuple[str, bool], _Match] = field(default_factory=dict)
    images: list[_Seen] = field(default_factory=list)

    @property
    def spoilt(self) -> bool:
        """Whether JPEG changed any file."""
        return any(one.lossy or one.quality for one in self.images)

    @property
    def worth(self) -> list[dict[str, Numbers]]:
        """What is reached from each image, where it could be measured."""
        return [one.worth for one in self.images if one.worth is not None]

    def ranked(self) -> list[_Match]:
        """Nearest first; a resize that was not tried on every image comes after."""
        most = max((len(match.images) for match in self.matches.values()), default=0)
        return sorted(
            self.matches.values(), key=lambda m: (len(m.images) < most, m.error, m.uncropped)
        )


def diagnose_low(
    high: Sequence[Path],
    low: Sequence[Path],
    scale: float | None = None,
    *,
    subject: str = "LR images",
    upscale: tuple[str, Upscale] | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Find out which resize made LR images.

    Args:
        high: HR files.
        low: LR files.
        scale: of the task; default: what the sizes tell.
        subject: what is looked at, for the title.
        upscale: name and function of a network, (1, 3, h, w) and scale to (1, 3, H, W), to tell
            what other LR images cost it; bicubic is always told.
        progress: shows progress over pairs.

    Raises:
        UserError: nothing can be paired, or a file cannot be used.
    """
    pairing = pair_files(high, low)
    if not pairing.pairs:
        raise UserError(
            f"No LR file in {low[0].parent} belongs to an HR file in {high[0].parent} by its name "
            f"({low[0].name}, {high[0].name}); name matching folders in --hr and --lr."
        )
    scale = scale or scale_of_sizes(
        [(image_size(pair.high), image_size(pair.other)) for pair in pairing.pairs]
    )
    if scale < 1.05:
        raise UserError(
            f"{pairing.pairs[0].other} is not smaller than its HR image; for super-resolved images "
            "use --sr instead of --lr."
        )
    evidence = _Evidence()
    shown = progress or (lambda pairs, _: iter(pairs))
    for pair in shown(pairing.pairs, "Comparing resizes"):
        _examine(pair, scale, evidence, upscale)
    if all(one.size for one in evidence.images):
        sizes = listed([f"{one.name} ({one.size})" for one in evidence.images], 3)
        raise UserError(f"No LR image has the size that x{scale:g} wants: {sizes}; check --scale.")
    findings = [
        *pairing_findings(pairing, "LR"),
        *tell_faults(_faults(evidence, scale), evidence.images, "LR file"),
        *hr_findings(high),
    ]
    return _conclude(evidence, scale, subject, findings, upscale[0] if upscale else None)


def _examine(
    pair: FilePair, scale: float, evidence: _Evidence, upscale: tuple[str, Upscale] | None
) -> None:
    big, lr = read_picture(pair.high), read_picture(pair.other).rgb
    hr, lossy = big.rgb, is_lossy(pair.other)
    seen = _Seen(
        pair.other.name,
        (perceptual_hash(hr), perceptual_hash(lr)),
        lossy,
        None if lossy else jpeg_quality(lr),
    )
    evidence.images.append(seen)
    cut = upscaled_size((lr.shape[0], lr.shape[1]), scale)
    whole = (hr.shape[0], hr.shape[1])
    slack = max(2.0, scale)
    if any(abs(a - b) > slack for a, b in zip(cut, whole, strict=True)):
        seen.size = f"{lr.shape[1]} x {lr.shape[0]}, its HR image {whole[1]} x {whole[0]}"
        return
    seen.larger = cut[0] > whole[0] or cut[1] > whole[1]
    seen.colourless = is_colourless(lr) and not is_colourless(hr)
    if seen.colourless:
        return
    sources = _sources(hr, cut)
    seen.swapped = _is_swapped(sources, lr)
    if seen.swapped:
        lr = np.ascontiguousarray(lr[..., ::-1])
    _compare(seen.name, sources, lr, evidence)
    # Of a tiny image, nothing is left without its border.
    if not seen.larger and min(cut) > 2 * round(scale):
        seen.worth = _worth(hr[: cut[0], : cut[1]], lr, scale, big.grey, upscale)


def _sources(hr: Pixels, cut: tuple[int, int]) -> list[tuple[Pixels, bool]]:
    """HR pixels that may have been downscaled: cropped for the scale, and as they are."""
    sources = []
    if cut[0] <= hr.shape[0] and cut[1] <= hr.shape[1]:
        sources.append((hr[: cut[0], : cut[1]], False))
    if cut != hr.shape[:2]:
        sources.append((hr, True))
    return sources


def _is_swapped(sources: Sequence[tuple[Pixels, bool]], lr: Pixels) -> bool:
    """Whether red and blue are swapped, judged by the mean of each cell."""
    source = sources[0][0]
    size = (lr.shape[0], lr.shape[1])
    plain = REFERENCE.make(source, size).astype(np.float64)
    straight = float(np.square(plain - lr).mean())
    turned = float(np.square(plain - lr[..., ::-1]).mean())
    return turned < straight / 2


def _compare(
    name: str, sources: Sequence[tuple[Pixels, bool]], lr: Pixels, evidence: _Evidence
) -> None:
    size = (lr.shape[0], lr.shape[1])
    kept = None
    if len(evidence.images) > _TRIED_ON and evidence.matches:
        kept = {(m.resizer.key, m.uncropped) for m in evidence.ranked()[:_KEPT]}
    for only in (kept, None):
        # What none of the nearest made may be the work of another resize: then all are tried.
        for source, uncropped in sources:
            for resizer in (*RESIZERS, *(SCALAR if uncropped else ())):
                key = (resizer.key, uncropped and resizer not in SCALAR)
                match = evidence.matches.get(key)
                if only is not None and key not in only:
                    continue
                if match is not None and name in match.images:
                    continue
                if match is None:
                    match = evidence.matches[key] = _Match(resizer, key[1])
                match.add(name, resizer.make(source, size), lr)
        done = [m for m in evidence.matches.values() if name in m.images]
        if any(name in m.exact for m in done) or not any(m.exact for m in done):
            break


def _worth(
    hr: Pixels,
    lr: Pixels,
    scale: float,
    grey: bool,
    upscale: tuple[str, Upscale] | None,
) -> dict[str, Numbers]:
    """Numbers that bicubic and a network reach from these LR pixels and from the usual."""
    truth = to_tensor(hr)[None]
    levels = torch.from_numpy(np.ascontiguousarray(hr.transpose(2, 0, 1)))
    usual = downscale(levels, scale).float().div(255)[None]
    ways: dict[str, Upscale] = {"bicubic": bicubic_up}
    if upscale is not None:
        ways[upscale[0]] = upscale[1]
    protocol = PROTOCOLS["edsr2017"]
    result: dict[str, Numbers] = {}
    for way, function in ways.items():
        for which, image in (("these", to_tensor(lr)[None]), ("usual", usual)):
            sr = function(image, scale)
            result[f"{way}/{which}"] = protocol.measure(sr, truth, scale, grey)
    return result


# ---- conclusions ---------------------------------------------------------------------------------


def _faults(evidence: _Evidence, scale: float) -> list[Fault[_Seen]]:
    """Faults of single files."""
    images = evidence.images
    wrong = wrong_partners([one.name for one in images], [one.hashes for one in images])
    return [
        Fault(
            lambda one: one.lossy,
            "{are} JPEG or lossy WebP; bicubic networks are not made to undo that, and bytes "
            "cannot be compared",
            "make LR images again and save them as PNG",
        ),
        Fault(
            lambda one: f"(quality about {one.quality})" if one.quality else "",
            "lossless files whose pixels once went through JPEG: {list}",
            "make LR images again from the HR images and save them as PNG",
        ),
        Fault(
            lambda one: one.colourless,
            "{are} grey though the HR image is in colour",
            "make LR images in colour; networks that see only luminance convert by themselves",
        ),
        Fault(
            lambda one: one.swapped,
            "red and blue are swapped in {those} (OpenCV reads and writes BGR)",
            "write image[..., ::-1]; below they are compared with their channels put right",
        ),
        Fault(
            lambda one: wrong.get(one.name, ""),
            "{some} do not show their HR image: {list}",
            "give files the names of their HR images",
        ),
        Fault(
            lambda one: one.larger,
            f"{{those}}: a pixel larger than HR / {scale:g} rounded down, as resizes make of HR "
            "images that were not cropped; upscaled again, they do not fit their HR image",
            f"crop HR images to a multiple of {scale:g} first ('modcrop')",
        ),
        Fault(
            lambda one: one.size and f"({one.size})",
            f"not the size that x{scale:g} wants: {{list}}",
            "leave these out, or give the LR files of this set and scale",
        ),
    ]


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
        return Diagnosis(
            "lr",
            subject,
            "The LR images are grey although the HR images are in colour, so that no resize can be "
            "recognised.",
            tuple(findings),
            facts=facts,
        )
    verdict, cause = _verdict(ranked, evidence)
    tables = [_match_table(ranked)]
    if evidence.worth:
        means = {
            key: mean_numbers([one[key] for one in evidence.worth]) for key in evidence.worth[0]
        }
        facts["upscaled"] = {
            key: {**numbers, "protocol": "edsr2017"} for key, numbers in means.items()
        }
        if cause is None and network is None:
            reached = numbers_text(means["bicubic/these"])
            verdict += (
                f" MATLAB's bicubic upscaling of them has {reached} (PSNR-Y / SSIM-Y, protocol "
                "edsr2017)."
            )
        else:
            tables.append(_worth_table(means))
        if cause is not None:
            gap = means["bicubic/these"]["psnr"] - means["bicubic/usual"]["psnr"]
            told = f"bicubic upscaling of them gives {gap:+.2f} dB"
            if network is not None:
                theirs = means[f"{network}/these"]["psnr"] - means[f"{network}/usual"]["psnr"]
                told += f", {network} {theirs:+.2f} dB"
            verdict += f" Beside the usual LR images, {told} (mean PSNR-Y, edsr2017)."
    if cause is not None:
        findings = [cause, *findings]
    facts["made_by"] = ranked[0].resizer.key if _told(ranked[0]) else None
    return Diagnosis("lr", subject, verdict, tuple(findings), tuple(tables), facts)


def _told(match: _Match) -> bool:
    """Whether a resize made the files: by all bytes, or all but rounding."""
    return match.same or match.rounding_only


def _verdict(ranked: Sequence[_Match], evidence: _Evidence) -> tuple[str, Finding | None]:
    """The sentence, and the finding with the remedy where one is needed."""
    best = ranked[0]
    mixed = {m.label: m.exact for m in ranked if m.exact and len(m.exact) < len(m.images)}
    if _told(best):
        alike = [m for m in ranked if m.same and best.same and m.images == best.images]
        if len(alike) > 1:
            labels = [match.label for match in alike]
            sentence = (
                f"These LR images were made, byte for byte, by {', '.join(labels[:-1])} or "
                f"{labels[-1]}, which cannot be told apart here."
            )
        else:
            sentence = f"These LR images were made by {best.label}, {_exactness(best)}."
        if best.resizer is REFERENCE and not best.uncropped:
            return f"{sentence} Nothing needs to be corrected.", None
        kind: Literal["problem", "note"] = "note" if _harmless(best) else "problem"
        remedy = _remedy(best)
        return sentence, Finding(
            kind, f"the LR images are not the usual ones: {best.label}", remedy
        )
    if mixed and not evidence.spoilt:
        parts = [f"{label}: {listed(names, 3)}" for label, names in list(mixed.items())[:3]]
        unknown = len(evidence.images) - len({name for names in mixed.values() for name in names})
        if unknown:
            parts.append(f"unknown: {unknown} files")
        return (
            f"These LR images were made in several ways ({'; '.join(parts)}).",
            Finding("problem", "the LR images are a mixture", "make all of them again in one way"),
        )
    near = (
        f"the nearest is {best.label} ({best.decibels:.1f} dB, {100 * best.share:.0f} % of the "
        f"bytes differ, by at most {best.largest})"
    )
    if evidence.spoilt:
        return (
            f"JPEG hides which resize made these LR images; {near}.",
            None
            if best.resizer is REFERENCE
            else Finding("note", f"as far as JPEG lets tell: {best.label}", _remedy(best)),
        )
    return (
        f"None of the {len(RESIZERS)} resizes that doctor knows made these LR images; {near}.",
        Finding(
            "problem",
            "the LR images come from an unknown resize, degradation or later edit",
            "if the task is bicubic super-resolution, make them again from the HR images; else "
            "compare only with numbers on the same files",
        ),
    )


def _exactness(match: _Match) -> str:
    if match.same:
        return "byte for byte"
    return (
        f"but for rounding ({100 * match.share:.2f} % of the bytes differ by one level, which "
        "versions and processors do)"
    )


def _harmless(match: _Match) -> bool:
    """Whether it is the same task, with results that move by hundredths of a dB."""
    return not match.uncropped and match.resizer.key in {
        "matlab_symmetric",
        "matlab_float",
        "matlab_float_replicate",
        "pil_bicubic",
        "torch_antialias",
    }


def _remedy(match: _Match) -> str:
    if match.uncropped:
        return (
            "crop HR images to a multiple of the scale first ('modcrop') and make LR images again; "
            "'sr-lightning test' makes its own from the HR images"
        )
    return match.resizer.remedy


def _match_table(ranked: Sequence[_Match]) -> Table:
    shown = list(ranked[:6])
    # The usual one is what a user compares with.
    shown += [m for m in ranked[6:] if m.resizer is REFERENCE and not m.uncropped]
    best = ranked[0]
    note = ""
    if not best.same and best.differing and best.inside == 0:
        note = f"The nearest differs only in the outermost {_RIM} pixels, where borders matter."
    return Table(
        "LR files beside what each resize makes of the HR images",
        ("resize", "differing bytes", "largest difference", "PSNR between"),
        tuple(match.row() for match in shown),
        note,
    )


def _worth_table(means: Mapping[str, Numbers]) -> Table:
    rows = []
    for way in dict.fromkeys(key.rsplit("/", 1)[0] for key in means):
        these, usual = means[f"{way}/these"], means[f"{way}/usual"]
        rows.append(
            (
                way,
                numbers_text(these, unit=False),
                numbers_text(usual, unit=False),
                " / ".join(
                    f"{value - usual[metric]:+.{METRICS[metric].digits}f}"
                    for metric, value in these.items()
                ),
            )
        )
    return Table(
        "What is reached from them: PSNR-Y (dB) / SSIM-Y, protocol edsr2017",
        ("upscaled by", "these LR files", "the usual LR files", "difference"),
        tuple(rows),
    )
