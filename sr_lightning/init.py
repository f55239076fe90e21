"""``sr-lightning init FOLDER``: recipes, overlays, studies and results, to be run and changed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sr_lightning.errors import UserError
from sr_lightning.experiments import SUITE, is_carried, recipe_files
from sr_lightning.files import user_path, write_whole

__all__ = ["check_config", "check_writable", "main"]

_HELP = "'sr-lightning init my-experiments' puts the suite's into a folder, to be used from there."


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command: make what is missing, and change nothing that is there.

    Args:
        argv: Options; default: the process's own.

    Raises:
        UserError: the folder cannot be made.
    """
    parser = argparse.ArgumentParser(
        prog="sr-lightning init",
        description="Copy the suite's experiments, overlays, studies, published tables and results "
        "into a folder, to be run and changed there. Files that are there already stay.",
    )
    parser.add_argument("folder", help="made if it is missing")
    folder = user_path(parser.parse_args(argv).folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder.")
    made, kept, changed = 0, 0, []
    for path in recipe_files(SUITE):
        content = (SUITE / path).read_bytes()
        if (folder / path).exists():
            kept += 1
            if (folder / path).read_bytes() != content:
                changed.append(path)
            continue
        write_whole(folder / path, content)
        made += 1
    print(f"{folder}: {made} files made, {kept} were there.")
    if changed:
        others = f" and {len(changed) - 1} others" if len(changed) > 1 else ""
        print(f"Not the suite's, and left as they are: {changed[0]}{others}.")
    print(
        f"Go there:           cd {folder}\n"
        "Train a network:    sr-lightning fit --config experiments/hfdn_x4.yaml\n"
        "See what there is:  sr-lightning study list; sr-lightning report"
    )


def check_writable(folder: Path) -> None:
    """Refuse to write results into the installed package.

    Args:
        folder: Where results would go.

    Raises:
        UserError: it lies in the package.
    """
    if is_carried(folder):
        raise UserError(f"There are no experiments in this folder; {_HELP}")


def check_config(path: str | Path) -> None:
    """Refuse the name of a config that the suite has, and this folder has not.

    Args:
        path: As it was typed.

    Raises:
        UserError: it is one.
    """
    if not Path(path).is_file() and Path(path) in recipe_files(SUITE):
        raise UserError(f"There is no {path} here; {_HELP}")
