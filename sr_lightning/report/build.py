"""The report: every published file with its tables and studies, plots, weights, verdicts."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from sr_lightning import __version__
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.report.document import (
    Column,
    Comparison,
    CostPlot,
    PaperView,
    Point,
    Report,
    Table,
    ZooView,
)
from sr_lightning.report.findings import findings
from sr_lightning.report.measurements import Evidence
from sr_lightning.report.published_view import (
    claim_verdict,
    claims_table,
    published_table,
)
from sr_lightning.report.study_view import BUDGET_HEADS, claims_by_budget, study_views
from sr_lightning.report.systems import systems_tables
from sr_lightning.report.zoo_view import zoo_view
from sr_lightning.studies.published_cells import Cell
from sr_lightning.studies.study import BUDGETS
from sr_lightning.studies.verdicts import RULE

__all__ = ["build_report"]

_FEWEST_POINTS = 4
_PREFERRED_SETS = ("Urban100", "Set5")
# They take a third more in the page, which stays under 6 MB.
_PICTURE_BYTES = 3_500_000


def build_report(
    evidence: Evidence,
    table: str | None = None,
    pictures: Path | None = None,
    comparisons: Path | None = None,
    *,
    own_alone: bool = False,
) -> Report:
    """Set everything that was measured beside everything that was published.

    Args:
        evidence: What was published and measured.
        table: Only this published table, ``file/table``, and its studies.
        pictures: Folder of the cells' run folders, or None for no pictures.
        comparisons: Folder of ``sr-lightning compare``, or None for no pictures of the weights.
        own_alone: The user's own studies and nothing else.

    Raises:
        UserError: there is no such table.
    """
    names = () if own_alone else tuple(evidence.published.tables)
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
    whole = table is None and not own_alone
    if whole:
        papers += _compared(evidence, [paper.name for paper in papers], pictures)
    if table is None:
        papers += _own(evidence, pictures)
    zoo = zoo_view(evidence, comparisons) if whole else None
    zoo, papers, left_out = _with_room_for_pictures(zoo, papers)
    claims = [claim for name in names for claim in evidence.published.claims_of(name)]
    answered = sum(claim_verdict(evidence, claim) != "not run" for claim in claims)
    return Report(
        papers=tuple(papers),
        zoo=zoo,
        systems=systems_tables(evidence) if whole else (),
        findings=findings(papers, len(claims), answered),
        verdicts=_verdicts(papers),
        plots=tuple(_plots(evidence, names)),
        rule=RULE,
        protocols=tuple((name, protocol.summary) for name, protocol in PROTOCOLS.items()),
        version=__version__,
        left_out=left_out,
    )


def _with_room_for_pictures(
    zoo: ZooView | None, papers: Sequence[PaperView]
) -> tuple[ZooView | None, list[PaperView], int]:
    """The same with as many comparisons as a page can hold, and how many it cannot."""
    room, left_out = _PICTURE_BYTES, 0

    def kept(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
        nonlocal room, left_out
        found = []
        for comparison in comparisons:
            if comparison.bytes <= room:
                found.append(comparison)
                room -= comparison.bytes
            else:
                left_out += 1
        return tuple(found)

    if zoo is not None:
        zoo = replace(zoo, pictures=kept(zoo.pictures))
    fitting = [
        replace(
            paper,
            studies=tuple(replace(view, pictures=kept(view.pictures)) for view in paper.studies),
        )
        for paper in papers
    ]
    return zoo, fitting, left_out


def _compared(
    evidence: Evidence, files: Collection[str], pictures: Path | None
) -> Iterator[PaperView]:
    """Studies of several papers' networks, which no file of published numbers is about."""
    views = [
        view
        for study in evidence.studies
        if study.table is None and study.paper not in files
        for view in study_views(evidence, study, pictures)
    ]
    if views:
        yield PaperView("compared", "Networks of several papers", (), tuple(views))


def _own(evidence: Evidence, pictures: Path | None) -> Iterator[PaperView]:
    """Studies of the user's own."""
    views = [view for study in evidence.own for view in study_views(evidence, study, pictures)]
    if views:
        yield PaperView("own", "Studies of your own", (), tuple(views))


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


def _verdicts(papers: Iterable[PaperView]) -> Table:
    """All claims of studies in one table, with what each training length says of them."""
    studies = [
        list(views)
        for paper in papers
        for _, views in itertools.groupby(paper.studies, lambda view: view.study.file)
    ]
    found = {view.budget for views in studies for view in views}
    budgets = [budget for budget in BUDGETS if budget in found]
    columns = [Column(("", "published"))]
    columns += [Column((budget, head)) for budget in budgets for head in BUDGET_HEADS]
    rows = [row for views in studies for row in claims_by_budget(views, budgets)]
    return Table("verdicts", "Verdicts", RULE, ("study", "claim"), tuple(columns), tuple(rows))


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
            if answer is not None and answer.whole and counted is not None and counted.value:
                points.append(Point(f"{method} here", counted.value, answer.value, measured=True))
        return CostPlot(f"{cells[0].paper}: {name} x{scale:g}", cost, tuple(points))
    return None
