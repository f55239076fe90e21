"""``sr-lightning upscale photo.jpg``: upscale photographs with the weights that come along."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from sr_lightning.data.degradation import bicubic_up
from sr_lightning.data.images import (
    Picture,
    find_images,
    read_picture,
    to_pixels,
    to_tensor,
    write_image,
)
from sr_lightning.errors import UserError
from sr_lightning.inference.upscaler import Upscaler
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.precision import full_precision, set_layout
from sr_lightning.weights.zoo import best_for_scale, load_weights

__all__ = [
    "device_of",
    "files_of",
    "main",
    "network_for",
    "upscale_channels",
    "upscale_picture",
    "usual_scale",
]

_USUAL_SCALE = 4


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: options; default the process's own.

    Raises:
        UserError: an image or weight file cannot be used. With several images the others are
            still upscaled.
    """
    options = _parser().parse_args(argv)
    files = files_of(options.images)
    device = device_of(options.device)
    scale: float | None = options.scale
    weights = options.weights or best_for_scale(_USUAL_SCALE if scale is None else scale).name
    network = network_for(weights, scale, device)
    if scale is None:
        scale = usual_scale(network)
    upscaler = Upscaler(network, tile=options.tile, ensemble=options.ensemble)
    console = Console()
    console.print(f"{type(network).__name__} x{scale:g} ({weights}) on {device}")
    failed: list[str] = []
    for path in track(files, description="Upscaling", disable=len(files) < 2, console=console):
        try:
            target = _target(path, options.out, scale, len(files))
            picture = upscale_picture(
                upscaler, read_picture(path), scale, device, bf16=options.bf16
            )
            write_image(target, picture.rgb, alpha=picture.alpha, grey=picture.grey)
        except UserError as error:
            failed.append(str(error))
            continue
        size = f"{picture.rgb.shape[1]} x {picture.rgb.shape[0]}"
        console.print(f"{path} -> {target}  ({size})", highlight=False, soft_wrap=True)
    if failed:
        raise UserError(" ".join(failed))


def network_for(weights: str, scale: float | None, device: torch.device) -> SRNetwork:
    """A network with its weights, ready to upscale.

    Args:
        weights: zoo name, weight file, checkpoint or folder of a run.
        scale: by which to upscale; None for one that it is made for.
        device: to compute on.

    Raises:
        UserError: there are no such weights, or they are of another scale.
    """
    network = load_weights(weights).to(device)
    set_layout(network, channels_last=True)
    if scale is not None and not network.supports_scale(scale):
        have = ", ".join(f"x{known:g}" for known in network.scales)
        raise UserError(f"The weights '{weights}' upscale by {have}, not by x{scale:g}.")
    return network


def usual_scale(network: SRNetwork) -> float:
    """The scale that is meant where none is named: x4, or the largest that a network can do."""
    return _USUAL_SCALE if network.supports_scale(_USUAL_SCALE) else max(network.scales)


def upscale_picture(
    upscaler: Upscaler, picture: Picture, scale: float, device: torch.device, *, bf16: bool = False
) -> Picture:
    """Upscale one picture; transparency is upscaled by bicubic and grey stays grey.

    Args:
        upscaler: with its network on `device`.
        picture: as read from a file.
        scale: by which to upscale.
        device: to compute on.
        bf16: compute in bfloat16: faster on many CPUs and GPUs, about 55 dB from float32.
    """
    pixels = picture.rgb[..., :1] if picture.grey else picture.rgb
    if picture.alpha is not None:
        pixels = np.dstack([pixels, picture.alpha])
    lr = to_tensor(pixels)[None].to(device)
    context: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if bf16:
        context = torch.autocast(device.type, torch.bfloat16)
    with torch.inference_mode(), context:
        large = to_pixels(upscale_channels(upscaler, lr, scale)[0])
    alpha = None if picture.alpha is None else large[..., -1]
    rgb = large[..., :1].repeat(3, axis=-1) if picture.grey else large[..., :3]
    return Picture(rgb=rgb, alpha=alpha, grey=picture.grey)


def upscale_channels(upscaler: Upscaler, image: Tensor, scale: float) -> Tensor:
    """Upscale images of any channels; transparency is upscaled by bicubic and grey stays grey.

    Args:
        upscaler: with its network on the device of the images.
        image: (N, C, H, W) in [0, 1]: C = 1 is grey, 2 grey with alpha, 3 RGB, 4 RGB with alpha.
        scale: by which to upscale.

    Returns:
        (N, C, scale * H, scale * W) float32, not clamped.
    """
    transparent = image.shape[1] in {2, 4}
    colour = image[:, :-1] if transparent else image
    grey = colour.shape[1] == 1
    lr = colour.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
    sr = upscaler(lr, scale).float()
    if grey:
        sr = sr.mean(dim=1, keepdim=True)
    if transparent:
        with full_precision(image):
            sr = torch.cat([sr, bicubic_up(image[:, -1:].float(), scale)], dim=1)
    return sr


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sr-lightning upscale", description="Upscale photographs by super-resolution."
    )
    parser.add_argument("images", nargs="+", help="image files or folders of them")
    parser.add_argument("--scale", type=float, help="default: 4, or what the --weights upscale by")
    parser.add_argument("--out", help="file or folder; default: beside the image, NAME_x4.png")
    parser.add_argument(
        "--weights",
        metavar="NAME",
        help="zoo name, weight file, checkpoint or folder of a run; default: the best",
    )
    parser.add_argument("--ensemble", action="store_true", help="8-fold self-ensemble")
    parser.add_argument("--tile", type=int, help="tiles of this side, for large images")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16: faster")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps; default: auto")
    return parser


def files_of(named: Sequence[str]) -> list[Path]:
    """The image files that are named, one by one or by their folder.

    Args:
        named: files and folders; a file need not exist.

    Raises:
        UserError: a folder holds no image.
    """
    files: list[Path] = []
    for name in named:
        path = Path(name).expanduser()
        files += find_images(path) if path.is_dir() else [path]
    return files


def _target(path: Path, out: str | None, scale: float, count: int) -> Path:
    name = f"{path.stem}_x{scale:g}.png"
    if out is None:
        return path.with_name(name)
    target = Path(out).expanduser()
    if count == 1 and target.suffix and not target.is_dir():
        return target
    return target / name


def device_of(name: str) -> torch.device:
    """The device of a name; ``auto`` is an accelerator where there is one.

    Raises:
        UserError: it is not there.
    """
    if name == "auto":
        accelerator = (
            torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        )
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"The device '{name}' is not there; name another, as cpu.") from error
    return device
