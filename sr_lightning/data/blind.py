"""Blind super-resolution: LR images by random blur, resize, noise and JPEG, made on the device.

The chain is that of "Designing a Practical Degradation Model" (BSRGAN; Zhang et al., ICCV 2021) and
of "Real-ESRGAN" (Wang et al., ICCV Workshops 2021): Eq. 1 of the latter is one order, its section
3.2 repeats the chain. Each image draws its own parameters, and what image i of step t gets is a
pure function of (seed, t, i), as its patch is (:mod:`sr_lightning.data.sampling`): numbers are
hashes of their coordinates, the pixels' noise too. So a batch is degraded at once, on any device,
and its parts on several devices are those of the whole.

Images of a batch have sizes of their own between the stages. They lie in the upper left corner of
a canvas that is as large as the ranges can ask for, and their last row and column fill the rest.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sr_lightning.cubic import cubic
from sr_lightning.data.batch import Batch
from sr_lightning.data.datamodule import PatchDataModule
from sr_lightning.data.patches import PatchSource, StepDataset
from sr_lightning.data.sampling import draw
from sr_lightning.errors import UserError

__all__ = ["BlindDataModule", "Degradation", "Order", "draw_images"]

# Numbers that an image draws for each order, in this sequence.
_DRAWN = (
    *("blurred", "sigma", "other_sigma", "angle", "anisotropic"),
    *("change", "factor", "kind", "last_kind"),
    *("gaussian", "level", "grey", "quality", "row", "column"),
)
# Streams of numbers beyond those of the patches.
_FIRST_STREAM = 100
# Where patches have steps, measured images have none.
_MEASURED = -1
# JPEG codes blocks of 8 x 8, and chroma at half the size.
_GRID = 16
_LEVELS = 255


@dataclass(frozen=True)
class Order:
    """Ranges of one order of the chain: blur, resize, noise and JPEG, one after the other.

    Defaults are Real-ESRGAN's first order (its released options), where nothing else is said.
    Ranges are (lowest, highest), drawn uniformly.

    Args:
        blur: Probability that an image is blurred.
        sigma: Standard deviation of the Gaussian blur, in pixels of the image that it gets.
            inferred: its kernel reaches three of the largest, where Real-ESRGAN draws a side of 7
            to 21; and Gaussian kernels alone, where both papers mix in others that they call
            generalised, plateau-shaped and sinc.
        anisotropic: Probability of two standard deviations, along axes at a random angle.
            inferred: 0.36, the ratio of the probabilities of those two kinds, 0.45 and 0.25.
        enlarge: Probability that the resize enlarges.
        shrink: Probability that it shrinks; otherwise the size is kept.
        resize: Smallest and largest factor of the resize, to each side of 1. Its kind is area,
            bilinear or bicubic, as likely each and not antialiased, as in Real-ESRGAN's code.
            inferred: bicubic with a = -0.5, the suite's, where OpenCV and torch have -0.75.
        of: What `resize` is a factor of: the HR image, as in the first order, or the LR image to
            come, as in the second.
        gaussian: Probability that noise is Gaussian; otherwise it is Poisson.
        noise: Standard deviation of Gaussian noise, in levels of 0 to 255.
        poisson: Factor of Poisson noise, whose variance before is the level of 0 to 255.
        grey: Probability that all channels have the same noise.
        jpeg: Quality of JPEG, 1 to 100.
    """

    blur: float = 1.0
    sigma: tuple[float, float] = (0.2, 3.0)
    anisotropic: float = 0.36
    enlarge: float = 0.2
    shrink: float = 0.7
    resize: tuple[float, float] = (0.15, 1.5)
    of: Literal["hr", "lr"] = "hr"
    gaussian: float = 0.5
    noise: tuple[float, float] = (1.0, 30.0)
    poisson: tuple[float, float] = (0.05, 3.0)
    grey: float = 0.4
    jpeg: tuple[float, float] = (30.0, 95.0)


# What ranges may hold; probabilities lie in [0, 1].
_BOUNDS = {
    "sigma": (0.05, 5.0),
    "resize": (0.05, 4.0),
    "noise": (0.0, 255.0),
    "poisson": (0.0, 255.0),
    "jpeg": (1.0, 100.0),
}


def _check_orders(orders: Sequence[Order]) -> None:
    if not orders:
        raise UserError("data.orders is empty; give one order or two, or leave it out.")
    for place, order in enumerate(orders):
        for field in fields(order):
            value, where = getattr(order, field.name), f"data.orders[{place}].{field.name}"
            if field.name in _BOUNDS:
                least, most = _BOUNDS[field.name]
                if not least <= value[0] <= value[1] <= most:
                    raise UserError(
                        f"{where} is {list(value)}; give the lowest and the highest value, both "
                        f"from {least:g} to {most:g}."
                    )
            elif isinstance(value, float | int) and not 0 <= value <= 1:
                raise UserError(f"{where} is {value}; give a probability from 0 to 1.")
        if not order.resize[0] <= 1 <= order.resize[1]:
            raise UserError(
                f"data.orders[{place}].resize is {list(order.resize)}; its lowest factor is at "
                "most 1 and its highest at least 1."
            )
        if order.enlarge + order.shrink > 1:
            raise UserError(
                f"data.orders[{place}] enlarges with probability {order.enlarge:g} and shrinks "
                f"with {order.shrink:g}; together they are at most 1."
            )


def draw_images(
    seed: int, step: int, slots: NDArray[np.int64], orders: int
) -> tuple[Tensor, Tensor]:
    """What images draw: a pure function of seed, step and slot.

    Args:
        seed: Seed of the run.
        step: Training step, counted in batches from 0.
        slots: Places of the images in the whole batch over all devices.
        orders: Orders of the chain.

    Returns:
        (N, orders, numbers) uniform in [0, 1), float32, and (N, orders) int64 keys of the noise.
    """
    numbers = [
        [draw(seed, _FIRST_STREAM + 100 * order + one, step, slots) for one in range(len(_DRAWN))]
        for order in range(orders)
    ]
    keys = [draw(seed, _FIRST_STREAM + 100 * order + 99, step, slots) for order in range(orders)]
    uniform = torch.from_numpy(np.array(numbers)).permute(2, 0, 1)
    # The nearest float32 of a number below 1 can be 1.
    uniform = uniform.float().clamp_(max=1 - 2**-24)
    return uniform, torch.from_numpy((np.array(keys).T * 2**53).astype(np.int64))


class Degradation:
    """Makes LR images from HR images by one or more orders of the chain.

    Args:
        orders: Ranges of each order.

    Raises:
        UserError: a range is impossible.
    """

    def __init__(self, orders: Sequence[Order]) -> None:
        _check_orders(orders)
        self.orders = tuple(orders)

    @torch.no_grad()
    def __call__(
        self, hr: Tensor, size: tuple[int, int], drawn: tuple[Tensor, Tensor], fit: bool = False
    ) -> Tensor:
        """Degrade images.

        Args:
            hr: (N, 3, H, W) float RGB in [0, 1].
            size: (h, w) of the LR images.
            drawn: What they drew; see :func:`draw_images`.
            fit: Make canvases as large as these images need, which saves work on large ones,
                instead of as large as any images of this size could need, so that an image is
                computed alike in every batch.

        Returns:
            (N, 3, h, w) float in [0, 1], holding 8-bit levels as LR image files do.
        """
        uniform, keys = drawn
        image = hr
        sizes = torch.tensor(hr.shape[-2:], device=hr.device).expand(len(hr), 2)
        for place, order in enumerate(self.orders):
            now = dict(zip(_DRAWN, uniform[:, place].unbind(dim=1), strict=True))
            image = _blur(image, order, now)
            base = (hr.shape[-2], hr.shape[-1]) if order.of == "hr" else size
            target = _targets(order, now, base)
            canvas = (
                (int(target[:, 0].max()), int(target[:, 1].max()))
                if fit
                else (_rounded(base[0] * order.resize[1]), _rounded(base[1] * order.resize[1]))
            )
            image = _resize(image, sizes, target, canvas, now["kind"])
            image, sizes = _add_noise(image, order, now, keys[:, place]), target
            if place == len(self.orders) - 1:
                target = torch.tensor(size, device=hr.device).expand(len(hr), 2)
                image = _resize(image, sizes, target, size, now["last_kind"]).clamp_(0, 1)
                sizes = target
            image = _jpeg(image, sizes, order, now)
        return image.mul_(_LEVELS).round_().div_(_LEVELS)


def _between(bounds: tuple[float, float], uniform: Tensor) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * uniform


def _per_image(numbers: Tensor) -> Tensor:
    return numbers[:, None, None, None]


def _rounded(extent: float) -> int:
    return max(1, math.floor(extent + 0.5))


def _blur(image: Tensor, order: Order, drawn: dict[str, Tensor]) -> Tensor:
    """Gaussian blur: each image by a kernel of its own, or by none."""
    from kornia.filters import filter2d

    radius = math.ceil(3 * order.sigma[1])
    along = _between(order.sigma, drawn["sigma"])
    across = _between(order.sigma, drawn["other_sigma"])
    across = torch.where(drawn["anisotropic"] < order.anisotropic, across, along)
    angle = math.pi * drawn["angle"]
    taps = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    y, x = taps[:, None], taps[None, :]
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    u, v = x * cosine + y * sine, y * cosine - x * sine
    kernel = torch.exp(-((u / along[:, None, None]) ** 2 + (v / across[:, None, None]) ** 2) / 2)
    kernel = kernel / kernel.sum(dim=(1, 2), keepdim=True)
    none = torch.zeros_like(kernel[:1])
    none[:, radius, radius] = 1
    kernel = torch.where((drawn["blurred"] < order.blur)[:, None, None], kernel, none)
    blurred: Tensor = filter2d(image, kernel, border_type="replicate")
    return blurred


def _targets(order: Order, drawn: dict[str, Tensor], base: tuple[int, int]) -> Tensor:
    """(N, 2) sizes that images are resized to."""
    larger = _between((1.0, order.resize[1]), drawn["factor"])
    smaller = _between((order.resize[0], 1.0), drawn["factor"])
    factor = torch.where(drawn["change"] < order.enlarge + order.shrink, smaller, 1.0)
    factor = torch.where(drawn["change"] < order.enlarge, larger, factor)
    extents = torch.tensor(base, device=factor.device)
    most = torch.tensor(
        [_rounded(extent * order.resize[1]) for extent in base], device=factor.device
    )
    wanted = torch.floor(factor[:, None] * extents + 0.5).long()
    return torch.minimum(wanted.clamp(min=1), most)


def _resize(
    image: Tensor, before: Tensor, after: Tensor, canvas: tuple[int, int], kind: Tensor
) -> Tensor:
    """Resize each image to its own size.

    Args:
        image: (N, 3, H, W), of which the upper left `before` is the image.
        before: (N, 2) heights and widths.
        after: (N, 2) those to resize to.
        canvas: (H, W) of the result.
        kind: (N,) uniform numbers that choose area, bilinear or bicubic.
    """
    rows, columns = (
        _weights(before[:, axis], after[:, axis], image.shape[2 + axis], canvas[axis], kind)
        for axis in (0, 1)
    )
    return rows[:, None] @ image @ columns[:, None].mT


def _weights(before: Tensor, after: Tensor, n_in: int, n_out: int, kind: Tensor) -> Tensor:
    """(N, n_out, n_in) weights of resizes along one axis; rows from `after` on repeat the last."""
    place = torch.arange(n_out, device=before.device).minimum(after[:, None] - 1)
    step = (before / after)[:, None, None]
    centre = (place[..., None] + 0.5) * step - 0.5
    taps = torch.arange(n_in, device=before.device)
    distance = centre - taps
    # The part of an input pixel that the output pixel covers.
    area = (step / 2 + 0.5 - distance.abs()).clamp(min=0)
    area = area.minimum(step.clamp(max=1))
    linear = (1 - distance.abs()).clamp(min=0)
    which = (kind * 3).floor()[:, None, None]
    weight = torch.where(which == 0, area, torch.where(which == 1, linear, cubic(distance)))
    weight = torch.where(taps < before[:, None, None], weight, 0)
    return weight / weight.sum(dim=2, keepdim=True)


def _add_noise(image: Tensor, order: Order, drawn: dict[str, Tensor], keys: Tensor) -> Tensor:
    """Gaussian or Poisson noise, of each channel or of all alike."""
    from kornia.color import rgb_to_grayscale

    grey = _per_image(drawn["grey"] < order.grey)
    normal = _normal(keys, image.shape[1:])
    normal = torch.where(grey, normal[:, :1], normal)
    image = image.clamp(0, 1)
    gaussian = _per_image(_between(order.noise, drawn["level"])) / _LEVELS * normal
    rate = torch.where(grey, rgb_to_grayscale(image), image) * _LEVELS
    poisson = (_poisson(rate, normal) - rate) / _LEVELS
    poisson = poisson * _per_image(_between(order.poisson, drawn["level"]))
    noise = torch.where(_per_image(drawn["gaussian"] < order.gaussian), gaussian, poisson)
    return (image + noise).clamp_(0, 1)


def _normal(keys: Tensor, shape: torch.Size) -> Tensor:
    """Standard normal numbers (N, *shape): of each key a sequence of its own.

    SplitMix64 of key and counter gives 64 bits, whose halves Box and Muller's formula turns into
    two numbers. int64 overflows alike on every device.
    """
    count = math.prod(shape)
    half = (count + 1) // 2
    counter = torch.arange(1, half + 1, device=keys.device)
    bits = _mix(_mix(keys)[:, None] + counter * -0x61C8864680B583EB)
    high, low = (bits >> 32) & 0xFFFFFFFF, bits & 0xFFFFFFFF
    radius = (high.float() + 0.5).mul_(2**-32).log_().mul_(-2).clamp_(min=0).sqrt_()
    angle = low.float().mul_(2 * math.pi * 2**-32)
    both = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return both[:, :count].reshape(len(keys), *shape)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser; torch shifts with the sign, which the masks take away."""
    x = (x ^ ((x >> 30) & (2**34 - 1))) * -0x40A7B892E31B1A47
    x = (x ^ ((x >> 27) & (2**37 - 1))) * -0x6B2FB644ECCEEE15
    return x ^ ((x >> 31) & (2**33 - 1))


