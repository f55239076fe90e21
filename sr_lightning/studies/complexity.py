"""``sr-lightning complexity``: what networks cost, beside what is published, and their speed here.

Published figures are those of ``experiments/published/complexity.yaml``, each compared in the
convention that it follows, and the costs in the other published tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from torch import nn

from sr_lightning.errors import StoppedError, UserError
from sr_lightning.experiments import experiment_files
from sr_lightning.files import read_yaml, user_path
from sr_lightning.nn.complexity import Complexity, complexity, parameter_count
from sr_lightning.nn.network import SRNetwork
from sr_lightning.studies.published import load_published
from sr_lightning.studies.published_cells import Cell
from sr_lightning.studies.speeds import Machine, SpeedFile, form_for_use
from sr_lightning.training.complexity import counted, network_of_config
from sr_lightning.training.speed import speed
from sr_lightning.weights.zoo import load_weights

__all__ = ["Figure", "PublishedCosts", "batch_of", "main", "shown_scales"]

_EXPERIMENTS = Path("experiments")
_OWN = "complexity"
_COSTS = ("parameters", "macs")
_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.LayerNorm)


def main(argv: Sequence[str] | None = None) -> None:
    """Print parameters, MACs and times of networks.

    Args:
        argv: Options; default: the process's own.
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
        "--save",
        action="store_true",
        help="keep the times of experiments in experiments/results/speed, one file per machine, "
        "as soon as each is known, and measure only what is not there yet; implies --time",
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=60,
        metavar="SECONDS",
        help="leave out what takes longer, as a part of it tells; default 60",
    )
    options = parser.parse_args(argv)
    try:
        width, height = (int(part) for part in options.hr.lower().split("x"))
        if min(width, height) < 64 or max(width, height) > 100_000:
            raise ValueError
    except ValueError:
        raise UserError(
            f"--hr takes WIDTHxHEIGHT of 64 to 100,000 pixels, as 1280x720, not '{options.hr}'."
        ) from None
    names = options.networks or _all_experiments()
    kept = _kept(names) if options.save else None
    timed = options.time or options.save
    # What is kept is kept by experiment, equal networks or not.
    networks = _networks(names, repeated=bool(options.networks) or options.save)
    figures = PublishedCosts(_EXPERIMENTS)
    try:
        with _Sheet(f"Cost of one {width} x {height} output", _heads(timed), _caption(timed)) as to:
            for place, name, network in networks:
                to.say(f"{name}, {place} of {len(names)}")
                for scale in shown_scales(network):
                    row = _counts(name, network, scale, (height, width), figures)
                    if timed:
                        row += _times(name, network, scale, options.limit, kept)
                    to.add(row)
    except KeyboardInterrupt:
        again = "" if kept is None else f" The times so far are in {kept.path}; run it again."
        raise StoppedError(f"Stopped.{again}") from None
    if kept is not None:
        print(f"Kept in {kept.path}.")


def _counts(
    name: str,
    network: SRNetwork,
    scale: float,
    hr_size: tuple[int, int],
    figures: PublishedCosts,
) -> list[str]:
    cost, stem = counted(network, hr_size, scale), Path(name).stem
    return [
        f"{type(network).__name__} ({stem})",
        f"x{scale:g}",
        f"{cost.parameters:,}",
        f"{cost.macs / 1e9:,.2f}",
        f"{cost.macs_out / 1e9:,.2f}",
        f"{cost.macs_out_bias / 1e9:,.2f}",
        *(_beside(figures.of(stem, scale, kind), network, cost) for kind in _COSTS),
    ]


def _times(
    name: str, network: SRNetwork, scale: float, limit: float, kept: SpeedFile | None
) -> list[str]:
    patch, batch = batch_of(name)
    if kept is None:
        took = speed(network, scale, patch, batch, limit=limit)
    else:
        took = kept.time(Path(name).stem, network, scale, patch, batch, limit).speed
    return [
        *_time(took.step, took.step_plain, limit, scale in network.scales),
        *_time(took.image, took.image_plain, limit, True),
    ]


