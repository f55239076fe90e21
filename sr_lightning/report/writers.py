"""Tables as Markdown, LaTeX (booktabs) and CSV, and in a terminal; findings as Markdown."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from rich import box
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from sr_lightning.report.document import Number, Report, Row, Table, tally
from sr_lightning.report.format import delta_text, text
from sr_lightning.studies.verdicts import RULE

__all__ = [
    "findings_markdown",
    "latex",
    "markdown",
    "spreadsheet",
    "summary",
    "terminal_tables",
    "verdict_tables",
]


@dataclass(frozen=True)
class _Style:
    """How a format says what is known of a cell; ``{}`` stands for the text."""

    plain: Callable[[str], str]
    best: str
    second: str
    delta: str
    marks: str
    remark: str

    def labels(self, row: Row) -> list[str]:
        """Labels of a row; the last one says by what it was measured, or why it was not."""
        shown = [self.plain(label) for label in row.labels]
        if said := row.remark if row.kind == "measured" else row.missing:
            shown[-1] += self.remark.format(self.plain(said))
        return shown

    def cell(self, cell: Number | str | None) -> str:
        """One cell."""
        if not isinstance(cell, Number):
            return self.plain(cell or "")
        shown = ("{}", self.best, self.second)[cell.rank].format(self.plain(text(cell)))
        if cell.delta is not None:
            shown += self.delta.format(self.plain(delta_text(cell)))
        if cell.marks:
            shown += self.marks.format(",".join(map(str, cell.marks)))
        return shown

    def row(self, row: Row) -> list[str]:
        """Labels and cells."""
        return [*self.labels(row), *map(self.cell, row.cells)]


def spreadsheet(table: Table) -> str:
    """A table as CSV: a line for every number, unrounded, with all that is known of it.

    Args:
        table: Table to write.
    """
    return table.frame().to_csv(index=False)


# Markdown ----------------------------------------------------------------------------------------


def _plain(words: str) -> str:
    """Text without anything that Markdown would take as its own."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", " ".join(words.split()))


_MARKDOWN = _Style(_plain, "**{}**", "<u>{}</u>", " ({})", "<sup>{}</sup>", " (here: {})")


def markdown(table: Table, heading: bool = True) -> str:
    """A table for GitHub with its source and notes; best in bold, second underlined.

    Args:
        table: Table to write.
        heading: Whether the title stands above it.
    """
    parts = [f"### {_plain(table.title)}"] if heading else []
    if table.source:
        parts.append(_plain(table.source))
    if table.rows:
        sides = ["---" if table.is_text(place) else "---:" for place in range(len(table.columns))]
        heads = [_plain(head) for head in (*table.stubs, *table.heads)]
        lines = [f"| {' | '.join(heads)} |", f"|{'|'.join(['---'] * len(table.stubs) + sides)}|"]
        lines += [f"| {' | '.join(_MARKDOWN.row(row))} |" for row in table.rows]
        parts.append("\n".join(lines))
    parts += [f"{place}. {_plain(note)}" for place, note in enumerate(table.notes, 1)]
    return "\n\n".join(parts) + "\n"


def findings_markdown(report: Report) -> str:
    """What the numbers say of the papers, a list for each.

    Args:
        report: Report with the findings.
    """
    parts = ["### What the numbers say", _plain(report.summary), _plain(RULE)]
    for paper, listed in itertools.groupby(report.findings, lambda one: one.paper):
        parts.append(f"#### {_plain(paper)}")
        for study, found in itertools.groupby(listed, lambda one: one.study):
            parts += [_plain(study), "\n".join(f"- {_plain(one.sentence)}" for one in found)]
    return "\n\n".join(parts) + "\n"


# LaTeX -------------------------------------------------------------------------------------------

_TEX = {letter: rf"\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "≈": r"$\approx$",
}


def _tex(words: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in words)


_LATEX = _Style(
    _tex, r"\textbf{{{}}}", r"\underline{{{}}}", " ({})", "$^{{{}}}$", r" \emph{{(here: {})}}"
)


def latex(table: Table) -> str:
    """A ``table`` environment; best in bold, second underlined. It needs ``booktabs``.

    Args:
        table: Table to write; one without columns gives a comment, for LaTeX has no empty tables.
    """
    caption = f"{_tex(table.title)}. {_tex(table.source)}".rstrip()
    if not (table.stubs or table.columns):
        return f"% {caption}\n"
    sides = ["l" if table.is_text(place) else "r" for place in range(len(table.columns))]
    heads = [[*table.stubs, *(narrow for _, narrow in table.columns)]]
    lines = [" & ".join(map(_tex, row)) + r" \\" for row in heads]
    if any(wide for wide, _ in table.columns):
        spans = itertools.groupby(wide for wide, _ in table.columns)
        wide = [rf"\multicolumn{{{len(list(same))}}}{{c}}{{{_tex(head)}}}" for head, same in spans]
        lines.insert(0, " & ".join([*[""] * len(table.stubs), *wide]) + r" \\")
    for _, rows in itertools.groupby(table.rows, lambda row: row.group):
        lines += [r"\midrule", *(" & ".join(_LATEX.row(row)) + r" \\" for row in rows)]
    notes = [
        rf"\par\footnotesize {place}. {_tex(note)}" for place, note in enumerate(table.notes, 1)
    ]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\label{{tab:{table.name}}}",
            rf"\begin{{tabular}}{{{'l' * len(table.stubs)}{''.join(sides)}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
            "",
        ]
    )


