"""Whether HR images are the public set that papers mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sr_lightning.data.catalog import ImageSet, known_set, locate_set
from sr_lightning.data.integrity import (
    ImageRecord,
    Report,
    check_set,
    measure,
    only_cropped,
    recognised,
    unrecorded,
)
from sr_lightning.doctor.diagnosis import Diagnosis, Finding, finding
from sr_lightning.errors import UserError

__all__ = ["diagnose_set", "hr_findings", "set_shown_in"]

# Decoding more images only to recognise the set would take longer than the diagnosis.
_MOST = 500


def _report(files: Sequence[Path]) -> tuple[Report, list[ImageRecord]]:
    measured = measure(files)
    folder = files[0].parent
    own = folder.resolve().parent if folder.name.lower() in {"hr", "gt"} else folder
    facts = recognised(measured)
    images = ImageSet(facts.name if facts else own.name, folder, tuple(files), facts)
    return check_set(images, measured), measured


def hr_findings(files: Sequence[Path]) -> list[Finding]:
    """What is to be said about HR images before anything is compared with them.

    Args:
        files: All HR files.

    Raises:
        UserError: one of them cannot be read.
    """
    if len(files) > _MOST:
        return []
    report, measured = _report(files)
    if unreadable := [one.file.name for one in measured if not one.sha256]:
        raise UserError(
            f"The file {files[0].parent / unreadable[0]} is damaged or not an image; fetch it "
            "again or remove it."
        )
    if report.expected is None:
        return []
    name = report.name
    if report.matching is None or not only_cropped(name, measured):
        words = {"set": name, "command": name.lower()}
        return [finding("hr_not_the_set", problem=one, **words) for one in report.problems]
    found = []
    counts = {"set": name, "found": report.found, "expected": report.expected}
    if cropped := report.found - report.matching:
        found.append(finding("hr_cropped", cropped=cropped, **counts))
    if report.found < report.expected:
        found.append(finding("hr_not_all", **counts))
    return found


def set_shown_in(files: Sequence[Path], root: Path | None = None) -> ImageSet | None:
    """The public set whose images these LR or SR files show, if its HR images are at hand.

    Args:
        files: Image files of one folder.
        root: Folder where image sets lie; default: ``SR_DATA`` or ``./data``.
    """
    if len(files) > _MOST:
        return None
    report, _ = _report(files)
    foreign = report.expected is not None and not report.matching
    facts = known_set(report.name) if foreign else None
    there = locate_set(facts, root) if facts is not None else None
    itself = there is not None and there.folder.resolve() == files[0].parent.resolve()
    return None if itself else there


def diagnose_set(files: Sequence[Path]) -> Diagnosis:
    """Is a folder of HR images what papers mean by it?

    Args:
        files: Image files of one folder.
    """
    report, _ = _report(files)
    name = report.name
    remedy = f"get the set again: sr-lightning prepare {name.lower()}"
    if report.expected is None:
        remedy = "fetch the files again or remove them"
        verdict = (
            f"{report.found} images that are no public set that doctor knows by its pixels (it has "
            f"no checksums of {' and '.join(unrecorded())}); as --hr, with --lr or --sr, LR or "
            "super-resolved images are compared with them."
        )
    elif report.matching == 0:
        remedy = f"if these are meant to be the HR images, {remedy}"
        verdict = (
            f"These are not {name}'s HR images, but others that show the same, such as LR or "
            "super-resolved ones: name the HR images with --hr and these with --lr or --sr."
        )
    elif report.problems:
        verdict = (
            f"This is not {name} as papers use it ({report.summary}): numbers on it do not compare "
            "with published ones."
        )
    elif report.matching is None:
        verdict = f"By their names and sizes these may be {name}: {report.summary}."
    else:
        verdict = f"This is {name}: {report.summary}."
    findings = [
        *(Finding("problem", problem, remedy) for problem in report.problems),
        *(Finding("note", note) for note in report.notes),
    ]
    facts = {
        "set": name if report.expected is not None else None,
        "images": report.found,
        "expected_images": report.expected,
        "reference_images": report.matching,
    }
    return Diagnosis("set", str(report.folder), verdict, tuple(findings), facts=facts)
