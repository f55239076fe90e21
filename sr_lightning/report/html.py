"""The report as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from sr_lightning.report.document import (
    Comparison,
    CostPlot,
    Finding,
    Number,
    PaperView,
    Provenance,
    Report,
    Row,
    StudyView,
    Table,
    ZooView,
)
from sr_lightning.report.format import delta_text, text
from sr_lightning.report.svg import STYLES, cost_plot, curves
from sr_lightning.studies.ledger import RunRecord
from sr_lightning.studies.verdicts import WORDS

__all__ = ["page"]

_ASSETS = Path(__file__).parent / "assets"
_LINE, _PHONE_LINE = 44, 16
# At the beginning of a text or after a count; the longest that fits.
_VERDICTS = re.compile(
    rf"(?:^|\d )({'|'.join(sorted(WORDS, key=len, reverse=True))})(?=$|[:,] | \()"
)
# The browser itself refuses any request, whatever slipped into a text.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(report: Report) -> str:
    """The whole report.

    Args:
        report: Report to show; the same report gives the same bytes.
    """
    writer = _Writer()
    body = writer.body(report)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<title>sr-lightning: published beside measured</title>\n"
        f"<style>\n{STYLES.read_text()}</style>\n</head>\n<body>\n"
        f"{body}\n{writer.origins()}\n"
        f"<script>\n{(_ASSETS / 'report.js').read_text()}</script>\n</body>\n</html>\n"
    )


def _id(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)


def _class(word: str) -> str:
    """The CSS class of a verdict."""
    return word.replace(",", "").replace(" ", "-")


def _tag(name: str, content: str, cls: str = "") -> str:
    return f'<{name} class="{cls}">{content}</{name}>' if cls else f"<{name}>{content}</{name}>"


class _Writer:
    """Writes a page and remembers the origins that its numbers point to."""

    def __init__(self) -> None:
        self._origins: dict[Provenance, str] = {}

    def body(self, report: Report) -> str:
        papers = [paper for paper in report.papers if paper.tables or paper.studies]
        links = [("weights", "Weights")] if report.zoo is not None else []
        links.append(("findings", "What the numbers say"))
        links += [(f"paper-{_id(paper.name)}", paper.title) for paper in papers]
        links += [("plots", "Quality and cost")] if report.plots else []
        links += [("systems", "Systems")] if report.systems else []
        links.append(("protocols", "Protocols"))
        nav = "".join(f'<a href="#{link}">{escape(label)}</a>' for link, label in links)
        parts = [_head(report), f"<nav>{nav}</nav>"]
        if report.zoo is not None:
            parts.append(_section("weights", "Weights", self.zoo(report.zoo)))
        parts.append(_section("findings", "What the numbers say", self.findings(report)))
        parts += [self.paper(paper) for paper in papers]
        if report.plots:
            parts.append(_section("plots", "Quality and cost", _figures(report.plots)))
        if report.systems:
            tables = [self.folded(table, True) for table in report.systems]
            parts.append(_section("systems", "Systems", "\n".join(tables)))
        protocols = "".join(
            f"<dt><code>{escape(name)}</code></dt><dd>{escape(summary)}</dd>"
            for name, summary in report.protocols
        )
        parts.append(_section("protocols", "Protocols", f"<dl>{protocols}</dl>"))
        return "\n".join(parts)

    def findings(self, report: Report) -> str:
        parts = [_tag("p", escape(report.findings.summary)), _tag("p", escape(report.rule), "dim")]
        for paper, listed in itertools.groupby(report.findings.listed, lambda one: one.paper):
            parts.append(f"<h3>{escape(paper)}</h3>")
            for study, found in itertools.groupby(listed, lambda one: one.study):
                items = "".join(
                    f'<li class="{_class(one.word)}">{_sentence(one)}</li>' for one in found
                )
                parts.append(f'<p>{escape(study)}</p><ul class="findings">{items}</ul>')
        if report.verdicts.rows:
            parts.append(self.folded(report.verdicts, False))
        return "\n".join(parts)

    def zoo(self, zoo: ZooView) -> str:
        first, *others = zoo.tables
        parts = [self.table(first), *(self.folded(t, t is others[0]) for t in others)]
        figures: dict[float, list[str]] = {}
        compared: dict[float, int] = {}
        for comparison in zoo.pictures:
            scale = comparison.scale or 0
            figures.setdefault(scale, []).append(_viewer(comparison))
            compared[scale] = max(compared.get(scale, 0), len(comparison.panels))
        for scale, plots in itertools.groupby(zoo.plots, lambda plot: plot.scale or 0):
            drawn = "<h3>PSNR against parameters</h3>" + _figures(list(plots), "plots large")
            figures.setdefault(scale, []).append(drawn)
        # The scale with most networks is what people come for.
        first_open = max(figures, key=lambda scale: compared.get(scale, 0), default=0)
        for scale in sorted(figures):
            parts.append(
                f'<details class="table"{" open" if scale == first_open else ""}>'
                f"<summary>Figures, x{scale:g}</summary>{''.join(figures[scale])}</details>"
            )
        return "\n".join(parts)

    def paper(self, paper: PaperView) -> str:
        parts = [self.study(view) for view in paper.studies]
        for table in paper.tables:
            is_open = any(row.kind == "measured" or row.missing for row in table.rows)
            parts.append(self.folded(table, is_open))
        return _section(f"paper-{_id(paper.name)}", paper.title, "\n".join(parts))

    def study(self, view: StudyView) -> str:
        parts = [self.table(view.table)]
        if view.verdicts.rows:
            parts += ["<h3>Verdicts</h3>", self.table(view.verdicts)]
        if view.curves:
            caption = "Validation PSNR (dB); lines are means, bands span the seeds."
            parts.append(_tag("figure", curves(view.curves) + _tag("figcaption", caption)))
        parts += [_viewer(comparison) for comparison in view.pictures]
        parts += [self.folded(table, False) for table in view.images]
        if view.entries:
            runs = "".join(_run(entry) for entry in view.entries)
            parts.append(f"<details><summary>Runs ({len(view.entries)})</summary>{runs}</details>")
        budget = f"{view.budget} budget" if view.budget else "not run"
        title = f"Study: {escape(view.study.title)}<small>{escape(budget)}</small>"
        opened = " open" if view.budget else ""
        return (
            f'<details class="table study" id="{_id(view.table.name)}"{opened}>'
            f"<summary>{title}</summary>{''.join(parts)}</details>"
        )

    def folded(self, table: Table, is_open: bool) -> str:
        name = f"<small>{escape(table.name)}</small>"
        return (
            f'<details class="table" id="{_id(table.name)}"{" open" if is_open else ""}>'
            f"<summary>{escape(table.title)}{name}</summary>{self.table(table)}</details>"
        )

    # ---- tables -------------------------------------------------------------------------------

    def table(self, table: Table) -> str:
        source = _tag("p", escape(table.source), "dim") if table.source else ""
        notes = "".join(
            f'<li id="{_id(table.name)}-note-{place}">{escape(note)}</li>'
            for place, note in enumerate(table.notes, 1)
        )
        listed = f'<ol class="notes note">{notes}</ol>' if notes else ""
        if not table.rows:
            return source + listed
        bodies = "".join(
            _tag("tbody", "".join(self.row(table, row) for row in rows))
            for _, rows in itertools.groupby(table.rows, lambda row: row.group)
        )
        grid = f"<table><thead>{_heads(table)}</thead>{bodies}</table>"
        return f'{source}<div class="scroll">{grid}</div>{listed}'

    def row(self, table: Table, row: Row) -> str:
        below = row.kind == "measured" and any(
            other.kind == "published" and other.labels == row.labels for other in table.rows
        )
        labels = [escape(label) for label in row.labels]
        if below:
            # The label stands in the row above.
            labels = [*("" for _ in labels[1:]), f"here{_remark(row)}"]
        elif row.remark or row.missing:
            labels[-1] += f" <small>{escape(row.remark or row.missing)}</small>"
        cells = "".join(
            f'<th class="stub{_long(label) or _broken(label)}" scope="row">{label}</th>'
            for label in labels
        )
        cells += "".join(
            self.cell(table, cell, table.is_text(place)) for place, cell in enumerate(row.cells)
        )
        return f'<tr class="here below">{cells}</tr>' if below else f"<tr>{cells}</tr>"

    def cell(self, table: Table, cell: Number | str | None, is_text: bool) -> str:
        if cell is None:
            return "<td></td>"
        if isinstance(cell, str):
            return _text_cell(cell) if is_text else f"<td>{escape(cell)}</td>"
        shown = escape(text(cell))
        if cell.rank:
            shown = _tag("b", shown) if cell.rank == 1 else _tag("span", shown, "second")
        if cell.doubtful:
            shown = _tag("span", shown, "doubt")
        if cell.origin is not None:
            shown = self.with_origin(shown, cell)
        if cell.delta is not None:
            shown += _tag("span", delta_text(cell), f"delta {cell.tone}")
        if cell.marks:
            links = ",".join(
                f'<a href="#{_id(table.name)}-note-{mark}">{mark}</a>' for mark in cell.marks
            )
            shown += f"<sup>{links}</sup>"
        value = "" if cell.value is None else f' data-value="{cell.value!r}"'
        return f"<td{value}>{shown}</td>"

    def with_origin(self, shown: str, cell: Number) -> str:
        origin = cell.origin
        assert origin is not None
        if cell.kind == "published":
            hover = "\n".join([origin.title, *(f"{name}: {fact}" for name, fact in origin.facts)])
            return f'<span title="{escape(hover)}">{shown}</span>'
        name = self._origins.setdefault(origin, f"origin-{len(self._origins) + 1}")
        hover = "; ".join(f"{name}: {fact}" for name, fact in origin.facts[:4])
        return (
            f'<button class="origin" popovertarget="{name}" title="{escape(hover)}">'
            f"{shown}</button>"
        )

    def origins(self) -> str:
        """What opens when a number is clicked."""
        return "\n".join(
            f'<div popover id="{name}"><b>{escape(origin.title)}</b><dl>{_facts(origin)}</dl></div>'
            for origin, name in self._origins.items()
        )


def _head(report: Report) -> str:
    numbers = [
        cell
        for paper in report.papers
        for table in paper.tables
        for row in table.rows
        for cell in row.cells
        if isinstance(cell, Number) and cell.value is not None
    ]
    runs = {
        entry.name for paper in report.papers for view in paper.studies for entry in view.entries
    }
    tables = [
        table for paper in report.papers for table in paper.tables if "/claims" not in table.name
    ]
    tally = [
        (len(tables), "published tables"),
        (sum(number.kind == "published" for number in numbers), "published numbers"),
        (sum(number.kind == "measured" for number in numbers), "of them measured here"),
        (sum(number.kind == "computed" for number in numbers), "counted from our networks"),
        (len(runs), "study runs in the ledger"),
    ]
    items = "".join(f"<li><b>{number:,}</b>{escape(what)}</li>" for number, what in tally)
    return (
        "<h1>Published beside measured</h1>"
        "<p>Every table of the papers as it was printed, errata applied and noted; under each row "
        "that this suite has an experiment for, what was measured here. Coloured differences are "
        "measured minus published under the same protocol. Click a measured number for its "
        "origin, a heading to sort. Best in bold, second underlined, published and measured apart."
        f'</p><ul class="tally">{items}</ul>'
        f'<p class="dim">Made by sr-lightning {escape(report.version)} from the ledger alone. '
        "Rows with no second line and no remark are of methods that it has no experiment for."
        f"{_left_out(report)}</p>"
    )


def _sentence(finding: Finding) -> str:
    """A sentence with its verdict in colour."""
    kind = f"verdict {_class(finding.word)}"
    before, word, after = finding.sentence.rpartition(f": {finding.word}")
    shown = _tag("span", escape(finding.word), kind)
    return f"{escape(before)}: {shown}{escape(after)}" if word else escape(finding.sentence)


def _figures(plots: Sequence[CostPlot], cls: str = "plots") -> str:
    figures = "".join(
        _tag("figure", cost_plot(plot) + _tag("figcaption", f"{escape(plot.title)}, PSNR (dB)"))
        for plot in plots
    )
    legend = "<p>Rings are published numbers, filled dots were measured here.</p>"
    return legend + _tag("div", figures, cls)


def _left_out(report: Report) -> str:
    if not report.left_out:
        return ""
    are = "comparison of pictures is" if report.left_out == 1 else "comparisons of pictures are"
    return f" {report.left_out} {are} left out to keep this page small."


def _section(link: str, title: str, content: str) -> str:
    return f'<section id="{link}"><h2>{escape(title)}</h2>\n{content}\n</section>'


def _heads(table: Table) -> str:
    stubs = len(table.stubs)
    rows = []
    if any(column.head[0] for column in table.columns):
        wide = "".join(
            f'<th class="wide" colspan="{len(list(same))}">{escape(head)}</th>'
            for head, same in itertools.groupby(table.columns, lambda column: column.head[0])
        )
        rows.append(f'<tr><th class="stub" colspan="{stubs}"></th>{wide}</tr>')
    heads = [(name, ' class="stub"') for name in table.stubs]
    heads += [
        (column.head[1], ' class="text"' if table.is_text(place) else "")
        for place, column in enumerate(table.columns)
    ]
    rows.append(
        _tag(
            "tr",
            "".join(
                f'<th{kind} data-place="{place}"><button>{escape(name)}</button></th>'
                for place, (name, kind) in enumerate(heads)
            ),
        )
    )
    return "".join(rows)


def _text_cell(words: str) -> str:
    kind = f"text{_long(words)}"
    verdicts = set(_VERDICTS.findall(words))
    if len(verdicts) == 1:
        shown = _tag("span", escape(words), f"verdict {_class(verdicts.pop())}")
        return _tag("td", shown, kind)
    return _tag("td", escape(words), kind)


def _long(words: str) -> str:
    """The class of texts that are better broken into lines, for a class attribute."""
    return " long" if len(words) > _LINE else ""


def _broken(words: str) -> str:
    """The class of labels that a phone has no room for in one line, for a class attribute."""
    return " broken" if len(words) > _PHONE_LINE else ""


def _remark(row: Row) -> str:
    return f": {escape(row.remark)}" if row.remark else ""


def _facts(origin: Provenance) -> str:
    facts: Iterable[tuple[str, str]] = origin.facts
    if origin.runs:
        facts = [*facts, ("runs", "; ".join(origin.runs))]
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts)


def _run(entry: RunRecord) -> str:
    facts: Sequence[tuple[str, str]] = (
        ("steps", f"{entry.steps:,}"),
        ("wall time", f"{entry.seconds:.0f} s"),
        ("hardware", entry.hardware),
        ("commit", entry.commit),
        ("key", entry.key),
    )
    listed = "".join(f"<dt>{name}</dt><dd>{escape(fact)}</dd>" for name, fact in facts)
    config = escape(json.dumps(entry.config, indent=1))
    return (
        f"<details><summary><code>{escape(entry.name)}</code></summary><dl>{listed}</dl>"
        f"<pre>{config}</pre></details>"
    )


def _viewer(comparison: Comparison) -> str:
    panels = "".join(
        f'<figure><div class="window"><img alt="{escape(panel.label)}" '
        f'src="data:image/png;base64,{base64.b64encode(panel.png).decode()}"></div>'
        f"<figcaption>{escape(panel.label)}<br>{escape(panel.caption)}</figcaption></figure>"
        for panel in comparison.panels
    )
    return (
        f'<div class="viewer"><h3>{escape(comparison.title)}</h3>'
        f'<p class="dim">{escape(comparison.note)} Point into any picture to look there in all of '
        "them. "
        '<label>Zoom <input type="range" min="1" max="12" step="0.5" value="1"></label></p>'
        f'<div class="panels">{panels}</div></div>'
    )
