"""Damaging files and values of every kind, and judging how commands take it.

A command runs in a forked child, with limits on time and memory. Six things are faults: a traceback
(or the exit status 70 that stands for one), a hang, more memory than any of these small inputs is
worth, another exit status than 0, 1 and 2, a message that is no sentence, and a file that a failing
command leaves behind.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml

# Of the processor; of the wall, on machines that others use too, the server waits longer.
SECONDS = 60
_MOST_MEMORY = 4 << 30
_HERE = Path(__file__).parent
_ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        1.5,
        10**30,
        float("nan"),
        float("inf"),
        "",
        "[/x]",
        "a\0b",
        "~no_user/x",
    ),
    *(
        "/dev/zero",
        "x" * 5000,
        [],
        {},
        [[]],
        {"class_path": "os.system"},
        ["a", None],
        [-1],
        "1e999",
        "31.5",
        {"a": 1},
    ),
)
# What commands that are broken off may leave for the next one.
_KEPT = ("new", "run", "runs", "results", "cache", "said.txt", ".state", "d/downloads", "up/")


@dataclass(frozen=True)
class Outcome:
    """What came of a command.

    Attributes:
        faults: kinds of faults, none if all is well.
        status: exit status; None of a hang.
        said: end of what it printed.
        acts: how much it did to files of its folder, if that was counted.
    """

    faults: tuple[str, ...]
    status: int | None
    said: str
    acts: int


@dataclass(frozen=True)
class Meddle:
    """What happens to the files of a command's folder.

    Attributes:
        at: number of the act from 0 that it happens at; -1 only counts.
        how: "count", "kill before", "kill inside", or an error's number, which stays from then on.
    """

    at: int = -1
    how: str | int = "count"

    @property
    def codes(self) -> list[int]:
        """As the shim takes it."""
        named = ["count", "kill before", "kill inside"]
        if isinstance(self.how, int):
            return [self.at, len(named), self.how]
        return [self.at, named.index(self.how), 0]


@cache
def shim() -> Path | None:
    """The library that meddles, or None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    made = Path(tempfile.mkdtemp(prefix="shim-")) / "shim.so"
    atexit.register(shutil.rmtree, made.parent, ignore_errors=True)
    source = str(_HERE / "shim.c")
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(made), source, "-ldl"]
    subprocess.run(command, check=True)
    return made


