"""What a queue does, as it does it: bars on a terminal, a line for each change in a file."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sr_lightning.errors import StoppedError
from sr_lightning.studies.ledger import Failure
from sr_lightning.studies.queue import Job, Queue

__all__ = ["add_queue_options", "end_with", "page", "print_failures", "run_queue"]

_STYLES = {"done": "green", "in ledger": "green", "failed": "red", "running": "cyan"}


@contextmanager
def _shown(queue: Queue, what: str) -> Iterator[None]:
    """Show the jobs of a queue, and `what` they are called, for as long as this lasts."""
    if sys.stdout.isatty():
        console, draw = Console(markup=False), partial(_drawn, queue, what)
        with Live(get_renderable=draw, console=console, refresh_per_second=4):
            yield
        return
    said: dict[str, tuple[str, str]] = {}

    def tell(job: Job) -> None:
        if said.get(job.name) != (job.state, job.reason):
            said[job.name] = (job.state, job.reason)
            reason = f": {job.reason}" if job.reason else ""
            took = f" after {job.seconds:.0f} s" if job.state in {"done", "failed"} else ""
            print(f"{job.name}  {job.state}{took}{reason}", flush=True)

    queue.changed = tell
    yield


def _drawn(queue: Queue, what: str) -> Group:
    table = Table(box=None, padding=(0, 1))
    for head in (what, "", "state", "time"):
        table.add_column(head)
    for job in queue.jobs:
        if job.state == "running":
            job.seconds = time.monotonic() - job.begun
        bar: ProgressBar | str = ""
        if job.steps:
            bar = ProgressBar(total=job.steps, completed=job.step, width=24)
        word = Text(job.state, style=_STYLES.get(job.state, ""))
        if job.reason:
            word.append(f"  {job.reason}", style="default")
        took = f"{job.seconds:.0f} s" if job.seconds else ""
        table.add_row(job.name, bar, word, took)
    return Group(table, Text(_estimate(queue, what), style="dim"))


def _estimate(queue: Queue, what: str) -> str:
    done = [job for job in queue.jobs if job.state in {"done", "failed", "in ledger"}]
    timed = [job.seconds for job in done if job.state != "in ledger"]
    left = len(queue.jobs) - len(done)
    line = f"{len(done)} of {len(queue.jobs)} {what}s"
    if timed and left:
        seconds = sum(timed) / len(timed) * left / queue.workers
        line += f", about {seconds / 60:.0f} minutes left"
    return line


def end_with(failed: Iterable[Failure]) -> None:
    """Name what failed; the exit status says so, too."""
    failures = list(failed)
    print_failures(failures)
    if failures:
        raise SystemExit(1)


def print_failures(failures: Iterable[Failure]) -> None:
    """Name jobs that failed, one line each, with the file that says more."""
    for failure in failures:
        log = f" (log: {failure.log})" if failure.log else ""
        print(f"{failure.name} failed: {failure.reason}{log}", flush=True)


def page() -> Console:
    """Where tables are printed: off a terminal on lines so long that no word is cut."""
    console = Console(markup=False)
    return console if console.is_terminal else Console(markup=False, width=240)


def add_queue_options(parser: argparse.ArgumentParser) -> None:
    """Options of every command that runs a queue."""
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local")
    parser.add_argument("--data-root", help="where image sets lie; default $SR_DATA or ./data")
    parser.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        type=_pair,
        help="submitit parameter, such as slurm_partition=gpu; may be repeated",
    )


def run_queue(queue: Queue, what: str, options: argparse.Namespace, logs: Path) -> None:
    """Run a queue where the options say, and show it.

    Args:
        queue: The queue.
        what: What its jobs are called.
        options: Values of :func:`add_queue_options`.
        logs: Folder of submitit's logs; its name is that of SLURM's jobs.

    Raises:
        UserError: there is no SLURM, or the queue cannot run.
        StoppedError: the user asked to stop.
    """
    if options.launcher == "slurm":
        from sr_lightning.studies.slurm import run_on_slurm

        run_on_slurm(queue, logs, logs.name, dict(options.slurm))
        return
    try:
        with _shown(queue, what):
            queue.run()
    except KeyboardInterrupt:
        raise StoppedError(
            "Stopped; what finished is in the ledger, and the same command goes on with the rest."
        ) from None


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=VALUE")
    return key, value
