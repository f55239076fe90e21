"""Running a study: its cells as jobs of the queue.

A cell whose number is in the ledger already (same config, code, images and budget) is skipped.
Where code or config has changed since, one cell of a level is run again. If it gives the same
numbers to the last digit, the change did not touch them, and entries of the level's other seeds
that come from where its own came from stand.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sr_lightning.classes import use_current_folder
from sr_lightning.data.catalog import find_set, known_set
from sr_lightning.data.sample import find_photographs
from sr_lightning.data.store import PixelStore
from sr_lightning.errors import UserError
from sr_lightning.files import write_whole
from sr_lightning.studies.ledger import Ledger, RunRecord, entry_of_run
from sr_lightning.studies.queue import GRACE_S, Job, Queue, State
from sr_lightning.studies.study import Cell, Study, load_study

__all__ = ["CellJob", "StudyQueue", "data_digest", "run_cell"]


class _Shared:
    """What the cells of a study share while they run."""

    def __init__(self, study: Study, ledger: Ledger, runs: Path, extra: Sequence[str]) -> None:
        self.study = study
        self.ledger = ledger
        self.runs = runs
        self.extra = list(extra)
        self.lock = threading.Lock()
        # By level: set once one cell has shown whether a change of code touched its numbers.
        self.spoken: dict[str, threading.Event] = {}
        self._data: str | None = None

    def data(self, cell: Cell) -> str:
        """Digest of the images; levels may not change the data, so one cell speaks for all."""
        with self.lock:
            if self._data is None:
                root = dict(pairwise(self.extra)).get("--data-root")
                self._data = data_digest(cell, root)
            return self._data


class CellJob(Job):
    """A cell of a study.

    Args:
        cell: The cell.
        shared: What it shares with the study's others.
    """

    def __init__(self, cell: Cell, shared: _Shared) -> None:
        super().__init__(cell.name, shared.runs / cell.name)
        self.cell = cell
        self.shared = shared
        self._code = self._key = ""
        self._known: RunRecord | None = None
        self._is_first = False

    def commands(self) -> list[list[str]] | None:
        """Its fit and its test, or None if the ledger's number stands."""
        cell, data = self.cell, self.shared.data(self.cell)
        self._code = cell.code()
        self._key = cell.key(self._code, data)
        self._known = known = self.shared.ledger.read(cell.name)
        if known and (known.key == self._key or self._is_confirmed(known, data)):
            return None
        self._prepare()
        test = [*cell.test_arguments(self.folder), *self.shared.extra]
        return [[*self._fit(), *self.shared.extra], test]

    def _is_confirmed(self, known: RunRecord, data: str) -> bool:
        """Keep an entry from before a change if another seed speaks for it."""
        cell, shared = self.cell, self.shared
        with shared.lock:
            self._is_first = cell.level not in shared.spoken
            spoken = shared.spoken.setdefault(cell.level, threading.Event())
        if not self._is_first:
            spoken.wait()
        for entry in shared.ledger.siblings(cell.name):
            today = replace(cell, seed=entry.seed).key(self._code, data)
            # Its numbers are today's and those of what the older entry comes from.
            if entry.key == today and {known.origin, *known.same_as} & set(entry.same_as):
                same = sorted({*known.same_as, known.origin})
                kept = replace(known, key=self._key, code=self._code, same_as=same)
                shared.ledger.write(kept)
                self.reason = f"seed {entry.seed} has the same numbers as before"
                return True
        return False

    def over(self) -> None:
        """Note a failure in the ledger, and let the level's other cells go on."""
        if self.state == "failed":
            self.shared.ledger.fail(self.failure)
        if self._is_first:
            self.shared.spoken[self.cell.level].set()

    def keep(self) -> str:
        """Write the cell's entry, in place of an older one if there is any."""
        entry = entry_of_run(
            self.folder,
            name=self.cell.name,
            study=self.shared.study.name,
            budget=self.cell.budget,
            level=self.cell.level,
            seed=self.cell.seed,
            key=self._key,
            code=self._code,
        )
        known, became = self._known, ""
        if known is not None and known.same_numbers(entry):
            entry = replace(entry, same_as=sorted({*known.same_as, known.origin}))
            became = "the same numbers as before"
        elif known is not None:
            became = "other numbers than before; the level's older entries are stale"
            if known.hardware != entry.hardware:
                became += " (those were made on another processor, which rounds otherwise)"
        self.shared.ledger.write(entry)
        return became

    def elsewhere(self) -> tuple[Any, ...]:
        """See :func:`run_cell`."""
        cell, shared = self.cell, self.shared
        study = (str(shared.study.file), str(shared.study.root))
        where = (str(shared.runs), str(shared.ledger.folder), shared.extra)
        return (run_cell, *study, cell.budget, cell.level, cell.seed, *where)

    def _fit(self) -> list[str]:
        begun = any((self.folder / "checkpoints").glob("*.ckpt"))
        if begun and (self.folder / "config.yaml").is_file():
            return ["fit", "--run", str(self.folder)]
        return self.cell.fit_arguments(self.folder)

    def _prepare(self) -> None:
        """Keep what a broken-off run of the same cell left; remove what another one did."""
        folder, noted = self.folder, self.folder / "cell.key"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            # The cell of a queue that was killed may still be saving itself.
            with FileLock(folder / ".lock").acquire(timeout=GRACE_S):
                if not noted.is_file() or noted.read_text() != self._key:
                    shutil.rmtree(folder)
        except Timeout:
            raise UserError(f"Another training is running in {folder}; stop it first.") from None
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(noted, self._key)


class StudyQueue(Queue):
    """The cells of a study as a queue.

    Args:
        study: What to run.
        budget: Name of its budget.
        ledger: Where results go.
        runs: Folder of the cells' run folders.
        seeds: How many; default the study's.
        extra: Options added to every fit and test, such as ``--data-root``.
        **options: Of :class:`~sr_lightning.studies.queue.Queue`.
    """

    def __init__(
        self,
        study: Study,
        budget: str,
        ledger: Ledger,
        runs: Path,
        *,
        seeds: int | None = None,
        extra: Sequence[str] = (),
        **options: Any,
    ) -> None:
        self.cells = list(study.cells(budget, seeds))
        self.shared = _Shared(study, ledger, runs, extra)
        super().__init__([CellJob(cell, self.shared) for cell in self.cells], **options)

    def run(self) -> list[Job]:
        """See :meth:`Queue.run`.

        Raises:
            UserError: images are missing, so that no cell can run.
        """
        if self.cells:
            self.shared.data(self.cells[0])
        return super().run()


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


def run_cell(
    study_file: str,
    root: str,
    budget: str,
    level: str,
    seed: int,
    runs: str,
    ledger: str,
    extra: Sequence[str] = (),
) -> tuple[State, str]:
    """Run one cell; what a job of a cluster calls.

    Returns:
        The cell's final state, and what there is to say of it.
    """
    use_current_folder()
    study = load_study(Path(study_file), Path(root))
    shared = _Shared(study, Ledger(Path(ledger)), Path(runs), extra)
    (job,) = Queue([CellJob(Cell(study, level, seed, budget), shared)]).run()
    return job.state, job.reason
