"""``sr-lightning dashboard``: a study's W&B workspace, or its W&B report, written down as code.

Both open with what the ledger has of the study, in the words of ``sr-lightning report``, and go on
with panels of its runs (see :mod:`sr_lightning.studies.dashboard`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sr_lightning.errors import UserError
from sr_lightning.experiments import project_root
from sr_lightning.report.document import PaperView, StudyView
from sr_lightning.report.findings import findings
from sr_lightning.report.measurements import Evidence, budget_text
from sr_lightning.report.study_view import study_views
from sr_lightning.report.writers import markdown
from sr_lightning.studies.dashboard import as_json, library, panels_of, runs_of, workspace
from sr_lightning.studies.ledger import Ledger
from sr_lightning.studies.study import BUDGETS, Study, find_study
from sr_lightning.studies.verdicts import RULE
from sr_lightning.training.wandb_logging import WandbOptions, require_key

__all__ = ["main", "wandb_report"]

_LONGEST_TITLE = 128


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

    def made(entity: str) -> Any:
        place = (options.budget, options.project, entity)
        if options.report:
            return wandb_report(evidence, study, *place)
        return workspace(study, *place, _verdicts(_views(evidence, study, options.budget)))

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


def wandb_report(
    evidence: Evidence, study: Study, budget: str, project: str, entity: str = ""
) -> Any:
    """The W&B report of a study at a budget, of wandb-workspaces; nothing is sent anywhere.

    Args:
        evidence: What was measured, for verdicts and means.
        study: Study that it is about.
        budget: Budget of the runs: levels are compared at equal budgets only.
        project: W&B project.
        entity: W&B team or user. Where it is named, W&B is asked for the project's number.

    Raises:
        UserError: wandb-workspaces is missing, or the study has no such budget.
    """
    wr, panels = library("reports.v2"), panels_of(study, budget)
    views = _views(evidence, study, budget)
    nothing = f"Nothing of the {budget} budget is in the ledger yet."
    blocks = [
        wr.H2("Verdicts"),
        wr.UnorderedList(_verdicts(views) or [nothing]),
        wr.P(RULE),
    ]
    for view in views:
        blocks += [wr.H2("Means"), wr.MarkdownBlock(markdown(view.table))]
    runs = runs_of(study, budget, project, entity)
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
