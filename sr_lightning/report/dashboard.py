"""``sr-lightning dashboard``: a study's W&B workspace, or its W&B report, written down as code.

Both open with what the ledger has of the study, in the words of ``sr-lightning report``, and go on
with panels of its runs. Those carry what they are grouped and filtered by: the tags ``study:`` and
``budget:``, the config keys ``ablation.level`` and ``seed``, the summary constants ``params`` and
``macs_720p`` (see :func:`sr_lightning.training.wandb_logging.describe_run`).
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sr_lightning.errors import UserError
from sr_lightning.experiments import project_root
from sr_lightning.report.document import PaperView, StudyView
from sr_lightning.report.findings import findings
from sr_lightning.report.measurements import Evidence, budget_text
from sr_lightning.report.study_view import study_views
from sr_lightning.report.writers import markdown
from sr_lightning.studies.ledger import Ledger
from sr_lightning.studies.study import BUDGETS, Study, find_study
from sr_lightning.studies.verdicts import RULE
from sr_lightning.training.complexity import network_of_config
from sr_lightning.training.wandb_logging import WandbOptions, require_key

__all__ = ["as_json", "config_key", "main", "wandb_report", "workspace"]

_LONGEST_TITLE = 128
_STEP = "trainer/global_step"
_LEVEL = "ablation.level"
# As many as a run logs, see ImageStrips.
_PICTURES = 3
_CLOSED = ("Factors", "Runs")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: Options; default: the process's own.
    """
    parser = argparse.ArgumentParser(
        prog="sr-lightning dashboard",
        description="Make the W&B workspace of a study: verdicts, final metrics by level, curves "
        "with seeds as a band, pictures, parallel coordinates, run comparer.",
    )
    parser.add_argument("study", help="name, or path of a study file")
    parser.add_argument(
        "--budget", choices=BUDGETS, default="quick", help="of the runs; default quick"
    )
    parser.add_argument("--project", default=WandbOptions().project, help="W&B project")
    parser.add_argument("--entity", default="", help="W&B team or user; default your own")
    parser.add_argument(
        "--report",
        action="store_true",
        help="make a W&B report instead: verdicts, means, the same panels with a table of runs",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the JSON; needs no key and no network"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/studies"), help="run folders of the studies"
    )
    options = parser.parse_args(argv)
    root = project_root()
    study = find_study(options.study, root)
    evidence = Evidence(root, Ledger(root / "experiments" / "results"), own=[study])
    make = wandb_report if options.report else workspace

    def made(entity: str) -> Any:
        return make(evidence, study, options.budget, options.project, entity)

    if options.dry_run:
        # Of a named entity, a report asks W&B for the project's number.
        print(as_json(made("" if options.report else options.entity)))
        return
    require_key()
    entity = options.entity or _own_entity()
    send = f"wandb sync {options.runs}/{study.name}/{options.budget}/*/seed*/wandb/offline-run-*"
    saved = made(entity)
    try:
        saved.save()
    except ValueError as error:
        if "not found" not in str(error):
            raise
        raise UserError(
            f"W&B has no project {entity}/{options.project}, which a report needs; send the "
            f"study's runs first: {send}"
        ) from error
    print(f"{'Report' if options.report else 'Workspace'}: {saved.url}")
    print("Runs that were recorded offline are sent by:")
    print(send)


def _own_entity() -> str:
    import wandb

    return str(wandb.Api().default_entity)


def workspace(evidence: Evidence, study: Study, budget: str, project: str, entity: str = "") -> Any:
    """The workspace of a study at a budget, of wandb-workspaces; nothing is sent anywhere.

    Args:
        evidence: What was measured; it opens with its verdicts.
        study: Study whose runs it shows.
        budget: Budget of the runs: levels are compared at equal budgets only.
        project: W&B project.
        entity: W&B team or user.

    Raises:
        UserError: wandb-workspaces is missing, or the study has no such budget.
    """
    ws, wr = _library("workspaces"), _library("reports.v2")
    panels = _panels(wr, study, budget)
    if verdicts := _verdicts(_views(evidence, study, budget)):
        text = "\n".join(f"- {sentence}" for sentence in verdicts)
        panels = {"Verdicts": [wr.MarkdownPanel(markdown=text)], **panels}
    return ws.Workspace(
        name=f"{study.title} ({budget} budget)",
        entity=entity,
        project=project,
        sections=[
            ws.Section(name, shown, is_open=name not in _CLOSED) for name, shown in panels.items()
        ],
        settings=ws.WorkspaceSettings(x_axis=_STEP, max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(*(ws.Tags().isin([tag]) for tag in _tags(study, budget))),
            groupby=[ws.Config(_LEVEL)],
        ),
    )


