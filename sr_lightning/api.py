"""Images in Python: what ``from sr_lightning import upscale`` and its like give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn

from sr_lightning.cubic import upscaled_size
from sr_lightning.data import resize
from sr_lightning.data.images import (
    from_unit_range,
    read_picture,
    to_unit_range,
    with_hidden_colours,
)
from sr_lightning.data.resize import Boundary, lr_size
from sr_lightning.errors import UserError
from sr_lightning.files import user_path
from sr_lightning.inference.engines import with_engine
from sr_lightning.inference.memory import fit_memory, free_memory
from sr_lightning.inference.upscale import device_of, network_for, usual_scale
from sr_lightning.inference.upscaler import Upscaler, upscale_channels
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.metrics.quality import METRICS
from sr_lightning.nn.network import SRNetwork
from sr_lightning.weights.zoo import choose_weights, load_weights

__all__ = ["imresize", "load", "measure", "upscale"]

AnyImage = TypeVar("AnyImage", Image.Image, NDArray[Any], Tensor)
"""An image of any kind; what is made of it is of the same kind.

A PIL image; an array (H, W) or (H, W, C); a tensor (C, H, W) or (N, C, H, W). One channel is grey,
two are grey and alpha, three are RGB, four are RGB and alpha. Levels are uint8, uint16 (white is
65535) or floats in [0, 1].
"""


def load(name_or_path: str | Path) -> SRNetwork:
    """A network with its weights, on the CPU, in evaluation mode.

    Args:
        name_or_path: Name of the zoo, ``NAME@authors`` (fetched by ``sr-lightning weights get``),
            ``hf:USER/NAME`` of the Hugging Face hub, weight file of this suite or of others,
            checkpoint, folder of a run (its best checkpoint is taken), of an experiment (of its
            newest run) or of :func:`~sr_lightning.weights.hub.save_pretrained`.

    Raises:
        UserError: there is none of these, or it is damaged.
    """
    return load_weights(str(name_or_path))


def upscale(
    image: AnyImage,
    weights: str | Path | SRNetwork | None = None,
    scale: float | None = None,
    *,
    tile: int | None = None,
    ensemble: bool = False,
    device: str = "auto",
    engine: str = "auto",
    fast: bool = False,
) -> AnyImage:
    """Upscale an image; the result is of its kind, type and number of dimensions, in [0, 1].

    Grey stays grey and alpha is upscaled by bicubic. A PIL image is turned as its EXIF orientation
    says, and keeps its mode; palettes, CMYK and other colour spaces become RGB.

    Args:
        image: PIL image, array or tensor; see :data:`AnyImage`.
        weights: What :func:`load` takes, or a network (quicker for many images), which is used on
            the device where it is; default: good ones that come with the package.
        scale: Default: 4, or what the weights upscale by.
        tile: Upscale in tiles of this side in LR pixels; default: the whole image where half of the
            free memory is enough for it.
        ensemble: Average over the 8 mirrorings and rotations: better, 8 times slower.
        device: Device to compute on, where weights are named; "auto" is an accelerator where there
            is one. The result of a tensor is on the tensor's device all the same.
        engine: What computes: "torch", "onnxruntime", "openvino", or "auto" for what is fastest
            here; on the CPU and in float32 these give the same image to 1e-5.
        fast: Compute in 16-bit floats where that is faster; the result is about 55 dB beside.

    Raises:
        UserError: the image is of another kind, type or range, there are no such weights, they are
            of another scale, or the engine is not installed.
    """
    planes, give = _planes(image)
    levels = to_unit_range(planes)
    network = _network(weights, scale, device)
    by = usual_scale(network) if scale is None else scale
    where = next((p.device for p in network.parameters()), planes.device)
    with torch.no_grad(), _evaluating(network):
        upscaler = Upscaler(network, tile=tile, ensemble=ensemble)
        seen = _seen(levels).to(where)
        pixels = seen.numel() // seen.shape[1] * (8 if ensemble else 1)
        upscaler.network, _ = with_engine(network, by, engine, fast=fast, pixels=pixels)
        if tile is None:
            fit_memory(upscaler, by, most=free_memory(upscaler.device))
        large = upscale_channels(lambda rgb: upscaler(rgb, by), seen, by)
    return give(from_unit_range(large.to(planes.device), planes.dtype))  # type: ignore[no-any-return]


def measure(
    sr: str | Path | Image.Image | NDArray[Any] | Tensor,
    hr: str | Path | Image.Image | NDArray[Any] | Tensor,
    scale: float,
    protocol: str = "edsr2017",
    metrics: Sequence[str] = ("psnr", "ssim"),
) -> dict[str, float]:
    """Compare a super-resolved image with its HR image as papers do.

    Args:
        sr: Image file, or an image; see :data:`AnyImage`. Floats may overshoot [0, 1], as networks
            do. Alpha does not count.
        hr: The same; its levels are rounded to 8 bits. Where it is larger than `sr`, it is cropped
            to a multiple of the scale, as benchmarks are. With one channel it is measured as a
            grey file.
        scale: Scale of the task; it sets the border that is cropped.
        protocol: A name in `PROTOCOLS`.
        metrics: Names of what is measured.

    Returns:
        A number by the name of each metric: PSNR in dB, infinite for identical images; SSIM at
        most 1.

    Raises:
        UserError: a file or an image cannot be used, the sizes differ, or a name is not known.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"There is no protocol '{protocol}'; choose from {', '.join(PROTOCOLS)}.")
    for name in metrics:
        if name not in METRICS:
            raise UserError(f"There is no metric '{name}'; choose from {', '.join(METRICS)}.")
    # Networks overshoot.
    (a, _), (b, grey) = _rgb(sr, beyond=1.0), _rgb(hr)
    if a.shape != b.shape:
        height, width = upscaled_size(lr_size((b.shape[2], b.shape[3]), scale), scale)
        b = b[:, :, :height, :width]
    if a.shape != b.shape or a.shape[0] != 1:
        raise UserError(
            f"SR is {_size(a)} and HR {_size(b)} once cropped for x{scale:g}; "
            "give two images of one size, and of the scale of the task."
        )
    try:
        return PROTOCOLS[protocol].measure(a, b.to(a.device), scale, grey, metrics)
    except ValueError as error:
        raise UserError(f"These images cannot be measured: {error}") from error


