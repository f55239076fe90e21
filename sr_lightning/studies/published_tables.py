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

import itertools
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

__all__ = ["PublishedFile", "PublishedTable", "read_tables", "set_name"]

# Sets of published tables that the suite does not evaluate on.
_OTHER_SETS = ("historical",)
_AXES = ("method", "scale", "set", "metric")
_SUFFIXES = {"k": 1e3, "M": 1e6, "G": 1e9}
_COUNTS = ("parameters", "macs", "flops")
# Metrics that need a protocol, and those that need the size of the output.
_QUALITY = ("psnr", "ssim")
_OF_A_SIZE = ("macs", "flops")


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


@dataclass(frozen=True)
class PublishedTable:
    """One table of ``experiments/published``; its name is ``file/table``."""

    name: str
    cells: tuple[Cell, ...]
    claims: tuple[Claim, ...]


def read_tables(file: Path) -> Iterator[PublishedTable]:
    """The tables of a file that hold cells or claims.

    Raises:
        UserError: the file is damaged, or a key, name or value in it is impossible; the message
            names file, line and key.
    """
    place = read_yaml(file)
    read = as_model(place, PublishedFile)
    for key, at in place.at("tables").entries():
        said = read.tables[str(key)]
        table = _Table(
            name=f"{file.stem}/{key}",
            paper=said.paper or read.paper,
            source=f"{said.source or read.source}, {said.title}",
            methods=read.methods,
            place=at,
        )
        rows = _rows(table)
        claims = tuple(_claims(table, rows))
        if rows or claims:
            yield PublishedTable(table.name, tuple(row.cell for row in rows), claims)


def set_name(name: object) -> str | None:
    """The catalog's name of an image set, or None where it is not known."""
    if name in _OTHER_SETS:
        return str(name)
    facts = known_set(name) if isinstance(name, str) else None
    return facts.name if facts else None


_Labels = dict[str, Label]
# One level of nesting: its names (several share a key) and, where values are a list, the labels.
_Axis = tuple[list[str], list[_Labels] | None]


@dataclass
class _Row:
    """A cell with its label on every axis."""

    labels: _Labels
    cell: Cell


@dataclass(frozen=True)
class _Table:
    """A table of a file before its cells are read."""

    name: str
    paper: str
    source: str
    methods: Mapping[str, str | None]
    place: Place

    def axes(self) -> Iterator[_Axis]:
        """The axes of the cells, outermost first."""
        for place in self.place.at("axes").items():
            axis = place.value
            if not isinstance(axis, Block):
                yield _split(axis), None
                continue
            if len(axis) != 1:
                place.refuse("write one {name: [labels]} for each axis.")
            ((axis, listed),) = axis.items()
            names = _split(axis)
            items = replace(place, value=listed).items()
            yield names, [self.labels(names, item.value, item) for item in items]

    def labels(self, names: Sequence[str], key: object, place: Place) -> _Labels:
        """The labels of one key, one for each name of its axis."""
        if len(names) == 1:
            return {names[0]: self.label(names[0], key, place)}
        try:
            parts = [yaml.safe_load(part) for part in str(key).split(",")]
        except yaml.YAMLError:
            place.refuse(f"'{key}' cannot be labels of {', '.join(names)}.")
        if len(parts) != len(names):
            place.refuse(f"'{key}' has {len(parts)} labels, but {', '.join(names)} need one each.")
        return {
            name: self.label(name, part, place) for name, part in zip(names, parts, strict=True)
        }

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

    def options(self, place: Place) -> dict[str, list[Label]]:
        """The labels that a selector names, by axis; a list is any of its labels."""
        options = {}
        for name, at in place.entries():
            listed = at.value if isinstance(at.value, list) else [at.value]
            options[str(name)] = [self.label(name, option, at) for option in listed]
        return options

    def one_each(self, place: Place) -> _Labels:
        """The labels of a place that names one for each axis."""
        return {str(name): self.label(name, at.value, at) for name, at in place.entries()}

    def shared(self) -> _Labels:
        """The labels that all cells share."""
        return self.one_each(_or_empty(self.place.at("common")))


def _split(names: object) -> list[str]:
    return [name.strip() for name in str(names).split(",")]


def _or_empty(place: Place) -> Place:
    return replace(place, value=Block()) if place.value is None else place


# Cells -------------------------------------------------------------------------------------------


