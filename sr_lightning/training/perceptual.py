"""The perceptual loss: how far apart two images are for a network that knows photographs.

Papers: "Perceptual Losses" (Johnson, Alahi and Fei-Fei, ECCV 2016) had the idea, "ESRGAN" (Wang et
al., ECCV Workshops 2018, https://arxiv.org/abs/1809.00219) took features before activation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_lightning.errors import UserError
from sr_lightning.files import user_path
from sr_lightning.nn.vgg import VGG19Features
from sr_lightning.weights.files import check_fit
from sr_lightning.weights.formats import read_external

__all__ = ["PerceptualLoss"]

_VGG19 = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"


class PerceptualLoss:
    """Mean L1 distance of VGG19's features before activation (ESRGAN, section 3.3).

    It is no `nn.Module`, so that no optimiser, average or checkpoint holds VGG19's weights.

    Args:
        layers: Weights of :attr:`VGG19Features.LAYERS`.
        file: VGG19's state dict with torchvision's names; default: fetched once by `torch.hub`.

    Raises:
        UserError: there are not five weights, or the state dict cannot be had or is another one.
    """

    def __init__(self, layers: Sequence[float], file: str | None = None) -> None:
        names = VGG19Features.LAYERS
        if len(layers) != len(names) or not min(layers) >= 0:
            raise UserError(
                f"model.perceptual_layers is {list(layers)}; give {len(names)} weights of 0 or "
                f"more, for {', '.join(names)}."
            )
        self.layers = tuple(layers)
        self.vgg = VGG19Features().requires_grad_(False).eval()
        own, given = self.vgg.state_dict(), _vgg19_weights(file)
        # What classifies images is left out.
        fitting = {name: value for name, value in given.items() if name in own}
        check_fit(own, fitting, file or _VGG19)
        self.vgg.load_state_dict(fitting)

    def __call__(self, sr: Tensor, hr: Tensor) -> Tensor:
        """Scalar loss of two images, (N, 3, H, W) in about [0, 1]."""
        self.vgg.to(sr.device)
        pairs = zip(self.layers, self.vgg(sr), self.vgg(hr), strict=True)
        distances = [weight * F.l1_loss(a.float(), b.float()) for weight, a, b in pairs]
        return torch.stack(distances).sum()


def _vgg19_weights(file: str | None) -> Mapping[str, Any]:
    if file is not None:
        return read_external(user_path(file)).tensors
    try:
        fetched: dict[str, Any] = torch.hub.load_state_dict_from_url(
            _VGG19, map_location="cpu", check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"The perceptual loss needs VGG19's weights, and {_VGG19} cannot be fetched ({error}); "
            "give the file as --model.perceptual_file, or --model.perceptual_weight 0."
        ) from error
    return fetched
