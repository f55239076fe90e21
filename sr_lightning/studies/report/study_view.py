"""Studies: levels beside the published cells, verdicts, curves, images."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sr_lightning.data.images import read_rgb, to_tensor
from sr_lightning.inference.pictures import save_crops
from sr_lightning.studies.ledger import Entry
from sr_lightning.studies.published_cells import Cell
from sr_lightning.studies.report.evidence import (
    Evidence,
    budget_text,
    group_name,
    labels_of,
    origin_of_runs,
    reduces,
)
from sr_lightning.studies.report.views import (
    Column,
    Comparison,
    Curve,
    Number,
    Origin,
    Panel,
    Row,
    StudyView,
    Table,
    ranked,
)
from sr_lightning.studies.report.words import group_text, metric_text
from sr_lightning.studies.study import Study
from sr_lightning.studies.verdicts import (
    PAIRED,
    Verdict,
    against_reference,
    group_of,
    judge,
    level_values,
    mean_and_deviation,
    tested_groups,
)

__all__ = ["study_views", "verdict_row"]

# Tests leave squares of 256 pixels, which weigh 100 kB for every method.
_SIDE = 128
_COMPARED_SETS = 2
_VERDICT_HEADS = ("published", "measured on", "measured ± 95%", "n", "budget", "verdict")


def study_views(evidence: Evidence, study: Study, pictures: Path | None = None) -> list[StudyView]:
    """A study at each budget that the ledger has runs of, the highest first.

    Args:
        evidence: what was published and measured.
        study: to show; where nothing has run it is shown empty.
        pictures: folder of the cells' run folders, or None for no pictures.
    """
    budgets: list[str | None] = [*evidence.budgets(study)]
    return [_view(evidence, study, budget, pictures) for budget in budgets or [None]]


def _view(evidence: Evidence, study: Study, budget: str | None, pictures: Path | None) -> StudyView:
    entries = evidence.entries(study, budget) if budget is not None else []
    groups = tested_groups(study, entries)
    found = [judge(study, claim, entries, group_of(claim, groups)) for claim in study.claims]
    name = f"{study.paper}/{study.name}/{budget or 'not-run'}"
    return StudyView(
        study=study,
        budget=budget,
        table=_levels(evidence, study, budget, entries, groups, name),
        verdicts=Table(
            name=f"{name}/verdicts",
            title=f"Verdicts: {study.title}",
            source="",
            stubs=("claim",),
            columns=tuple(Column(("", head)) for head in _VERDICT_HEADS),
            rows=tuple(verdict_row(study, verdict, entries, budget) for verdict in found),
        ),
        judged=tuple(found),
        curves=_curves(study, entries),
        images=tuple(_images(study, entries, group, name) for group in groups),
        pictures=() if pictures is None else _pictures(study, entries, groups, pictures),
        entries=tuple(entries),
    )


def verdict_row(
    study: Study, verdict: Verdict, entries: Sequence[Entry], budget: str | None
) -> Row:
    """A claim and what was measured of it.

    Args:
        study: of the claim.
        verdict: on it.
        entries: that it was found from.
        budget: of the entries, or None where there are none.
    """
    claim, metric = verdict.claim, study.measure.metric
    published: Number | None = None
    if claim.published is not None:
        published = Number(
            claim.published,
            metric,
            signed=True,
            word=claim.set,
            origin=Origin(
                f"Published: {claim.better} - {claim.worse}", (("source", claim.source),)
            ),
        )
    cells: tuple[Number | str | None, ...] = (published, "", "", "0", "", verdict.word)
    if verdict.mean is not None and budget is not None:
        measured = _gap(study, verdict, _sides(verdict, entries))
        cells = (
            published,
            group_text(verdict.set),
            measured,
            str(len(verdict.seeds)),
            budget_text(study, budget).replace(" budget", ""),
            verdict.word,
        )
    return Row((f"{claim.better} > {claim.worse}",), cells, "both")


def _gap(study: Study, verdict: Verdict, sides: Sequence[Entry]) -> Number:
    """The difference of two levels with its interval."""
    claim, metric = verdict.claim, study.measure.metric
    return Number(
        verdict.mean,
        metric,
        kind="measured",
        half_width=verdict.half_width,
        digits=3 if metric == "psnr" else 5,
        signed=True,
        origin=origin_of_runs(
            sides,
            f"{claim.better} - {claim.worse} on {group_text(verdict.set)}, paired by seed"
            + _spread(verdict.deviation),
            study.measure.protocol,
        ),
    )


def _difference(study: Study, level: str, entries: list[Entry], group: str) -> Number | None:
    found = against_reference(study, level, entries, group)
    if found is None:
        return None
    return _gap(study, found, _sides(found, entries))


def _sides(verdict: Verdict, entries: Sequence[Entry]) -> list[Entry]:
    """The runs that a verdict is from."""
    levels = (verdict.claim.better, verdict.claim.worse)
    return [e for e in entries if e.level in levels and e.seed in verdict.seeds]


def _spread(deviation: float | None) -> str:
    return "" if deviation is None else f", standard deviation {deviation:.3f}"


def _levels(
    evidence: Evidence,
    study: Study,
    budget: str | None,
    entries: list[Entry],
    groups: Sequence[str],
    name: str,
) -> Table:
    """Levels by sets: what is published, then what was measured."""
    measure = study.measure
    published = _published(evidence, study)
    head = metric_text(measure.metric)
    columns = [Column((group_text(group), f"published {head}")) for group in published]
    columns += [Column((group_text(group), f"measured {head}")) for group in groups]
    if study.reference is not None:
        heads = [f"minus {study.reference} ± 95%"] * len(groups)
        columns += [Column(pair) for pair in zip(map(group_text, groups), heads, strict=True)]
    columns += [Column(("", text)) for text in ("seeds", "parameters", "minutes each")]
    rows = []
    for level in study.levels:
        runs = [entry for entry in entries if entry.level == level]
        cells: list[Number | str | None] = []
        for by_level in published.values():
            cell = by_level.get(level)
            cells.append(None if cell is None else _printed(level, cell))
        for group in groups:
            cells.append(_measured(study, level, runs, group, published))
        if study.reference is not None:
            cells += [_difference(study, level, entries, group) for group in groups]
        cells += [
            str(len({run.seed for run in runs})),
            Number(runs[0].parameters, "parameters", kind="computed") if runs else None,
            f"{statistics.fmean(run.seconds for run in runs) / 60:.1f}" if runs else "",
        ]
        rows.append(Row((level,), tuple(cells), "both"))
    return ranked(
        Table(
            name=name,
            title=study.title,
            source=_conditions(study, budget, entries),
            stubs=(study.factor,),
            columns=tuple(columns),
            rows=tuple(rows),
            notes=_failures(evidence, study, budget) + ((PAIRED,) if study.reference else ()),
        )
    )


def _published(evidence: Evidence, study: Study) -> dict[str, dict[str, Cell]]:
    """The cells of the study's published table by set and scale, then level."""
    found: dict[str, dict[str, Cell]] = {}
    if study.table is None:
        return found
    for cell in evidence.published.table(study.table):
        level = evidence.level(study, labels_of(cell))
        if level is not None and cell.metric == study.measure.metric:
            found.setdefault(group_name(cell.set, cell.scale), {})[level] = cell
    return found


