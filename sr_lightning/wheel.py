"""What ``pyproject.toml`` names for setuptools: wheels carry the recipes. Nothing imports this."""

from __future__ import annotations

import os
import runpy
import shutil
from pathlib import Path

from setuptools.command.build_py import build_py

__all__ = ["BuildWithRecipes"]

# The package itself cannot be imported while it is built.
_FILES = runpy.run_path(str(Path(__file__).with_name("experiments.py")))["recipe_files"](Path())


class BuildWithRecipes(build_py):  # type: ignore[misc]
    """Puts ``experiments`` and ``configs`` into the package, as data."""

    def run(self) -> None:
        """Build; an editable installation goes on to use the checkout's."""
        super().run()
        if not self.editable_mode:
            for path in _FILES:
                target = Path(self.build_lib) / "sr_lightning" / "recipes" / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)

    def get_source_files(self) -> list[str]:
        """What a source archive needs."""
        return [*super().get_source_files(), *map(os.fspath, _FILES)]
