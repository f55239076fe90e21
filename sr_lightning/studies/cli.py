"""``sr-lightning study``: list, show, plan and run studies, of the project or your own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from sr_lightning.errors import StoppedError, UserError
from sr_lightning.experiments import project_root
from sr_lightning.files import user_path
from sr_lightning.init import check_writable
from sr_lightning.studies.ledger import Failure, Ledger, RunRecord
from sr_lightning.studies.plan import MOST_SEEDS, Need, needs, seconds_per_seed
from sr_lightning.studies.runner import StudyQueue
from sr_lightning.studies.screen import add_queue_options, end_with, page, print_failures, run_queue
from sr_lightning.studies.starts import starts
from sr_lightning.studies.study import BUDGETS, Study, find_study, own_studies, studies
from sr_lightning.studies.verdicts import (
    RULE,
    Difference,
    against_reference,
    judge,
    level_values,
    mean_and_deviation,
    tested_groups,
)

__all__ = ["main", "results_table"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: Options; default: the process's own.
    """
    parser = argparse.ArgumentParser(prog="sr-lightning study", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="all studies and what the ledger has of them")
    begin = commands.add_parser("starts", help="PSNR of untrained networks, beside bicubic")
    begin.add_argument("files", nargs="+", type=Path, help="experiment files")
    begin.add_argument("--set", default="Set5", help="set or folder of HR images; default: Set5")
    begin.add_argument("--data-root", help="where image sets lie; default $SR_DATA or ./data")
    show = commands.add_parser("show", help="results and verdicts of a study")
    plan = commands.add_parser(
        "plan", help="seeds and hours that each claim needs, from the runs in the ledger"
    )
    run = commands.add_parser("run", help="run what the ledger does not have")
    reproduce = commands.add_parser(
        "reproduce", help="run every study that names the budget under 'reproduce'"
    )
    sweep = commands.add_parser("sweep", help="print a study's grid as a W&B sweep")
    for sub in (show, plan, run, sweep):
        sub.add_argument("study", help="name, or path of a study file")
    for sub in (show, plan, run, reproduce, sweep):
        sub.add_argument("--budget", choices=BUDGETS, default="quick")
    run.add_argument(
        "--seeds",
        type=_seeds,
        help="how many; default the study's; 'auto' adds seeds until the intervals are narrower "
        "than the published differences, or the study's max_seeds",
    )
    sweep.add_argument("--seeds", type=_count, help="how many; default the study's")
    for sub in (run, reproduce):
        sub.add_argument("--jobs", type=_count, default=1, help="runs at a time; default 1")
        sub.add_argument("--runs", type=Path, default=Path("runs/studies"), help="run folders")
        add_queue_options(sub)
    options = parser.parse_args(argv)
    root = project_root()
    if options.command == "list":
        _list(root)
        return
    if options.command == "starts":
        for start in starts(options.files, options.set, options.data_root):
            print(start, flush=True)
        return
    if options.command == "reproduce":
        _reproduce(root, options)
        return
    study = find_study(options.study, root)
    ledger = Ledger(study.results)
    if options.command == "sweep":
        from sr_lightning.studies.sweep import sweep as sweep_of

        print(sweep_of(study, options.budget, options.seeds), end="")
        return
    failed: list[Failure] = []
    console = page()
    if options.command == "plan":
        _print_plan(console, study, ledger.entries(study.name, options.budget), options.budget)
        return
    if options.command == "run" and options.seeds == "auto":
        failed = _run_enough(study, options, ledger)
    elif options.command == "run":
        failed = _run(study, options, options.seeds)
    console.print(results_table(study, ledger, options.budget))
    if study.claims:
        _print_verdicts(console, study, ledger, options.budget)
    _print_stale(study, ledger, options)
    if options.command == "show":
        failures = [
            ledger.failure(cell.name) for cell in study.cells(options.budget, study.max_seeds)
        ]
        print_failures(failure for failure in failures if failure is not None)
    end_with(failed)


