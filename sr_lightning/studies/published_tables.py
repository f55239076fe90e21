"""Reading tables of published numbers.

A file of ``experiments/published`` says, beside a head comment::

    paper: HFDN                                 # whose numbers
    source: HFDN slides (ICIP 2020)             # where they are printed, in words
    methods: {VDSR: null, HFDN: hfdn_x*}        # every method, and our experiment (* is the scale)
    tables:
      attention:                                # the table is then called hfdn/attention
        title: The effect of attention block    # as the source heads it
        axes: [attention, {metric: [psnr, ssim]}] # what each level of nesting under cells is
        common: {method: HFDN, scale: x3, set: Set5}
        protocol: edsr2017                      # of PROTOCOLS, or free text of several words
        certain: false                          # whether that protocol is known or supposed
        cells: {Baseline: [34.16, null], CA: [34.19, null]}

An axis in ``axes`` that is a name has its labels as keys of ``cells``; one that is ``{name:
labels}`` has its values as a list in that order, where null is an empty cell. ``"CA, SA"`` is two
axes whose labels share a key, as in ``"yes, no": 37.95``. Axes other than method, scale, set and
metric are the table's own factors. Values may be written as printed: ``760.1k``, ``260.7G``, ``1h
23m 4s``.

Further keys of a table:

* ``hr``: output size that MACs and FLOPs are for, as width x height, or unknown.
* ``complete``: factors that make the whole method; only such cells are answered by our experiment.
* ``best``: cells that the table marks as best.
* ``note``, ``approximate`` (read off a figure), ``paper`` and ``source`` (other than the file's).
* ``where``: a list of exceptions: for the cells that ``at`` selects, another protocol, hr, source
  or note.
* ``errata``: a list of ``{at, printed, right, why}``. The cell holds what is right; without
  ``right`` it holds what is printed and is doubtful; with ``why`` alone it is a remark.
* ``claims``: a list of ``{better: {attention: CA}, worse: {attention: Baseline}, at: {set: Set5},
  says: ...}``. Without ``at`` it is claimed wherever both have a cell; ``worse`` may list several
  labels. Only a table without cells states the difference itself, as ``delta``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from sr_lightning.data.catalog import catalog, known_set
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.studies.located_yaml import (
    Block,
    FileModel,
    Place,
    Words,
    as_model,
    meant,
    read_yaml,
)
from sr_lightning.studies.published_cells import METRICS, Cell, Claim, Label

__all__ = ["PublishedFile", "read_tables", "set_name"]

# Sets of published tables that the suite does not evaluate on.
_OTHER_SETS = ("historical",)
_AXES = ("method", "scale", "set", "metric")
_SUFFIXES = {"k": 1e3, "M": 1e6, "G": 1e9}
_COUNTS = ("parameters", "macs", "flops")


_Selector = dict[str, Any]


class _Facts(FileModel):
    """What is said of a table, or of some of its cells."""

    protocol: Words | None = None
    """Name of a protocol of PROTOCOLS, or free text of several words."""
    certain: bool | None = None
    """Whether that protocol is known or supposed."""
    hr: Words | None = None
    """Output size that MACs and FLOPs are for, as width x height, or unknown."""
    source: Words | None = None
    """Where it is printed, if not where the file says."""
    note: Words | None = None
    """A remark."""
    approximate: bool | None = None
    """Whether the values were read off a figure."""


class WhereEntry(_Facts):
    """An exception: what differs for some cells."""

    at: _Selector
    """Labels by axis that select the cells; a list is any of its labels."""


class Erratum(FileModel):
    """A misprint, or a remark on one."""

    at: _Selector
    """Labels by axis that select the cells."""
    printed: Any = None
    """What is printed; about one cell."""
    right: Any = None
    """What is right, as the cell holds it; without it the cell is doubtful."""
    why: Words
    """How that is known."""


class TableClaim(FileModel):
    """A conclusion of the paper."""

    better: _Selector
    """Labels by axis of what is said to be better."""
    worse: _Selector
    """The same axes with the labels of what it is compared with; a list is each of its labels."""
    at: _Selector | None = None
    """Cells that it is claimed of; default: wherever both have a cell."""
    delta: float | None = None
    """The difference, of a table without cells alone."""
    says: Words | None = None
    """What the paper says."""


class TableEntry(_Facts):
    """A published table."""

    title: Words
    """Title as the source heads it."""
    paper: Words | None = None
    """Whose numbers, if not the file's."""
    axes: list[Words | dict[str, list[Any]]]
    """What each level of nesting under cells is: a name, or a name with the labels of a list."""
    common: dict[str, Any] = Field(default_factory=dict)
    """Labels that all cells share, by axis."""
    cells: Any = None
    """The values, nested by the axes."""
    complete: _Selector | None = None
    """Labels of the whole method; only such cells are answered by our experiment."""
    best: list[_Selector] | None = None
    """Cells that the table marks as best."""
    where: list[WhereEntry] | None = None
    """Exceptions."""
    errata: list[Erratum] | None = None
    """Misprints."""
    claims: list[TableClaim] | None = None
    """Conclusions."""


