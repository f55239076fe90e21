"""Weights & Biases without surprises: offline by default, never a prompt, nothing private.

Options live in their own config section, ``wandb:``, and not under ``trainer.logger``: a
``settings:`` block there silently turns a run online.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

from sr_lightning.code_identity import class_paths, code_identity
from sr_lightning.errors import UserError
from sr_lightning.metrics.quality import METRICS
from sr_lightning.nn.complexity import complexity
from sr_lightning.runs import RunFolder
from sr_lightning.training.metrics_file import MetricsFile, rows_of
from sr_lightning.training.module import SRModule
from sr_lightning.training.provenance import commit, data_facts, hardware

__all__ = [
    "CheckpointFacts",
    "WandbOptions",
    "describe_run",
    "make_logger",
    "mode_of",
    "require_key",
]

_PROJECT = "sr-lightning"
# From what tells least to what tells most.
_Mode = Literal["offline", "online", "disabled"]
_MODES: tuple[_Mode, ...] = ("disabled", "offline", "online")
_ID_FILE = "wandb-id"
_COUNTED = "multiply-adds for an output of 1280 x 720, true count"


@dataclass
class WandbOptions:
    """What goes to Weights & Biases.

    Args:
        mode: "offline" records into the run folder (upload later with ``wandb sync``), "online"
            needs an API key, "disabled" records nothing.
        project: W&B project.
        entity: W&B team or user.
        group: Ablation family, such as ``hfdn-ablation-x4``.
        job_type: Kind of the run; default "fit", also of its test, which is part of the same run.
        id: Of the W&B run; default: drawn once and kept in the run's folder, so that a training,
            what it goes on with and its test are one run with one curve and one summary.
        tags: Tags for filtering.
        notes: Free text.
        ablation_factor: What an ablation is about, such as ``attention``.
        ablation_level: Which of its levels this run is.
        log_images: Also log image strips of validation images (small crops), and the test's strips
            in its table. Off by default: pictures may be private or licensed.
        log_weights: Also keep the best checkpoint as an artifact of the run, once training ends.
        private: Leave out host name, hardware, package list, console output, commit and data
            checksums; of every path in the config only the last part is recorded. What remains: the
            model's, the data's and the trainer's options, all that is logged, times, versions of
            Python and wandb, and the texts given here. The logs beside the run file, which
            `wandb sync` does not upload, name folders.
    """

    mode: _Mode = "offline"
    project: str = _PROJECT
    entity: str | None = None
    group: str | None = None
    job_type: str | None = None
    id: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    ablation_factor: str | None = None
    ablation_level: str | None = None
    log_images: bool = False
    log_weights: bool = False
    private: bool = False


def mode_of(options: WandbOptions) -> _Mode:
    """What is recorded: the option's mode or that of ``WANDB_MODE``, whichever tells less."""
    named = os.environ.get("WANDB_MODE", "").replace("dryrun", "offline")
    given = [mode for mode in _MODES if mode in (named, options.mode)]
    return given[0]


def require_key() -> None:
    """Check for an API key before anything is started.

    Raises:
        UserError: there is none; wandb would ask for one, or crash.
    """
    import wandb

    if not (os.environ.get("WANDB_API_KEY") or wandb.api.api_key):
        raise UserError(
            "wandb.mode is online but there is no W&B API key; run 'wandb login' or set "
            "WANDB_API_KEY, or leave the mode offline and sync later."
        )


def describe_run(trainer: pl.Trainer, config: dict[str, Any], module: SRModule) -> None:
    """Log what runs are grouped, filtered and compared by.

    Args:
        trainer: Whose loggers are told; constants go into the summary where it is W&B's.
        config: Full config of the run.
        module: Whose network is trained or measured.
    """
    shown = {key: config[key] for key in ("seed_everything", "model", "data", "trainer")}
    shown["seed"] = config["seed_everything"]
    options = config["wandb"]
    cost = complexity(module.network, scale=module.network.scales[-1])
    if options["private"]:
        shown = _without_places(shown)
    else:
        shown["provenance"] = {
            "commit": commit(),
            "code": code_identity(class_paths(config["model"]) + class_paths(config["data"])),
            "hardware": hardware(),
            "versions": {name: version(name) for name in ("torch", "lightning")},
            "data": data_facts(trainer),
        }
    shown["complexity"] = {"parameters": cost.parameters, "macs": cost.macs, "convention": _COUNTED}
    shown["ablation"] = {
        "factor": options["ablation_factor"],
        "level": options["ablation_level"],
    }
    for logger in trainer.loggers:
        if isinstance(logger, MetricsFile):
            continue
        logger.log_hyperparams(shown)
        if isinstance(logger, WandbLogger):
            constants: dict[str, Any] = {"params": cost.parameters, "macs_720p": cost.macs}
            if not options["private"]:
                constants["commit"] = shown["provenance"]["commit"]
            earlier = _left_by_training(RunFolder(Path(trainer.default_root_dir)), module)
            logger.experiment.summary.update(earlier | constants)
            for key, best in _validated(module).items():
                logger.experiment.define_metric(
                    key, step_metric="trainer/global_step", summary=best
                )
        if isinstance(logger, _RunLogger) and trainer.state.fn != TrainerFn.FITTING:
            logger.measured_step = _logged_step(config["ckpt_path"])