def _printed(level: str, cell: Cell) -> Number:
    origin = Origin(f"Published: {level}", (("source", cell.source),))
    return Number(cell.value, cell.metric, doubtful=cell.doubtful, origin=origin)


def _measured(
    study: Study,
    level: str,
    runs: list[Entry],
    group: str,
    published: dict[str, dict[str, Cell]],
) -> Number:
    measure = study.measure
    values = level_values(study, runs, group)[level]
    mean, deviation = mean_and_deviation(values)
    if mean is None:
        return Number(kind="measured", word="not run")
    cell = published.get(group, {}).get(level)
    same = (
        cell is not None
        and cell.protocol == measure.protocol
        and not cell.doubtful
        and not any(reduces(study, run.budget) for run in runs)
    )
    return Number(
        mean,
        measure.metric,
        kind="measured",
        deviation=deviation,
        delta=mean - cell.value if cell is not None and same else None,
        digits=2 if measure.metric == "psnr" else 4,
        origin=origin_of_runs(
            [run for run in runs if run.seed in values],
            f"{level}: {measure.metric.upper()} on {group_text(group)}",
            measure.protocol,
        ),
    )


def _conditions(study: Study, budget: str | None, entries: Sequence[Entry]) -> str:
    if budget is None or not entries:
        return f"Not run. sr-lightning study run {study.name} --budget {budget or 'quick'}"
    steps = ", ".join(f"{n:,}" for n in sorted({entry.steps for entry in entries}))
    seeds = sorted({entry.seed for entry in entries})
    parts = [
        budget_text(study, budget).capitalize(),
        f"{steps} steps",
        f"seeds {', '.join(map(str, seeds))}",
        f"protocol {study.measure.protocol}",
        "mean ± standard deviation over seeds",
    ]
    return "; ".join(parts) + "."