class PublishedFile(FileModel):
    """Published numbers of one paper."""

    paper: Words
    """Whose numbers."""
    source: Words
    """Where they are printed, in words."""
    methods: dict[str, Words | None]
    """Every method, and our experiment for it (* is the scale), if there is one."""
    tables: dict[str, TableEntry]
    """The tables by name."""


def read_tables(file: Path) -> Iterator[tuple[list[Cell], list[Claim]]]:
    """The cells and claims of each table of a file.

    Raises:
        UserError: the file is damaged, or a key, name or value in it is impossible; the message
            names file, line and key.
    """
    for table in _tables(file):
        rows = _rows(table)
        yield [cell for _, cell in rows], list(_claims(table, rows))


def set_name(name: object) -> str | None:
    """The catalog's name of an image set, or None where it is not known."""
    if name in _OTHER_SETS:
        return str(name)
    facts = known_set(name) if isinstance(name, str) else None
    return facts.name if facts else None


@dataclass(frozen=True)
class _Axis:
    """One level of nesting: names (several share a key) and, where values are a list, labels."""

    names: tuple[str, ...]
    labels: tuple[tuple[Label, ...], ...] | None = None


@dataclass(frozen=True)
class _Table:
    """A table of a file before its cells are read."""

    name: str
    paper: str
    source: str
    methods: Mapping[str, str | None]
    entry: Block
    place: Place

    def axes(self) -> list[_Axis]:
        place = self.place.at(self.entry, "axes")
        found = []
        for inner, axis in place.items(self.entry["axes"]):
            labels = None
            if isinstance(axis, Block):
                if len(axis) != 1:
                    inner.refuse("write one {name: [labels]} for each axis.")
                ((axis, listed),) = axis.items()
                names = _split(str(axis))
                labels = tuple(self.labels(names, label, at) for at, label in inner.items(listed))
            else:
                names = _split(str(axis))
            found.append(_Axis(names, labels))
        return found

    def shared(self) -> dict[str, Label]:
        place = self.place.at(self.entry, "common")
        node = place.block(self.entry.get("common", Block()))
        return {str(name): self.label(name, node[name], place.at(node, name)) for name in node}

    def labels(self, names: tuple[str, ...], key: object, place: Place) -> tuple[Label, ...]:
        """The labels of one key, one for each name of its axis."""
        if len(names) == 1:
            return (self.label(names[0], key, place),)
        try:
            parts = [yaml.safe_load(part) for part in str(key).split(",")]
        except yaml.YAMLError:
            place.refuse(f"'{key}' cannot be labels of {', '.join(names)}.")
        if len(parts) != len(names):
            place.refuse(f"'{key}' has {len(parts)} labels, but {', '.join(names)} need one each.")
        return tuple(self.label(*pair, place) for pair in zip(names, parts, strict=True))

    def label(self, name: str, value: object, place: Place) -> Label:
        """A label as it stands in cells: a scale as a number, a set by its name."""
        if value is None and name in ("scale", "set"):
            return None
        if name == "scale":
            match = re.fullmatch(r"x(\d+(\.\d+)?)", str(value))
            if not match or float(match[1]) < 1:
                place.refuse(f"'{value}' is not a scale such as x2 or x1.5.")
            return float(match[1])
        if name == "set":
            found = set_name(value)
            if found is None:
                known = [*(facts.name for facts in catalog().values()), *_OTHER_SETS]
                place.refuse(f"unknown image set '{value}'{meant(str(value), known)}.")
            return found
        if name in ("metric", "method"):
            known = list(METRICS if name == "metric" else self.methods)
            if str(value) not in known:
                place.refuse(
                    f"unknown {name} '{value}'{meant(str(value), known)}; "
                    f"known are {', '.join(known)}."
                )
            return str(value)
        if not isinstance(value, str | int | float):
            place.refuse(f"'{value}' cannot be a label of {name}.")
        return value


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(","))


