"""What a report consists of, before anybody decides how it looks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import pandas as pd

from sr_lightning.metrics.quality import METRICS as QUALITY
from sr_lightning.studies.ledger import RunRecord
from sr_lightning.studies.plan import Need
from sr_lightning.studies.published_cells import METRICS
from sr_lightning.studies.study import Study
from sr_lightning.studies.verdicts import Verdict

__all__ = [
    "Cell",
    "Comparison",
    "Curves",
    "Finding",
    "Named",
    "Number",
    "Panel",
    "PaperView",
    "Plot",
    "Point",
    "Provenance",
    "Record",
    "Report",
    "Row",
    "StudyView",
    "Table",
    "ZooView",
    "ranked",
    "tally",
]

# Half of the last digit that tables print: smaller differences are no difference.
_EQUAL = {"psnr": 0.005, "ssim": 0.00005}


@dataclass(frozen=True)
class Provenance:
    """Where a number comes from.

    Attributes:
        title: Title in few words.
        facts: Names and texts; those without a text are left out.
        runs: Names of the ledger entries behind it.
    """

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    runs: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """The title, then every fact."""
        return [self.title, *(f"{name}: {text}" for name, text in self.facts)]


@dataclass(frozen=True)
class Number:
    """What stands in one cell of a table.

    Attributes:
        value: Number, or None where there is only a word.
        metric: Metric of :data:`METRICS`, or "" for other numbers.
        kind: "published"; "measured" here; "computed" from the network.
        deviation: Standard deviation over seeds, or None.
        half_width: Half of a 95% interval, or None.
        delta: Measured minus published where the two are comparable: same protocol, set, scale and
            metric, by a network of the paper's size; a share (0.01 is 1%) for counts.
        rank: 1 for the best of its column, 2 for the second, else 0.
        digits: Digits after the point, or None for those of the metric.
        word: Instead of a value, such as "not run"; or beside it, such as another protocol's name.
        doubtful: Whether the printed value cannot be right.
        approximate: Whether it was read off a figure.
        signed: Whether it is a difference, to be shown with its sign.
        marks: Places of its remarks among the table's notes, from 1.
        origin: Where it comes from.
    """

    value: float | None = None
    metric: str = ""
    kind: Literal["published", "measured", "computed"] = "published"
    deviation: float | None = None
    half_width: float | None = None
    delta: float | None = None
    rank: int = 0
    digits: int | None = None
    word: str = ""
    doubtful: bool = False
    approximate: bool = False
    signed: bool = False
    marks: tuple[int, ...] = ()
    origin: Provenance | None = None

    @property
    def decimals(self) -> int:
        """Digits after the point."""
        usual = QUALITY[self.metric].digits if self.metric in QUALITY else 0
        return usual if self.digits is None else self.digits

    @property
    def tone(self) -> Literal["better", "worse", "same"] | None:
        """Whether a measured number is better or worse than the published one."""
        if self.delta is None:
            return None
        if self.kind == "computed":
            return "same" if abs(self.delta) < 0.01 else "worse"
        if abs(self.delta) < _EQUAL.get(self.metric, 0.0):
            return "same"
        lower = self.metric in METRICS and METRICS[self.metric].better == "lower"
        return "better" if (self.delta > 0) != lower else "worse"


Cell = Number | str | None
Cells = tuple[Cell, ...]
_Kind = Literal["published", "measured", "both"]
Record = dict[str | tuple[str, str], Cell]
"""Cells of a row by their headings: wide and narrow, or the narrow alone."""
Named = tuple[tuple[str, ...], Record]
"""Labels of a row, and its cells."""


@dataclass(frozen=True)
class Row:
    """A row of numbers.

    Attributes:
        labels: One for each of the table's stubs.
        cells: One for each of its columns; None is empty.
        kind: "published", "measured" or "both".
        remark: Remark beside the last label: by what it was measured.
        missing: Why no measured row follows a published one that waits for it, such as "not run".
        group: Name of the group whose rows stand and are sorted together.
    """

    labels: tuple[str, ...]
    cells: Cells
    kind: _Kind = "published"
    remark: str = ""
    missing: str = ""
    group: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: Name that is unique within a report, such as ``hfdn/results``.
        title: Title for people.
        source: What is published there, how it was measured, in a sentence or two.
        stubs: Headings of the label columns.
        columns: Wide and narrow heading of each column; neighbours share equal wide ones.
        rows: Rows in order.
        notes: Errata and what else to know.
    """

    name: str
    title: str
    source: str
    stubs: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        title: str,
        source: str,
        stubs: tuple[str, ...],
        rows: Iterable[Named],
        notes: tuple[str, ...] = (),
        kind: _Kind = "both",
        group: int | None = None,
    ) -> Table:
        """A table whose rows all have the same columns; arguments are its attributes.

        All rows are of one `kind`; `group` says which label is the group of its row, if any is.
        """
        named = list(rows)
        heads = list(named[0][1]) if named else []
        made = (
            Row(
                labels,
                tuple(cells[head] for head in heads),
                kind,
                group="" if group is None else labels[group],
            )
            for labels, cells in named
        )
        columns = (("", head) if isinstance(head, str) else head for head in heads)
        return cls(name, title, source, stubs, tuple(columns), tuple(made), notes)

    @property
    def heads(self) -> list[str]:
        """Heading of each column in one line."""
        return [" ".join(filter(None, head)) for head in self.columns]

    def is_text(self, column: int) -> bool:
        """Whether a column holds words and not numbers, so that it is set to the left."""
        words = [row.cells[column] for row in self.rows]
        texts = [word for word in words if isinstance(word, str)]
        return len(texts) == len(words) and not all(re.fullmatch(r"[\d.,<]*", w) for w in texts)

    def frame(self) -> pd.DataFrame:
        """A row for every number or word, with the values unrounded and all that is known of it."""
        found: list[list[object]] = []
        for row in self.rows:
            cells = [*zip(self.heads, row.cells, strict=True)]
            if row.missing:
                cells.insert(0, ("", Number(kind="measured", word=row.missing)))
            for head, cell in cells:
                if cell is None or cell == "":
                    continue
                number = Number(word=cell) if isinstance(cell, str) else cell
                origin = number.origin or Provenance("")
                found.append(
                    [
                        *row.labels,
                        row.kind if isinstance(cell, str) else number.kind,
                        head,
                        *(number.metric, number.value, number.deviation, number.half_width),
                        *(number.delta, number.rank or None),
                        "yes" if number.doubtful else None,
                        "yes" if number.approximate else None,
                        number.word,
                        row.remark,
                        "; ".join(origin.lines),
                        " ".join(origin.runs),
                        " ".join(self.notes[place - 1] for place in number.marks),
                    ]
                )
        # Counts stay whole numbers in a column that also has fractions.
        return pd.DataFrame(found, columns=[*self.stubs, *_FIELDS], dtype=object)


