"""The ledger: one JSON file per finished run. Tables are made from it and from nothing else."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import TypedDict

from sr_lightning.code_identity import class_paths, code_identity
from sr_lightning.errors import UserError
from sr_lightning.files import read_record, read_yaml, write_json
from sr_lightning.metrics.quality import METRICS
from sr_lightning.runs import RunFolder

__all__ = [
    "ASIDE",
    "Failure",
    "Ledger",
    "RunRecord",
    "code_of",
    "entry_of_run",
    "measured_metrics",
]

_log = logging.getLogger(__name__)
# What trains and measures whatever a config names, and chooses the weights that are measured.
_DECISIVE = (
    "sr_lightning.training.module.SRModule",
    "sr_lightning.training.checkpoints.BestCheckpoint",
)
ASIDE = (
    # Where images and weights lie; which they are is told by their checksums.
    "catalog",
    "find_photographs",
    "find_set",
    "open_store",
    "weight_file",
    # What they are suspected of, and what is written down for others.
    "check_set",
    "describe_network",
    "find_leaks",
    # A trained network for others: it neither trains nor measures here.
    "load_network",
    "perceptual_hash",
    # Weights that a training starts from are told by their checksum, whoever wrote them.
    "read_caffe",
    "read_matlab_5",
    "read_matlab_73",
    "recognised",
    "references",
)
"""Definitions of the suite that decide no number, though what trains and tests uses them."""
# Every entry has them, as null where they were not measured.
_USUAL = ("psnr", "ssim")
# What the same images may differ by when a metric is summed up in another order: means, and images,
# of which entries hold four decimals.
_SLACK = 1e-5
_SLACK_OF_IMAGES = 1.5e-4


if TYPE_CHECKING:
    _Cell = dict[str, Any]
else:

    class _Cell(TypedDict, total=False):
        """Means of a method on a set by metric, and all metrics of each image."""

        psnr: float | None
        ssim: float | None
        images: dict[str, list[float | None]]

    # Other metrics may stand beside.
    _Cell.__pydantic_config__ = {"extra": "allow"}


@dataclass(frozen=True)
class RunRecord:
    """One finished run and everything that its numbers must be able to say of themselves.

    Attributes:
        name: ``study/budget/level/seedN``.
        study: Name of the study.
        budget: Name of the budget.
        level: Name of the level.
        seed: Seed of weights and data.
        key: Identity of the number: config, code and data.
        metrics: Metrics by protocol, then set and scale (``Set5_x4``), then method:
            ``{"psnr", "ssim", "images": {name: [psnr, ssim]}}``; further metrics follow in the
            order of :data:`~sr_lightning.metrics.quality.METRICS`.
        parameters: Parameters of the network.
        macs_720p: Multiply-accumulates for a 1280 x 720 output.
        steps: Optimiser steps.
        seconds: Wall time of the training.
        hardware: Machine in words.
        commit: Commit of the code.
        code: Identity of the code that decides its numbers; see :func:`code_of`.
        data: Sets, numbers of images and checksums.
        config: Full config of the run.
        curve: ``{"step": [...], "psnr": [...]}`` of the validation.
        run: Folder of the run if it lies below the working directory; no paths of a machine.
        same_as: Origins that gave this cell the same numbers before; see :attr:`origin`.
    """

    name: str
    study: str
    budget: str
    level: str
    seed: int
    key: str
    metrics: dict[str, dict[str, dict[str, _Cell]]]
    parameters: int
    macs_720p: int
    steps: int
    seconds: float
    hardware: str
    commit: str
    code: str
    data: dict[str, Any]
    config: dict[str, Any]
    curve: dict[str, list[float]] = field(default_factory=dict)
    run: str = ""
    same_as: list[str] = field(default_factory=list)

    @property
    def origin(self) -> str:
        """Digest of what the numbers come from but for the seed: code, config and data."""
        config = {k: v for k, v in self.config.items() if k not in {"seed_everything", "wandb"}}
        text = json.dumps([self.code, config, self.data], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def same_numbers(self, other: RunRecord) -> bool:
        """Whether another entry has been measured on the same and has the same numbers.

        Args:
            other: Record of the same cell.
        """
        return self.data == other.data and _agree(self.metrics, other.metrics)

    def value(self, metric: str, protocol: str, group: str) -> float | None:
        """The network's mean on a set such as ``Set5_x4``, or None where it was not measured."""
        cells = self.metrics.get(protocol, {}).get(group, {})
        for method, cell in cells.items():
            if method != "bicubic":
                value = cell.get(metric)
                return float(value) if isinstance(value, int | float) else None
        return None


