"""``sr-lightning study starts``: what every network gives before its first step, beside bicubic.

A network that begins far below bicubic spends its first thousands of steps on catching up, and a
comparison of short trainings then tells how networks begin and not what their parts do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch.utils.data import DataLoader

from sr_lightning.data.catalog import find_set
from sr_lightning.data.evaluation import EvaluationImage, EvaluationSet, collate_one
from sr_lightning.data.store import PixelStore
from sr_lightning.inference.evaluate import Evaluator, evaluate, means
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.training.complexity import network_of_config

__all__ = ["PROTOCOL", "Start", "starts"]

PROTOCOL = "edsr2017"
# The largest networks take minutes for a whole image; how they begin shows in a part of it.
_CROP = 96


@dataclass(frozen=True)
class Start:
    """How an untrained network begins.

    Attributes:
        experiment: Name of its file.
        network: Class name.
        scale: Scale of the task.
        psnr: PSNR in dB, one for each seed.
        bicubic: PSNR of bicubic interpolation on the same pixels.
    """

    experiment: str
    network: str
    scale: float
    psnr: tuple[float, ...]
    bicubic: float

    def __str__(self) -> str:
        numbers = f"{fmean(self.psnr):6.2f} dB, bicubic {self.bicubic:5.2f} dB, {self.gap:+.2f}"
        return f"{self.experiment:<22} {self.network:<14} x{self.scale:g}  {numbers}"

    @property
    def gap(self) -> float:
        """Mean PSNR over the seeds less that of bicubic, in dB."""
        return fmean(self.psnr) - self.bicubic


def starts(
    experiments: Sequence[Path], image_set: str, root: str | None = None, seeds: int = 3
) -> Iterator[Start]:
    """Measure untrained networks on the central 96 HR pixels of a set's images.

    Args:
        experiments: Their files; the smallest scale of each is measured.
        image_set: Name of a set, or a folder of HR images.
        root: Data root.
        seeds: Seeds of the start.

    Raises:
        UserError: a file or the set is missing.
    """
    images = find_set(image_set, root)
    store = PixelStore.of_files(images.files, label=images.name)
    for path in experiments:
        scale, found, bicubic = 0.0, [], 0.0
        for seed in range(seeds):
            torch.manual_seed(seed)
            network = network_of_config(path).eval()
            scale = min(s for s in network.scales if s >= 1.5)
            parts = [EvaluationImage(images.name, store, i, scale) for i in range(len(store))]
            loader = DataLoader(EvaluationSet(parts, crop=_CROP), collate_fn=collate_one)
            evaluator = Evaluator(network, [PROTOCOLS[PROTOCOL]], ["psnr"], bicubic=True)
            by_method = {key[2]: mean for key, mean in means(evaluate(evaluator, loader)).items()}
            found.append(by_method["sr"]["psnr"])
            bicubic = by_method["bicubic"]["psnr"]
        yield Start(path.stem, type(network).__name__, scale, tuple(found), bicubic)
