"""One way to measure a network: whole images, named protocols, a row for every image.

Validation, tests, the zoo's tables, verification of released weights and comparisons all come here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor

from sr_lightning.data.batch import Batch
from sr_lightning.data.degradation import bicubic_up, degrade
from sr_lightning.errors import UserError
from sr_lightning.inference.upscaler import Upscaler
from sr_lightning.metrics.protocol import Protocol
from sr_lightning.metrics.quality import METRICS
from sr_lightning.nn.network import SRNetwork, YNetwork

__all__ = [
    "Evaluator",
    "Measured",
    "Row",
    "evaluate",
    "evaluate_set",
    "means",
    "place_of",
    "rows_of",
]

Row = dict[str, Any]
"""One line of a result table: set, scale, image, method, protocol, and a number per metric."""

Place = tuple[str, float, str, str]
"""What a mean is over the images of: set, scale, method, protocol."""


@dataclass(frozen=True)
class Measured:
    """One image by one method under one protocol.

    Attributes:
        method: "sr" or "bicubic".
        protocol: Protocol of the numbers.
        image: The upscaled image, (1, 3, H, W), not clamped.
        numbers: Numbers by the names of the metrics.
    """

    method: str
    protocol: Protocol
    image: Tensor
    numbers: dict[str, float]


class Evaluator:
    """Measures a network on whole images.

    Args:
        network: Network in evaluation mode; None measures bicubic alone.
        protocols: Protocols of the measurement; each makes its own LR images.
        metrics: Names in :data:`~sr_lightning.metrics.quality.METRICS`.
        tile: Side of tiles in LR pixels; None takes whole images.
        ensemble: Average over the 8 mirrorings and rotations, as papers' "+" rows do.
        bicubic: Measure bicubic interpolation too.
    """

    def __init__(
        self,
        network: SRNetwork | None,
        protocols: Sequence[Protocol],
        metrics: Sequence[str] = ("psnr", "ssim"),
        *,
        tile: int | None = None,
        ensemble: bool = False,
        bicubic: bool = False,
    ) -> None:
        self.protocols = tuple(protocols)
        self.metrics = tuple(metrics)
        self.bicubic = bicubic or network is None
        self._upscale: dict[str, Upscaler] = {}
        if network is not None:
            self._upscale["rgb"] = Upscaler(network, tile=tile, ensemble=ensemble)
            grey = _GreyLevels(network) if isinstance(network, YNetwork) else network
            self._upscale["y"] = Upscaler(grey, tile=tile, ensemble=ensemble)

    def measure(self, batch: Batch) -> Iterator[Measured]:
        """Measure one image.

        Args:
            batch: Batch of one image.

        Raises:
            UserError: a protocol leaves nothing of it to measure.
        """
        hr, scale, grey = batch["hr"], batch["scale"], bool(batch.get("grey"))
        known: dict[tuple[str, ...], Tensor] = {}
        for protocol in self.protocols:
            height, width = hr.shape[-2:]
            border = protocol.border(scale)
            if min(height, width) <= 2 * border:
                raise UserError(
                    f"{batch['name'][0]} is {width} x {height}, too small to be measured at "
                    f"x{scale:g} under {protocol.name}, which leaves out {border} pixels at each "
                    "side; take it out of the images, or crop them less (data.val_crop)."
                )
            lr = batch["lr"]
            if protocol.lr != "rgb_uint8":
                lr = degrade(hr, scale, protocol.lr, grey=grey)
            ways: list[tuple[str, Callable[[Tensor, float], Tensor], tuple[str, ...]]] = []
            if self._upscale:
                way = protocol.grey_input if grey else "rgb"
                ways.append(("sr", self._upscale[way], ("sr", protocol.lr, way)))
            if self.bicubic:
                ways.append(("bicubic", bicubic_up, ("bicubic", protocol.lr)))
            for method, upscale, key in ways:
                if key not in known:
                    known[key] = upscale(lr, scale).float()
                image = known[key]
                numbers = protocol.measure(image, hr, scale, grey, self.metrics)
                yield Measured(method, protocol, image, numbers)


class _GreyLevels(SRNetwork):
    """A luminance network that takes the levels of a grey image as luminance."""

    def __init__(self, network: YNetwork) -> None:
        super().__init__()
        self.network = network
        self.scales = network.scales

    @property
    def receptive_field(self) -> int | None:
        return self.network.receptive_field

    def upscale(self, lr: Tensor, scale: float) -> Tensor:
        return self.network.predict(lr[:, :1], scale)[-1].expand(-1, 3, -1, -1)


@torch.inference_mode()
def evaluate(
    evaluator: Evaluator,
    images: Iterable[Batch],
    advance: Callable[[], None] = lambda: None,
    device: torch.device | None = None,
) -> list[Row]:
    """Measure a set of images, in float32.

    Args:
        evaluator: Evaluator with a network on `device`.
        images: Batches of one image each.
        advance: Called after each image.
        device: Device to compute on; default: where the images are.
    """
    rows: list[Row] = []
    for batch in images:
        lr, hr = batch["lr"].to(device), batch["hr"].to(device)
        rows += rows_of(batch, evaluator.measure({**batch, "lr": lr, "hr": hr}))
        advance()
    return rows


def evaluate_set(
    evaluator: Evaluator,
    image_set: str,
    scale: float,
    root: str | Path | None = None,
    progress: Progress | None = None,
    title: str = "",
    device: torch.device | None = None,
) -> list[Row]:
    """Measure a benchmark set, in float32.

    Args:
        evaluator: Evaluator with a network on `device`.
        image_set: Name of a set, or a folder of HR images.
        scale: Scale that the network is made for.
        root: Data root; default: ``$SR_DATA`` or ``./data``.
        progress: Progress display to draw a bar on.
        title: Title of the bar.
        device: Device to compute on; default: the CPU.

    Raises:
        UserError: there is no such set.
    """
    # Late: Lightning takes seconds to import, and measuring single images does not need it.
    from sr_lightning.data import PatchDataModule

    data = PatchDataModule(test=[image_set], scale=scale, root=None if root is None else str(root))
    data.setup("test")
    loader = data.test_dataloader()
    if progress is None:
        return evaluate(evaluator, loader, device=device)
    task = progress.add_task(title, total=len(loader))
    try:
        return evaluate(evaluator, loader, lambda: progress.advance(task), device)
    finally:
        progress.remove_task(task)


def place_of(batch: Batch) -> Row:
    """What a row says of its image: set, scale and name."""
    return {
        "set": batch.get("set", "images"),
        "scale": batch["scale"],
        "image": batch["name"][0],
    }


def rows_of(batch: Batch, measured: Iterable[Measured]) -> list[Row]:
    """Rows of one image.

    Args:
        batch: Batch that was measured.
        measured: What came out.
    """
    return [
        {
            **place_of(batch),
            "method": one.method,
            "protocol": one.protocol.name,
            **one.numbers,
        }
        for one in measured
    ]


def means(rows: Sequence[Row]) -> dict[Place, dict[str, float]]:
    """Mean of every metric, and under "images" their number, by set, scale, method and protocol."""
    groups: dict[Place, list[Row]] = {}
    for row in rows:
        key = (row["set"], row["scale"], row["method"], row["protocol"])
        groups.setdefault(key, []).append(row)
    return {
        key: {
            **{
                name: sum(row[name] for row in group) / len(group)
                for name in METRICS
                if name in group[0]
            },
            "images": len(group),
        }
        for key, group in groups.items()
    }
