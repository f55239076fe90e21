"""What every network of the suite is: the contract that tiling, export and tables rely on."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sr_lightning.colour import rgb_to_y, rgb_to_ycbcr, ycbcr_to_rgb
from sr_lightning.nn.bicubic import bicubic
from sr_lightning.nn.precision import full_precision
from sr_lightning.nn.start import draw_by_name

__all__ = ["PreUpsamplingYNetwork", "SRNetwork", "YNetwork", "upscale_y"]


def _remembering(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap a constructor so that the outermost one records its arguments in `config`.

    It also gives every tensor a start of its own; see :func:`~sr_lightning.nn.start.draw_by_name`.
    """
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapped(self: SRNetwork, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        given = {k: v for k, v in bound.arguments.items() if k != "self"}
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                given |= given.pop(name)
            elif parameter.kind is inspect.Parameter.VAR_POSITIONAL and not given[name]:
                del given[name]
        draw_by_name(self, lambda: init(self, *args, **kwargs))
        # Set after the constructor: an outer one overwrites what its base recorded.
        self.config = given

    return wrapped


class SRNetwork(nn.Module):
    """A super-resolution network: RGB in [0, 1] in, RGB out, `scale` times larger.

    Subclasses take plain numbers and strings in their constructor, which are remembered in
    `config`, so that a weight file can say how to build its network. A network of one scale
    implements ``forward(lr)``, one of several sets `takes_scale` and implements
    ``forward(lr, scale)``. Where a paper supervises more than the result, a network implements
    ``supervised_outputs(lr, scale=None)`` as well.

    Attributes:
        scales: Scales that the network is made for; an arbitrary-scale network lists those that it
            is trained and validated at.
        takes_scale: Whether `forward` has a second argument, the scale.
        arbitrary_scale: Whether it upscales by every real scale from 1 on, and not by `scales`
            alone.
        config: Constructor arguments, defaults included.
        colour: What its predictions are supervised in, "rgb" or "y".
    """

    scales: tuple[float, ...]
    takes_scale: bool = False
    arbitrary_scale: bool = False
    config: dict[str, Any]
    colour: Literal["rgb", "y"] = "rgb"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _remembering(cls.__init__)  # type: ignore[method-assign]

    @property
    def scale(self) -> int:
        """The scale of a single-scale network."""
        (scale,) = self.scales
        return int(scale)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights; float32 where there are none."""
        return next((p.dtype for p in self.parameters()), torch.float32)

    @property
    def receptive_field(self) -> int | None:
        """Side of the square of LR pixels that one LR pixel's output depends on (odd).

        Tiles that overlap by half of it give the whole image's result exactly. None means the
        whole image (global pooling or attention): tiles then only approximate.
        """
        return None

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale images.

        Args:
            lr: (N, 3, H, W) RGB in [0, 1].

        Returns:
            (N, 3, scale * H, scale * W), not clamped.
        """
        raise NotImplementedError

    def upscale(self, lr: Tensor, scale: float) -> Tensor:
        """`forward` at a scale, whether or not the network takes one.

        Raises:
            ValueError: the network is not made for that scale.
        """
        self.resolved(scale)
        if self.takes_scale:
            return self(lr, scale)  # type: ignore[no-any-return]
        return self(lr)  # type: ignore[no-any-return]

    def supervised_outputs(self, lr: Tensor, scale: float | None = None) -> list[Tensor]:
        """All predictions that the paper supervises, the final one last, in `colour`.

        Args:
            lr: (N, 3, H, W) RGB in [0, 1].
            scale: One of the network's; one that has a single scale needs none.

        Raises:
            ValueError: the network is not made for that scale.
        """
        return [self.upscale(lr, self.resolved(scale))]

    def supports_scale(self, scale: float) -> bool:
        """Whether the network is made for a scale."""
        return scale in self.scales or (self.arbitrary_scale and 1 <= scale < math.inf)

    def target(self, hr: Tensor) -> Tensor:
        """What predictions are compared with in training: HR images in `colour`."""
        return hr if self.colour == "rgb" else rgb_to_y(hr)

    def resolved(self, scale: float | None) -> float:
        """The scale to work at: the one given or, without it, the only one of the network.

        Raises:
            ValueError: the network is not made for that scale, or has several.
        """
        own = " or ".join(f"{one:g}" for one in self.scales)
        if scale is None:
            if len(self.scales) != 1:
                raise ValueError(f"This {type(self).__name__} needs a scale: {own}.")
            return self.scales[0]
        if not self.supports_scale(scale):
            raise ValueError(f"This {type(self).__name__} upscales by {own}, not by {scale:g}.")
        return scale


def upscale_y(lr: Tensor, predict: Callable[[Tensor], Tensor], scale: float) -> Tensor:
    """Upscale RGB images through a network that sees luminance only.

    The colour difference channels are upscaled by bicubic, as the papers of the Y era did with
    their figures.

    Args:
        lr: (N, 3, H, W) RGB in [0, 1].
        predict: Upscales luminance, (N, 1, H, W) in [16, 235] / 255.
        scale: Scale by which `predict` upscales.
    """
    if lr.is_meta:
        # Costs are counted there, and no paper counts the colour transforms.
        return predict(lr[:, :1]).expand(-1, 3, -1, -1)
    with full_precision(lr):
        ycbcr = rgb_to_ycbcr(lr.float())
    y = predict(ycbcr[:, :1])
    with full_precision(lr):
        return ycbcr_to_rgb(torch.cat([y.float(), bicubic(ycbcr[:, 1:], scale)], dim=1))


class YNetwork(SRNetwork):
    """A network that sees and predicts luminance only, and converts at its own boundary.

    Subclasses implement :meth:`predict`.

    Args:
        scales: Scales that it is made for.
    """

    colour = "y"

    def __init__(self, scales: Sequence[float]) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.takes_scale = len(self.scales) > 1

    def predict(self, y: Tensor, scale: float) -> list[Tensor]:
        """Predictions of luminance, the final one last.

        Args:
            y: (N, 1, H, W) in [16, 235] / 255.
            scale: Scale, one of `scales`.

        Returns:
            (N, 1, scale * H, scale * W) each.
        """
        raise NotImplementedError

    def forward(self, lr: Tensor, scale: float | None = None) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`."""
        by = self.resolved(scale)
        return upscale_y(lr, lambda y: self.predict(y.to(self.dtype), by)[-1], by)

    def supervised_outputs(self, lr: Tensor, scale: float | None = None) -> list[Tensor]:
        """Predictions of luminance; see :meth:`SRNetwork.supervised_outputs`."""
        with full_precision(lr):
            y = rgb_to_y(lr.float()).to(self.dtype)
        return self.predict(y, self.resolved(scale))


class PreUpsamplingYNetwork(YNetwork):
    """A luminance network whose input is the bicubic-upscaled image (SRCNN, VDSR and kin).

    Subclasses implement :meth:`refine`.
    """

    def refine(self, y: Tensor) -> list[Tensor]:
        """Predictions from interpolated luminance, the final one last, all of its size.

        Args:
            y: (N, 1, sH, sW).
        """
        raise NotImplementedError

    def predict(self, y: Tensor, scale: float) -> list[Tensor]:
        """Interpolate, then refine; see :meth:`YNetwork.predict`."""
        return self.refine(bicubic(y, scale))
