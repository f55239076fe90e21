"""Tables as GitHub Markdown."""

from __future__ import annotations

import itertools
import re

from sr_lightning.report.document import Findings, Number, Row, Table
from sr_lightning.report.format import delta_text, text

__all__ = ["findings_markdown", "markdown"]


def markdown(table: Table, heading: bool = True) -> str:
    """A table with its source and notes; best in bold, second underlined as in papers.

    Args:
        table: Table to write.
        heading: Whether the title stands above it.
    """
    parts = [f"### {_plain(table.title)}"] if heading else []
    if table.source:
        parts.append(_plain(table.source))
    if table.rows:
        parts.append(_grid(table))
    parts += [f"{place}. {_plain(note)}" for place, note in enumerate(table.notes, 1)]
    return "\n\n".join(parts) + "\n"


def findings_markdown(findings: Findings, rule: str) -> str:
    """What the numbers say of the papers, a list for each.

    Args:
        findings: Findings to write.
        rule: How verdicts are found.
    """
    parts = ["### What the numbers say", _plain(findings.summary), _plain(rule)]
    for paper, listed in itertools.groupby(findings.listed, lambda one: one.paper):
        parts.append(f"#### {_plain(paper)}")
        for study, found in itertools.groupby(listed, lambda one: one.study):
            items = "\n".join(f"- {_plain(one.sentence)}" for one in found)
            parts += [_plain(study), items]
    return "\n\n".join(parts) + "\n"


def _grid(table: Table) -> str:
    heads = [*table.stubs, *(" ".join(filter(None, column.head)) for column in table.columns)]
    rules = ["---" if table.is_text(place) else "---:" for place in range(len(table.columns))]
    lines = [
        "| " + " | ".join(_plain(head) for head in heads) + " |",
        "|" + "|".join(["---"] * len(table.stubs) + rules) + "|",
    ]
    lines += ["| " + " | ".join(_row(row)) + " |" for row in table.rows]
    return "\n".join(lines)


def _row(row: Row) -> list[str]:
    labels = [_plain(label) for label in row.labels]
    if row.kind == "measured" and row.remark:
        labels[-1] += f" (here: {_plain(row.remark)})"
    if row.missing:
        labels[-1] += f" (here: {_plain(row.missing)})"
    return [*labels, *(_cell(cell) for cell in row.cells)]


def _cell(cell: Number | str | None) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return _plain(cell)
    shown = _plain(text(cell))
    if cell.rank:
        shown = f"**{shown}**" if cell.rank == 1 else f"<u>{shown}</u>"
    if cell.delta is not None:
        shown += f" ({delta_text(cell)})"
    if cell.marks:
        shown += f"<sup>{','.join(map(str, cell.marks))}</sup>"
    return shown


def _plain(words: str) -> str:
    """Text without anything that Markdown would take as its own."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", " ".join(words.split()))
