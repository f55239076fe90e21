"""Files of others read within bounds, and files of ours written whole or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from sr_lightning.errors import UserError

__all__ = [
    "YamlLoader",
    "as_type",
    "check_place",
    "check_types",
    "json_text",
    "read_json",
    "read_record",
    "read_text",
    "read_yaml",
    "regular_file",
    "user_path",
    "write_all",
    "write_json",
    "write_whole",
    "written_whole",
]

_Kind = TypeVar("_Kind")

# Far more than any config, study, ledger entry or result has.
_MOST_BYTES = 64 << 20
_MOST_VALUES = 1_000_000


def user_path(name: str | Path) -> Path:
    """The path that a user typed, ``~`` resolved.

    Raises:
        UserError: it names a user that does not exist, is a link to itself, or no path could be.
    """
    if "\0" in str(name):
        raise UserError(f"{str(name)!r} is no path: it holds a NUL byte.")
    try:
        path = Path(name).expanduser()
        path.stat()
    except RuntimeError as error:
        raise UserError(f"{name}: there is no user of that name; write the path out.") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            # Whoever resolved it would not come to an end.
            raise UserError(f"{name} is a link that leads back to itself; remove it.") from error
    return path


def regular_file(path: str | Path, what: str = "file") -> Path:
    """The path of a file that can be opened without waiting for ever.

    Args:
        path: Path as a user typed it.
        what: What the file is, in words, for the message.

    Raises:
        UserError: there is no such file, or it is a folder, a pipe or a device.
    """
    path = user_path(path)
    try:
        if path.is_file():
            return path
        found = path.exists()
    except OSError as error:
        raise UserError(f"The {what} {path} cannot be opened: {error.strerror}.") from error
    if path.is_dir():
        raise UserError(f"The {what} {path} is a folder; name a file.")
    if found:
        raise UserError(f"The {what} {path} is a pipe or a device; name a regular file.")
    raise UserError(f"The {what} {path} does not exist; check the path.")


def read_text(path: str | Path, what: str = "file") -> str:
    """The text of a file.

    Args:
        path: Path of the file.
        what: What it is, in words, for the message.

    Raises:
        UserError: it is missing, cannot be read, is far too long, or is no text.
    """
    path = regular_file(path, what)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"The {what} {path} has over {_MOST_BYTES >> 20} MB; it is no {what}.")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"The {what} {path} is no text (UTF-8); it is damaged, so restore it or write it anew."
        ) from error
    except OSError as error:
        raise UserError(f"The {what} {path} cannot be read: {error.strerror}.") from error


def read_json(path: str | Path, what: str = "file") -> Any:
    """The content of a JSON file.

    Raises:
        UserError: see :func:`read_text`; or it is not JSON.
    """
    try:
        return json.loads(read_text(path, what))
    except (ValueError, RecursionError) as error:
        raise UserError(f"The {what} {path} is damaged: it is not JSON ({error}).") from error


def read_record(path: str | Path, kind: type[_Kind], what: str = "file") -> _Kind:
    """The content of a JSON file as a dataclass.

    Raises:
        UserError: see :func:`read_json`; or a field is missing or of another type.
    """
    found: _Kind = as_type(read_json(path, what), kind, f"The {what} {path} is damaged")
    return found


def as_type(content: Any, kind: Any, where: str, *, as_it_stands: bool = False) -> Any:
    """Plain data as a type or dataclass.

    Args:
        content: Content as read from a file.
        kind: Kind that it should be.
        where: Where it stands, for the message.
        as_it_stands: The content itself will be used: text is no number, though it reads like one.

    Raises:
        UserError: it is something else.
    """
    from pydantic import ValidationError

    try:
        found = _adapter(kind).validate_python(content)
        if as_it_stands:
            # As JSON, for there a dataclass is written as a mapping.
            _adapter(kind).validate_json(json.dumps(content, default=str), strict=True)
        return found
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        said = f"{first['msg']}, got {str(first['input'])[:60]!r}"
        if first["type"] == "missing":
            said = "it is missing"
        elif first["type"] in {"dataclass_type", "dict_type"}:
            said = f"keys with values belong there, not {str(first['input'])[:60]!r}"
        raise UserError(f"{where}: {key}{': ' * bool(key)}{said}.") from error


@lru_cache
def _adapter(kind: Any) -> Any:
    # The import is late because few commands need it; what it makes is dear.
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def check_types(content: Mapping[str, Any], kinds: Mapping[str, Any], where: str) -> None:
    """Check the types of those values of a mapping that are there.

    Args:
        content: Content as read from a file.
        kinds: Types by key.
        where: Where it stands, for the message.

    Raises:
        UserError: one is of another type.
    """
    for key, kind in kinds.items():
        if key in content:
            as_type(content[key], kind, f"{where}: '{key}'", as_it_stands=True)


class YamlLoader(yaml.SafeLoader):
    """YAML's safe loader, for files that are no longer when their aliases are written out."""

    def get_single_node(self) -> yaml.Node | None:
        """The whole document, before anything is made of it.

        Raises:
            yaml.YAMLError: an alias is within itself, or aliases multiply beyond reason.
        """
        node: yaml.Node | None = super().get_single_node()
        if _values(node, {}) > _MOST_VALUES:
            raise yaml.composer.ComposerError(None, None, "its aliases (*) expand without bound")
        return node


