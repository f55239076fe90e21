"""What a number must be able to say of itself: which code, data, machine and time made it."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from sr_lightning import __version__
from sr_lightning.files import as_type, check_types, read_json, write_json
from sr_lightning.training.warm_start import start_facts

__all__ = ["Provenance", "commit", "data_facts", "hardware", "processor"]


# Instructions by which processors of one name round differently.
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def processor() -> str:
    """Model name of the CPU."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def hardware() -> str:
    """The machine in words: processor and its instructions, threads in use, GPUs."""
    flags = {*_cpuinfo("flags").split()}
    known = " ".join(name for name in _INSTRUCTIONS if name in flags)
    words = f"{processor()}{known and f' ({known})'}"
    words += f", {torch.get_num_threads()} of {os.cpu_count()} threads"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        words += f", {len(names)} x {names[0]}"
    return words


def _cpuinfo(key: str) -> str:
    """What Linux says of the first core; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == key), "")


def commit() -> str:
    """Version and, in a checkout, the commit; "+" where files were changed since."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__} {described}"


def data_facts(trainer: pl.Trainer) -> dict[str, Any]:
    """What the trainer's data module says of its sets; empty if it says nothing."""
    facts: Any = getattr(trainer.datamodule, "provenance", None)  # type: ignore[attr-defined]
    return dict(facts()) if callable(facts) else {}


class Provenance(Callback):
    """Keeps ``provenance.json`` of a training: one entry per sitting, written as it goes on.

    Args:
        path: Path of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._facts: dict[str, Any] = {}
        self._sitting: dict[str, Any] = {}
        self._begun = 0.0

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a sitting."""
        if self.path.is_file():
            self._facts = as_type(read_json(self.path), dict[str, Any], str(self.path))
            check_types(self._facts, {"sittings": list[dict[str, Any]]}, str(self.path))
        self._facts["data"] = data_facts(trainer)
        start: str | None = getattr(pl_module, "init_from", None)
        # Of the first sitting alone: the others start from a checkpoint, and weights may change.
        if start is not None and "sittings" not in self._facts:
            self._facts["start"] = start_facts(start)
        self._begun = time.monotonic()
        self._sitting = {
            "begun": datetime.now(UTC).isoformat(timespec="seconds"),
            "from_step": trainer.global_step,
            "hardware": hardware(),
            "devices": trainer.world_size,
            "precision": str(trainer.precision),
            "commit": commit(),
            "torch": torch.__version__,
            "lightning": version("lightning"),
        }
        self._facts.setdefault("sittings", []).append(self._sitting)

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write how far it got."""
        self._write(trainer)

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the end."""
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        if not self._sitting:
            return
        self._sitting["to_step"] = trainer.global_step
        self._sitting["seconds"] = round(time.monotonic() - self._begun, 1)
        write_json(self.path, self._facts)
