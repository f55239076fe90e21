"""``sr-lightning upscale photo.jpg``: upscale photographs with the weights that come along."""

from __future__ import annotations

import argparse
import math
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sr_lightning.data.images import read_photo
from sr_lightning.errors import UserError
from sr_lightning.files import check_place
from sr_lightning.inference.engines import ENGINES, with_engine
from sr_lightning.inference.memory import fit_memory
from sr_lightning.inference.outputs import files_of, shown, targets_of
from sr_lightning.inference.photographs import Goal, passes_for, upscale_photo
from sr_lightning.inference.upscaler import Upscaler
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.precision import set_layout
from sr_lightning.weights.zoo import Quality, choose_weights, load_weights

__all__ = ["device_of", "main", "network_for", "usual_scale"]

_USUAL_SCALE = 4
_NOISE = (
    "Networks are trained on clean downscaled images: they turn JPEG and sensor noise into texture."
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: Options; default: the process's own.

    Raises:
        UserError: the options or the weights cannot be used, or results are there already.
        SystemExit: with 1, where images could not be upscaled; the others are.
    """
    options = _parser().parse_args(argv)
    goal = _goal(options)
    piped = options.out == "-" or (options.images == ["-"] and options.out is None)
    # What is said must not mix with an image.
    console = Console(stderr=piped, markup=False)
    with tempfile.TemporaryDirectory() as folder:
        images, out = list(options.images), options.out
        if "-" in images:
            given = Path(folder) / "stdin"
            with given.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
            images[images.index("-")] = str(given)
        if piped:
            if len(images) > 1 or Path(images[0]).is_dir():
                raise UserError("A pipe takes one image; name a folder for --out.")
            out = str(Path(folder) / "result.png")
        failed = _upscale_all(options, images, out, goal, console)
        if piped and not failed:
            with Path(out).open("rb") as made:
                shutil.copyfileobj(made, sys.stdout.buffer)
                sys.stdout.buffer.flush()
    if failed:
        Console(stderr=True, markup=False).print(
            "Not upscaled:\n" + "\n".join(failed), highlight=False, soft_wrap=True
        )
        raise SystemExit(1)


def _upscale_all(
    options: argparse.Namespace,
    images: Sequence[str],
    out: str | None,
    goal: Goal | None,
    console: Console,
) -> list[str]:
    """Upscale the images; what failed comes back, a line each."""
    files = files_of(images, recursive=options.recursive)
    device = device_of(options.device)
    wanted = None if goal is None else goal.scale
    if options.weights:
        weights, reason = options.weights, ""
    else:
        quality: Quality = "best" if options.best else "quick" if options.quick else "usual"
        chosen, why = choose_weights(wanted or _USUAL_SCALE, quality)
        weights, reason = chosen.name, f": {why}"
    network = network_for(weights, None, device)
    goal = goal or Goal(scale=usual_scale(network))
    targets = targets_of(files, out, goal.label)
    for target in {target.parent: target for target in targets}.values():
        check_place(target)
    pairs = list(zip([path for path, _ in files], targets, strict=True))
    there = [pair for pair in pairs if pair[1].exists()]
    if there and not (options.overwrite or options.skip_existing):
        others = f" and {len(there) - 1} others" if len(there) > 1 else ""
        raise UserError(
            f"{shown(there[0][1])}{others} exist already; give --overwrite, or --skip-existing to "
            "make the missing ones."
        )
    if options.skip_existing:
        pairs = [pair for pair in pairs if pair not in there]
        console.print(f"{len(there)} results are there already.")
    upscaler = Upscaler(network, tile=options.tile, ensemble=options.ensemble)
    scales = passes_for(network, goal.scale or max(network.scales))
    upscaler.network, said = with_engine(
        network,
        scales[0],
        options.engine,
        fast=options.fast,
        pixels=sum(_pixels(path) for path, _ in pairs) * (8 if options.ensemble else 1),
    )
    if options.tile is None:
        fit_memory(upscaler, scales[-1])
    where = f"on {device} by {said}"
    console.print(f"{type(network).__name__} ({weights}) {where}{reason}", soft_wrap=True)
    failed = _run(upscaler, pairs, goal, console)
    if any(path.suffix.lower() in {".jpg", ".jpeg", ".heic", ".heif"} for path, _ in pairs):
        console.print(_NOISE, soft_wrap=True)
    return failed


def _run(
    upscaler: Upscaler,
    pairs: Sequence[tuple[Path, Path]],
    goal: Goal,
    console: Console,
) -> list[str]:
    failed: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with progress, torch.inference_mode():
        for number, (path, target) in enumerate(pairs, 1):
            begun = time.monotonic()
            task = progress.add_task(f"{number}/{len(pairs)}")

            def done(pixels: int, of: int, begun: float = begun, task: object = task) -> None:
                speed = pixels / 1e6 / max(time.monotonic() - begun, 1e-3)
                text = f"{number}/{len(pairs)}  {speed:.2g} MPx/s"  # noqa: B023
                progress.update(task, completed=pixels, total=of, description=text)  # type: ignore[arg-type]

            try:
                photo = read_photo(path)
                size, how = upscale_photo(upscaler, photo, goal, target, done=done)
            except (UserError, MemoryError) as error:
                text = str(error) or "there is too little memory"
                failed.append(f"{shown(path)}: {text}")
            else:
                said = "; ".join([f"{size[1]} x {size[0]} by {how}", *photo.notes])
                console.print(
                    f"{shown(path)} -> {shown(target)}  ({said})",
                    highlight=False,
                    soft_wrap=True,
                )
            finally:
                progress.remove_task(task)
    return failed


def _pixels(path: Path) -> float:
    """Pixels of a photograph by its head alone; many where only its plugin reads that."""
    if not path.is_file():
        # A pipe would be waited for; who upscales it says so.
        return 0
    try:
        with Image.open(path) as image:
            return image.width * image.height
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return math.inf


def network_for(weights: str, scale: float | None, device: torch.device) -> SRNetwork:
    """A network with its weights, ready to upscale.

    Args:
        weights: Zoo name, weight file, checkpoint or folder of a run.
        scale: Scale by which to upscale; None for one that it is made for.
        device: Device to compute on.

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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sr-lightning upscale",
        description="Upscale photographs by super-resolution. Profile, EXIF and levels are kept. "
        f"{_NOISE}",
    )
    parser.add_argument("images", nargs="+", help="image files or folders of them; - is stdin")
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument("--scale", type=float, help="default: 4, or what the --weights upscale by")
    goal.add_argument("--size", metavar="WxH", help="size of the results, as 1920x1080")
    goal.add_argument("--fit", type=int, metavar="N", help="longer side of the results")
    parser.add_argument(
        "--out", help="file, folder or - for stdout; default: beside the image, NAME_x4.png"
    )
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--weights",
        metavar="NAME",
        help="zoo name, weight file, checkpoint or folder of a run; default: good and not slow",
    )
    weights.add_argument("--best", action="store_true", help="the weights of the highest PSNR")
    weights.add_argument("--quick", action="store_true", help="the fastest weights")
    parser.add_argument("--recursive", action="store_true", help="folders in folders as well")
    there = parser.add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="replace results that exist")
    there.add_argument("--skip-existing", action="store_true", help="make the missing ones only")
    parser.add_argument("--ensemble", action="store_true", help="8-fold self-ensemble")
    parser.add_argument("--tile", type=int, help="side of tiles; default: by the free memory")
    parser.add_argument(
        "--engine", choices=ENGINES, default="auto", help="what computes; default: the fastest here"
    )
    parser.add_argument(
        "--fast", action="store_true", help="compute in 16 bits where that is faster; 50 to 60 dB"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps; default: auto")
    return parser


def _goal(options: argparse.Namespace) -> Goal | None:
    """What was asked for; None is the usual scale."""
    if options.scale is not None:
        if not (math.isfinite(options.scale) and options.scale >= 1):
            raise UserError(f"A scale of {options.scale:g} does not upscale; it is at least 1.")
        return Goal(scale=options.scale)
    if options.size is not None:
        match = re.fullmatch(r"([1-9]\d*)[xX]([1-9]\d*)", options.size)
        if match is None:
            raise UserError(f"--size is width x height, as 1920x1080, not '{options.size}'.")
        return Goal(size=(int(match[2]), int(match[1])))
    if options.fit is not None:
        if options.fit < 1:
            raise UserError(f"--fit is a number of pixels, not {options.fit}.")
        return Goal(fit=options.fit)
    return None


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
        # Also of a device that computes nothing, as meta.
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"The device '{name}' is not there; name another, as cpu.") from error
    return device
