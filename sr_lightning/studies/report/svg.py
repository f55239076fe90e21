"""Plots as inline SVG, coloured by the page's own variables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from html import escape

from sr_lightning.studies.report.views import CostPlot, Curve, Point
from sr_lightning.studies.report.words import count

__all__ = ["cost_plot", "curves"]

_WIDTH, _HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 12, 34
_COLOURS = 8
_LETTER = 6.2


def curves(levels: Sequence[Curve]) -> str:
    """Validation PSNR over steps: a line for every level's mean, a band over its seeds.

    Args:
        levels: with at least one run each.
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
        plot: with at least one point.
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
    # Names keep off all dots, also those drawn later.
    taken = [
        (x(cost) - 5, x(cost) + 5, y(point.psnr) + 4)
        for point, cost in zip(plot.points, costs, strict=True)
    ]
    for point, cost in zip(plot.points, costs, strict=True):
        parts.append(_dot(point, x(cost), y(point.psnr), taken))
    return _svg(f"{plot.title}: PSNR against {plot.cost}", parts)


_COSTS = {"parameters": "parameters", "macs": "MACs"}


def _dot(point: Point, x: float, y: float, taken: list[tuple[float, float, float]]) -> str:
    """A point and its name, moved off the names that stand already."""
    width = _LETTER * len(point.label)
    on_the_right = x + 8 + width < _WIDTH - _RIGHT
    anchor, at = ("start", x + 8) if on_the_right else ("end", x - 8)
    left = at if on_the_right else at - width
    height = y + 4
    while any(abs(height - h) < 11 and left < r and left + width > b for b, r, h in taken):
        height += 2
    taken.append((left, left + width, height))
    colour = "var(--c1)" if point.measured else "var(--c0)"
    fill = colour if point.measured else "none"
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{colour}" '
        f'stroke-width="1.6"><title>{escape(point.label)}: {point.psnr:.2f} dB, '
        f"{count(point.cost)}</title></circle>"
        f'<text x="{at:.1f}" y="{height:.1f}" text-anchor="{anchor}">{escape(point.label)}</text>'
    )


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
    foot = _HEIGHT - _BOTTOM
    return (
        f'<path class="grid" d="M{x:.1f} {foot}v4"/>'
        f'<text class="tick" x="{x:.1f}" y="{foot + 15}" text-anchor="middle">{label}</text>'
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