def _poisson(rate: Tensor, normal: Tensor) -> Tensor:
    """Poisson numbers as a function of normal ones: Cornish and Fisher's expansion, rounded.

    torch's own would draw from a generator whose numbers depend on the rest of the batch.
    """
    return (rate + rate.sqrt() * normal + (normal**2 - 1) / 6).round_().clamp_(min=0)


def _jpeg(image: Tensor, sizes: Tensor, order: Order, drawn: dict[str, Tensor]) -> Tensor:
    """JPEG by kornia, whose blocks begin somewhere in each image: patches lie anywhere in files."""
    from kornia.enhance import jpeg_codec_differentiable

    shift = (torch.stack([drawn["row"], drawn["column"]], dim=1) * _GRID).long()
    canvas = [math.ceil((extent + _GRID - 1) / _GRID) * _GRID for extent in image.shape[2:]]
    inside = [
        (torch.arange(canvas[axis], device=image.device) - shift[:, axis, None])
        .clamp(min=0)
        .minimum(sizes[:, axis, None] - 1)
        for axis in (0, 1)
    ]
    coded = jpeg_codec_differentiable(_take(image, *inside), _between(order.jpeg, drawn["quality"]))
    back = [
        torch.arange(image.shape[2 + axis], device=image.device).minimum(sizes[:, axis, None] - 1)
        + shift[:, axis, None]
        for axis in (0, 1)
    ]
    return _take(coded, *back).clamp_(0, 1)


