"""Tables and the summary of a report in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from sr_lightning.report.document import Column, Number, PaperView, Report, Row, Table
from sr_lightning.report.format import delta_text, text

__all__ = ["summary", "terminal_tables", "verdict_tables"]

_STYLES = {
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
_UNBROKEN = 14
_TONES = {"better": "green", "worse": "red", "same": "dim", None: ""}


def terminal_tables(table: Table, width: int) -> list[RichTable]:
    """A table for a terminal; best in bold, second underlined.

    Args:
        table: Table to print.
        width: Width of the terminal in characters. A table that is too wide is told in parts, each
            with the labels, rather than with its numbers cut off.
    """
    rows = [(_labels(row), [_cell(cell) for cell in row.cells]) for row in table.rows]
    stubs = [
        max([len(stub), *(min(len(labels[place]), _UNBROKEN) for labels, _ in rows)])
        for place, stub in enumerate(table.stubs)
    ]
    needed = [_needed(column, place, rows) for place, column in enumerate(table.columns)]
    parts = _parts(needed, width - sum(least + 2 for least in stubs) - 2)
    caption = "\n".join(f"{place}. {note}" for place, note in enumerate(table.notes, 1))
    made = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        title = "\n".join(filter(None, (table.title, table.source))) if number == 0 else None
        one = RichTable(
            title=Text(title) if title else None,
            title_justify="left",
            caption=Text(caption) if caption and last else None,
            caption_justify="left",
            box=box.SIMPLE,
            padding=(0, 1),
        )
        for stub, least in zip(table.stubs, stubs, strict=True):
            one.add_column(stub, min_width=least)
        for place in part:
            one.add_column(
                "\n".join(filter(None, table.columns[place].head)),
                justify="left" if table.is_text(place) else "right",
                # A narrow terminal breaks sentences, not numbers and verdicts.
                no_wrap=needed[place][1],
            )
        for labels, cells in rows:
            one.add_row(*labels, *(cells[place] for place in part))
        made.append(one)
    return made


def _needed(
    column: Column, place: int, rows: Sequence[tuple[list[Text], list[Text]]]
) -> tuple[int, bool]:
    """The least width of a column, and whether its contents are never broken."""
    longest = max([*map(len, column.head), *(len(cells[place]) for _, cells in rows)])
    return min(longest, _UNBROKEN) + 2, longest <= _UNBROKEN


def _parts(needed: Sequence[tuple[int, bool]], room: int) -> list[list[int]]:
    """Columns side by side as far as there is room, at least one a part."""
    parts: list[list[int]] = [[]]
    left = room
    for place, (least, _) in enumerate(needed):
        if parts[-1] and least > left:
            parts.append([])
            left = room
        parts[-1].append(place)
        left -= least
    return parts


def _labels(row: Row) -> list[Text]:
    labels = [Text(label) for label in row.labels]
    if row.kind == "measured":
        labels = [*(Text("") for _ in labels[1:]), Text(f"here: {row.remark}", style="dim")]
    elif row.missing:
        labels[-1].append(f"  {row.missing}", style="dim")
    return labels


def _cell(cell: Number | str | None) -> Text:
    if cell is None or isinstance(cell, str):
        words = cell or ""
        return Text(words, style=_STYLES.get(words.partition(":")[0], ""))
    shown = Text(text(cell), style=("", "bold", "underline")[cell.rank])
    if cell.delta is not None:
        shown.append(f" {delta_text(cell)}", style=f"not bold not underline {_TONES[cell.tone]}")
    if cell.marks:
        shown.append(f" [{','.join(map(str, cell.marks))}]", style="not bold not underline dim")
    return shown


def verdict_tables(report: Report, width: int) -> list[RichTable]:
    """The verdicts of every study, narrow enough for most terminals.

    Args:
        report: Report of all or some tables.
        width: Width of the terminal in characters.
    """
    made = []
    for paper in report.papers:
        for view in paper.studies:
            table = view.verdicts
            if not table.rows:
                continue
            title = f"{view.study.name}: {view.table.source}"
            made += terminal_tables(replace(table, title=title), width)
    return made


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
        made.add_row(paper.title, *_counts(paper))
    return made


def _counts(paper: PaperView) -> list[str]:
    claims = [table for table in paper.tables if table.name.endswith("/claims")]
    tables = [table for table in paper.tables if table not in claims]
    rows = [row for table in tables for row in table.rows]
    numbers = [
        cell
        for row in rows
        for cell in row.cells
        if isinstance(cell, Number) and cell.value is not None
    ]
    kinds: list[str] = [number.kind for number in numbers]
    claimed = sum(int(str(row.cells[0])) for table in claims for row in table.rows)
    waiting = sum(bool(row.missing) for row in rows)
    by_kind = [kinds.count(kind) for kind in ("published", "measured", "computed")]
    return [f"{n:,}" for n in (len(tables), *by_kind, waiting, claimed)]
