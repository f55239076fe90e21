"""What happens around training: guards, throughput, progress, pictures, result tables."""

from __future__ import annotations

import csv
import io
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import (
    Callback,
    RichProgressBar,
)
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from sr_lightning.data.batch import Batch
from sr_lightning.data.images import read_photo, to_pixels, write_image
from sr_lightning.errors import UserError
from sr_lightning.files import write_json, write_whole, written_whole
from sr_lightning.inference.evaluate import Evaluator, Measured, Row, means, place_of
from sr_lightning.inference.photographs import write_upscaled
from sr_lightning.inference.pictures import comparison, save_crops, upscaled_lr
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.metrics.quality import METRICS, numbers_text
from sr_lightning.runs import RunFolder
from sr_lightning.training.curves import curves_of, draw
from sr_lightning.training.module import SRModule
from sr_lightning.training.provenance import commit, data_facts, hardware

__all__ = [
    "ImageStrips",
    "NonFiniteGuard",
    "PlainProgress",
    "PredictionWriter",
    "ResultTables",
    "StepProgress",
    "Throughput",
    "print_means",
]


class NonFiniteGuard(Callback):
    """Stops a run whose loss became NaN or infinite, before that reaches the weights.

    Args:
        every_n_steps: How often to look on a GPU, where looking waits for the device; on a CPU
            every step is checked.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        self.every_n_steps = every_n_steps

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        """Check one loss."""
        step = trainer.global_step
        if loss.device.type != "cpu" and step % self.every_n_steps:
            return
        if not torch.isfinite(loss):
            raise UserError(
                f"The loss became {loss.item()} at step {step}; no checkpoint was written since. "
                "Go on from the last one (--run) with a lower learning rate "
                "(--model.optimizer.lr), with --trainer.gradient_clip_val 1, or in float32 "
                "(--trainer.precision 32-true)."
            )


def logged_step(trainer: pl.Trainer) -> int:
    """Where Lightning logs the losses and validations of this moment: it counts steps from 0."""
    return max(0, trainer.global_step - 1)


class Throughput(Callback):
    """Logs images per second and milliseconds per step, validation left out."""

    def __init__(self) -> None:
        self._seconds, self._steps, self._images = 0.0, 0, 0
        self._mark: float | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock where it was stopped by validation."""
        if self._mark is None:
            self._mark = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._mark = None

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count a step; log now and then."""
        now = time.perf_counter()
        if self._mark is not None:
            self._seconds += now - self._mark
            self._steps += 1
            self._images += len(batch["lr"]) * trainer.world_size
        self._mark = now
        if self._steps and trainer.global_step % self._every(trainer) == 0:
            facts = {
                "perf/img_s": self._images / self._seconds,
                "perf/step_ms": 1e3 * self._seconds / self._steps,
            }
            if torch.cuda.is_available():
                facts["perf/max_mem_gb"] = torch.cuda.max_memory_allocated() / 2**30
            for logger in trainer.loggers:
                logger.log_metrics(facts, step=logged_step(trainer))
            self._seconds, self._steps, self._images = 0.0, 0, 0

    @staticmethod
    def _every(trainer: pl.Trainer) -> int:
        return max(1, int(trainer.log_every_n_steps))  # type: ignore[attr-defined]


class StepProgress(RichProgressBar):
    """Lightning's rich bar, in steps: there are no epochs here."""

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The validation metric by its last name; protocol and set are in the files."""
        shown = super().get_metrics(trainer, pl_module)
        return {k.rpartition("/")[2]: v for k, v in shown.items() if k != "v_num"}

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training"


class PlainProgress(Callback):
    """One line of progress now and then, for logs that are files.

    Args:
        every_s: Least seconds between two lines; default 30, or what the environment variable
            ``SR_PROGRESS_SECONDS`` says (a study asks its runs to speak up more often).
    """

    def __init__(self, every_s: float | None = None) -> None:
        asked = float(os.environ.get("SR_PROGRESS_SECONDS", 30))
        self.every_s = asked if every_s is None else every_s
        self._said = self._begun = 0.0
        self._first_step = 0

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember where this sitting began."""
        self._said = self._begun = time.monotonic()
        self._first_step = trainer.global_step

    @rank_zero_only
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Print a line if it is time."""
        now = time.monotonic()
        if now - self._said < self.every_s and trainer.global_step != trainer.max_steps:
            return
        self._said = now
        step, total = trainer.global_step, trainer.max_steps
        pace = (step - self._first_step) / max(1e-9, now - self._begun)
        left = (total - step) / pace if total > 0 and pace else 0.0
        loss = trainer.callback_metrics.get("train/loss")
        parts = [f"step {step:,}/{total:,}", f"{pace:.2f} steps/s", f"{_clock(left)} left"]
        if loss is not None:
            parts.insert(1, f"loss {float(loss):.5f}")
        _say("  ".join(parts))

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print what was measured."""
        if trainer.sanity_checking:
            return
        shown = [
            f"{name} {float(value):.4f}"
            for name, value in sorted(trainer.callback_metrics.items())
            if name.startswith("val/")
        ]
        _say(f"step {trainer.global_step:,}  " + "  ".join(shown))

    @rank_zero_only
    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember when this test began."""
        self._said = self._begun = time.monotonic()

    @rank_zero_only
    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print a line if it is time."""
        self._say_image("tested", batch_idx, sum(trainer.num_test_batches))

    @rank_zero_only
    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember when this prediction began."""
        self._said = self._begun = time.monotonic()

    @rank_zero_only
    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print a line if it is time."""
        self._say_image("upscaled", batch_idx, sum(trainer.num_predict_batches))

    def _say_image(self, done: str, index: int, total: float) -> None:
        """How far a walk over whole images is; they differ in size, so that no end is foretold."""
        now = time.monotonic()
        if now - self._said < self.every_s:
            return
        self._said = now
        pace = (now - self._begun) / (index + 1)
        _say(f"{done} {index + 1:,}/{total:,} images  {pace:.1f} s each")