# Terminal ----------------------------------------------------------------------------------------

_COLOURS = {
    "better": "green",
    "worse": "red",
    "same": "dim",
    "agrees": "green",
    "same sign": "green",
    "same sign, other size": "green",
    "null": "red",
    "reversed": "red",
    "inconclusive": "yellow",
    "not converged": "dim",
    "not measured": "dim",
    "not run": "dim",
}
# A narrow terminal breaks longer texts into lines, but no numbers and verdicts.
_UNBROKEN = 14


def _coloured(words: str) -> str:
    colour = _COLOURS.get(words.partition(":")[0])
    return f"[{colour}]{escape(words)}[/]" if colour else escape(words)


_TERMINAL = _Style(_coloured, "[bold]{}[/]", "[underline]{}[/]", " {}", r" [dim]\[{}][/]", "{}")


def terminal_tables(table: Table, width: int) -> list[RichTable]:
    """A table for a terminal; best in bold, second underlined.

    Args:
        table: Table to print.
        width: Width of the terminal in characters. A table that is too wide is printed in parts,
            each with the labels, rather than with its numbers cut off.
    """
    rows = [(_labels(row), [*map(_markup, row.cells)]) for row in table.rows]
    stubs = [
        max([len(stub), *(min(len(labels[place]), _UNBROKEN) for labels, _ in rows)])
        for place, stub in enumerate(table.stubs)
    ]
    longest = [
        max([*map(len, head), *(len(cells[place]) for _, cells in rows)])
        for place, head in enumerate(table.columns)
    ]
    room = width - sum(least + 2 for least in stubs) - 2
    parts: list[list[int]] = [[]]
    for place in range(len(table.columns)):
        if parts[-1] and sum(min(longest[n], _UNBROKEN) + 2 for n in (*parts[-1], place)) > room:
            parts.append([])
        parts[-1].append(place)
    title = "\n".join(filter(None, (table.title, table.source)))
    caption = "\n".join(f"{place}. {note}" for place, note in enumerate(table.notes, 1))
    made = []
    for part in parts:
        one = RichTable(
            title=Text(title) if part is parts[0] else None,
            caption=Text(caption) if caption and part is parts[-1] else None,
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE,
            padding=(0, 1),
        )
        for stub, least in zip(table.stubs, stubs, strict=True):
            one.add_column(escape(stub), min_width=least)
        for place in part:
            one.add_column(
                escape("\n".join(filter(None, table.columns[place]))),
                justify="left" if table.is_text(place) else "right",
                no_wrap=longest[place] <= _UNBROKEN,
            )
        for labels, cells in rows:
            one.add_row(*labels, *(cells[place] for place in part))
        made.append(one)
    return made


def _labels(row: Row) -> list[Text]:
    labels = [Text(label) for label in row.labels]
    if row.kind == "measured":
        return [*(Text("") for _ in labels[1:]), Text(f"here: {row.remark}", style="dim")]
    labels[-1].append(f"  {row.missing}" if row.missing else "", style="dim")
    return labels


def _markup(cell: Number | str | None) -> Text:
    tone = _COLOURS.get(cell.tone or "", "") if isinstance(cell, Number) else ""
    return Text.from_markup(replace(_TERMINAL, delta=f" [{tone}]{{}}[/]").cell(cell))


def verdict_tables(report: Report, width: int) -> list[RichTable]:
    """The verdicts of every study, narrow enough for most terminals.

    Args:
        report: Report of all or some tables.
        width: Width of the terminal in characters.
    """
    tables = [
        replace(view.verdicts, title=f"{view.study.name}: {view.table.source}")
        for paper in report.papers
        for view in paper.studies
        if view.verdicts.rows
    ]
    return [part for table in tables for part in terminal_tables(table, width)]


def summary(report: Report) -> RichTable:
    """A line for every file of published numbers: how much of it has been answered.

    Args:
        report: Report of all or some tables.
    """
    made = RichTable(title="Published beside measured", title_justify="left", box=box.SIMPLE)
    heads = ("paper", "tables", "numbers", "measured", "counted", "experiments not run", "claims")
    for place, head in enumerate(heads):
        made.add_column(head, justify="right" if place else "left")
    for paper in report.papers:
        claims = [table for table in paper.tables if table.name.endswith("/claims")]
        tables = [table for table in paper.tables if table not in claims]
        kinds = tally(tables)
        counts = (
            len(tables),
            *(kinds[kind] for kind in ("published", "measured", "computed")),
            sum(bool(row.missing) for table in tables for row in table.rows),
            sum(int(str(row.cells[0])) for table in claims for row in table.rows),
        )
        made.add_row(escape(paper.title), *(f"{number:,}" for number in counts))
    return made
