"""Plots as SVG: inline, coloured by the page's own variables, or as a file of its own."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

from sr_lightning.report.document import CostPlot, Curve, Point
from sr_lightning.report.format import count

__all__ = ["cost_plot", "curves", "standalone"]

STYLES = Path(__file__).parent / "assets" / "report.css"
_WIDTH, _HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 12, 34
_COLOURS = 10
_LETTER = 6.2
_FOOT = _HEIGHT - _BOTTOM
# How far a name may stand above or below its dot.
_NAME_STEPS = (0, 8, -8, 16, -16, 24, -24, 34, -34, 46, -46, 60, -60)


def curves(levels: Sequence[Curve]) -> str:
    """Validation PSNR over steps: a line for every level's mean, a band over its seeds.

    Args:
        levels: Levels with at least one run each.
    """
    xs = [step for level in levels for steps, _ in level.seeds for step in steps]
    ys = [value for level in levels for _, values in level.seeds for value in values]
    x = _scale(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT)
    low, high, ticks = _ticks(min(ys), max(ys))
    y = _scale(low, high, _HEIGHT - _BOTTOM, _TOP)
    parts = [_horizontal(y, ticks), _x_label("optimiser steps")]
    for step in sorted({min(xs), (min(xs) + max(xs)) / 2, max(xs)}):
        parts.append(_x_tick(x(step), count(step)))
    for place, level in enumerate(levels):
        colour = f"var(--c{place % _COLOURS})"
        by_step: dict[float, list[float]] = {}
        for steps, values in level.seeds:
            for step, value in zip(steps, values, strict=True):
                by_step.setdefault(step, []).append(value)
        line = sorted(by_step.items())
        above = [(x(step), y(max(values))) for step, values in line]
        below = [(x(step), y(min(values))) for step, values in reversed(line)]
        mean = [(x(step), y(statistics.fmean(values))) for step, values in line]
        top = _HEIGHT - _BOTTOM - 8 - 15 * (len(levels) - 1 - place)
        parts.append(
            f'<polygon points="{_path(above + below)}" fill="{colour}" opacity=".15"/>'
            f'<polyline points="{_path(mean)}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
            f'<text x="{_WIDTH - _RIGHT - 4}" y="{top}" text-anchor="end" style="fill:{colour}">'
            f"{escape(level.label)}</text>"
        )
    return _svg("PSNR on held-out images over optimiser steps", parts)


def cost_plot(plot: CostPlot) -> str:
    """PSNR against parameters or MACs, the cost on a logarithmic axis.

    Args:
        plot: Plot with at least one point.
    """
    costs = [math.log10(point.cost) for point in plot.points]
    margin = 0.08 * (max(costs) - min(costs) or 1)
    x = _scale(min(costs) - margin, max(costs) + margin, _LEFT, _WIDTH - _RIGHT)
    low, high, ticks = _ticks(*_range(point.psnr for point in plot.points))
    y = _scale(low, high, _HEIGHT - _BOTTOM, _TOP)
    parts = [_horizontal(y, ticks), _x_label(f"{_COSTS[plot.cost]} (logarithmic)")]
    first, last = min(costs) - margin, max(costs) + margin
    for power in range(math.floor(first), math.ceil(last)):
        for factor in (1, 2, 5) if last - first < 1.2 else (1,):
            if first <= power + math.log10(factor) <= last:
                where = power + math.log10(factor)
                parts.append(_x_tick(x(where), count(factor * 10.0**power)))
    dots = [(point, x(cost), y(point.psnr)) for point, cost in zip(plot.points, costs, strict=True)]
    parts += [_dot(*dot) for dot in dots]
    # Names keep off all dots; those of what was measured here are placed first.
    taken = [(at - 5, at + 5, height - 5, height + 5) for _, at, height in dots]
    parts += [_name(*dot, taken) for dot in sorted(dots, key=lambda dot: not dot[0].measured)]
    return _svg(f"{plot.title}: PSNR against {plot.cost}", parts)


def standalone(drawing: str) -> str:
    """An inline plot as a file of its own, for READMEs.

    It is light on any page: such a picture cannot know what surrounds it.
    """
    styles = STYLES.read_text()
    colours = re.search(r":root \{.*?\}", styles, re.DOTALL)
    rules = re.findall(r"^svg .*$", styles, re.MULTILINE)
    assert colours is not None
    kept = "\n".join(
        [colours[0].replace("light dark", "light"), "svg { font: 11px sans-serif; }", *rules]
    )
    opened = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH * 3 // 2}" '
    paper = '<rect width="100%" height="100%" style="fill: var(--page)"/>'
    head, body = drawing.removeprefix("<svg ").split(">", 1)
    return f"{opened}{head}>\n<style>\n{kept}\n</style>\n{paper}{body}\n"


_COSTS = {"parameters": "parameters", "macs": "MACs"}


def _dot(point: Point, x: float, y: float) -> str:
    colour = "var(--c1)" if point.measured else "var(--c0)"
    fill = colour if point.measured else "none"
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{colour}" '
        f'stroke-width="1.6"><title>{escape(point.label)}: {point.psnr:.2f} dB, '
        f"{count(point.cost)}</title></circle>"
    )


def _name(point: Point, x: float, y: float, taken: list[tuple[float, float, float, float]]) -> str:
    """A point's name where there is room near it, or nothing; the dot tells it, too."""
    # Those of what was measured here are bold.
    width = _LETTER * len(point.label) * (1.05 if point.measured else 1)
    for away in _NAME_STEPS:
        for anchor, left in (("start", x + 8), ("end", x - 8 - width)):
            box = (left, left + width, y + away - 4.5, y + away + 6.5)
            inside = box[0] > _LEFT and box[1] < _WIDTH and box[2] > 0 and box[3] < _FOOT
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                at = left if anchor == "start" else left + width
                line = ""
                if abs(away) > _NAME_STEPS[1]:
                    near = at - 2 if anchor == "start" else at + 2
                    line = f'<path class="grid" d="M{x:.1f} {y:.1f}L{near:.1f} {y + away:.1f}"/>'
                ours = ' class="ours"' if point.measured else ""
                return (
                    f'{line}<text{ours} x="{at:.1f}" y="{y + away + 4:.1f}" '
                    f'text-anchor="{anchor}">{escape(point.label)}</text>'
                )
    return ""


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]