def _time(seconds: float | None, plain: float | None, limit: float, there: bool) -> list[str]:
    """A time, and how many times longer the layers take as the paper writes them."""
    if seconds is None:
        return [f"over {limit:g}" if there else "", ""]
    return [f"{seconds:.3g}", "" if plain is None else f"{plain / seconds:.1f}x"]


def _kept(names: Iterable[str]) -> SpeedFile:
    """The file of this machine's times."""
    known = {file.resolve() for file in experiment_files(Path())}
    for name in names:
        if user_path(name).resolve() not in known:
            raise UserError(
                f"--save keeps times by the names of experiments, and '{name}' is no file of "
                f"{_EXPERIMENTS}/ here; leave it out, or time it without --save."
            )
    return SpeedFile.here(_EXPERIMENTS / "results")


class _Sheet:
    """Shows rows as they come: in a table that grows on a terminal, in lines elsewhere.

    Args:
        title: Above the rows.
        heads: Headings of the columns.
        caption: Below.
    """

    _NAME = 36
    _ROOM = 16

    def __init__(self, title: str, heads: Sequence[str], caption: str) -> None:
        self.title, self.heads, self.caption = title, heads, caption
        self.rows: list[list[str]] = []
        self.doing = ""
        self.console = Console(markup=False)
        self.live = Live(console=self.console, auto_refresh=False)

    def __enter__(self) -> _Sheet:
        if self.console.is_terminal:
            self.live.start()
        else:
            print(f"{self.title}\n{self._line(self.heads)}", flush=True)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.console.is_terminal:
            self.live.update(self._table(self.rows), refresh=True)
            self.live.stop()
        else:
            print(self.caption, flush=True)

    def say(self, doing: str) -> None:
        """Name what is being worked at, on a terminal."""
        self.doing = doing
        self._draw()

    def add(self, row: list[str]) -> None:
        """Show a row."""
        self.rows.append(row)
        if self.console.is_terminal:
            self._draw()
        else:
            print(self._line(row), flush=True)

    def _draw(self) -> None:
        if self.console.is_terminal:
            # The newest stay in sight; all stand there at the end.
            newest = self.rows[-max(1, self.console.height - self._ROOM) :]
            self.live.update(Group(self._table(newest), self.doing), refresh=True)

    def _table(self, rows: Sequence[Sequence[str]]) -> Table:
        table = Table(
            title=self.title, caption=self.caption, title_justify="left", caption_justify="left"
        )
        for head in self.heads:
            table.add_column(head, justify="left" if head == self.heads[0] else "right")
        for row in rows:
            table.add_row(*row)
        return table

    def _line(self, row: Sequence[str]) -> str:
        first, *others = row
        width = {head: max(len(head), 9) for head in self.heads}
        cells = [
            f"{cell:>{width[head]}}" for head, cell in zip(self.heads[1:], others, strict=True)
        ]
        return "  ".join([f"{first:<{self._NAME}}", *cells]).rstrip()


