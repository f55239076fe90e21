"""Tables as CSV: a line for every number, with all that is known of it."""

from __future__ import annotations

import csv
import io

from sr_lightning.report.document import Number, Table

__all__ = ["spreadsheet"]

_FIELDS = (
    *("kind", "column", "metric", "value", "deviation", "half_width_95", "minus_published"),
    *("rank", "doubtful", "approximate", "word", "by", "origin", "runs", "remarks"),
)


def spreadsheet(table: Table) -> str:
    """A table as CSV with the values unrounded, fit for pandas.

    Args:
        table: Table to write.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*table.stubs, *_FIELDS])
    for row in table.rows:
        if row.missing:
            lacking = ["measured", *[""] * 9, row.missing, *[""] * 4]
            writer.writerow([*row.labels, *lacking])
        for column, cell in zip(table.columns, row.cells, strict=True):
            if cell is None or cell == "":
                continue
            number = Number(word=cell, kind="measured") if isinstance(cell, str) else cell
            writer.writerow(
                [
                    *row.labels,
                    row.kind if isinstance(cell, str) else number.kind,
                    " ".join(filter(None, column.head)),
                    number.metric,
                    number.value,
                    number.deviation,
                    number.half_width,
                    number.delta,
                    number.rank or None,
                    "yes" if number.doubtful else "",
                    "yes" if number.approximate else "",
                    number.word,
                    row.remark,
                    _origin(number),
                    " ".join(number.origin.runs) if number.origin else "",
                    " ".join(table.notes[place - 1] for place in number.marks),
                ]
            )
    return out.getvalue()


def _origin(number: Number) -> str:
    if number.origin is None:
        return ""
    facts = (f"{name}: {text}" for name, text in number.origin.facts)
    return "; ".join([number.origin.title, *facts])
