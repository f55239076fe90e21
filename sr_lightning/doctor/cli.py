"""``sr-lightning doctor``: what is wrong with these images, and why is my PSNR another one?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table as RichTable
from rich.text import Text

from sr_lightning.doctor.diagnosis import Diagnosis, Table
from sr_lightning.doctor.explain import Expected
from sr_lightning.doctor.folders import Case, beside_known_set, look_into
from sr_lightning.doctor.lr_images import diagnose_lr
from sr_lightning.doctor.pairs import FilePair, images_in, pair_files, scale_of_pairs
from sr_lightning.doctor.results import diagnose_sr
from sr_lightning.doctor.runs import diagnose_run
from sr_lightning.doctor.sets import diagnose_set
from sr_lightning.errors import UserError
from sr_lightning.files import check_place, user_path, write_json
from sr_lightning.weights.zoo import load_weights

__all__ = ["main"]

_DESCRIPTION = """\
Why is my PSNR not the paper's?

  sr-lightning doctor --hr Set5/HR --lr Set5/LR_bicubic/X4
      which resize made the LR images, and what that costs
  sr-lightning doctor --hr Set5/HR --sr results/x4 --expect 32.21/0.8948
      PSNR and SSIM under each protocol, faults of the files, and which way of measuring gives
      the expected mean
  sr-lightning doctor FOLDER
      looks for itself: HR with LR and SR folders, a benchmark set, a run of this suite
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: Options; default: the process's own.

    Raises:
        UserError: nothing could be said.
    """
    options = _parser().parse_args(argv)
    expected = Expected.parse(options.expect) if options.expect else None
    if options.json is not None:
        check_place(options.json)
    console = Console(markup=False, width=None if sys.stdout.isatty() else 110, highlight=False)
    diagnoses: list[Diagnosis] = []
    failures: list[str] = []
    for case in _cases(options):
        try:
            diagnosis = _diagnose(case, options, expected, console)
        except UserError as error:
            failures.append(str(error))
            continue
        if diagnoses:
            console.print()
        diagnoses.append(diagnosis)
        _show(console, diagnosis)
    if not diagnoses:
        raise UserError(" ".join(failures))
    for failure in failures:
        console.print(Text(f"\nLeft out: {failure}", style="yellow"), soft_wrap=True)
    if options.json is not None:
        _write(options.json, diagnoses)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sr-lightning doctor",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="?", type=Path, help="folder to look into")
    parser.add_argument("--hr", type=Path, help="folder of HR images, or one image")
    parser.add_argument("--lr", type=Path, help="LR images of these HR images")
    parser.add_argument("--sr", type=Path, help="super-resolved images of these HR images")
    parser.add_argument("--scale", type=float, help="default: by sizes and names")
    parser.add_argument(
        "--expect", metavar="PSNR[/SSIM]", help="mean that was expected, such as 32.21/0.8948"
    )
    parser.add_argument("--per-image", action="store_true", help="show each SR image's numbers")
    parser.add_argument(
        "--weights", help="zoo name or file of a network: say what other LR images cost it, too"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything for machines")
    return parser


def _cases(options: argparse.Namespace) -> list[Case]:
    """What the options ask to look at."""
    if options.scale is not None and not options.scale > 1:
        raise UserError(f"--scale is what LR images are upscaled by, not {options.scale:g}.")
    named = options.hr or options.lr or options.sr
    if options.folder is not None:
        if named:
            raise UserError("Name either a folder, or --hr with --lr or --sr.")
        found = look_into(user_path(options.folder))
        return _with_scales([beside_known_set(case) for case in found])
    if options.hr is None:
        raise UserError(
            "Name the HR images with --hr and the images in question with --lr or --sr, or a "
            "folder that holds them; 'sr-lightning doctor --help' shows examples."
        )
    high = tuple(images_in(options.hr))
    cases = []
    if options.lr is not None:
        cases.append(Case("lr", options.lr, high, tuple(images_in(options.lr))))
    if options.sr is not None:
        cases.append(Case("sr", options.sr, high, tuple(images_in(options.sr))))
    return cases or [Case("set", options.hr, high)]


def _with_scales(cases: list[Case]) -> list[Case]:
    """SR images whose names have no scale take that of the LR images beside them."""
    scales = {
        scale_of_pairs(pairs)
        for case in cases
        if case.kind == "lr" and (pairs := pair_files(case.high, case.other).pairs)
    }
    if len(scales) != 1:
        return cases
    (scale,) = scales
    return [
        replace(case, scale=scale) if case.kind == "sr" and case.scale is None else case
        for case in cases
    ]


def _diagnose(
    case: Case, options: argparse.Namespace, expected: Expected | None, console: Console
) -> Diagnosis:
    def progress(pairs: Sequence[FilePair], what: str) -> Iterator[FilePair]:
        quiet = not console.is_terminal
        yield from track(pairs, escape(what), console=console, transient=True, disable=quiet)

    if case.kind == "run":
        return diagnose_run(case.folder, expected)
    if case.kind == "set":
        return diagnose_set(case.high)
    if case.kind == "lr":
        network = load_weights(options.weights).eval() if options.weights else None
        return diagnose_lr(case.high, case.other, options.scale, network=network, progress=progress)
    return diagnose_sr(
        case.high,
        case.other,
        options.scale or case.scale,
        expected=expected,
        per_image=options.per_image,
        progress=progress,
    )


# ---- showing -------------------------------------------------------------------------------------


def _show(console: Console, diagnosis: Diagnosis) -> None:
    """The subject, the verdict, the problems with their remedies, then the evidence."""
    console.print(Text(diagnosis.subject, style="dim"), soft_wrap=True)
    console.print(Text(diagnosis.verdict, style="bold"))
    for finding in diagnosis.findings:
        problem = finding.kind == "problem"
        grid = RichTable.grid(padding=0)
        grid.add_column(width=9)
        grid.add_column()
        grid.add_row(
            Text("problem" if problem else "note", style="red" if problem else "cyan"),
            Text(_sentence(finding.text)),
        )
        if finding.remedy:
            grid.add_row(Text("  remedy", style="green"), Text(_sentence(finding.remedy)))
        console.print(grid)
    for table in diagnosis.tables:
        console.print()
        console.print(_rich(table))
        if table.note:
            console.print(Text(table.note, style="dim"))


def _sentence(text: str) -> str:
    """With a full stop, and a capital letter unless it begins with a name."""
    first = text.split(maxsplit=1)[0]
    plain = first.isalpha() and first.islower()
    return (text[:1].upper() + text[1:] if plain else text) + "."


def _rich(table: Table) -> RichTable:
    shown = RichTable(title=table.title, title_justify="left", title_style="")
    for index, column in enumerate(table.columns):
        numeric = index > 0 and column != "" and column not in {"protocol", "set"}
        shown.add_column(column, justify="right" if numeric else "left", no_wrap=numeric)
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    return shown


def _write(path: Path, diagnoses: Sequence[Diagnosis]) -> None:
    # Of equal images PSNR is infinite, of images too small for it SSIM is NaN: both become null.
    write_json(path, {"doctor": 1, "diagnoses": [one.as_json() for one in diagnoses]})