_FIELDS = (
    *("kind", "column", "metric", "value", "deviation", "half_width_95", "minus_published"),
    *("rank", "doubtful", "approximate", "word", "by", "origin", "runs", "remarks"),
)


@dataclass(frozen=True)
class Panel:
    """One method's picture of a region.

    Attributes:
        label: Name of the method.
        caption: PSNR and SSIM of the whole image, or nothing.
        png: Bytes of the file.
    """

    label: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class Comparison:
    """The same region of an image by several methods, all of one size.

    Attributes:
        title: Image, set and scale.
        panels: The methods, the original last.
        note: What the captions are, and what is not shown.
        scale: Scale of the upscaling where comparisons are grouped by it.
    """

    title: str
    panels: tuple[Panel, ...]
    note: str = ""
    scale: float | None = None

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(len(panel.png) for panel in self.panels)


class Point(NamedTuple):
    """One network in a plot: what it is called, what it costs, and what it reaches (dB)."""

    label: str
    cost: float
    psnr: float
    measured: bool


@dataclass(frozen=True)
class Plot:
    """Quality against cost.

    Attributes:
        title: Set and scale, for people.
        cost: Cost on the horizontal axis, "parameters" or "macs".
        points: Networks, published and measured here.
        scale: Scale of the upscaling where plots are grouped by it.
    """

    title: str
    cost: Literal["parameters", "macs"]
    points: tuple[Point, ...]
    scale: float | None = None


Curves = pd.DataFrame
"""Validation PSNR (dB) by level, seed and step."""