def _tables(file: Path) -> Iterator[_Table]:
    place, content = read_yaml(file)
    read = as_model(place, content, PublishedFile)
    tables = place.at(content, "tables")
    for key, entry in content["tables"].items():
        name = str(key)
        said = read.tables[name]
        yield _Table(
            name=f"{file.stem}/{name}",
            paper=said.paper or read.paper,
            source=f"{said.source or read.source}, {said.title}",
            methods=read.methods,
            entry=entry,
            place=tables.at(content["tables"], key),
        )


# Cells -------------------------------------------------------------------------------------------

_Row = tuple[dict[str, Label], Cell]


def _rows(table: _Table) -> list[_Row]:
    """All cells of a table, each with its label on every axis."""
    place, entry = table.place, table.entry
    axes = table.axes()
    everywhere = place.at(entry, "common").block(entry.get("common", Block()))
    names = [name for axis in axes for name in axis.names] + list(everywhere)
    for name in names:
        if names.count(name) > 1:
            place.refuse(f"'{name}' is an axis twice.")
    for name in _AXES:
        if name not in names:
            place.refuse(
                f"neither 'axes' nor 'common' gives the {name}; write {name}: null if it has none."
            )
    shared = table.shared()
    found: dict[tuple[Label, ...], _Row] = {}
    cells_place = place.at(entry, "cells")
    for labels, value, at in _leaves(table, axes, shared, entry.get("cells", Block()), cells_place):
        key = tuple(labels[name] for name in names)
        if key in found:
            at.refuse("this cell is given twice.")
        found[key] = labels, _cell(table, labels, value, at)
    rows = list(found.values())
    _apply_where(table, rows)
    _apply_errata(table, rows)
    for at, selector in place.at(entry, "best").items(entry.get("best")):
        for index in _selected(table, rows, selector, at):
            rows[index] = rows[index][0], replace(rows[index][1], best=True)
    _apply_experiments(table, rows)
    _check_conventions(table, rows)
    return rows


def _leaves(
    table: _Table, axes: Sequence[_Axis], labels: dict[str, Label], node: object, place: Place
) -> Iterator[tuple[dict[str, Label], float, Place]]:
    if node is None:
        return
    if not axes:
        yield labels, _number(node, str(labels.get("metric")), place), place
        return
    axis, *rest = axes
    inner: Iterable[tuple[tuple[Label, ...], object, Place]]
    if axis.labels is None:
        keys = place.block(node)
        inner = (
            (table.labels(axis.names, key, place.at(keys, key)), keys[key], place.at(keys, key))
            for key in keys
        )
    else:
        what = ", ".join(axis.names)
        if not isinstance(node, list) or len(node) != len(axis.labels):
            size = f"{len(node)} values" if isinstance(node, list) else f"{node!r}"
            place.refuse(f"expected a list of {len(axis.labels)} (by {what}), got {size}.")
        inner = (
            (label, item, place.at(node, " ".join(map(str, label))))
            for label, item in zip(axis.labels, node, strict=True)
        )
    for label, item, at in inner:
        yield from _leaves(
            table, rest, labels | dict(zip(axis.names, label, strict=True)), item, at
        )


def _number(node: object, metric: str, place: Place) -> float:
    value = math.nan
    if isinstance(node, int | float) and not isinstance(node, bool):
        value = float(node)
    elif isinstance(node, str) and metric in _COUNTS:
        if match := re.fullmatch(r"(-?\d+(?:\.\d+)?) ?([kMG])", node):
            value = float(f"{float(match[1]) * _SUFFIXES[match[2]]:.12g}")
    elif isinstance(node, str) and metric == "seconds":
        match = re.fullmatch(r"(?:(\d+)h ?)?(?:(\d+)m ?)?(?:(\d+)s)?", node)
        if match and node:
            hours, minutes, seconds = (int(part or 0) for part in match.groups())
            value = float(3600 * hours + 60 * minutes + seconds)
    if not math.isfinite(value):
        place.refuse(f"'{node}' is not a number of {metric}.")
    if metric in METRICS and not METRICS[metric].low <= value <= METRICS[metric].high:
        low, high = METRICS[metric].low, METRICS[metric].high
        place.refuse(f"{metric} {value:g} is impossible: it lies between {low:.3g} and {high:g}.")
    return value


def _cell(table: _Table, labels: Mapping[str, Label], value: float, place: Place) -> Cell:
    scale, metric = labels["scale"], str(labels["metric"])
    cell = Cell(
        table=table.name,
        paper=table.paper,
        method=str(labels["method"]),
        factors={name: label for name, label in labels.items() if name not in _AXES},
        scale=None if scale is None else float(scale),
        set=None if labels["set"] is None else str(labels["set"]),
        metric=metric,
        value=value,
        unit=METRICS[metric].unit,
        protocol=None,
        protocol_certain=False,
        source=table.source,
    )
    return _with(cell, table.entry, table.place)


