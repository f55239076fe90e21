"""What configs may name, made known to jsonargparse, which imports names while it parses."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from jsonargparse import Namespace, set_parsing_settings

from sr_lightning.classes import find_class, own_modules, trusted_modules
from sr_lightning.errors import UserError

__all__ = ["check_classes", "check_nulls", "restrict_names"]


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


def check_nulls(config: Any, kind: type | None = None, key: str = "") -> None:
    """Refuse null where an argument is no option to leave empty, which jsonargparse takes anywhere.

    Args:
        config: Whole or a part, as parsed and before anything is built.
        kind: Class whose arguments it holds.
        key: Key of the part.

    Raises:
        UserError: an argument is null whose type has no None.
    """
    if isinstance(config, list):
        for value in config:
            check_nulls(value, None, key)
    if not isinstance(config, Namespace):
        return
    if "class_path" in config and isinstance(config["class_path"], str):
        inner = find_class(config["class_path"], object)
        check_nulls(config.get("init_args"), inner, key)
        return
    known = {} if kind is None else _defaults(kind)
    for name, value in vars(config).items():
        if value is None and known.get(name) is not None:
            raise UserError(f"{key}.{name} is null; give a value, or leave it out.")
        check_nulls(value, None, f"{key}.{name}")


def _defaults(kind: type) -> dict[str, Any]:
    """Defaults of a class's arguments by name, of those whose type has no None."""
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        # Arguments that are handed on by ** are those of a base.
        constructor = vars(base).get("__init__")
        if constructor is None or not inspect.isfunction(constructor):
            continue
        for name, argument in inspect.signature(constructor).parameters.items():
            words = str(argument.annotation)
            empty = argument.default in (inspect.Parameter.empty, None)
            optional = any(word in words for word in ("None", "Optional", "Any", "_empty"))
            found.setdefault(name, None if empty or optional else argument.default)
    return found
