"""How long a network takes on this machine: a training step, and an image."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_lightning.cubic import enlarged_size
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.plain import plain
from sr_lightning.nn.precision import layout_of, set_layout
from sr_lightning.training.losses import PixelLoss

__all__ = ["Duration", "Speed", "speed"]


@dataclass(frozen=True)
class Duration:
    """A measured or estimated time.

    Attributes:
        seconds: of one call.
        estimated: it follows from a part of the work, as all of it would take too long.
    """

    seconds: float
    estimated: bool

    def __str__(self) -> str:
        return f"{'~' if self.estimated else ''}{self.seconds:.3g}"


@dataclass(frozen=True)
class Speed:
    """Times in float32, by the suite's arrangement and as the papers write their layers.

    Attributes:
        step: forward, L1 of all predictions, backward and Adam.
        step_plain: the same without fast layers and channels-last memory.
        image: one image, without gradients.
        image_plain: the same, plainly.
    """

    step: Duration
    step_plain: Duration
    image: Duration
    image_plain: Duration


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
        network: left as it is; times are of twins with new weights.
        scale: of the patches and the image.
        patch: side of LR patches.
        batch: patches of a step.
        lr_size: (H, W) of the image.
        limit: seconds beyond which a call is not made but estimated: a step by an eighth of its
            patches, an image by a hundredth of its pixels.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    few = math.ceil(batch / 8)
    small = (max(1, lr_size[0] // 10), max(1, lr_size[1] // 10))
    pixels = lr_size[0] * lr_size[1] / (small[0] * small[1])
    runs = [_Arrangement(network, device, fast) for fast in (True, False)]
    step, step_plain = _durations(
        [run.step(scale, patch, batch) for run in runs],
        [run.step(scale, patch, few) for run in runs],
        batch / few,
        limit,
    )
    image, image_plain = _durations(
        [run.image(scale, lr_size) for run in runs],
        [run.image(scale, small) for run in runs],
        pixels,
        limit,
    )
    return Speed(step, step_plain, image, image_plain)


def _durations(
    wholes: list[Callable[[], None]], parts: list[Callable[[], None]], times: float, limit: float
) -> list[Duration]:
    """The fastest of three calls each, taking turns, so that other programs disturb all alike.

    Where a whole would take too long, calls of the part `times` smaller stand for all of them.
    """
    expected = [times * seconds for seconds in _fastest(parts, 1)]
    if max(expected) > limit:
        return [Duration(seconds, estimated=True) for seconds in expected]
    return [Duration(seconds, estimated=False) for seconds in _fastest(wholes, 3)]


def _fastest(calls: list[Callable[[], None]], turns: int) -> list[float]:
    """Seconds of the fastest of `turns` calls after a first one that warms up."""
    best = [math.inf] * len(calls)
    for turn in range(1 + turns):
        for index, call in enumerate(calls):
            begin = time.perf_counter()
            call()
            if turn:
                best[index] = min(best[index], time.perf_counter() - begin)
    return best


class _Arrangement:
    """A twin of a network, by the suite's arrangement or plain."""

    def __init__(self, network: SRNetwork, device: torch.device, fast: bool) -> None:
        self.network = type(network)(**network.config).to(device)
        self.device = device
        self.layout = layout_of(fast)
        self.context: Callable[[], AbstractContextManager[object]] = nullcontext if fast else plain
        set_layout(self.network, fast)

    def pictures(self, count: int, size: tuple[int, int]) -> Tensor:
        """Random pictures, (count, 3, H, W)."""
        noise = torch.rand(count, 3, *size, device=self.device)
        return noise.to(memory_format=self.layout)

    def step(self, scale: float, patch: int, batch: int) -> Callable[[], None]:
        """A training step to call."""
        lr = self.pictures(batch, (patch, patch))
        hr = self.pictures(batch, enlarged_size((patch, patch), scale))
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
                    for sr in self.network.predictions(lr, scale)
                ]
                torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            self.wait()

        return run

    def image(self, scale: float, size: tuple[int, int]) -> Callable[[], None]:
        """An enlargement to call."""
        lr = self.pictures(1, size)

        def run() -> None:
            self.network.eval()
            with torch.inference_mode(), self.context():
                self.network.enlarge(lr, scale)
            self.wait()

        return run

    def wait(self) -> None:
        """Wait for the GPU, so that all of its work is timed."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
