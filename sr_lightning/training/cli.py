"""LightningCLI for the suite: what it adds is run folders, loggers, callbacks and ``--run``."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from filelock import FileLock, Timeout
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.optim.lr_scheduler import ReduceLROnPlateau

from sr_lightning import __version__
from sr_lightning.data import PatchDataModule  # noqa: F401 (short names in YAML)
from sr_lightning.errors import UserError
from sr_lightning.files import read_yaml, regular_file, write_whole
from sr_lightning.init import check_config
from sr_lightning.nn.check import check_network
from sr_lightning.runs import OutputOptions, RunFolder
from sr_lightning.training import callbacks
from sr_lightning.training.checkpoints import (
    BestCheckpoint,
    LastCheckpoint,
    SafeCheckpointIO,
)
from sr_lightning.training.config_errors import PlainParser, refusal
from sr_lightning.training.metrics_file import MetricsFile
from sr_lightning.training.module import SRModule
from sr_lightning.training.named_classes import check_classes, check_nulls, restrict_names
from sr_lightning.training.precision import MeasuredPrecision
from sr_lightning.training.provenance import Provenance
from sr_lightning.training.schedules import Schedule
from sr_lightning.training.wandb_logging import (
    CheckpointFacts,
    WandbOptions,
    describe_run,
    make_logger,
    mode_of,
    require_key,
)
from sr_lightning.weights.formats.pytorch import is_whole

__all__ = ["SRCLI", "run_trainer_command"]

# What hands out the parts of a checkpoint, and what goes on from them in the first step.
_RESTORING = (
    "lightning.pytorch.trainer.connectors.checkpoint_connector",
    "lightning.pytorch.callbacks.lr_monitor",
    "lightning.pytorch.callbacks.weight_averaging",
    "torch.optim.",
)
_SUITE = __name__.partition(".")[0]
# Whole numbers from here on are no more counted one by one, and no scale comes near the other:
# of a photograph of 12 megapixels at x64, the result would have 49 gigapixels.
_LARGEST, _LARGEST_SCALE = 2**53, 64


class SaveRunConfig(SaveConfigCallback):
    """Writes the full config into the run folder and, nested, into the loggers."""

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write it (rank 0 only)."""
        text = self.parser.dump(self.config, skip_unset=False)
        path = RunFolder(Path(trainer.default_root_dir)).config
        path.parent.mkdir(parents=True, exist_ok=True)
        if stage != "fit":
            path = path.with_name(f"config-{TrainerFn(stage).value}.yaml")
        elif path.exists() and path.read_text() != text:
            earlier = len(list(path.parent.glob("config-earlier-*.yaml")))
            # Written anew, not renamed: the run has a config at every moment.
            write_whole(path.with_name(f"config-earlier-{earlier + 1}.yaml"), path.read_bytes())
        write_whole(path, text)
        config = yaml.safe_load(text)
        assert isinstance(pl_module, SRModule)
        describe_run(trainer, config, pl_module)


