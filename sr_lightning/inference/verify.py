"""``sr-lightning weights verify``: released weights against the numbers that were printed for them.

A network and an evaluation are right when the authors' own weights give the authors' numbers.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from sr_lightning.data.catalog import data_root, find_set
from sr_lightning.errors import UserError
from sr_lightning.inference.evaluate import Evaluator, evaluate_set, means
from sr_lightning.inference.weights_eval import add_files, write_files
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.nn.precision import set_layout
from sr_lightning.weights.authors import Printed, ReleasedFile, released_files
from sr_lightning.weights.convert import network_from_release, network_of
from sr_lightning.weights.formats import read_external

__all__ = [
    "PSNR_LIMIT",
    "SSIM_LIMIT",
    "SUMMARY",
    "Comparison",
    "add_options",
    "run",
    "unknown_files",
    "verify",
    "weights_folder",
]

SUMMARY = "measure released weights and compare with what was printed for them"
PSNR_LIMIT = 0.01
SSIM_LIMIT = 0.0005
SETS = ("Set5", "Set14", "B100")
_WEIGHT_FILES = {".caffemodel", ".mat", ".pt", ".pth", ".safetensors"}


@dataclass(frozen=True)
class Comparison:
    """Measured beside printed.

    Attributes:
        name: Name of the file.
        scale: Scale of the task.
        image_set: Image set that it was measured on.
        protocol: Its name.
        printed: PSNR in dB and SSIM.
        measured: The same.
    """

    name: str
    scale: int
    image_set: str
    protocol: str
    printed: tuple[Printed, Printed]
    measured: tuple[float, float]

    @property
    def agrees(self) -> bool:
        """Whether both differences are within the limits."""
        of_psnr, of_ssim = (
            printed.difference(value)
            for printed, value in zip(self.printed, self.measured, strict=True)
        )
        return abs(of_psnr) <= PSNR_LIMIT and abs(of_ssim) <= SSIM_LIMIT

    def as_row(self) -> dict[str, Any]:
        """As a row of a table."""
        return {
            "name": self.name,
            "set": self.image_set,
            "scale": self.scale,
            "protocol": self.protocol,
            "printed_psnr": self.printed[0].text,
            "printed_ssim": self.printed[1].text,
            "psnr": self.measured[0],
            "ssim": self.measured[1],
            "agrees": self.agrees,
        }

    def __str__(self) -> str:
        raw = [m - float(p.text) for p, m in zip(self.printed, self.measured, strict=True)]
        return (
            f"{self.name:<13} x{self.scale}  {self.image_set:<6} {self.protocol:<13} "
            f"{self.printed[0].text:>5}/{self.printed[1].text:<7} "
            f"{self.measured[0]:.4f}/{self.measured[1]:.5f}  {raw[0]:+.4f}/{raw[1]:+.5f}  "
            f"{'agrees' if self.agrees else 'DIFFERS'}"
        )


HEAD = (
    f"{'file':<13} {'':<3} {'set':<6} {'protocol':<13} {'printed':<13} {'measured':<16} "
    f"{'difference':<16}"
)


def weights_folder(given: str | Path | None, root: Path) -> Path:
    """The folder of released weights: given, or ``SR_WEIGHTS``, or ``weights`` beside the data.

    Args:
        given: Given on the command line.
        root: Data root.

    Raises:
        UserError: there is no such folder.
    """
    folder = Path(given or os.environ.get("SR_WEIGHTS") or root.parent / "weights").expanduser()
    if not folder.is_dir():
        raise UserError(
            f"There is no folder {folder} with released weights; name one with --weights or "
            "SR_WEIGHTS."
        )
    return folder


def verify(
    folder: Path,
    root: Path,
    *,
    only: Sequence[str] = (),
    sets: Sequence[str] = SETS,
    progress: Progress | None = None,
) -> Iterator[Comparison]:
    """Measure every known file of a folder, and compare.

    Args:
        folder: Folder of released weights; files are known by their checksums.
        root: Data root.
        only: Names of files; default: all that are there.
        sets: Sets to measure on.
        progress: Progress display to draw a bar on.

    Raises:
        UserError: a name is unknown, or its file is not in the folder, or a set is missing.
    """
    for image_set in sets:
        find_set(image_set, root)
    for path, released in _present(folder, only):
        network = network_from_release(path, released.arch)
        set_layout(network, channels_last=True)
        evaluator = Evaluator(network, [PROTOCOLS[released.protocol]])
        for scale, cells in released.published.items():
            for image_set in [one for one in sets if one in cells]:
                title = f"{released.name} x{scale} {image_set}"
                rows = evaluate_set(evaluator, image_set, scale, root, progress, title)
                (mean,) = means(rows).values()
                measured = (mean["psnr"], mean["ssim"])
                yield Comparison(
                    released.name, scale, image_set, released.protocol, cells[image_set], measured
                )


def _present(folder: Path, only: Sequence[str]) -> list[tuple[Path, ReleasedFile]]:
    known = _printed_files()
    unknown = sorted(set(only) - {one.name for one in known})
    if unknown:
        names = ", ".join(one.name for one in known)
        raise UserError(f"No numbers are known for '{unknown[0]}'; there are {names}.")
    paths = _by_checksum(folder)
    wanted = [one for one in known if not only or one.name in only]
    there = [
        (path, one)
        for one in wanted
        for checksum, path in paths.items()
        if checksum.startswith(one.sha256)
    ]
    missing = sorted({one.name for one in wanted} - {one.name for _, one in there})
    if only and missing:
        raise UserError(
            f"{folder} has no file with the checksum of {', '.join(missing)}; fetch it from where "
            "its authors released it."
        )
    if not there:
        told = " ".join(what_it_is(path) for path in unknown_files(folder))
        raise UserError(f"{folder} has no file whose printed numbers are known. {told}".rstrip())
    return there


def what_it_is(path: Path) -> str:
    """A sentence on a weight file that no printed numbers are known for."""
    try:
        network, _ = network_of(read_external(path))
    except UserError as error:
        return f"{path.name} is left out: {error}"
    scales = ", ".join(f"x{scale:g}" for scale in network.scales)
    return (
        f"{path.name} is {type(network).__name__} {scales}, of which no printed numbers are known "
        f"here; measure it: sr-lightning weights eval {path}."
    )


def unknown_files(folder: Path) -> list[Path]:
    """Weight files of a folder that no printed numbers are known for."""
    known = tuple(one.sha256 for one in _printed_files())
    return [
        path
        for checksum, path in _by_checksum(folder).items()
        if not checksum.startswith(known) and path.suffix in _WEIGHT_FILES
    ]


def _printed_files() -> list[ReleasedFile]:
    return [one for one in released_files() if one.published]


def _by_checksum(folder: Path) -> dict[str, Path]:
    return {
        hashlib.sha256(path.read_bytes()).hexdigest(): path
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


# ---- command line -------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``sr-lightning weights verify``."""
    parser.add_argument(
        "--weights",
        metavar="FOLDER",
        help="of released weights; default $SR_WEIGHTS, or 'weights' beside the data root",
    )
    parser.add_argument("--data-root", metavar="FOLDER", help="default $SR_DATA or ./data")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="default: every file that is there"
    )
    parser.add_argument(
        "--sets",
        nargs="+",
        default=list(SETS),
        choices=SETS,
        help="default: all three; each file is measured under the protocol of its printed numbers",
    )
    add_files(parser)


def run(options: argparse.Namespace) -> None:
    """Print the table; the process fails where a measured number differs from a printed one.

    Args:
        options: Options of :func:`add_options`.
    """
    root = data_root(options.data_root)
    folder = weights_folder(options.weights, root)
    console = Console(markup=False, highlight=False, soft_wrap=True)
    compared: list[Comparison] = []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for row in verify(folder, root, only=options.only, sets=options.sets, progress=progress):
            if not compared:
                console.print(HEAD)
            console.print(str(row))
            compared.append(row)
    write_files(options, [row.as_row() for row in compared])
    differing = {row.name for row in compared if not row.agrees}
    agreeing = sum(row.agrees for row in compared)
    console.print(
        f"{agreeing} of {len(compared)} agree within {PSNR_LIMIT} dB and {SSIM_LIMIT} of what is "
        "rounded to the printed numbers."
    )
    for path in unknown_files(folder):
        console.print(what_it_is(path))
    for released in released_files():
        if released.name in differing and released.note:
            console.print(f"{released.name}: {released.note}")
    if differing:
        raise SystemExit(1)
