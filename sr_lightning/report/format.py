"""Numbers as text, the same in every format."""

from __future__ import annotations

from collections.abc import Mapping

from sr_lightning.metrics.quality import METRICS as QUALITY
from sr_lightning.report.document import Number
from sr_lightning.studies.published_cells import METRICS, Label, label_text

__all__ = ["count", "delta_text", "group_text", "labels_text", "metric_text", "text"]

_COUNTS = ("parameters", "macs", "flops")
_NAMES = {
    **{name: metric.label for name, metric in QUALITY.items()},
    "macs": "MACs",
    "flops": "FLOPs",
    "logged_smoothed": "logged, smoothed",
    "setting": "value",
}


def labels_text(labels: Mapping[str, Label]) -> str:
    """Labels of several axes; a plain yes or no stands behind its axis."""
    return ", ".join(
        f"{name} {label_text(name, label)}" if isinstance(label, bool) else label_text(name, label)
        for name, label in labels.items()
    )


def group_text(group: str) -> str:
    """Set and scale of the ledger for people: ``Set5_x4`` is ``Set5 x4``."""
    name, _, scale = group.rpartition("_x")
    return f"{name} x{scale}" if name else group


def metric_text(metric: str) -> str:
    """A metric as a heading, with its unit."""
    name = _NAMES.get(metric, metric)
    unit = METRICS[metric].unit if metric in METRICS and metric not in _COUNTS else ""
    return f"{name} ({unit})" if unit else name


def count(value: float) -> str:
    """A number of parameters or operations: ``760.1k``, ``260.7G``."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{float(f'{value / size:.4g}'):g}{suffix}"
    return f"{value:g}"


def text(number: Number) -> str:
    """A number with what belongs to it: deviation, word, doubts."""
    if number.value is None:
        return number.word
    if number.metric in _COUNTS:
        shown = count(number.value)
    elif number.metric in QUALITY:
        shown = f"{number.value:{'+' if number.signed else ''}.{number.decimals}f}"
    else:
        shown = f"{number.value:.10g}"
    spread = number.half_width if number.half_width is not None else number.deviation
    if spread is not None:
        shown += f" ± {spread:.{number.decimals + (not number.signed)}f}"
    shown = f"{'≈' * number.approximate}{shown}{'?' * number.doubtful}"
    return f"{shown} ({number.word})" if number.word else shown


def delta_text(number: Number) -> str:
    """How far a measured number is from the published one, or nothing."""
    if number.delta is None:
        return ""
    return f"{number.delta:{'+.1%' if number.kind == 'computed' else f'+.{number.decimals}f'}}"
