"""``sr-lightning weights``: convert and verify what authors released, measure what comes along."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from sr_lightning.errors import UserError
from sr_lightning.files import YamlLoader
from sr_lightning.inference import verify, weights_eval
from sr_lightning.weights.convert import convert
from sr_lightning.weights.release import release
from sr_lightning.weights.state_dict_maps import RELEASES

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Convert, verify, measure or release weight files.

    Args:
        argv: Options; default: the process's own.
    """
    parser = argparse.ArgumentParser(
        prog="sr-lightning weights",
        description="Weights that authors released, and those of the zoo.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("convert", help="write an authors' file as safetensors")
    one.add_argument("file", help="state dict, MATLAB file or Caffe model")
    one.add_argument("--arch", choices=sorted(RELEASES), help="default: what the file is")
    one.add_argument("--scale", type=int, nargs="+", help="default: what the file tells")
    one.add_argument("--out", required=True, help="X.safetensors; X.json is written beside it")
    one.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="arguments",
        help="argument of the network's constructor, where the file does not tell it",
    )
    new = commands.add_parser("release", help="make a tested run weights of the package")
    new.add_argument("run", type=Path, help="folder of a run that was trained and tested")
    new.add_argument("name", help="of the weights")
    new.add_argument("--data-licence", required=True, help="rights in the training images")
    new.add_argument("--recipe", required=True, help="the command that trained it")
    new.add_argument("--notes", default="")
    verify.add_options(commands.add_parser("verify", help=verify.SUMMARY))
    weights_eval.add_options(commands.add_parser("eval", help=weights_eval.SUMMARY))
    options = parser.parse_args(argv)
    if options.command == "eval":
        weights_eval.run(options)
        return
    if options.command == "verify":
        verify.run(options)
        return
    if options.command == "release":
        made = release(
            options.run,
            options.name,
            data_licence=options.data_licence,
            recipe=options.recipe,
            notes=options.notes,
        )
        Console(markup=False).print(
            f"{made.file}  {made.file.stat().st_size / 1e6:.2f} MB", highlight=False
        )
        return
    record = convert(
        options.file, options.out, options.arch, options.scale, **_pairs(options.arguments)
    )
    scales = ", ".join(f"x{scale:g}" for scale in record.scales)
    Console(markup=False).print(
        f"{record.network['class_path'].rpartition('.')[2]} {scales}, {record.parameters:,} "
        f"parameters: {options.out}\nfrom {record.origin}; licence: {record.licence}"
    )


def _pairs(given: Sequence[str]) -> dict[str, Any]:
    pairs = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set takes KEY=VALUE, not '{text}'.")
        try:
            pairs[key] = yaml.load(value, YamlLoader)
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(f"--set {key}: '{value}' is no value; quote it.") from error
    return pairs
