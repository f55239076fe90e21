"""``sr-lightning weights eval hfdn_x4``: weights on benchmark sets, beside their record.

The numbers of the zoo were measured by the test of the training that made them. This measures the
files that come with the package, on your copy of the sets and your machine; or weights of yours.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from sr_lightning.data.catalog import data_root, find_set
from sr_lightning.errors import UserError
from sr_lightning.files import check_place, write_json, write_whole
from sr_lightning.inference.evaluate import Evaluator, evaluate_set, means
from sr_lightning.inference.upscale import device_of, network_for
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.metrics.quality import METRICS, stored
from sr_lightning.nn.complexity import parameter_count
from sr_lightning.weights.authors import Cells, find_released, printed_text, save_measured
from sr_lightning.weights.zoo import PROTOCOL, SETS, find_weights, load_weights, records

__all__ = [
    "SUMMARY",
    "MeasuredWeights",
    "add_files",
    "add_options",
    "measured",
    "run",
    "save",
    "wide_console",
    "write_files",
]

SUMMARY = "measure weights on benchmark sets, beside what their record says"
# More than another order of summation, or 16 bits in the test of a training, changes of a mean.
_LIMITS = {"psnr": 0.01}
_LIMIT = 0.0005
_USUAL = ("psnr", "ssim")
_BICUBIC = "bicubic"


@dataclass(frozen=True)
class MeasuredWeights:
    """Means over a set, beside those of the record.

    Attributes:
        weights: Weights as they were named.
        image_set: Image set that was measured.
        scale: Scale of the task.
        protocol: Its name.
        ensemble: Whether with the 8-fold self-ensemble.
        images: Number of them.
        numbers: Means by metric.
        bicubic: Those of bicubic interpolation on the same images.
        recorded: Those that the record has.
    """

    weights: str
    image_set: str
    scale: float
    protocol: str
    ensemble: bool
    images: int
    numbers: Mapping[str, float]
    bicubic: Mapping[str, float]
    recorded: Mapping[str, float]

    @property
    def group(self) -> str:
        """As records name it: ``Set5_x4``."""
        return f"{self.image_set}_x{self.scale:g}"

    @property
    def agrees(self) -> bool:
        """Whether it is what the record says, or the record says nothing."""
        return all(
            abs(self.numbers[name] - value) <= _LIMITS.get(name, _LIMIT)
            for name, value in self.recorded.items()
        )


def measured(
    weights: str,
    *,
    sets: Sequence[str] = SETS,
    scales: Sequence[float] | None = None,
    protocol: str = PROTOCOL,
    metrics: Sequence[str] = _USUAL,
    ensemble: bool = False,
    root: str | None = None,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> Iterator[MeasuredWeights]:
    """Measure weights, set by set.

    Args:
        weights: What ``load`` takes, or "bicubic".
        sets: Names of benchmark sets, or folders of HR images.
        scales: Default: those that the network is made for.
        protocol: Its name.
        metrics: Names in :data:`~sr_lightning.metrics.quality.METRICS`.
        ensemble: Average over the 8 mirrorings and rotations, as papers' "+" rows do.
        root: Data root.
        device: Device to compute on; default: the CPU.
        progress: Progress display to draw a bar on.

    Raises:
        UserError: the weights cannot be used or do not do a scale, or a set is not there.
    """
    plain = weights == _BICUBIC
    if scales is None:
        scales = (2, 3, 4) if plain else load_weights(weights).scales
    for scale in scales:
        network = None if plain else network_for(weights, scale, device or torch.device("cpu"))
        evaluator = Evaluator(
            network, [PROTOCOLS[protocol]], metrics, ensemble=ensemble, bicubic=True
        )
        for image_set in sets:
            title = f"{weights} x{scale:g} {image_set}"
            rows = evaluate_set(evaluator, image_set, scale, root, progress, title, device)
            by_method = {method: mean for (_, _, method, _), mean in means(rows).items()}
            bicubic = by_method[_BICUBIC]
            mean = bicubic if plain else by_method["sr"]
            found = MeasuredWeights(
                weights,
                find_set(image_set, root).name,
                scale,
                protocol,
                ensemble,
                int(mean["images"]),
                {name: mean[name] for name in metrics},
                {name: bicubic[name] for name in metrics},
                {},
            )
            yield replace(found, recorded=_recorded(found))


def _key(metric: str, ensemble: bool) -> str:
    return f"ensemble_{metric}" if ensemble else metric


def _cells(weights: str) -> Cells:
    """What was measured of weights, by protocol and cell; nothing of a file."""
    known = find_released(weights) or find_weights(weights)
    return {} if known is None else known.measured


def _recorded(found: MeasuredWeights) -> dict[str, float]:
    cell = _cells(found.weights).get(found.protocol, {}).get(found.group, {})
    known = {name: cell.get(_key(name, found.ensemble)) for name in found.numbers}
    return {name: value for name, value in known.items() if value is not None}


def save(found: MeasuredWeights) -> bool:
    """Add a measurement to the record of the weights, where it has none yet.

    Args:
        found: Measurement of weights of the zoo, or of a released file.

    Returns:
        Whether it was added.

    Raises:
        UserError: the weights are neither.
    """
    record, released = find_weights(found.weights), find_released(found.weights)
    if record is None and released is None:
        raise UserError(
            f"'{found.weights}' is no name of the zoo; only records of names can be added to."
        )
    added: dict[str, Any] = {}
    for name, value in stored(found.numbers).items():
        if value is not None and name not in found.recorded:
            added[_key(name, found.ensemble)] = value
            added[f"bicubic_{name}"] = METRICS[name].stored(found.bicubic[name])
    if not added:
        return False
    measured = _cells(found.weights)
    groups = measured.get(found.protocol, {})
    cell = {**groups.get(found.group, {}), **added, "images": found.images}
    cells = {**measured, found.protocol: {**groups, found.group: cell}}
    if record is not None:
        replace(record, measured=cells).write()
    elif released is not None:
        save_measured(released.name, parameter_count(load_weights(found.weights)), cells)
    return True


# ---- command line -------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``sr-lightning weights eval``."""
    parser.add_argument(
        "weights",
        nargs="*",
        help="names (weights list), files of any suite, runs, 'bicubic'; default: the whole zoo",
    )
    parser.add_argument(
        "--sets",
        nargs="+",
        metavar="SET",
        default=list(SETS),
        help="names of sets, or folders of HR images; default: Set5 Set14 B100",
    )
    parser.add_argument("--scale", type=float, nargs="+", help="default: what they are made for")
    parser.add_argument(
        "--protocol",
        choices=[*PROTOCOLS],
        default=PROTOCOL,
        help=f"default: {PROTOCOL}; 'weights list' says which one a release's numbers are under",
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        choices=[*METRICS],
        metavar="METRIC",
        default=list(_USUAL),
        help=f"of {', '.join(METRICS)}; those of networks look at RGB (--protocol rgb); "
        "default: psnr ssim",
    )
    parser.add_argument("--ensemble", action="store_true", help="8-fold self-ensemble")
    parser.add_argument("--data-root", metavar="FOLDER", help="default $SR_DATA or ./data")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps; default: auto")
    parser.add_argument(
        "--save", action="store_true", help="add what a record of the package has not, to it"
    )
    add_files(parser)


