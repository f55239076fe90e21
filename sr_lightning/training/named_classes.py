"""What configs may name, made known to jsonargparse, which imports names while it parses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import Namespace, set_parsing_settings

from sr_lightning.classes import find_class, own_modules, trusted_modules
from sr_lightning.errors import UserError

__all__ = ["check_classes", "restrict_names"]


def restrict_names(run: Path | None = None) -> None:
    """Let configs name what :mod:`sr_lightning.classes` allows; all else is not even imported.

    Args:
        run: Folder of a run that is being opened, whose files are never imported.
    """
    set_parsing_settings(
        import_path_denylist=["*"],
        import_path_allowlist=[*trusted_modules(), *own_modules(run)],
        # A class that no argument's type asks for stays the plain data that it is in the file.
        instantiate_subclass_spec_in_any=False,
    )


def check_classes(config: Any, key: str = "") -> None:
    """Refuse functions in a parsed config: building what it names would call them.

    jsonargparse has compared classes with the types of their arguments by then.

    Args:
        config: Whole or a part, as parsed and before anything is built.
        key: Key of the part.

    Raises:
        UserError: a ``class_path``, or a value in place of one, is a function.
    """
    if isinstance(config, Namespace):
        config = vars(config)
    if isinstance(config, dict):
        for name, value in config.items():
            inner = f"{key}.{name}".lstrip(".")
            if name == "class_path" and isinstance(value, str):
                find_class(value, object)
            check_classes(value, inner)
    elif isinstance(config, list | tuple):
        for value in config:
            check_classes(value, key)
    elif callable(config) and not isinstance(config, type):
        name = getattr(config, "__qualname__", type(config).__name__)
        raise UserError(f"{key}: '{name}' is a function; name a class.")
