"""What doctor found, as data; :mod:`sr_lightning.doctor.cli` shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np

from sr_lightning.data.integrity import listed

__all__ = ["Diagnosis", "Fault", "Finding", "Numbers", "Table", "mean_numbers", "tell_faults"]

Numbers = dict[str, float]
"""Values by metric."""


def mean_numbers(rows: Sequence[Numbers]) -> Numbers:
    """The mean of each metric over images; images that are too small for one are left out of it."""
    return {metric: float(np.nanmean([one[metric] for one in rows])) for metric in rows[0]}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: "problem" makes numbers incomparable; "note" is good to know.
        text: a sentence.
        remedy: what to do about it; empty where there is nothing to do.
    """

    kind: Literal["problem", "note"]
    text: str
    remedy: str = ""


class _Named(Protocol):
    @property
    def name(self) -> str:
        """Of the file that was looked at."""


Seen = TypeVar("Seen", bound=_Named)


@dataclass(frozen=True)
class Fault(Generic[Seen]):
    """A row of a table of faults that image files can have.

    Attributes:
        test: what is true of a file that has it; a text says more about the file.
        text: a sentence. ``{are}`` becomes which files are so ("2 of 5 SR files (a.png, b.png)
            are"), ``{those}`` their names, ``{some}`` their number and ``{list}`` their names with
            what the test says of each.
        remedy: what to do about it; empty where there is nothing to do.
        kind: see :class:`Finding`.
    """

    test: Callable[[Seen], bool | str]
    text: str
    remedy: str
    kind: Literal["problem", "note"] = "problem"


def tell_faults(faults: Sequence[Fault[Seen]], images: Sequence[Seen], files: str) -> list[Finding]:
    """The faults that any file has, with the files that have them.

    Args:
        faults: to look for.
        images: what was seen of each file.
        files: what to call them: "SR file", "LR file".
    """
    found = []
    for fault in faults:
        told = {image.name: said for image in images if (said := fault.test(image))}
        if not told:
            continue
        every = len(told) == len(images)
        those = (
            (f"all {files}s" if len(images) > 1 else f"the {files}") if every else listed([*told])
        )
        some = f"{len(told)} of {len(images)} {files}s"
        verb = "are" if len(told) > 1 else "is"
        words = {
            "are": f"{those if every else f'{some} ({listed([*told], 3)})'} {verb}",
            "those": those,
            "some": some,
            "list": listed([f"{name} {said}" for name, said in told.items()], 3),
        }
        found.append(Finding(fault.kind, fault.text.format_map(words), fault.remedy))
    return found


@dataclass(frozen=True)
class Table:
    """Rows for people, already formatted.

    Attributes:
        title: what it shows.
        columns: headings; the first column is text, the others are numbers.
        rows: cells.
        note: a line below; may be empty.
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
        subject: what was looked at.
        verdict: one sentence, the answer.
        findings: problems first.
        tables: evidence for people.
        facts: the same for machines.
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
