"""What a report consists of, before anybody decides how it looks."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from sr_lightning.studies.ledger import RunRecord
from sr_lightning.studies.plan import Need
from sr_lightning.studies.published_cells import METRICS
from sr_lightning.studies.study import Study
from sr_lightning.studies.verdicts import Verdict

__all__ = [
    "Column",
    "Comparison",
    "CostPlot",
    "Curve",
    "Finding",
    "Findings",
    "Number",
    "Panel",
    "PaperView",
    "Point",
    "Provenance",
    "Report",
    "Row",
    "StudyView",
    "Table",
    "Tone",
    "ZooView",
    "ranked",
]

Tone = Literal["better", "worse", "same"]

# Half of the last digit that tables print: smaller differences are no difference.
_EQUAL = {"psnr": 0.005, "ssim": 0.00005}


@dataclass(frozen=True)
class Provenance:
    """Where a number comes from.

    Attributes:
        title: Title in few words.
        facts: Names and texts.
        runs: Names of the ledger entries behind it.
    """

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Number:
    """What stands in one cell of a table.

    Attributes:
        value: Or None where there is only a word.
        metric: Metric of :data:`METRICS`, or "" for other numbers.
        kind: "published"; "measured" here; "computed" from the network.
        deviation: Standard deviation over seeds, or None.
        half_width: Half of a 95% interval, or None.
        delta: Measured minus published where the two are comparable: same protocol, set, scale and
            metric, by a network of the paper's size; a share (0.01 is 1%) for counts.
        rank: 1 for the best of its column, 2 for the second, else 0.
        digits: Digits after the point, or None for those of the metric.
        word: Instead of a value, such as "not run"; or beside it, such as another protocol's name.
        doubtful: The printed value cannot be right.
        approximate: Read off a figure.
        signed: A difference, to be shown with its sign.
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
        if self.digits is not None:
            return self.digits
        return {"psnr": 2, "ssim": 4}.get(self.metric, 0)

    @property
    def tone(self) -> Tone | None:
        """Whether a measured number is better or worse than the published one."""
        if self.delta is None:
            return None
        if self.kind == "computed":
            return "same" if abs(self.delta) < 0.01 else "worse"
        if abs(self.delta) < _EQUAL.get(self.metric, 0.0):
            return "same"
        lower = self.metric in METRICS and METRICS[self.metric].better == "lower"
        return "better" if (self.delta > 0) != lower else "worse"


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        head: Head from the widest heading to the narrowest; neighbours share equal first headings.
    """

    head: tuple[str, str]


@dataclass(frozen=True)
class Row:
    """A row of numbers.

    Attributes:
        labels: One for each of the table's stubs.
        cells: One for each of its columns; None is empty.
        kind: "published", "measured" or "both".
        remark: Remark beside the last label: by what it was measured.
        missing: Why no measured row follows a published one that waits for it, such as "not run".
        group: Rows of the same group stand and are sorted together.
    """

    labels: tuple[str, ...]
    cells: tuple[Number | str | None, ...]
    kind: Literal["published", "measured", "both"] = "published"
    remark: str = ""
    missing: str = ""
    group: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: Unique within a report, such as ``hfdn/results``.
        title: Title for people.
        source: What is published there, how it was measured, in a sentence or two.
        stubs: Headings of the label columns.
        columns: Columns of numbers and texts.
        rows: Number of rows in order.
        notes: Errata and what else to know.
    """

    name: str
    title: str
    source: str
    stubs: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def is_text(self, column: int) -> bool:
        """Whether a column holds words and not numbers, so that it is set to the left."""
        cells = [row.cells[column] for row in self.rows]
        words = [cell for cell in cells if isinstance(cell, str)]
        return len(words) == len(cells) and not all(re.fullmatch(r"[\d.,<]*", w) for w in words)


@dataclass(frozen=True)
class Curve:
    """Validation PSNR (dB) of one level over optimiser steps.

    Attributes:
        label: The level.
        seeds: ``(steps, values)`` of each run.
    """

    label: str
    seeds: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]