def _say(line: str) -> None:
    """Print a line; nobody to read it any more is no reason to end a training."""
    with suppress(OSError):
        print(line, flush=True)


def _clock(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}"


class ImageStrips(Callback):
    """Saves strips LR | bicubic | SR | HR of the first images that are measured.

    A test also leaves the busiest square of each, pixel for pixel, in a folder beside the strip.

    Args:
        folder: Where to.
        count: Images per set.
        to_wandb: Also log the upscaled crops of validation images to W&B.
        every: Log to W&B at every so many validations.
    """

    def __init__(
        self, folder: RunFolder, count: int = 3, to_wandb: bool = False, every: int = 10
    ) -> None:
        self.folder = folder
        self.count = count
        self.to_wandb = to_wandb
        self.every = every
        self._drawn: dict[str, int] = {}
        self._validations = 0
        self.saved: list[Path] = []

    def _draw(
        self,
        pl_module: SRModule,
        batch: Batch,
        measured: Sequence[Measured],
        whole: int | None,
    ) -> Image.Image:
        lr, hr = batch["lr"].float().cpu(), batch["hr"].float().cpu()
        names = {"sr": label_of(pl_module), "bicubic": "bicubic"}
        size = (hr.shape[-2], hr.shape[-1])
        panels = [(f"LR (x{batch['scale']:g})", upscaled_lr(lr[0], size))]
        panels += [
            (f"{names[one.method]}  {numbers_text(one.numbers)}", one.image[0].float().cpu())
            for one in measured
        ]
        return comparison(panels, hr[0], whole=whole)

    @rank_zero_only
    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the first held-out images; the newest validation replaces the one before."""
        if trainer.sanity_checking or batch_idx >= self.count:
            return
        assert isinstance(pl_module, SRModule)
        shown = _under_first(pl_module, outputs)
        bicubic = Evaluator(None, [shown["sr"].protocol], pl_module.metrics)
        image = self._draw(pl_module, batch, [*bicubic.measure(batch), shown["sr"]], None)
        path = self.folder.images / "validation" / f"{batch['name'][0]}_x{batch['scale']:g}.png"
        if not _saved(image, path):
            return
        if self.to_wandb and self._validations % self.every == 0:
            for logger in trainer.loggers:
                if isinstance(logger, WandbLogger):
                    # Named by place, so that a dashboard can be made before any run.
                    logger.log_image(
                        f"val/images/{batch_idx}",
                        [image],
                        step=logged_step(trainer),
                        caption=[f"{batch['name'][0]} x{batch['scale']:g}"],
                    )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count validations."""
        self._validations += not trainer.sanity_checking

    @rank_zero_only
    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the first images of each test set."""
        group = f"{place_of(batch)['set']}_x{batch['scale']:g}"
        if self._drawn.get(group, 0) >= self.count:
            return
        assert isinstance(pl_module, SRModule)
        self._drawn[group] = self._drawn.get(group, 0) + 1
        shown = _under_first(pl_module, outputs)
        image = self._draw(pl_module, batch, [shown["bicubic"], shown["sr"]], 360)
        path = self.folder.images / group / f"{batch['name'][0]}.png"
        if not _saved(image, path):
            return
        self.saved.append(path)
        lr, hr = batch["lr"].float().cpu(), batch["hr"].float().cpu()
        methods = {name: one.image[0].float().cpu() for name, one in shown.items()}
        methods["hr"] = hr[0]
        save_crops(path.with_suffix(""), lr[0], methods, batch["scale"])


def _saved(image: Image.Image, path: Path) -> bool:
    """Whether a picture could be written; numbers and checkpoints matter more."""
    try:
        with written_whole(path) as part:
            image.save(part)
    except UserError as error:
        rank_zero_warn(f"{error} Training and testing go on without that picture.")
        return False
    return True


def _under_first(pl_module: SRModule, measured: dict[str, Measured]) -> dict[str, Measured]:
    """What was measured under the first protocol, by method."""
    first = pl_module.protocols[0]
    return {one.method: one for one in measured.values() if one.protocol == first}


def label_of(pl_module: SRModule) -> str:
    """Name of a module's network in tables and pictures."""
    return type(pl_module.network).__name__ + ("+" if pl_module.ensemble else "")


