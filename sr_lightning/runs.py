"""Where a run leaves its files, and how a finished run is found again."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Gt, Len

from sr_lightning.errors import UserError
from sr_lightning.files import as_type, read_json, user_path

__all__ = ["OutputOptions", "RunFolder"]

# Handed down to the processes that Lightning starts for further devices.
_INHERITED = "SR_LIGHTNING_RUN_FOLDER"


@dataclass
class OutputOptions:
    """Where runs go: ``<root>/<name>/<date>_<time>``.

    Args:
        root: Folder of all runs.
        name: Name of the experiment.
        folder: Exact folder instead, to go on in an existing run.
        checkpoint_minutes: Minutes between two checkpoints at most, so that a kill costs no more.
    """

    root: str = "runs"
    name: str = "run"
    folder: str | None = None
    checkpoint_minutes: float = 10


@dataclass(frozen=True)
class _Mean:
    """What every row of a test's means has; other metrics may stand beside."""

    set: str
    scale: Annotated[float, Gt(0)]
    method: str
    protocol: str
    images: int
    psnr: float | None = None
    ssim: float | None = None


@dataclass(frozen=True)
class _Summary:
    """What every test leaves; more may stand beside."""

    protocols: dict[str, str]
    means: list[_Mean]


@dataclass(frozen=True)
class _Sitting:
    """What every sitting of a training notes; more may stand beside."""

    to_step: int
    seconds: float
    hardware: str
    commit: str


@dataclass(frozen=True)
class _Provenance:
    """What every training notes; more may stand beside."""

    sittings: Annotated[list[_Sitting], Len(1)]
    data: dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class RunFolder:
    """Places inside one run's folder.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """Full config of the run."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def results(self) -> Path:
        """Folder of result tables."""
        return self.path / "results"

    @property
    def images(self) -> Path:
        """Folder of image strips."""
        return self.path / "images"

    @property
    def predictions(self) -> Path:
        """Folder of upscaled images."""
        return self.path / "predictions"

    @classmethod
    def create(cls, options: OutputOptions) -> RunFolder:
        """Make the folder of a new run; every process of the run gets the same.

        Processes started by Lightning inherit it; processes started by SLURM or torchrun derive
        it from the job's id. Runs that begin in the same second get folders of their own.
        """
        if options.folder is not None:
            return cls(user_path(options.folder))
        if inherited := os.environ.get(_INHERITED):
            return cls(Path(inherited))
        job = os.environ.get("SLURM_JOB_ID") or os.environ.get("TORCHELASTIC_RUN_ID")
        if job and job != "none":
            stamp = f"job-{job}"
        else:
            stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        base = user_path(options.root) / options.name
        path, again = base / stamp, 1
        while not job:
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError:
                again += 1
                path = base / f"{stamp}-{again}"
            except OSError as error:
                raise UserError(
                    f"The run folder {path} cannot be made ({error.strerror}); choose another "
                    "place with --output.root."
                ) from error
        os.environ[_INHERITED] = str(path.resolve())
        return cls(path)

    @staticmethod
    def stop_handing_down() -> None:
        """Let the next run of this process have a folder of its own."""
        os.environ.pop(_INHERITED, None)

    @classmethod
    def existing(cls, path: str | Path) -> RunFolder:
        """A run's folder by its path; of an experiment's folder, the newest run in it.

        Raises:
            UserError: there is no run.
        """
        folder = user_path(path)
        if not (folder / "config.yaml").is_file():
            runs = sorted(folder.glob("*/config.yaml"), key=lambda file: file.stat().st_mtime)
            if not runs:
                raise UserError(
                    f"{folder} holds no run (no config.yaml); name a folder such as "
                    "runs/hfdn_x4/2026-01-31_12-00-00."
                )
            folder = runs[-1].parent
        return cls(folder)

    def summary(self) -> dict[str, Any]:
        """Results of its test, as ``summary.json`` has them.

        Raises:
            UserError: it was not tested, or the file is damaged.
        """
        test = f"run 'sr-lightning test --run {self.path}'"
        return self._facts(
            self.results / "summary.json", _Summary, f"has no results; {test}", f"{test} again"
        )

    def provenance(self) -> dict[str, Any]:
        """What its training noted of itself, as ``provenance.json`` has it.

        Raises:
            UserError: it was not trained to a validation, or the file is damaged.
        """
        return self._facts(
            self.path / "provenance.json", _Provenance, "was not trained", "restore it from a copy"
        )

    def _facts(self, file: Path, kind: Any, missing: str, remedy: str) -> dict[str, Any]:
        if not os.path.lexists(file):
            raise UserError(f"{self.path} {missing}.")
        try:
            content: dict[str, Any] = read_json(file)
            as_type(content, kind, f"The file {file} is damaged", as_it_stands=True)
        except UserError as error:
            raise UserError(f"{str(error).rstrip('.')}; {remedy}.") from error
        return content

    def best_checkpoint(self) -> Path:
        """The checkpoint with the best validation result; of a run without any, the newest.

        Raises:
            UserError: there is no checkpoint.
        """
        found = [
            (value, path)
            for path in self.checkpoints.glob("best_*.ckpt")
            if (value := _value(path)) is not None
        ]
        if found:
            return max(found)[1]
        return next(iter(self.all_checkpoints()))

    def all_checkpoints(self) -> list[Path]:
        """Every checkpoint, the latest step first.

        Raises:
            UserError: there is none.
        """
        found = [*self.checkpoints.glob("*.ckpt"), *self.path.glob("hpc_ckpt_*.ckpt")]
        if not found:
            raise UserError(f"{self.checkpoints} holds no checkpoint; was training ended early?")
        return sorted(found, key=lambda file: (_step(file), file.stat().st_mtime), reverse=True)


def _step(checkpoint: Path) -> int:
    match = re.search(r"step=(\d+)", checkpoint.name)
    return int(match.group(1)) if match else -1


def _value(checkpoint: Path) -> float | None:
    """The validation result in a name, larger where it is better."""
    match = re.search(r"_[a-z]\w*?(-min)?=(-?[\d.]+)\.ckpt$", checkpoint.name)
    return None if match is None else float(match.group(2)) * (-1 if match.group(1) else 1)
