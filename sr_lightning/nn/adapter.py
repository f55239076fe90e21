"""A plain ``nn.Module`` as a network of the suite: what it takes and gives, said in a config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sr_lightning.classes import find_class
from sr_lightning.colour import rgb_to_y
from sr_lightning.errors import UserError
from sr_lightning.nn.network import SRNetwork, upscale_y
from sr_lightning.nn.precision import full_precision

__all__ = ["Adapted"]


class Adapted(SRNetwork):
    """Wraps a module that maps an LR image to an HR image and knows nothing of this suite.

    Args:
        module: Its class and arguments, as ``{class_path: mynet.Net, init_args: {width: 8}}``.
        scale: Factor that it upscales by.
        colour: "rgb" where it takes and gives three channels, "y" where it takes and gives one,
            luminance (MATLAB's BT.601, 16 to 235 of 255).
        range: Value of full white in its images, 1 or 255.
        mean: Subtracted from each channel of its input and added to its output, in [0, 1]; default
            nothing.
        multiple: It only takes images whose sides are a multiple of this; others are padded at the
            right and the bottom by repeating their border, and the result is cropped.
        receptive_field: Side of the square of LR pixels that an LR pixel's output depends on; None
            where it is not known or the whole image, so that tiles only approximate.

    Raises:
        UserError: `module` names no ``nn.Module`` that may be imported, or its arguments are wrong.
    """

    mean: Tensor

    def __init__(
        self,
        module: dict[str, Any],
        scale: int = 4,
        colour: Literal["rgb", "y"] = "rgb",
        range: float = 1.0,
        mean: Sequence[float] | None = None,
        multiple: int = 1,
        receptive_field: int | None = None,
    ) -> None:
        super().__init__()
        path = str(module.get("class_path"))
        try:
            self.module = find_class(path, nn.Module)(**module.get("init_args", {}))
        except TypeError as error:
            raise UserError(f"{path} cannot be built: {error}.") from error
        channels = 3 if colour == "rgb" else 1
        means = [0.0] * channels if mean is None else list(mean)
        if len(means) != channels:
            raise UserError(f"mean: colour '{colour}' has {channels} channels, not {len(means)}.")
        self.scales = (scale,)
        self.colour = colour
        self.range = range
        self.multiple = multiple
        self._field = receptive_field
        self.register_buffer("mean", torch.tensor(means).reshape(-1, 1, 1), persistent=False)

    @property
    def receptive_field(self) -> int | None:
        """As stated; padding and cropping do not change it."""
        return self._field

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`."""
        if self.colour == "rgb":
            return self._predict(lr)
        return upscale_y(lr, self._predict, self.scale)

    def supervised_outputs(self, lr: Tensor, scale: float | None = None) -> list[Tensor]:
        """The prediction in `colour`; see :meth:`SRNetwork.supervised_outputs`."""
        self.resolved(scale)
        if self.colour == "rgb":
            return [self._predict(lr)]
        with full_precision(lr):
            y = rgb_to_y(lr.float())
        return [self._predict(y)]

    def _predict(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        given = (image - self.mean) * self.range
        missing = (-width % self.multiple, -height % self.multiple)
        if self.multiple > 1:
            given = nn.functional.pad(given, (0, missing[0], 0, missing[1]), "replicate")
        result = self.module(given)[..., : height * self.scale, : width * self.scale]
        return result / self.range + self.mean  # type: ignore[no-any-return]