@dataclass(frozen=True)
class Failure:
    """Why a cell has no number."""

    name: str
    reason: str
    log: str


_Kind = TypeVar("_Kind", RunRecord, Failure)


class Ledger:
    """Reads and writes the entries under a folder.

    Args:
        folder: Usually ``experiments/results``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._damaged: set[Path] = set()

    def path(self, name: str) -> Path:
        """File of an entry."""
        return self.folder / f"{name}.json"

    def write(self, entry: RunRecord) -> Path:
        """Write an entry in one step; an earlier failure of the cell is forgotten."""
        path = self.path(entry.name)
        write_json(path, asdict(entry))
        self._failure_path(entry.name).unlink(missing_ok=True)
        return path

    def read(self, name: str) -> RunRecord | None:
        """The entry of a name, or None."""
        return self._read(self.path(name), RunRecord)

    def siblings(self, name: str) -> list[RunRecord]:
        """The entries of all seeds of a cell's level.

        Args:
            name: Name of the cell.
        """
        files = sorted(self.path(name).parent.glob("seed*.json"))
        found = [self._read(path, RunRecord) for path in files if not _is_failure(path)]
        return [entry for entry in found if entry is not None]

    def entries(self, study: str | None = None, budget: str | None = None) -> list[RunRecord]:
        """All entries, or those of a study or budget, by name."""
        found = [
            self._read(path, RunRecord)
            for path in sorted(self.folder.rglob("*.json"))
            # Times of networks are no runs.
            if not _is_failure(path) and path.parent != self.folder / "speed"
        ]
        return [
            entry
            for entry in found
            if entry is not None and study in {None, entry.study} and budget in {None, entry.budget}
        ]

    def fail(self, failure: Failure) -> None:
        """Note why a cell has no number."""
        write_json(self._failure_path(failure.name), asdict(failure))

    def failure(self, name: str) -> Failure | None:
        """The latest failure of a cell that has not succeeded since."""
        return self._read(self._failure_path(name), Failure)

    def _failure_path(self, name: str) -> Path:
        return self.folder / f"{name}.failed.json"

    def _read(self, path: Path, kind: type[_Kind]) -> _Kind | None:
        """What a file holds; one that is damaged is named once and left out."""
        if not os.path.lexists(path):
            return None
        try:
            return read_record(path, kind, "ledger entry")
        except UserError as error:
            if path not in self._damaged:
                _log.warning("%s It is left out; remove it.", error)
            self._damaged.add(path)
            return None


def _is_failure(path: Path) -> bool:
    return path.name.endswith(".failed.json")


def _agree(one: Any, other: Any, slack: float = _SLACK) -> bool:
    """Whether two trees of numbers are the same but for the order that sums are made in."""
    if isinstance(one, dict) and isinstance(other, dict):
        slacks = {key: _SLACK_OF_IMAGES if key == "images" else slack for key in one}
        return one.keys() == other.keys() and all(
            _agree(value, other[key], slacks[key]) for key, value in one.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(_agree(a, b, slack) for a, b in pairs)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other or abs(one - other) < slack
    return bool(one == other)


def code_of(config: Any) -> str:
    """Identity of the code that decides the numbers of a config.

    Args:
        config: Mappings and lists as read from YAML; classes by their full names.

    Raises:
        UserError: it names a class that the suite does not have, or a source file cannot be read.
    """
    return code_identity([*_DECISIVE, *class_paths(config)], ASIDE)


def entry_of_run(
    run: Path, *, name: str, study: str, budget: str, level: str, seed: int, key: str, code: str
) -> RunRecord:
    """Make the entry of a run that was trained and tested.

    Args:
        run: Its folder.
        name: Name of the entry.
        study: Name of the study.
        budget: Name of the budget.
        level: Name of the level.
        seed: Seed of the run.
        key: Key of the cell.
        code: Identity of the code.

    Raises:
        UserError: a file of the run is missing.
    """
    from sr_lightning.nn.complexity import complexity
    from sr_lightning.weights.files import load_network

    for needed in ("provenance.json", "results/summary.json", "results/images.csv", "config.yaml"):
        if not (run / needed).is_file():
            raise UserError(f"{run / needed} is missing; the run is not finished.")
    facts = RunFolder(run).provenance()
    checkpoint = sorted((run / "checkpoints").glob("best_*.ckpt"))[-1]
    network = load_network(checkpoint)
    cost = complexity(network, scale=network.scales[-1])
    sittings = facts["sittings"]
    return RunRecord(
        name=name,
        study=study,
        budget=budget,
        level=level,
        seed=seed,
        key=key,
        metrics=_metrics(run),
        parameters=cost.parameters,
        macs_720p=cost.macs,
        steps=max(sitting["to_step"] for sitting in sittings),
        seconds=round(sum(sitting["seconds"] for sitting in sittings), 1),
        hardware="; ".join(dict.fromkeys(sitting["hardware"] for sitting in sittings)),
        commit=sittings[-1]["commit"],
        code=code,
        data={**facts["data"], "test": RunFolder(run).summary().get("data", {})},
        config=_portable(read_yaml(run / "config.yaml")),
        curve=_curve(run),
        run=_below_here(run),
    )


def measured_metrics(cell: Mapping[str, Any]) -> list[str]:
    """Names of the metrics of an entry's cell, in the order of the numbers of its images."""
    return [name for name in METRICS if name in cell]


