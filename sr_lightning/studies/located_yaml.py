"""YAML files written by hand: every message names the line, and no key may stand twice.

What a kind of file may say is a pydantic model of it, :class:`FileModel`, from which editors get a
JSON schema, too.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import yaml
from annotated_types import GroupedMetadata
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)

from sr_lightning.errors import UserError
from sr_lightning.files import YamlLoader, read_text

__all__ = [
    "Block",
    "FileModel",
    "OneOf",
    "Place",
    "Words",
    "as_model",
    "meant",
    "read_model",
    "read_yaml",
]


class FileModel(BaseModel):
    """What a file, or a part of one, may say: other keys are refused, and text is no number."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )


class OneOf(GroupedMetadata):
    """Marks a text as one of several names, for readers and for editors.

    Args:
        known: The names.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self.known = list(known)

    def __iter__(self) -> Iterator[object]:
        yield AfterValidator(self._check)
        yield WithJsonSchema({"type": "string", "enum": self.known})

    def _check(self, name: str) -> str:
        if name not in self.known:
            raise ValueError(f"there is none of that name; known are {', '.join(self.known)}")
        return name


Words = Annotated[str, StringConstraints(pattern=r"\S")]
"""A text that is not blank."""

_Model = TypeVar("_Model", bound=FileModel)


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
        value: What stands there; None for nothing.
        path: Keys that lead to the place.
        line: Counted from 1.
    """

    file: Path
    value: Any = None
    path: tuple[str, ...] = ()
    line: int = 1

    def at(self, key: object) -> Place:
        """The place of a key inside of it, whether or not it has that key."""
        inside = self.value if isinstance(self.value, Block) else Block()
        line = inside.lines.get(key, self.line)
        return Place(self.file, inside.get(key), (*self.path, str(key)), line)

    def refuse(self, message: str) -> NoReturn:
        """Raise a :class:`UserError` that names the place."""
        where = f" ({' > '.join(self.path)})" if self.path else ""
        raise UserError(f"{self.file}, line {self.line}{where}: {message}")

    def entries(self) -> Iterator[tuple[Any, Place]]:
        """The keys of a mapping, each with its place."""
        if not isinstance(self.value, Block):
            self.refuse(f"expected keys with values, got {self.value!r}.")
        for key in self.value:
            yield key, self.at(key)

    def items(self) -> Iterator[Place]:
        """The places of the items of a list; none where there is no list."""
        if not isinstance(self.value, list | None):
            self.refuse(f"expected a list, got {self.value!r}.")
        for number, item in enumerate(self.value or (), 1):
            lines = item.lines.values() if isinstance(item, Block) else ()
            line = min(lines, default=self.line)
            yield Place(self.file, item, (*self.path, str(number)), line)


def read_yaml(file: Path) -> Place:
    """The content of a file, whose mappings are :class:`Block`, as a place.

    Raises:
        UserError: it cannot be read or is not YAML, or a key stands twice in one mapping.
    """
    try:
        return Place(file, yaml.load(read_text(file), _Loader))
    except (yaml.YAMLError, ArithmeticError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        Place(file, line=mark.line + 1 if mark else 1).refuse(f"{problem}.")


def read_model(file: Path, model: type[_Model]) -> _Model:
    """The content of a file as a model of it.

    Args:
        file: Path of the YAML file.
        model: What it may say.

    Raises:
        UserError: see :func:`read_yaml` and :func:`as_model`.
    """
    return as_model(read_yaml(file), model)


def as_model(place: Place, model: type[_Model]) -> _Model:
    """What :func:`read_yaml` gives as a model.

    Args:
        place: Where it stands.
        model: What it may say.

    Raises:
        UserError: a key is unknown or missing, or a value is of another type.
    """
    try:
        # As JSON, where lists are tuples and keys are text.
        return model.model_validate_json(json.dumps(_plain(place.value), default=str))
    except ValidationError as error:
        # A misspelt key says more than that the one which was meant is missing.
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        loc = [key for key in first["loc"] if key != "[key]"]
        for key in loc:
            place = _inside(place, key)
        if first["type"] == "extra_forbidden":
            known = _known(model, loc)
            hint = meant(str(loc[-1]), known)
            place.refuse(f"unknown key{hint}; known are {', '.join(known)}.")
        if first["type"] in {"model_type", "dict_type", "dataclass_type"}:
            place.refuse(f"expected keys with values, got {str(place.value)[:60]!r}.")
        said = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
        words = {
            "missing": "the key is missing",
            "too_short": "name at least one",
            "string_pattern_mismatch": "write at least one word",
        }
        place.refuse(words.get(first["type"], f"{said}, got {str(first['input'])[:60]!r}") + ".")


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    return [_plain(value) for value in node] if isinstance(node, list) else node


def _inside(place: Place, key: int | str) -> Place:
    """The place of an item, or of a key, which JSON has made a text."""
    if isinstance(key, int):
        items = place.value if isinstance(place.value, list) else []
        return replace(place.at(key + 1), value=items[key] if key < len(items) else None)
    named = place.value if isinstance(place.value, Block) else ()
    value = next((place.at(name).value for name in named if str(name) == key), None)
    return replace(place.at(key), value=value)


def _known(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """The keys that the part of a model has in which a path ends."""
    for key in path[:-1]:
        field = model.model_fields.get(str(key))
        found = None if field is None else _models_in(field.annotation)
        model = found or model
    return list(model.model_fields)


def _models_in(kind: Any) -> type[BaseModel] | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    parts = (_models_in(part) for part in getattr(kind, "__args__", ()))
    return next((part for part in parts if part is not None), None)


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
