"""YAML files written by hand: every message names the line, and no key may stand twice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from sr_lightning.errors import UserError
from sr_lightning.files import YamlLoader, read_text

__all__ = ["Block", "Place", "meant", "read_yaml"]


class Block(dict[Any, Any]):
    """A mapping of a YAML file that knows on which lines its keys stand."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[Any, int] = {}


@dataclass(frozen=True)
class Place:
    """Somewhere in a file.

    Attributes:
        file: File as it was given.
        path: Keys that lead to the place.
        line: Counted from 1.
    """

    file: Path
    path: tuple[str, ...] = ()
    line: int = 1

    def at(self, inside: object, key: object) -> Place:
        """The place of a key inside the node at this place."""
        line = inside.lines.get(key, self.line) if isinstance(inside, Block) else self.line
        return Place(self.file, (*self.path, str(key)), line)

    def refuse(self, message: str) -> NoReturn:
        """Raise a :class:`UserError` that names the place."""
        where = f" ({' > '.join(self.path)})" if self.path else ""
        raise UserError(f"{self.file}, line {self.line}{where}: {message}")

    def block(self, node: object, known: Sequence[str] | None = None) -> Block:
        """The node, if it is a mapping, and has known keys only."""
        if not isinstance(node, Block):
            self.refuse(f"expected keys with values, got {node!r}.")
        for key in node:
            if known is not None and key not in known:
                self.at(node, key).refuse(
                    f"unknown key{meant(str(key), known)}; known are {', '.join(known)}."
                )
        return node

    def items(self, node: object) -> Iterator[tuple[Place, Any]]:
        """The items of a list, each with its place; none where there is no list."""
        if not isinstance(node, list | None):
            self.refuse(f"expected a list, got {node!r}.")
        for number, item in enumerate(node or (), 1):
            lines = item.lines.values() if isinstance(item, Block) else ()
            yield Place(self.file, (*self.path, str(number)), min(lines, default=self.line)), item

    def text(self, node: object) -> str:
        """The node, if it is a text."""
        if not isinstance(node, str) or not node.strip():
            self.refuse(f"expected words, got {node!r}.")
        return node

    def flag(self, node: object) -> bool:
        """The node, if it is true or false."""
        if not isinstance(node, bool):
            self.refuse(f"expected true or false, got {node!r}.")
        return node


def read_yaml(file: Path) -> tuple[Place, Any]:
    """The content of a file, whose mappings are :class:`Block`, and its place.

    Raises:
        UserError: it cannot be read or is not YAML, or a key stands twice in one mapping.
    """
    try:
        return Place(file), yaml.load(read_text(file), _Loader)
    except (yaml.YAMLError, ArithmeticError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        Place(file, line=mark.line + 1 if mark else 1).refuse(f"{problem}.")


def meant(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that was probably meant, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


class _Loader(YamlLoader):
    """A safe loader whose mappings are :class:`Block`."""


def _construct(loader: _Loader, node: yaml.MappingNode) -> Block:
    found = Block()
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        problem = "a key cannot be a list or mapping" if isinstance(key, dict | list) else None
        if problem is None and key in found:
            problem = f"the key '{key}' stands twice"
        if problem:
            raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        found[key] = loader.construct_object(value_node, deep=True)
        found.lines[key] = key_node.start_mark.line + 1
    return found


_Loader.add_constructor("tag:yaml.org,2002:map", _construct)
