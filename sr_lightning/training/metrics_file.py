"""One ``metrics.csv`` per run, a row for every logged step, whatever interrupts the run."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from sr_lightning.errors import UserError
from sr_lightning.files import read_text, write_whole

__all__ = ["MetricsFile"]


class MetricsFile(Logger):
    """Keeps what a training logs in a CSV file, over all of its sittings.

    Lightning's CSVLogger begins a new file with every sitting, writes several rows of one step, and
    can be killed in the middle of one. Here the file is replaced as a whole; a resumed run takes
    back what was logged after the checkpoint that it goes on from.

    Args:
        path: Path of the file.
        every: Logged steps between two writings; each checkpoint writes too.
    """

    def __init__(self, path: Path, every: int = 50) -> None:
        super().__init__()
        self.path = path
        self.every = every
        self._rows: dict[int, dict[str, Any]] = {}
        self._unsaved = 0
        if path.exists():
            self._rows = rows_of(path)

    @property
    def name(self) -> str:
        """Of the logger."""
        return "metrics"

    @property
    def version(self) -> int:
        """There is one."""
        return 0

    @property
    def save_dir(self) -> str:
        """Folder of the file."""
        return str(self.path.parent)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **more: Any) -> None:
        """Leave them to the run's config."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add numbers to the row of a step."""
        self._rows.setdefault(step or 0, {}).update(
            {key: float(value) for key, value in metrics.items() if key != "epoch"}
        )
        self._unsaved += 1
        if self._unsaved >= self.every:
            self.save()

    @rank_zero_only
    def forget_after(self, step: int) -> None:
        """Take back the rows of later steps, which will be trained again."""
        self._rows = {at: row for at, row in self._rows.items() if at < step}

    @rank_zero_only
    def save(self) -> None:
        """Replace the file."""
        self._unsaved = 0
        if not self._rows:
            return
        columns = ["step", *sorted({key for row in self._rows.values() for key in row})]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows({"step": step, **row} for step, row in sorted(self._rows.items()))
        write_whole(self.path, text.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.save()


def rows_of(path: Path) -> dict[int, dict[str, Any]]:
    """The rows of an earlier sitting by step.

    Raises:
        UserError: the file is damaged.
    """
    rows: dict[int, dict[str, Any]] = {}
    try:
        for row in csv.DictReader(io.StringIO(read_text(path), newline="")):
            step = int(row.pop("step"))
            rows[step] = {key: float(value) for key, value in row.items() if value}
    except (csv.Error, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error!s:.80}); move it away to go on.") from error
    return rows
