"""The report: every published file with its tables and studies, plots, weights, verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from sr_lightning import __version__
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.studies.published_cells import Cell
from sr_lightning.studies.report.evidence import Evidence, origin_of_weights
from sr_lightning.studies.report.published_view import claims_table, published_table
from sr_lightning.studies.report.study_view import study_views
from sr_lightning.studies.report.views import (
    Column,
    CostPlot,
    Number,
    PaperView,
    Point,
    Report,
    Row,
    StudyView,
    Table,
)
from sr_lightning.studies.report.words import group_text
from sr_lightning.studies.verdicts import RULE

__all__ = ["build_report"]

_FEWEST_POINTS = 4
_PREFERRED_SETS = ("Urban100", "Set5")


def build_report(
    evidence: Evidence, table: str | None = None, pictures: Path | None = None
) -> Report:
    """Set everything that was measured beside everything that was published.

    Args:
        evidence: what was published and measured.
        table: only this published table, ``file/table``, and its studies.
        pictures: folder of the cells' run folders, or None for no pictures.

    Raises:
        UserError: there is no such table.
    """
    names = evidence.published.tables
    if table is not None:
        evidence.published.table(table)
        names = (table,)
    papers = []
    for file in dict.fromkeys(name.partition("/")[0] for name in names):
        own = [name for name in names if name.partition("/")[0] == file]
        studies = [
            view
            for study in evidence.studies
            if study.table in own or (table is None and study.table is None and study.paper == file)
            for view in study_views(evidence, study, pictures)
        ]
        papers.append(
            PaperView(file, _title(evidence, own), tuple(_tables(evidence, own)), tuple(studies))
        )
    return Report(
        papers=tuple(papers),
        zoo=_zoo(evidence) if table is None else None,
        verdicts=_verdicts(view for paper in papers for view in paper.studies),
        plots=tuple(_plots(evidence, names)),
        rule=RULE,
        protocols=tuple((name, protocol.summary) for name, protocol in PROTOCOLS.items()),
        version=__version__,
    )


def _title(evidence: Evidence, tables: Sequence[str]) -> str:
    """The paper that most of a file's tables are of."""
    names = [cell.paper for table in tables for cell in evidence.published.table(table)]
    names += [claim.paper for table in tables for claim in evidence.published.claims_of(table)]
    return max(dict.fromkeys(names), key=names.count)


def _tables(evidence: Evidence, names: Iterable[str]) -> Iterator[Table]:
    for name in names:
        yield published_table(evidence, name)
        claims = claims_table(evidence, name)
        if claims is not None:
            yield claims


def _verdicts(views: Iterable[StudyView]) -> Table:
    """The verdicts of all studies in one table."""
    rows: list[Row] = []
    columns: tuple[Column, ...] = ()
    for view in views:
        columns = view.verdicts.columns
        rows += [
            Row((view.study.name, *row.labels), row.cells, row.kind) for row in view.verdicts.rows
        ]
    return Table("verdicts", "Verdicts", RULE, ("study", "claim"), columns, tuple(rows))


def _zoo(evidence: Evidence) -> Table:
    """Weights that come with the package and what they reach."""
    cells = [
        (record, protocol, measured)
        for record in evidence.weights.values()
        for protocol, measured in record.measured.items()
    ]
    groups = list(dict.fromkeys(group for _, _, measured in cells for group in measured))
    columns = [Column(("", "parameters")), Column(("", "training data")), Column(("", "steps"))]
    for group in groups:
        columns += [Column((group_text(group), "PSNR (dB)")), Column((group_text(group), "SSIM"))]
    rows = []
    for record, protocol, measured in cells:
        numbers: list[Number | str | None] = [
            Number(record.parameters, "parameters", kind="computed"),
            record.training_data,
            f"{record.steps:,}",
        ]
        for group in groups:
            for metric in ("psnr", "ssim"):
                value = measured.get(group, {}).get(metric)
                origin = origin_of_weights(record, protocol)
                numbers.append(
                    None if value is None else Number(value, metric, "measured", origin=origin)
                )
        remark = "preview" if record.preview else ""
        rows.append(Row((record.name, protocol), tuple(numbers), "measured", remark=remark))
    return Table(
        name="weights",
        title="Weights that come with the package",
        source="" if rows else "This version comes with none.",
        stubs=("weights", "protocol"),
        columns=tuple(columns) if rows else (),
        rows=tuple(rows),
    )


# Quality against cost ----------------------------------------------------------------------------


def _plots(evidence: Evidence, names: Sequence[str]) -> Iterator[CostPlot]:
    """PSNR against parameters and MACs, wherever a file has both of enough methods."""
    for file in dict.fromkeys(name.partition("/")[0] for name in names):
        cells = [
            cell
            for name in names
            if name.partition("/")[0] == file
            for cell in evidence.published.table(name)
            if not cell.factors and not cell.doubtful
        ]
        scales = sorted({c.scale for c in cells if c.metric == "psnr" and c.scale is not None})
        for scale in scales:
            for cost in ("parameters", "macs"):
                plot = _plot(evidence, cells, scale, cost)
                if plot is not None:
                    yield plot


def _plot(
    evidence: Evidence, cells: Sequence[Cell], scale: float, cost: Literal["parameters", "macs"]
) -> CostPlot | None:
    costs = {c.method: c for c in cells if c.metric == cost and c.scale in (scale, None)}
    for name in _PREFERRED_SETS:
        quality = {
            c.method: c
            for c in cells
            if c.metric == "psnr" and c.scale == scale and c.set == name and c.method in costs
        }
        if len(quality) < _FEWEST_POINTS:
            continue
        points = [
            Point(method, costs[method].value, cell.value, measured=False)
            for method, cell in quality.items()
        ]
        for method, cell in quality.items():
            answer, counted = evidence.answer(cell), evidence.counted(costs[method])
            if answer is not None and counted is not None and counted.value is not None:
                points.append(Point(f"{method} here", counted.value, answer.value, measured=True))
        return CostPlot(f"{cells[0].paper}: {name} x{scale:g}", cost, tuple(points))
    return None