def _values(node: Any, known: dict[int, int]) -> int:
    """Number of values below a node, each alias counted as what it stands for."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        # What is within itself is met again before it is counted.
        known[id(node)] = _MOST_VALUES + 1
        inner = node.value if isinstance(node, yaml.SequenceNode) else sum(node.value, ())
        known[id(node)] = 1 + sum(_values(value, known) for value in inner)
    return known[id(node)]


def read_yaml(path: str | Path, what: str = "file") -> Any:
    """The content of a YAML file.

    Raises:
        UserError: see :func:`read_text`; or it is not YAML.
    """
    try:
        return yaml.load(read_text(path, what), YamlLoader)
    except (yaml.YAMLError, ArithmeticError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise UserError(f"The {what} {path}{line} is not YAML: {reason}.") from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or, as before, not at all; missing folders are made.

    Raises:
        UserError: it cannot be written.
    """
    write_all({path: content})


def write_all(contents: Mapping[Path, str | bytes]) -> None:
    """Write files that belong together: none appears before all of them are on the disk.

    Args:
        contents: What to write by where to; missing folders are made.

    Raises:
        UserError: one cannot be written.
    """
    parts = {path: _part_of(path) for path in contents}
    path = Path()
    try:
        for path, content in contents.items():
            _refuse_other_kinds(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            with parts[path].open("wb") as out:
                out.write(content.encode() if isinstance(content, str) else content)
                out.flush()
                os.fsync(out.fileno())
        for path, part in parts.items():
            part.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        for part in parts.values():
            with suppress(OSError):
                part.unlink()


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A place beside a file's for those who write files by name; it is renamed at the end.

    Args:
        path: Where the file is to be, which is there whole or, as before, not at all.

    Raises:
        UserError: it cannot be written.
    """
    part = _part_of(path)
    part = part.with_name(f"{part.name}{path.suffix}")
    try:
        _refuse_other_kinds(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink()


def check_place(path: Path, *, folder: bool = False) -> None:
    """Refuse a place that cannot be written, before long work; nothing is left there.

    Args:
        path: Where something will be written.
        folder: Whether it is a folder.

    Raises:
        UserError: it cannot be written.
    """
    try:
        if not folder:
            _refuse_other_kinds(path)
        places = (path, *path.absolute().parents) if folder else path.absolute().parents
        nearest = next(place for place in places if place.exists())
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"x")
    except OSError as error:
        raise _unwritable(path, error) from error


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _refuse_other_kinds(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise UserError(f"Cannot write {path}: it is a folder or a device; name a file.")


def _unwritable(path: Path, error: OSError) -> UserError:
    reason = error.strerror or error
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return UserError(f"Cannot write {path}: {reason}; free some space, or name another place.")
    return UserError(f"Cannot write {path}: {reason}; name another place.")


def write_json(path: Path, content: Any) -> None:
    """Write plain data as JSON; numbers that are not finite, which JSON does not have, are null.

    Raises:
        UserError: see :func:`write_whole`.
    """
    write_whole(path, json_text(content))


def json_text(content: Any) -> str:
    """Plain data as JSON, as :func:`write_json` writes it."""
    return json.dumps(_finite(content), indent=1, allow_nan=False) + "\n"


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
