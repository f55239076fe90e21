"""A study's W&B workspace, written down as code, and its panels for whatever shows its runs.

Runs of a study carry what it groups and filters by: the tags ``study:`` and ``budget:``, the
config keys ``ablation.level`` and ``seed``, the summary constants ``params`` and ``macs_720p``
(see :func:`sr_lightning.training.wandb_logging.describe_run`).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from sr_lightning.errors import UserError
from sr_lightning.studies.study import Study
from sr_lightning.training.complexity import network_of_config

__all__ = ["as_json", "config_key", "library", "panels_of", "runs_of", "workspace"]

_STEP = "trainer/global_step"
_LEVEL = "ablation.level"
# As many as a run logs, see ImageStrips.
_PICTURES = 3
_CLOSED = ("Factors", "Runs")


def workspace(
    study: Study, budget: str, project: str, entity: str = "", verdicts: Sequence[str] = ()
) -> Any:
    """The workspace of a study at a budget, of wandb-workspaces; nothing is sent anywhere.

    Args:
        study: Study whose runs it shows.
        budget: Budget of the runs: levels are compared at equal budgets only.
        project: W&B project.
        entity: W&B team or user.
        verdicts: Sentences that stand before everything else.

    Raises:
        UserError: wandb-workspaces is missing, or the study has no such budget.
    """
    ws, wr = library("workspaces"), library("reports.v2")
    panels = panels_of(study, budget)
    if verdicts:
        text = "\n".join(f"- {sentence}" for sentence in verdicts)
        panels = {"Verdicts": [wr.MarkdownPanel(markdown=text)], **panels}
    of_study, of_budget = _tags(study, budget)
    return ws.Workspace(
        name=f"{study.title} ({budget} budget)",
        entity=entity,
        project=project,
        sections=[
            ws.Section(name, shown, is_open=name not in _CLOSED) for name, shown in panels.items()
        ],
        settings=ws.WorkspaceSettings(x_axis=_STEP, max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Tags().isin([of_study]), ws.Tags().isin([of_budget])),
            groupby=[ws.Config(_LEVEL)],
        ),
    )


def panels_of(study: Study, budget: str) -> dict[str, list[Any]]:
    """What is shown of a study's runs, by the heads it stands under.

    Args:
        study: See :func:`workspace`.
        budget: See :func:`workspace`.

    Raises:
        UserError: see :func:`workspace`.
    """
    wr = library("reports.v2")
    if budget not in study.budgets:
        raise UserError(
            f"The study {study.name} has no budget '{budget}' (it has: {', '.join(study.budgets)})."
        )
    validated = f"val/{study.measure.protocol}/{study.measure.metric}"
    return {
        "Test": [_bars(wr, key) for key in _tested(study, budget)],
        "Training": [_curve(wr, validated), _curve(wr, "train/loss")],
        "Pictures": [
            wr.MediaBrowser(media_keys=[f"val/images/{place}" for place in range(_PICTURES)])
        ],
        "Factors": [_coordinates(wr, study, validated)],
        "Runs": [wr.RunComparer(diff_only="split")],
    }


def runs_of(study: Study, budget: str, project: str, entity: str) -> Any:
    """A report's table of a study's runs, grouped by level.

    Args:
        study: See :func:`workspace`.
        budget: See :func:`workspace`.
        project: See :func:`workspace`.
        entity: See :func:`workspace`.
    """
    of_study, of_budget = _tags(study, budget)
    return library("reports.v2").Runset(
        entity=entity,
        project=project,
        name=study.name,
        filters=f"Tags in ['{of_study}'] and Tags in ['{of_budget}']",
        groupby=[f"config.{_LEVEL}"],
        pinned_columns=[
            "run:displayName",
            "config:seed.value",
            *(f"summary:{key}" for key in _tested(study, budget)),
        ],
    )


def _tags(study: Study, budget: str) -> tuple[str, str]:
    return f"study:{study.name}", f"budget:{budget}"


def library(part: str) -> Any:
    """A part of wandb-workspaces; by name, for its types do not hold under strict checking.

    Args:
        part: Such as "reports.v2".

    Raises:
        UserError: it is missing.
    """
    try:
        return importlib.import_module(f"wandb_workspaces.{part}")
    except ImportError:
        raise UserError(
            "The dashboard needs wandb-workspaces: pip install sr-lightning[dashboard]."
        ) from None


def as_json(made: Any) -> str:
    """What would be sent to W&B, the same for the same workspace or report."""
    spec = json.loads(made._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    # W&B needs them to differ; the library draws them by chance.
    for place, panel in enumerate(_with(spec, "__id__"), 1):
        panel["__id__"] = f"panel{place}"
    for runs in _with(spec, "runFeed"):
        runs["id"] = "runs"
    return json.dumps(spec, indent=1, sort_keys=True)


def config_key(option: str) -> str:
    """Where an option of a study, such as ``model.unit``, stands in a run's W&B config."""
    section = option.partition(".")[0]
    nested = section in ("model", "data") and "init_args" not in option
    return option.replace(".", ".init_args.") if nested else option


def _with(spec: Any, key: str) -> Iterator[dict[str, Any]]:
    """All mappings in plain data that have a key."""
    if isinstance(spec, dict) and key in spec:
        yield spec
    for value in spec.values() if isinstance(spec, dict) else spec:
        if isinstance(value, dict | list):
            yield from _with(value, key)


def _tested(study: Study, budget: str) -> list[str]:
    """Keys of what is measured, of all sets and scales that runs are tested on."""
    scales = study.measure.scales
    if not scales:
        scales = network_of_config(study.experiment(next(iter(study.levels)))).scales
    sets = study.budgets[budget].test
    return [
        f"test/{name}_x{scale:g}/{study.measure.protocol}/{study.measure.metric}"
        for name in (study.measure.sets if sets is None else sets)
        for scale in scales
    ]


def _curve(wr: Any, key: str) -> Any:
    return wr.LinePlot(
        title=f"{key}, mean over seeds, band from least to greatest",
        x=_STEP,
        y=[key],
        groupby=wr.Config(_LEVEL),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        aggregate=True,
    )


def _bars(wr: Any, key: str) -> Any:
    return wr.BarPlot(
        title=f"{key}, mean and standard deviation",
        metrics=[key],
        groupby=wr.Config(_LEVEL),
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
        aggregate=True,
    )


def _coordinates(wr: Any, study: Study, validated: str) -> Any:
    options = dict.fromkeys(option for changed in study.levels.values() for option in changed)
    keys = [_LEVEL, *map(config_key, options), "seed"]
    columns = [wr.ParallelCoordinatesPlotColumn(wr.Config(key)) for key in keys]
    columns += [
        wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(key)) for key in ("params", validated)
    ]
    return wr.ParallelCoordinatesPlot(columns=columns)
