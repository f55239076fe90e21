"""``sr-lightning complexity``: what networks cost, beside what is published, and their speed here.

Published figures are those of ``experiments/published/complexity.yaml``, each compared in the
convention that it follows, and the costs in the other published tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sr_lightning.errors import UserError
from sr_lightning.nn.complexity import Complexity, complexity
from sr_lightning.nn.network import SRNetwork
from sr_lightning.studies.published import load_published
from sr_lightning.studies.published_cells import Cell
from sr_lightning.training.complexity import network_of_config
from sr_lightning.training.speed import speed
from sr_lightning.weights.zoo import load_weights

__all__ = ["Figure", "PublishedCosts", "main"]

_EXPERIMENTS = Path("experiments")
_OWN = "complexity"
_COSTS = ("parameters", "macs")


def main(argv: Sequence[str] | None = None) -> None:
    """Print parameters, MACs and times of networks.

    Args:
        argv: options; default the process's own.
    """
    parser = argparse.ArgumentParser(
        prog="sr-lightning complexity",
        description="Parameters and multiply-accumulates of networks, conventions named, beside "
        "what is published.",
    )
    parser.add_argument(
        "networks",
        nargs="*",
        help="experiment files, weight files or zoo names; default: all of experiments/",
    )
    parser.add_argument(
        "--hr", default="1280x720", help="WIDTHxHEIGHT of the output; default 1280x720"
    )
    parser.add_argument(
        "--time", action="store_true", help="time a training step and a 320 x 180 LR image, too"
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=60,
        metavar="SECONDS",
        help="estimate what takes longer from a part of it; default 60",
    )
    options = parser.parse_args(argv)
    try:
        width, height = (int(part) for part in options.hr.lower().split("x"))
    except ValueError:
        raise UserError(f"--hr takes WIDTHxHEIGHT such as 1280x720, not '{options.hr}'.") from None
    console = Console(width=None if sys.stdout.isatty() else 200)
    table = _empty_table(width, height, options.time)
    figures = PublishedCosts(_EXPERIMENTS)
    names = options.networks or _all_experiments()
    quiet = not sys.stderr.isatty()
    shown = track(names, "counting", console=Console(stderr=True), transient=True, disable=quiet)
    for name, network in _networks(shown, repeated=bool(options.networks)):
        stem = Path(name).stem
        for scale in _shown_scales(network):
            cost = complexity(network, (height, width), scale)
            row = [
                f"{type(network).__name__} ({stem})",
                f"x{scale:g}",
                f"{cost.parameters:,}",
                f"{cost.macs / 1e9:,.2f}",
                f"{cost.macs_out / 1e9:,.2f}",
                f"{cost.macs_out_bias / 1e9:,.2f}",
                *(_beside(figures.of(stem, scale, kind), network, cost) for kind in _COSTS),
            ]
            if options.time:
                took = speed(network, scale, *_batch(name), limit=options.limit)
                row += [
                    str(took.step),
                    f"{took.step_plain.seconds / took.step.seconds:.1f}x",
                    str(took.image),
                    f"{took.image_plain.seconds / took.image.seconds:.1f}x",
                ]
            table.add_row(*row)
    console.print(table)


@dataclass(frozen=True)
class Figure:
    """A published figure and how it counts.

    Attributes:
        cell: of the published tables.
        counting: "all" or "weights" of parameters; "true", "out" or "unknown" of MACs.
    """

    cell: Cell
    counting: str

    def ours(self, network: SRNetwork, cost: Complexity) -> int | None:
        """Our count in the figure's convention, or None where that is not known.

        Args:
            network: that it is about.
            cost: of the network, for any output size.
        """
        if self.counting == "weights":
            return sum(p.numel() for p in network.parameters() if p.ndim == 4)
        if self.cell.metric == "parameters":
            return cost.parameters
        if self.counting == "unknown" or self.cell.hr_size is None:
            return None
        if self.cell.hr_size != cost.hr_size:
            cost = complexity(network, self.cell.hr_size, self.cell.scale)
        return cost.macs if self.counting == "true" else cost.macs_out


class PublishedCosts:
    """Published parameters and MACs of experiments.

    Args:
        experiments: the folder of experiments; without published numbers in it there are none.

    Raises:
        UserError: a file of published numbers is damaged.
    """

    def __init__(self, experiments: Path) -> None:
        self._figures: dict[tuple[str, float | None, str], Figure] = {}
        own = experiments / "published" / f"{_OWN}.yaml"
        if not own.is_file():
            return
        answers: Mapping[str, str] = yaml.safe_load(own.read_text())["methods"]
        for cell in load_published(own.parent).cells:
            if cell.metric not in _COSTS or cell.doubtful:
                continue
            if cell.table.startswith(f"{_OWN}/"):
                stem = answers[cell.method].replace("*", f"{cell.scale:g}")
                figure = Figure(cell, str(cell.factors["counting"]))
                self._figures[stem, cell.scale, cell.metric] = figure
            elif cell.ours is not None:
                # What other tables print follows the common counters.
                figure = Figure(cell, "all" if cell.metric == "parameters" else "out")
                self._figures.setdefault((cell.ours, cell.scale, cell.metric), figure)

    def of(self, stem: str, scale: float, metric: str) -> Figure | None:
        """The figure for an experiment at a scale, or for all scales.

        Args:
            stem: of the experiment's file.
            scale: one of its network's.
            metric: "parameters" or "macs".
        """
        at_scale = self._figures.get((stem, scale, metric))
        return at_scale or self._figures.get((stem, None, metric))


def _all_experiments() -> list[str]:
    files = sorted(_EXPERIMENTS.glob("*.yaml"))
    if not files:
        raise UserError(
            f"There are no {_EXPERIMENTS}/*.yaml here; name experiment or weight files, or run "
            "the command in the checkout."
        )
    return [str(file) for file in files if "model" in (yaml.safe_load(file.read_text()) or {})]


def _networks(names: Iterable[str], *, repeated: bool) -> Iterator[tuple[str, SRNetwork]]:
    """Networks by name; of several experiments with the same network only the first, if wanted."""
    seen: list[object] = []
    for name in names:
        if not name.endswith((".yaml", ".yml")):
            yield name, load_weights(name)
            continue
        with torch.device("meta"):
            network = network_of_config(name)
        description = (type(network), network.config)
        if repeated or description not in seen:
            seen.append(description)
            yield name, network


def _shown_scales(network: SRNetwork) -> list[float]:
    """All scales of a network, or the whole ones of a network for any scale."""
    whole = [scale for scale in network.scales if float(scale).is_integer()]
    return whole if whole and len(network.scales) > 4 else list(network.scales)


def _batch(name: str) -> tuple[int, int]:
    """Side and number of LR patches in an experiment's batch; those of EDSR for weight files."""
    section = {}
    if name.endswith((".yaml", ".yml")):
        content = yaml.safe_load(Path(name).read_text())
        section = content.get("data", {}).get("init_args", {})
    return int(section.get("patch_size", 48)), int(section.get("batch_size", 16))


