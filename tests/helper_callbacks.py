"""Callbacks that tests put into runs of other processes."""

from __future__ import annotations

import os
import signal
import time

import torch
from lightning.pytorch.callbacks import Callback


class RaiseOnRank(Callback):
    """Raises on one rank at one step, as a broken image file or a full disk would."""

    def __init__(self, rank: int, step: int) -> None:
        self.rank = rank
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_rank == self.rank and trainer.global_step == self.step:
            raise RuntimeError("deliberate failure")


class PoisonWeights(Callback):
    """Makes the network's output NaN from one step on."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            batch["lr"].mul_(torch.nan)


class InterruptAt(Callback):
    """Sends Ctrl-C to its own process in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


class SignalAt(Callback):
    """Sends its own process a signal in the middle of a step."""

    def __init__(self, step: int, signal_name: str) -> None:
        self.step = step
        self.signal = getattr(signal, signal_name)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.signal)

    def on_test_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if batch_idx == self.step:
            os.kill(os.getpid(), self.signal)


class SlowSteps(Callback):
    """Gives another process the time to interfere."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_end(self, *args):
        time.sleep(self.seconds)


class KillRank(Callback):
    """Kills one rank at one step, as a machine does that runs out of memory."""

    def __init__(self, rank: int, step: int) -> None:
        self.rank = rank
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_rank == self.rank and trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
