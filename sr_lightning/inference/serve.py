"""``sr-lightning serve``: a page of this machine that upscales photographs in the browser."""

from __future__ import annotations

import argparse
import contextlib
import functools
import ipaddress
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch

from sr_lightning.data.images import Photo, read_photo
from sr_lightning.data.photo_writer import write_photo
from sr_lightning.errors import StoppedError, UserError
from sr_lightning.inference.memory import fit_memory, free_memory
from sr_lightning.inference.photographs import Goal, passes_for, upscale_photo
from sr_lightning.inference.upscale import device_of, network_for
from sr_lightning.inference.upscaler import Upscaler
from sr_lightning.weights.zoo import Quality, choose_weights, records

__all__ = ["FORMATS", "LARGEST_SCALE", "QUALITIES", "Uploads", "main"]

LARGEST_SCALE = 4.0
FORMATS = ("png", "jpg", "webp", "tif")
QUALITIES = {"usual": "good and not slow", "best": "highest PSNR", "quick": "fastest"}
# Of memory for each pixel that comes in; 55 were measured with 16 bits and two passes of x2.
_BYTES = 100
_MOST_MEGAPIXELS = 50
# Longest side of what the slider shows: screens show no more at once.
_SHOWN = 1600


class Uploads:
    """Upscales uploaded images within bounds, and removes them when their session ends.

    Args:
        folder: Where uploads and results lie; nothing outside of it is read or written.
        weights: Names or files of weights that can be chosen beside those of the zoo.
        device: Where to compute.
        pixels: Most pixels of an image.
        seconds: Longest time that an image may take.
    """

    def __init__(
        self,
        folder: str | Path,
        weights: Sequence[str] = (),
        device: str = "cpu",
        pixels: int = 10**7,
        seconds: float = 600.0,
    ) -> None:
        self.folder = Path(folder).resolve()
        self.weights = {record.name: record.name for record in records()}
        # Not where they lie on this machine.
        self.weights |= {Path(name).name: name for name in weights}
        self.pixels, self.seconds = pixels, seconds
        self.is_stopped: Callable[[], bool] = lambda: False
        self._sessions: dict[str, set[Path]] = {}
        self._upscaler = functools.lru_cache(2)(
            lambda name: Upscaler(network_for(name, None, torch.device(device)))
        )

    def holds(self, path: str) -> bool:
        """Whether a path that a client names lies in the folder."""
        with contextlib.suppress(OSError, ValueError):
            return Path(path).resolve().is_relative_to(self.folder)
        return False

    def upscale(
        self,
        name: str,
        weights: str,
        scale: float,
        suffix: str,
        session: str = "",
        done: Callable[[float], object] = lambda _: None,
    ) -> tuple[tuple[Path, Path], Path, str]:
        """Upscale an image that was uploaded.

        Args:
            name: Its file.
            weights: One of `self.weights` or of `QUALITIES`.
            scale: From 1 to `LARGEST_SCALE`.
            suffix: Of the result, such as "png".
            session: Of whom the file is.
            done: Called with the part that is done, from 0 to 1.

        Returns:
            The middle of the image, upscaled by bicubic and as it was made; the result; and what
            was done, in words.

        Raises:
            UserError: the image cannot be read, is too large or takes too long.
        """
        given = Path(name)
        if not self.holds(name) or not given.is_file():
            raise UserError("The image is no longer here; choose it once more.")
        if not 1 <= scale <= LARGEST_SCALE or suffix not in FORMATS:
            raise UserError(f"Choose a scale from 1 to {LARGEST_SCALE:g}, and a listed format.")
        self.end(session, but=given)
        results = self.folder / secrets.token_hex()
        self._sessions[session] = {given, results}
        begun = time.monotonic()

        def count(pixels: int, of: int) -> None:
            if self.is_stopped() or session not in self._sessions:
                raise StoppedError("Stopped.")
            if time.monotonic() > begun + self.seconds:
                raise UserError(
                    f"It takes longer than {self.seconds / 60:g} minutes; choose a smaller image, "
                    "a smaller scale or faster weights."
                )
            done(pixels / of)

        goal = Goal(scale=scale)
        stem = re.sub(r"[^\w-]+", "_", given.stem)[:80]
        target = results / f"{stem}_{goal.label}.{suffix}"
        if weights in QUALITIES:
            weights = choose_weights(scale, cast("Quality", weights))[0].name
        elif weights not in self.weights:
            raise UserError(f"There are no weights '{weights}' here; choose others.")
        try:
            photo = read_photo(given, self.pixels)
            upscaler = self._upscaler(self.weights[weights])
            fit_memory(upscaler, passes_for(upscaler.network, scale)[-1])
            with torch.inference_mode():
                size, how = upscale_photo(upscaler, photo, goal, target, done=count)
        except UserError as error:
            shutil.rmtree(results, ignore_errors=True)
            # Not where it lies on this machine.
            raise UserError(str(error).replace(f"{given.parent}{os.sep}", "")) from error
        seconds, (height, width) = time.monotonic() - begun, photo.pixels.shape[:2]
        parts = [
            f"{width} x {height} to {size[1]} x {size[0]} in {seconds:.1f} s",
            f"{type(upscaler.network).__name__} ({weights}) by {how}",
            *(["the slider shows the middle"] if max(size) > _SHOWN else []),
            *photo.notes,
        ]
        return _middle(photo, target, size), target, "; ".join(parts)

    def end(self, session: str, but: Path | None = None) -> None:
        """Remove the files of a session, and stop what is done for it."""
        for path in self._sessions.pop(session, set()) - {but}:
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)


