"""Saying what is wrong with a config in one sentence that names the key."""

from __future__ import annotations

import difflib
import re
from itertools import groupby
from typing import Any, NoReturn

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

from sr_lightning.classes import find_class
from sr_lightning.classes import refusal as import_refusal
from sr_lightning.errors import UserError

__all__ = ["PlainParser", "in_plain_words", "refusal"]

# Lines of jsonargparse's report that repeat the input or list what else was tried.
_FILLER = re.compile(
    r"^\s*(Does not validate against any|Subtypes:|Errors:|- Expected a <class 'NoneType'>"
    r"|Given value)"
)

_NO_NETWORK = re.compile(r"Import path (\S+) does not correspond to a subclass of SRNetwork")
_HOW_TO_ADAPT = (
    r"\1 is no subclass of SRNetwork; a plain torch module goes into "
    "sr_lightning.nn.adapter.Adapted, which says its scale and colour"
)
# What they say of values that are nothing of the kind.
_PLAIN = {
    r"^Expected a dot import path string:.*": "expected the dotted path of a class, such as "
    "torch.optim.Adam",
    r"^argument of type '\w+' is not iterable": "expected the dotted path of a class",
    r"^Unable to load config '(.*?)' Unable.*": r"a section of options belongs here, not '\1'",
    r"^unhashable type: '(\w+)'": r"a \1 stands where a name or a number belongs",
}
_TYPE = r"[Ee]xpected an? (\w+)"
_TYPES = re.compile(rf"(?:{_TYPE}\.?\s*)+")
_DENIED = re.compile(r"Importing '([^']+)' is not allowed")


class PlainParser(LightningArgumentParser):
    """LightningCLI's parser, whose errors are one sentence instead of the usage and a tree."""

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parse a command line; what may not be imported is refused as any mistake is."""
        try:
            return super().parse_args(*args, **kwargs)
        except ImportError as error:
            # From sections of the config that are no classes to choose, jsonargparse lets it out.
            self.error(str(error), error)

    def parse_object(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the content of a config; see :meth:`parse_args`."""
        try:
            return super().parse_object(*args, **kwargs)
        except ImportError as error:
            self.error(str(error), error)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what is wrong as a :class:`UserError`."""
        if not self.exit_on_error:
            # A parser inside the parser: its message becomes part of the outer one's.
            super().error(message, ex)
        raise UserError(in_plain_words(message, list(self._option_string_actions))) from ex


def in_plain_words(message: str, options: list[str]) -> str:
    """Shorten a jsonargparse message and say what was probably meant.

    Args:
        message: Message as jsonargparse made it.
        options: Command-line options that exist.
    """
    lines = [line for line in message.splitlines() if line.strip() and not _FILLER.match(line)]
    text = " ".join(line.strip().removeprefix("- ") for line in lines)
    keys = re.findall(r'Parser key "([^"]+)":', text)
    # A section that is given as one value is named twice.
    keys = [key for key, _ in groupby(keys)]
    where = f"{'.'.join(keys)}: " if keys else ""
    if denied := _DENIED.search(text):
        return f"{where}{import_refusal(denied.group(1))}."
    text = re.sub(r'Parser key "[^"]+":\s*', "", text)
    text = re.sub(r"Expected a path but \S+ either not accessible or invalid ", "", text)
    text = _NO_NETWORK.sub(_HOW_TO_ADAPT, text)
    classes = re.findall(r"Problem with given class_path '([^']+)':", text)
    text = re.sub(r"Problem with given class_path '[^']+':\s*", "", text).strip()
    text = re.sub(
        r"Type typing\.Callable\[.*?\] expects a function or a callable class: ", "", text
    )
    classes += re.findall(r"Got value: Namespace\(class_path='([^']+)'", text)
    text = re.sub(r"\. Got value: Namespace\(.*\)$", "", text)
    text = re.sub(r"Expected a (?:typing\.)?(.+?)\. Got value: (.+)$", r"expected \1, got \2", text)
    text = re.sub(r"<class '([^']+)'>", r"\1", text)
    if _TYPES.fullmatch(text):
        text = f"expected {' or '.join(dict.fromkeys(re.findall(_TYPE, text)))}"
    for theirs, plain in _PLAIN.items():
        text = re.sub(theirs, plain, text)
    refused = re.search(r"Option '([^']+)' is not accepted", text)
    if refused:
        name = refused.group(1)
        known = _arguments(classes[-1]) if classes else []
        of = f" of {classes[-1].rpartition('.')[2]}" if classes else ""
        return f"{where}there is no option '{name}'{of}{_meant(name, known)}."
    unknown = re.match(r"unrecognized arguments: (\S+)", text)
    if unknown:
        option = unknown.group(1).partition("=")[0]
        return f"There is no option {option}{_meant(option, options)}; see --help."
    if keys == ["config"]:
        return f"--config: {text}."
    return f"{where}{text.rstrip('.')}."


def refusal(error: BaseException) -> str:
    """What the constructor that was refused had said, out of jsonargparse's wrapping."""
    inner = error
    while inner.__cause__ is not None:
        inner = inner.__cause__
    return str(inner)


def _meant(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _arguments(class_path: str) -> list[str]:
    """Names of a class's arguments, those behind **kwargs included."""
    try:
        kind = find_class(class_path, object)
        parser = ArgumentParser()
        added = parser.add_class_arguments(kind, "x", fail_untyped=False)
    except Exception:
        # Only a hint is lost.
        return []
    return [key.removeprefix("x.") for key in added]