class SRCLI(LightningCLI):
    """LightningCLI over :class:`SRModule` and any data module."""

    run_folder: RunFolder
    lock: FileLock | None = None

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run folder's and W&B's sections."""
        parser.add_class_arguments(OutputOptions, "output")
        parser.add_class_arguments(WandbOptions, "wandb")

    def _parse_ckpt_path(self) -> None:
        """Read nothing yet: Lightning would let a checkpoint change the config."""

    def _set_seed(self) -> None:
        try:
            super()._set_seed()
        except ValueError as error:
            raise UserError(f"seed_everything: {error}.") from error

    def before_instantiate_classes(self) -> None:
        """Refuse what cannot work before anything is built."""
        config = self.config[self.subcommand]
        kinds = {"trainer": pl.Trainer, "output": OutputOptions, "wandb": WandbOptions}
        for section in ("model", "data", *kinds):
            if not isinstance(config[section], Namespace):
                # Of sections that are no classes to choose, the parser lets it through.
                raise UserError(f"{section}: a section of options belongs here, not one value.")
            check_classes(config[section], section)
            check_nulls(config[section], kinds.get(section), section)
            for key, value in _leaves(config[section].as_dict(), section):
                if isinstance(value, int) and abs(value) > _LARGEST and not key.endswith("seed"):
                    raise UserError(f"{key} is {value}, which is beyond reason.")
        _refuse_wandb_settings(config.trainer.logger)
        if mode_of(WandbOptions(**config.wandb.as_dict())) == "online":
            require_key()
        if self.subcommand == "test":
            # ResultTables prints one with a protocol in its title.
            config.verbose = False
        _prefer_named_precision(config.trainer)
        if config.ckpt_path is not None:
            regular_file(config.ckpt_path, "checkpoint")
        self.run_folder = RunFolder.create(OutputOptions(**config.output.as_dict()))
        if self.subcommand == "fit":
            self.lock = _locked(self.run_folder)
            if config.ckpt_path is None:
                config.ckpt_path = _after_requeue(self.run_folder)
            if config.ckpt_path is None and any(self.run_folder.checkpoints.glob("*.ckpt")):
                raise UserError(
                    f"{self.run_folder.path} holds a run already: go on with it by --run "
                    f"{self.run_folder.path}, or name another --output.folder."
                )
        _check_numbers(config.trainer)
        interval, steps = config.trainer.val_check_interval, config.trainer.max_steps
        # Lightning's interval counts batches.
        batches = steps * (config.trainer.accumulate_grad_batches or 1)
        if isinstance(interval, int) and 0 < batches < interval:
            # A budget shorter than the usual interval is still validated at its end.
            config.trainer.val_check_interval = batches

    def instantiate_classes(self) -> None:
        """Build model, data and trainer; what a constructor refuses is said in its own words."""
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, MisconfigurationException) as error:
            *_, (frame, _) = traceback.walk_tb(error.__traceback__)
            if isinstance(error, TypeError) and frame.f_globals["__name__"].startswith(_SUITE):
                # A mistake of this program, not of the config.
                raise
            # jsonargparse wraps what a constructor raises into a report on type hints.
            wrapped = str(error).startswith("Does not validate")
            said = refusal(error) if wrapped else f"The config cannot be used: {error}"
            raise UserError(said) from error
        scales = getattr(self.model.network, "scales", None)
        # What are none is told with the network's other faults.
        listed = scales if isinstance(scales, tuple | list) else ()
        largest = max((s for s in listed if isinstance(s, int | float)), default=1)
        if largest > _LARGEST_SCALE:
            raise UserError(
                f"{type(self.model.network).__name__} is made for x{largest:g}; scales go to "
                f"x{_LARGEST_SCALE}."
            )

    def before_fit(self) -> None:
        """Refuse what cannot be trained before the run has a folder."""
        check_network(self.model.network)
        _check_schedule(self.model)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer with the suite's loggers and callbacks.

        Loggers that the config names stand beside the suite's own; ``false`` leaves all out.
        """
        kwargs["default_root_dir"] = str(self.run_folder.path)
        named = self._get(self.config_init, "trainer")["logger"]
        if named is not False:
            others = [] if named in (None, True) else named if isinstance(named, list) else [named]
            kwargs["logger"] = [*self._loggers(self.config[self.subcommand]), *others]
        return super().instantiate_trainer(**kwargs)

    def _instantiate_trainer(self, config: Any, callbacks_: list[Callback]) -> pl.Trainer:
        folder = self.run_folder
        assert self.subcommand is not None
        monitor = self.model.monitor
        options, output = self.config[self.subcommand].wandb, self.config[self.subcommand].output
        added: list[Callback] = [callbacks.ImageStrips(folder, to_wandb=options.log_images)]
        if self.subcommand == "fit":
            added += [
                callbacks.NonFiniteGuard(),
                callbacks.Throughput(),
                BestCheckpoint(folder.checkpoints, monitor),
                LastCheckpoint(folder.checkpoints, output.checkpoint_minutes),
                Provenance(folder.path / "provenance.json"),
                CheckpointFacts(folder, artifact=options.log_weights),
            ]
            if config["logger"]:
                added.append(LearningRateMonitor("step"))
        if self.subcommand == "test":
            added.append(callbacks.ResultTables(folder, pictures=options.log_images))
        if self.subcommand == "predict":
            added.append(callbacks.PredictionWriter(folder.predictions))
        if config.get("enable_progress_bar") is not False:
            if sys.stdout.isatty():
                added.append(callbacks.StepProgress(leave=True))
            else:
                config["enable_progress_bar"] = False
                added.append(callbacks.PlainProgress())
        trainer = super()._instantiate_trainer(config, [*callbacks_, *added])
        trainer.strategy.checkpoint_io = SafeCheckpointIO()
        return trainer

    def _loggers(self, config: Namespace) -> list[Logger]:
        assert self.subcommand is not None
        folder, name = self.run_folder.path, config.output.name
        # What a test measures is in its result tables.
        found: list[Logger] = []
        if self.subcommand == "fit":
            found.append(MetricsFile(folder / "metrics.csv"))
        options = WandbOptions(**config.wandb.as_dict())
        logger = make_logger(options, folder, name=name)
        return [*found, logger] if logger is not None else found


