"""Recognising public sets by their pixels, and saying whether they are what papers mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sr_lightning.data.catalog import ImageSet, SetFacts, catalog, known_set, locate_set
from sr_lightning.data.integrity import (
    Measured,
    Report,
    check_set,
    is_lossy,
    measure,
    references,
)
from sr_lightning.data.near_duplicates import LOOKS_ALIKE, SAME_PICTURE, hash_distance
from sr_lightning.data.store import StoredImage
from sr_lightning.doctor.diagnosis import Diagnosis, Finding
from sr_lightning.errors import UserError

__all__ = ["diagnose_set", "high_of", "hr_findings"]

# Decoding more images only to recognise the set would take longer than the diagnosis.
_MOST = 500

# Crops up to a multiple of 12 are what x2, x3 and x4 need.
_CROP = 12


def _facts_of(measured: Sequence[Measured]) -> SetFacts | None:
    """The public set that most of these images belong to, by what they show."""
    votes: Counter[str] = Counter()
    for facts in catalog().values():
        known = references(facts.name)
        for image in measured:
            if image.phash and any(
                image.sha256[:16] == one.sha256
                or hash_distance(image.phash, one.phash) <= SAME_PICTURE
                for one in known
            ):
                votes[facts.name] += 1
    best = votes.most_common(1)
    if not best or 2 * best[0][1] < len(measured):
        return None
    return known_set(best[0][0])


def _report(files: Sequence[Path]) -> tuple[Report, list[Measured]]:
    measured = measure(files)
    folder = files[0].parent
    inside_hr = folder.name.lower() in {"hr", "gt"}
    name = folder.resolve().parent.name if inside_hr else folder.name
    facts = _facts_of(measured)
    images = ImageSet(facts.name if facts else name, folder, tuple(files), facts)
    decoded = [
        StoredImage(
            name=one.file.stem,
            source=str(one.file),
            height=one.height,
            width=one.width,
            offset=0,
            sha256=one.sha256,
            phash=one.phash,
            grey=one.grey,
        )
        for one in measured
    ]
    return check_set(images, decoded), measured


def hr_findings(files: Sequence[Path]) -> list[Finding]:
    """What is to be said about HR images before anything is compared with them.

    Args:
        files: all HR files.
    """
    if len(files) > _MOST:
        return []
    report, measured = _report(files)
    found = []
    if unreadable := [one.file.name for one in measured if not one.sha256]:
        raise UserError(
            f"The file {files[0].parent / unreadable[0]} is damaged or not an image; fetch it "
            "again or remove it."
        )
    if report.matching is not None and _only_cropped(report.name, measured):
        cropped = report.found - report.matching
        if cropped:
            found.append(
                Finding(
                    "note",
                    f"{cropped} of {report.found} HR images are {report.name}'s cropped by some "
                    "pixels (as for a multiple of the scale), so that their pixels cannot be "
                    "checked against the set's",
                )
            )
        if report.expected is not None and report.found < report.expected:
            found.append(
                Finding(
                    "note",
                    f"the HR images are {report.found} of {report.name}'s {report.expected}; "
                    "published means are over all of them",
                )
            )
        return found
    if report.expected is not None:
        found += [
            Finding(
                "problem",
                f"the HR images are not {report.name} as papers use it: {problem}",
                f"get the set again: sr-lightning prepare {report.name.lower()}",
            )
            for problem in report.problems
        ]
    return found


def high_of(files: Sequence[Path], root: Path | None = None) -> tuple[Path, ...] | None:
    """HR files of the public set whose images these LR or SR files show, if it is there.

    Args:
        files: of one folder.
        root: where image sets lie; default ``SR_DATA`` or ``./data``.
    """
    if len(files) > _MOST:
        return None
    report, _ = _report(files)
    if report.matching != 0:
        return None
    facts = known_set(report.name)
    there = locate_set(facts, root) if facts is not None else None
    if there is None or there.folder.resolve() == files[0].parent.resolve():
        return None
    return there.files


def _only_cropped(name: str, measured: Sequence[Measured]) -> bool:
    """Whether every image is one of a set, exact or with some rows and columns cut off."""
    known = references(name)
    for image in measured:
        if any(image.sha256[:16] == one.sha256 for one in known):
            continue
        if is_lossy(image.file) or not any(
            hash_distance(image.phash, one.phash) <= LOOKS_ALIKE
            and 0 <= one.height - image.height < _CROP
            and 0 <= one.width - image.width < _CROP
            and (one.height, one.width) != (image.height, image.width)
            for one in known
        ):
            return False
    return True


def diagnose_set(files: Sequence[Path]) -> Diagnosis:
    """Is a folder of HR images what papers mean by it?

    Args:
        files: of one folder.
    """
    report, _ = _report(files)
    findings = [
        *(Finding("problem", problem, _remedy(report)) for problem in report.problems),
        *(Finding("note", note) for note in report.notes),
    ]
    if report.expected is None:
        verdict = (
            f"{report.found} images that are no public set that doctor knows by its pixels; as "
            "--hr, with --lr or --sr, LR or super-resolved images are compared with them."
        )
    elif report.matching == 0:
        verdict = (
            f"These are not {report.name}'s HR images, but others that show the same, such as LR "
            "or super-resolved ones: name the HR images with --hr and these with --lr or --sr."
        )
    elif report.problems:
        verdict = (
            f"This is not {report.name} as papers use it ({report.summary}): numbers on it do not "
            "compare with published ones."
        )
    else:
        verdict = f"This is {report.name}: {report.summary}."
    facts = {
        "set": report.name if report.expected is not None else None,
        "images": report.found,
        "expected_images": report.expected,
        "reference_images": report.matching,
    }
    return Diagnosis("set", str(report.folder), verdict, tuple(findings), facts=facts)


def _remedy(report: Report) -> str:
    if report.expected is None:
        return "fetch the files again or remove them"
    meant = "if these are meant to be the HR images, " if report.matching == 0 else ""
    return f"{meant}get the set again: sr-lightning prepare {report.name.lower()}"