def imresize(
    image: AnyImage,
    scale: float | None = None,
    *,
    size: tuple[int, int] | None = None,
    boundary: Boundary = "replicate",
    antialias: bool = True,
) -> AnyImage:
    """Resize by bicubic as MATLAB does, byte for byte: what makes the LR images of benchmarks.

    Args:
        image: PIL image, array or tensor of uint8 or floats; see :data:`AnyImage`.
        scale: Such as 1 / 4; the size is rounded up, as MATLAB's ``imresize(A, scale)`` does.
        size: Height and width of the result, in place of `scale`.
        boundary: "replicate" as classic MATLAB (the usual benchmark files), "symmetric" as today's.
        antialias: Widen the kernel when downscaling, as MATLAB does.

    Returns:
        An image of the same kind and type.

    Raises:
        UserError: the image is of another kind.
        ValueError: it is of another type or empty, or there are both or neither of `scale` and
            `size`.
    """
    planes, give = _planes(image)
    resized = resize.imresize(planes, scale, size=size, boundary=boundary, antialias=antialias)
    return give(resized)  # type: ignore[no-any-return]


# ---- kinds of images ----------------------------------------------------------------------------


def _planes(image: object) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """(N, C, H, W) of an image in its own type, and what turns such planes into its kind."""
    if isinstance(image, Image.Image):
        planes, give = _planes(np.asarray(_in_usual_mode(image)))
        return planes, lambda planes: Image.fromarray(give(planes))
    if isinstance(image, np.ndarray) and image.ndim in {2, 3}:
        # A copy, for torch wants memory that it may write, in this machine's order of bytes.
        own = image.astype(image.dtype.newbyteorder("="), order="C")
        try:
            pixels = torch.from_numpy(own)
        except TypeError as error:
            raise UserError(
                f"The array is of {image.dtype}; give uint8, uint16 (white is 65535) or floats in "
                "[0, 1]."
            ) from error
        if image.ndim == 2:
            return pixels[None, None], lambda planes: planes[0, 0].numpy()
        _check_channels(image.shape, image.shape[2])
        channels_first = pixels.permute(2, 0, 1)[None]
        return channels_first, lambda planes: planes[0].permute(1, 2, 0).contiguous().numpy()
    if isinstance(image, Tensor) and image.ndim in {3, 4}:
        _check_channels(image.shape, image.shape[-3])
        if image.ndim == 4:
            return image.detach(), lambda planes: planes
        return image.detach()[None], lambda planes: planes[0]
    shape = getattr(image, "shape", None)
    what = type(image).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")
    raise UserError(
        f"A {what} is no image; give a PIL image (PIL.Image.open reads a file), an array (H, W) or "
        "(H, W, C), or a tensor (C, H, W) or (N, C, H, W)."
    )


