"""Running a study: every cell a process of its own, whatever happens to its neighbours.

A cell whose number is in the ledger already (same config, code, images and budget) is skipped; one
that was broken off goes on from its last checkpoint; one that fails is noted and the others go on.
Where code or config has changed since, one cell of a level is run again. If it gives the same
numbers to the last digit, the change did not touch them, and entries of the level's other seeds
that come from where its own came from stand.

Several runners of one study, on machines that share its folders, share the work: each cell is
locked while it runs, and whoever finds it locked takes the next. A runner that is killed takes its
cells along; they save themselves first.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from sr_lightning.classes import use_current_folder
from sr_lightning.data.catalog import find_set, known_set
from sr_lightning.data.sample import find_photographs
from sr_lightning.data.store import PixelStore
from sr_lightning.errors import StoppedError, UserError
from sr_lightning.files import write_whole
from sr_lightning.studies.ledger import Failure, Ledger, RunRecord, entry_of_run
from sr_lightning.studies.study import Cell, Study, load_study

__all__ = ["CellState", "Runner", "data_digest", "run_cell"]

State = Literal["waiting", "running", "testing", "done", "in ledger", "failed", "stopped"]

# What a broken-off cell may take to finish its step and write a checkpoint.
_GRACE_S = 60
_STEP = re.compile(r"^step ([\d,]+)/([\d,]+)")


@dataclass
class CellState:
    """What is known of a cell while the study runs.

    Attributes:
        cell: The cell.
        state: What it is doing.
        step: Optimiser steps done.
        steps: Steps in all; 0 while unknown.
        seconds: Since it started.
        reason: Reason of a failure, or what became of an earlier entry.
    """

    cell: Cell
    state: State = "waiting"
    step: int = 0
    steps: int = 0
    begun: float = 0.0
    seconds: float = 0.0
    reason: str = ""


@dataclass
class Runner:
    """Runs the cells of a study on this machine.

    Args:
        study: What to run.
        budget: Name of its budget.
        ledger: Where results go.
        runs: Folder of the cells' run folders.
        seeds: How many; default the study's.
        jobs: Processes at a time; they share the cores evenly.
        extra: Options added to every fit and test, such as ``--data-root``.
        changed: Called after every change of a cell's state.
        program: What runs the commands of a cell, given as JSON in one more argument.
    """

    study: Study
    budget: str
    ledger: Ledger
    runs: Path
    seeds: int | None = None
    jobs: int = 1
    extra: Sequence[str] = ()
    changed: Callable[[CellState], None] = lambda state: None
    program: Sequence[str] = (sys.executable, "-m", "sr_lightning.studies.worker")
    states: list[CellState] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.states = [CellState(cell) for cell in self.study.cells(self.budget, self.seeds)]
        self._children: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._first: dict[str, threading.Event] = {}

    def run(self) -> list[CellState]:
        """Run what the ledger does not have; returns the states at the end.

        Ctrl-C lets the running cells save themselves and stops; a later run goes on.
        """
        root = dict(pairwise(self.extra)).get("--data-root")
        # Levels may not change the data, so one cell speaks for all.
        data = data_digest(self.states[0].cell, root) if self.states else ""
        pool = ThreadPoolExecutor(self.jobs)
        taken = self.states
        try:
            # What another runner is at comes last, and most likely is in the ledger then.
            for wait in (False, True):
                futures = [(pool.submit(self._one, state, data, wait), state) for state in taken]
                taken = [state for future, state in futures if not future.result()]
        except KeyboardInterrupt:
            self._stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        pool.shutdown(wait=True)
        return self.states

    def failures(self) -> list[Failure]:
        """Cells that failed in this run."""
        return [self._failure(state) for state in self.states if state.state == "failed"]

    def _failure(self, state: CellState) -> Failure:
        name = state.cell.name
        return Failure(name, state.reason, str(self.runs / name / "log.txt"))

    def _stop(self) -> None:
        self._stopping.set()
        with self._lock:
            for child in self._children:
                child.send_signal(signal.SIGINT)

    def _say(self, state: CellState, word: State, reason: str = "") -> None:
        state.state, state.reason = word, reason
        if state.begun:
            state.seconds = time.monotonic() - state.begun
        self.changed(state)

    def _one(self, state: CellState, data: str, wait: bool) -> bool:
        """Run a cell, or else wait for another runner that is at it; False if it is left alone."""
        lock = FileLock(self.runs / f"{state.cell.name}.lock", thread_local=False)
        while not self._stopping.is_set():
            try:
                with lock.acquire(timeout=1 if wait else 0):
                    self._under_lock(state, data)
                    return True
            except Timeout:
                self._say(state, "waiting", "another runner is at it")
                if not wait:
                    return False
            except OSError as error:
                self._say(state, "failed", f"{lock.lock_file}: {error.strerror}.")
                return True
        self._say(state, "stopped")
        return True

    def _under_lock(self, state: CellState, data: str) -> None:
        cell = state.cell
        try:
            # Now and not for all cells at the start: code may change while a study runs.
            code = cell.code()
            key = cell.key(code, data)
            known = self.ledger.read(cell.name)
            if known is None:
                self._run(state, code, key)
            elif known.key == key:
                self._say(state, "in ledger")
            else:
                self._renew(state, known, code, data)
        except StoppedError:
            self._say(state, "stopped")
        except (UserError, subprocess.SubprocessError, OSError, ValueError, LookupError) as error:
            self._say(state, "failed", str(error))
            self.ledger.fail(self._failure(state))

    def _renew(self, state: CellState, known: RunRecord, code: str, data: str) -> None:
        """Keep an entry from before a change if another seed speaks for it; else run the cell."""
        cell, key = state.cell, state.cell.key(code, data)
        with self._lock:
            is_first = cell.level not in self._first
            spoken = self._first.setdefault(cell.level, threading.Event())
        if not is_first:
            spoken.wait()
        try:
            if (seed := self._confirming(cell, known, code, data)) is None:
                self._run(state, code, key, known)
                return
            same = sorted({*known.same_as, known.origin})
            self.ledger.write(replace(known, key=key, code=code, same_as=same))
            self._say(state, "in ledger", f"seed {seed} has the same numbers as before")
        finally:
            spoken.set()

    def _confirming(self, cell: Cell, known: RunRecord, code: str, data: str) -> int | None:
        """The seed whose numbers are today's and those of what an older entry comes from."""
        for entry in self.ledger.siblings(cell.name):
            today = replace(cell, seed=entry.seed).key(code, data)
            if entry.key == today and {known.origin, *known.same_as} & set(entry.same_as):
                return entry.seed
        return None

    def _run(self, state: CellState, code: str, key: str, known: RunRecord | None = None) -> None:
        """Train and test a cell and write its entry in place of an older one."""
        cell = state.cell
        state.begun = time.monotonic()
        folder = self.runs / cell.name
        self._prepare(folder, key)
        self._say(state, "running")
        test = [*cell.test_arguments(folder), *self.extra]
        self._call(state, [self._fit_arguments(cell, folder), test], folder)
        entry = entry_of_run(
            folder,
            name=cell.name,
            study=self.study.name,
            budget=self.budget,
            level=cell.level,
            seed=cell.seed,
            key=key,
            code=code,
        )
        became = ""
        if known is not None and known.same_numbers(entry):
            entry = replace(entry, same_as=sorted({*known.same_as, known.origin}))
            became = "the same numbers as before"
        elif known is not None:
            became = "other numbers than before; the level's older entries are stale"
        self.ledger.write(entry)
        self._say(state, "done", became)

    def _fit_arguments(self, cell: Cell, folder: Path) -> list[str]:
        if list((folder / "checkpoints").glob("*.ckpt")) and (folder / "config.yaml").is_file():
            return ["fit", "--run", str(folder), *self.extra]
        return [*cell.fit_arguments(folder), *self.extra]

    @staticmethod
    def _prepare(folder: Path, key: str) -> None:
        """Keep what a broken-off run of the same cell left; remove what another one did."""
        noted = folder / "cell.key"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            # The cell of a runner that was killed may still be saving itself.
            with FileLock(folder / ".lock").acquire(timeout=_GRACE_S):
                if not noted.is_file() or noted.read_text() != key:
                    shutil.rmtree(folder)
        except Timeout:
            raise UserError(f"Another training is running in {folder}; stop it first.") from None
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(noted, key)

    def _call(self, state: CellState, commands: list[list[str]], folder: Path) -> None:
        threads = max(1, (os.cpu_count() or 1) // self.jobs)
        environment = {**os.environ, "SR_PROGRESS_SECONDS": "2", "PYTHONUNBUFFERED": "1"}
        if self.jobs > 1:
            environment["OMP_NUM_THREADS"] = str(threads)
        # One process for both: importing torch and Lightning twice would cost a quick cell more
        # than its training.
        command = [*self.program, json.dumps(commands)]
        with (folder / "log.txt").open("a") as log:
            # A group of its own: Ctrl-C in the terminal reaches only this process, which passes
            # it on once.
            child = subprocess.Popen(
                command,
                # Closed with this process, which ends the cell.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
                start_new_session=True,
            )
            with self._lock:
                self._children.add(child)
            tail = self._follow(state, child, log)
            with self._lock:
                self._children.discard(child)
        if self._stopping.is_set():
            raise StoppedError("Stopped.")
        if child.returncode != 0:
            raise UserError(_reason(child.returncode, tail))

    def _follow(self, state: CellState, child: subprocess.Popen[str], log: Any) -> list[str]:
        tail: list[str] = []
        assert child.stdout is not None
        for line in child.stdout:
            log.write(line)
            log.flush()
            tail = [*tail[-40:], line.rstrip()]
            if match := _STEP.match(line):
                state.step, state.steps = (int(n.replace(",", "")) for n in match.groups())
                self._say(state, "running")
            elif line.startswith("$ sr-lightning test"):
                self._say(state, "testing")
        child.wait()
        if child.stdin is not None:
            child.stdin.close()
        return tail


def data_digest(cell: Cell, root: str | None) -> str:
    """Digest of the images that a cell trains, validates and tests on.

    Args:
        cell: Cell of a study.
        root: Data root, or None for the default.

    Raises:
        UserError: a training or validation set is missing.
    """
    options = dict(cell.merged_config().get("data", {}).get("init_args", {}))
    for name, value in cell.options.items():
        if name.startswith("data."):
            options[name.removeprefix("data.").removeprefix("init_args.")] = value
    sums = []
    for role in ("train", "val", "test"):
        named = options.get(role) or []
        for name in [named] if isinstance(named, str) else named:
            try:
                found = find_photographs(name) or find_set(name, root or options.get("root"))
            except UserError:
                # A known test set that is not there is skipped by the run, too.
                if role == "test" and known_set(name) is not None:
                    continue
                raise
            sums.append((role, name, PixelStore.of_files(found.files, label=found.name).checksum))
    return hashlib.sha256(json.dumps(sums).encode()).hexdigest()[:16]


def _reason(code: int, tail: Sequence[str]) -> str:
    """Why a process ended, in a sentence."""
    text = "\n".join(tail).lower()
    said = [line for line in tail if line.startswith("sr-lightning: ")]
    if said:
        return said[-1].removeprefix("sr-lightning: ")
    if code == -signal.SIGKILL:
        return "Killed from outside (most often: the machine ran out of memory)."
    if code < 0:
        return f"Ended by signal {signal.Signals(-code).name}."
    if "out of memory" in text or "can't allocate memory" in text:
        return "Out of memory; lower data.batch_size or run fewer jobs at a time."
    errors = [line for line in tail if re.match(r"^\w*(Error|Exception|Interrupt)\b", line)]
    return errors[-1] if errors else f"Ended with status {code}."


def run_cell(
    study_file: str,
    root: str,
    budget: str,
    level: str,
    seed: int,
    runs: str,
    ledger: str,
    extra: Sequence[str] = (),
) -> State:
    """Run one cell; what a job of a cluster calls.

    Returns:
        The cell's final state.
    """
    use_current_folder()
    study = load_study(Path(study_file), Path(root))
    runner = Runner(study, budget, Ledger(Path(ledger)), Path(runs), extra=extra)
    runner.states = [CellState(Cell(study, level, seed, budget))]
    return runner.run()[0].state
