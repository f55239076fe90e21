"""The ledger: one JSON file per finished run. Tables are made from it and from nothing else."""

from __future__ import annotations

import ast
import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from sr_lightning.errors import UserError

__all__ = ["Entry", "Failure", "Ledger", "code_digest", "entry_of_run"]

PACKAGE = Path(__file__).resolve().parent.parent
# Code that decides what a number comes out as; progress bars, downloads and file formats do not.
_DECISIVE = (
    "colour.py",
    "cubic.py",
    "data/datamodule.py",
    "data/degradation.py",
    "data/evaluation.py",
    "data/images.py",
    "data/patches.py",
    "data/resize.py",
    "data/sampling.py",
    "inference/ensemble.py",
    "inference/tiling.py",
    "inference/upscaler.py",
    "metrics/*.py",
    "nn/*.py",
    "training/losses.py",
    "training/module.py",
    "training/precision.py",
    "training/schedules.py",
    "training/warm_start.py",
)


@dataclass(frozen=True)
class Entry:
    """One finished run and everything that its numbers must be able to say of themselves.

    Attributes:
        name: ``study/budget/level/seedN``.
        study: name of the study.
        budget: name of the budget.
        level: name of the level.
        seed: of weights and data.
        key: identity of the number: config, code and data.
        metrics: by protocol, then set and scale (``Set5_x4``), then method:
            ``{"psnr", "ssim", "images": {name: [psnr, ssim]}}``.
        parameters: of the network.
        macs_720p: multiply-accumulates for a 1280 x 720 output.
        steps: optimiser steps.
        seconds: wall time of the training.
        hardware: machine in words.
        commit: of the code.
        code: digest of the code that decides numbers.
        data: sets, numbers of images and checksums.
        config: full config of the run.
        curve: ``{"step": [...], "psnr": [...]}`` of the validation.
        run: folder of the run if it lies below the working directory; no paths of a machine.
        same_as: digests of earlier code that gave this cell the same numbers to the last digit.
    """

    name: str
    study: str
    budget: str
    level: str
    seed: int
    key: str
    metrics: dict[str, dict[str, dict[str, Any]]]
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

    def value(self, metric: str, protocol: str, group: str) -> float | None:
        """The network's mean on a set such as ``Set5_x4``, or None where it was not measured."""
        cells = self.metrics.get(protocol, {}).get(group, {})
        for method, cell in cells.items():
            if method != "bicubic":
                return float(cell[metric])
        return None


@dataclass(frozen=True)
class Failure:
    """Why a cell has no number."""

    name: str
    reason: str
    log: str


class Ledger:
    """Reads and writes the entries under a folder.

    Args:
        folder: usually ``experiments/results``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """File of an entry."""
        return self.folder / f"{name}.json"

    def write(self, entry: Entry) -> Path:
        """Write an entry in one step; an earlier failure of the cell is forgotten."""
        path = self.path(entry.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(entry), indent=1) + "\n")
        part.replace(path)
        self._failure_path(entry.name).unlink(missing_ok=True)
        return path

    def read(self, name: str) -> Entry | None:
        """The entry of a name, or None."""
        path = self.path(name)
        return _read(path) if path.is_file() else None

    def entries(self, study: str | None = None, budget: str | None = None) -> list[Entry]:
        """All entries, or those of a study or budget, by name."""
        found = [
            _read(path)
            for path in sorted(self.folder.rglob("*.json"))
            # Times of networks are no runs.
            if not path.name.endswith(".failed.json") and path.parent != self.folder / "speed"
        ]
        return [
            entry
            for entry in found
            if study in {None, entry.study} and budget in {None, entry.budget}
        ]

    def fail(self, failure: Failure) -> None:
        """Note why a cell has no number."""
        path = self._failure_path(failure.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(failure), indent=1) + "\n")

    def failure(self, name: str) -> Failure | None:
        """The latest failure of a cell that has not succeeded since."""
        path = self._failure_path(name)
        return Failure(**json.loads(path.read_text())) if path.is_file() else None

    def _failure_path(self, name: str) -> Path:
        return self.folder / f"{name}.failed.json"


def _read(path: Path) -> Entry:
    try:
        return Entry(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"The ledger entry {path} is damaged; remove it: {error}.") from error


def entry_of_run(
    run: Path, *, name: str, study: str, budget: str, level: str, seed: int, key: str, code: str
) -> Entry:
    """Make the entry of a run that was trained and tested.

    Args:
        run: its folder.
        name: of the entry.
        study: name of the study.
        budget: name of the budget.
        level: name of the level.
        seed: of the run.
        key: of the cell.
        code: digest of the code.

    Raises:
        UserError: a file of the run is missing.
    """
    from sr_lightning.nn.complexity import complexity
    from sr_lightning.weights.files import load_network

    for needed in ("provenance.json", "results/summary.json", "results/images.csv", "config.yaml"):
        if not (run / needed).is_file():
            raise UserError(f"{run / needed} is missing; the run is not finished.")
    facts = json.loads((run / "provenance.json").read_text())
    checkpoint = sorted((run / "checkpoints").glob("best_*.ckpt"))[-1]
    network = load_network(checkpoint)
    cost = complexity(network, scale=network.scales[-1])
    sittings = facts["sittings"]
    return Entry(
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
        data={**facts["data"], **_tested(run)},
        config=_portable(yaml.safe_load((run / "config.yaml").read_text())),
        curve=_curve(run),
        run=_below_here(run),
    )


def _metrics(run: Path) -> dict[str, dict[str, dict[str, Any]]]:
    summary = json.loads((run / "results" / "summary.json").read_text())
    metrics: dict[str, dict[str, dict[str, Any]]] = {}
    for row in summary["means"]:
        group = f"{row['set']}_x{row['scale']:g}"
        cell = {"psnr": row["psnr"], "ssim": row["ssim"], "images": {}}
        metrics.setdefault(row["protocol"], {}).setdefault(group, {})[row["method"]] = cell
    with (run / "results" / "images.csv").open() as rows:
        for row in csv.DictReader(rows):
            group = f"{row['set']}_x{float(row['scale']):g}"
            images = metrics[row["protocol"]][group][row["method"]]["images"]
            images[row["image"]] = [round(float(row["psnr"]), 4), round(float(row["ssim"]), 5)]
    return metrics


def _tested(run: Path) -> dict[str, Any]:
    summary = json.loads((run / "results" / "summary.json").read_text())
    return {"test": summary.get("data", {})}


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


@lru_cache(maxsize=64)
def code_digest(*modules: str, shared: tuple[str, ...] = _DECISIVE) -> str:
    """Digest of the code that decides numbers: what all networks share, and the named modules.

    Comments, docstrings and layout do not count.

    Args:
        *modules: dotted names of packages or modules inside ``sr_lightning``, such as
            ``sr_lightning.papers.hfdn``.
        shared: patterns of files inside ``sr_lightning``; default what decides PSNR and SSIM.
    """
    digest = hashlib.sha256()
    for path in sorted(set(_files(modules, shared))):
        digest.update(str(path.relative_to(PACKAGE)).encode())
        digest.update(_bare(path).encode())
    return digest.hexdigest()[:16]


def _files(modules: tuple[str, ...], shared: tuple[str, ...]) -> Iterator[Path]:
    for pattern in shared:
        yield from PACKAGE.glob(pattern)
    for module in modules:
        place = PACKAGE.parent.joinpath(*module.split("."))
        if place.is_dir():
            yield from place.rglob("*.py")
        elif place.with_suffix(".py").is_file():
            yield place.with_suffix(".py")


def _bare(path: Path) -> str:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)