def _check_schedule(model: SRModule) -> None:
    """Refuse options of a schedule of torch's that it stumbles over when it is stepped.

    Raises:
        UserError: see above.
    """
    made = model.scheduler
    if made is None:
        return
    try:
        schedule = made(model.optimizer([torch.nn.Parameter(torch.zeros(1))]))
    except (TypeError, ValueError):
        # Said where it is made for training.
        return
    if isinstance(schedule, Schedule | ReduceLROnPlateau):
        return
    try:
        with warnings.catch_warnings():
            # That the optimiser itself makes no step: some need the losses for one.
            warnings.simplefilter("ignore")
            for _ in range(3):
                schedule.step()
    except Exception as error:
        raise UserError(
            f"model.scheduler: {type(schedule).__name__} fails when it is stepped ({error}); "
            "correct its options."
        ) from error


def _check_numbers(trainer: Namespace) -> None:
    """Refuse what Lightning takes and then fails at.

    Raises:
        UserError: a number is too small, or no whole number of steps.
    """
    for name, least in (("accumulate_grad_batches", 1), ("val_check_interval", 1)):
        value = trainer[name]
        if isinstance(value, float) or (isinstance(value, int) and value < least):
            raise UserError(f"trainer.{name} is {value}; give whole steps, {least} or more.")
    clip = trainer.gradient_clip_val
    if clip is not None and clip < 0:
        raise UserError(f"trainer.gradient_clip_val is {clip}; give 0 (no clipping) or more.")