def run(options: argparse.Namespace) -> None:
    """Print the table; the process fails where a number is not the record's.

    Args:
        options: Options of :func:`add_options`.
    """
    device = device_of(options.device)
    root = data_root(options.data_root)
    for image_set in options.sets:
        find_set(image_set, root)
    names = options.weights or [record.name for record in records()]
    if options.save and (record := find_weights(names[0])) is not None:
        check_place(record.file)
    found: list[MeasuredWeights] = []
    console = wide_console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for name in names:
            for row in measured(
                name,
                sets=options.sets,
                scales=options.scale,
                protocol=options.protocol,
                metrics=options.metrics,
                ensemble=options.ensemble,
                root=str(root),
                device=device,
                progress=progress,
            ):
                found.append(row)
                if options.save:
                    save(row)
    console.print(_table(found))
    write_files(options, [_as_row(row) for row in found])
    for name in names:
        released = find_released(name)
        for scale, cells in released.published.items() if released is not None else ():
            console.print(
                f"{name}: printed for x{scale} under {released.protocol}: "  # type: ignore[union-attr]
                f"{printed_text(cells)}",
                highlight=False,
            )
    differing = [row for row in found if not row.agrees]
    if differing:
        console.print(
            f"{len(differing)} of {len(found)} differ from their record by more than "
            f"{_LIMITS['psnr']} dB or {_LIMIT}; 'sr-lightning prepare --check' tells whether the "
            "images are the usual ones.",
            highlight=False,
        )
        raise SystemExit(1)


def _as_row(found: MeasuredWeights) -> dict[str, Any]:
    return {
        "weights": found.weights,
        "set": found.image_set,
        "scale": found.scale,
        "protocol": found.protocol,
        "ensemble": found.ensemble,
        "images": found.images,
        **found.numbers,
        **{f"bicubic_{name}": value for name, value in found.bicubic.items()},
        **{f"recorded_{name}": found.recorded.get(name) for name in found.numbers},
    }


def _table(found: Sequence[MeasuredWeights]) -> Table:
    first = found[0]
    title = f"{first.protocol}{', with self-ensemble' if first.ensemble else ''}"
    table = Table(title=title, title_justify="left")
    for name in ("weights", "set"):
        table.add_column(name, overflow="fold")
    headings = [METRICS[name].heading for name in first.numbers]
    for name in ("images", *headings, "record"):
        table.add_column(name, justify="right")
    for row in found:
        recorded = " / ".join(_text(name, value) for name, value in row.recorded.items())
        table.add_row(
            row.weights,
            f"{row.image_set} x{row.scale:g}",
            str(row.images),
            *(_text(name, value) for name, value in row.numbers.items()),
            recorded + ("" if row.agrees else "  differs"),
        )
    return table


def _text(name: str, value: float) -> str:
    """A digit more than tables print."""
    return replace(METRICS[name], digits=METRICS[name].digits + 1).text(value)


def wide_console() -> Console:
    """A console that cuts no name where nobody looks on: off a terminal lines may be long."""
    console = Console(markup=False)
    return console if console.is_terminal else Console(markup=False, width=240)


def add_files(parser: argparse.ArgumentParser) -> None:
    """The options ``--json`` and ``--csv``."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows for machines")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows as a spreadsheet")


def write_files(options: argparse.Namespace, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows to the files that were asked for.

    Args:
        options: Options of :func:`add_files`.
        rows: Rows with the same columns.

    Raises:
        UserError: a file cannot be written.
    """
    if options.json is not None:
        write_json(options.json, list(rows))
    if options.csv is not None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(options.csv, text.getvalue())