def _range(values: Iterable[float]) -> tuple[float, float]:
    listed = list(values)
    return min(listed), max(listed)


def _scale(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    span = high - low or 1.0
    return lambda value: first + (value - low) / span * (last - first)


def _ticks(low: float, high: float) -> tuple[float, float, list[float]]:
    """A rounder range and about five round numbers in it."""
    rough = (high - low or 0.1) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return first * step, last * step, [n * step for n in range(first, last + 1)]


def _horizontal(y: Callable[[float], float], ticks: Sequence[float]) -> str:
    digits = 0 if all(tick == round(tick) for tick in ticks) else 2
    return "".join(
        f'<path class="grid" d="M{_LEFT} {y(tick):.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text class="tick" x="{_LEFT - 5}" y="{y(tick) + 4:.1f}" text-anchor="end">'
        f"{tick:.{digits}f}</text>"
        for tick in ticks
    )


def _x_tick(x: float, label: str) -> str:
    # A long label at the right end would be cut off.
    anchor = "end" if x + _LETTER * len(label) / 2 > _WIDTH else "middle"
    at = _WIDTH - 1 if anchor == "end" else x
    return (
        f'<path class="grid" d="M{x:.1f} {_FOOT}v4"/>'
        f'<text class="tick" x="{at:.1f}" y="{_FOOT + 15}" text-anchor="{anchor}">{label}</text>'
    )


def _x_label(label: str) -> str:
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return f'<text class="tick" x="{middle}" y="{_HEIGHT - 3}" text-anchor="middle">{label}</text>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{px:.1f},{py:.1f}" for px, py in points)


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
