"""Where experiments, overlays and studies lie.

The papers' experiments are in ``experiments``, the others' in ``experiments/compared``. A checkout
has these folders at its top; an installed package carries them inside, and ``sr-lightning init``
copies them to where they can be changed.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = [
    "SUITE",
    "experiment_file",
    "experiment_files",
    "is_carried",
    "project_root",
    "recipe_files",
]

_FOLDERS = ("experiments", "experiments/compared")
_CARRIED = Path(__file__).resolve().parent / "recipes"
# The folder of this code's own experiments and configs, which any study may name.
SUITE = _CARRIED if _CARRIED.is_dir() else _CARRIED.parents[1]
# Runs of seconds, which every machine makes for itself.
_PASSING = re.compile("experiments/results/[^/]+/quick/")


def experiment_file(root: Path, name: str) -> Path:
    """The file of an experiment.

    Args:
        root: Folder that has the folder ``experiments``.
        name: Of the file, without ``.yaml``.

    Returns:
        Its place; where there is none, the place among the papers' files where it would be.
    """
    places = [root / folder / f"{name}.yaml" for folder in _FOLDERS]
    return next((place for place in places if place.is_file()), places[0])


def experiment_files(root: Path) -> list[Path]:
    """All experiment files: the papers' by name, then the compared networks' by name.

    Args:
        root: Folder that has the folder ``experiments``.
    """
    found = [file for folder in _FOLDERS for file in sorted((root / folder).glob("*.yaml"))]
    # The queue of trainings lies among them, and a user's other YAML files may.
    return [file for file in found if re.search("^model:", file.read_text(), re.MULTILINE)]


def recipe_files(root: Path) -> list[Path]:
    """Experiments, overlays, studies, published tables and lasting results.

    Args:
        root: Folder that has the folders ``experiments`` and ``configs``.

    Returns:
        The files' paths below it.
    """
    found = [path for folder in ("configs", "experiments") for path in (root / folder).rglob("*.*")]
    below = sorted(path.relative_to(root) for path in found if path.is_file())
    return [path for path in below if not _PASSING.match(path.as_posix())]


def project_root() -> Path:
    """The folder whose experiments are used: the current one or one above it, else `SUITE`."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "experiments").is_dir() and (folder / "configs").is_dir():
            return folder
    return SUITE


def is_carried(path: Path) -> bool:
    """Whether a path lies in the installed package, where nothing is written."""
    return path.resolve().is_relative_to(_CARRIED)
