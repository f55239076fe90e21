"""Weights & Biases without surprises: offline by default, never a prompt, nothing private.

Options live in their own config section, ``wandb:``, and not under ``trainer.logger``: a
``settings:`` block there silently turns a run online.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import Logger, WandbLogger

from sr_lightning.errors import UserError
from sr_lightning.metrics.quality import METRICS
from sr_lightning.nn.complexity import complexity
from sr_lightning.training.module import SRModule
from sr_lightning.training.provenance import commit

__all__ = ["WandbOptions", "describe_run", "make_logger", "mode_of", "require_key"]

_PROJECT = "sr-lightning"
# From what tells least to what tells most.
_Mode = Literal["offline", "online", "disabled"]
_MODES: tuple[_Mode, ...] = ("disabled", "offline", "online")
_ID_FILE = "wandb-id"


@dataclass
class WandbOptions:
    """What goes to Weights & Biases.

    Args:
        mode: "offline" records into the run folder (sync later with ``wandb sync``), "online"
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
        log_images: Also log image strips of validation images (small crops). Off by default:
            pictures may be private or licensed.
        private: Leave out host name, hardware, package list, console output and commit; of every
            path in the config only the last part is recorded. What remains: the model's, the
            data's and the trainer's options, all that is logged, times, versions of Python and
            wandb, and the texts given here. The logs beside the run file, which `wandb sync` does
            not upload, name folders.
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


def describe_run(logger: Logger, config: dict[str, Any], module: SRModule) -> None:
    """Log what runs are grouped, filtered and compared by.

    Args:
        logger: Logger of the run; constants go into the summary where it is W&B's.
        config: Full config of the run.
        module: Whose network is trained or measured.
    """
    shown = {key: config[key] for key in ("seed_everything", "model", "data", "trainer")}
    shown["seed"] = config["seed_everything"]
    options = config["wandb"]
    if options["private"]:
        shown = _without_places(shown)
    shown["ablation"] = {
        "factor": options["ablation_factor"],
        "level": options["ablation_level"],
    }
    logger.log_hyperparams(shown)
    if isinstance(logger, WandbLogger):
        cost = complexity(module.network, scale=module.network.scales[-1])
        constants: dict[str, Any] = {"params": cost.parameters, "macs_720p": cost.macs}
        if not options["private"]:
            constants["commit"] = commit()
        logger.experiment.summary.update(constants)
        # The best validation, not the last one, stands for a run in lists and bars.
        for protocol in module.protocols:
            for metric in map(METRICS.__getitem__, module.metrics):
                logger.experiment.define_metric(
                    f"val/{protocol.name}/{metric.name}",
                    step_metric="trainer/global_step",
                    summary="max" if metric.higher_is_better else "min",
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
    logger = WandbLogger(
        name=name,
        save_dir=str(folder),
        project=project,
        id=run_id,
        # Offline there is nothing to look up: folders of one id are joined when they are synced.
        resume="allow" if mode == "online" else None,
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
