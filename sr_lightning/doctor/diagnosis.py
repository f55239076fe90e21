"""What doctor found, as data; :mod:`sr_lightning.doctor.cli` shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

__all__ = ["Diagnosis", "Finding", "Numbers", "Table", "mean_numbers"]

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
