"""Studies: levels beside the published cells, verdicts, curves, images."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sr_lightning.data.images import read_rgb, to_tensor
from sr_lightning.inference.pictures import save_crops
from sr_lightning.report.document import (
    Column,
    Comparison,
    Curve,
    Number,
    Panel,
    Provenance,
    Row,
    StudyView,
    Table,
    ranked,
)
from sr_lightning.report.format import group_text, metric_text
from sr_lightning.report.measurements import (
    Evidence,
    budget_text,
    group_name,
    origin_of_runs,
    reduces,
)
from sr_lightning.studies.ledger import RunRecord
from sr_lightning.studies.plan import MOST_SEEDS, Need, needs
from sr_lightning.studies.published_cells import Cell
from sr_lightning.studies.study import Study
from sr_lightning.studies.verdicts import (
    PAIRED,
    Difference,
    Verdict,
    against_reference,
    level_values,
    mean_and_deviation,
    tested_groups,
)

__all__ = ["BUDGET_HEADS", "claims_by_budget", "study_views"]

# Tests leave squares of 256 pixels, which weigh 100 kB for every method.
_SIDE = 128
_COMPARED_SETS = 2
BUDGET_HEADS = ("on", "measured ± 95%", "corrected ±", "n", "verdict")
"""Headings of :func:`claims_by_budget` under each budget."""
_VERDICT_HEADS = (
    *("published", "measured on", "measured ± 95%", "corrected ±", "p", "p (Holm)"),
    *("± images", "n", "verdict"),
    *("primary set", "primary ± 95%", "primary p (Holm)", "primary ± images", "primary verdict"),
    "seeds to tell",
)


def study_views(evidence: Evidence, study: Study, pictures: Path | None = None) -> list[StudyView]:
    """A study at each budget that the ledger has runs of, the highest first.

    Args:
        evidence: What was published and measured.
        study: Study to show; where nothing has run it is shown empty.
        pictures: Folder of the cells' run folders, or None for no pictures.
    """
    budgets: list[str | None] = [*evidence.budgets(study)]
    return [_view(evidence, study, budget, pictures) for budget in budgets or [None]]


def _view(evidence: Evidence, study: Study, budget: str | None, pictures: Path | None) -> StudyView:
    entries = evidence.entries(study, budget) if budget is not None else []
    groups = tested_groups(study, entries)
    found = evidence.verdicts(study, budget or "")
    needed = needs(study, found, entries)
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
            rows=tuple(
                _verdict_row(study, verdict, need, entries)
                for verdict, need in zip(found, needed, strict=True)
            ),
        ),
        judged=tuple(found),
        needs=tuple(needed),
        curves=_curves(study, entries),
        images=tuple(_images(study, entries, group, name) for group in groups),
        pictures=() if pictures is None else _pictures(study, entries, groups, pictures),
        entries=tuple(entries),
    )


def _verdict_row(study: Study, verdict: Verdict, need: Need, entries: Sequence[RunRecord]) -> Row:
    """A claim and what was measured of it."""
    own, primary = verdict.own, verdict.primary
    word = f"{verdict.word}: {verdict.reason}" if verdict.reason else verdict.word
    cells = (
        _published_gap(study, verdict),
        *_gap_cells(study, own, entries),
        _width(study, own.image_error if own else None),
        str(len(own.seeds) if own else 0),
        word,
        group_text(primary.group) if primary else "",
        None if primary is None else _gap(study, primary, entries),
        _p(primary.corrected_p if primary else None),
        _width(study, primary.image_error if primary else None),
        verdict.primary_word if primary else "",
        _seeds_to_tell(need),
    )
    return Row((_claim_text(verdict),), cells, "both")


def _gap_cells(
    study: Study, found: Difference | None, entries: Sequence[RunRecord]
) -> tuple[Number | str | None, ...]:
    """Where a difference was measured, what it is, and how sure it is."""
    if found is None:
        return "", None, "", "", ""
    return (
        group_text(found.group),
        _gap(study, found, entries),
        _width(study, found.corrected_half_width),
        _p(found.p),
        _p(found.corrected_p),
    )


def _claim_text(verdict: Verdict) -> str:
    return f"{verdict.claim.better} > {verdict.claim.worse}"


def _published_gap(study: Study, verdict: Verdict) -> Number | str:
    claim = verdict.claim
    if claim.published is None:
        return f"order ({claim.set})"
    origin = Provenance(f"Published: {claim.better} - {claim.worse}", (("source", claim.source),))
    return Number(claim.published, study.measure.metric, signed=True, word=claim.set, origin=origin)


def _width(study: Study, value: float | None) -> str:
    return "" if value is None else f"{value:.{_digits(study)}f}"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _digits(study: Study) -> int:
    return 3 if study.measure.metric == "psnr" else 5


def _seeds_to_tell(need: Need) -> str:
    """Seeds and hours that would make the interval narrow enough."""
    if not need.is_open or need.seeds is None or need.hours is None:
        return ""
    if need.seeds == MOST_SEEDS:
        return f"over {MOST_SEEDS:,}"
    return f"{need.seeds} ({need.hours:.1f} h more)"


def _gap(study: Study, found: Difference, entries: Sequence[RunRecord]) -> Number:
    """The difference of two levels with its interval."""
    sides = [
        entry
        for entry in entries
        if entry.level in (found.better, found.worse) and entry.seed in found.seeds
    ]
    title = f"{found.better} - {found.worse} on {group_text(found.group)}"
    if found.deviation is not None:
        title += f", standard deviation over paired seeds {found.deviation:.3f}"
    return Number(
        found.mean,
        study.measure.metric,
        kind="measured",
        half_width=found.half_width,
        digits=_digits(study),
        signed=True,
        origin=origin_of_runs(sides, title, study.measure.protocol),
    )


def claims_by_budget(views: Sequence[StudyView], budgets: Iterable[str]) -> list[Row]:
    """A row for each claim of a study with what every training length says of it.

    Args:
        views: Views of one study, at the budgets of its runs.
        budgets: Budgets that have columns.
    """
    study = views[0].study
    by_budget = {view.budget: view for view in views}
    rows = []
    for place, verdict in enumerate(views[0].judged):
        cells: list[Number | str | None] = [_published_gap(study, verdict)]
        for budget in budgets:
            if budget in by_budget:
                view = by_budget[budget]
                cells += _at_budget(view, view.judged[place])
            else:
                cells += ["", None, "", "", "not run" if budget in study.budgets else ""]
        rows.append(Row((study.name, _claim_text(verdict)), tuple(cells), "both"))
    return rows


def _at_budget(view: StudyView, verdict: Verdict) -> list[Number | str | None]:
    found = verdict.shown
    if found is None:
        return ["", None, "", "", verdict.word]
    smaller = ", smaller network" if view.budget and reduces(view.study, view.budget) else ""
    return [
        group_text(found.group),
        _gap(view.study, found, view.entries),
        _width(view.study, found.corrected_half_width),
        f"{len(found.seeds)}{smaller}",
        f"{verdict.word}: {verdict.reason}" if verdict.reason else verdict.word,
    ]


def _difference(study: Study, level: str, entries: list[RunRecord], group: str) -> Number | None:
    found = against_reference(study, level, entries, group)
    return None if found is None else _gap(study, found, entries)


def _levels(
    evidence: Evidence,
    study: Study,
    budget: str | None,
    entries: list[RunRecord],
    groups: Sequence[str],
    name: str,
) -> Table:
    """Levels by sets: what is published, then what was measured."""
    measure = study.measure
    published = _published(study)
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


def _published(study: Study) -> dict[str, Mapping[str, Cell]]:
    """The cells of the study's published table by set and scale, then level."""
    if study.table is None:
        return {}
    return {
        group_name(name, next(iter(by_level.values())).scale): by_level
        for name, by_level in study.printed.items()
    }


def _printed(level: str, cell: Cell) -> Number:
    origin = Provenance(f"Published: {level}", (("source", cell.source),))
    return Number(cell.value, cell.metric, doubtful=cell.doubtful, origin=origin)


def _measured(
    study: Study,
    level: str,
    runs: list[RunRecord],
    group: str,
    published: Mapping[str, Mapping[str, Cell]],
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


def _conditions(study: Study, budget: str | None, entries: Sequence[RunRecord]) -> str:
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


def _curves(study: Study, entries: Sequence[RunRecord]) -> tuple[Curve, ...]:
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
    study: Study, entries: Sequence[RunRecord], group: str
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


def _images(study: Study, entries: Sequence[RunRecord], group: str, name: str) -> Table:
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
    study: Study, entries: Sequence[RunRecord], groups: Sequence[str], folder: Path
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
