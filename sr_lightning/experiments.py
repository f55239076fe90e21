"""Experiment files: the papers' in ``experiments``, the others' in ``experiments/compared``."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["experiment_file", "experiment_files"]

_FOLDERS = ("experiments", "experiments/compared")


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
