"""The weights that come with the package: one safetensors file and one JSON record each."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

from sr_lightning.errors import UserError
from sr_lightning.files import json_text, read_record, user_path, write_all
from sr_lightning.nn.network import SRNetwork
from sr_lightning.runs import RunFolder
from sr_lightning.weights.files import load_network

__all__ = [
    "PROTOCOL",
    "SETS",
    "Quality",
    "Stage",
    "WeightRecord",
    "choose_weights",
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
        name: Name of the weights that it made.
        sha256: SHA-256 of their safetensors file.
        recipe: Command that trained it.
        steps: Optimiser steps.
        batch: Patches per step.
        patch: Side of LR patches.
        hours: Wall time of the training.
        hardware: Hardware that it was trained on.
        commit: Commit of the code.
        measured: ``{protocol: {"Set5_x4": {"psnr", "ssim", "bicubic_psnr", "bicubic_ssim",
            "images"}}}``; "ensemble_psnr" and "ensemble_ssim" where `weights eval` added them.
        notes: Anything else.
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


_OF_A_CELL = ("psnr", "ssim", "images")


@dataclass(frozen=True, kw_only=True)
class WeightRecord(Stage):
    """What is known of a weight file: its last training, and what that started from.

    Attributes:
        network: Class name.
        scales: Scales that it upscales by.
        parameters: Trainable parameters.
        training_data: Sets that it was trained on, with the number of images.
        data_licence: Rights in the training images as far as stated.
        published: The paper's numbers for the same cells, for comparison.
        preview: Weaker than VDSR's published Set5 result; good for trying out, not for tables.
        origin: "trained by this suite", or where converted weights come from.
        licence: Licence of the weights.
        arbitrary_scale: Whether it upscales by every real scale from 1 on.
        stages: Trainings that this one started from (``model.init_from``), first one first.
        seconds: ``{"x4": seconds}`` of one CPU core for a megapixel of LR images; for comparisons.
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
    seconds: dict[str, float] = field(default_factory=dict)

    def images(self, scale: int) -> int:
        """Number of images of `SETS` that it was measured on at a scale."""
        return sum(int(cell["images"]) for cell in self._cells(scale))

    def mean_psnr(self, scale: int) -> float | None:
        """Mean PSNR in dB over all images of `SETS`; None where one of the sets is missing."""
        cells = self._cells(scale)
        if len(cells) < len(SETS):
            return None
        return sum(cell["psnr"] * cell["images"] for cell in cells) / self.images(scale)

    def _cells(self, scale: int) -> list[dict[str, float]]:
        cells = self.measured.get(PROTOCOL, {})
        return [cells[key] for name in SETS if (key := f"{name}_x{scale}") in cells]

    @property
    def file(self) -> Path:
        """The safetensors file."""
        return ZOO / f"{self.name}.safetensors"

    @property
    def history(self) -> tuple[Stage, ...]:
        """Every training behind the weights, first one first, their own the last."""
        own = {f.name: getattr(self, f.name) for f in fields(Stage)}
        return (*self.stages, Stage(**own))

    def write(self, weights: bytes | None = None) -> Path:
        """Write the record beside its weights.

        Args:
            weights: The content of the weight file, where that is new, too.

        Raises:
            UserError: one of them cannot be written; both are as before then.
        """
        path = ZOO / f"{self.name}.json"
        write_all(
            {**({} if weights is None else {self.file: weights}), path: json_text(asdict(self))}
        )
        return path

    @classmethod
    def read(cls, path: Path) -> WeightRecord:
        """Read a record.

        Raises:
            UserError: it is damaged or has other fields.
        """
        record = read_record(path, cls, "weight record")
        for stage in (record, *record.stages):
            for protocol, cells in stage.measured.items():
                for group, cell in cells.items():
                    lacking = [key for key in _OF_A_CELL if not cell.get(key, 0) > 0]
                    if lacking:
                        raise UserError(
                            f"The weight record {path} is damaged: measured.{protocol}.{group} "
                            f"has no sound '{lacking[0]}'; install the package again."
                        )
        return record


def records() -> list[WeightRecord]:
    """All records that come with the package, by name."""
    return [WeightRecord.read(path) for path in sorted(ZOO.glob("*.json"))]


