"""The Lightning module that every paper builds on: steps, measuring, optimiser, warm start."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.plugins import MixedPrecision, Precision
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from sr_lightning.data.batch import Batch, LRBatch, check_batch
from sr_lightning.errors import UserError
from sr_lightning.inference.evaluate import Evaluator, Measured, Row, means, place_of
from sr_lightning.inference.upscaler import Upscaler
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.metrics.quality import METRICS
from sr_lightning.metrics.scores import ImageScores
from sr_lightning.nn.check import check_network
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.precision import set_layout
from sr_lightning.training.losses import PixelLoss
from sr_lightning.training.optimizers import hold_options, optimizer_facts
from sr_lightning.training.schedules import Schedule
from sr_lightning.training.warm_start import load_matching
from sr_lightning.weights.files import check_fit, describe_network, load_network

__all__ = ["SRModule"]


class SRModule(pl.LightningModule):
    """Trains and measures a network.

    It serves as it is for networks whose paper uses one of `loss` on the final prediction or on
    all supervised ones (the baselines); a paper with a loss of its own overrides :meth:`losses`.

    Args:
        network: What is trained.
        loss: Per pixel: "l1", "mse" or "charbonnier".
        supervise: The "last" prediction, or the mean loss over "all" that the network gives.
        optimizer: Makes the optimiser of the parameters.
        scheduler: Makes the learning-rate schedule of the optimiser, stepped per optimiser step.
        protocols: How validation and test images are measured; the first one chooses the best
            weights.
        metrics: Names of what is measured; the first one chooses the best weights.
        init_from: Weight file, checkpoint, folder of a run or name of the zoo to start from
            (shapes that differ are left as they are, so that a x2 network starts a x4 one). To
            go on with an interrupted run, use ``--ckpt_path`` or ``--run`` instead, which restore
            everything.
        ensemble: Measure with the 8-fold self-ensemble (the papers' "+" rows).
        tile: Measure and predict in tiles of this side (LR pixels); default: whole images.
        channels_last: Keep images and weights channels last in memory, which convolutions on
            CPUs and tensor cores prefer.

    Attributes:
        rows: Per-image results of the last test, gathered on every rank.
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
        metrics: Sequence[str] = ("psnr", "ssim"),
        init_from: str | None = None,
        ensemble: bool = False,
        tile: int | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        _check_names("protocols", protocols, PROTOCOLS)
        _check_names("metrics", metrics, METRICS)
        self.network = network
        self.pixel_loss = PixelLoss(loss)
        self.supervise = supervise
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.protocols = [PROTOCOLS[name] for name in protocols]
        self.metrics = list(metrics)
        self.init_from = init_from
        self.ensemble = ensemble
        self.tile = tile
        self.channels_last = channels_last
        self.rows: list[Row] = []
        self.val_scores = self._image_scores("sr")
        self.test_scores = self._image_scores("sr", "bicubic")

    def _image_scores(self, *methods: str) -> nn.ModuleDict:
        return nn.ModuleDict(
            {
                f"{method}/{protocol.name}": ImageScores(self.metrics)
                for method in methods
                for protocol in self.protocols
            }
        )

    @property
    def monitor(self) -> str:
        """Name of the number that chooses the best weights."""
        return f"val/{self.protocols[0].name}/{self.metrics[0]}"

    # ---- training -----------------------------------------------------------------------------

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale images by the network's (only or first) scale."""
        return self.network.upscale(lr, self.network.scales[0])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The paper's loss as "loss", and its parts under other names.

        Args:
            batch: Batch as the data contract says.
        """
        outputs, target = self.outputs_and_target(batch)
        if self.supervise == "last":
            outputs = outputs[-1:]
        losses = [self.pixel_loss(output, target) for output in outputs]
        return {"loss": torch.stack(losses).mean()}

    def outputs_and_target(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """What a loss compares: the supervised predictions in float32, and the HR images."""
        outputs = self.network.supervised_outputs(batch["lr"], batch["scale"])
        return [output.float() for output in outputs], self.network.target(batch["hr"])

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Refuse what is no batch; the same before each step of validation, test and prediction."""
        check_batch(batch, levels=batch_idx == 0)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        losses = self.losses(batch)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
        return losses["loss"]

    def configure_optimizers(self) -> Any:
        """The optimiser, and its schedule stepped per optimiser step.

        Raises:
            UserError: an option of one of them is impossible, such as a negative rate.
        """
        try:
            optimizer = self.optimizer(p for p in self.parameters() if p.requires_grad)
            if self.scheduler is None:
                return optimizer
            scheduler = self.scheduler(optimizer)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"model.optimizer or model.scheduler cannot be made: {error}"
            ) from error
        if isinstance(scheduler, Schedule) and scheduler.total_steps is None:
            scheduler.total_steps = self.trainer.max_steps
        steps: dict[str, Any] = {"scheduler": scheduler, "interval": "step"}
        if isinstance(scheduler, ReduceLROnPlateau):
            # It looks at a validation, which comes every so many batches.
            steps["frequency"] = self.trainer.val_check_interval
            steps["monitor"] = getattr(scheduler, "monitor", self.monitor)
        return {"optimizer": optimizer, "lr_scheduler": steps}

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
        """Check, warm start and memory layout, before the strategy takes the module over."""
        if stage == "fit":
            check_network(self.network)
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

    def evaluator(self, bicubic: bool = False) -> Evaluator:
        """What measures the network as this module's arguments say.

        Args:
            bicubic: Measure bicubic interpolation too.
        """
        return Evaluator(
            self.network,
            self.protocols,
            self.metrics,
            tile=self.tile,
            ensemble=self.ensemble,
            bicubic=bicubic,
        )

    def on_validation_batch_start(
        self, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """See :meth:`on_train_batch_start`."""
        check_batch(batch, levels=batch_idx == 0)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Measured]:
        """Measure one held-out image, in the training precision."""
        return self._measure(self.val_scores, batch, batch_idx, self.evaluator())

    def on_validation_epoch_end(self) -> None:
        """Log the mean over the held-out images."""
        for key, scores in _scores(self.val_scores):
            protocol = key.split("/")[1]
            for metric, value in scores.compute().items():
                name, first = f"val/{protocol}/{metric}", metric == self.metrics[0]
                self.log(name, value, prog_bar=first, rank_zero_only=True)
            scores.reset()

    def on_test_epoch_start(self) -> None:
        """Forget the images of a test before."""
        self._places: dict[int, Row] = {}

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """See :meth:`on_train_batch_start`."""
        check_batch(batch, levels=batch_idx == 0)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Measured]:
        """Measure one test image and its bicubic interpolation, in float32."""
        self._places[self._index(batch, batch_idx)] = place_of(batch)
        with self._exact():
            return self._measure(self.test_scores, batch, batch_idx, self.evaluator(bicubic=True))

    def on_test_epoch_end(self) -> None:
        """Gather the rows of all ranks and log means per set."""
        places = self._all_places()
        self.rows = []
        for key, scores in _scores(self.test_scores):
            method, protocol = key.split("/")
            scores.sync(should_sync=self.trainer.world_size > 1)
            for index, numbers in scores.rows().items():
                self.rows.append(
                    {**places[index], "method": method, "protocol": protocol, **numbers}
                )
            scores.unsync(should_unsync=scores._is_synced)
            scores.reset()
        self.rows.sort(key=lambda row: (row["protocol"], row["method"]))
        for (group, scale, method, protocol), numbers in means(self.rows).items():
            if method == "sr":
                where = f"test/{group}_x{scale:g}/{protocol}"
                logged = {f"{where}/{name}": numbers[name] for name in self.metrics}
                self.log_dict(logged, rank_zero_only=True)

    def _all_places(self) -> dict[int, Row]:
        """Set, scale and name of the test images of all ranks, by index."""
        parts: list[Any] = [self._places] * self.trainer.world_size
        if len(parts) > 1:
            torch.distributed.all_gather_object(parts, self._places)
        return {index: place for part in parts for index, place in part.items()}

    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """See :meth:`on_train_batch_start`."""
        check_batch(batch, hr=False, levels=batch_idx == 0)

    def predict_step(self, batch: LRBatch, batch_idx: int) -> Tensor:
        """Upscale one image, in float32."""
        with self._exact():
            return self.predict_image(batch["lr"], batch["scale"])

    def _index(self, batch: Batch, batch_idx: int) -> int:
        """Which image a batch holds; samplers deal images out to the ranks in turn."""
        return batch.get("index", batch_idx * self.trainer.world_size + self.global_rank)

    def _measure(
        self, scores: nn.ModuleDict, batch: Batch, batch_idx: int, evaluator: Evaluator
    ) -> dict[str, Measured]:
        measured = {f"{one.method}/{one.protocol.name}": one for one in evaluator.measure(batch)}
        for key, of_method in _scores(scores):
            of_method.update(measured[key].numbers, self._index(batch, batch_idx))
        return measured

    # ---- checkpoints --------------------------------------------------------------------------

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, map_location: Any = None, **kwargs: Any
    ) -> Self:
        """A module around the trained network, which the checkpoint says how to build.

        Args:
            checkpoint_path: Checkpoint of a run of this or of another module.
            map_location: Device to put the module on; default: the CPU.
            **kwargs: Arguments of this class other than the network, such as the weights of its
                loss; those of a run are in its ``config.yaml``.

        Raises:
            UserError: the checkpoint is missing or damaged, or does not fit its network.
        """
        return cls(load_network(checkpoint_path), **kwargs).train().to(map_location)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down how to build the network, so that a checkpoint can be used on its own."""
        checkpoint["network"] = describe_network(self.network)
        checkpoint["optimizer"] = self._optimizer_facts()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the optimiser's options of the config hold in a resumed run, not those it had.

        Raises:
            UserError: the weights do not fit the network, or the checkpoint has no optimiser or
                another one than the config names.
        """
        source = self._trainer.ckpt_path if self._trainer is not None else None
        check_fit(self.state_dict(), checkpoint["state_dict"], str(source or "The checkpoint"))
        resumed = self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING
        before = checkpoint.get("optimizer")
        if not resumed:
            return
        if not checkpoint.get("optimizer_states") or not isinstance(before, dict):
            raise UserError(
                f"{source} has no state of an optimiser to go on with; start a new run with "
                "--model.init_from, which takes the weights alone."
            )
        now = self._optimizer_facts()
        if now["class"] != before["class"]:
            raise UserError(
                f"The run was trained with {before['class']}, whose state {now['class']} cannot "
                "take over; start a new run with --model.init_from, which takes the weights alone."
            )
        hold_options(checkpoint, before, now, "optimizer")

    def _optimizer_facts(self) -> dict[str, Any]:
        """Class and plain options of the optimiser that the config describes."""
        return optimizer_facts(self.optimizer([nn.Parameter(torch.zeros(1))]))


def _scores(of_methods: nn.ModuleDict) -> Iterator[tuple[str, ImageScores]]:
    for key, scores in of_methods.items():
        assert isinstance(scores, ImageScores)
        yield key, scores


def _check_names(key: str, given: Sequence[str], known: Collection[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown or not given:
        raise UserError(
            f"model.{key}: {unknown or 'an empty list'} is not known; choose from "
            f"{', '.join(known)}."
        )
