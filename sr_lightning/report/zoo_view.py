"""The weights that come with the package: what they reach, what they cost, what they look like."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from sr_lightning.data.images import natural_key
from sr_lightning.inference.compare import ComparedPhotograph
from sr_lightning.metrics.quality import numbers_text
from sr_lightning.nn.complexity import HR_720P, Complexity, parameter_count
from sr_lightning.report.document import (
    Comparison,
    Named,
    Number,
    Panel,
    Plot,
    Point,
    Provenance,
    Record,
    Row,
    Table,
    ZooView,
)
from sr_lightning.report.measurements import (
    Evidence,
    bicubic_number,
    group_name,
    macs_facts,
    origin_of_weights,
)
from sr_lightning.report.published_view import printed, printed_digits
from sr_lightning.studies.published_cells import Cell
from sr_lightning.weights.zoo import PROTOCOL, SETS, WeightRecord

__all__ = ["measured_of", "quality_cells", "zoo_view"]

_USUAL_SCALES = (2, 3, 4, 8)
_METRICS = ("psnr", "ssim")
_COLUMNS = (
    *(("", "parameters"), ("", "MACs")),
    *((group, metric) for group in SETS for metric in ("PSNR", "SSIM")),
)
# Fewer published networks make no picture of the field.
_FEWEST_POINTS = 4


def zoo_view(evidence: Evidence, pictures: Path | None = None) -> ZooView:
    """Everything about the weights of the package.

    Args:
        evidence: What was published and measured.
        pictures: Folder that ``sr-lightning compare`` wrote, or None for no pictures.
    """
    records = list(evidence.weights.values())
    measured = sorted({scale for record in records for scale in _scales(record)})
    usual = [scale for scale in measured if scale in _USUAL_SCALES]
    tables = [_quality(evidence, usual)]
    if records:
        tables += [_training(records), _summary(records)]
    tables += [_any_scale(evidence, record) for record in records if record.arbitrary_scale]
    return ZooView(
        tables=tuple(tables),
        plots=tuple(_plots(evidence, usual)),
        pictures=() if pictures is None else tuple(_pictures(evidence, pictures)),
    )


def _scales(record: WeightRecord) -> list[float]:
    cells = record.measured.get(PROTOCOL, {})
    return sorted({float(group.rpartition("_x")[2]) for group in cells})


def _summary(records: Sequence[WeightRecord]) -> Table:
    """One line for each weight file: what it is for, its size, and what it reaches on Set5."""
    rows: list[Named] = []
    for record in sorted(records, key=lambda one: one.name):
        origin = origin_of_weights(record, PROTOCOL)
        cells: Record = {"parameters": Number(record.parameters, "parameters", "computed")}
        for scale in _USUAL_SCALES:
            psnr = measured_of(record, "Set5", scale).get("psnr")
            number = None if psnr is None else Number(psnr, "psnr", "measured", origin=origin)
            cells[f"Set5 x{scale} (dB)"] = number
        rows.append(((record.name,), cells))
    source = f"PSNR on luminance under {PROTOCOL}."
    return Table.of("weights/summary", "Weights in short", source, ("weights",), rows)


# What they reach ---------------------------------------------------------------------------------


def _quality(evidence: Evidence, scales: Sequence[float]) -> Table:
    """Bicubic, then every weight file and its paper's own row, scale by scale."""
    notes: dict[str, None] = {}
    rows: list[Row] = []
    for scale in scales:
        records = [r for r in evidence.weights.values() if scale in _scales(r)]
        rows.append(_bicubic_row(records, scale))
        for network in _by_size(records):
            rows += [_weights_row(evidence, record, scale) for record in network]
            rows += _published_rows(evidence, network, scale, notes)
    source = (
        f"PSNR (dB) and SSIM on luminance under {PROTOCOL}. Light weights are of a smaller "
        "network than the paper's, whose published row stands below them; previews do not "
        "reach VDSR's published Set5 PSNR. Parameters and MACs (true count, "
        "for a 1280x720 output) are counted from the networks, also those of published rows."
    )
    return Table(
        name="weights",
        title="Weights that come with the package",
        source=source if rows else "This version comes with none.",
        stubs=("weights", "scale"),
        columns=_COLUMNS if rows else (),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _any_scale(evidence: Evidence, record: WeightRecord) -> Table:
    """Weights of any scale, beside bicubic at each scale that they were measured at."""
    rows = [
        row
        for scale in _scales(record)
        for row in (_bicubic_row([record], scale), _weights_row(evidence, record, scale))
    ]
    return Table(
        name=f"weights/{record.name}",
        title=f"{record.name} at every scale that it was measured at",
        source=f"PSNR (dB) and SSIM on luminance under {PROTOCOL}; MACs (true count) for a "
        "1280x720 output.",
        stubs=("weights", "scale"),
        columns=_COLUMNS,
        rows=tuple(rows),
    )


def _by_size(records: Iterable[WeightRecord]) -> list[list[WeightRecord]]:
    """Weights of each network together, small ones first."""
    found: dict[str, list[WeightRecord]] = {}
    for record in sorted(records, key=lambda record: record.parameters):
        found.setdefault(record.network, []).append(record)
    return list(found.values())


def _row(label: str, scale: float, cells: Iterable[Number | None], published: bool = False) -> Row:
    kind: Literal["published", "both"] = "published" if published else "both"
    return Row((label, f"x{scale:g}"), tuple(cells), kind, group=f"x{scale:g}")


def _bicubic_row(records: Sequence[WeightRecord], scale: float) -> Row:
    cells: list[Number | None] = [None, None]
    for name in SETS:
        group = group_name(name, scale)
        cells += [bicubic_number(records, group, metric, PROTOCOL) for metric in _METRICS]
    return _row("bicubic", scale, cells)


def _weights_row(evidence: Evidence, record: WeightRecord, scale: float) -> Row:
    marks = ["preview"] if record.preview else []
    found = (evidence.paper_cell(record, group, scale, "psnr") for group in SETS)
    paper = next(filter(None, found), None)
    if paper is not None and not evidence.has_papers_size(record, paper):
        marks.append("light")
    if record.notes:
        marks.append(record.notes)
    label = f"{record.name} ({', '.join(marks)})" if marks else record.name
    origin = Provenance(f"Counted from the weights {record.name}")
    cost = evidence.cost_of_weights(record, scale)
    cells = [
        Number(record.parameters, "parameters", "computed", origin=origin),
        _macs(cost, f"weights {record.name}"),
        *quality_cells(record, scale),
    ]
    return _row(label, scale, cells)


def quality_cells(record: WeightRecord | None, scale: float) -> Sequence[Number | None]:
    """PSNR and SSIM of weights on every usual set, None where they were not measured.

    Args:
        record: Record of the weights, or None for no weights.
        scale: Scale of the upscaling.
    """
    if record is None:
        return [None] * len(SETS) * len(_METRICS)
    origin = origin_of_weights(record, PROTOCOL)
    return [
        Number(cell[metric], metric, "measured", origin=origin) if metric in cell else None
        for cell in (measured_of(record, group, scale) for group in SETS)
        for metric in _METRICS
    ]


def measured_of(record: WeightRecord, group: str, scale: float) -> dict[str, float]:
    """What weights reach on a set under the usual protocol, by metric; empty if not measured.

    Args:
        record: Record of the weights.
        group: Name of the set.
        scale: Scale of the upscaling.
    """
    return record.measured.get(PROTOCOL, {}).get(group_name(group, scale), {})


def _macs(cost: Complexity | None, what: str) -> Number | None:
    if cost is None:
        return None
    origin = Provenance(f"Counted: {what}", macs_facts(cost, HR_720P))
    return Number(cost.macs, "macs", "computed", origin=origin)


def _published_rows(
    evidence: Evidence, records: Sequence[WeightRecord], scale: float, notes: dict[str, None]
) -> Iterator[Row]:
    """The printed row of each network that some weights are to be compared with."""
    rows: dict[str, dict[tuple[str, str], Cell]] = {}
    for record, group, metric in itertools.product(records, SETS, _METRICS):
        cell = evidence.paper_cell(record, group, scale, metric)
        if cell is not None:
            rows.setdefault(cell.method, {})[group, metric] = cell
    for method, cells in rows.items():
        ours = next(iter(cells.values())).experiment or ""
        cost = evidence.cost(ours, scale=scale)
        numbers: list[Number | None] = [None, None]
        if cost is not None:
            origin = Provenance(f"Counted from the network of {ours}, no run needed")
            numbers = [
                Number(cost.parameters, "parameters", "computed", origin=origin),
                _macs(cost, f"the network of {ours}"),
            ]
        # Of their whole tables: a row may end in zeros alone.
        tables = {cell.table for cell in cells.values()}
        beside = [cell for table in tables for cell in evidence.published.table(table)]
        digits = {metric: printed_digits(beside, metric) for metric in _METRICS}
        for place in itertools.product(SETS, _METRICS):
            cell = cells.get(place)
            numbers.append(
                Number(word="-") if cell is None else printed(cell, _marks(cell, notes), digits)
            )
        yield _row(f"{method}, published, paper's size", scale, numbers, published=True)


def _marks(cell: Cell, notes: dict[str, None]) -> tuple[int, ...]:
    """What must be known before comparing with a printed number, as places in the notes."""
    remarks = []
    if cell.protocol != PROTOCOL:
        remarks.append(f"Published under {cell.protocol}.")
    if cell.erratum:
        remarks.append(cell.erratum)
    notes.update(dict.fromkeys(remarks))
    return tuple(list(notes).index(remark) + 1 for remark in remarks)


# Where they come from ----------------------------------------------------------------------------


def _distinct(facts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(facts))


def _training(records: Sequence[WeightRecord]) -> Table:
    rights: dict[str, list[str]] = {}
    for record in records:
        rights.setdefault(record.data_licence, []).append(record.name)
    return Table.of(
        "weights/training",
        "Where the weights come from",
        " ".join(
            f"Rights in the training images{'' if len(rights) == 1 else f' of {_list(names)}'}: "
            f"{licence}."
            for licence, names in rights.items()
            if licence
        ),
        ("weights",),
        [_trained(record) for network in _by_size(records) for record in network],
    )


def _trained(record: WeightRecord) -> Named:
    size: Number | str = "-"
    if record.file.is_file():
        origin = origin_of_weights(record, next(iter(record.measured), PROTOCOL))
        megabytes = round(record.file.stat().st_size / 1e6, 2)
        size = Number(megabytes, kind="computed", digits=2, origin=origin)
    history = record.history
    steps = (f"{one.steps:,}" + f" ({one.name})" * (one.name != record.name) for one in history)
    return (record.name,), {
        "MB": size,
        "steps": " + ".join(steps),
        "batch x LR patch": _distinct(f"{stage.batch} x {stage.patch}" for stage in history),
        "hours": f"{round(sum(stage.hours for stage in history), 2):g}",
        "hardware": _distinct(stage.hardware for stage in history),
        "training images": record.training_data,
    }


def _list(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


# Figures -----------------------------------------------------------------------------------------


def _plots(evidence: Evidence, scales: Sequence[float]) -> Iterator[Plot]:
    """PSNR against parameters of printed networks and of the weights, set by set."""
    for scale in scales:
        for name in SETS:
            ours = [
                Point(record.name, record.parameters, cell["psnr"], measured=True)
                for record in evidence.weights.values()
                if "psnr" in (cell := measured_of(record, name, scale))
            ]
            theirs = [
                Point(method, size, psnr, measured=False)
                for method, (size, psnr) in _field(evidence, name, scale).items()
            ]
            if ours and len(theirs) >= _FEWEST_POINTS:
                yield Plot(f"{name} x{scale:g}", "parameters", (*theirs, *ours), scale)


def _field(evidence: Evidence, name: str, scale: float) -> dict[str, tuple[float, float]]:
    """Size and PSNR of every printed network whose size is known, by its name in tables."""
    cells = [c for c in evidence.published.cells if not c.doubtful and not c.method.endswith("+")]
    sizes: dict[str, float] = {}
    # A paper's own count first, then those of tables that tell how they count.
    for cell in sorted(cells, key=lambda cell: bool(cell.factors)):
        if cell.metric == "parameters" and cell.scale in (scale, None):
            sizes.setdefault(cell.method, cell.value)
    # A table of one set is an ablation.
    tested: dict[str, set[str | None]] = {}
    for cell in cells:
        tested.setdefault(cell.table, set()).add(cell.set)
    found: dict[str, tuple[float, float]] = {}
    for cell in cells:
        if (cell.metric, cell.set, cell.scale) != ("psnr", name, scale):
            continue
        if cell.factors or len(tested[cell.table]) == 1:
            continue
        size = sizes.get(cell.method)
        network = evidence.network(cell.experiment) if size is None and cell.experiment else None
        if network is not None:
            size = parameter_count(network)
        if size:
            found.setdefault(cell.method, (size, cell.value))
    return found


def _pictures(evidence: Evidence, folder: Path) -> Iterator[Comparison]:
    """What ``sr-lightning compare`` left, without weights that are others by now."""
    made = [(path, ComparedPhotograph.read(path)) for path in sorted(folder.glob("*.json"))]
    for path, photograph in sorted(made, key=lambda m: (m[1].scale, natural_key(m[1].title))):
        panels, lacking = [], []
        for method in photograph.methods:
            file = path.parent / method.file
            record = evidence.weights.get(method.label)
            if method.sha256 and (record is None or record.sha256 != method.sha256):
                lacking.append(method.label)
            elif file.is_file():
                numbers = numbers_text(method.numbers)
                panels.append(Panel(method.label, numbers, file.read_bytes()))
        width, height = photograph.size[1], photograph.size[0]
        what = f"a part of {width} x {height}" if photograph.part else "the whole image"
        note = f"PSNR / SSIM of {what} under {photograph.protocol}."
        lacking += _lacking(evidence, photograph)
        if lacking:
            note += f" Not shown, drawn before these weights came: {', '.join(lacking)}."
        title = f"{photograph.title}, x{photograph.scale:g}"
        yield Comparison(title, tuple(panels), note, photograph.scale)


def _lacking(evidence: Evidence, photograph: ComparedPhotograph) -> list[str]:
    shown = {method.label for method in photograph.methods}
    return [
        record.name
        for record in evidence.weights.values()
        if record.name not in shown
        and (
            photograph.scale in record.scales or (record.arbitrary_scale and photograph.scale >= 1)
        )
    ]