def wandb_report(
    evidence: Evidence, study: Study, budget: str, project: str, entity: str = ""
) -> Any:
    """The W&B report of a study at a budget, of wandb-workspaces; nothing is sent anywhere.

    Args:
        evidence: What was measured.
        study: See :func:`workspace`.
        budget: See :func:`workspace`.
        project: See :func:`workspace`.
        entity: W&B team or user. Where it is named, W&B is asked for the project's number.

    Raises:
        UserError: see :func:`workspace`.
    """
    wr = _library("reports.v2")
    panels = _panels(wr, study, budget)
    views = _views(evidence, study, budget)
    nothing = f"Nothing of the {budget} budget is in the ledger yet."
    blocks = [
        wr.H2("Verdicts"),
        wr.UnorderedList(_verdicts(views) or [nothing]),
        wr.P(RULE),
    ]
    for view in views:
        blocks += [wr.H2("Means"), wr.MarkdownBlock(markdown(view.table))]
    runs = _runs(wr, study, budget, project, entity)
    for name, shown in panels.items():
        blocks += [wr.H2(name), wr.PanelGrid(runsets=[runs], panels=shown)]
    return wr.Report(
        project=project,
        entity=entity,
        title=f"{study.title} ({budget_text(study, budget)})"[:_LONGEST_TITLE],
        description="Verdicts and means are those of the ledger when this was made; curves, bars "
        "and pictures are those of the project's runs.",
        blocks=blocks,
        width="fluid",
    )


def _views(evidence: Evidence, study: Study, budget: str) -> list[StudyView]:
    """The study at one budget; none where nothing of it has run."""
    return [view for view in study_views(evidence, study) if view.budget == budget]


def _verdicts(views: Sequence[StudyView]) -> list[str]:
    return [found.sentence for found in findings([PaperView("", "", (), tuple(views))])]


# Panels ------------------------------------------------------------------------------------------


def _panels(wr: Any, study: Study, budget: str) -> dict[str, list[Any]]:
    """What is shown of a study's runs, by the heads it stands under."""
    if budget not in study.budgets:
        raise UserError(
            f"The study {study.name} has no budget '{budget}' (it has: {', '.join(study.budgets)})."
        )
    validated = f"val/{study.measure.protocol}/{study.measure.metric}"
    return {
        "Test": [
            wr.BarPlot(
                title=f"{key}, mean and standard deviation",
                metrics=[key],
                groupby=wr.Config(_LEVEL),
                groupby_aggfunc="mean",
                groupby_rangefunc="stddev",
                aggregate=True,
            )
            for key in _tested(study, budget)
        ],
        "Training": [
            wr.LinePlot(
                title=f"{key}, mean over seeds, band from least to greatest",
                x=_STEP,
                y=[key],
                groupby=wr.Config(_LEVEL),
                groupby_aggfunc="mean",
                groupby_rangefunc="minmax",
                aggregate=True,
            )
            for key in (validated, "train/loss")
        ],
        "Pictures": [
            wr.MediaBrowser(media_keys=[f"val/images/{place}" for place in range(_PICTURES)])
        ],
        "Factors": [_coordinates(wr, study, validated)],
        "Runs": [wr.RunComparer(diff_only="split")],
    }


def _runs(wr: Any, study: Study, budget: str, project: str, entity: str) -> Any:
    """A report's table of a study's runs, grouped by level."""
    return wr.Runset(
        entity=entity,
        project=project,
        name=study.name,
        filters=" and ".join(f"Tags in ['{tag}']" for tag in _tags(study, budget)),
        groupby=[f"config.{_LEVEL}"],
        pinned_columns=[
            "run:displayName",
            "config:seed.value",
            *(f"summary:{key}" for key in _tested(study, budget)),
        ],
    )


def _tags(study: Study, budget: str) -> tuple[str, str]:
    return f"study:{study.name}", f"budget:{budget}"


def _library(part: str) -> Any:
    """A part of wandb-workspaces; by name, for its types do not hold under strict checking."""
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


def _coordinates(wr: Any, study: Study, validated: str) -> Any:
    options = dict.fromkeys(option for changed in study.levels.values() for option in changed)
    keys = [_LEVEL, *map(config_key, options), "seed"]
    columns = [wr.ParallelCoordinatesPlotColumn(wr.Config(key)) for key in keys]
    columns += [
        wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(key)) for key in ("params", validated)
    ]
    return wr.ParallelCoordinatesPlot(columns=columns)
