"""Studies: levels beside the published cells, verdicts, curves, images."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from sr_lightning.data.images import read_rgb, to_tensor
from sr_lightning.inference.pictures import save_crops
from sr_lightning.metrics.quality import METRICS, numbers_text
from sr_lightning.report.document import (
    Cell,
    Comparison,
    Curves,
    Named,
    Number,
    Panel,
    Provenance,
    Record,
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
from sr_lightning.studies.ledger import RunRecord, measured_metrics
from sr_lightning.studies.plan import MOST_SEEDS, Need, needs
from sr_lightning.studies.published_cells import Cell as PublishedCell
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

__all__ = ["claims_by_budget", "study_views"]

# Tests leave squares of 256 pixels, which weigh 100 kB for every method.
_SIDE = 128
_COMPARED_SETS = 2


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
        verdicts=Table.of(
            f"{name}/verdicts",
            f"Verdicts: {study.title}",
            "",
            ("claim",),
            [
                _verdict_row(study, verdict, need, entries)
                for verdict, need in zip(found, needed, strict=True)
            ],
        ),
        judged=tuple(found),
        needs=tuple(needed),
        curves=_curves(study, entries),
        images=tuple(_images(study, entries, group, name) for group in groups),
        pictures=() if pictures is None else _pictures(study, entries, groups, pictures),
        entries=tuple(entries),
    )


def _verdict_row(study: Study, verdict: Verdict, need: Need, entries: Sequence[RunRecord]) -> Named:
    """A claim and what was measured of it."""
    own = _cells_of(study, verdict.own, entries)
    primary = _cells_of(study, verdict.primary, entries)
    return (_claim_text(verdict),), {
        "published": _published_gap(study, verdict),
        "measured on": own["on"],
        "measured ± 95%": own["gap"],
        **{name: own[name] for name in ("corrected ±", "p", "p (Holm)", "± images", "n")},
        "verdict": _word(verdict),
        "primary set": primary["on"],
        "primary ± 95%": primary["gap"],
        **{f"primary {name}": primary[name] for name in ("p (Holm)", "± images")},
        "primary verdict": verdict.primary_word if verdict.primary else "",
        "seeds to tell": _seeds_to_tell(need),
    }


def _cells_of(
    study: Study, found: Difference | None, entries: Sequence[RunRecord]
) -> dict[str, Cell]:
    """Where a difference was measured, what it is, and how sure it is."""
    if found is None:
        texts = ("on", "corrected ±", "p", "p (Holm)", "± images")
        return {"gap": None, "n": "0", **dict.fromkeys(texts, "")}

    def width(value: float | None) -> str:
        return "" if value is None else f"{value:.{_digits(study)}f}"

    def probability(p: float | None) -> str:
        return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"

    return {
        "on": group_text(found.group),
        "gap": _gap(study, found, entries),
        "corrected ±": width(found.corrected_half_width),
        "p": probability(found.p),
        "p (Holm)": probability(found.corrected_p),
        "± images": width(found.image_error),
        "n": str(len(found.seeds)),
    }


def _claim_text(verdict: Verdict) -> str:
    return f"{verdict.claim.better} > {verdict.claim.worse}"


def _word(verdict: Verdict) -> str:
    return f"{verdict.word}: {verdict.reason}" if verdict.reason else verdict.word


def _published_gap(study: Study, verdict: Verdict) -> Number | str:
    claim = verdict.claim
    if claim.published is None:
        return f"order ({claim.set})"
    origin = Provenance(f"Published: {claim.better} - {claim.worse}", (("source", claim.source),))
    return Number(claim.published, study.measure.metric, signed=True, word=claim.set, origin=origin)


def _digits(study: Study) -> int:
    return study.measure.digits + 1


def _seeds_to_tell(need: Need) -> str:
    """Seeds and hours that would make the interval narrow enough."""
    if not need.is_open or need.seeds is None or need.hours is None:
        return ""
    if need.seeds == MOST_SEEDS:
        return f"over {MOST_SEEDS:,}"
    return f"{need.seeds} ({need.hours:.1f} h more)"


def _gap(study: Study, found: Difference, entries: Sequence[RunRecord]) -> Number:
    """The difference of two levels with its interval."""
    sides = (found.better, found.worse)
    runs = [run for run in entries if run.level in sides and run.seed in found.seeds]
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
        origin=origin_of_runs(runs, title, study.measure.protocol),
    )


def claims_by_budget(views: Sequence[StudyView], budgets: Iterable[str]) -> list[Named]:
    """A row for each claim of a study with what every training length says of it.

    Args:
        views: Views of one study, at the budgets of its runs.
        budgets: Budgets that have columns.
    """
    study = views[0].study
    by_budget = {view.budget: view for view in views}
    rows: list[Named] = []
    for place, verdict in enumerate(views[0].judged):
        cells: Record = {"published": _published_gap(study, verdict)}
        for budget in budgets:
            view = by_budget.get(budget)
            judged = None if view is None else view.judged[place]
            if judged is None:
                word, difference = "not run" if budget in study.budgets else "", None
            else:
                difference = judged.shown
                word = judged.word if difference is None else _word(judged)
            shown = _cells_of(study, difference, view.entries if view else ())
            smaller = ", smaller network" if reduces(study, budget) else ""
            cells |= {
                (budget, "on"): shown["on"],
                (budget, "measured ± 95%"): shown["gap"],
                (budget, "corrected ±"): shown["corrected ±"],
                (budget, "n"): f"{shown['n']}{smaller}" if difference else "",
                (budget, "verdict"): word,
            }
        rows.append(((study.name, _claim_text(verdict)), cells))
    return rows


def _levels(
    evidence: Evidence,
    study: Study,
    budget: str | None,
    entries: list[RunRecord],
    groups: Sequence[str],
    name: str,
) -> Table:
    """Levels by sets: what is published, then what was measured."""
    published = _published(study)
    metric = metric_text(study.measure.metric)
    rows: list[Named] = []
    for level in study.levels:
        runs = [entry for entry in entries if entry.level == level]
        cells: Record = {}
        for group, by_level in published.items():
            cell = by_level.get(level)
            number = None if cell is None else _printed(level, cell)
            cells[group_text(group), f"published {metric}"] = number
        for group in groups:
            number = _measured(study, level, runs, group, published)
            cells[group_text(group), f"measured {metric}"] = number
        for group in groups if study.reference is not None else ():
            found = against_reference(study, level, entries, group)
            gap = None if found is None else _gap(study, found, entries)
            cells[group_text(group), f"minus {study.reference} ± 95%"] = gap
        cells["seeds"] = str(len({run.seed for run in runs}))
        size = Number(runs[0].parameters, "parameters", kind="computed") if runs else None
        minutes = [run.seconds / 60 for run in runs]
        cells["parameters"] = size
        cells["minutes each"] = f"{statistics.fmean(minutes):.1f}" if runs else ""
        rows.append(((level,), cells))
    failures = [] if budget is None else evidence.failures(study, budget)
    notes = [f"{failure.name} failed: {failure.reason}" for failure in failures]
    notes += [PAIRED] if study.reference else []
    source = _conditions(study, budget, entries)
    return ranked(Table.of(name, study.title, source, (study.factor,), rows, tuple(notes)))


def _published(study: Study) -> dict[str, Mapping[str, PublishedCell]]:
    """The cells of the study's published table by set and scale, then level."""
    if study.table is None:
        return {}
    return {
        group_name(name, next(iter(by_level.values())).scale): by_level
        for name, by_level in study.printed.items()
    }