def _middle(photo: Photo, made: Path, size: tuple[int, int]) -> tuple[Path, Path]:
    """What a screen holds of a photograph's middle, upscaled by bicubic and as it was made."""
    import pyvips

    height, width = photo.pixels.shape[:2]
    down, across = size[0] / height, size[1] / width
    rows, columns = (min(side, int(_SHOWN / down)) for side in (height, width))
    top, left = (height - rows) // 2, (width - columns) // 2
    shown = round(rows * down), round(columns * across)
    before, after = made.with_name("before.png"), made.with_name("after.png")
    crop = photo.pixels[top : top + rows, left : left + columns]
    write_photo(before, [crop], photo, (rows, columns), shown)
    place = (
        min(round(top * down), size[0] - shown[0]),
        min(round(left * across), size[1] - shown[1]),
    )
    whole = pyvips.Image.new_from_file(os.fspath(made))
    whole.crop(place[1], place[0], shown[1], shown[0]).pngsave(os.fspath(after), compression=1)
    return before, after


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command until it is stopped.

    Args:
        argv: Options; default: the process's own.

    Raises:
        UserError: an option cannot be used, or Gradio is not installed.
    """
    options = _parser().parse_args(argv)
    try:
        import uvicorn

        from sr_lightning.inference.page import page_of
    except ImportError as error:
        raise UserError("The page needs Gradio: pip install 'sr-lightning[serve]'.") from error
    device = device_of(options.device)
    megapixels, minutes = options.megapixels, options.minutes
    if megapixels is None:
        fitting = free_memory(torch.device("cpu")) / 2 / _BYTES / 1e6
        megapixels = min(_MOST_MEGAPIXELS, max(1, int(fitting)))
    if not (megapixels > 0 and minutes > 0):
        raise UserError("--megapixels and --minutes are more than 0.")
    for name in options.weights:
        network_for(name, None, device)
    with (
        _listening(options.host, options.port) as listening,
        tempfile.TemporaryDirectory(prefix="sr-lightning-") as folder,
    ):
        uploads = Uploads(folder, options.weights, str(device), int(megapixels * 1e6), minutes * 60)
        host, port = listening.getsockname()[:2]
        alone = ipaddress.ip_address(host).is_loopback
        app = page_of(uploads, alone=alone)
        # Open tabs are cut off at the end, which it would call errors.
        config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        uploads.is_stopped = lambda: server.should_exit
        if not alone:
            print(f"Anyone who reaches {options.host} can use this page: it has no password.")
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}  (Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"Cannot listen at {host}, port {port} ({getattr(error, 'strerror', None) or error}); "
            "name another --port, or --port 0 for a free one."
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sr-lightning serve",
        description="A page in the browser that upscales photographs. It asks nothing of other "
        "machines; uploads and results are removed when their tab is closed, and after an hour.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen at; default: for this machine alone")
    add("--port", type=int, default=7860, help="0 is a free one; default: 7860")
    add("--weights", nargs="+", default=[], metavar="NAME", help="weights of your own to offer")
    memory = f"half of the free memory at {_BYTES} bytes a pixel, at most {_MOST_MEGAPIXELS}"
    add("--megapixels", type=float, help=f"of the largest image; default: {memory}")
    add("--minutes", type=float, default=10.0, help="that an image may take; default: 10")
    add("--device", default="auto", help="auto, cpu, cuda, mps; default: auto")
    return parser
