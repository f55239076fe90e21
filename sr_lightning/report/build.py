"""The report: every published file with its tables and studies, plots, weights, verdicts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from sr_lightning.report.document import Comparison, PaperView, Plot, Point, Report, Table
from sr_lightning.report.findings import findings, findings_summary
from sr_lightning.report.measurements import Evidence
from sr_lightning.report.published_view import claim_verdict, claims_table, published_table
from sr_lightning.report.study_view import claims_by_budget, study_views
from sr_lightning.report.systems import systems_tables
from sr_lightning.report.zoo_view import zoo_view
from sr_lightning.studies.published_cells import Cell
from sr_lightning.studies.study import BUDGETS, Study
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
        table: Name of the only published table to show, ``file/table``, with its studies.
        pictures: Folder of the cells' run folders, or None for no pictures.
        comparisons: Folder of ``sr-lightning compare``, or None for no pictures of the weights.
        own_alone: Whether to show the user's own studies and nothing else.

    Raises:
        UserError: there is no such table.
    """
    names = () if own_alone else tuple(evidence.published.tables)
    if table is not None:
        evidence.published.table(table)
        names = (table,)
    whole = table is None and not own_alone
    files: dict[str, list[str]] = {}
    for name in names:
        files.setdefault(name.partition("/")[0], []).append(name)

    def views(name: str, title: str, tables: Sequence[str], about: Iterable[Study]) -> PaperView:
        made = [view for study in about for view in study_views(evidence, study, pictures)]
        return PaperView(name, title, tuple(_tables(evidence, tables)), tuple(made))

    papers = [
        views(
            file,
            _title(evidence, tables),
            tables,
            [s for s in evidence.studies if s.table in tables or (table is None and _of(s, file))],
        )
        for file, tables in files.items()
    ]
    if whole:
        # Studies of several papers' networks, which no file of published numbers is about.
        others = [s for s in evidence.studies if s.table is None and s.paper not in files]
        papers += [views("compared", "Networks of several papers", (), others)] if others else []
    if table is None and evidence.own:
        papers.append(views("own", "Studies of your own", (), evidence.own))
    zoo = zoo_view(evidence, comparisons) if whole else None
    claims = [claim for name in names for claim in evidence.published.claims_of(name)]
    answered = sum(claim_verdict(evidence, claim) != "not run" for claim in claims)
    report = Report(
        papers=tuple(papers),
        zoo=zoo,
        systems=systems_tables(evidence) if whole else (),
        summary=findings_summary(papers, len(claims), answered),
        findings=tuple(findings(papers)),
        verdicts=_verdicts(papers),
        plots=tuple(_plots(evidence, files)),
    )
    return _with_room_for_pictures(report)


def _of(study: Study, file: str) -> bool:
    return study.table is None and study.paper == file


def _with_room_for_pictures(report: Report) -> Report:
    """The same with as many comparisons as a page can hold."""
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

    zoo = report.zoo and replace(report.zoo, pictures=kept(report.zoo.pictures))
    papers = [
        replace(paper, studies=tuple(replace(v, pictures=kept(v.pictures)) for v in paper.studies))
        for paper in report.papers
    ]
    return replace(report, zoo=zoo, papers=tuple(papers), left_out=left_out)


def _title(evidence: Evidence, tables: Sequence[str]) -> str:
    """The paper that most of a file's tables are of."""
    names = [cell.paper for table in tables for cell in evidence.published.table(table)]
    names += [claim.paper for table in tables for claim in evidence.published.claims_of(table)]
    return max(dict.fromkeys(names), key=names.count)


def _tables(evidence: Evidence, names: Iterable[str]) -> Iterator[Table]:
    for name in names:
        yield published_table(evidence, name)
        if (claims := claims_table(evidence, name)) is not None:
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
    rows = [row for views in studies for row in claims_by_budget(views, budgets)]
    return Table.of("verdicts", "Verdicts", RULE, ("study", "claim"), rows)


# Quality against cost ----------------------------------------------------------------------------


def _plots(evidence: Evidence, files: Mapping[str, Sequence[str]]) -> Iterator[Plot]:
    """PSNR against parameters and MACs, wherever a file has both of enough methods."""
    for names in files.values():
        cells = [
            cell
            for name in names
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
) -> Plot | None:
    costs = {c.method: c for c in cells if c.metric == cost and c.scale in (scale, None)}
    for name in _PREFERRED_SETS:
        quality = {
            c.method: c
            for c in cells
            if (c.metric, c.scale, c.set) == ("psnr", scale, name) and c.method in costs
        }
        if len(quality) < _FEWEST_POINTS:
            continue
        points = [Point(m, costs[m].value, cell.value, False) for m, cell in quality.items()]
        for method, cell in quality.items():
            answer, counted = evidence.answer(cell), evidence.counted(costs[method])
            if answer is not None and answer.whole and counted is not None and counted.value:
                points.append(Point(f"{method} here", counted.value, answer.value, True))
        return Plot(f"{cells[0].paper}: {name} x{scale:g}", cost, tuple(points))
    return None