@dataclass(frozen=True)
class Panel:
    """One method's picture of a region.

    Attributes:
        label: The method.
        caption: PSNR and SSIM of the whole image, or nothing.
        png: The file.
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


@dataclass(frozen=True)
class Point:
    """One network in a plot of quality against cost.

    Attributes:
        label: The method.
        cost: "parameters" or "macs".
        psnr: PSNR in dB.
        measured: Here, not published.
    """

    label: str
    cost: float
    psnr: float
    measured: bool


@dataclass(frozen=True)
class CostPlot:
    """PSNR against parameters or MACs at one scale.

    Attributes:
        title: Set and scale.
        cost: "parameters" or "macs".
        points: Points of the networks.
        scale: Scale of the upscaling where plots are grouped by it.
    """

    title: str
    cost: Literal["parameters", "macs"]
    points: tuple[Point, ...]
    scale: float | None = None


@dataclass(frozen=True)
class StudyView:
    """A study at one budget.

    Attributes:
        study: The study.
        budget: Name of the budget, or None where nothing has run.
        table: Levels and sets.
        verdicts: Claims.
        judged: The same, as they were found.
        needs: Seeds and hours that each of them would take.
        curves: Curves of the validation.
        images: Per-image rows, a table for each set.
        pictures: Regions of test images by all levels.
        entries: Entries of the ledger.
    """

    study: Study
    budget: str | None
    table: Table
    verdicts: Table
    judged: tuple[Verdict, ...] = ()
    needs: tuple[Need, ...] = ()
    curves: tuple[Curve, ...] = ()
    images: tuple[Table, ...] = ()
    pictures: tuple[Comparison, ...] = ()
    entries: tuple[RunRecord, ...] = ()


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
        paper: Its title.
        study: Title and budget of the study.
        word: The verdict.
        sentence: Sentence for people.
    """

    paper: str
    study: str
    word: str
    sentence: str


@dataclass(frozen=True)
class Findings:
    """What the numbers say of the papers.

    Attributes:
        summary: How many claims have which verdict.
        listed: Paper by paper.
    """

    summary: str
    listed: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class ZooView:
    """The weights that come with the package.

    Attributes:
        tables: What they reach at the usual scales; where they come from; other scales.
        plots: PSNR against parameters, beside published networks.
        pictures: Photographs by all of them.
    """

    tables: tuple[Table, ...]
    plots: tuple[CostPlot, ...] = ()
    pictures: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class Report:
    """The whole report.

    Attributes:
        papers: Papers in the order of the files.
        zoo: Weights that come with the package; None in a report of one table.
        systems: Size, cost, time and quality of all systems, for each machine with times.
        findings: What the verdicts say, in sentences.
        verdicts: Verdicts of all studies.
        plots: Quality against cost.
        rule: How verdicts are found.
        protocols: Name and summary.
        version: Version of the code that made the report.
        left_out: Comparisons of pictures that would make the page too large.
    """

    papers: tuple[PaperView, ...]
    zoo: ZooView | None
    systems: tuple[Table, ...]
    findings: Findings
    verdicts: Table
    plots: tuple[CostPlot, ...]
    rule: str
    protocols: tuple[tuple[str, str], ...]
    version: str
    left_out: int = 0

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables but those of single images."""
        found: list[Table] = []
        for paper in self.papers:
            found += paper.tables
            for view in paper.studies:
                found += [view.table, view.verdicts] if view.verdicts.rows else [view.table]
        found += self.systems
        return tuple(found) if self.zoo is None else (*found, *self.zoo.tables)


def ranked(table: Table) -> Table:
    """Mark the best and the second best of each column, as papers do.

    Published and measured numbers are ranked apart, and each group of rows by itself. Only quality
    is ranked, and doubtful numbers are left out.
    """
    rows = [list(row.cells) for row in table.rows]
    for place in range(len(table.columns)):
        classes: dict[tuple[str, str], list[tuple[float, int]]] = {}
        for index, (row, cells) in enumerate(zip(table.rows, rows, strict=True)):
            number = cells[place]
            if not isinstance(number, Number) or number.value is None or number.doubtful:
                continue
            if number.metric not in ("psnr", "ssim") or number.signed:
                continue
            # Equal as printed is equal: both are best.
            shown = -round(number.value, number.decimals)
            key = (row.group, number.kind)
            classes.setdefault(key, []).append((shown, index))
        for members in classes.values():
            order = sorted({value for value, _ in members})
            if len(order) < 2:
                continue
            for value, index in members:
                number = rows[index][place]
                if value in order[:2] and isinstance(number, Number):
                    rows[index][place] = replace(number, rank=1 + order.index(value))
    made = tuple(
        replace(row, cells=tuple(cells)) for row, cells in zip(table.rows, rows, strict=True)
    )
    return replace(table, rows=made)
