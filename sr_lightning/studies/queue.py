"""One queue for the cells of studies and the zoo's trainings: every job a process of its own.

A job is a training and its test in a folder of its own. One that was broken off goes on from its
last checkpoint; one that fails is noted and the others go on, whatever happens to it. Several
queues of the same jobs, on machines that share their folders, share the work: each job is locked
while it runs, and whoever finds it locked takes the next. A queue that is killed takes its jobs
along; they save themselves first.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from sr_lightning.errors import StoppedError, UserError
from sr_lightning.studies.ledger import Failure

__all__ = ["GRACE_S", "Job", "Queue", "State"]

State = Literal["waiting", "running", "testing", "done", "in ledger", "failed", "stopped"]

GRACE_S = 60
"""Seconds that a job may take to finish its step and write a checkpoint."""
_STEP = re.compile(r"^step ([\d,]+)/([\d,]+)")


class Job(ABC):
    """A training and its test, and what is known of it while the queue runs.

    Args:
        name: Name for people.
        folder: Its run folder.

    Attributes:
        state: What it is doing.
        step: Optimiser steps done.
        steps: Steps in all; 0 while unknown.
        begun: When its process was started, in seconds of the monotonic clock.
        seconds: Since then.
        reason: Why it failed or waits, or what became of its numbers.
        place: Working directory of its commands; None for this process's own.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.state: State = "waiting"
        self.step = 0
        self.steps = 0
        self.begun = 0.0
        self.seconds = 0.0
        self.reason = ""
        self.place: Path | None = None

    @abstractmethod
    def commands(self) -> list[list[str]] | None:
        """What is left to run, each as typed after ``sr-lightning``; None if nothing is.

        Asked while the job is locked, and only when its turn comes: code may change while a queue
        runs.
        """

    @abstractmethod
    def keep(self) -> str:
        """Write down what a finished run gave; returns what there is to say of it."""

    @abstractmethod
    def elsewhere(self) -> tuple[Any, ...]:
        """A function and its arguments that run this job alone in another process."""

    def waits_for(self) -> str:
        """What it cannot begin without; empty if it can."""
        return ""

    def over(self) -> None:  # noqa: B027 - most jobs have nothing to do then
        """Called when its turn is over, however it ended."""

    @property
    def failure(self) -> Failure:
        """Why it failed."""
        return Failure(self.name, self.reason, str(self.folder / "log.txt"))


class Queue:
    """Runs jobs on this machine, in their order.

    Args:
        jobs: What to run.
        workers: Processes at a time; they share the cores evenly.
        minutes: Time to spend, after which running jobs save themselves; None for no limit.
        changed: Called after every change of a job's state.
        program: What runs the commands of a job, given as JSON in one more argument.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        workers: int = 1,
        minutes: float | None = None,
        changed: Callable[[Job], None] = lambda job: None,
        program: Sequence[str] = (sys.executable, "-m", "sr_lightning.studies.worker"),
    ) -> None:
        self.jobs = list(jobs)
        self.workers = workers
        self.changed = changed
        self.program = program
        self._end = None if minutes is None else time.monotonic() + 60 * minutes - GRACE_S
        self._children: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def run(self) -> list[Job]:
        """Run what is left of all jobs; returns them.

        Ctrl-C lets the running jobs save themselves and stops; a later queue goes on.
        """
        pool = ThreadPoolExecutor(self.workers)
        taken = self.jobs
        try:
            # What another queue is at comes last, and most likely is done then.
            for wait in (False, True):
                futures = [(pool.submit(self._one, job, wait), job) for job in taken]
                taken = [job for future, job in futures if not future.result()]
        except KeyboardInterrupt:
            self._stopping.set()
            with self._lock:
                for child in self._children:
                    child.send_signal(signal.SIGINT)
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        pool.shutdown(wait=True)
        return self.jobs

    def failures(self) -> list[Failure]:
        """What failed, and why."""
        return [job.failure for job in self.jobs if job.state == "failed"]

    def _say(self, job: Job, state: State, reason: str = "") -> None:
        job.state, job.reason = state, reason
        if job.begun:
            job.seconds = time.monotonic() - job.begun
        self.changed(job)

    def _one(self, job: Job, wait: bool) -> bool:
        """Run a job, or else wait for another queue that is at it; False if it is left alone."""
        if what := job.waits_for():
            self._say(job, "waiting", f"waits for {what}")
            return wait
        lock = FileLock(job.folder.with_name(f"{job.folder.name}.lock"), thread_local=False)
        while not self._stopping.is_set() and self._seconds_left() > 0:
            try:
                with lock.acquire(timeout=1 if wait else 0):
                    self._under_lock(job)
                    return True
            except Timeout:
                self._say(job, "waiting", "another queue is at it")
                if not wait:
                    return False
            except OSError as error:
                self._say(job, "failed", f"{lock.lock_file}: {error.strerror}.")
                return True
        if self._stopping.is_set():
            self._say(job, "stopped")
        return True

    def _under_lock(self, job: Job) -> None:
        try:
            commands = job.commands()
            if commands is None:
                self._say(job, "in ledger", job.reason)
                return
            job.begun = time.monotonic()
            self._say(job, "running")
            self._call(job, commands)
            self._say(job, "done", job.keep())
        except StoppedError as error:
            self._say(job, "stopped", str(error))
        except (UserError, subprocess.SubprocessError, OSError, ValueError, LookupError) as error:
            self._say(job, "failed", str(error))
        finally:
            job.over()

    def _seconds_left(self) -> float:
        return float("inf") if self._end is None else self._end - time.monotonic()

    def _call(self, job: Job, commands: list[list[str]]) -> None:
        environment = {**os.environ, "SR_PROGRESS_SECONDS": "2", "PYTHONUNBUFFERED": "1"}
        if self.workers > 1:
            threads = max(1, (os.cpu_count() or 1) // self.workers)
            environment["OMP_NUM_THREADS"] = str(threads)
        job.folder.mkdir(parents=True, exist_ok=True)
        with (job.folder / "log.txt").open("a") as log:
            child = subprocess.Popen(
                # One process for all: importing torch and Lightning twice would cost a quick job
                # more than its training.
                [*self.program, json.dumps(commands)],
                # Closed with this process, which ends the job.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
                cwd=job.place,
                # Ctrl-C in the terminal reaches only this process, which passes it on once.
                start_new_session=True,
            )
            with self._lock:
                self._children.add(child)
            over = threading.Event()
            clock = threading.Timer(
                min(self._seconds_left(), threading.TIMEOUT_MAX), _end, [child, over]
            )
            clock.daemon = True
            clock.start()
            tail = self._follow(job, child, log)
            clock.cancel()
            with self._lock:
                self._children.discard(child)
        if self._stopping.is_set():
            raise StoppedError("")
        if over.is_set():
            raise StoppedError("the time is over; it goes on from here next time")
        if child.returncode != 0:
            raise UserError(_reason(child.returncode, tail))

    def _follow(self, job: Job, child: subprocess.Popen[str], log: Any) -> list[str]:
        tail: list[str] = []
        assert child.stdout is not None
        for line in child.stdout:
            log.write(line)
            log.flush()
            tail = [*tail[-40:], line.rstrip()]
            if match := _STEP.match(line):
                job.step, job.steps = (int(n.replace(",", "")) for n in match.groups())
                self._say(job, "running")
            elif line.startswith("$ sr-lightning test"):
                self._say(job, "testing")
        child.wait()
        if child.stdin is not None:
            child.stdin.close()
        return tail


def _end(child: subprocess.Popen[str], over: threading.Event) -> None:
    over.set()
    child.send_signal(signal.SIGINT)


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
