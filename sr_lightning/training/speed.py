"""How long a network takes on this machine: a training step, and an image.

With one thread on a CPU, time is the processor time of the process: what a quiet core would take,
also where other programs use the core. inferred: no paper says which clock it read, and on a shared
core the wall clock measures the neighbours. With several threads or a GPU it is wall time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_lightning.cubic import upscaled_size
from sr_lightning.nn.complexity import complexity
from sr_lightning.nn.layers import reference
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.precision import layout_of, set_layout
from sr_lightning.training.losses import PixelLoss

__all__ = ["Clock", "Duration", "Speed", "clock_here", "speed"]

Clock = Literal["cpu", "wall"]
_READ: dict[Clock, Callable[[], float]] = {"cpu": time.process_time, "wall": time.perf_counter}
_TURNS = 3
_PARTS_OF_A_SIDE = (10, 4, 2, 1)


def clock_here() -> Clock:
    """The clock that times are read from here: "cpu" is the time that the process computed."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return "cpu" if alone else "wall"


@dataclass(frozen=True)
class Duration:
    """A measured or estimated time.

    Attributes:
        seconds: Seconds of one call.
        estimated: It follows from a part of the work, as all of it would take too long.
    """

    seconds: float
    estimated: bool

    def __str__(self) -> str:
        return f"{'~' if self.estimated else ''}{self.seconds:.3g}"


@dataclass(frozen=True)
class Speed:
    """Times in float32, by the suite's arrangement and as the papers write their layers.

    Attributes:
        image: One image, without gradients.
        image_plain: The same without fast layers and channels-last memory.
        step: Forward, L1 of all predictions, backward and Adam; None at a scale that a network for
            any scale is not trained at.
        step_plain: The same, plainly.
    """

    image: Duration
    image_plain: Duration
    step: Duration | None
    step_plain: Duration | None


def speed(
    network: SRNetwork,
    scale: float,
    patch: int,
    batch: int,
    lr_size: tuple[int, int] = (180, 320),
    limit: float = 60.0,
) -> Speed:
    """Time a network on the GPU, if there is one, or the CPU.

    Args:
        network: Left as it is; times are of twins with new weights.
        scale: Scale of the patches and the image.
        patch: Side of LR patches.
        batch: Patches of a step.
        lr_size: (H, W) of the image.
        limit: Seconds beyond which a call is not made but estimated from the largest part that
            takes less: some of the patches of a step, or a smaller image by its
            multiply-accumulates.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    runs = [_Arrangement(network, device, fast) for fast in (True, False)]
    image, image_plain = _durations(
        [
            _Portion([run.image(scale, size) for run in runs], share)
            for size, share in _images(network, scale, lr_size)
        ],
        limit,
    )
    step = step_plain = None
    if scale in network.scales:
        step, step_plain = _durations(
            [
                _Portion([run.step(scale, patch, count) for run in runs], count / batch)
                for count in sorted({1, math.ceil(batch / 8), batch})
            ],
            limit,
        )
    return Speed(image, image_plain, step, step_plain)


def _images(
    network: SRNetwork, scale: float, lr_size: tuple[int, int]
) -> list[tuple[tuple[int, int], float]]:
    """Image sizes, the smallest first, with their shares of the whole image's cost.

    Attention over a whole image costs more than its pixels, so that their number is no measure.
    """
    sizes = [(max(1, lr_size[0] // part), max(1, lr_size[1] // part)) for part in _PARTS_OF_A_SIDE]
    costs = [complexity(network, upscaled_size(size, scale), scale).macs for size in sizes]
    return [(size, cost / costs[-1]) for size, cost in zip(sizes, costs, strict=True)]


@dataclass(frozen=True)
class _Portion:
    """A share of the work, to be called in each arrangement."""

    calls: list[Callable[[], None]]
    share: float


def _durations(portions: list[_Portion], limit: float) -> list[Duration]:
    """Times of the last portion, which is the whole, or estimates of it.

    Args:
        portions: The smallest first.
        limit: See :func:`speed`.
    """
    smallest, *larger = portions
    seconds, share = _fastest(smallest.calls, limit), smallest.share
    for portion in reversed(larger):
        if max(seconds) * portion.share / smallest.share <= limit:
            seconds, share = _fastest(portion.calls, limit), portion.share
            break
    return [Duration(one / share, estimated=share < 1) for one in seconds]


def _fastest(calls: list[Callable[[], None]], limit: float) -> list[float]:
    """Seconds of the fastest of three calls each, or of fewer where they take long.

    The calls take turns, so that other programs disturb all alike. A first one warms up; it counts
    where it takes longer than the limit by itself.
    """
    first = [_seconds(call) for call in calls]
    if max(first) > limit:
        return first
    turns = min(_TURNS, max(1, int(limit / max(first))))
    rounds = [[_seconds(call) for call in calls] for _ in range(turns)]
    return [min(times) for times in zip(*rounds, strict=True)]


def _seconds(call: Callable[[], None]) -> float:
    read = _READ[clock_here()]
    begin = read()
    call()
    return read() - begin


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
