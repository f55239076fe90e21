"""The report as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sr_lightning import __version__
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.report.document import (
    Comparison,
    Curves,
    Plot,
    Provenance,
    Report,
    ZooView,
    tally,
)
from sr_lightning.report.figures import STYLES, cost_figure, curves_figure, inline_svg
from sr_lightning.report.format import delta_text, text
from sr_lightning.studies.verdicts import RULE, WORDS

__all__ = ["page"]

_T = TypeVar("_T")
_ASSETS = Path(__file__).parent / "assets"
# At the beginning of a text or after a count; the longest that fits.
_VERDICTS = re.compile(
    rf"(?:^|\d )({'|'.join(sorted(WORDS, key=len, reverse=True))})(?=$|[:,] | \()"
)


def page(report: Report) -> str:
    """The whole report.

    Args:
        report: Report to show; the same report gives the same bytes.
    """
    origins: dict[Provenance, str] = {}
    drawn = itertools.count(1)

    def cost_plot(plot: Plot) -> Markup:
        title = f"{plot.title}: PSNR against {plot.cost}"
        return Markup(inline_svg(cost_figure(plot), title, f"figure{next(drawn)}"))

    def curves(values: Curves) -> Markup:
        title = "PSNR on held-out images over optimiser steps"
        return Markup(inline_svg(curves_figure(values), title, f"figure{next(drawn)}"))

    environment = Environment(
        loader=FileSystemLoader(_ASSETS),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "base64": lambda png: base64.b64encode(png).decode(),
        "indented": lambda content: json.dumps(content, indent=1),
    }
    return environment.get_template("report.html.jinja").render(
        report=report,
        papers=[paper for paper in report.papers if paper.tables or paper.studies],
        tally=_tally(report),
        zoo_figures=[*_zoo_figures(report.zoo)] if report.zoo else [],
        protocols=PROTOCOLS,
        rule=RULE,
        version=__version__,
        origins=origins,
        origin_id=lambda origin: origins.setdefault(origin, f"origin-{len(origins) + 1}"),
        cost_plot=cost_plot,
        curves=curves,
        text=text,
        delta_text=delta_text,
        slug=lambda name: re.sub(r"[^\w.-]+", "-", name),
        css=_css,
        groups=_groups,
        spans=lambda columns: [(same[0][0], len(same)) for same in _groups(columns, 0)],
        verdict_in=_verdict_in,
        style=Markup(STYLES.read_text()),
        script=Markup((_ASSETS / "report.js").read_text()),
    )


def _css(word: str) -> str:
    """The CSS class of a verdict."""
    return word.replace(",", "").replace(" ", "-")


def _verdict_in(words: str) -> str:
    """The CSS class of the only verdict in a text, or nothing."""
    found = set(_VERDICTS.findall(words))
    return _css(found.pop()) if len(found) == 1 else ""


def _groups(items: Iterable[_T], key: str | int) -> list[list[_T]]:
    """Neighbours with an equal attribute, or an equal item at a place."""
    same: Callable[[Any], Any] = attrgetter(key) if isinstance(key, str) else itemgetter(key)
    return [list(found) for _, found in itertools.groupby(items, same)]


def _tally(report: Report) -> dict[str, int]:
    """What there is in how many numbers."""
    tables = [table for paper in report.papers for table in paper.tables]
    runs = {run.name for paper in report.papers for view in paper.studies for run in view.entries}
    kinds = tally(tables)
    return {
        "published tables": sum("/claims" not in table.name for table in tables),
        "published numbers": kinds["published"],
        "of them measured here": kinds["measured"],
        "counted from our networks": kinds["computed"],
        "study runs in the ledger": len(runs),
    }


def _zoo_figures(zoo: ZooView) -> Iterator[tuple[float, list[Comparison], list[Plot], bool]]:
    """Pictures and plots by scale; that with most networks is open, as people come for it."""
    both: tuple[Comparison | Plot, ...] = (*zoo.pictures, *zoo.plots)
    scales = sorted({one.scale or 0 for one in both})
    pictures = {s: [one for one in zoo.pictures if (one.scale or 0) == s] for s in scales}
    widths = {s: max([0, *(len(one.panels) for one in pictures[s])]) for s in scales}
    first = max(scales, key=lambda scale: widths[scale], default=0)
    for scale in scales:
        plots = [one for one in zoo.plots if (one.scale or 0) == scale]
        yield scale, pictures[scale], plots, scale == first
