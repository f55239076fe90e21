"""Published tables as they were printed, each row followed by what was measured here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sr_lightning.report.document import Named, Number, Provenance, Row, Table, ranked
from sr_lightning.report.format import group_text, labels_text, metric_text
from sr_lightning.report.measurements import Evidence, Measurement, budget_text
from sr_lightning.studies.claims import table_claims
from sr_lightning.studies.published_cells import METRICS, Cell, Claim, Label, label_text
from sr_lightning.studies.verdicts import UNDECIDED

__all__ = ["claim_verdict", "claims_table", "printed", "printed_digits", "published_table"]

_Labels = tuple[Label, ...]


def published_table(evidence: Evidence, name: str) -> Table:
    """A published table with a second line under every row that we have an experiment for.

    Args:
        evidence: What was published and measured.
        name: ``file/table``.

    Raises:
        UserError: there is no such table.
    """
    cells = evidence.published.table(name)
    if not cells:
        source = evidence.published.claims_of(name)[0].source
        return Table(name, source, "Only claims are published, no numbers.", (), (), ())
    stubs, heads, grid = _grid(cells)
    notes, marks = _notes(cells)
    digits = {metric: printed_digits(cells, metric) for metric in ("psnr", "ssim")}
    rows: list[Row] = []
    for labels, by_column in grid.items():
        stub = tuple(label_text(*pair) for pair in zip(stubs, labels, strict=True))
        group = stub[0] if stubs[:1] == ("scale",) else ""
        listed = [by_column.get(column) for column in heads]
        numbers = tuple(
            None if cell is None else printed(cell, marks[id(cell)], digits) for cell in listed
        )
        waiting = [cell for cell in listed if cell is not None and evidence.expected(cell)]
        measured = _measured_row(evidence, stub, listed, group)
        missing = _missing(evidence, waiting) if waiting and measured is None else ""
        rows.append(Row(stub, numbers, "published", missing=missing, group=group))
        if measured is not None:
            rows.append(measured)
    table = Table(
        name=name,
        title=cells[0].source,
        source=_caption(cells),
        stubs=stubs,
        columns=tuple(heads.values()),
        rows=tuple(rows),
        notes=notes,
    )
    return ranked(table)


def _grid(
    cells: Sequence[Cell],
) -> tuple[tuple[str, ...], dict[_Labels, tuple[str, str]], dict[_Labels, dict[_Labels, Cell]]]:
    """Which axes are label columns; headings of the columns; and cells by row, then by column."""
    scales = {cell.scale for cell in cells}
    wide = len({(cell.set, cell.metric) for cell in cells}) > 1
    scale_is_column = len(scales) > 1 and not wide
    factors = [name for name in cells[0].factors if _varies(cells, name)]
    stubs = ["scale"] if len(scales) > 1 and wide else []
    if len({cell.method for cell in cells}) > 1 or not factors:
        stubs.append("method")
    stubs += factors
    heads: dict[_Labels, tuple[str, str]] = {}
    rows: dict[_Labels, dict[_Labels, Cell]] = {}
    for cell in cells:
        axes = {**cell.labels, "scale": cell.scale}
        column = (cell.set, cell.metric, cell.scale if scale_is_column else None)
        head = (cell.set or "", metric_text(cell.metric))
        if scale_is_column:
            head = (", ".join(filter(None, head)), label_text("scale", cell.scale))
        heads[column] = head
        rows.setdefault(tuple(axes[name] for name in stubs), {})[column] = cell
    if "scale" in stubs:
        rows = dict(sorted(rows.items(), key=lambda row: float(row[0][0] or 0)))
    return tuple(stubs), heads, rows


def _varies(cells: Iterable[Cell], factor: str) -> bool:
    return len({cell.factors[factor] for cell in cells}) > 1


def _caption(cells: Sequence[Cell]) -> str:
    """What all cells share, and how they were measured."""
    shared = []
    for name in ("method", "scale", "set"):
        values = {getattr(cell, name) for cell in cells}
        if len(values) == 1 and (value := values.pop()) is not None:
            shared.append(label_text(name, value))
    for name in cells[0].factors:
        if not _varies(cells, name):
            label = label_text(name, cells[0].factors[name])
            shared.append(label if name == "setting" else f"{name} {label}")
    protocols = dict.fromkeys(filter(None, map(_protocol, cells)))
    sizes = dict.fromkeys(
        f"{c.hr_size[1]}x{c.hr_size[0]}" if c.hr_size else "an output of unknown size"
        for c in cells
        if c.metric in ("macs", "flops")
    )
    parts = (
        ", ".join(shared),
        f"Protocol as published: {'; '.join(protocols)}" if protocols else "",
        f"Operations for {', '.join(sizes)}" if sizes else "",
    )
    return " ".join(f"{part}." for part in parts if part)


def _protocol(cell: Cell) -> str:
    certain = cell.protocol_certain or cell.protocol is None
    return f"{cell.protocol or ''}{'' if certain else ' (supposed)'}"


def _notes(cells: Sequence[Cell]) -> tuple[tuple[str, ...], dict[int, tuple[int, ...]]]:
    """Remarks and errata of a table, and which of them each cell (by id) has."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        for remark in (cell.note, cell.erratum):
            if remark:
                found.setdefault(remark, []).append(cell)
    # What is said of every cell needs no mark.
    order = sorted(found, key=lambda remark: len(found[remark]) < len(cells))
    marks: dict[int, tuple[int, ...]] = {id(cell): () for cell in cells}
    for place, remark in enumerate(order, 1):
        if len(found[remark]) < len(cells):
            for cell in found[remark]:
                marks[id(cell)] += (place,)
    return tuple(order), marks


