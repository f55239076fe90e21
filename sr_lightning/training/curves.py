"""PSNR against scale as a drawing: how a network does over a sweep of scales."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

__all__ = ["Curves", "curves_of", "draw"]

Curves = dict[str, dict[str, dict[float, float]]]
"""PSNR in dB by set, method and scale."""

_WIDTH, _HEIGHT = 460, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 20, 34, 36
_COLOURS = ("#1f5fa8", "#c4481e", "#2f8a57", "#8a4fae", "#b0851b", "#3a8f9e")
_MOST_TICKS = 10


def curves_of(means: Sequence[dict[str, Any]], protocol: str) -> Curves:
    """The curves of a test.

    Args:
        means: Rows of set, scale, method, protocol and psnr.
        protocol: Protocol of the numbers.

    Returns:
        The curves. Infinite numbers (null in the file) are left out: at a scale that leaves the
        image's size as it is, bicubic makes no error.
    """
    curves: Curves = {}
    for row in means:
        psnr = row.get("psnr")
        if row["protocol"] == protocol and psnr is not None and math.isfinite(psnr):
            line = curves.setdefault(row["set"], {}).setdefault(row["method"], {})
            line[float(row["scale"])] = float(psnr)
    return curves


def draw(curves: Curves, protocol: str) -> str:
    """An SVG with a panel for each set, over the logarithm of the scale."""
    methods = sorted(
        {method for methods in curves.values() for method in methods},
        key=lambda method: (method == "bicubic", method),
    )
    colours = {method: _COLOURS[place % len(_COLOURS)] for place, method in enumerate(methods)}
    colours["bicubic"] = "#888888"
    panels = []
    for place, (name, lines) in enumerate(curves.items()):
        panel = _panel(f"{name}: PSNR (dB) over scale, {protocol}", lines, colours)
        panels.append(f'<g transform="translate(0 {place * _HEIGHT})">{panel}</g>')
    height = _HEIGHT * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(panels)}</svg>\n'
    )


def _panel(title: str, lines: dict[str, dict[float, float]], colours: dict[str, str]) -> str:
    scales = sorted({scale for line in lines.values() for scale in line})
    values = [value for line in lines.values() for value in line.values()]
    low, high = math.floor(min(values)), math.ceil(max(values) + 1e-9)
    first, last = math.log(scales[0]), math.log(scales[-1])

    def x(scale: float) -> float:
        share = (math.log(scale) - first) / (last - first) if last > first else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<text x="{_LEFT}" y="18" font-size="13">{escape(title)}</text>']
    step = max(1, math.ceil((high - low) / 8))
    for level in range(low, high + 1, step):
        parts.append(
            f'<path d="M{_LEFT} {y(level):.1f}H{_WIDTH - _RIGHT}" stroke="#dddddd"/>'
            f'<text x="{_LEFT - 6}" y="{y(level) + 4:.1f}" text-anchor="end">{level}</text>'
        )
    for scale in scales[:: math.ceil(len(scales) / _MOST_TICKS)]:
        parts.append(
            f'<path d="M{x(scale):.1f} {_HEIGHT - _BOTTOM}v4" stroke="black"/>'
            f'<text x="{x(scale):.1f}" y="{_HEIGHT - _BOTTOM + 17}" '
            f'text-anchor="middle">{scale:g}</text>'
        )
    for place, (method, colour) in enumerate(colours.items()):
        line = lines.get(method, {})
        points = [(x(scale), y(line[scale])) for scale in sorted(line)]
        dashes = ' stroke-dasharray="4 3"' if method == "bicubic" else ""
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        # Curves fall to the right, which leaves the upper right corner to the legend.
        dots = "".join(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.5"/>' for px, py in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dashes}/>'
            f'<g fill="{colour}">{dots}'
            f'<text x="{_WIDTH - _RIGHT}" y="{_TOP + 12 + 14 * place}" text-anchor="end">'
            f"{escape(method)}</text></g>"
        )
    return "".join(parts)