def _with(cell: Cell, entry: Block, place: Place) -> Cell:
    """The cell with what a table or a ``where`` says of it."""
    changes: dict[str, Any] = {}
    # What is null is as if it were left out.
    for key in [key for key, value in entry.items() if value is not None]:
        at, value = place.at(entry, key), entry[key]
        if key == "protocol" and cell.metric in ("psnr", "ssim"):
            changes["protocol"] = _protocol(value, at)
        elif key == "certain" and cell.metric in ("psnr", "ssim"):
            changes["protocol_certain"] = value
        elif key == "hr" and cell.metric in ("macs", "flops"):
            changes["hr_size"] = _hr_size(value, at)
        elif key == "note":
            changes["note"] = _joined(cell.note, value)
        elif key == "approximate":
            changes["approximate"] = value
    return replace(cell, **changes)


def _protocol(name: str, place: Place) -> str:
    if " " not in name and name not in PROTOCOLS:
        place.refuse(
            f"there is no protocol '{name}'{meant(name, PROTOCOLS)}; write several words where "
            "none of ours fits."
        )
    return name


def _hr_size(text: str, place: Place) -> tuple[int, int] | None:
    if text == "unknown":
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        place.refuse(f"'{text}' is not a size such as 1280x720 (width x height), nor unknown.")
    return int(match[2]), int(match[1])


def _joined(first: str | None, second: str) -> str:
    return f"{first} {second}" if first else second


def _selected(table: _Table, rows: Sequence[_Row], node: object, place: Place) -> list[int]:
    """Indices of the rows that a selector fits; every label in it must occur."""
    selector = place.block(node)
    wanted: dict[str, list[Label]] = {}
    for name in selector:
        at = place.at(selector, name)
        options = selector[name] if isinstance(selector[name], list) else [selector[name]]
        wanted[name] = [table.label(name, option, at) for option in options]
        for option in wanted[name]:
            if not any(name in labels and labels[name] == option for labels, _ in rows):
                at.refuse(f"no cell of the table has {name} '{option}'.")
    found = [
        index
        for index, (labels, _) in enumerate(rows)
        if all(labels[name] in options for name, options in wanted.items())
    ]
    if not found:
        place.refuse(f"no cell of the table has all of {dict(selector)}.")
    return found


def _apply_where(table: _Table, rows: list[_Row]) -> None:
    place = table.place.at(table.entry, "where")
    for at, entry in place.items(table.entry.get("where")):
        for index in _selected(table, rows, entry.get("at"), at):
            labels, cell = rows[index]
            cell = _with(cell, entry, at)
            if entry.get("source") is not None:
                cell = replace(cell, source=entry["source"])
            rows[index] = labels, cell


def _apply_errata(table: _Table, rows: list[_Row]) -> None:
    place = table.place.at(table.entry, "errata")
    for at, entry in place.items(table.entry.get("errata")):
        found = _selected(table, rows, entry["at"], at)
        why = entry["why"]
        for index in found:
            labels, cell = rows[index]
            text, doubtful = why, cell.doubtful
            if "printed" in entry or "right" in entry:
                text, doubtful = _corrected(entry, cell, len(found), at), "right" not in entry
            joined = f"{cell.erratum} {text}" if cell.erratum else text
            rows[index] = labels, replace(cell, erratum=joined, doubtful=doubtful)


def _corrected(entry: Block, cell: Cell, selected: int, place: Place) -> str:
    """The text of an erratum about one value, which must agree with the cell."""
    if selected != 1:
        place.refuse(f"'printed' is about one cell, but {selected} are selected.")
    if "printed" not in entry:
        place.refuse("'right' needs 'printed' beside it.")
    holds = entry.get("right", entry["printed"])
    if _number(holds, cell.metric, place) != cell.value:
        place.refuse(f"the cell must hold {holds}, but it holds {cell.value:g}.")
    right = f"right is {entry['right']}" if "right" in entry else "what is right is not known"
    return f"Printed is {entry['printed']}, {right}: {entry['why']}"


def _apply_experiments(table: _Table, rows: list[_Row]) -> None:
    """Name the experiment that answers each cell of a whole method."""
    place = table.place.at(table.entry, "complete")
    complete = set(range(len(rows)))
    if table.entry.get("complete") is not None:
        complete = set(_selected(table, rows, table.entry["complete"], place))
    elif any(cell.factors for _, cell in rows):
        complete = set()
    for index in complete:
        labels, cell = rows[index]
        experiment = table.methods[cell.method]
        if experiment is not None and (cell.scale is not None or "*" not in experiment):
            experiment = experiment.replace(
                "*", f"{cell.scale:g}" if cell.scale is not None else ""
            )
            rows[index] = labels, replace(cell, experiment=experiment)