def _rows(table: _Table) -> list[_Row]:
    """All cells of a table, each with its label on every axis."""
    place = table.place
    axes = list(table.axes())
    names = [name for axis, _ in axes for name in axis]
    names += [name for name, _ in _or_empty(place.at("common")).entries()]
    for name in names:
        if names.count(name) > 1:
            place.refuse(f"'{name}' is an axis twice.")
    for name in _AXES:
        if name not in names:
            place.refuse(
                f"neither 'axes' nor 'common' gives the {name}; write {name}: null if it has none."
            )
    found: dict[tuple[Label, ...], _Row] = {}
    for labels, at in _leaves(table, axes, table.shared(), place.at("cells")):
        value = _number(at.value, str(labels["metric"]), at)
        key = tuple(labels[name] for name in names)
        if key in found:
            at.refuse("this cell is given twice.")
        found[key] = _Row(labels, _cell(table, labels, value))
    rows = list(found.values())
    for at in place.at("where").items():
        for row in _selected(table, rows, replace(at, value=at.value["at"])):
            source = at.value.get("source") or row.cell.source
            row.cell = replace(_with(row.cell, at), source=source)
    for at in place.at("errata").items():
        _apply_erratum(at, _selected(table, rows, replace(at, value=at.value["at"])))
    for at in place.at("best").items():
        for row in _selected(table, rows, at):
            row.cell = replace(row.cell, best=True)
    _apply_experiments(table, rows)
    _check_conventions(table, rows)
    return rows


def _leaves(
    table: _Table, axes: Sequence[_Axis], labels: _Labels, place: Place
) -> Iterator[tuple[_Labels, Place]]:
    if place.value is None:
        return
    if not axes:
        yield labels, place
        return
    (names, listed), *rest = axes
    if listed is None:
        inner = ((table.labels(names, key, at), at) for key, at in place.entries())
    else:
        node = place.value
        if not isinstance(node, list) or len(node) != len(listed):
            size = f"{len(node)} values" if isinstance(node, list) else f"{node!r}"
            place.refuse(f"expected a list of {len(listed)} (by {', '.join(names)}), got {size}.")
        inner = (
            (label, replace(place.at(" ".join(map(str, label.values()))), value=item))
            for label, item in zip(listed, node, strict=True)
        )
    for label, at in inner:
        yield from _leaves(table, rest, labels | label, at)


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
    low, high = METRICS[metric].low, METRICS[metric].high
    if not low <= value <= high:
        place.refuse(f"{metric} {value:g} is impossible: it lies between {low:.3g} and {high:g}.")
    return value


def _cell(table: _Table, labels: Mapping[str, Any], value: float) -> Cell:
    metric = labels["metric"]
    cell = Cell(
        table=table.name,
        paper=table.paper,
        method=labels["method"],
        factors={name: label for name, label in labels.items() if name not in _AXES},
        scale=labels["scale"],
        set=labels["set"],
        metric=metric,
        value=value,
        unit=METRICS[metric].unit,
        protocol=None,
        protocol_certain=False,
        source=table.source,
    )
    return _with(cell, table.place)


def _with(cell: Cell, place: Place) -> Cell:
    """The cell with what a table or a ``where`` says of it."""
    # What is null is as if it were left out.
    said = {key: value for key, value in place.value.items() if value is not None}
    changes: dict[str, Any] = {}
    if "protocol" in said and cell.metric in _QUALITY:
        changes["protocol"] = _protocol(place.at("protocol"))
    if "certain" in said and cell.metric in _QUALITY:
        changes["protocol_certain"] = said["certain"]
    if "hr" in said and cell.metric in _OF_A_SIZE:
        changes["hr_size"] = _hr_size(place.at("hr"))
    if "note" in said:
        changes["note"] = _joined(cell.note, said["note"])
    if "approximate" in said:
        changes["approximate"] = said["approximate"]
    return replace(cell, **changes)


def _protocol(place: Place) -> str:
    name = str(place.value)
    if " " not in name and name not in PROTOCOLS:
        place.refuse(
            f"there is no protocol '{name}'{meant(name, PROTOCOLS)}; write several words where "
            "none of ours fits."
        )
    return name


def _hr_size(place: Place) -> tuple[int, int] | None:
    text = place.value
    if text == "unknown":
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        place.refuse(f"'{text}' is not a size such as 1280x720 (width x height), nor unknown.")
    return int(match[2]), int(match[1])


def _joined(first: str | None, second: str) -> str:
    return f"{first} {second}" if first else second


def _check_occurs(rows: Iterable[_Row], name: str, label: Label, place: Place) -> None:
    if not any(name in row.labels and row.labels[name] == label for row in rows):
        place.refuse(f"no cell of the table has {name} '{label}'.")


def _selected(table: _Table, rows: Sequence[_Row], place: Place) -> list[_Row]:
    """The rows that a selector fits; every label in it must occur."""
    wanted = table.options(place)
    for name, options in wanted.items():
        for option in options:
            _check_occurs(rows, name, option, place.at(name))
    found = [
        row for row in rows if all(row.labels[name] in options for name, options in wanted.items())
    ]
    if not found:
        place.refuse(f"no cell of the table has all of {dict(place.value)}.")
    return found


