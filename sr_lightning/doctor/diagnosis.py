"""What the doctor found, as data; :mod:`sr_lightning.doctor.cli` shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from sr_lightning.data.integrity import listed

__all__ = [
    "Diagnosis",
    "Fault",
    "Finding",
    "Numbers",
    "Table",
    "faults_found",
    "mean_numbers",
]

Numbers = dict[str, float]
"""Values by metric."""


def mean_numbers(rows: Sequence[Numbers]) -> Numbers:
    """The mean of each metric over images; images that are too small for one are left out of it."""
    return {metric: float(np.nanmean([one[metric] for one in rows])) for metric in rows[0]}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: "problem" for what makes numbers incomparable, "note" for what is good to know.
        text: Sentence that says what was found.
        remedy: What to do about it; empty where there is nothing to do.
    """

    kind: Literal["problem", "note"]
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Fault:
    """A row of a table of faults that image files can have.

    Attributes:
        test: Whether a file has it, judged by what was seen of the file; a text says more.
        text: Sentence in which ``{are}`` becomes which files are so ("2 of 5 SR files (a.png,
            b.png) are"), ``{those}`` their names, ``{some}`` their number and ``{list}`` their
            names with what the test says of each.
        remedy: What to do about it; empty where there is nothing to do.
        kind: See :class:`Finding`.
    """

    test: Callable[[Any], bool | str]
    text: str
    remedy: str
    kind: Literal["problem", "note"] = "problem"


def faults_found(faults: Sequence[Fault], images: Sequence[Any], files: str) -> list[Finding]:
    """The faults that any file has, with the files that have them.

    Args:
        faults: Table of what to look for.
        images: What was seen of each file; all have a ``name``.
        files: What to call a file: "SR file", "LR file".
    """
    found = []
    for fault in faults:
        having = {image.name: said for image in images if (said := fault.test(image))}
        if not having:
            continue
        names, every = [*having], len(having) == len(images)
        all_of_them = f"all {files}s" if len(images) > 1 else f"the {files}"
        those = all_of_them if every else listed(names)
        some = f"{len(having)} of {len(images)} {files}s"
        verb = "are" if len(having) > 1 else "is"
        words = {
            "are": f"{those if every else f'{some} ({listed(names, 3)})'} {verb}",
            "those": those,
            "some": some,
            "list": listed([f"{name} {said}" for name, said in having.items()], 3),
        }
        found.append(Finding(fault.kind, fault.text.format_map(words), fault.remedy))
    return found


@dataclass(frozen=True)
class Table:
    """Rows for people, already formatted.

    Attributes:
        title: What it shows.
        columns: Headings; the first column is text, the others are numbers.
        rows: Cells of each row.
        note: Line below the table; may be empty.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """The answer about one folder.

    Attributes:
        kind: "lr", "sr", "set" or "run".
        subject: What was looked at.
        verdict: Sentence that is the answer.
        findings: What was found, problems first.
        tables: Evidence for people.
        facts: The same for machines.
    """

    kind: Literal["lr", "sr", "set", "run"]
    subject: str
    verdict: str
    findings: tuple[Finding, ...] = ()
    tables: tuple[Table, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        """Whether no problem was found."""
        return not any(finding.kind == "problem" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Everything but the tables, which repeat the facts in words."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "verdict": self.verdict,
            "healthy": self.healthy,
            "findings": [asdict(finding) for finding in self.findings],
            **self.facts,
        }
