"""Losses of the papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.errors import UserError
from sr_lightning.nn.precision import full_precision

__all__ = ["DeepSupervision", "PixelLoss", "ssim_loss", "zero_of"]


class PixelLoss(nn.Module):
    """Mean error per sample of a pixel.

    Args:
        kind: "l1"; "mse"; or "charbonnier", sqrt(x^2 + eps^2) as LapSRN has it (kornia's is
            another function).
        eps: Epsilon of Charbonnier.
    """

    def __init__(self, kind: Literal["l1", "mse", "charbonnier"] = "l1", eps: float = 1e-3) -> None:
        super().__init__()
        self.kind = kind
        self.eps = eps

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of two tensors of one shape."""
        if self.kind == "l1":
            return F.l1_loss(prediction, target)
        if self.kind == "mse":
            return F.mse_loss(prediction, target)
        return torch.sqrt((prediction - target).square() + self.eps**2).mean()


class DeepSupervision:
    """Weighted sum of a loss over the predictions that a paper supervises.

    Args:
        outputs: Names of the predictions, in the network's order.
        weights: One weight per prediction; default: equal, summing to 1.
        key: Name of the weights in the config, for the error.

    Raises:
        UserError: there are more or fewer weights than predictions.
    """

    def __init__(self, outputs: Sequence[str], weights: Sequence[float] | None, key: str) -> None:
        if weights is not None and len(weights) != len(outputs):
            raise UserError(
                f"{key} has {len(weights)} numbers, but {len(outputs)} predictions are supervised "
                f"({', '.join(outputs)})."
            )
        self.outputs = tuple(outputs)
        self.weights = tuple(weights or [1 / len(outputs)] * len(outputs))

    def __call__(self, losses: Sequence[Tensor]) -> Tensor:
        """The weighted sum.

        Args:
            losses: Scalar loss of each prediction, in the order of `outputs`.
        """
        weighted = [w * loss for w, loss in zip(self.weights, losses, strict=True)]
        return torch.stack(weighted).sum()

    def named(self, kind: str, losses: Sequence[Tensor]) -> dict[str, Tensor]:
        """The losses as ``<kind>_<output>``, to be logged."""
        return {f"{kind}_{name}": loss for name, loss in zip(self.outputs, losses, strict=True)}


def zero_of(module: nn.Module) -> Tensor:
    """Zero that depends on every parameter, so that each gets a gradient, if only of zeros.

    Args:
        module: Module that takes no part in some batches.
    """
    return 0 * torch.stack([parameter.sum() for parameter in module.parameters()]).sum()


def ssim_loss(prediction: Tensor, target: Tensor, window: int = 11) -> Tensor:
    """1 - SSIM, averaged over the valid region of all images and channels.

    The same function as the metric (Gaussian window of sigma 1.5), arranged for training patches:
    the blur is two small matrix products, and what concerns the target alone takes no part in the
    backward pass. The images are centred so that float32 keeps the variances.

    Args:
        prediction: (N, C, H, W) in about [0, 1].
        target: The same shape.
        window: Side of the window; shrunk to the image where that is smaller.

    Returns:
        Scalar in [0, 2].
    """
    with full_precision(prediction):
        a, b = prediction.float() - 0.5, target.float() - 0.5
        height, width = a.shape[-2:]
        window = min(window, height, width)
        rows, columns = _blur_matrix(height, window, a), _blur_matrix(width, window, a).T

        def blur(image: Tensor) -> Tensor:
            return rows @ (image @ columns)

        mean_a, mean_b = blur(a), blur(b)
        variance_a = blur(a * a) - mean_a * mean_a
        variance_b = blur(b * b) - mean_b * mean_b
        covariance = blur(a * b) - mean_a * mean_b
        mean_a, mean_b = mean_a + 0.5, mean_b + 0.5
        c1, c2 = 0.01**2, 0.03**2
        similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
            (mean_a * mean_a + mean_b * mean_b + c1) * (variance_a + variance_b + c2)
        )
        return 1 - similarity.mean()


def _blur_matrix(size: int, window: int, like: Tensor) -> Tensor:
    """Gaussian blur over the valid region as a (size - window + 1, size) matrix."""
    distance = torch.arange(size, device=like.device) - torch.arange(
        size - window + 1, device=like.device
    ).unsqueeze(1)
    x = distance.to(like.dtype) - (window - 1) / 2
    weight = torch.exp(-x.square() / (2 * 1.5**2)) * ((distance >= 0) & (distance < window))
    return weight / weight.sum(dim=1, keepdim=True)