def find_weights(name: str) -> WeightRecord | None:
    """The record of a name, or None."""
    return next((record for record in records() if record.name == name), None)


Quality = Literal["usual", "best", "quick"]
# By so many dB two networks count as equally good.
_EQUAL = 0.05


def choose_weights(scale: float, quality: Quality = "usual") -> tuple[WeightRecord, str]:
    """Weights for a scale by their mean PSNR over all images of `SETS`, and by their cost.

    Args:
        scale: At least 1. A real one is made by a network of the next whole scale, as one beyond 4
            is by one of 4.
        quality: The "best" have the highest PSNR; the "usual" are the fastest within 0.05 dB of
            them; the "quick" are the fastest of all.

    Returns:
        The record, and why it was chosen.

    Raises:
        UserError: no weights come with the package for that scale.
    """
    if scale < 1:
        raise UserError(f"No weights for x{scale:g} come with this version: they upscale.")
    whole = min(max(math.ceil(scale - 1e-6), 2), 4)
    means = {
        record.name: mean
        for record in records()
        if (whole in record.scales or record.arbitrary_scale)
        and (mean := record.mean_psnr(whole)) is not None
    }
    known = {record.name: record for record in records()}
    if not means:
        have = ", ".join(sorted({f"x{scale:g}" for r in known.values() for scale in r.scales}))
        raise UserError(
            f"No weights for x{whole} come with this version (there are: {have or 'none yet'}); "
            "name weights of your own."
        )
    best = max(means.values())

    def cost(name: str) -> float:
        return known[name].seconds.get(f"x{whole}", math.inf)

    if quality == "best":
        name = max(means, key=lambda name: means[name])
    elif quality == "quick":
        name = min(means, key=cost)
    else:
        name = min((n for n in means if means[n] >= best - _EQUAL), key=cost)
    why = f"{means[name]:.2f} dB over {known[name].images(whole)} images at x{whole}"
    if means[name] < best:
        why += f", {best - means[name]:.2f} below the best"
    seconds = cost(name)
    if math.isfinite(seconds):
        why += f"; about {seconds:.2g} s per megapixel on one core"
    return known[name], why


def weight_file(name_or_path: str | Path) -> Path:
    """The file of a name, checked against its record, or of a path.

    Args:
        name_or_path: Name of the zoo, ``NAME@authors`` (see ``weights get``), ``hf:USER/NAME`` of
            the Hugging Face hub, weight file, checkpoint, folder of saved weights, folder of a run
            (its best checkpoint is taken) or of an experiment (of its newest run).

    Raises:
        UserError: there is none of these, or a file is not the one that its record describes.
    """
    name = str(name_or_path)
    record = find_weights(name)
    if record is None:
        if name.endswith("@authors"):
            return _authors_file(name)
        if name.startswith("hf:"):
            from sr_lightning.weights.hub import fetched

            return fetched(name.removeprefix("hf:"))
        path = user_path(name_or_path)
        if (path / "model.safetensors").is_file():
            return path / "model.safetensors"
        if path.is_dir():
            return RunFolder.existing(path).best_checkpoint()
        if not path.exists():
            known = ", ".join(r.name for r in records()) or "none"
            raise UserError(
                f"'{name_or_path}' is neither a weight file, nor the folder of a run, nor a name "
                f"of the zoo ({known}), NAME@authors or hf:USER/NAME; 'sr-lightning weights list' "
                "shows the names."
            )
        return path
    if not record.file.is_file():
        raise UserError(f"{record.file} is missing; install the package again.")
    if hashlib.sha256(record.file.read_bytes()).hexdigest() != record.sha256:
        raise UserError(f"{record.file} is damaged (checksum differs); install the package again.")
    return record.file


def _authors_file(name: str) -> Path:
    from sr_lightning.weights.authors import find_released

    released = find_released(name)
    if released is None or released.record() is None:
        raise UserError(f"{name} is not here yet; fetch it: sr-lightning weights get {name}")
    return released.file


def load_weights(name_or_path: str) -> SRNetwork:
    """A network with its weights, in evaluation mode.

    Args:
        name_or_path: Name or path as :func:`weight_file` takes it.

    Raises:
        UserError: as :func:`weight_file` and
            :func:`~sr_lightning.weights.files.load_network` raise it.
    """
    return load_network(weight_file(name_or_path))
