"""Which code made a number: a digest of the definitions that a run can reach, wherever they stand.

Source is read, never run. From the classes that a config names, every name that a definition
mentions is followed to the definition behind it: through the suite, whose functions, classes and
constants count one by one, and through the user's own modules, which count whole, because they may
do anything when they are imported. Other packages count by the names that are taken from them;
their versions are recorded elsewhere.

Comments, docstrings, layout, messages of errors and the files that definitions stand in do not
count. Code that is reached only by a name computed while it runs is not seen.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property, lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sr_lightning.errors import UserError

__all__ = ["Statement", "class_paths", "code_identity", "reached"]

_SUITE = __name__.partition(".")[0]


def code_identity(entries: Iterable[str], aside: Collection[str] = ()) -> str:
    """Digest of the code that can be reached from classes or functions.

    Args:
        entries: Dotted names, such as ``sr_lightning.papers.hfdn.module.HFDNModule``; those
            of other packages do not count.
        aside: Names of the suite's definitions that decide no number and are not followed.

    Raises:
        UserError: the suite has no such entry, or a source file cannot be read.
    """
    # What stands for what is part of it: two imports that change places change a number.
    lines = {
        f"{statement.digest} {name} {target if isinstance(target, str) else target.digest}"
        for statement, targets in reached(entries, aside).items()
        for name, target in [("", statement), *targets]
    }
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def class_paths(config: Any) -> list[str]:
    """Values of a config that read like the full name of a class.

    Args:
        config: Mappings, lists and plain values, as read from YAML.
    """
    if isinstance(config, dict):
        config = list(config.values())
    if isinstance(config, list | tuple):
        return sorted({path for value in config for path in class_paths(value)})
    parts = config.split(".") if isinstance(config, str) else []
    return [config] if len(parts) > 1 and all(map(str.isidentifier, parts)) else []


def reached(
    entries: Iterable[str], aside: Collection[str] = ()
) -> dict[Statement, list[tuple[str, Target]]]:
    """Statements that can be reached, each with what the names in it stand for.

    Args:
        entries: See :func:`code_identity`.
        aside: See :func:`code_identity`.

    Raises:
        UserError: see :func:`code_identity`.
    """
    modules = _Modules(aside)
    found: dict[Statement, list[tuple[str, Target]]] = {}
    pending = [target for entry in entries for target in modules.entry(entry)]
    while pending or modules.whole:
        target = (pending or modules.whole).pop()
        if isinstance(target, Statement) and target not in found:
            found[target] = list(modules.targets(target))
            pending += [one for _, one in found[target]]
    return found


class Statement:
    """A top-level statement of a module, most often one definition.

    Args:
        module: Name of the module.
        node: The statement's syntax tree.

    Attributes:
        names: Names that it defines; an empty one if it only does something.
    """

    def __init__(self, module: str, node: ast.stmt) -> None:
        self.module = module
        self.node = node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self.names = {node.name}
            return
        nodes = list(ast.walk(node))
        stored = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        inside = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        self.names = stored | inside or {""}

    @cached_property
    def _read(self) -> tuple[str, set[tuple[str, ...]]]:
        mentions: set[tuple[str, ...]] = set()
        text = _text(self.node, mentions)
        return hashlib.sha256(text.encode()).hexdigest(), mentions

    @property
    def digest(self) -> str:
        """Of what it says."""
        return self._read[0]

    @property
    def mentions(self) -> set[tuple[str, ...]]:
        """Names in it, with attributes: ``("nn", "functional", "conv2d")``."""
        return self._read[1]


Target = Statement | str
"""What a name stands for: a statement, or the full name of something that is not followed."""


def _text(node: Any, mentions: set[tuple[str, ...]]) -> str:
    """What a piece of source says, the same in every version of Python; notes names in it."""
    if isinstance(node, list):
        return f"[{' '.join(_text(one, mentions) for one in node if not _is_silent(one))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        # What it tells the user decides no number.
        node = ast.Raise(node.exc.func)
    if chain := _chain(node):
        mentions.add(chain)
        return ".".join(chain)
    said = [type(node).__name__]
    for name, value in ast.iter_fields(node):
        if value is not None and value != [] and name not in {"ctx", "kind", "type_comment"}:
            said.append(f"{name}={_text(value, mentions)}")
    return f"({' '.join(said)})"


def _chain(node: ast.AST) -> tuple[str, ...]:
    """``a.b.c`` as its names; nothing where it does not begin with a name."""
    if isinstance(node, ast.Name):
        return (node.id,)
    before = _chain(node.value) if isinstance(node, ast.Attribute) else ()
    return (*before, node.attr) if before and isinstance(node, ast.Attribute) else ()


def _is_silent(node: ast.AST) -> bool:
    """Whether it says nothing of its own: imports, docstrings and what only a script does."""
    if isinstance(node, ast.If):
        if isinstance(node.test, ast.Compare) and _chain(node.test.left) == ("__name__",):
            return True
        return not node.orelse and all(map(_is_silent, node.body))
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Import | ast.ImportFrom | ast.Pass)


class _Module:
    """What a source file defines and imports.

    Attributes:
        is_users: Whether it is not the suite's.
        statements: Statements that say something.
        defined: Statements by the names that they define.
        imported: What imported names stand for: a module, and a name in it or "" for the module.
    """

    def __init__(self, name: str, source: bytes, folders: tuple[str, ...]) -> None:
        self.name = name
        self.folders = folders
        self.is_users = name.partition(".")[0] != _SUITE
        tree = ast.parse(source)
        self.statements = [Statement(name, node) for node in tree.body if not _is_silent(node)]
        self.defined: dict[str, list[Statement]] = {}
        for statement in self.statements:
            for defined in statement.names:
                self.defined.setdefault(defined, []).append(statement)
        self.imported: dict[str, list[tuple[str, str]]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for alias in node.names:
                    self._note(node, alias)

    def _note(self, node: ast.Import | ast.ImportFrom, alias: ast.alias) -> None:
        if isinstance(node, ast.ImportFrom):
            target = self._origin(node), alias.name
        else:
            target = alias.name, ""
            if not alias.asname:
                # It binds the first of its names; the whole is noted because it is imported.
                first = alias.name.partition(".")[0]
                self.imported.setdefault(first, []).append((first, ""))
        self.imported.setdefault(alias.asname or alias.name, []).append(target)

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        # A package is a level deeper than its name says.
        parts = [*self.name.split("."), *([""] if self.folders else [])]
        return ".".join([*parts[: -node.level], *filter(None, [node.module])])


class _Modules:
    """Finds what names stand for, in source as it is now.

    Args:
        aside: See :func:`code_identity`.

    Attributes:
        whole: Statements of the user's modules that were met, all of which count.
    """

    def __init__(self, aside: Collection[str]) -> None:
        self.aside = aside
        self.whole: list[Target] = []
        self._known: dict[str, _Module | None] = {}
        self._active: set[tuple[str, tuple[str, ...]]] = set()

    def entry(self, path: str) -> list[Target]:
        """What a full name stands for.

        Raises:
            UserError: it is one of the suite's, but not there.
        """
        first, *rest = path.split(".")
        found = self._resolve(first, tuple(rest))
        if not found and first == _SUITE:
            raise UserError(f"There is no '{path}'; look for a slip in the config.")
        return found

    def targets(self, statement: Statement) -> Iterator[tuple[str, Target]]:
        """What the names in a statement stand for; nothing for built-in and local ones."""
        module = self.load(statement.module)
        assert module is not None
        for chain in statement.mentions:
            for target in self._named(module, chain):
                yield ".".join(chain), target
        for target in module.defined.get("", []):
            yield "", target

    def load(self, name: str) -> _Module | None:
        """A module of the suite or the user, or None for any other."""
        if name not in self._known:
            self._known[name] = None
            spec = self._spec(name)
            module = self._known[name] = _module_of(name, spec) if spec is not None else None
            if module is not None and module.is_users:
                self.whole += module.statements
                for origin, attribute in [t for ts in module.imported.values() for t in ts]:
                    if self.load(origin) is not None and attribute:
                        self.load(f"{origin}.{attribute}")
        return self._known[name]

    def _spec(self, name: str) -> ModuleSpec | None:
        package = name.rpartition(".")[0]
        if package:
            outer = self.load(package)
            return PathFinder.find_spec(name, outer.folders) if outer and outer.folders else None
        if not name or name in sys.stdlib_module_names:
            return None
        try:
            found = find_spec(name)
        except ValueError:
            return None
        # The processes of a study's cells look into the current folder, too.
        return found or PathFinder.find_spec(name, [str(Path.cwd())])

    def _named(self, module: _Module, chain: tuple[str, ...]) -> list[Target]:
        """What a name stands for inside a module."""
        head, *rest = chain
        if head in self.aside and not module.is_users:
            return [head] if head in module.defined or head in module.imported else []
        found: list[Target] = list(module.defined.get(head, []))
        for origin, name in module.imported.get(head, []):
            found += self._resolve(origin, (name, *rest) if name else tuple(rest))
        if not found:
            for origin, _ in module.imported.get("*", []):
                found += self._resolve(origin, chain)
        return found

    def _resolve(self, name: str, chain: tuple[str, ...]) -> list[Target]:
        """What a name stands for that is taken from a module; the module whole if there is none."""
        module = self.load(name)
        if module is None:
            return [".".join([name, *chain])]
        if not chain:
            return [*module.statements]
        if (name, chain) in self._active:
            # An import that leads back to itself.
            return []
        self._active.add((name, chain))
        found = self._named(module, chain)
        self._active.remove((name, chain))
        if not found and self.load(f"{name}.{chain[0]}") is not None:
            found = self._resolve(f"{name}.{chain[0]}", chain[1:])
        return found


def _module_of(name: str, spec: ModuleSpec) -> _Module | None:
    folders = tuple(spec.submodule_search_locations or ())
    path = Path(spec.origin if spec.origin and spec.has_location else next(iter(folders), ""))
    is_installed = {"site-packages", "dist-packages"} & set(path.parts)
    if is_installed and name.partition(".")[0] != _SUITE:
        return None
    if path.is_dir() and folders:
        return _Module(name, b"", folders)
    if path.suffix != ".py":
        return None
    try:
        status = path.stat()
        return _parsed(name, path, folders, status.st_mtime_ns, status.st_size)
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as Python: {error}.") from error


@lru_cache(maxsize=1024)
def _parsed(name: str, path: Path, folders: tuple[str, ...], *_: int) -> _Module:
    return _Module(name, path.read_bytes(), folders)