@rank_zero_only
def _locked(folder: RunFolder) -> FileLock:
    """Keep other trainings out of a run's folder as long as this process lives.

    Raises:
        UserError: another one is in it.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Another training is running in {folder.path}; wait for it or stop it first."
        ) from None
    return lock


def _after_requeue(folder: RunFolder) -> str | None:
    """The checkpoint to go on from when SLURM has started this very job again."""
    if int(os.environ.get("SLURM_RESTART_COUNT") or 0) == 0 or not folder.checkpoints.is_dir():
        return None
    try:
        return str(_newest_whole(folder))
    except UserError:
        return None


def _prefer_named_precision(trainer: Namespace) -> None:
    """Leave measuring out where a precision is named, whichever came later; Lightning takes one."""
    if trainer.precision is None or not isinstance(trainer.plugins, list):
        return
    measured = f"{MeasuredPrecision.__module__}.{MeasuredPrecision.__qualname__}"
    kept = [p for p in trainer.plugins if getattr(p, "class_path", None) != measured]
    if len(kept) < len(trainer.plugins):
        rank_zero_info(f"Training in {trainer.precision}, as asked; nothing is measured.")
        trainer.plugins = kept or None


def _refuse_wandb_settings(logger: Any) -> None:
    for one in logger if isinstance(logger, list) else [logger]:
        if isinstance(one, Namespace) and "WandbLogger" in str(one.get("class_path")):
            raise UserError(
                "Set W&B up in the config section 'wandb:', not as a trainer.logger: there, "
                "'settings:' would turn an offline run online."
            )


def run_trainer_command(given: list[str]) -> None:
    """Run ``fit``, ``validate``, ``test`` or ``predict``.

    Args:
        given: Command and options, ``--run``, ``--data-root`` and ``--scale`` among them.
    """
    args, run = _expand(given)
    restrict_names(None if run is None else run.path)
    # Lightning starts further processes with sys.argv, so it must be what was typed; and it warns
    # where both are given.
    program, sys.argv = sys.argv, [sys.argv[0], *args]
    try:
        cli = SRCLI(
            SRModule,
            pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveRunConfig,
            save_config_kwargs={"save_to_log_dir": False},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_class=PlainParser,
            parser_kwargs={"version": __version__},
            trainer_defaults={
                "check_val_every_n_epoch": None,
                "val_check_interval": 1000,
                "num_sanity_val_steps": 1,
                "enable_model_summary": False,
            },
        )
        _say_where(cli)
        stopped_by = _signal_of(cli)
        if cli.lock is not None:
            cli.lock.release()
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            # Lightning ends with status 1 of its own.
            raise KeyboardInterrupt from None
        if isinstance(end, SIGTERMException):
            # Lightning ends with status 0, as if it were done.
            raise SystemExit(128 + signal.SIGTERM) from None
        raise
    except MisconfigurationException as error:
        raise UserError(f"The config cannot be used: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "find_unused_parameters" in str(error):
            raise UserError(
                "Parts of the network have no part in the loss, such as predictions that are not "
                "supervised, and several devices wait for their gradients; use --config "
                "configs/trainer/ddp.yaml and --trainer.strategy.find_unused_parameters true."
            ) from error
        if not (checkpoint := _checkpoint_of(args)) or not _is_of_restoring(error):
            raise
        first = " ".join(str(error).split())
        raise UserError(
            f"A part of the checkpoint {checkpoint} is not as a training leaves it "
            f"({type(error).__name__}: {first:.200}); name an earlier one with --ckpt_path, or "
            "take its weights alone with --model.init_from."
        ) from error
    finally:
        sys.argv = program
        RunFolder.stop_handing_down()
        _finish_wandb()
    if stopped_by is not None and stopped_by != signal.SIGINT:
        raise SystemExit(128 + stopped_by)


def _checkpoint_of(args: list[str]) -> str:
    """The checkpoint that a command starts from; empty if there is none."""
    found = ""
    for arg, following in pairwise([*args, ""]):
        name, equals, value = arg.partition("=")
        if name == "--ckpt_path":
            found = value if equals else following
    return found


def _is_of_restoring(error: Exception) -> bool:
    """Whether an error comes of a checkpoint: of handing out its parts, or of using them."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(str(frame.f_globals.get("__name__")).startswith(_RESTORING) for frame, _ in frames)


def _signal_of(cli: SRCLI) -> signal.Signals | None:
    """The signal that ended training, if one did."""
    lasts = (c for c in cli.trainer.callbacks if isinstance(c, LastCheckpoint))  # type: ignore[attr-defined]
    return next((last.stopped_by for last in lasts), None)


_SHORT = {"--run": "a folder", "--data-root": "a folder", "--scale": "a number, or '[1.5, 2]'"}