def printed_digits(cells: Iterable[Cell], metric: str) -> int:
    """Digits after the point that a table prints of a metric."""
    shown = [len(repr(c.value).partition(".")[2]) for c in cells if c.metric == metric]
    return max([2 if metric == "psnr" else 3, *shown])


def printed(cell: Cell, marks: tuple[int, ...], digits: Mapping[str, int]) -> Number:
    """A published number with its source, protocol and errata.

    Args:
        cell: Cell to show.
        marks: Places of its remarks among the table's notes.
        digits: Digits after the point, by metric.
    """
    facts = [("source", cell.source)]
    if protocol := _protocol(cell):
        facts.append(("protocol", protocol))
    if cell.hr_size is not None:
        facts.append(("output", f"{cell.hr_size[1]}x{cell.hr_size[0]}"))
    facts += [(name, said) for name in ("erratum", "note") if (said := getattr(cell, name))]
    title = ", ".join(filter(None, (labels_text(cell.labels), _place(cell.scale, cell.set))))
    return Number(
        value=cell.value,
        metric=cell.metric,
        digits=digits.get(cell.metric),
        doubtful=cell.doubtful,
        approximate=cell.approximate,
        marks=marks,
        origin=Provenance(f"Published: {title}", tuple(facts)),
    )


def _place(scale: float | None, name: str | None) -> str:
    return " ".join(filter(None, (name, label_text("scale", scale))))


def _measured_row(
    evidence: Evidence,
    stub: tuple[str, ...],
    listed: Sequence[Cell | None],
    group: str,
) -> Row | None:
    """The line under a published row: what was measured or counted, or None if nothing was."""
    by: dict[str, None] = {}
    numbers: list[Number | None] = []
    for cell, answer in zip(listed, evidence.answers(listed), strict=True):
        number, how = None, ""
        if cell is not None:
            number, how = _measured(evidence, cell, answer)
        if number is not None:
            by[how] = None
        elif cell is not None and evidence.expected(cell):
            number = Number(kind="measured", word="not run")
        numbers.append(number)
    if not by:
        return None
    return Row(stub, tuple(numbers), "measured", remark="; ".join(by), group=group)


