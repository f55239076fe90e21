"""``sr-lightning weights``: list, get, convert, verify, measure, release and publish them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from sr_lightning.errors import UserError
from sr_lightning.files import YamlLoader
from sr_lightning.inference import verify, weights_eval
from sr_lightning.inference.weights_eval import add_files, wide_console, write_files
from sr_lightning.weights.authors import (
    SUFFIX,
    ReleasedFile,
    find_released,
    get,
    printed_text,
    released_files,
)
from sr_lightning.weights.convert import ConversionRecord, convert
from sr_lightning.weights.release import release
from sr_lightning.weights.state_dict_maps import RELEASES
from sr_lightning.weights.zoo import PROTOCOL, SETS, records

__all__ = ["main"]

_CLIP = (
    "VDSR's released file is converted with its input clipped to [16, 235] (clip: on), as its "
    "printed numbers need; files of other trainings may need --set clip=off. "
)


def main(argv: Sequence[str] | None = None) -> None:
    """List, get, convert, verify, measure, release or publish weight files.

    Args:
        argv: Options; default: the process's own.
    """
    parser = argparse.ArgumentParser(
        prog="sr-lightning weights",
        description="Weights that authors released, and those of the zoo.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    known = commands.add_parser("list", help="ours and the authors', with measured PSNR")
    add_files(known)
    known.set_defaults(run=_list)
    _add_get(commands.add_parser("get", help="fetch and convert what authors released"))
    _add_convert(commands.add_parser("convert", help="write an authors' file as safetensors"))
    new = commands.add_parser("release", help="make a tested run weights of the package")
    new.add_argument("folder", type=Path, help="folder of a run that was trained and tested")
    new.add_argument("name", help="of the weights")
    new.add_argument("--data-licence", required=True, help="rights in the training images")
    new.add_argument("--recipe", required=True, help="the command that trained it")
    new.add_argument("--notes", default="")
    new.set_defaults(run=_release)
    push = commands.add_parser("push", help="publish weights with a model card, or save them so")
    push.add_argument("weights", help="name, weight file or folder of a run")
    push.add_argument("target", help="a folder, or hf:USER/NAME, which needs 'hf auth login'")
    push.set_defaults(run=_push)
    for name, module in (("verify", verify), ("eval", weights_eval)):
        command = commands.add_parser(name, help=module.SUMMARY)
        module.add_options(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(argv)
    options.run(options)


# ---- list ---------------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> None:
    rows = list(_known())
    table = Table(title=f"PSNR (dB) on luminance of Set5 under {PROTOCOL}", title_justify="left")
    table.add_column("weights", overflow="fold")
    table.add_column("network")
    for name in ("parameters", "x2", "x3", "x4", "x8"):
        table.add_column(name, justify="right")
    for name in ("licence", "printed under", "here"):
        table.add_column(name)
    for row in rows:
        numbers = (row[f"x{scale}"] for scale in (2, 3, 4, 8))
        table.add_row(
            row["weights"],
            row["network"],
            "" if row["parameters"] is None else f"{row['parameters']:,}",
            *("" if psnr is None else f"{psnr:.2f}" for psnr in numbers),
            row["licence"],
            row["printed_under"],
            "yes" if row["here"] else "weights get",
        )
    wide_console().print(table)
    write_files(options, rows)


def _known() -> Iterator[dict[str, Any]]:
    for record in records():
        yield {
            "weights": record.name,
            "network": record.network,
            "parameters": record.parameters,
            **_set5(record.measured),
            "licence": record.licence,
            "printed_under": "",
            "here": True,
        }
    for released in released_files():
        yield {
            "weights": released.name + SUFFIX,
            "network": RELEASES[released.arch].title,
            "parameters": released.parameters,
            **_set5(released.measured),
            "licence": RELEASES[released.arch].licence,
            "printed_under": released.protocol if released.published else "",
            "here": released.file.is_file(),
        }


def _set5(measured: Any) -> dict[str, float | None]:
    cells = measured.get(PROTOCOL, {})
    return {f"x{scale}": cells.get(f"Set5_x{scale}", {}).get("psnr") for scale in (2, 3, 4, 8)}


# ---- get and convert ----------------------------------------------------------------------------


def _add_get(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Fetch files that authors released, check them, and keep them, converted, in your data "
        "folder; --weights NAME@authors and load() take them from there. Their numbers were "
        "printed under the protocols that 'weights list' shows."
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="such as lesrcnn_x4@authors")
    parser.add_argument("--from", dest="source", metavar="FILE", help="a file downloaded by hand")
    parser.set_defaults(run=_get)


def _get(options: argparse.Namespace) -> None:
    if options.source is not None and len(options.names) > 1:
        raise UserError("--from is one file; name the one release that it is.")
    console = Console(markup=False, highlight=False, soft_wrap=True)
    for name in options.names:
        released = find_released(name if name.endswith(SUFFIX) else name + SUFFIX)
        assert released is not None
        record = get(released, console, options.source)
        console.print(f"{released.name}{SUFFIX}: {_told(record)}\n{released.file}")
        for line in _printed(released):
            console.print(line)


def _printed(released: ReleasedFile) -> Iterator[str]:
    """What to expect of it."""
    for scale, cells in released.published.items():
        yield f"x{scale}, printed under {released.protocol}: {printed_text(cells)}"
        usual = "the usual choices" if released.others else ""
        for choice, measured in {usual: released.measured, **released.others}.items():
            for protocol in dict.fromkeys((released.protocol, PROTOCOL)):
                numbers = [
                    f"{name} {cell['psnr']:.3f}/{cell['ssim']:.4f}"
                    for name in SETS
                    if (cell := measured.get(protocol, {}).get(f"{name}_x{scale}"))
                ]
                if numbers:
                    way = f" with {choice}" if choice else ""
                    yield f"x{scale}, measured here under {protocol}{way}: {', '.join(numbers)}"
    if released.note:
        yield f"Note: {released.note}"


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write a released file of any suite as safetensors of this one. That is for keeping: "
        "--weights FILE takes such files as they are. " + _CLIP
    )
    parser.epilog = "Numbers were printed under: " + ", ".join(
        f"{arch} {protocol}"
        for arch, protocol in {
            one.arch: one.protocol for one in released_files() if one.published
        }.items()
    )
    parser.add_argument("file", help="state dict, safetensors, MATLAB file or Caffe model")
    parser.add_argument("--arch", choices=sorted(RELEASES), help="default: what the tensors say")
    parser.add_argument("--scale", type=int, nargs="+", help="default: what the file tells")
    parser.add_argument("--out", required=True, help="X.safetensors; X.json is written beside it")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="arguments",
        help="argument of the network's constructor, where the file does not tell it; 'levels': "
        "the value of white in its images, 255 or 1",
    )
    parser.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> None:
    given = _pairs(options.arguments)
    record = convert(options.file, options.out, options.arch, options.scale, **given)
    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print(f"{options.out}: {_told(record)}")
    chosen = ", ".join(f"{key}={value}" for key, value in record.choices.items())
    if chosen:
        console.print(f"Taken, for the file does not tell: {chosen} (change it by --set KEY=VALUE)")
    released = next(
        (one for one in released_files() if record.source_sha256.startswith(one.sha256)), None
    )
    if released is not None:
        for line in _printed(released):
            console.print(line)
    else:
        protocols = sorted({one.protocol for one in released_files() if one.arch == record.arch})
        under = f" Its authors' numbers were printed under {' or '.join(protocols)}."
        console.print(
            "Not a file whose numbers are known; measure it: sr-lightning weights eval "
            f"{options.out}{' --protocol ' + protocols[0] if protocols else ''}."
            + (under if protocols else "")
        )


def _told(record: ConversionRecord) -> str:
    scales = ", ".join(f"x{scale:g}" for scale in record.scales)
    return (
        f"{record.network['class_path'].rpartition('.')[2]} {scales}, {record.parameters:,} "
        f"parameters, from {record.origin}; licence: {record.licence}"
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


# ---- release and push ---------------------------------------------------------------------------


def _release(options: argparse.Namespace) -> None:
    made = release(
        options.folder,
        options.name,
        data_licence=options.data_licence,
        recipe=options.recipe,
        notes=options.notes,
    )
    Console(markup=False).print(
        f"{made.file}  {made.file.stat().st_size / 1e6:.2f} MB", highlight=False
    )


def _push(options: argparse.Namespace) -> None:
    from sr_lightning.weights.hub import push, save_pretrained

    console = Console(markup=False, highlight=False, soft_wrap=True)
    if options.target.startswith("hf:"):
        console.print(push(options.weights, options.target.removeprefix("hf:")))
    else:
        console.print(str(save_pretrained(options.weights, options.target)))
