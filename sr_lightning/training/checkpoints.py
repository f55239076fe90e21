"""Checkpoints that survive kills, full disks and flipped bits, and when they are written."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from sr_lightning.errors import UserError
from sr_lightning.files import regular_file
from sr_lightning.metrics.quality import METRICS
from sr_lightning.training.metrics_file import MetricsFile
from sr_lightning.weights.formats.external import check_numbers
from sr_lightning.weights.formats.pytorch import load_plain

__all__ = ["BestCheckpoint", "LastCheckpoint", "SafeCheckpointIO"]

# What Lightning reads of a checkpoint, and what it cannot do without.
_PARTS: dict[str, type] = {
    "state_dict": dict,
    "pytorch-lightning_version": str,
    "epoch": int,
    "global_step": int,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
}
_NEEDED = ("state_dict", "pytorch-lightning_version")


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its target and renames it once it is safely on the disk.

    A kill or a full disk leaves the checkpoint before it, and nothing that looks like one.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write one.

        Raises:
            UserError: its weights are not finite, or it cannot be written.
        """
        path = Path(path)
        try:
            check_numbers(checkpoint.get("state_dict", {}), f"What {path.name} was to keep")
        except UserError as error:
            raise UserError(f"{error} It was not written; {_what_is_in(path.parent)}") from error
        part = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as out:
                torch.save(checkpoint, out)
                out.flush()
                os.fsync(out.fileno())
            part.replace(path)
            _sync_folder(path.parent)
        except (OSError, RuntimeError) as error:
            # torch has errors of its own for a disk that is full.
            cause = error if isinstance(error, OSError) else error.__context__ or error
            raise UserError(
                f"The checkpoint {path} cannot be written ({getattr(cause, 'strerror', cause)}); "
                f"{_what_is_in(path.parent)}"
            ) from error
        finally:
            with suppress(OSError):
                part.unlink()

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read one, onto the CPU; nothing in it is executed, whatever `weights_only` says.

        Raises:
            UserError: it is missing or damaged, is no checkpoint of Lightning, or holds numbers
                that are not finite.
        """
        path = regular_file(path, "checkpoint")
        content = load_plain(path)
        for key, kind in _PARTS.items():
            found: Any = content.get(key, kind()) if isinstance(content, dict) else None
            sound = isinstance(found, kind) and (key not in _NEEDED or bool(found))
            if sound and key == "loops":
                sound = _are_counts(found)
            elif sound and key == "optimizer_states":
                sound = _are_options(found, content.get("optimizer"))
            if not sound:
                raise UserError(
                    f"{path} is no checkpoint of a run: it has no sound '{key}'. Weights alone "
                    "are given as --model.init_from."
                )
        check_numbers(content["state_dict"], path)
        return dict(content)


def _are_counts(progress: Any) -> bool:
    """Whether what loops have counted are numbers, which they go on from only while they run."""
    if not isinstance(progress, dict):
        return True
    for key, value in progress.items():
        counts = value if key in {"current", "total"} else {}
        if key == "_batches_that_stepped":
            counts = {key: value}
        if not isinstance(counts, dict):
            return False
        if not all(type(count) is int and count >= 0 for count in counts.values()):
            return False
        if not counts and not _are_counts(value):
            return False
    return True


def _are_options(states: list[Any], made: Any) -> bool:
    """Whether optimisers have the switches that they were made with: no schedule changes one."""
    options = made.get("options") if isinstance(made, dict) else None
    if not isinstance(options, dict):
        return True
    switches = {key: value for key, value in options.items() if isinstance(value, bool | None)}
    groups = [state.get("param_groups") for state in states if isinstance(state, dict)]
    return all(
        isinstance(group, dict)
        and all(group.get(key) is value for key, value in switches.items() if key in group)
        for listed in groups
        if isinstance(listed, list)
        for group in listed
    )


def _what_is_in(folder: Path) -> str:
    found = sorted(path.name for path in folder.glob("*.ckpt"))
    return f"{folder} has {', '.join(found)}." if found else f"{folder} has no checkpoint yet."


def _sync_folder(folder: Path) -> None:
    """Make a rename last; systems that cannot open folders need nothing of it."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint with the best validation result, protocol and value in its name.

    Args:
        folder: Folder of the checkpoints.
        monitor: What chooses, such as ``val/edsr2017/psnr``.
    """

    def __init__(self, folder: Path, monitor: str) -> None:
        _, protocol, metric = monitor.split("/")
        higher = METRICS[metric].higher_is_better
        super().__init__(
            dirpath=folder,
            # Whoever looks for the best one of a folder has only the names.
            filename=f"best_step={{step}}_{protocol}_{metric}{'' if higher else '-min'}="
            f"{{{monitor}:.4f}}",
            monitor=monitor,
            mode="max" if higher else "min",
            save_top_k=1,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )


class LastCheckpoint(Checkpoint):
    """Keeps the newest state to go on from: of each validation, every few minutes, at the end.

    On Ctrl-C, SIGTERM and SIGHUP training ends after the current step, and its state is kept: in
    the middle of a step half of the weights could be updated. A second signal ends at once. With
    several processes Lightning's own handling of signals is left in place, since they could stop at
    different steps. It is a `Checkpoint` so that it comes after the weight averaging of the same
    step.

    Args:
        folder: Folder of the checkpoints.
        minutes: Minutes between two checkpoints at most; what a kill can cost.

    Attributes:
        stopped_by: The signal that ended training, or None.
    """

    # Where several processes must agree that it is time; agreeing waits for all devices.
    _EVERY_SHARED_STEPS = 50

    def __init__(self, folder: Path, minutes: float = 10) -> None:
        self.folder = folder
        self.seconds = 60 * minutes
        self.stopped_by: signal.Signals | None = None
        self._previous: dict[int, Any] = {}
        self._saved_step = -1
        self._saved_at = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock and take over the signals."""
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile):
                logger.forget_after(trainer.global_step)
        if trainer.world_size > 1 or threading.current_thread() is not threading.main_thread():
            return
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is None:
                continue
            # Under 'nohup' a closed terminal stops nothing. Ctrl-C a shell's background job ignores
            # as well, but there it comes from whoever means this process.
            if name == "SIGINT" or signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._asked)

    def _asked(self, number: int, frame: Any) -> None:
        if self.stopped_by is not None:
            raise KeyboardInterrupt
        self.stopped_by = signal.Signals(number)
        what = "Ctrl-C" if number == signal.SIGINT else self.stopped_by.name
        # Written at once: print could be interrupted in the middle of a print.
        os.write(2, f"\nStopping after this step; {what} again stops at once.\n".encode())

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save if it is time; save and stop if asked to."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            # The gradients gathered so far would be lost.
            return
        loop, every = trainer.fit_loop, trainer.val_check_batch or float("inf")
        is_validated = (loop.total_batch_idx + 1) % every == 0
        if self.stopped_by is not None:
            self.save(trainer)
            # Lightning validates on stopping; whoever asks for it may not wait that long.
            loop.epoch_loop._skip_next_val = not is_validated
            trainer.should_stop = True
        elif trainer.global_step >= trainer.max_steps > 0 and not is_validated:
            # At the end of training averaged weights take the place of the network's own, from
            # which a longer run could not go on.
            self.save(trainer)
        elif self._is_time(trainer):
            self.save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the state that was validated."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self.save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last steps, which no validation may have followed."""
        if self._saved_step != trainer.global_step:
            self.save(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def save(self, trainer: pl.Trainer) -> None:
        """Write the state of this step and remove those that it supersedes."""
        path = self.folder / f"last_step={trainer.global_step}.ckpt"
        for logger in trainer.loggers:
            # Rows up to a checkpoint are never trained again, so they must not be lost.
            logger.save()
        trainer.save_checkpoint(path)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        if trainer.is_global_zero:
            for old in self.folder.glob("last_*.ckpt"):
                if old != path and not old.is_dir():
                    old.unlink(missing_ok=True)

    def _is_time(self, trainer: pl.Trainer) -> bool:
        due = time.monotonic() - self._saved_at >= self.seconds
        if trainer.world_size == 1:
            return due
        if trainer.global_step % self._EVERY_SHARED_STEPS:
            return False
        return trainer.strategy.reduce_boolean_decision(due, all=False)