def _missing(evidence: Evidence, waiting: Sequence[Cell]) -> str:
    """Why a row has no measured number."""
    elsewhere = [name for cell in waiting for name in evidence.studies_with_runs(cell)]
    if elsewhere:
        return f"not run on these sets; other sets: study {elsewhere[0]}"
    experiments = [cell.experiment for cell in waiting if cell.experiment is not None]
    if experiments and not any(map(evidence.has_experiment, experiments)):
        return "no experiment yet"
    return "not run"


def _measured(
    evidence: Evidence, cell: Cell, found: Measurement | None
) -> tuple[Number | None, str]:
    if found is None:
        how = "counted from the network"
        if cell.metric == "macs":
            how += ", deconvolutions once per output pixel as in the papers' tables"
        return evidence.counted(cell), how
    same = found.whole and found.protocol == cell.protocol
    number = Number(
        value=found.value,
        metric=cell.metric,
        kind="measured",
        deviation=found.deviation,
        delta=found.value - cell.value if same and not cell.doubtful else None,
        origin=found.origin,
    )
    return number, f"{found.by}, {found.protocol}"


# Claims ------------------------------------------------------------------------------------------


def claims_table(evidence: Evidence, name: str) -> Table | None:
    """What a source concludes from a table, and what our numbers say to it; None without claims.

    A claim about many cells (best on all sets) is one row that counts them.

    Args:
        evidence: What was published and measured.
        name: ``file/table``.
    """
    claims = evidence.published.claims_of(name)
    if not claims:
        return None
    grouped: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims:
        grouped.setdefault((claim.says or "", labels_text(claim.better)), []).append(claim)

    def named(says: str, better: str, members: Sequence[Claim]) -> Named:
        worse = dict.fromkeys(labels_text(claim.worse) for claim in members)
        found = Counter(claim_verdict(evidence, claim) for claim in members)
        words = next(iter(found))
        if len(members) > 1 and set(found) != {"not run"}:
            words = ", ".join(f"{number} {verdict}" for verdict, number in found.items())
        return (says, f"{better} > {' | '.join(worse)}"), {
            "comparisons": f"{len(members)}",
            "borne out as printed": f"{sum(c.supported for c in members)} of {len(members)}",
            "published difference": _range(members),
            "verdict here": words,
        }

    return Table.of(
        f"{name}/claims",
        f"Claims: {claims[0].source}",
        "",
        ("claim", "better > worse"),
        [named(*key, members) for key, members in grouped.items()],
    )


def _range(claims: Sequence[Claim]) -> str:
    """From the least to the most that claims on one metric gain."""
    metrics = {claim.metric for claim in claims}
    metric = claims[0].metric
    if len(metrics) > 1 or metric not in METRICS:
        return ""
    digits = {"psnr": "+.2f", "ssim": "+.4f"}.get(metric, "+.4g")
    gains = [claim.delta for claim in claims]
    ends = dict.fromkeys(format(gain, digits) for gain in (min(gains), max(gains)))
    return f"{' to '.join(ends)} {METRICS[metric].unit}".strip()


def claim_verdict(evidence: Evidence, claim: Claim) -> str:
    """The verdict of a claim's study at its highest budget, or of single runs, in words.

    Args:
        evidence: What was published and measured.
        claim: Claim of a published table.
    """
    for study in evidence.studies_of(claim.table):
        asked = [*table_claims([claim], study.levels, study.measure.metric, study.scale)]
        for budget in evidence.budgets(study):
            for verdict in evidence.verdicts(study, budget):
                found = verdict.own
                if verdict.claim in asked and verdict.word not in UNDECIDED and found is not None:
                    where = f"{budget_text(study, budget)}, {group_text(found.group)}"
                    return f"{verdict.word} ({where})"
    answers = [evidence.answer(cell) for cell in claim.cells or ()]
    if answers and all(answer is not None and answer.whole for answer in answers):
        return "inconclusive (single runs)"
    return "not run"
