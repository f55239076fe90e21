"""A run of this suite: are its measurements sound?"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from sr_lightning.doctor.diagnosis import Diagnosis, Finding, Table
from sr_lightning.doctor.explain import Expected
from sr_lightning.errors import UserError
from sr_lightning.runs import RunFolder

__all__ = ["bicubic_row", "diagnose_run"]

# A decoder of JPEG (B100) may differ by a level.
_CLOSE = 0.005


@lru_cache(maxsize=1)
def _rows() -> dict[str, dict[str, dict[str, tuple[float, float]]]]:
    """Bicubic rows by protocol, set and scale, measured by this suite on the reference images."""
    text = Path(__file__).with_name("bicubic_rows.json").read_text(encoding="utf-8")
    rows: dict[str, dict[str, dict[str, tuple[float, float]]]] = json.loads(text)
    return rows


def bicubic_row(protocol: str, group: str, scale: float) -> tuple[float, float] | None:
    """PSNR (dB) and SSIM that bicubic must have on a set, or None where it is not recorded."""
    row = _rows().get(protocol, {}).get(group, {}).get(f"x{scale:g}")
    return None if row is None else (row[0], row[1])


def diagnose_run(folder: Path, expected: Expected | None = None) -> Diagnosis:
    """Judge a tested run by its bicubic row, which no network changes.

    Args:
        folder: of the run.
        expected: number that the user expected of it.

    Raises:
        UserError: it was not tested.
    """
    run = RunFolder.existing(folder)
    means: list[dict[str, Any]] = [
        one
        for one in run.summary()["means"]
        if one.get("psnr") is not None and one.get("ssim") is not None
    ]
    if not means:
        raise UserError(f"{run.results} has no PSNR and SSIM to judge; test the run with both.")
    cells = [(one["set"], float(one["scale"]), one["protocol"], one["method"]) for one in means]
    sound, findings = [], []
    for (group, scale, protocol, method), one in zip(cells, means, strict=True):
        must = bicubic_row(protocol, group, scale) if method == "bicubic" else None
        if must is None:
            continue
        label = f"{group} x{scale:g} under {protocol}"
        if abs(one["psnr"] - must[0]) <= _CLOSE and abs(one["ssim"] - must[1]) <= _CLOSE / 10:
            sound.append(label)
        else:
            findings.append(
                Finding(
                    "problem",
                    f"bicubic has {one['psnr']:.2f} dB / {one['ssim']:.4f} on {label}, but must "
                    f"have {must[0]:.2f} / {must[1]:.4f}: the images are not the set's, or the LR "
                    "files not the usual ones",
                    f"check them: sr-lightning prepare --check {group.lower()}; sr-lightning "
                    "doctor --hr HR --lr LR",
                )
            )
    nearest = _nearest(means, expected)
    return Diagnosis(
        "run",
        str(run.path),
        _verdict(sound, findings, nearest, expected),
        tuple(findings),
        (_table(means),),
        {"means": means, "sound": sound, "nearest_to_expected": nearest},
    )


def _nearest(means: list[dict[str, Any]], expected: Expected | None) -> dict[str, Any] | None:
    """The mean of the run that is nearest to what was expected, if it explains it."""
    if expected is None:
        return None
    own = [one for one in means if one["method"] != "bicubic"] or means
    nearest = min(own, key=lambda one: abs(one["psnr"] - expected.psnr))
    decibels = abs(nearest["psnr"] - expected.psnr)
    similar = 0.0 if expected.ssim is None else abs(nearest["ssim"] - expected.ssim)
    tolerance = expected.tolerance
    return nearest if decibels <= tolerance[0] and similar <= tolerance[1] else None


def _verdict(
    sound: list[str],
    findings: list[Finding],
    nearest: dict[str, Any] | None,
    expected: Expected | None,
) -> str:
    if findings:
        verdict = f"The measurements of this run are not sound: {findings[0].text}."
    elif sound:
        verdict = (
            f"The measurements of this run are sound: its bicubic row is right ({sound[0]}"
            + (f" and {len(sound) - 1} more" if len(sound) > 1 else "")
            + "), so images, LR and protocol are right, and a gap to a paper is the network's."
        )
    else:
        verdict = (
            "This run was tested on no set whose bicubic row is known (Set5, Set14, B100 at x2, "
            "x3, x4), so its measurements cannot be checked by it."
        )
    if nearest is not None and expected is not None:
        verdict += (
            f" The expected {expected.text} is its number on {nearest['set']} "
            f"x{nearest['scale']:g} under {nearest['protocol']}."
        )
    elif expected is not None:
        verdict += (
            f" None of its numbers is the expected {expected.text}; measure its images with "
            "--hr and --sr to see which convention explains it."
        )
    return verdict


def _table(means: list[dict[str, Any]]) -> Table:
    rows = []
    for one in means:
        must = None
        if one["method"] == "bicubic":
            must = bicubic_row(one["protocol"], one["set"], one["scale"])
        rows.append(
            (
                one["method"],
                f"{one['set']} x{one['scale']:g} ({one['images']})",
                one["protocol"],
                f"{one['psnr']:.2f} / {one['ssim']:.4f}",
                f"{must[0]:.2f} / {must[1]:.4f}" if must else "",
            )
        )
    return Table(
        "PSNR (dB) / SSIM of the run",
        ("method", "set", "protocol", "measured", "must be"),
        tuple(rows),
    )
