"""The weights that come with the package: one safetensors file and one JSON record each."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from sr_lightning.errors import UserError
from sr_lightning.files import read_record, user_path, write_json
from sr_lightning.nn.network import SRNetwork
from sr_lightning.runs import RunFolder
from sr_lightning.weights.files import load_network

__all__ = [
    "PROTOCOL",
    "SETS",
    "Stage",
    "WeightRecord",
    "best_for_scale",
    "find_weights",
    "load_weights",
    "records",
    "weight_file",
]

ZOO = Path(__file__).parent / "zoo"
# Every record is measured under it and on these, as papers since 2017 nearly are.
PROTOCOL = "edsr2017"
SETS = ("Set5", "Set14", "B100")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A training and what it reached.

    Attributes:
        name: of the weights that it made.
        sha256: of their safetensors file.
        recipe: command that trained it.
        steps: optimiser steps.
        batch: patches per step.
        patch: side of LR patches.
        hours: wall time of the training.
        hardware: that it was trained on.
        commit: of the code.
        measured: ``{protocol: {"Set5_x4": {"psnr", "ssim", "bicubic_psnr", "bicubic_ssim",
            "images"}}}``; "ensemble_psnr" and "ensemble_ssim" where `weights eval` added them.
        notes: anything else.
    """

    name: str
    sha256: str
    recipe: str
    steps: int
    batch: int
    patch: int
    hours: float
    hardware: str
    commit: str
    measured: dict[str, dict[str, dict[str, int | float]]] = field(default_factory=dict)
    notes: str = ""


@dataclass(frozen=True, kw_only=True)
class WeightRecord(Stage):
    """What is known of a weight file: its last training, and what that started from.

    Attributes:
        network: class name.
        scales: that it upscales by.
        parameters: trainable parameters.
        training_data: sets that it was trained on, with the number of images.
        data_licence: rights in the training images as far as stated.
        published: the paper's numbers for the same cells, for comparison.
        preview: weaker than VDSR's published Set5 result; good for trying out, not for tables.
        origin: "trained by this suite", or where converted weights come from.
        licence: of the weights.
        arbitrary_scale: whether it upscales by every real scale from 1 on.
        stages: trainings that this one started from (``model.init_from``), first one first.
    """

    network: str
    scales: tuple[int | float, ...]
    parameters: int
    training_data: str
    data_licence: str
    published: dict[str, dict[str, int | float]] = field(default_factory=dict)
    preview: bool = True
    origin: str = "trained by this suite"
    licence: str = "MIT"
    arbitrary_scale: bool = False
    stages: tuple[Stage, ...] = ()

    @property
    def file(self) -> Path:
        """The safetensors file."""
        return ZOO / f"{self.name}.safetensors"

    @property
    def history(self) -> tuple[Stage, ...]:
        """Every training behind the weights, first one first, their own the last."""
        own = {f.name: getattr(self, f.name) for f in fields(Stage)}
        return (*self.stages, Stage(**own))

    def write(self) -> Path:
        """Write the record beside its weights."""
        path = ZOO / f"{self.name}.json"
        write_json(path, asdict(self))
        return path

    @classmethod
    def read(cls, path: Path) -> WeightRecord:
        """Read a record.

        Raises:
            UserError: it is damaged or has other fields.
        """
        return read_record(path, cls, "weight record")


def records() -> list[WeightRecord]:
    """All records that come with the package, by name."""
    return [WeightRecord.read(path) for path in sorted(ZOO.glob("*.json"))]


def find_weights(name: str) -> WeightRecord | None:
    """The record of a name, or None."""
    return next((record for record in records() if record.name == name), None)


def best_for_scale(scale: float) -> WeightRecord:
    """The record with the best measured Set5 PSNR at a scale (protocol edsr2017).

    Raises:
        UserError: no weights come with the package for that scale.
    """

    def quality(record: WeightRecord) -> float:
        cells = record.measured.get(PROTOCOL, {})
        return max(
            (c["psnr"] for n, c in cells.items() if n == f"Set5_x{scale:g}"), default=float("-inf")
        )

    found = [
        r for r in records() if scale in r.scales or (r.arbitrary_scale and 1 <= scale < math.inf)
    ]
    if not found:
        scales = sorted({scale for record in records() for scale in record.scales})
        have = ", ".join(f"x{scale:g}" for scale in scales) or "none yet"
        raise UserError(
            f"No weights for x{scale:g} come with this version (there are: {have}); "
            "name weights of your own."
        )
    return max(found, key=quality)


def weight_file(name_or_path: str) -> Path:
    """The file of a zoo name, checked against its record, or of a path.

    Args:
        name_or_path: name of the zoo, weight file, checkpoint, folder of a run (its best
            checkpoint is taken) or of an experiment (of its newest run).

    Raises:
        UserError: there is none of these, or a zoo file is not the one that its record describes.
    """
    record = find_weights(name_or_path)
    if record is None:
        path = user_path(name_or_path)
        if path.is_dir():
            return RunFolder.existing(path).best_checkpoint()
        if not path.exists():
            known = ", ".join(r.name for r in records()) or "none"
            raise UserError(
                f"'{name_or_path}' is neither a weight file, nor the folder of a run, nor a name "
                f"of the zoo ({known})."
            )
        return path
    if not record.file.is_file():
        raise UserError(f"{record.file} is missing; install the package again.")
    if hashlib.sha256(record.file.read_bytes()).hexdigest() != record.sha256:
        raise UserError(f"{record.file} is damaged (checksum differs); install the package again.")
    return record.file


def load_weights(name_or_path: str) -> SRNetwork:
    """A network with its weights, in evaluation mode.

    Args:
        name_or_path: as :func:`weight_file` takes it.

    Raises:
        UserError: as :func:`weight_file` and
            :func:`~sr_lightning.weights.files.load_network` raise it.
    """
    return load_network(weight_file(name_or_path))
