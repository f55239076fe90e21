"""``sr-lightning plot-scales RUN``: PSNR against scale, of one tested run or several side by side.

The scales are those of the test, ``sr-lightning test --run RUN --scale '[1.1, 1.5, 2, 2.8, 4]'``,
which draws the curve of its own run already.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sr_lightning.errors import UserError
from sr_lightning.files import write_whole
from sr_lightning.runs import RunFolder
from sr_lightning.training.curves import Curves, curves_of, draw

__all__ = ["main", "read_curves"]


def read_curves(runs: Sequence[str | Path], protocol: str | None = None) -> tuple[str, Curves]:
    """Mean PSNR of tested runs.

    Args:
        runs: Folders; a method of the same name in a later one is told apart by the run's name.
        protocol: Protocol of the numbers; default: the first of the first run.

    Returns:
        The protocol's name, and the curves.

    Raises:
        UserError: a run was not tested, or not under that protocol.
    """
    curves: Curves = {}
    for name in runs:
        folder = RunFolder.existing(name)
        summary = folder.summary()
        protocol = protocol or next(iter(summary["protocols"]), "")
        if protocol not in summary["protocols"]:
            raise UserError(
                f"{folder.results} has no numbers of protocol {protocol}; test the run under it."
            )
        taken = {method for lines in curves.values() for method in lines} - {"bicubic"}
        for group, lines in curves_of(summary["means"], protocol).items():
            for method, line in lines.items():
                label = f"{method} ({folder.path.parent.name})" if method in taken else method
                curves.setdefault(group, {}).setdefault(label, {}).update(line)
    assert protocol is not None
    return protocol, curves


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: Options; default: the process's own.

    Raises:
        UserError: see :func:`read_curves`.
    """
    parser = argparse.ArgumentParser(
        prog="sr-lightning plot-scales",
        description="Draw PSNR against scale from the results of 'sr-lightning test'.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of tested runs")
    parser.add_argument("--protocol", help="of the numbers; default: the first run's first")
    parser.add_argument(
        "--out", type=Path, help="default: arbitrary_scale.svg in the first's results"
    )
    options = parser.parse_args(argv)
    protocol, curves = read_curves(options.runs, options.protocol)
    out = options.out or RunFolder.existing(options.runs[0]).results / "arbitrary_scale.svg"
    write_whole(out, draw(curves, protocol))
    print(out)