def _seen(levels: Tensor) -> Tensor:
    """Images (N, C, H, W) whose fully transparent pixels have the colours of their neighbours."""
    if levels.shape[1] in {1, 3}:
        return levels
    images = (image.permute(1, 2, 0).float().cpu().numpy() for image in levels.detach())
    return torch.stack([torch.from_numpy(with_hidden_colours(i)) for i in images]).movedim(-1, 1)


def _check_channels(shape: Sequence[int], channels: int) -> None:
    if not 1 <= channels <= 4:
        raise UserError(
            f"The image is {tuple(shape)}; an array is (H, W, C) and a tensor (C, H, W) or "
            "(N, C, H, W), with 1 to 4 channels C."
        )


def _in_usual_mode(image: Image.Image) -> Image.Image:
    """The image upright, as grey or RGB of 8 bits with or without alpha, or grey of 16 bits."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return image
    if image.mode in {"I", "F"}:
        raise UserError(
            f"A PIL image of mode '{image.mode}' does not say which level is white; "
            "give its array as uint16 or as floats in [0, 1]."
        )
    grey = image.mode in {"1", "L", "LA", "La"}
    transparent = image.mode.endswith(("A", "a")) or "transparency" in image.info
    return image.convert(("L" if grey else "RGB") + ("A" if transparent else ""))


def _rgb(image: object, beyond: float = 0.01) -> tuple[Tensor, bool]:
    """(N, 3, H, W) in [0, 1] without alpha, and whether there was one channel."""
    if isinstance(image, str | Path):
        picture = read_picture(user_path(image))
        planes, grey = _planes(picture.rgb)[0], picture.grey
    else:
        planes, _ = _planes(image)
        grey = planes.shape[1] < 3
    levels = to_unit_range(planes, beyond)
    return (levels[:, :1].expand(-1, 3, -1, -1) if grey else levels[:, :3]), grey


def _size(image: Tensor) -> str:
    many = f"{image.shape[0]} images of " if image.shape[0] != 1 else ""
    return f"{many}{image.shape[3]} x {image.shape[2]}"


# ---- networks -----------------------------------------------------------------------------------


def _network(weights: object, scale: float | None, device: str) -> SRNetwork:
    if isinstance(weights, SRNetwork):
        if device != "auto":
            raise UserError("A network is used where it is; move it with network.to(device).")
        if scale is not None and not weights.supports_scale(scale):
            have = ", ".join(f"x{known:g}" for known in weights.scales)
            raise UserError(f"This {type(weights).__name__} upscales by {have}, not by x{scale:g}.")
        return weights
    if weights is None:
        weights = choose_weights(4 if scale is None else scale)[0].name
    if not isinstance(weights, str | Path):
        raise UserError(
            f"The weights are a {type(weights).__name__}; give a name, a path or an SRNetwork, "
            "which a Lightning module has as module.network."
        )
    return network_for(str(weights), scale, device_of(device))


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """A network in evaluation mode, and afterwards as it was."""
    training = [part for part in network.modules() if part.training]
    network.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
