"""Which classes a file may name: the only place that turns a dotted path into a class.

Configs, weight files and studies name classes, and importing a module runs it. So nothing is
imported because a file says so, unless its module is one of these:

- of the suite, torch, lightning, torchmetrics or kornia;
- of an installed package that registers networks, by entry points of ``sr_lightning.networks``;
- named by the user, with ``--plugin MODULE`` or in the variable ``SR_PLUGINS``;
- a Python file or package of the current folder, which is the user's own. Configs may name those;
  weight files may only where the config of their own run does.

What is found must be a class, never a function, and of the kind that the place asks for.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from sr_lightning.errors import UserError

__all__ = [
    "GROUP",
    "find_class",
    "is_allowed",
    "named_classes",
    "own_modules",
    "refusal",
    "trusted_modules",
    "use_current_folder",
    "use_plugin",
]

GROUP = "sr_lightning.networks"
_BUILT_ON = ("sr_lightning", "torch", "lightning", "torchmetrics", "kornia")
# An environment variable, so that the processes of studies and of further devices have it, too.
_PLUGINS = "SR_PLUGINS"


def use_current_folder() -> None:
    """Make the Python files of the current folder importable, behind everything installed."""
    importlib.invalidate_caches()
    here = str(Path.cwd())
    # Configs are parsed with their own folder as the current one, which '' would then stand for.
    sys.path[:] = [str(Path(entry).absolute()) for entry in sys.path]
    if here not in sys.path:
        sys.path.append(here)


def use_plugin(module: str) -> None:
    """Let files name classes of a module, as ``--plugin MODULE`` does.

    Args:
        module: Dotted name of a module or package.

    Raises:
        UserError: there is no such module, or it is part of Python itself.
    """
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise UserError(f"--plugin {module}: that is part of Python, and holds no networks.")
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise UserError(
            f"--plugin {module}: there is no such module among the installed packages and in the "
            "current folder; name it as in 'import', without '.py'."
        )
    os.environ[_PLUGINS] = ",".join(dict.fromkeys([*_plugins(), module]))


def _plugins() -> list[str]:
    named = os.environ.get(_PLUGINS, "").split(",")
    return [name.strip() for name in named if name.strip()]


def trusted_modules(built_on: Sequence[str] = _BUILT_ON) -> list[str]:
    """Modules that files may name classes of: all listed above but the current folder's.

    Args:
        built_on: Those that come with the suite; default itself and what it is built on.
    """
    registered = {point.module.partition(".")[0] for point in entry_points(group=GROUP)}
    return [*built_on, *sorted(registered), *_plugins()]


def own_modules(run: Path | None = None) -> list[str]:
    """Modules and packages of the current folder, as far as nothing installed has their name.

    A folder without ``__init__.py`` is none: what was unpacked into it may be a stranger's.

    Args:
        run: Folder of a run that is being opened, whose files are never imported.
    """
    here = Path.cwd()
    files = [path for path in here.glob("*.py") if path.stem.isidentifier()]
    files += [path for path in here.glob("*/__init__.py") if path.parent.name.isidentifier()]
    return sorted(
        name
        for path in files
        if (name := path.parent.name if path.name == "__init__.py" else path.stem)
        and _origin(name) == path.resolve()
        and not (run is not None and _overlap(path, run))
    )


def _overlap(module: Path, run: Path) -> bool:
    """Whether a module's file lies in the folder of a run, or its package around it."""
    file, folder = module.resolve(), run.expanduser().resolve()
    is_package = file.name == "__init__.py"
    return file.is_relative_to(folder) or (is_package and folder.is_relative_to(file.parent))


def _origin(module: str) -> Path | None:
    """The file that importing a top-level module would run."""
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if found is None or found.origin is None or not found.has_location:
        return None
    return Path(found.origin).resolve()


def named_classes(content: Any) -> Iterator[str]:
    """Every value of a key ``class_path`` in nested plain data.

    Args:
        content: Content as read from YAML or JSON.
    """
    if isinstance(content, dict):
        for key, value in content.items():
            if key == "class_path":
                yield str(value)
            else:
                yield from named_classes(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from named_classes(value)


def refusal(path: str) -> str:
    """Why a dotted path is not imported, and what to do about it.

    Args:
        path: Path of a class outside the modules that may be named.
    """
    module, _, _ = path.rpartition(".")
    top = path.partition(".")[0]
    allowed = (
        "the suite, torch, lightning, torchmetrics and kornia, of packages that register networks "
        "and of Python files in the current folder"
    )
    if top in sys.stdlib_module_names or not module:
        return f"'{path}' is not imported: files may name classes of {allowed} only"
    try:
        missing = importlib.util.find_spec(top) is None
    except (ImportError, ValueError):
        missing = False
    if missing:
        return (
            f"'{path}' is not imported: there is no module '{top}' among the installed packages "
            f"and in the current folder; run this in the folder of {top}.py"
        )
    return (
        f"'{path}' is not imported: files may name classes of {allowed}; if you trust the code of "
        f"'{module}', add --plugin {module}"
    )


def find_class(path: str, base: type, allowed: Collection[str] | None = None) -> type[Any]:
    """The class of a dotted path.

    Args:
        path: Such as ``sr_lightning.papers.hfdn.HFDN``.
        base: Base that it must be, or be a subclass of.
        allowed: Modules and packages that it may come from; default every trusted one and those
            of the current folder.

    Raises:
        UserError: the module is not allowed (and was not imported), cannot be imported, or has no
            such class.
    """
    allowed = [*trusted_modules(), *own_modules()] if allowed is None else allowed
    module, _, name = path.rpartition(".")
    if not is_allowed(path, allowed):
        raise UserError(f"{refusal(path)}.")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise UserError(f"'{path}' cannot be imported ({said}); mend '{module}'.") from error
    if found is None:
        raise UserError(f"'{module}' has no class '{name}'; name one that it has.")
    if not isinstance(found, type):
        raise UserError(f"'{path}' is a {type(found).__name__}; files may name classes only.")
    # A module can have classes of others, whose own place counts.
    home = f"{found.__module__}.{found.__qualname__}"
    if not is_allowed(home, allowed):
        raise UserError(f"{refusal(home)}.")
    if not issubclass(found, base):
        raise UserError(f"'{path}' is not a subclass of {base.__module__}.{base.__qualname__}.")
    return found


def is_allowed(path: str, modules: Collection[str]) -> bool:
    """Whether a dotted path lies in one of the modules or packages, as far as its name tells."""
    return any(path.startswith(f"{module}.") for module in modules)
