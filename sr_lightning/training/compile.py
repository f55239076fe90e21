"""Training with ``torch.compile``, where it works: that is tried first."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import MethodType
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from sr_lightning.nn.network import SRNetwork
from sr_lightning.training.module import SRModule

__all__ = ["CompileNetwork"]

_Outputs = Callable[..., list[Tensor]]
# A network is compiled once for each scale and batch; torch gives up after eight, and ASDN has
# eleven scales.
_MOST_GRAPHS = 64
# Of the difference of gradients over gradients: wide enough for bfloat16's rounding at other
# places, while what is wrong is of the order of 1, or NaN.
_TOLERANCE = 0.05


class CompileNetwork(Callback):
    """Compiles what training calls of the network, and nothing else.

    Patches have few shapes, for each of which the network is compiled once. Whole images have
    shapes of their own each, so that validation, tests and predictions stay as they are. The
    network itself is not wrapped: names of weights, checkpoints, averaged weights and exports are
    those of an ordinary run, and a run may go on with or without this callback.

    The first batch of each shape and scale is tried on a copy of the network. Where compiling
    fails, or gives other gradients than the network has, one warning says so and training goes on
    without it. (With torch 2.13 on a CPU, HFDN's were NaN in bfloat16.)

    Args:
        mode: ``torch.compile``'s: "default", or "max-autotune-no-cudagraphs" to try more kernels on
            a GPU, for minutes.
    """

    def __init__(self, mode: Literal["default", "max-autotune-no-cudagraphs"] = "default") -> None:
        self.mode = mode
        self._sound: set[tuple[Any, ...]] = set()
        self._given_up = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Try a batch unlike those before; what passes takes the place of the network's own."""
        assert isinstance(pl_module, SRModule)
        network = pl_module.network
        key = (tuple(batch["lr"].shape), batch["scale"])
        if self._given_up or key in self._sound:
            return
        plain = type(network).supervised_outputs
        compiled = _compiled(plain, self.mode)
        fault = _fault(plain, compiled, network, batch, trainer)
        if fault is None:
            self._sound.add(key)
            # Bound to the network as any method is: a copy of the network calls its own weights.
            vars(network)["supervised_outputs"] = MethodType(compiled, network)
            return
        self._given_up = True
        self._take_away(pl_module)
        rank_zero_warn(f"The network trains without torch.compile: {fault}.")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the network its own function back."""
        self._take_away(pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Do so also after an error."""
        self._take_away(pl_module)

    def _take_away(self, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SRModule)
        vars(pl_module.network).pop("supervised_outputs", None)
        self._sound.clear()


def _compiled(plain: _Outputs, mode: str) -> _Outputs:
    compiled: _Outputs = torch.compile(plain, mode=mode, dynamic=False)

    def outputs(network: SRNetwork, lr: Tensor, scale: float | None = None) -> list[Tensor]:
        with torch._dynamo.config.patch(recompile_limit=_MOST_GRAPHS):
            return compiled(network, lr, scale)

    return outputs


def _fault(
    plain: _Outputs, compiled: _Outputs, network: SRNetwork, batch: Any, trainer: pl.Trainer
) -> str | None:
    """What is wrong with the compiled function on this batch, None if nothing is."""
    twin = copy.deepcopy(network)
    gradients = []
    try:
        # The trial may not disturb the run's random numbers.
        with torch.random.fork_rng(), torch.enable_grad():
            for function in (plain, compiled):
                twin.zero_grad()
                with trainer.precision_plugin.forward_context():
                    outputs = function(twin, batch["lr"], batch["scale"])
                loss = torch.stack([one.float().square().mean() for one in outputs]).sum()
                loss.backward()  # type: ignore[no-untyped-call]
                found = [p.grad.flatten().float() for p in twin.parameters() if p.grad is not None]
                gradients.append(torch.cat(found))
    except Exception as error:
        # What is wrong with the network or the memory, training itself will raise again.
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return f"compiling fails here ({said:.200}); a CPU needs a C++ compiler, a GPU Triton"
    expected, got = gradients
    if len(expected) != len(got):
        return "compiled, other weights have gradients"
    gap = float((got - expected).norm() / expected.norm().clamp(min=1e-12))
    if not gap <= _TOLERANCE:
        return f"compiled, its gradients are wrong (they differ by {gap:.3g} of their size)"
    return None