def _printed(level: str, cell: PublishedCell) -> Number:
    origin = Provenance(f"Published: {level}", (("source", cell.source),))
    return Number(cell.value, cell.metric, doubtful=cell.doubtful, origin=origin)


def _measured(
    study: Study,
    level: str,
    runs: list[RunRecord],
    group: str,
    published: Mapping[str, Mapping[str, PublishedCell]],
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
        digits=measure.digits,
        origin=origin_of_runs(
            [run for run in runs if run.seed in values],
            f"{level}: {METRICS[measure.metric].label} on {group_text(group)}",
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


def _curves(study: Study, entries: Sequence[RunRecord]) -> Curves:
    points = [
        (run.level, run.seed, step, psnr)
        for level in study.levels
        for run in entries
        if run.level == level and run.curve.get("step")
        for step, psnr in zip(run.curve["step"], run.curve.get("psnr", []), strict=False)
    ]
    return Curves(points, columns=["level", "seed", "step", "psnr"])


def _by_image(study: Study, entries: Sequence[RunRecord], group: str) -> pd.DataFrame:
    """The metric, and all numbers in words, of every image by level and for bicubic, by seed."""
    metric = study.measure.metric
    rows = [
        (
            image,
            "bicubic" if method == "bicubic" else run.level,
            numbers.get(metric),
            numbers_text(numbers),
        )
        for run in entries
        for method, cell in run.metrics.get(study.measure.protocol, {}).get(group, {}).items()
        for image, listed in cell.get("images", {}).items()
        for numbers in [dict(zip(measured_metrics(cell), listed, strict=False))]
    ]
    return pd.DataFrame(rows, columns=["image", "level", metric, "text"])


def _images(study: Study, entries: Sequence[RunRecord], group: str, name: str) -> Table:
    metric = study.measure.metric
    levels = ["bicubic", *study.levels]
    # Not pandas' mean, whose last digit depends on the order of the seeds.
    measured = _by_image(study, entries, group).dropna(subset=[metric])
    means = measured.pivot_table(metric, "image", "level", aggfunc=statistics.fmean)
    return Table.of(
        f"{name}/images/{group}",
        f"{group_text(group)}, image by image",
        f"{metric_text(metric)} under {study.measure.protocol}, mean over seeds.",
        ("image",),
        [
            (
                (str(image),),
                {
                    str(level): None if math.isnan(value) else Number(value, metric, "measured")
                    for level, value in values.items()
                },
            )
            for image, values in means.reindex(columns=levels).iterrows()
        ],
        kind="measured",
        group=0,
    )


def _pictures(
    study: Study, entries: Sequence[RunRecord], groups: Sequence[str], folder: Path
) -> tuple[Comparison, ...]:
    """One image of some sets by all levels, from the run folders of the first seed."""
    found = []
    note = f"Numbers of the whole image under {study.measure.protocol}, first seed."
    first = {entry.level: entry for entry in reversed(entries)}
    shown = [first[level] for level in study.levels if level in first]
    for group in groups:
        for image, numbers in _by_image(study, shown, group).groupby("image"):
            crops = [folder / run.name / "images" / group / str(image) for run in shown]
            if not all((crop / "sr.png").is_file() for crop in crops):
                continue
            files = {"LR": crops[0] / "lr.png", "bicubic": crops[0] / "bicubic.png"}
            files |= {run.level: crop / "sr.png" for run, crop in zip(shown, crops, strict=True)}
            files["HR (original)"] = crops[0] / "hr.png"
            texts = numbers.drop_duplicates("level").set_index("level")["text"]
            panels = [
                Panel(name, texts.get(name, ""), png) for name, png in _narrowed(files).items()
            ]
            found.append(Comparison(f"{image}, {group_text(group)}", tuple(panels), note))
            break
    return tuple(found[:_COMPARED_SETS])


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
