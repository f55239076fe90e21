"""Figures as SVG by matplotlib: inside the page in the page's own colours, or as files."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape, unescape
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from sr_lightning.report.document import Curves, Plot, Point
from sr_lightning.report.format import count

__all__ = ["STYLES", "cost_figure", "curves_figure", "description", "file_svg", "inline_svg"]

STYLES = Path(__file__).parent / "assets" / "report.css"
# The first of each in the file is that of the light page.
_PAGE = dict(reversed(re.findall(r"--(\w+): (#\w{6});", STYLES.read_text())))
_SETTINGS: dict[Any, Any] = {
    # The same figure gives the same bytes, and its words stay words.
    "svg.hashsalt": "sr-lightning",
    "svg.fonttype": "none",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
    "font.size": 8,
    "legend.fontsize": 8,
    "text.color": _PAGE["text"],
    "axes.edgecolor": _PAGE["line"],
    "axes.labelcolor": _PAGE["dim"],
    "xtick.color": _PAGE["line"],
    "ytick.color": _PAGE["line"],
    "xtick.labelcolor": _PAGE["dim"],
    "ytick.labelcolor": _PAGE["dim"],
    "grid.color": _PAGE["line"],
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
}
# How far, in points, a name may stand above or below its dot.
_NAME_STEPS = (0, 6, -6, 12, -12, 18, -18, 26, -26, 35, -35, 45, -45)


def curves_figure(curves: Curves) -> Figure:
    """Validation PSNR over steps: a line for every level's mean, a band over its seeds.

    Args:
        curves: Curves with at least one level.
    """
    figure, axes = _empty("optimiser steps")
    for place, (level, values) in enumerate(curves.groupby("level", sort=False)):
        colour = _PAGE[f"c{place % 10}"]
        steps = values.groupby("step")["psnr"].agg(["mean", "min", "max"])
        axes.fill_between(steps.index, steps["min"], steps["max"], color=colour, alpha=0.15, lw=0)
        axes.plot(steps.index, steps["mean"], color=colour, lw=1.4, label=level)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    with rc_context(_SETTINGS):
        legend = axes.legend(frameon=False, labelcolor="linecolor", handlelength=0, handletextpad=0)
    # The names have the colours of the lines.
    for line in legend.legend_handles:
        if line is not None:
            line.set_visible(False)
    return figure


def cost_figure(plot: Plot) -> Figure:
    """PSNR against parameters or MACs, the cost on a logarithmic axis.

    Args:
        plot: Plot with at least one point.
    """
    cost = {"parameters": "parameters", "macs": "MACs"}[plot.cost]
    figure, axes = _empty(f"{cost} (logarithmic)")
    axes.set_xscale("log")
    for point in plot.points:
        colour = _PAGE["c1" if point.measured else "c0"]
        (dot,) = axes.plot(
            *(point.cost, point.psnr, "o"),
            ms=5.5,
            mec=colour,
            mfc=colour if point.measured else "none",
        )
        dot.set_gid(f"dot {point.label}: {point.psnr:.2f} dB, {count(point.cost)}")
    axes.margins(0.07)
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 99 * low else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)
    _name_dots(figure, axes, plot.points)
    return figure


def _empty(label: str) -> tuple[Figure, Axes]:
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(5, 3.1), layout="constrained")
        axes = figure.add_subplot(xlabel=label)
    axes.patch.set_visible(False)
    figure.patch.set_visible(False)
    return figure, axes


def _name_dots(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    """Names of dots where there is room near them; every dot has its name as a tooltip, too."""
    with rc_context(_SETTINGS):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        dots = axes.transData.transform([(point.cost, point.psnr) for point in points])
        taken = [(x - 4, x + 4, y - 4, y + 4) for x, y in dots]
        # What was measured here is named first.
        for point in sorted(points, key=lambda point: not point.measured):
            for away, side in ((step, side) for step in _NAME_STEPS for side in (1, -1)):
                name = axes.annotate(
                    point.label,
                    (point.cost, point.psnr),
                    (6 * side, away),
                    textcoords="offset points",
                    ha="left" if side > 0 else "right",
                    va="center",
                    parse_math=False,
                    fontweight="bold" if point.measured else "normal",
                    arrowprops={
                        "arrowstyle": "-",
                        "color": _PAGE["line"],
                        "relpos": (side < 0, 0.5),
                    }
                    if abs(away) > _NAME_STEPS[1]
                    else None,
                )
                if _has_room(figure, axes, name, taken):
                    break
                name.remove()


def _has_room(
    figure: Figure, axes: Axes, name: Annotation, taken: list[tuple[float, float, float, float]]
) -> bool:
    """Whether a name covers nothing; then its place is taken."""
    name.get_window_extent()
    # The same again without the line to its dot.
    box = Text.get_window_extent(name)
    left, right, low, high = box.x0 - 1, box.x1 + 1, box.y0, box.y1
    if left < axes.bbox.x0 or right > figure.bbox.x1 or low < axes.bbox.y0 or high > figure.bbox.y1:
        return False
    if any(left < b and a < right and low < d and c < high for a, b, c, d in taken):
        return False
    taken.append((left, right, low, high))
    return True


def file_svg(figure: Figure, says: str) -> str:
    """A figure as a file of its own, for READMEs.

    It is light on any page: such a picture cannot know what surrounds it.

    Args:
        figure: Figure to draw.
        says: The numbers in it, which it keeps as its description.
    """
    figure.patch.set(visible=True, facecolor=_PAGE["page"])
    return _tooltips(_drawn(figure, says))


def description(svg: str) -> str | None:
    """The numbers in a drawing of :func:`file_svg`, or None where it does not say them.

    Args:
        svg: Text of the file.
    """
    found = re.search(r"<dc:description>(.*?)</dc:description>", svg, re.DOTALL)
    return None if found is None else unescape(found[1])


def inline_svg(figure: Figure, title: str, prefix: str) -> str:
    """A figure for a page, which is dark where the page is.

    Args:
        figure: Figure to draw.
        title: Words for those who cannot see it.
        prefix: Beginning of its elements' names, which no other figure of the page has.
    """
    drawn = _drawn(figure, None)
    drawn = re.sub(r' xmlns(:\w+)?="[^"]*"| width="\S+pt"| height="\S+pt"', "", drawn)
    drawn = drawn[drawn.index("<svg") :].replace(
        "<svg", f'<svg role="img" aria-label="{escape(title)}"', 1
    )
    drawn = re.sub(r"<defs>\s*<style.*?</defs>| font-family: [^;]*;", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'\b(id="|href="#)(?!dot )', rf"\g<1>{prefix}-", drawn)
    for name, colour in _PAGE.items():
        drawn = drawn.replace(colour, f"var(--{name})")
    return _tooltips(drawn)


def _drawn(figure: Figure, says: str | None) -> str:
    out = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type")) | {"Description": says}
    with rc_context(_SETTINGS):
        figure.savefig(out, format="svg", metadata=metadata)
    # Nothing leaves the axes, and a page without url() is easily seen to ask for nothing.
    return re.sub(
        r' clip-path="[^"]*"|<defs>\s*<clipPath.*?</clipPath>\s*</defs>',
        "",
        out.getvalue(),
        flags=re.DOTALL,
    )


def _tooltips(drawn: str) -> str:
    return re.sub(r"<g id=([\"'])dot (.*?)\1>", r"<g><title>\2</title>", drawn)