def _apply_erratum(place: Place, rows: Sequence[_Row]) -> None:
    entry = place.value
    for row in rows:
        text, doubtful = entry["why"], row.cell.doubtful
        if "printed" in entry or "right" in entry:
            text, doubtful = _corrected(place, row.cell, len(rows)), "right" not in entry
        erratum = _joined(row.cell.erratum, text)
        row.cell = replace(row.cell, erratum=erratum, doubtful=doubtful)


def _corrected(place: Place, cell: Cell, selected: int) -> str:
    """The text of an erratum about one value, which must agree with the cell."""
    entry = place.value
    if selected != 1:
        place.refuse(f"'printed' is about one cell, but {selected} are selected.")
    if "printed" not in entry:
        place.refuse("'right' needs 'printed' beside it.")
    holds = entry.get("right", entry["printed"])
    if _number(holds, cell.metric, place) != cell.value:
        place.refuse(f"the cell must hold {holds}, but it holds {cell.value:g}.")
    right = f"right is {entry['right']}" if "right" in entry else "what is right is not known"
    return f"Printed is {entry['printed']}, {right}: {entry['why']}"


def _apply_experiments(table: _Table, rows: Sequence[_Row]) -> None:
    """Name the experiment that answers each cell of a whole method."""
    place = table.place.at("complete")
    if place.value is not None:
        rows = _selected(table, rows, place)
    elif any(row.cell.factors for row in rows):
        return
    for row in rows:
        experiment, scale = table.methods[row.cell.method], row.cell.scale
        if experiment is not None and scale is not None:
            experiment = experiment.replace("*", f"{scale:g}")
        if experiment is not None and "*" not in experiment:
            row.cell = replace(row.cell, experiment=experiment)


def _check_conventions(table: _Table, rows: Iterable[_Row]) -> None:
    """Refuse numbers that cannot be compared because nothing says how they were measured."""
    for row in rows:
        what = " ".join(str(label) for label in row.labels.values())
        if row.cell.metric in _QUALITY and row.cell.protocol is None:
            table.place.refuse(f"no protocol is given for {what}.")
        if row.cell.metric in _OF_A_SIZE and table.place.value.get("hr") is None:
            table.place.refuse(f"no output size 'hr' is given for {what} (unknown is a size too).")


# Claims ------------------------------------------------------------------------------------------


def _claims(table: _Table, rows: Sequence[_Row]) -> Iterator[Claim]:
    for place in table.place.at("claims").items():
        better = table.one_each(place.at("better"))
        if set(place.value["worse"]) != set(better):
            place.refuse("'better' and 'worse' must have the same keys.")
        options = table.options(place.at("worse"))
        find = _from_cells if rows else _from_prose
        claims = [
            claim
            for labels in itertools.product(*options.values())
            for claim in find(table, rows, place, better, dict(zip(options, labels, strict=True)))
        ]
        if not claims:
            place.refuse("no two cells differ in just this.")
        if rows and "delta" in place.value:
            place.at("delta").refuse("the cells give the difference; take it out.")
        yield from claims


def _from_cells(
    table: _Table, rows: Sequence[_Row], place: Place, better: _Labels, worse: _Labels
) -> Iterator[Claim]:
    """Every two cells that differ in just this."""
    chosen = _selected(table, rows, place.at("at")) if "at" in place.value else rows
    for name, label in (*better.items(), *worse.items()):
        _check_occurs(rows, name, label, place)
    by_labels = {frozenset(row.labels.items()): row.cell for row in rows}
    for row in chosen:
        other = by_labels.get(frozenset((row.labels | worse).items()))
        if other is not None and better.items() <= row.labels.items():
            delta = round(row.cell.value - other.value, 9)
            yield _claim(table, place, better, worse, row.labels, delta, (row.cell, other))


def _from_prose(
    table: _Table, rows: Sequence[_Row], place: Place, better: _Labels, worse: _Labels
) -> Iterator[Claim]:
    """A claim of a table without cells."""
    delta = place.value.get("delta")
    if delta is None:
        place.refuse("a table without cells needs the claimed difference as 'delta'.")
    labels = table.shared() | table.one_each(_or_empty(place.at("at")))
    if labels.get("metric") is None:
        place.refuse("the claim does not say which metric it is about.")
    yield _claim(table, place, better, worse, labels, float(delta))


def _claim(
    table: _Table,
    place: Place,
    better: _Labels,
    worse: _Labels,
    labels: Mapping[str, Any],
    delta: float,
    cells: tuple[Cell, Cell] | None = None,
) -> Claim:
    common = {name: label for name, label in labels.items() if name not in better}
    return Claim(
        table=table.name,
        paper=table.paper,
        better=better,
        worse=worse,
        method=common.get("method"),
        scale=common.get("scale"),
        set=common.get("set"),
        metric=labels["metric"],
        delta=delta,
        approximate=cells is None,
        source=table.source,
        says=place.value.get("says"),
        cells=cells,
    )
