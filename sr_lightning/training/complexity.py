"""``sr-lightning complexity experiments/hfdn_x4.yaml``: cost of an experiment's network."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl
import yaml
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table

from sr_lightning.errors import UserError
from sr_lightning.nn.complexity import complexity
from sr_lightning.nn.network import SRNetwork
from sr_lightning.training.module import SRModule
from sr_lightning.weights.zoo import load_weights

__all__ = ["main", "network_of_config"]


def network_of_config(path: str | Path) -> SRNetwork:
    """Build the network of an experiment file, and nothing else of it.

    Raises:
        UserError: the file is missing or has no ``model`` that can be built.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"The experiment file {path} does not exist; check the path.")
    section = (yaml.safe_load(path.read_text()) or {}).get("model")
    if not section:
        raise UserError(f"{path} has no 'model' section.")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(SRModule, "model")
    module = parser.instantiate(parser.parse_object({"model": section})).model
    assert isinstance(module, pl.LightningModule)
    network = module.network
    assert isinstance(network, SRNetwork)
    return network


def main(argv: Sequence[str] | None = None) -> None:
    """Print parameters and MACs of networks.

    Args:
        argv: options; default the process's own.
    """
    parser = argparse.ArgumentParser(
        prog="sr-lightning complexity",
        description="Parameters and multiply-accumulates of networks, conventions named.",
    )
    parser.add_argument("networks", nargs="+", help="experiment files, weight files or zoo names")
    parser.add_argument(
        "--hr", default="1280x720", help="WIDTHxHEIGHT of the output; default 1280x720"
    )
    options = parser.parse_args(argv)
    try:
        width, height = (int(part) for part in options.hr.lower().split("x"))
    except ValueError:
        raise UserError(f"--hr takes WIDTHxHEIGHT such as 1280x720, not '{options.hr}'.") from None
    size = (height, width)
    table = Table(
        title=f"Cost of one {width} x {height} output",
        caption="MACs of convolutions and matrix products, no biases, no bicubic. 'deconv at HR' "
        "counts a deconvolution once per output pixel, as thop does.",
        title_justify="left",
        caption_justify="left",
    )
    for head in ("network", "scale", "parameters", "GMACs", "GMACs, deconv at HR", "and biases"):
        table.add_column(head, justify="left" if head == "network" else "right")
    for name in options.networks:
        is_config = name.endswith((".yaml", ".yml"))
        network = network_of_config(name) if is_config else load_weights(name)
        for scale in network.scales:
            cost = complexity(network, size, scale)
            table.add_row(
                f"{type(network).__name__} ({Path(name).stem})",
                f"x{scale:g}",
                f"{cost.parameters:,}",
                f"{cost.macs / 1e9:.2f}",
                f"{cost.macs_out / 1e9:.2f}",
                f"{cost.macs_out_bias / 1e9:.2f}",
            )
    Console().print(table)