def _metrics(run: Path) -> dict[str, dict[str, dict[str, _Cell]]]:
    summary = RunFolder(run).summary()
    metrics: dict[str, dict[str, dict[str, _Cell]]] = {}
    for row in summary["means"]:
        group = f"{row['set']}_x{row['scale']:g}"
        cell: _Cell = {name: row.get(name) for name in _USUAL} | {
            name: row[name] for name in METRICS if name in row
        }
        cell["images"] = {}
        metrics.setdefault(row["protocol"], {}).setdefault(group, {})[row["method"]] = cell
    with (run / "results" / "images.csv").open() as rows:
        for row in csv.DictReader(rows):
            group = f"{row['set']}_x{float(row['scale']):g}"
            images = metrics[row["protocol"]][group][row["method"]]["images"]
            images[row["image"]] = [
                round(float(row[name]), METRICS[name].stored_digits)
                for name in measured_metrics(metrics[row["protocol"]][group][row["method"]])
            ]
    return metrics


def _curve(run: Path) -> dict[str, list[float]]:
    curve: dict[str, list[float]] = {"step": [], "psnr": []}
    for path in run.glob("metrics.csv"):
        with path.open() as rows:
            for row in csv.DictReader(rows):
                column = next(
                    (k for k in row if k.startswith("val/") and k.endswith("/psnr")), None
                )
                if column and row[column]:
                    curve["step"].append(float(row["step"]) + 1)
                    curve["psnr"].append(round(float(row[column]), 4))
    return curve


def _below_here(folder: Path) -> str:
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else ""


def _portable(config: dict[str, Any]) -> dict[str, Any]:
    """The config without places of this machine."""
    for place in ("output", "ckpt_path"):
        config.pop(place, None)
    data = config.get("data", {}).get("init_args", {})
    for key in ("root", "cache"):
        data.pop(key, None)
    config.get("trainer", {}).pop("default_root_dir", None)
    return config