def _print_stale(study: Study, ledger: Ledger, options: argparse.Namespace) -> None:
    """Say how many entries were made by code that is not today's."""
    budget = options.budget
    codes = {cell.level: cell.code() for cell in study.cells(budget, seeds=1)}
    entries = [e for e in ledger.entries(study.name, budget) if e.level in codes]
    if stale := [entry for entry in entries if entry.code != codes[entry.level]]:
        print(
            f"{len(stale)} of {len(entries)} entries were made by other code than today's: "
            f"'sr-lightning study run {options.study} --budget {budget}' checks one of each level."
        )


def _seeds(text: str) -> int | Literal["auto"]:
    if text != "auto" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is neither a number of seeds nor 'auto'")
    return "auto" if text == "auto" else _count(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1 to 1000")
    return int(text)


def _list(root: Path) -> None:
    table = Table("study", "about", "levels", *BUDGETS)
    for study in [*studies(root), *own_studies(root, Path.cwd())]:
        ledger, counts = Ledger(study.results), []
        for budget in BUDGETS:
            have = len(ledger.entries(study.name, budget))
            possible = len(study.levels) * study.seeds
            counts.append(f"{have}/{possible}" if budget in study.budgets else "-")
        table.add_row(study.name, study.title, str(len(study.levels)), *counts)
    page().print(table)


def _reproduce(root: Path, options: argparse.Namespace) -> None:
    """Run study after study; one that cannot run is told of and the others go on."""
    chosen = [study for study in studies(root) if options.budget in study.reproduce]
    if not chosen:
        raise UserError(
            f"No study names the budget '{options.budget}' under 'reproduce'; "
            "see experiments/studies."
        )
    failed: list[Failure] = []
    for study in chosen:
        print(f"{study.name}: {study.title}", flush=True)
        try:
            failed += _run(study, options, study.reproduce[options.budget])
        except StoppedError:
            raise
        except UserError as error:
            print(f"{study.name}  not run: {error}", flush=True)
            failed.append(Failure(study.name, str(error), ""))
    end_with(failed)


def _run(study: Study, options: argparse.Namespace, seeds: int | None) -> list[Failure]:
    """Run a study; returns the cells that failed."""
    check_writable(study.results)
    extra = ["--data-root", options.data_root] if options.data_root else []
    runs = user_path(options.runs).resolve()
    queue = StudyQueue(
        study,
        options.budget,
        Ledger(study.results),
        runs,
        seeds=seeds,
        extra=extra,
        workers=options.jobs,
    )
    run_queue(queue, "cell", options, runs / "slurm" / study.name)
    return queue.failures()


def _run_enough(study: Study, options: argparse.Namespace, ledger: Ledger) -> list[Failure]:
    """Add seeds until no interval is too wide for its claim, or the study's limit is reached."""
    failed: list[Failure] = []
    for seeds in range(study.seeds, study.max_seeds + 1):
        failed = _run(study, options, seeds)
        entries = ledger.entries(study.name, options.budget)
        open_claims = [
            need for need in needs(study, judge(study, entries), entries) if need.is_open
        ]
        if not open_claims:
            break
        print(f"{len(open_claims)} claims need more than {seeds} seeds", flush=True)
    return failed


def results_table(study: Study, ledger: Ledger, budget: str) -> Table:
    """Mean and standard deviation over seeds by level and set."""
    entries = ledger.entries(study.name, budget)
    groups = tested_groups(study, entries)
    measure = study.measure
    table = Table(
        title=f"{study.title}: {measure.metric} under {measure.protocol}, budget {budget}",
        title_justify="left",
    )
    table.add_column(study.factor)
    for group in groups:
        table.add_column(group, justify="right")
        if study.reference is not None:
            table.add_column(f"minus {study.reference} ± 95%", justify="right")
    table.add_column("seeds", justify="right")
    for level in study.levels:
        cells, counts = [], [0]
        for group in groups:
            values = level_values(study, entries, group)[level]
            mean, deviation = mean_and_deviation(values)
            counts.append(len(values))
            digits = study.measure.digits + 1
            spread = f" ± {deviation:.{digits}f}" if deviation is not None else ""
            cells.append("not run" if mean is None else f"{mean:.{digits}f}{spread}")
            if study.reference is not None:
                cells.append(_signed(against_reference(study, level, entries, group), digits))
        table.add_row(level, *cells, str(max(counts)))
    return table


def _signed(found: Difference | None, digits: int) -> str:
    """A measured difference with its interval; nothing where there is none."""
    if found is None:
        return ""
    half = "" if found.half_width is None else f" ± {found.half_width:.{digits}f}"
    return f"{found.mean:+.{digits}f}{half}"


def _print_verdicts(console: Console, study: Study, ledger: Ledger, budget: str) -> None:
    entries = ledger.entries(study.name, budget)
    heads = ("claim", "published", "measured", "corrected", "p", "p (Holm)", "n", "verdict")
    table = Table(*heads, "primary set")
    digits = study.measure.digits
    for verdict in judge(study, entries):
        claim, own, primary = verdict.claim, verdict.own, verdict.primary
        published = "-" if claim.published is None else f"{claim.published:+.{digits}f}"
        beside = f"{primary.group}: {_signed(primary, digits + 1)}" if primary else "-"
        table.add_row(
            f"{claim.better} > {claim.worse}",
            f"{published} ({claim.set})",
            _signed(own, digits + 1) or "-",
            _digits(own.corrected_half_width if own else None, f"±{{:.{digits + 1}f}}"),
            _digits(own.p if own else None, "{:.3f}"),
            _digits(own.corrected_p if own else None, "{:.3f}"),
            str(len(own.seeds) if own else 0),
            f"{verdict.word}: {verdict.reason}" if verdict.reason else verdict.word,
            f"{beside}, {verdict.primary_word}" if primary else beside,
        )
    console.print(table)
    console.print(RULE, style="dim")


def _digits(value: float | None, shown: str) -> str:
    return "-" if value is None else shown.format(value)


def _print_plan(console: Console, study: Study, entries: Sequence[RunRecord], budget: str) -> None:
    """Seeds and hours for each claim, and for all of them within the study's limit."""
    planned = needs(study, judge(study, entries), entries)
    table = Table(
        *("claim", "published", "residual", "half width", "n", "seeds needed", "hours more"),
        title=f"{study.title}: seeds until half of the 95% interval is below half of the "
        f"published difference, budget {budget}",
        title_justify="left",
    )
    for need in planned:
        claim, found = need.claim, need.found
        digits = study.measure.digits
        published = "-" if claim.published is None else f"{claim.published:+.{digits}f}"
        table.add_row(
            f"{claim.better} > {claim.worse}",
            f"{published} ({claim.set})",
            _digits(need.deviation, f"{{:.{digits + 1}f}}"),
            _digits(found.half_width if found else None, f"±{{:.{digits + 1}f}}"),
            str(len(found.seeds) if found else 0),
            _needed(need),
            _digits(need.hours, "{:.2f}"),
        )
    console.print(table)
    have = max((len(need.found.seeds) for need in planned if need.found), default=0)
    wanted = max([need.seeds or 0 for need in planned], default=0)
    seeds = max(study.seeds, min(study.max_seeds, wanted))
    if not have:
        console.print(
            f"Nothing has run at this budget: sr-lightning study run {study.name} --budget {budget}"
        )
        return
    hours = max(0, seeds - have) * seconds_per_seed(study, entries) / 3600
    over = sum(need.seeds is not None and need.seeds > study.max_seeds for need in planned)
    console.print(
        f"--seeds auto takes at most {seeds} seeds (limit {study.max_seeds}), {hours:.2f} hours "
        f"more, one run after another; {over} claims need more than the limit."
    )


def _needed(need: Need) -> str:
    if need.target is None:
        return "no size published"
    if need.found is None:
        return "not measured"
    if need.found.unconverged:
        return "not converged"
    if need.seeds is None:
        return "run two seeds first"
    return f"over {MOST_SEEDS:,}" if need.seeds == MOST_SEEDS else f"{need.seeds}"