@dataclass(frozen=True)
class StudyView:
    """A study at one budget.

    Attributes:
        study: The study.
        budget: Name of the budget, or None where nothing has run.
        table: Levels and sets.
        verdicts: Claims.
        judged: Verdicts on the claims, as they were found.
        needs: Seeds and hours that each of them would take.
        curves: Validation PSNR of all runs.
        images: Per-image rows, a table for each set.
        pictures: Regions of test images by all levels.
        entries: Entries of the ledger.
    """

    study: Study
    budget: str | None
    table: Table
    verdicts: Table
    judged: tuple[Verdict, ...]
    needs: tuple[Need, ...]
    curves: Curves
    images: tuple[Table, ...]
    pictures: tuple[Comparison, ...]
    entries: tuple[RunRecord, ...]


@dataclass(frozen=True)
class PaperView:
    """Everything of one file of published numbers.

    Attributes:
        name: Name of the file.
        title: Title of the paper.
        tables: Published tables, with rows of what was measured; each followed by its claims.
        studies: Studies with their tables, at each budget that has results.
    """

    name: str
    title: str
    tables: tuple[Table, ...]
    studies: tuple[StudyView, ...]


@dataclass(frozen=True)
class Finding:
    """What was measured of one claim, or that nothing was of some.

    Attributes:
        paper: Title of the paper.
        study: Title and budget of the study.
        word: Verdict.
        sentence: Sentence for people.
    """

    paper: str
    study: str
    word: str
    sentence: str


@dataclass(frozen=True)
class ZooView:
    """The weights that come with the package.

    Attributes:
        tables: What they reach at the usual scales; where they come from; other scales.
        plots: PSNR against parameters, beside published networks.
        pictures: Photographs by all of them.
    """

    tables: tuple[Table, ...]
    plots: tuple[Plot, ...] = ()
    pictures: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class Report:
    """The whole report.

    Attributes:
        papers: Papers in the order of the files.
        zoo: Weights that come with the package; None in a report of one table.
        systems: Size, cost, time and quality of all systems, for each machine with times.
        summary: How many claims have which verdict.
        findings: What the verdicts say, in sentences, paper by paper.
        verdicts: Verdicts of all studies.
        plots: Quality against cost.
        left_out: Number of comparisons of pictures that would make the page too large.
    """

    papers: tuple[PaperView, ...]
    zoo: ZooView | None
    systems: tuple[Table, ...]
    summary: str
    findings: tuple[Finding, ...]
    verdicts: Table
    plots: tuple[Plot, ...]
    left_out: int = 0

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables but those of single images."""
        found: list[Table] = []
        for paper in self.papers:
            found += paper.tables
            for view in paper.studies:
                found += [view.table, view.verdicts] if view.verdicts.rows else [view.table]
        return (*found, *self.systems, *(self.zoo.tables if self.zoo else ()))


def tally(tables: Iterable[Table]) -> Counter[str]:
    """How many values of each kind tables have."""
    return Counter(
        cell.kind
        for table in tables
        for row in table.rows
        for cell in row.cells
        if isinstance(cell, Number) and cell.value is not None
    )


def ranked(table: Table) -> Table:
    """Mark the best and the second best of each column, as papers do.

    Published and measured numbers are ranked apart, and each group of rows by itself. Only quality
    is ranked, and doubtful numbers are left out.
    """
    found = [
        (place, column, -round(cell.value, cell.decimals), (column, row.group, cell.kind))
        for place, row in enumerate(table.rows)
        for column, cell in enumerate(row.cells)
        if isinstance(cell, Number) and cell.value is not None and cell.metric in _EQUAL
        if not cell.doubtful and not cell.signed
    ]
    # Equal as printed is equal: both are best.
    numbers = pd.DataFrame(found, columns=["row", "column", "value", "class"])
    classes = numbers["value"].astype(float).groupby(numbers["class"])
    numbers["rank"] = classes.rank("dense")
    # The only value of its class is not the best of it.
    marked = numbers[(numbers["rank"] <= 2) & (classes.transform("nunique") > 1)]
    cells = [list(row.cells) for row in table.rows]
    for place, column, rank in (
        marked[["row", "column", "rank"]].astype(int).itertuples(index=False)
    ):
        number = cells[place][column]
        if isinstance(number, Number):
            cells[place][column] = replace(number, rank=rank)
    rows = (replace(row, cells=tuple(new)) for row, new in zip(table.rows, cells, strict=True))
    return replace(table, rows=tuple(rows))
