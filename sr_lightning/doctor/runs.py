"""A run of this suite: are its measurements sound?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from sr_lightning.doctor.conventions import Explanation
from sr_lightning.doctor.diagnosis import Diagnosis, Finding, Table, finding
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
        folder: Folder of the run.
        expected: Number that the user expected of it.

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
    must_be = [_must_be(one) for one in means]
    sound, findings = [], []
    for one, must in zip(means, must_be, strict=True):
        if must is None:
            continue
        place = f"{one['set']} x{one['scale']:g} under {one['protocol']}"
        if abs(one["psnr"] - must[0]) <= _CLOSE and abs(one["ssim"] - must[1]) <= _CLOSE / 10:
            sound.append(place)
        else:
            words = {"place": place, "must_psnr": must[0], "must_ssim": must[1]}
            words |= {"psnr": one["psnr"], "ssim": one["ssim"], "set": one["set"].lower()}
            findings.append(finding("run_bicubic", **words))
    verdict, nearest = _verdict(sound, findings), None
    if expected is not None:
        own = [one for one in means if one["method"] != "bicubic"] or means
        nearest = min(own, key=lambda one: abs(one["psnr"] - expected.psnr))
        if expected.band(Explanation((), nearest["psnr"], nearest["ssim"])) == 0:
            verdict += (
                f" The expected {expected.text} is its number on {nearest['set']} "
                f"x{nearest['scale']:g} under {nearest['protocol']}."
            )
        else:
            nearest = None
            verdict += (
                f" None of its numbers is the expected {expected.text}; measure its images with "
                "--hr and --sr to see which convention explains it."
            )
    facts = {"means": means, "sound": sound, "nearest_to_expected": nearest}
    table = _table(means, must_be)
    return Diagnosis("run", str(run.path), verdict, tuple(findings), (table,), facts)


def _must_be(one: Mapping[str, Any]) -> tuple[float, float] | None:
    """What a mean of a run must be, where it is bicubic's."""
    row = bicubic_row(one["protocol"], one["set"], float(one["scale"]))
    return row if one["method"] == "bicubic" else None


def _verdict(sound: list[str], findings: list[Finding]) -> str:
    if findings:
        return f"The measurements of this run are not sound: {findings[0].text}."
    if sound:
        more = f" and {len(sound) - 1} more" if len(sound) > 1 else ""
        return (
            f"The measurements of this run are sound: its bicubic row is right ({sound[0]}{more}), "
            "so images, LR and protocol are right, and a gap to a paper is the network's."
        )
    known = ", ".join(_rows()["edsr2017"])
    return (
        f"This run was tested on no set whose bicubic row is known ({known} at x2, x3, x4), so its "
        "measurements cannot be checked by it."
    )


def _table(means: list[dict[str, Any]], must_be: list[tuple[float, float] | None]) -> Table:
    rows = (
        (
            one["method"],
            f"{one['set']} x{one['scale']:g} ({one['images']})",
            one["protocol"],
            f"{one['psnr']:.2f} / {one['ssim']:.4f}",
            f"{must[0]:.2f} / {must[1]:.4f}" if must else "",
        )
        for one, must in zip(means, must_be, strict=True)
    )
    columns = ("method", "set", "protocol", "measured", "must be")
    return Table("PSNR (dB) / SSIM of the run", columns, tuple(rows))