def _expand(given: list[str]) -> tuple[list[str], RunFolder | None]:
    """Turn ``--run``, ``--data-root`` and ``--scale`` into options that LightningCLI has.

    Returns:
        The arguments, and the run that ``--run`` named.
    """
    command, rest = given[0], []
    folder: RunFolder | None = None
    pending = iter(given[1:])
    for arg in pending:
        name, equals, value = arg.partition("=")
        if name in {"--config", "-c"}:
            value = value if equals else next(pending, "")
            rest.append(f"{name}={_checked(value)}")
            continue
        if name not in _SHORT:
            rest.append(arg)
            continue
        if not equals:
            value = next(pending, "")
        if not value or value.startswith("--"):
            raise UserError(f"{name} needs {_SHORT[name]}.")
        if name == "--data-root":
            rest += ["--data.init_args.root", value]
        elif name == "--scale":
            key = "val_scale" if command == "validate" else "scale"
            rest += [f"--data.init_args.{key}", value]
        else:
            folder = RunFolder.existing(value)
            _checked(folder.config)
    if folder is None:
        return [command, *rest], None
    first = ["--config", str(folder.config), "--output.folder", str(folder.path)]
    if not any(arg.partition("=")[0] == "--ckpt_path" for arg in rest):
        checkpoint = _newest_whole(folder) if command == "fit" else folder.best_checkpoint()
        first += ["--ckpt_path", str(checkpoint)]
    return [command, *first, *rest], folder


def _checked(config: str | Path) -> str | Path:
    """A config file, looked at first: jsonargparse does not survive all that can be in one.

    Raises:
        UserError: it cannot be read, is not YAML, or is no mapping.
    """
    check_config(config)
    content = read_yaml(config, "config")
    if not isinstance(content, dict | None):
        raise UserError(f"The config {config} has no keys with values; is it a config?")
    for key, value in _leaves(content):
        if isinstance(value, str) and "\0" in value:
            raise UserError(f"{config}: {key} holds a NUL character; take it out.")
    return config


def _leaves(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Values of a config by their dotted keys."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _leaves(value, f"{key}.{name}".lstrip("."))
    elif isinstance(content, list):
        for value in content:
            yield from _leaves(value, key)
    else:
        yield key, content


def _newest_whole(folder: RunFolder) -> Path:
    """The newest checkpoint that is as it was written; says which are not.

    Raises:
        UserError: there is none.
    """
    for path in folder.all_checkpoints():
        if is_whole(path):
            return path
        rank_zero_info(f"{path} is damaged or was not written to its end; an earlier one is taken.")
    raise UserError(f"{folder.checkpoints} holds no whole checkpoint to go on from.")


def _finish_wandb() -> None:
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


@rank_zero_only
def _say_where(cli: SRCLI) -> None:
    """Print the path of everything that a run left."""
    folder = cli.run_folder
    lines: list[tuple[str, Any]] = [("run folder", folder.path)]
    if cli.subcommand == "fit":
        stopped = _signal_of(cli) is not None
        lines.append(("config", folder.config))
        lines += [("checkpoint", path) for path in sorted(folder.checkpoints.glob("*.ckpt"))]
        lines.append(("metrics", folder.path / "metrics.csv"))
        following = "go on" if stopped else "test it"
        command = "fit" if stopped else "test"
        lines.append((following, f"sr-lightning {command} --run {folder.path}"))
    if cli.subcommand == "test":
        lines += [
            ("per image", folder.results / "images.csv"),
            ("means", folder.results / "summary.json"),
        ]
        if (curve := folder.results / "arbitrary_scale.svg").is_file():
            lines.append(("over scale", curve))
    if cli.subcommand == "predict":
        lines.append(("images", folder.predictions))
    if folder.images.is_dir():
        lines.append(("pictures", folder.images))
    for run in sorted(folder.path.glob("wandb/offline-run-*"))[-1:]:
        together = folder.path / "wandb" / "offline-run-*"
        lines.append(("W&B (offline)", f"wandb leet {run}  (upload: wandb sync {together})"))
    width = max(len(name) for name, _ in lines)
    print("\n".join(f"{name:>{width}}  {what}" for name, what in lines), flush=True)