@cache
def _server() -> subprocess.Popen[str]:
    preloaded = {} if shim() is None else {"LD_PRELOAD": str(shim())}
    path = os.pathsep.join([str(_HERE.parent.parent), str(_HERE.parent), str(_HERE)])
    server = subprocess.Popen(
        [sys.executable, str(_HERE / "server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **preloaded, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    atexit.register(server.kill)
    return server


def run(
    arguments: Sequence[str],
    folder: Path,
    *,
    before: frozenset[str] | None = None,
    meddle: Meddle | None = None,
    environment: Mapping[str, str] | None = None,
    zoo: str | None = None,
    seconds: int = SECONDS,
) -> Outcome:
    """Run a command in a folder and judge it.

    Args:
        arguments: as typed after ``sr-lightning``.
        folder: to run in; its state folder is inside.
        before: the files of the folder, where a failing command may not leave others.
        meddle: what happens to its files; needs a C compiler.
        environment: further variables.
        zoo: folder of weights that stands for the package's own.
        seconds: of processor time that it may take.
    """
    folder = folder.resolve()
    log = folder.with_name(f"{folder.name}-said.txt")
    state = folder.with_name(f"{folder.name}-state")
    asked = {
        "arguments": list(arguments),
        "folder": str(folder),
        "log": str(log),
        "seconds": seconds,
        "meddle": None if meddle is None else meddle.codes,
        "environment": {"XDG_STATE_HOME": str(state), **(environment or {})},
        "zoo": zoo,
    }
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()
    answer = json.loads(server.stdout.readline())
    said = log.read_text(errors="replace") if log.exists() else ""
    status = answer["status"]
    faults = _faults(status, said, folder, before)
    if answer["memory"] > _MOST_MEMORY:
        faults.append("memory")
    return Outcome(tuple(faults), status, said[-3000:], answer["acts"])


def files(folder: Path) -> frozenset[str]:
    """The files of a folder by their paths in it."""
    return frozenset(
        os.path.relpath(os.path.join(at, name), folder)  # noqa: PTH118
        for at, _, names in os.walk(folder)
        for name in names
    )


def _faults(
    status: int | None, said: str, folder: Path, before: frozenset[str] | None
) -> list[str]:
    faults = []
    if status is None:
        faults.append("hang")
    elif status in {70, 99} or "Traceback (most recent call last)" in said:
        faults.append("traceback")
    elif status not in {0, 1, 2}:
        faults.append("exit status")
    elif (status == 2 and "sr-lightning: " not in said and "usage: " not in said) or (
        status == 1 and not said.strip()
    ):
        faults.append("no sentence")
    left = partial(folder)
    if status != 0 and before is not None:
        left += [name for name in files(folder) - before if not name.startswith(_KEPT)]
    return [*faults, "left behind"] if left else faults


def partial(folder: Path) -> list[str]:
    """Names of files and folders that were begun and not finished."""
    marks = (".part", ".export-", ".upscale-", ".tmp")
    return [
        name
        for _, folders, names in os.walk(folder)
        for name in (*folders, *names)
        if any(mark in name for mark in marks)
    ]


# Damage ------------------------------------------------------------------------------------------


def special(path: Path, random: random.Random) -> str:
    """Put something in the place of a file that is none; says what."""
    kind = random.choice(("missing", "empty", "folder", "pipe", "loop", "zeros", "text"))
    path.unlink()
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "zeros":
        path.symlink_to("/dev/zero")
    elif kind == "text":
        path.write_text("<html>404 not found</html>\n")
    return kind


def damaged(content: bytes, random: random.Random) -> bytes:
    """Bytes with some of them cut off, flipped, overwritten, inserted or repeated."""
    place = random.randrange(len(content))
    kind = random.choice(("cut", "flip", "zero", "insert", "repeat", "head"))
    if kind == "cut":
        return content[:place]
    if kind == "flip":
        changed = bytearray(content)
        for _ in range(random.choice((1, 10, 100))):
            changed[random.randrange(len(content))] ^= 1 << random.randrange(8)
        return bytes(changed)
    if kind == "zero":
        return content[:place] + bytes(len(content[place : place + 64])) + content[place + 64 :]
    if kind == "insert":
        return content[:place] + random.randbytes(20) + content[place:]
    if kind == "repeat":
        return content[:place] + content[max(0, place - 500) :]
    return random.randbytes(16) + content[16:]


def changed(tree: Any, random: random.Random) -> Any:
    """Nested plain data with one value, key or part of it replaced by something odd."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        keys = (
            node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        )
        for key in list(keys):
            places.append((node, key))
            walk(node[key])

    walk(tree)
    if not places or random.random() < 0.05:
        return random.choice(_ODD)
    node, key = random.choice(places)
    kind = random.choice(("value", "value", "value", "gone", "renamed"))
    if kind == "value" or isinstance(node, list):
        node[key] = random.choice(_ODD)
    elif kind == "gone":
        del node[key]
    else:
        node[random.choice(("x", 7, "", None))] = node.pop(key)
    return tree


def damage_json(path: Path, random: random.Random) -> str:
    """Damage a JSON file, mostly within its structure."""
    return _damage_tree(path, random, json.loads, lambda tree: json.dumps(tree, default=str))


def damage_yaml(path: Path, random: random.Random) -> str:
    """Damage a YAML file, mostly within its structure."""
    if random.random() < 0.1:
        a = random.choice(
            ("[" * 100_000, "a: &a [*a]", _laughs(), "\t", "- a\nb: c", "a: !!python/x")
        )
        path.unlink()
        path.write_text(a)
        return f"odd text {a[:20]!r}"
    return _damage_tree(path, random, yaml.safe_load, lambda tree: yaml.safe_dump(tree))


def _laughs() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    return "\n".join(lines)


def _damage_tree(
    path: Path, random: random.Random, read: Callable[[str], Any], write: Callable[[Any], str]
) -> str:
    text = path.read_text()
    path.unlink()
    if random.random() < 0.15:
        path.write_bytes(damaged(text.encode(), random))
        return "bytes"
    path.write_text(write(changed(read(text), random)))
    return "structure"


def damage_safetensors(path: Path, random: random.Random) -> str:
    """Damage weights: bytes, what is noted of the network, or numbers."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    if random.random() < 0.4:
        path.write_bytes(damaged(path.read_bytes(), random))
        return "bytes"
    with safe_open(path, "pt") as opened:
        noted = json.loads(opened.metadata()["network"])
    tensors = _odd_numbers(load_file(path), random) if random.random() < 0.4 else load_file(path)
    save_file(tensors, path, {"network": json.dumps(changed(noted, random), default=str)})
    return "structure"


def damage_torch(path: Path, random: random.Random) -> str:
    """Damage a checkpoint or state dict: bytes, structure, or numbers."""
    if random.random() < 0.4:
        path.write_bytes(damaged(path.read_bytes(), random))
        return "bytes"
    content = torch.load(path, weights_only=True)
    if random.random() < 0.3:
        state = content.get("state_dict", content)
        state.update(_odd_numbers(dict(state), random))
    else:
        content = changed(content, random)
    torch.save(content, path)
    return "structure"


def _odd_numbers(tensors: dict[str, Any], random: random.Random) -> dict[str, Any]:
    name = random.choice([key for key, value in tensors.items() if isinstance(value, torch.Tensor)])
    value = tensors[name]
    tensors[name] = random.choice(
        (
            lambda: torch.full_like(value, float("nan")),
            lambda: torch.full_like(value, float("-inf")),
            lambda: value.to(torch.int64),
            lambda: value.to(torch.complex64),
            lambda: value.double() * 0 + 1e300,
            lambda: value[..., None],
            lambda: value.bool(),
            lambda: value.flatten()[:0],
        )
    )()
    return tensors


def damage_bytes(path: Path, random: random.Random) -> str:
    """Damage a file of any kind."""
    path.write_bytes(damaged(path.read_bytes(), random))
    return "bytes"


# Counting ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of file and the commands that read it.

    Attributes:
        file: its place in the folder of samples.
        damage: what damages it; says how.
        commands: to try, as typed after ``sr-lightning``.
        environment: further variables.
        zoo: folder of weights that stands for the package's own.
    """

    file: str
    damage: Callable[[Path, random.Random], str]
    commands: Sequence[Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    zoo: str | None = None

    def surroundings(self, folder: Path) -> dict[str, Any]:
        """What :func:`run` is told beside the command.

        Args:
            folder: where the samples are laid out.
        """
        named = {key: value.replace("HERE", str(folder)) for key, value in self.environment.items()}
        return {"environment": named, "zoo": None if self.zoo is None else str(folder / self.zoo)}


@dataclass
class Counts:
    """How often which fault was found, by kind of input.

    Attributes:
        tried: inputs by kind.
        refused: those of them that were refused.
        faults: by kind and fault.
        examples: of faults, in words.
    """

    tried: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, kind: str, words: str, outcome: Outcome) -> None:
        """Count one input."""
        self.tried[kind] += 1
        self.refused[kind] += outcome.status != 0
        for fault in outcome.faults:
            self.faults[kind, fault] += 1
        if outcome.faults:
            said = outcome.said.strip()[-700:]
            self.examples.append(
                f"{words}: {', '.join(outcome.faults)} (status {outcome.status})\n{said}"
            )
        if where := os.environ.get("SR_FUZZ_LOG"):
            line = outcome.said.strip()[-700:].replace("\n", " | ")
            with Path(where).open("a") as log:
                log.write(f"{words} [{outcome.status}] {' '.join(outcome.faults)}: {line}\n")

    def __str__(self) -> str:
        heads = ("traceback", "hang", "memory", "exit status", "no sentence", "left behind")
        lines = [f"{'kind':<16}{'inputs':>8}{'refused':>9}" + "".join(f"{h:>13}" for h in heads)]
        for kind in (*self.tried, "all"):
            names = self.tried if kind == "all" else (kind,)
            tried = sum(self.tried[name] for name in names)
            refused = sum(self.refused[name] for name in names)
            found = [sum(self.faults[name, head] for name in names) for head in heads]
            lines.append(
                f"{kind:<16}{tried:>8}{refused:>9}" + "".join(f"{count:>13}" for count in found)
            )
        return "\n".join(lines)


def lay_out(samples: Path, folder: Path) -> None:
    """Put the samples into a new folder, as cheaply as they cannot be changed from there.

    What commands write into is copied; the rest are links to the same files.
    """
    shutil.rmtree(folder, ignore_errors=True)

    def place(source: str, target: str) -> None:
        if "/run/" in source or "/results/" in source or "/cache/" in source:
            shutil.copyfile(source, target)
        else:
            os.link(source, target)

    shutil.copytree(samples, folder, symlinks=True, copy_function=place)


def try_kind(
    name: str, kind: Kind, samples: Path, work: Path, seeds: Sequence[int], counts: Counts
) -> None:
    """Try a kind of file with each seed.

    Args:
        name: of the kind.
        kind: what to damage and to run.
        samples: folder of sound files, which is laid out anew for every try.
        work: where to.
        seeds: one input each.
        counts: to add to.
    """
    for seed in seeds:
        chance = random.Random(f"{name} {seed}")
        folder = work / "try"
        lay_out(samples, folder)
        path = chance.choice(sorted(folder.glob(kind.file)))
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        how = special(path, chance) if chance.random() < 0.15 else kind.damage(path, chance)
        command = list(chance.choice(kind.commands))
        outcome = run(command, folder, before=files(folder), **kind.surroundings(folder))
        counts.add(name, f"{name} seed {seed} ({how}): {' '.join(command)}", outcome)
