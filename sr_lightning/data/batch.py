"""The batch: what data modules give and what modules are trained and measured with."""

from __future__ import annotations

from numbers import Real
from typing import NotRequired, TypedDict

from torch import Tensor

from sr_lightning.cubic import upscaled_size
from sr_lightning.data.images import check_range
from sr_lightning.errors import UserError

__all__ = ["Batch", "LRBatch", "check_batch"]

# Networks and resizes overshoot [0, 1] a little, noise more; levels of 0 to 255 are what to find.
_BEYOND = 1.0


class LRBatch(TypedDict):
    """Images to upscale, of which there are no HR images.

    Attributes:
        lr: (N, 3, H, W) float RGB in [0, 1].
        scale: Scale that all of them are upscaled by.
        name: One for each image.
    """

    lr: Tensor
    scale: float
    name: list[str]


class Batch(LRBatch):
    """Images to train on, or one image to measure.

    Attributes:
        hr: (N, 3, scale * H, scale * W) float RGB in [0, 1].
        set: Set that the image is of; results are averaged over each set.
        index: Index of the image among all that are measured; default: by its place in the loader.
        grey: Whether the HR file holds one channel, which protocols measure in their own ways.
    """

    hr: Tensor
    set: NotRequired[str]
    index: NotRequired[int]
    grey: NotRequired[bool]


def check_batch(batch: object, *, hr: bool = True, levels: bool = False) -> None:
    """Refuse what is no batch.

    Args:
        batch: Batch that a data loader gave.
        hr: Whether HR images are needed.
        levels: Look at every pixel, too.

    Raises:
        UserError: a key is missing, or holds what it should not.
    """
    needed = [key for key in ("lr", "hr", "scale", "name") if hr or key != "hr"]
    if not isinstance(batch, dict) or any(key not in batch for key in needed):
        have = ", ".join(map(repr, batch)) if isinstance(batch, dict) else type(batch).__name__
        raise UserError(
            f"A batch needs {', '.join(map(repr, needed[:-1]))} and {needed[-1]!r}, but this one "
            f"is {have}; see sr_lightning.data.batch.Batch."
        )
    scale = batch["scale"]
    if not isinstance(scale, Real):
        raise UserError(
            f"The 'scale' of a batch is one number for all of its images, not {scale!r}; torch's "
            "own collate_fn makes a tensor of it, so give the loader one of yours."
        )
    for key in needed[: 1 + hr]:
        image = batch[key]
        if not (isinstance(image, Tensor) and image.ndim == 4 and image.shape[1] == 3):
            what = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise UserError(f"The '{key}' of a batch is (N, 3, H, W), not {what}.")
        if not image.is_floating_point():
            raise UserError(f"The '{key}' of a batch is float in [0, 1], not {image.dtype}.")
        if levels:
            check_range(image, _BEYOND)
    if hr:
        (height, width), size = batch["lr"].shape[2:], tuple(batch["hr"].shape[2:])
        if size != upscaled_size((height, width), float(scale)):
            raise UserError(
                f"The 'lr' of a batch is {height} x {width} and its 'hr' {size[0]} x {size[1]}, "
                f"which is not x{scale:g}; cut both to match."
            )
