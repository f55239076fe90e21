"""Training for looks: pixel, perceptual and adversarial loss, as ESRGAN and Real-ESRGAN have them.

Papers: "ESRGAN" (Wang et al., ECCV Workshops 2018, https://arxiv.org/abs/1809.00219) and
"Real-ESRGAN" (Wang et al., ICCV Workshops 2021, https://arxiv.org/abs/2107.10833).
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from sr_lightning.data.batch import Batch
from sr_lightning.errors import UserError
from sr_lightning.metrics.quality import METRICS
from sr_lightning.nn.discriminator import UNetDiscriminator
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.precision import set_layout
from sr_lightning.training.module import SRModule
from sr_lightning.training.optimizers import hold_options, optimizer_facts
from sr_lightning.training.perceptual import PerceptualLoss
from sr_lightning.training.schedules import Schedule

__all__ = ["AdversarialModule"]

# VGG19 halves a patch four times, the discriminator three times.
_SMALLEST = 16


class AdversarialModule(SRModule):
    """Trains a network against a discriminator that learns to tell its images from photographs.

    The network's loss is ``pixel_weight * pixel + perceptual_weight * perceptual +
    adversarial_weight * adversarial``; the adversarial part is the cross-entropy of being taken
    for a photograph (not ESRGAN's relativistic one, which Real-ESRGAN gave up and whose mean over
    the batch is another one on several devices). Defaults are Real-ESRGAN's (section 4.1). A
    network of luminance is judged by luminance.

    Both losses are of the state before a step, as in Real-ESRGAN's released training, where the
    network steps first and the discriminator judges the images made before. So one backward pass
    gives both gradients, and a batch is one step of the run: Lightning counts the network's, and
    the discriminator's is made beside it.

    Args:
        network: What is trained; start it from a trained one by `init_from`.
        pixel_weight: Weight of `loss` per pixel.
        perceptual_weight: Weight of :class:`PerceptualLoss`; with 0, VGG19 is not needed.
        adversarial_weight: Weight of the adversarial loss; with 0 the discriminator learns alone.
        perceptual_layers: Weights of conv1_2, conv2_2, conv3_4, conv4_4, conv5_4.
        perceptual_file: VGG19's state dict with torchvision's names; default: fetched once.
        discriminator_channels: Width of the discriminator at full size.
        discriminator_optimizer: Makes the optimiser of the discriminator.
        discriminator_scheduler: Makes its schedule, stepped per step.
        **kwargs: Arguments of :class:`~sr_lightning.training.module.SRModule`.

    Raises:
        UserError: a weight is negative.
    """

    def __init__(
        self,
        network: SRNetwork,
        *,
        pixel_weight: float = 1.0,
        perceptual_weight: float = 1.0,
        adversarial_weight: float = 0.1,
        perceptual_layers: tuple[float, ...] = (0.1, 0.1, 1.0, 1.0, 1.0),
        perceptual_file: str | None = None,
        discriminator_channels: int = 64,
        discriminator_optimizer: OptimizerCallable = torch.optim.Adam,
        discriminator_scheduler: LRSchedulerCallable | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, **kwargs)
        self.loss_weights = {
            "pixel": pixel_weight,
            "perceptual": perceptual_weight,
            "adversarial": adversarial_weight,
        }
        if negative := [name for name, weight in self.loss_weights.items() if not weight >= 0]:
            raise UserError(f"model.{negative[0]}_weight is negative; give 0 or more.")
        self.perceptual_layers = perceptual_layers
        self.perceptual_file = perceptual_file
        self.discriminator = UNetDiscriminator(discriminator_channels)
        self.discriminator_optimizer = discriminator_optimizer
        self.discriminator_scheduler = discriminator_scheduler
        self._perceptual: PerceptualLoss | None = None
        # The discriminator's optimiser and schedule, and what a resumed run has of them.
        self._opponent: Optimizer | None = None
        self._schedule: Any = None
        self._resumed: dict[str, Any] | None = None

    def setup(self, stage: str) -> None:
        """Also get VGG19, which training alone needs."""
        super().setup(stage)
        fit = stage == "fit"
        if fit and self.loss_weights["perceptual"] and self._perceptual is None:
            self._perceptual = PerceptualLoss(self.perceptual_layers, self.perceptual_file)
        if fit and METRICS[self.metrics[0]].higher_is_better:
            # LPIPS, DISTS and NIQE are distances.
            rank_zero_warn(
                f"{self.metrics[0]} chooses the best checkpoint, and falls as images sharpen: take "
                "the last, or choose by --model.metrics '[lpips, psnr]' --model.protocols '[rgb]'."
            )

    def set_channels_last(self, wanted: bool) -> None:
        """Choose the memory layout of both networks' weights; activations follow."""
        super().set_channels_last(wanted)
        set_layout(self.discriminator, wanted)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The network's loss as "loss" and its parts; the discriminator's, and its mean answers."""
        outputs, target = self.outputs_and_target(batch)
        supervised = outputs if self.supervise == "all" else outputs[-1:]
        sr, hr = (image.expand(-1, 3, -1, -1) for image in (outputs[-1], target))
        if (side := min(sr.shape[-2:])) < _SMALLEST:
            words = (
                f"Adversarial training needs HR patches of {_SMALLEST} pixels or more, not {side}"
            )
            raise UserError(f"{words}; raise data.patch_size.")
        pixel = torch.stack([self.pixel_loss(output, target) for output in supervised]).mean()
        # Predictions without a loss get gradients of zeros, which several devices wait for.
        idle = torch.stack([0 * output.mean() for output in outputs]).sum()
        parts = {"pixel": pixel + idle}
        if self._perceptual is not None:
            parts["perceptual"] = self._perceptual(sr, hr)
        # The network learns from the discriminator as it is, which gets no gradient of that.
        self.discriminator.requires_grad_(False)
        parts["adversarial"] = F.softplus(-self.discriminator(sr)).mean()
        self.discriminator.requires_grad_(True)
        of_sr, of_hr = self.discriminator(torch.cat([sr.detach(), hr])).chunk(2)
        return {
            "loss": torch.stack(
                [self.loss_weights[name] * part for name, part in parts.items()]
            ).sum(),
            **parts,
            "discriminator": F.softplus(-of_hr).mean() + F.softplus(of_sr).mean(),
            "score_hr": of_hr.detach().sigmoid().mean(),
            "score_sr": of_sr.detach().sigmoid().mean(),
        }

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch: the network's and the discriminator's, which share no weight."""
        losses = self.losses(batch)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
        return losses["loss"] + losses["discriminator"]

    def configure_optimizers(self) -> Any:
        """Lightning's optimiser, of the network alone; the discriminator's is made beside it.

        Raises:
            UserError: an option of one of them is impossible, or a resumed run had another one.
        """
        self.discriminator.requires_grad_(False)
        of_network = super().configure_optimizers()
        self.discriminator.requires_grad_(True)
        make = self.discriminator_scheduler
        try:
            self._opponent = self.discriminator_optimizer(self.discriminator.parameters())
            self._schedule = None if make is None else make(self._opponent)
        except (TypeError, ValueError) as error:
            key = "model.discriminator_optimizer or model.discriminator_scheduler"
            raise UserError(f"{key} cannot be made: {error}") from error
        if isinstance(self._schedule, ReduceLROnPlateau):
            raise UserError(
                "model.discriminator_scheduler: nothing measures a discriminator; name another."
            )
        if isinstance(self._schedule, Schedule) and self._schedule.total_steps is None:
            self._schedule.total_steps = self.trainer.max_steps
        if self._resumed is not None:
            self._restore(self._resumed)
            self._resumed = None
        return of_network

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Forget the gradients of both, once a step: batches may be accumulated."""
        super().optimizer_zero_grad(epoch, batch_idx, optimizer)
        self.discriminator.zero_grad()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Step the discriminator, just before Lightning steps the network."""
        assert self._opponent is not None
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None and not getattr(self._opponent, "_step_supports_amp_scaling", False):
            scaler.unscale_(self._opponent)
        self.configure_gradient_clipping(
            self._opponent, self.trainer.gradient_clip_val, self.trainer.gradient_clip_algorithm
        )
        if scaler is None:
            self._opponent.step()
        else:
            scaler.step(self._opponent)
        if self._schedule is not None:
            self._schedule.step()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the discriminator's optimiser and schedule; its weights stand with the network's."""
        super().on_save_checkpoint(checkpoint)
        if self._opponent is not None:
            checkpoint["discriminator"] = {
                **optimizer_facts(self._opponent),
                "optimizer_states": [self._opponent.state_dict()],
                "lr_schedulers": [] if self._schedule is None else [self._schedule.state_dict()],
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let a resumed run go on with the discriminator's optimiser, too.

        Raises:
            UserError: the checkpoint has none.
        """
        if self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING:
            self._resumed = checkpoint.get("discriminator")
            if not isinstance(self._resumed, dict):
                raise UserError(
                    f"{self._trainer.ckpt_path} has no discriminator to go on with; start a new "
                    "run with --model.init_from, which takes the network alone."
                )
        super().on_load_checkpoint(checkpoint)

    def _restore(self, before: dict[str, Any]) -> None:
        """Take over a state; options that the config has changed since hold, as the network's."""
        assert self._opponent is not None
        now = optimizer_facts(self._opponent)
        if now["class"] != before["class"]:
            raise UserError(
                f"The discriminator was trained with {before['class']}, whose state {now['class']} "
                f"cannot take over; name {before['class']} as model.discriminator_optimizer."
            )
        hold_options(before, before, now, "discriminator_optimizer")
        self._opponent.load_state_dict(before["optimizer_states"][0])
        if self._schedule is not None and before["lr_schedulers"]:
            self._schedule.load_state_dict(before["lr_schedulers"][0])
