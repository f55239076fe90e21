"""What a published number and a published claim are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sr_lightning.metrics.quality import METRICS as QUALITY

__all__ = ["METRICS", "Cell", "Claim", "Label", "Metric", "label_text"]

Label = str | int | float | bool | None


def label_text(name: str, label: Label) -> str:
    """A label of an axis: ``x2.8``, ``yes``, ``Set5``."""
    if label is None:
        return ""
    if isinstance(label, bool):
        return "yes" if label else "no"
    if name == "scale":
        return f"x{label:g}"
    return str(label)


@dataclass(frozen=True)
class Metric:
    """What a number measures.

    Attributes:
        unit: Unit of the values, "" where they are plain numbers.
        low: Smallest possible value.
        high: Largest possible value.
        better: Which values are better, or None where neither is.
    """

    unit: str
    low: float = 0.0
    high: float = math.inf
    better: Literal["higher", "lower"] | None = None


METRICS = {
    "psnr": Metric("dB", 5, 60, "higher"),
    "ssim": Metric("", math.nextafter(0, 1), 1, "higher"),
    **{
        name: Metric(metric.unit, better="higher" if metric.higher_is_better else "lower")
        for name, metric in QUALITY.items()
        if name not in {"psnr", "ssim"}
    },
    "parameters": Metric("", better="lower"),
    "macs": Metric("MAC", better="lower"),
    "flops": Metric("FLOP", better="lower"),
    "seconds": Metric("s", better="lower"),
    "megabytes": Metric("MB", better="lower"),
    "loss": Metric("", better="lower"),
    "logged": Metric(""),
    "logged_smoothed": Metric(""),
    "steps": Metric(""),
    "setting": Metric(""),
}
"""All metrics; ``flops`` is what a source calls FLOPs, ``setting`` is a number of a recipe."""


@dataclass(frozen=True)
class Cell:
    """One published number.

    Attributes:
        table: ``file/table``.
        paper: Paper whose table it is.
        method: Method as the table prints it, without citations.
        factors: What else the table varies, such as ``{"attention": "CA&SA"}``.
        scale: Or None where the number has none.
        set: Image set by the catalog's name, or None.
        metric: Metric of :data:`METRICS`.
        value: Value in `unit`; where the source is known to be wrong, what is right.
        unit: Unit of the value.
        protocol: Name of a protocol, or words; None where the metric needs none.
        protocol_certain: Whether the protocol is known, not supposed.
        source: Paper or slides, and the table, in words.
        erratum: What the source prints, what is right, and why.
        doubtful: The printed value cannot be right, and what is right is not known.
        note: What to know before comparing with it, or what was inferred about it.
        approximate: It was read off a figure or rounded in prose.
        hr_size: (H, W) of the output that MACs or FLOPs are for; None where it is not known.
        best: Whether the table marks it as the best.
        experiment: Experiment of the suite (``experiments/<experiment>.yaml``) whose result answers
            it; a ``+`` at its end means with self-ensemble.
    """

    table: str
    paper: str
    method: str
    factors: Mapping[str, Label] = field(hash=False)
    scale: float | None
    set: str | None
    metric: str
    value: float
    unit: str
    protocol: str | None
    protocol_certain: bool
    source: str
    erratum: str | None = None
    doubtful: bool = False
    note: str | None = None
    approximate: bool = False
    hr_size: tuple[int, int] | None = None
    best: bool = False
    experiment: str | None = None

    @property
    def labels(self) -> dict[str, Label]:
        """What its row is called by: the method and the table's own factors."""
        return {"method": self.method, **self.factors}


@dataclass(frozen=True)
class Claim:
    """One conclusion that a source draws from a table: `better` beats `worse`.

    Attributes:
        table: ``file/table``.
        paper: Paper whose claim it is.
        better: Labels of the better one.
        worse: Labels of the worse one, on the same axes.
        method: Method that both share, or None.
        scale: Scale that both share, or None.
        set: Set that both share, or None.
        metric: Metric that is compared.
        delta: Value of the better one minus that of the worse one, from the cells if they exist.
        approximate: No cells are printed; `delta` was read off a figure or prose.
        source: Where it is claimed.
        says: The conclusion in short.
        cells: The two cells, or None where they are not printed.
    """

    table: str
    paper: str
    better: Mapping[str, Label] = field(hash=False)
    worse: Mapping[str, Label] = field(hash=False)
    method: str | None
    scale: float | None
    set: str | None
    metric: str
    delta: float
    approximate: bool
    source: str
    says: str | None = None
    cells: tuple[Cell, Cell] | None = None

    @property
    def supported(self) -> bool:
        """Whether the published numbers themselves bear it out."""
        gain = -self.delta if METRICS[self.metric].better == "lower" else self.delta
        return gain > 0 or (gain == 0 and self.cells is None)
