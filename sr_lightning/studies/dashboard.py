"""``sr-lightning dashboard``: a study's W&B workspace, written down as code.

Runs of a study carry what it groups and filters by: the tags ``study:`` and ``budget:``, the
config keys ``ablation.level`` and ``seed``, the summary constants ``params`` and ``macs_720p``
(see :func:`sr_lightning.training.wandb_logging.describe_run`).
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
from sr_lightning.studies.study import BUDGETS, Study, find_study
from sr_lightning.training.complexity import network_of_config
from sr_lightning.training.wandb_logging import WandbOptions, require_key

__all__ = ["as_json", "config_key", "main", "workspace"]

_STEP = "trainer/global_step"
_LEVEL = "ablation.level"
# As many as a run logs, see ImageStrips.
_PICTURES = 3


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: Options; default: the process's own.
    """
    parser = argparse.ArgumentParser(
        prog="sr-lightning dashboard",
        description="Make the W&B workspace of a study: runs by level, curves with seeds as a "
        "band, final metrics, parallel coordinates, pictures, run comparer.",
    )
    parser.add_argument("study", help="name, or path of a study file")
    parser.add_argument(
        "--budget", choices=BUDGETS, default="quick", help="of the runs; default quick"
    )
    parser.add_argument("--project", default=WandbOptions().project, help="W&B project")
    parser.add_argument("--entity", default="", help="W&B team or user; default your own")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the JSON; needs no key and no network"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/studies"), help="run folders of the studies"
    )
    options = parser.parse_args(argv)
    study = find_study(options.study, project_root())
    if options.dry_run:
        print(as_json(workspace(study, options.budget, options.project, options.entity)))
        return
    require_key()
    made = workspace(study, options.budget, options.project, options.entity or _own_entity())
    made.save()
    print(f"Workspace: {made.url}")
    print("Runs that were recorded offline are sent by:")
    print(f"wandb sync {options.runs}/{study.name}/{options.budget}/*/seed*/wandb/offline-run-*")


def _own_entity() -> str:
    import wandb

    return str(wandb.Api().default_entity)


def workspace(study: Study, budget: str, project: str, entity: str = "") -> Any:
    """The workspace of a study at a budget, of wandb-workspaces; nothing is sent anywhere.

    Args:
        study: Study whose runs it shows.
        budget: Budget of the runs: levels are compared at equal budgets only.
        project: W&B project.
        entity: W&B team or user.

    Raises:
        UserError: wandb-workspaces is missing, or the study has no such budget.
    """
    try:
        # By name: the package's types do not hold under strict checking.
        ws = importlib.import_module("wandb_workspaces.workspaces")
        wr = importlib.import_module("wandb_workspaces.reports.v2")
    except ImportError:
        raise UserError(
            "The dashboard needs wandb-workspaces: pip install sr-lightning[dashboard]."
        ) from None
    if budget not in study.budgets:
        raise UserError(
            f"The study {study.name} has no budget '{budget}' (it has: {', '.join(study.budgets)})."
        )
    measure = study.measure
    pictures = [f"val/images/{place}" for place in range(_PICTURES)]
    validated = f"val/{measure.protocol}/{measure.metric}"
    tested = [
        f"test/{group}/{measure.protocol}/{measure.metric}" for group in _groups(study, budget)
    ]
    return ws.Workspace(
        name=f"{study.title} ({budget} budget)",
        entity=entity,
        project=project,
        sections=[
            ws.Section("Training", [_curve(wr, validated), _curve(wr, "train/loss")], is_open=True),
            ws.Section("Test", [_bars(wr, key) for key in tested], is_open=True),
            ws.Section("Factors", [_coordinates(wr, study, validated)], is_open=True),
            ws.Section("Pictures", [wr.MediaBrowser(media_keys=pictures)]),
            ws.Section("Runs", [wr.RunComparer(diff_only="split")]),
        ],
        settings=ws.WorkspaceSettings(x_axis=_STEP, max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(
                ws.Tags().isin([f"study:{study.name}"]), ws.Tags().isin([f"budget:{budget}"])
            ),
            groupby=[ws.Config(_LEVEL)],
        ),
    )


def as_json(made: Any) -> str:
    """What would be sent to W&B, the same for the same workspace."""
    spec = json.loads(made._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    for place, panel in enumerate(_panels(spec), 1):
        # W&B needs them to differ; the library draws them by chance.
        panel["__id__"] = f"panel{place}"
    return json.dumps(spec, indent=1, sort_keys=True)


def config_key(option: str) -> str:
    """Where an option of a study, such as ``model.unit``, stands in a run's W&B config."""
    section = option.partition(".")[0]
    nested = section in ("model", "data") and "init_args" not in option
    return option.replace(".", ".init_args.") if nested else option


def _panels(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for section in spec["section"]["panelBankConfig"]["sections"]:
        yield from section["panels"]


def _groups(study: Study, budget: str) -> list[str]:
    """Sets and scales that runs are tested on."""
    scales = study.measure.scales
    if not scales:
        scales = network_of_config(study.experiment(next(iter(study.levels)))).scales
    sets = study.budgets[budget].test
    return [
        f"{name}_x{scale:g}"
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