class PredictionWriter(Callback):
    """Saves upscaled images as PNG.

    Args:
        folder: Where to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Save one image, with what its file holds beside colours."""
        path = self.folder / f"{batch['name'][0]}_x{batch['scale']:g}.png"
        if "file" in batch:
            write_upscaled(path, outputs, read_photo(batch["file"]), batch["scale"])
        else:
            write_image(path, to_pixels(outputs[0]))


class ResultTables(Callback):
    """Writes per-image rows and means of a test to files, to the screen and to W&B.

    Args:
        folder: Folder of the run.
        pictures: Whether W&B's table has the strips of the images too.
    """

    def __init__(self, folder: RunFolder, pictures: bool = False) -> None:
        self.run = folder
        self.folder = folder.results
        self.pictures = pictures

    @rank_zero_only
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write everything."""
        assert isinstance(pl_module, SRModule)
        rows = pl_module.rows
        label = label_of(pl_module)
        rows = [
            {**row, "method": label if row["method"] == "sr" else row["method"]} for row in rows
        ]
        _write_csv(self.folder / "images.csv", rows)
        summary = {
            "method": label,
            "protocols": {p.name: p.summary for p in pl_module.protocols},
            "hardware": hardware(),
            "commit": commit(),
            "data": data_facts(trainer).get("test", {}),
            "means": [
                {
                    "set": group,
                    "scale": scale,
                    "method": method,
                    "protocol": protocol,
                    **numbers,
                }
                for (group, scale, method, protocol), numbers in means(rows).items()
            ],
        }
        write_json(self.folder / "summary.json", summary)
        print_means(rows)
        self._draw(summary["means"], pl_module.protocols[0].name)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                data = [list(row.values()) for row in rows]
                columns = list(rows[0])
                if self.pictures:
                    columns.append("picture")
                    data = [
                        [*line, self._picture(row)] for line, row in zip(data, rows, strict=True)
                    ]
                logger.log_table("test/images", columns=columns, data=data)

    def _picture(self, row: Row) -> Any:
        """The strip of a row's image, beside its network's numbers; of the first images alone."""
        import wandb

        folder = self.run.images / f"{row['set']}_x{row['scale']:g}"
        path = folder / f"{row['image']}.png"
        shown = path.is_file() and row["method"] != "bicubic"
        return wandb.Image(str(path)) if shown else None

    def _draw(self, averages: list[Row], protocol: str) -> None:
        """Draw PSNR over scale where a set was measured at several."""
        curves = curves_of(averages, protocol)
        path = self.folder / "arbitrary_scale.svg"
        path.unlink(missing_ok=True)
        if any(len(line) > 2 for lines in curves.values() for line in lines.values()):
            write_whole(path, draw(curves, protocol))


def _write_csv(path: Path, rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())


_MOST_COLUMNS = 5


def print_means(rows: list[Row]) -> None:
    """Print a table of means per set and scale by method, the protocol in the title."""
    console = Console(markup=False, width=None if sys.stdout.isatty() else 100)
    table_of = means(rows)
    for protocol in dict.fromkeys(key[3] for key in table_of):
        groups = list(
            dict.fromkeys((k[0], k[1], numbers["images"]) for k, numbers in table_of.items())
        )
        metrics = [name for name in METRICS if name in rows[0]]
        methods = list(dict.fromkeys(k[2] for k in table_of if k[3] == protocol))
        channel = "Y" if PROTOCOLS[protocol].channel == "y" else "RGB"
        # Outside the table, which may be too narrow for it.
        title = " / ".join(
            f"{METRICS[name].label}-{channel}"
            + f" ({METRICS[name].unit})" * bool(METRICS[name].unit)
            for name in metrics
        )
        console.print(f"{title}, protocol {protocol}:")
        console.print(f"  {PROTOCOLS[protocol].summary}", style="dim", highlight=False)
        ordered = sorted(methods, key=lambda name: name != "bicubic")
        cells = [
            [f"{group} x{scale:g} ({count})"]
            + [numbers_text(table_of[group, scale, m, protocol], unit=False) for m in ordered]
            for group, scale, count in groups
        ]
        lines = [["", *ordered], *cells]
        # A line per scale where columns would not fit beside each other.
        first, *body = lines if len(groups) > _MOST_COLUMNS else zip(*lines, strict=True)
        table = Table()
        for place, head in enumerate(first):
            table.add_column(head, justify="right" if place else "left")
        for line in body:
            table.add_row(*line)
        console.print(table)