def _check_conventions(table: _Table, rows: Iterable[_Row]) -> None:
    """Refuse numbers that cannot be compared because nothing says how they were measured."""
    for labels, cell in rows:
        what = " ".join(str(label) for label in labels.values())
        if cell.metric in ("psnr", "ssim") and cell.protocol is None:
            table.place.refuse(f"no protocol is given for {what}.")
        if cell.metric in ("macs", "flops") and table.entry.get("hr") is None:
            table.place.refuse(f"no output size 'hr' is given for {what} (unknown is a size too).")


# Claims ------------------------------------------------------------------------------------------


def _claims(table: _Table, rows: Sequence[_Row]) -> Iterator[Claim]:
    place = table.place.at(table.entry, "claims")
    for at, entry in place.items(table.entry.get("claims")):
        better = _one_each(table, entry["better"], at.at(entry, "better"))
        worse = entry["worse"]
        if set(worse) != set(better):
            at.refuse("'better' and 'worse' must have the same keys.")
        made: list[Claim] = []
        for labels in _alternatives(table, worse, at.at(entry, "worse")):
            made += _from_cells(table, rows, entry, better, labels, at)
            if not rows:
                made.append(_from_prose(table, entry, better, labels, at))
        if not made:
            at.refuse("no two cells differ in just this.")
        if rows and "delta" in entry:
            at.at(entry, "delta").refuse("the cells give the difference; take it out.")
        yield from made


def _one_each(table: _Table, node: object, place: Place) -> dict[str, Label]:
    labels = place.block(node)
    return {str(name): table.label(name, labels[name], place.at(labels, name)) for name in labels}


def _alternatives(table: _Table, node: Block, place: Place) -> Iterator[dict[str, Label]]:
    """Every choice of one label per axis."""
    choices: list[dict[str, Label]] = [{}]
    for name in node:
        listed = node[name] if isinstance(node[name], list) else [node[name]]
        options = [table.label(name, option, place.at(node, name)) for option in listed]
        choices = [{**choice, str(name): option} for choice in choices for option in options]
    yield from choices


def _from_cells(
    table: _Table,
    rows: Sequence[_Row],
    entry: Block,
    better: Mapping[str, Label],
    worse: Mapping[str, Label],
    place: Place,
) -> Iterator[Claim]:
    if not rows:
        return
    chosen = list(range(len(rows)))
    if "at" in entry:
        chosen = _selected(table, rows, entry["at"], place.at(entry, "at"))
    for side in (better, worse):
        for name, label in side.items():
            if not any(labels.get(name) == label for labels, _ in rows):
                place.refuse(f"no cell of the table has {name} '{label}'.")
    by_labels = {frozenset(labels.items()): cell for labels, cell in rows}
    for labels, cell in (rows[index] for index in chosen):
        if better.items() <= labels.items():
            other = by_labels.get(frozenset((labels | dict(worse)).items()))
            if other is not None:
                delta = round(cell.value - other.value, 9)
                yield _claim(table, entry, better, worse, labels, delta, (cell, other))


def _from_prose(
    table: _Table,
    entry: Block,
    better: Mapping[str, Label],
    worse: Mapping[str, Label],
    place: Place,
) -> Claim:
    """A claim of a table without cells."""
    delta = entry.get("delta")
    if delta is None:
        place.refuse("a table without cells needs the claimed difference as 'delta'.")
    labels = table.shared() | _one_each(table, entry.get("at", Block()), place.at(entry, "at"))
    if labels.get("metric") is None:
        place.refuse("the claim does not say which metric it is about.")
    return _claim(table, entry, better, worse, labels, float(delta), None)


def _claim(
    table: _Table,
    entry: Block,
    better: Mapping[str, Label],
    worse: Mapping[str, Label],
    labels: Mapping[str, Label],
    delta: float,
    cells: tuple[Cell, Cell] | None,
) -> Claim:
    common = {name: label for name, label in labels.items() if name not in better}
    scale = common.get("scale")
    return Claim(
        table=table.name,
        paper=table.paper,
        better=dict(better),
        worse=dict(worse),
        method=_or_none(common.get("method")),
        scale=None if scale is None else float(scale),
        set=_or_none(common.get("set")),
        metric=str(labels["metric"]),
        delta=delta,
        approximate=cells is None,
        source=table.source,
        says=_or_none(entry.get("says")),
        cells=cells,
    )


def _or_none(label: object) -> str | None:
    return None if label is None else str(label)
