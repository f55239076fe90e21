"""The Lightning module that every paper builds on: steps, measuring, optimiser, warm start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.plugins import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor, nn
from torch.optim import Optimizer

from sr_lightning.data.degradation import bicubic_up, degrade
from sr_lightning.errors import UserError
from sr_lightning.inference.upscaler import Upscaler
from sr_lightning.metrics.protocol import PROTOCOLS, Protocol
from sr_lightning.metrics.quality import PSNR, SSIM, PerImageMetric
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.precision import set_layout
from sr_lightning.training.losses import PixelLoss
from sr_lightning.training.schedules import Schedule
from sr_lightning.training.warm_start import load_matching
from sr_lightning.weights.files import describe_network

__all__ = ["Row", "SRModule"]

Row = dict[str, Any]
"""One line of a result table: set, scale, image, method, protocol, psnr, ssim."""


class SRModule(pl.LightningModule):
    """Trains and measures a network.

    It serves as it is for networks whose paper uses one of `loss` on the final prediction or on
    all supervised ones (the baselines); a paper with a loss of its own overrides :meth:`losses`.

    Args:
        network: what is trained.
        loss: per pixel: "l1", "mse" or "charbonnier".
        supervise: the "last" prediction, or the mean loss over "all" that the network gives.
        optimizer: makes the optimiser of the parameters.
        scheduler: makes the learning-rate schedule of the optimiser, stepped per optimiser step.
        protocols: how validation and test images are measured; the first one chooses the best
            weights.
        init_from: weight file, checkpoint, folder of a run or name of the zoo to start from
            (shapes that differ are left as they are, so that a x2 network starts a x4 one). To
            go on with an interrupted run, use ``--ckpt_path`` or ``--run`` instead, which restore
            everything.
        ensemble: measure with the 8-fold self-ensemble (the papers' "+" rows).
        tile: measure and predict in tiles of this side (LR pixels); default: whole images.
        channels_last: keep images and weights channels last in memory, which convolutions on
            CPUs and tensor cores prefer.

    Attributes:
        rows: per-image results of the last test, gathered on every rank.
    """

    def __init__(
        self,
        network: SRNetwork,
        *,
        loss: Literal["l1", "mse", "charbonnier"] = "l1",
        supervise: Literal["last", "all"] = "last",
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        protocols: Sequence[str] = ("edsr2017",),
        init_from: str | None = None,
        ensemble: bool = False,
        tile: int | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        unknown = [name for name in protocols if name not in PROTOCOLS]
        if unknown or not protocols:
            raise UserError(
                f"model.protocols: {unknown or 'an empty list'} is not known; choose from "
                f"{', '.join(PROTOCOLS)}."
            )
        self.network = network
        self.pixel_loss = PixelLoss(loss)
        self.supervise = supervise
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.protocols = [PROTOCOLS[name] for name in protocols]
        self.init_from = init_from
        self.ensemble = ensemble
        self.tile = tile
        self.channels_last = channels_last
        self.rows: list[Row] = []
        self.val_metrics = self._metrics(("sr",))
        self.test_metrics = self._metrics(("sr", "bicubic"))

    def _metrics(self, methods: Sequence[str]) -> nn.ModuleDict:
        return nn.ModuleDict(
            {
                f"{method}/{protocol.name}": nn.ModuleDict(
                    {"psnr": PSNR(protocol), "ssim": SSIM(protocol)}
                )
                for method in methods
                for protocol in self.protocols
            }
        )

    @property
    def monitor(self) -> str:
        """Name of the metric that chooses the best weights."""
        return f"val/{self.protocols[0].name}/psnr"

    # ---- training -----------------------------------------------------------------------------

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge images by the network's (only or first) scale."""
        return self.network.enlarge(lr, self.network.scales[0])

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The paper's loss as "loss", and its parts under other names.

        Args:
            batch: as the data contract says.
        """
        target = self.network.target(batch["hr"])
        predictions = self.network.predictions(batch["lr"], batch["scale"])
        if self.supervise == "last":
            predictions = predictions[-1:]
        losses = [self.pixel_loss(prediction.float(), target) for prediction in predictions]
        return {"loss": torch.stack(losses).mean()}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of one batch."""
        losses = self.losses(batch)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
        return losses["loss"]

    def configure_optimizers(self) -> Any:
        """The optimiser, and its schedule stepped per optimiser step."""
        optimizer = self.optimizer(p for p in self.parameters() if p.requires_grad)
        if self.scheduler is None:
            return optimizer
        scheduler = self.scheduler(optimizer)
        if isinstance(scheduler, Schedule) and scheduler.total_steps is None:
            scheduler.total_steps = self.trainer.max_steps
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip, also with fused optimisers where no gradient scaler conflicts with them (bfloat16).

        Raises:
            UserError: there is one.
        """
        precision = self.trainer.precision_plugin
        if not gradient_clip_val or not isinstance(precision, MixedPrecision):
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )
            return
        if precision.scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            raise UserError(
                "In 16-mixed precision gradients of a fused optimizer cannot be clipped; give "
                "--model.optimizer.fused false, or --trainer.precision bf16-mixed."
            )
        # Lightning's own refuses every fused optimiser, scaler or none.
        algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
        Precision.clip_gradients(precision, optimizer, gradient_clip_val, algorithm)

    def setup(self, stage: str) -> None:
        """Warm start and memory layout, before the strategy takes the module over."""
        if stage == "fit" and self.init_from is not None:
            load_matching(self.network, self.init_from)
        self.set_channels_last(self.channels_last)

    def set_channels_last(self, wanted: bool) -> None:
        """Choose the memory layout of the weights; activations follow."""
        self.channels_last = wanted
        set_layout(self.network, wanted)

    # ---- measuring ----------------------------------------------------------------------------

    @contextmanager
    def _exact(self) -> Iterator[None]:
        """Reported numbers are computed in float32, whatever the training precision."""
        with torch.autocast(self.device.type, enabled=False):
            yield

    def predict_image(self, lr: Tensor, scale: float) -> Tensor:
        """The network's answer, with self-ensemble where asked for."""
        return Upscaler(self.network, tile=self.tile, ensemble=self.ensemble)(lr, scale)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Measure one held-out image, in the training precision."""
        outputs = {}
        for protocols, lr in self._inputs(batch):
            sr = self.predict_image(lr, batch["scale"]).float()
            for protocol in protocols:
                self._measure(self.val_metrics, "sr", protocol, sr, batch)
                outputs[protocol.name] = sr
        return outputs

    def on_validation_epoch_end(self) -> None:
        """Log the mean over the held-out images."""
        for name, metrics in self.val_metrics.items():
            protocol = name.split("/")[1]
            for kind, metric in _pairs(metrics):
                value = metric.compute()
                metric.reset()
                self.log(
                    f"val/{protocol}/{kind}", value, prog_bar=kind == "psnr", rank_zero_only=True
                )

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Measure one test image and its bicubic enlargement, in float32."""
        outputs = {}
        with self._exact():
            for protocols, lr in self._inputs(batch):
                sr = self.predict_image(lr, batch["scale"])
                bicubic = bicubic_up(lr, batch["scale"])
                for protocol in protocols:
                    self._measure(self.test_metrics, "sr", protocol, sr, batch)
                    self._measure(self.test_metrics, "bicubic", protocol, bicubic, batch)
                    outputs[protocol.name] = sr
        return outputs

    def on_test_epoch_end(self) -> None:
        """Gather the rows of all ranks and log means per set."""
        images = self.trainer.datamodule  # type: ignore[attr-defined]
        found: dict[tuple[int, str, str], Row] = {}
        for name, metrics in self.test_metrics.items():
            method, protocol = name.split("/")
            for kind, metric in _pairs(metrics):
                metric.sync(should_sync=self.trainer.world_size > 1)
                for index, value in sorted(metric.rows().items()):
                    image = images.evaluation_image(index)
                    row = found.setdefault(
                        (index, method, protocol),
                        {
                            "set": image.group,
                            "scale": image.scale,
                            "image": image.store.images[image.index].name,
                            "method": method,
                            "protocol": protocol,
                        },
                    )
                    row[kind] = value
                metric.unsync(should_unsync=metric._is_synced)
                metric.reset()
        self.rows = [found[key] for key in sorted(found, key=lambda k: (k[2], k[1], k[0]))]
        for (group, scale, method, protocol), (psnr, ssim, _) in means(self.rows).items():
            if method == "sr":
                where = f"test/{group}_x{scale:g}/{protocol}"
                self.log_dict({f"{where}/psnr": psnr, f"{where}/ssim": ssim}, rank_zero_only=True)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Enlarge one image, in float32."""
        with self._exact():
            return self.predict_image(batch["lr"], batch["scale"])

    def _inputs(self, batch: dict[str, Any]) -> Iterator[tuple[list[Protocol], Tensor]]:
        """The LR images to enlarge, each once, and the protocols that measure the answer."""
        for recipe in dict.fromkeys(protocol.lr for protocol in self.protocols):
            lr: Tensor = batch["lr"]
            if recipe != "rgb_uint8":
                lr = degrade(batch["hr"], batch["scale"], recipe, grey=bool(batch.get("grey")))
            yield [protocol for protocol in self.protocols if protocol.lr == recipe], lr

    def _measure(
        self,
        metrics: nn.ModuleDict,
        method: str,
        protocol: Protocol,
        sr: Tensor,
        batch: dict[str, Any],
    ) -> None:
        a, b = protocol.compared(sr, batch["hr"], batch["scale"], bool(batch.get("grey")))
        group = metrics[f"{method}/{protocol.name}"]
        assert isinstance(group, nn.ModuleDict)
        for _, metric in _pairs(group):
            metric.update(a, b, batch["index"])

    # ---- checkpoints --------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down how to build the network, so that a checkpoint can be used on its own."""
        checkpoint["network"] = describe_network(self.network)


def means(rows: Sequence[Row]) -> dict[tuple[str, float, str, str], tuple[float, float, int]]:
    """Mean PSNR, mean SSIM and number of images by (set, scale, method, protocol)."""
    groups: dict[tuple[str, float, str, str], list[Row]] = {}
    for row in rows:
        key = (row["set"], row["scale"], row["method"], row["protocol"])
        groups.setdefault(key, []).append(row)
    return {
        key: (
            sum(row["psnr"] for row in group) / len(group),
            sum(row["ssim"] for row in group) / len(group),
            len(group),
        )
        for key, group in groups.items()
    }


def _pairs(metrics: nn.Module) -> Iterator[tuple[str, PerImageMetric]]:
    for kind, metric in metrics.named_children():
        assert isinstance(metric, PerImageMetric)
        yield kind, metric