@dataclass(frozen=True)
class Figure:
    """A published figure and how it counts.

    Attributes:
        cell: Cell of the published tables.
        counting: "all", "weights", "layers" (convolutions, linear layers and norms) or "merged"
            (the form for use, where it is another one than that of training) of parameters; "true",
            "out" or "unknown" of MACs.
    """

    cell: Cell
    counting: str

    def ours(self, network: SRNetwork, cost: Complexity) -> int | None:
        """Our count in the figure's convention, or None where that is not known.

        Args:
            network: Network that it is about.
            cost: Cost of the network, for any output size.
        """
        if self.counting == "weights":
            return sum(p.numel() for p in network.parameters() if p.ndim == 4)
        if self.counting == "layers":
            layers = (m for m in network.modules() if isinstance(m, _LAYERS))
            return sum(p.numel() for layer in layers for p in layer.parameters(recurse=False))
        if self.counting == "merged":
            return parameter_count(form_for_use(network))
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
        experiments: The folder of experiments; without published numbers in it there are none.

    Raises:
        UserError: a file of published numbers is damaged.
    """

    def __init__(self, experiments: Path) -> None:
        self._figures: dict[tuple[str, float | None, str], Figure] = {}
        own = experiments / "published" / f"{_OWN}.yaml"
        if not own.is_file():
            return
        answers: Mapping[str, str] = read_yaml(own)["methods"]
        for cell in load_published(own.parent).cells:
            if cell.metric not in _COSTS or cell.doubtful:
                continue
            if cell.table.startswith(f"{_OWN}/"):
                stem = answers[cell.method].replace("*", f"{cell.scale:g}")
                figure = Figure(cell, str(cell.factors["counting"]))
                self._figures[stem, cell.scale, cell.metric] = figure
            elif cell.experiment is not None:
                # What other tables print follows the common counters.
                figure = Figure(cell, "all" if cell.metric == "parameters" else "out")
                self._figures.setdefault((cell.experiment, cell.scale, cell.metric), figure)

    def of(self, stem: str, scale: float, metric: str) -> Figure | None:
        """The figure for an experiment at a scale, or for all scales.

        Args:
            stem: Stem of the experiment's file.
            scale: One of its network's.
            metric: "parameters" or "macs".
        """
        at_scale = self._figures.get((stem, scale, metric))
        return at_scale or self._figures.get((stem, None, metric))


def _all_experiments() -> list[str]:
    files = experiment_files(Path())
    if not files:
        raise UserError(
            f"There are no {_EXPERIMENTS}/*.yaml here; name experiment or weight files, or "
            "let 'sr-lightning init my-experiments' make a folder, and run the command there."
        )
    return [str(file) for file in files]


def _networks(names: Iterable[str], *, repeated: bool) -> Iterator[tuple[int, str, SRNetwork]]:
    """Places, names and networks; of several equal networks only the first, if wanted."""
    seen: list[object] = []
    for place, name in enumerate(names, 1):
        if not name.endswith((".yaml", ".yml")):
            yield place, name, load_weights(name)
            continue
        network = network_of_config(name, meta=True)
        description = (type(network), network.config)
        if repeated or description not in seen:
            seen.append(description)
            yield place, name, network


def shown_scales(network: SRNetwork) -> list[float]:
    """Scales that a network's costs are shown at: its own, or those of most tables for any scale.

    Args:
        network: Network of whatever kind.
    """
    return [2, 3, 4, 8] if network.arbitrary_scale else list(network.scales)


def batch_of(name: str) -> tuple[int, int]:
    """Side and number of LR patches in an experiment's batch; those of EDSR for weight files.

    Args:
        name: Experiment file, weight file or zoo name.
    """
    section = {}
    if name.endswith((".yaml", ".yml")):
        content = read_yaml(name, "experiment file")
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


def _heads(timed: bool) -> list[str]:
    heads = ["network", "scale", "parameters", "GMACs", "GMACs, deconv at HR", "and biases"]
    heads += ["published parameters", "published GMACs"]
    return [*heads, "step", "gain", "320x180", "gain"] if timed else heads


def _caption(timed: bool) -> str:
    caption = (
        "MACs of convolutions and matrix products, no biases, no bicubic. 'deconv at HR' counts a "
        "deconvolution once per output pixel, as thop does. Published figures stand with the width "
        "of their output, the convention that they follow, and how far our count in that "
        "convention is from them; 'weights' are those of convolutions alone."
    )
    if not timed:
        return caption
    machine = Machine.here()
    return (
        f"{caption} {machine.seconds} on {machine.name}, float32, with the experiment's batch: a "
        "step is forward, backward and Adam; 'gain' is over layers as the papers write them, "
        "channels first."
    )
