"""Damaging files and values of every kind, and judging how commands take it.

A command runs in a forked child, with limits on time and memory. Five things are faults: a
traceback (or the exit status 70 that stands for one), a hang, another exit status than 0, 1 and 2,
a message that is no sentence, and a partial or temporary file that is left behind.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

# Wall time, on machines that others use too.
SECONDS = 180
_MEMORY = 24 << 30
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
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What came of a command.

    Attributes:
        faults: kinds of faults, none if all is well.
        status: exit status; None of a hang.
        said: end of what it printed.
    """

    faults: tuple[str, ...]
    status: int | None
    said: str


def run(
    arguments: Sequence[str],
    folder: Path,
    results: Sequence[str] = (),
    before: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run a command in a folder and judge it.

    Args:
        arguments: as typed after ``sr-lightning``.
        folder: to run in; its state folder and caches are inside.
        results: names of files that may only be there if the command succeeds.
        before: called in the child first.
    """
    log = folder / "said.txt"
    child = os.fork()
    if child == 0:
        _be(arguments, folder, log, before)
    status, end = None, time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(code)
            break
        time.sleep(0.02)
    else:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    said = log.read_text(errors="replace")
    return Outcome(tuple(_faults(status, said, folder, results)), status, said[-1500:])


def _be(arguments: Sequence[str], folder: Path, log: Path, before: Callable[[], None]) -> None:
    """Become the command; never returns."""
    status = 99
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        os.chdir(folder)
        os.environ["XDG_STATE_HOME"] = str(folder / ".state")
        opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(opened, stream)
        sys.stdin = io.StringIO()
        sys.stdout, sys.stderr = (os.fdopen(os.dup(opened), "w", buffering=1) for _ in range(2))
        from sr_lightning.cli import main

        before()
        main(arguments)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _faults(status: int | None, said: str, folder: Path, results: Sequence[str]) -> list[str]:
    faults = []
    if status is None:
        faults.append("hang")
    elif status in {70, 99} or "Traceback (most recent call last)" in said:
        faults.append("traceback")
    elif status not in {0, 1, 2}:
        faults.append("exit status")
    elif status == 2 and "sr-lightning: " not in said and "usage: " not in said:
        faults.append("no sentence")
    left = [path for path in folder.rglob("*") if ".part" in path.name or ".export-" in path.name]
    left += [folder / name for name in results if status != 0 and os.path.lexists(folder / name)]
    return [*faults, "left behind"] if left else faults


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
        results: files that a command may only leave if it succeeds.
    """

    file: str
    damage: Callable[[Path, random.Random], str]
    commands: Sequence[Sequence[str]]
    results: Sequence[str] = ()


@dataclass
class Counts:
    """How often which fault was found, by kind of input.

    Attributes:
        tried: inputs by kind.
        faults: by kind and fault.
        examples: of faults, in words.
    """

    tried: Counter[str] = field(default_factory=Counter)
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, kind: str, words: str, outcome: Outcome) -> None:
        """Count one input."""
        self.tried[kind] += 1
        for fault in outcome.faults:
            self.faults[kind, fault] += 1
        if outcome.faults:
            said = outcome.said.strip()[-700:]
            self.examples.append(
                f"{words}: {', '.join(outcome.faults)} (status {outcome.status})\n{said}"
            )

    def __str__(self) -> str:
        heads = ("traceback", "hang", "exit status", "no sentence", "left behind")
        lines = [f"{'kind':<16}{'inputs':>8}" + "".join(f"{head:>13}" for head in heads)]
        for kind in (*self.tried, "all"):
            names = self.tried if kind == "all" else (kind,)
            tried = sum(self.tried[name] for name in names)
            found = [sum(self.faults[name, head] for name in names) for head in heads]
            lines.append(f"{kind:<16}{tried:>8}" + "".join(f"{count:>13}" for count in found))
        return "\n".join(lines)


def try_kind(
    name: str, kind: Kind, samples: Path, work: Path, seeds: Sequence[int], counts: Counts
) -> None:
    """Try a kind of file with each seed.

    Args:
        name: of the kind.
        kind: what to damage and to run.
        samples: folder of sound files, which is copied for every try.
        work: where to.
        seeds: one input each.
        counts: to add to.
    """
    for seed in seeds:
        chance = random.Random(f"{name} {seed}")
        folder = work / "try"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(samples, folder, symlinks=True)
        (path,) = folder.glob(kind.file)
        how = special(path, chance) if chance.random() < 0.15 else kind.damage(path, chance)
        command = list(chance.choice(kind.commands))
        outcome = run(command, folder, kind.results)
        counts.add(name, f"{name} seed {seed} ({how}): {' '.join(command)}", outcome)
