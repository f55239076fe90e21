"""Choosing precision and memory layout by measurement instead of by the CPU's name."""

from __future__ import annotations

import copy
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.precision import layout_of, set_layout

__all__ = ["MeasuredPrecision"]


class MeasuredPrecision(MixedPrecision):
    """bf16 autocast and channels-last layout where they make this network faster here.

    Before training starts, a few steps of the real network are timed in the four combinations and
    the fastest is kept. On a CPU with AMX bf16 is several times faster, with AVX512-BF16 about
    twice, without either it can be slower than float32. The choice is stored in checkpoints, so
    that a resumed run computes exactly as before.

    Args:
        patch: Side of the LR patches that are timed.
        batch: How many.
        repeats: Timed steps per combination; the fastest counts.
    """

    def __init__(self, patch: int = 24, batch: int = 4, repeats: int = 2) -> None:
        super().__init__("bf16-mixed", device="cpu")
        self.patch = patch
        self.batch = batch
        self.repeats = repeats
        self.bf16 = False
        self.channels_last = False
        self._module: Any = None
        self._root = torch.device("cpu")

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Measure, when training is about to start; measuring images uses float32."""
        self._module = module
        if isinstance(module, pl.LightningModule) and hasattr(module, "network"):
            trainer = module.trainer
            self._root = trainer.strategy.root_device
            self.device = self._root.type
            if trainer.state.fn == TrainerFn.FITTING:
                choice = (False, False)
                if trainer.is_global_zero:
                    choice = self._fastest(cast(SRNetwork, module.network))
                self.bf16, self.channels_last = trainer.strategy.broadcast(choice)
            else:
                self.bf16, self.channels_last = False, True
            self._apply_layout()
        return module

    @contextmanager
    def forward_context(self) -> Generator[None, None, None]:
        """Autocast to bfloat16, if that was chosen."""
        with self.autocast_context_manager() if self.bf16 else nullcontext():
            yield

    def state_dict(self) -> dict[str, Any]:
        """The choice, for resumed runs."""
        return {"bf16": self.bf16, "channels_last": self.channels_last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take an earlier choice back."""
        self.bf16 = bool(state_dict["bf16"])
        self.channels_last = bool(state_dict["channels_last"])
        self._apply_layout()

    def _apply_layout(self) -> None:
        if self._module is not None and hasattr(self._module, "set_channels_last"):
            self._module.set_channels_last(self.channels_last)

    def _fastest(self, network: SRNetwork) -> tuple[bool, bool]:
        times = {}
        for channels_last in (False, True):
            for bf16 in (False, True):
                times[bf16, channels_last] = self._time(network, bf16, channels_last)
        best = min(times, key=lambda key: times[key])
        rank_zero_info(
            f"Measured for this network on this {self.device}: "
            f"{_called(*best)} takes {times[best] * 1e3:.0f} ms a step of {self.batch} patches, "
            f"{_called(False, False)} {times[False, False] * 1e3:.0f} ms. Training in the former."
        )
        return best

    def _time(self, network: SRNetwork, bf16: bool, channels_last: bool) -> float:
        twin = copy.deepcopy(network).to(self._root).train()
        set_layout(twin, channels_last)
        weight = next(twin.parameters())
        # Neither the data nor the timing may disturb the run's random numbers.
        lr = torch.linspace(0, 1, self.batch * 3 * self.patch**2, device=weight.device)
        lr = lr.reshape(self.batch, 3, self.patch, self.patch).to(
            memory_format=layout_of(channels_last)
        )
        times = []
        with torch.random.fork_rng():
            for _ in range(1 + self.repeats):
                begin = time.perf_counter()
                with torch.autocast(self.device, torch.bfloat16, enabled=bf16):
                    predictions = twin.supervised_outputs(lr, twin.scales[0])
                torch.stack([p.float().mean() for p in predictions]).sum().backward()  # type: ignore[no-untyped-call]
                if weight.device.type == "cuda":
                    torch.cuda.synchronize()
                times.append(time.perf_counter() - begin)
        return min(times[1:])


def _called(bf16: bool, channels_last: bool) -> str:
    return f"{'bf16' if bf16 else 'float32'} {'channels last' if channels_last else 'NCHW'}"