def _take(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels at (N, h) rows and (N, w) columns of each image."""
    n = torch.arange(len(image), device=image.device)[:, None, None]
    taken = image.permute(0, 2, 3, 1)[n, rows[:, :, None], columns[:, None, :]]
    return taken.permute(0, 3, 1, 2).contiguous()


class _Drawing(StepDataset):
    """Batches of patches with what each of their images draws for its degradation."""

    def __init__(self, sources: Sequence[PatchSource], *, orders: int, **options: Any) -> None:
        super().__init__(sources, **options)
        self._orders = orders

    def batch(self, step: int) -> Batch:
        """The batch of one step, and under "drawn" what its images draw."""
        drawn = draw_images(self._seed, step, self._slots, self._orders)
        return cast(Batch, {**super().batch(step), "drawn": drawn})


class BlindDataModule(PatchDataModule):
    """Patches and images whose LR images are made by random degradations instead of bicubic.

    What it is given to train, validate and test on is the base's. Validation and test images get
    fixed degradations, so that curves and results of several runs compare; sets are named with
    ``-blind``, for the numbers are none of the usual benchmark's. Images to predict are left alone.

    Args:
        orders: Ranges of the degradation: one order (the default, Real-ESRGAN's first), or two.
        test_seed: Seed of the degradations of validation and test images, each of which depends on
            this and on its set and name. Runs that are compared need the same.
        **kwargs: Those of :class:`~sr_lightning.data.datamodule.PatchDataModule`.

    Raises:
        UserError: a range is impossible, or LR images are given beside the degradations.
    """

    def __init__(
        self, orders: list[Order] | None = None, test_seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if self.lr_source == "paired" or self.paired_lr:
            raise UserError(
                "data.paired_lr names LR images, but blind degradations make them; leave out one "
                "of the two."
            )
        if not -(2**63) <= test_seed < 2**63:
            raise UserError(f"data.test_seed is {test_seed}; give a number of 64 bits.")
        self.degradation = Degradation([Order()] if orders is None else orders)
        self.test_seed = test_seed

    def setup(self, stage: str | None = None) -> None:
        """Find the sets of a stage; see the base.

        Raises:
            UserError: a protocol makes its own LR images, which would not be the degraded ones.
        """
        module = self.trainer.lightning_module if self.trainer else None
        for protocol in getattr(module, "protocols", ()):
            if protocol.lr != "rgb_uint8":
                raise UserError(
                    f"model.protocols has {protocol.name}, which makes its own LR images and would "
                    "not measure blind degradations; name others, such as edsr2017."
                )
        super().setup(stage)

    def _patches(self, **options: Any) -> StepDataset:
        """Batches of patches, with what their degradations draw."""
        return _Drawing(self._sources, orders=len(self.degradation.orders), **options)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Make the LR images on the device."""
        made: dict[str, Any] = {**super().on_after_batch_transfer(batch, dataloader_idx)}
        if "hr" in made:
            hr, size = made["hr"], (made["lr"].shape[-2], made["lr"].shape[-1])
            drawn = made.pop("drawn", None)
            training = drawn is not None
            if not training:
                drawn = tuple(one.to(hr.device) for one in self._drawn_by_name(made))
                made["set"] = f"{made.get('set', 'images')}-blind"
            lr = self.degradation(hr, size, drawn, fit=not training)
            made["lr"] = lr.contiguous(memory_format=torch.channels_last)
        return cast(Batch, made)

    def _drawn_by_name(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """What a measured image draws: by its set and name alone."""
        names = [f"{batch.get('set', 'images')}/{name}" for name in batch["name"]]
        hashes = [hashlib.sha256(name.encode()).digest()[:7] for name in names]
        slots = np.array([int.from_bytes(one, "big") for one in hashes], dtype=np.int64)
        return draw_images(self.test_seed, _MEASURED, slots, len(self.degradation.orders))