def _failures(evidence: Evidence, study: Study, budget: str | None) -> tuple[str, ...]:
    found = [] if budget is None else evidence.failures(study, budget)
    return tuple(f"{failure.name} failed: {failure.reason}" for failure in found)


def _curves(study: Study, entries: Sequence[Entry]) -> tuple[Curve, ...]:
    curves = []
    for level in study.levels:
        seeds = tuple(
            (tuple(entry.curve["step"]), tuple(entry.curve["psnr"]))
            for entry in entries
            if entry.level == level and entry.curve.get("step")
        )
        if seeds:
            curves.append(Curve(level, seeds))
    return tuple(curves)


def _by_image(
    study: Study, entries: Sequence[Entry], group: str
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """PSNR and SSIM of every seed by image, then by level; bicubic first."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for entry in entries:
        methods = entry.metrics.get(study.measure.protocol, {}).get(group, {})
        for method, cell in methods.items():
            level = "bicubic" if method == "bicubic" else entry.level
            for image, (psnr, ssim) in cell["images"].items():
                found.setdefault(image, {}).setdefault(level, []).append((psnr, ssim))
    return {image: found[image] for image in sorted(found)}


def _images(study: Study, entries: Sequence[Entry], group: str, name: str) -> Table:
    metric = 0 if study.measure.metric == "psnr" else 1
    levels = ["bicubic", *study.levels]
    rows = []
    for image, by_level in _by_image(study, entries, group).items():
        numbers = tuple(
            Number(
                statistics.fmean(pair[metric] for pair in by_level[level]),
                study.measure.metric,
                kind="measured",
            )
            if level in by_level
            else None
            for level in levels
        )
        rows.append(Row((image,), numbers, "measured", group=image))
    return Table(
        name=f"{name}/images/{group}",
        title=f"{group_text(group)}, image by image",
        source=f"{metric_text(study.measure.metric)} under {study.measure.protocol}, "
        "mean over seeds.",
        stubs=("image",),
        columns=tuple(Column(("", level)) for level in levels),
        rows=tuple(rows),
    )


def _pictures(
    study: Study, entries: Sequence[Entry], groups: Sequence[str], folder: Path
) -> tuple[Comparison, ...]:
    """One image of some sets by all levels, from the run folders of the first seed."""
    found = []
    note = f"PSNR / SSIM of the whole image under {study.measure.protocol}, first seed."
    first = {entry.level: entry for entry in reversed(entries)}
    shown = [first[level] for level in study.levels if level in first]
    for group in groups:
        images = _by_image(study, shown, group)
        for image, by_level in images.items():
            crops = [folder / run.name / "images" / group / image for run in shown]
            if not all((crop / "sr.png").is_file() for crop in crops):
                continue
            files = {"LR": crops[0] / "lr.png", "bicubic": crops[0] / "bicubic.png"}
            files |= {run.level: crop / "sr.png" for run, crop in zip(shown, crops, strict=True)}
            files["HR (original)"] = crops[0] / "hr.png"
            panels = [
                Panel(label, _numbers(by_level.get(label)), png)
                for label, png in _narrowed(files).items()
            ]
            found.append(Comparison(f"{image}, {group_text(group)}", tuple(panels), note))
            break
    return tuple(found[:_COMPARED_SETS])


def _numbers(measured: list[tuple[float, float]] | None) -> str:
    if not measured:
        return ""
    psnr, ssim = measured[0]
    return f"{psnr:.2f} dB / {ssim:.4f}"


def _narrowed(files: dict[str, Path]) -> dict[str, bytes]:
    """The busiest part of squares that a test left, small enough for a page of many studies."""
    images = {label: to_tensor(read_rgb(file)) for label, file in files.items()}
    lr, *_, hr = images.values()
    names = {label: str(place) for place, label in enumerate(files)}
    methods = {names[label]: image for label, image in images.items() if image is not lr}
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder)
        save_crops(kept, lr, {**methods, "hr": hr}, hr.shape[1] / lr.shape[1], side=_SIDE)
        first, *others = files
        return {
            first: (kept / "lr.png").read_bytes(),
            **{label: (kept / f"{names[label]}.png").read_bytes() for label in others},
        }
