"""Weights & Biases without surprises: offline by default, never a prompt, nothing private.

Options live in their own config section, ``wandb:``, and not under ``trainer.logger``: a
``settings:`` block there silently turns a run online.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import Logger, WandbLogger

from sr_lightning.errors import UserError
from sr_lightning.nn.complexity import complexity
from sr_lightning.nn.network import SRNetwork
from sr_lightning.training.provenance import commit

__all__ = ["WandbOptions", "describe_run", "make_logger", "require_key"]


@dataclass
class WandbOptions:
    """What goes to Weights & Biases.

    Args:
        mode: "offline" records into the run folder (sync later with ``wandb sync``), "online"
            needs an API key, "disabled" records nothing.
        project: W&B project.
        entity: W&B team or user.
        group: ablation family, such as ``hfdn-ablation-x4``.
        job_type: ``fit``, ``test``; default: the subcommand.
        tags: for filtering.
        notes: free text.
        ablation_factor: what an ablation is about, such as ``attention``.
        ablation_level: which of its levels this run is.
        log_images: also log image strips of validation images (small crops). Off by default:
            pictures may be private or licensed.
        private: leave out host name, hardware, package list, console output and commit; of every
            path in the config only the last part is recorded. What remains: the model's, the
            data's and the trainer's options, all that is logged, times, versions of Python and
            wandb, and the texts given here. The logs beside the run file, which `wandb sync` does
            not upload, name folders.
    """

    mode: Literal["offline", "online", "disabled"] = "offline"
    project: str = "sr-lightning"
    entity: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    ablation_factor: str | None = None
    ablation_level: str | None = None
    log_images: bool = False
    private: bool = False


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


def describe_run(logger: Logger, config: dict[str, Any], network: SRNetwork) -> None:
    """Log what runs are grouped, filtered and compared by.

    Args:
        logger: of the run; constants go into the summary where it is W&B's.
        config: full config of the run.
        network: that is trained or measured.
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
        cost = complexity(network, scale=network.scales[-1])
        constants: dict[str, Any] = {"params": cost.parameters, "macs_720p": cost.macs}
        if not options["private"]:
            constants["commit"] = commit()
        logger.experiment.summary.update(constants)


def _without_places(value: Any) -> Any:
    """Plain data with the last part of each path alone: sets by name, folders by their own."""
    if isinstance(value, dict):
        return {_without_places(key): _without_places(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_places(inner) for inner in value]
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1] if isinstance(value, str) else value


def make_logger(
    options: WandbOptions, folder: Path, *, name: str, job_type: str
) -> WandbLogger | None:
    """The logger of a run, or None where W&B is disabled."""
    if options.mode == "disabled":
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
    folder.mkdir(parents=True, exist_ok=True)
    # Set here and not by `offline=True`, which would leave WANDB_MODE behind in the environment.
    logger = WandbLogger(
        name=name,
        save_dir=str(folder),
        project=options.project,
        entity=options.entity,
        group=options.group,
        job_type=options.job_type or job_type,
        tags=options.tags,
        notes=options.notes,
        mode=options.mode,
        settings=wandb.Settings(mode=options.mode, **hidden),
    )
    # Lightning passes an argument that wandb has abolished and warns of at every run.
    logger._wandb_init.pop("anonymous", None)
    return logger