def _beside(figure: Figure | None, network: SRNetwork, cost: Complexity) -> str:
    if figure is None:
        return ""
    cell, ours = figure.cell, figure.ours(network, cost)
    value = f"{cell.value:,.0f}" if cell.metric == "parameters" else f"{cell.value / 1e9:,.2f}"
    width = "" if cell.hr_size is None else f"{cell.hr_size[1]}, "
    off = "" if ours is None else f", {100 * (ours / cell.value - 1):+.1f}%"
    return f"{value} ({width}{figure.counting}{off})"


def _empty_table(width: int, height: int, timed: bool) -> Table:
    caption = (
        "MACs of convolutions and matrix products, no biases, no bicubic. 'deconv at HR' counts a "
        "deconvolution once per output pixel, as thop does. Published figures stand with the width "
        "of their output, the convention that they follow, and how far our count in that "
        "convention is from them; 'weights' are those of convolutions alone."
    )
    if timed:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        caption += (
            f" Seconds on this {device} ({torch.get_num_threads()} threads), float32, with the "
            "experiment's batch: a step is forward, backward and Adam; '~' is an estimate from a "
            "part; 'gain' is over layers as the papers write them, channels first."
        )
    table = Table(
        title=f"Cost of one {width} x {height} output",
        caption=caption,
        title_justify="left",
        caption_justify="left",
    )
    heads = ["network", "scale", "parameters", "GMACs", "GMACs, deconv at HR", "and biases"]
    heads += ["published parameters", "published GMACs"]
    if timed:
        heads += ["step", "gain", "320x180", "gain"]
    for head in heads:
        table.add_column(head, justify="left" if head == "network" else "right")
    return table
