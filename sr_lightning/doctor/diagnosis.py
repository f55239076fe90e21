"""What the doctor found, as data; :mod:`sr_lightning.doctor.cli` shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from sr_lightning.data.integrity import listed

__all__ = [
    "Diagnosis",
    "Finding",
    "Numbers",
    "Table",
    "faults_found",
    "finding",
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
        key: Name for machines; empty for what checks of sets find.
    """

    kind: Literal["problem", "note"]
    text: str
    remedy: str = ""
    key: str = ""


@cache
def _known() -> dict[str, dict[str, Any]]:
    text = Path(__file__).with_name("findings.yaml").read_text(encoding="utf-8")
    known: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return known


def finding(key: str, **words: object) -> Finding:
    """A finding of ``findings.yaml``.

    Args:
        key: Its name there.
        **words: What stands in braces in its text and remedy.
    """
    row = {"kind": "problem", "remedy": "", **_known()[key]}
    return Finding(row["kind"], row["text"].format(**words), row["remedy"].format(**words), key)


def faults_found(
    tests: Mapping[str, bool | Callable[[Any], object]],
    images: Sequence[Any],
    files: str,
    **words: object,
) -> list[Finding]:
    """The findings that are true of any file, with the files of which they are.

    Args:
        tests: By the name of the finding, whether it is true of all files, or the test of what was
            seen of one file; a text of the test says more about the file.
        images: What was seen of each file; all have a ``name``.
        files: What to call a file: "SR file", "LR file".
        **words: What stands in braces in texts and remedies.
    """
    found = []
    for key, test in tests.items():
        said = {one.name: test(one) if callable(test) else test for one in images}
        names = [name for name, true in said.items() if true]
        if not names:
            continue
        every, verb = len(names) == len(images), "are" if len(names) > 1 else "is"
        all_of_them = f"all {files}s" if len(images) > 1 else f"the {files}"
        those = all_of_them if every else listed(names)
        some = f"{len(names)} of {len(images)} {files}s"
        words |= {
            "are": f"{those if every else f'{some} ({listed(names, 3)})'} {verb}",
            "those": those,
            "some": some,
            "list": listed([f"{name} {said[name]}" for name in names], 3),
        }
        found.append(finding(key, **words))
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
