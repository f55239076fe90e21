"""Tables as LaTeX with booktabs, as papers print them."""

from __future__ import annotations

import itertools

from sr_lightning.report.document import Number, Row, Table
from sr_lightning.report.format import delta_text, text

__all__ = ["latex"]

_ESCAPED = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "≈": r"$\approx$",
}


def latex(table: Table) -> str:
    """A ``table`` environment; best in bold, second underlined. It needs ``booktabs``.

    Args:
        table: Table to write; one without columns gives a comment, for LaTeX has no empty tables.
    """
    caption = f"{_plain(table.title)}. {_plain(table.source)}".rstrip()
    if not (table.stubs or table.columns):
        return f"% {caption}\n"
    sides = ["r" if not table.is_text(place) else "l" for place in range(len(table.columns))]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{'l' * len(table.stubs)}{''.join(sides)}}}",
        r"\toprule",
        *_heads(table),
        r"\midrule",
    ]
    group = table.rows[0].group if table.rows else ""
    for row in table.rows:
        if row.group != group:
            lines.append(r"\midrule")
            group = row.group
        lines.append(_row(row))
    lines += [r"\bottomrule", r"\end{tabular}"]
    for place, note in enumerate(table.notes, 1):
        lines.append(rf"\par\footnotesize {place}. {_plain(note)}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _heads(table: Table) -> list[str]:
    lines = []
    if any(column.head[0] for column in table.columns):
        wide = [
            rf"\multicolumn{{{len(list(same))}}}{{c}}{{{_plain(head)}}}"
            for head, same in itertools.groupby(table.columns, lambda column: column.head[0])
        ]
        lines.append(" & ".join([*([""] * len(table.stubs)), *wide]) + r" \\")
    narrow = [_plain(head) for head in (*table.stubs, *(c.head[1] for c in table.columns))]
    return [*lines, " & ".join(narrow) + r" \\"]


def _row(row: Row) -> str:
    labels = [_plain(label) for label in row.labels]
    if row.kind == "measured":
        labels[-1] += rf" \emph{{(here{': ' + _plain(row.remark) if row.remark else ''})}}"
    if row.missing:
        labels[-1] += rf" \emph{{(here: {_plain(row.missing)})}}"
    return " & ".join([*labels, *(_cell(cell) for cell in row.cells)]) + r" \\"


def _cell(cell: Number | str | None) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return _plain(cell)
    shown = _plain(text(cell))
    if cell.rank:
        shown = rf"\textbf{{{shown}}}" if cell.rank == 1 else rf"\underline{{{shown}}}"
    if cell.delta is not None:
        shown += f" ({_plain(delta_text(cell))})"
    if cell.marks:
        shown += f"$^{{{','.join(map(str, cell.marks))}}}$"
    return shown


def _plain(words: str) -> str:
    return "".join(_ESCAPED.get(letter, letter) for letter in words)
