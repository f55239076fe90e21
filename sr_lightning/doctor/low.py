"""Which resize made these LR images, and what does it cost?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sr_lightning.cubic import enlarged_size
from sr_lightning.data.degradation import bicubic_up, shrink
from sr_lightning.data.images import read_picture, to_tensor
from sr_lightning.data.integrity import is_lossy, listed
from sr_lightning.data.leaks import perceptual_hash
from sr_lightning.doctor.diagnosis import Diagnosis, Finding, Numbers, Table, mean_numbers
from sr_lightning.doctor.known_sets import hr_findings
from sr_lightning.doctor.pairs import (
    FilePair,
    image_size,
    pair_files,
    pairing_findings,
    scale_of_sizes,
)
from sr_lightning.doctor.resizers import REFERENCE, RESIZERS, SCALAR, Pixels, Resizer
from sr_lightning.doctor.traps import is_colourless, jpeg_quality, wrong_partners
from sr_lightning.errors import UserError
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.metrics.quality import METRICS, numbers_text

__all__ = ["diagnose_low"]

Enlarge = Callable[[Tensor, float], Tensor]
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
class _Evidence:
    """What the images showed."""

    matches: dict[tuple[str, bool], _Match] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    high_hashes: list[str] = field(default_factory=list)
    low_hashes: list[str] = field(default_factory=list)
    lossy: list[str] = field(default_factory=list)
    once_lossy: list[tuple[str, int]] = field(default_factory=list)
    colourless: list[str] = field(default_factory=list)
    swapped: list[str] = field(default_factory=list)
    larger: list[str] = field(default_factory=list)
    odd_sizes: list[str] = field(default_factory=list)
    worth: list[dict[str, Numbers]] = field(default_factory=list)

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
    enlarge: tuple[str, Enlarge] | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Find out which resize made LR images.

    Args:
        high: HR files.
        low: LR files.
        scale: of the task; default: what the sizes tell.
        subject: what is looked at, for the title.
        enlarge: name and function of a network, (1, 3, h, w) and scale to (1, 3, H, W), to tell
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
    sizes = [(image_size(pair.high), image_size(pair.other)) for pair in pairing.pairs]
    scale = scale or scale_of_sizes(sizes)
    if scale < 1.05:
        raise UserError(
            f"{pairing.pairs[0].other} is not smaller than its HR image; for super-resolved images "
            "use --sr instead of --lr."
        )
    evidence = _Evidence()
    shown = progress or (lambda pairs, _: iter(pairs))
    for pair in shown(pairing.pairs, "Comparing resizes"):
        _examine(pair, scale, evidence, enlarge)
    if not evidence.matches and not evidence.colourless:
        raise UserError(
            f"No LR image has the size that x{scale:g} wants: {listed(evidence.odd_sizes, 3)}; "
            "check --scale."
        )
    findings = [
        *pairing_findings(pairing, "LR"),
        *_file_findings(evidence),
        *_size_findings(evidence, scale),
        *hr_findings(high),
    ]
    return _conclude(evidence, scale, subject, findings, enlarge[0] if enlarge else None)


def _examine(
    pair: FilePair, scale: float, evidence: _Evidence, enlarge: tuple[str, Enlarge] | None
) -> None:
    big, small = read_picture(pair.high), read_picture(pair.other)
    hr, lr = big.rgb, small.rgb
    name = pair.other.name
    evidence.names.append(name)
    evidence.high_hashes.append(perceptual_hash(hr))
    evidence.low_hashes.append(perceptual_hash(lr))
    if is_lossy(pair.other):
        evidence.lossy.append(name)
    elif (quality := jpeg_quality(lr)) is not None:
        evidence.once_lossy.append((name, quality))
    cut = enlarged_size((lr.shape[0], lr.shape[1]), scale)
    whole = (hr.shape[0], hr.shape[1])
    slack = max(2.0, scale)
    if any(abs(a - b) > slack for a, b in zip(cut, whole, strict=True)):
        evidence.odd_sizes.append(
            f"{name} is {lr.shape[1]} x {lr.shape[0]}, its HR image {whole[1]} x {whole[0]}"
        )
        return
    if cut[0] > whole[0] or cut[1] > whole[1]:
        evidence.larger.append(name)
    if is_colourless(lr) and not is_colourless(hr):
        evidence.colourless.append(name)
        return
    sources = _sources(hr, cut)
    if _is_swapped(sources, lr):
        evidence.swapped.append(name)
        lr = np.ascontiguousarray(lr[..., ::-1])
    _compare(name, sources, lr, evidence)
    fits = cut[0] <= whole[0] and cut[1] <= whole[1]
    if fits:
        evidence.worth.append(_worth(hr[: cut[0], : cut[1]], lr, scale, big.grey, enlarge))


def _sources(hr: Pixels, cut: tuple[int, int]) -> list[tuple[Pixels, bool]]:
    """HR pixels that may have been shrunk: cropped for the scale, and as they are."""
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
    if len(evidence.names) > _TRIED_ON and evidence.matches:
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
    enlarge: tuple[str, Enlarge] | None,
) -> dict[str, Numbers]:
    """Numbers that bicubic and a network reach from these LR pixels and from the usual."""
    truth = to_tensor(hr)[None]
    levels = torch.from_numpy(np.ascontiguousarray(hr.transpose(2, 0, 1)))
    usual = shrink(levels, scale).float().div(255)[None]
    ways: dict[str, Enlarge] = {"bicubic": bicubic_up}
    if enlarge is not None:
        ways[enlarge[0]] = enlarge[1]
    protocol = PROTOCOLS["edsr2017"]
    result: dict[str, Numbers] = {}
    for way, function in ways.items():
        for which, image in (("these", to_tensor(lr)[None]), ("usual", usual)):
            sr = function(image, scale)
            result[f"{way}/{which}"] = protocol.measure(sr, truth, scale, grey)
    return result


# ---- conclusions ---------------------------------------------------------------------------------


def _file_findings(evidence: _Evidence) -> list[Finding]:
    found = []
    total = len(evidence.names)
    if evidence.lossy:
        found.append(
            Finding(
                "problem",
                f"{_of(evidence.lossy, total)} JPEG or lossy WebP; bicubic networks are not made "
                "to undo that, and bytes cannot be compared",
                "make LR images again and save them as PNG",
            )
        )
    if evidence.once_lossy:
        names = [f"{name} (quality about {quality})" for name, quality in evidence.once_lossy]
        found.append(
            Finding(
                "problem",
                f"lossless files whose pixels once went through JPEG: {listed(names, 3)}",
                "make LR images again from the HR images and save them as PNG",
            )
        )
    if evidence.colourless:
        found.append(
            Finding(
                "problem",
                f"{_of(evidence.colourless, total)} grey though the HR image is in colour",
                "make LR images in colour; networks that see only luminance convert by themselves",
            )
        )
    if evidence.swapped:
        found.append(
            Finding(
                "problem",
                "red and blue are swapped (OpenCV reads and writes BGR)"
                + ("" if len(evidence.swapped) == total else f" in {listed(evidence.swapped)}"),
                "write image[..., ::-1]; below they are compared with their channels put right",
            )
        )
    wrong = wrong_partners(evidence.names, evidence.high_hashes, evidence.low_hashes)
    if wrong:
        told = [f"{name} shows what {other} should" for name, other in wrong]
        found.append(
            Finding(
                "problem",
                f"{len(wrong)} of {total} files do not show their HR image: {listed(told, 3)}",
                "give files the names of their HR images",
            )
        )
    return found


def _size_findings(evidence: _Evidence, scale: float) -> list[Finding]:
    found = []
    if evidence.larger:
        found.append(
            Finding(
                "problem",
                f"{listed(evidence.larger)}: a pixel larger than HR / {scale:g} rounded down, as "
                "resizes make of HR images that were not cropped; enlarged again, they do not "
                "fit their HR image",
                f"crop HR images to a multiple of {scale:g} first ('modcrop')",
            )
        )
    if evidence.odd_sizes:
        found.append(
            Finding(
                "problem",
                f"not the size that x{scale:g} wants: {listed(evidence.odd_sizes, 3)}",
                "leave these out, or give the LR files of this set and scale",
            )
        )
    return found


def _of(names: Sequence[str], total: int) -> str:
    if len(names) == total:
        return "all files are" if total > 1 else "the file is"
    verb = "is" if len(names) == 1 else "are"
    return f"{len(names)} of {total} files ({listed(names, 3)}) {verb}"


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
        "images": len(evidence.names),
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
        facts["enlarged"] = {
            key: {**numbers, "protocol": "edsr2017"} for key, numbers in means.items()
        }
        if cause is None and network is None:
            reached = numbers_text(means["bicubic/these"])
            verdict += (
                f" MATLAB's bicubic enlargement of them has {reached} (PSNR-Y / SSIM-Y, protocol "
                "edsr2017)."
            )
        else:
            tables.append(_worth_table(means))
        if cause is not None:
            gap = means["bicubic/these"]["psnr"] - means["bicubic/usual"]["psnr"]
            told = f"bicubic enlargement of them gives {gap:+.2f} dB"
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
    spoilt = bool(evidence.lossy or evidence.once_lossy)
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
            return f"{sentence} Nothing needs to be mended.", None
        kind: Literal["problem", "note"] = "note" if _harmless(best) else "problem"
        remedy = _remedy(best)
        return sentence, Finding(
            kind, f"the LR images are not the usual ones: {best.label}", remedy
        )
    if mixed and not spoilt:
        parts = [f"{label}: {listed(names, 3)}" for label, names in list(mixed.items())[:3]]
        unknown = len(evidence.names) - len({name for names in mixed.values() for name in names})
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
    if spoilt:
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
        ("enlarged by", "these LR files", "the usual LR files", "difference"),
        tuple(rows),
    )
