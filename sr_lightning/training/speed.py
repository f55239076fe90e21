"""How long a network takes on this machine: a training step, and images.

Medians of :mod:`torch.utils.benchmark`. With one thread on a CPU, time is the processor time of the
process: what a quiet core would take, also where other programs use the core. inferred: no paper
says which clock it read, and on a shared core the wall clock measures the neighbours. With several
threads or a GPU it is wall time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.benchmark import Timer

from sr_lightning.cubic import upscaled_size
from sr_lightning.nn.complexity import complexity
from sr_lightning.nn.layers import reference
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.precision import layout_of, set_layout
from sr_lightning.training.losses import PixelLoss

__all__ = ["NTIRE_LR", "SMALL_LR", "Clock", "Speed", "clock_here", "speed"]

Clock = Literal["cpu", "wall"]

SMALL_LR = (180, 320)
"""(H, W) of the LR image whose x4 is 1280 x 720."""
NTIRE_LR = (256, 256)
"""(H, W) of the LR image that the NTIRE challenges on efficient super-resolution count for."""

# Repeated for at least as long, in seconds.
_LEAST = 0.5
# Side of a smaller image, over the image's, by which is judged whether that takes too long.
_PART = 8


def clock_here() -> Clock:
    """The clock that times are read from here: "cpu" is the time that the process computed."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return "cpu" if alone else "wall"


@dataclass(frozen=True)
class Speed:
    """Median seconds in float32, by the suite's arrangement and as the papers write their layers.

    Each is None where a call would take longer than the limit.

    Attributes:
        image: One LR image of :data:`SMALL_LR`, without gradients.
        image_plain: The same without fast layers and channels-last memory.
        ntire: One LR image of :data:`NTIRE_LR`.
        step: Forward, L1 of all predictions, backward and Adam; None also at a scale that a network
            for any scale is not trained at.
        step_plain: The same, plainly.
    """

    image: float | None
    image_plain: float | None
    ntire: float | None
    step: float | None
    step_plain: float | None


def speed(
    network: SRNetwork,
    scale: float,
    patch: int,
    batch: int,
    lr_size: tuple[int, int] = SMALL_LR,
    limit: float = 60.0,
) -> Speed:
    """Time a network on the GPU, if there is one, or the CPU.

    Args:
        network: Left as it is; times are of twins with new weights.
        scale: Scale of the patches and the images.
        patch: Side of LR patches.
        batch: Patches of a step.
        lr_size: (H, W) of the first image.
        limit: Seconds beyond which a call is not made, as a part of it tells: a step of one patch,
            or a smaller image by its multiply-accumulates.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    fast, plain = (_Arrangement(network, device, fast) for fast in (True, False))
    part = (max(1, lr_size[0] // _PART), max(1, lr_size[1] // _PART))
    second = _seconds(fast.image(scale, part)) / _macs(network, part, scale)

    def image(run: _Arrangement, size: tuple[int, int]) -> float | None:
        is_short = second * _macs(network, size, scale) <= limit
        return _median(run.image(scale, size)) if is_short else None

    def step(run: _Arrangement) -> float | None:
        if scale not in network.scales or _seconds(run.step(scale, patch, 1)) * batch > limit:
            return None
        return _median(run.step(scale, patch, batch))

    return Speed(
        image=image(fast, lr_size),
        image_plain=image(plain, lr_size),
        ntire=image(fast, NTIRE_LR),
        step=step(fast),
        step_plain=step(plain),
    )


def _macs(network: SRNetwork, lr_size: tuple[int, int], scale: float) -> int:
    # Attention over a whole image costs more than its pixels, so that their number is no measure.
    return complexity(network, upscaled_size(lr_size, scale), scale).macs


def _timer(call: Callable[[], None]) -> Timer:
    clock: dict[str, Any] = {"timer": time.process_time} if clock_here() == "cpu" else {}
    return Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads(), **clock)


def _seconds(call: Callable[[], None]) -> float:
    """Seconds of one call, after two that warm up."""
    return float(_timer(call).timeit(1).mean)


def _median(call: Callable[[], None]) -> float:
    return float(_timer(call).blocked_autorange(min_run_time=_LEAST).median)


class _Arrangement:
    """A twin of a network, by the suite's arrangement or plain."""

    def __init__(self, network: SRNetwork, device: torch.device, fast: bool) -> None:
        self.network = type(network)(**network.config).to(device)
        self.device = device
        self.layout = layout_of(fast)
        ways: tuple[Callable[[], AbstractContextManager[object]], ...] = (reference, nullcontext)
        self.context = ways[fast]
        set_layout(self.network, fast)

    def pictures(self, count: int, size: tuple[int, int]) -> Tensor:
        """Random pictures, (count, 3, H, W)."""
        noise = torch.rand(count, 3, *size, device=self.device)
        return noise.to(memory_format=self.layout)

    def step(self, scale: float, patch: int, batch: int) -> Callable[[], None]:
        """A training step to call."""
        lr = self.pictures(batch, (patch, patch))
        hr = self.pictures(batch, upscaled_size((patch, patch), scale))
        loss, optimizer = PixelLoss("l1"), torch.optim.Adam(self.network.parameters(), fused=True)

        def run() -> None:
            self.network.train()
            with self.context():
                target = self.network.target(hr)
                optimizer.zero_grad()
                losses = [
                    # A progressive network's earlier predictions are smaller.
                    loss(sr, F.adaptive_avg_pool2d(target, (sr.shape[-2], sr.shape[-1])))
                    if sr.shape != target.shape
                    else loss(sr, target)
                    for sr in self.network.supervised_outputs(lr, scale)
                ]
                torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            self.wait()

        return run

    def image(self, scale: float, size: tuple[int, int]) -> Callable[[], None]:
        """An upscaling to call."""
        lr = self.pictures(1, size)

        def run() -> None:
            self.network.eval()
            with torch.inference_mode(), self.context():
                self.network.upscale(lr, scale)
            self.wait()

        return run

    def wait(self) -> None:
        """Wait for the GPU, so that all of its work is timed."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