def _validated(module: SRModule) -> dict[str, Literal["max", "min"]]:
    """Keys of validations; the best, not the last one, stands for a run in lists and bars."""
    return {
        f"val/{protocol.name}/{metric.name}": "max" if metric.higher_is_better else "min"
        for protocol in module.protocols
        for metric in map(METRICS.__getitem__, module.metrics)
    }


def _left_by_training(folder: RunFolder, module: SRModule) -> dict[str, Any]:
    """The summary of all that was trained in a folder; empty before anything was.

    Each command records a summary of its own, and the one that is uploaded last takes the place of
    those before. So each has to say what the earlier ones did.
    """
    said: dict[str, Any] = {}
    file = folder.path / "metrics.csv"
    rows = rows_of(file) if file.is_file() else {}
    for _, row in sorted(rows.items()):
        said |= row
    for key, best in _validated(module).items():
        if values := [row[key] for row in rows.values() if key in row]:
            said[key] = {best: max(values) if best == "max" else min(values)}
    if any(folder.checkpoints.glob("*.ckpt")):
        path = folder.best_checkpoint()
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        said["checkpoint"] = {"path": str(path.relative_to(folder.path)), "sha256": digest}
    return said


def _logged_step(checkpoint: str | None) -> int | None:
    """The step at which a checkpoint's own validation was logged."""
    found = re.search(r"step=(\d+)", Path(checkpoint or "").name)
    # The first step is 0 in logs and 1 in names.
    return None if found is None else max(0, int(found.group(1)) - 1)


class _RunLogger(WandbLogger):
    """Shows what is measured of a checkpoint at the checkpoint's step; Lightning takes 0.

    Attributes:
        measured_step: That step; None while training, and for other weights.
    """

    measured_step: int | None = None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers, tables or pictures."""
        super().log_metrics(metrics, step if self.measured_step is None else self.measured_step)


class CheckpointFacts(Callback):
    """Tells W&B at the end of a training what it left, over all of its sittings.

    Args:
        folder: Folder of the run; paths in it are told from there on.
        artifact: Whether the best one itself is kept as an artifact.
    """

    def __init__(self, folder: RunFolder, artifact: bool = False) -> None:
        self.folder = folder
        self.artifact = artifact

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the best validation of all sittings, path and SHA-256 of the best checkpoint."""
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile):
                logger.save()
        assert isinstance(pl_module, SRModule)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                said = _left_by_training(self.folder, pl_module)
                logger.experiment.summary.update(said)
                if self.artifact and "checkpoint" in said:
                    best = self.folder.path / said["checkpoint"]["path"]
                    logger.experiment.log_artifact(
                        str(best), name=f"weights-{logger.experiment.id}", type="model"
                    )


def _without_places(value: Any) -> Any:
    """Plain data with the last part of each path alone: sets by name, folders by their own."""
    if isinstance(value, dict):
        return {_without_places(key): _without_places(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_places(inner) for inner in value]
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1] if isinstance(value, str) else value


def _run_id(folder: Path) -> str:
    """The id of a run's folder; the first command that asks draws it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / _ID_FILE
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(secrets.token_hex(4))
    except FileExistsError:
        pass
    return file.read_text(encoding="utf-8").strip()


def make_logger(options: WandbOptions, folder: Path, *, name: str) -> WandbLogger | None:
    """The logger of a run, or None where W&B is disabled.

    Args:
        options: What goes to W&B.
        folder: Folder of the run, which keeps the id of its W&B run.
        name: Name of the experiment.
    """
    mode = mode_of(options)
    if mode == "disabled":
        return None
    import wandb

    hidden: dict[str, Any] = {"silent": True, "console": "off", "disable_code": True}
    if options.private:
        hidden |= {
            "disable_git": True,
            "x_disable_meta": True,
            "x_disable_stats": True,
            "x_save_requirements": False,
            "x_disable_machine_info": True,
            "host": "anon",
        }
    run_id = options.id or _run_id(folder)
    project = options.project
    if project == _PROJECT:
        project = os.environ.get("WANDB_PROJECT", project)
    # Set here and not by `offline=True`, which would leave WANDB_MODE behind in the environment.
    logger = _RunLogger(
        name=name,
        save_dir=str(folder),
        project=project,
        id=run_id,
        # Offline too: only by what is noted of this does `wandb sync` join folders of one id.
        resume="allow",
        entity=options.entity,
        group=options.group,
        job_type=options.job_type or "fit",
        tags=options.tags,
        notes=options.notes,
        mode=mode,
        settings=wandb.Settings(mode=mode, **hidden),
    )
    # Lightning passes an argument that wandb has abolished and warns of at every run.
    logger._wandb_init.pop("anonymous", None)
    return logger
