"""Damaged files and odd values: one sentence in bounded time, and nothing left behind."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import Any

import pytest
import torch
import yaml
from harness import (
    Counts,
    Kind,
    damage_json,
    damage_torch,
    damage_yaml,
    files,
    lay_out,
    run,
    try_kind,
)
from samples import KINDS, MORE
from values import OF_UPSCALE, VALUES


def tried(samples, work, names, seeds):
    counts = Counts()
    for name in names:
        try_kind(name, KINDS[name], samples, work, seeds, counts)
    print(f"\n{counts}\n\n" + "\n\n".join(counts.examples))
    return counts


def test_some_damaged_files_are_refused_in_a_sentence(samples, tmp_path):
    assert not tried(samples, tmp_path, [*KINDS][::6], range(1)).faults


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_refused_in_a_sentence(samples, tmp_path, name):
    first = int(os.environ.get("SR_FUZZ_SEED", 0))
    count = int(os.environ.get("SR_FUZZ_COUNT", 20))
    assert not tried(samples, tmp_path, [name], range(first, first + count)).faults


# In place of a value that a file holds.
ODD: tuple[Any, ...] = (None, "x", -1, 1e30, True, {}, [])
STRUCTURED = [name for name, kind in KINDS.items() if kind.damage in (damage_json, damage_yaml)]


def places(content, path=()):
    """Every place of nested mappings and lists, by the keys that lead to it.

    Tensors are left, and of lists all but the first item, which the others are like.
    """
    inner = content.items() if isinstance(content, dict) else [*enumerate(content)][:1]
    for key, value in inner:
        if not isinstance(value, torch.Tensor):
            yield (*path, key)
        if isinstance(value, dict | list) and key != "state_dict":
            yield from places(value, (*path, key))


def swept(samples, work, kind, odd, load, save):
    """Put an odd value in each place of a file in turn; commands take turns, too."""
    counts = Counts()
    folder = work / "try"
    lay_out(samples, folder)
    path = min(folder.glob(kind.file))
    for turn, place in enumerate([*places(load(path))]):
        lay_out(samples, folder)
        content = node = load(path)
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = odd
        path.unlink()
        save(content, path)
        command = kind.commands[turn % len(kind.commands)]
        outcome = run(command, folder, before=files(folder), **kind.surroundings(folder))
        counts.add(kind.file, f"{place}: {odd!r}: {' '.join(command)}", outcome)
    print(f"\n{counts}\n\n" + "\n\n".join(counts.examples))
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD, ids=map(str, range(len(ODD))))
def test_odd_values_in_a_checkpoint_are_refused_in_a_sentence(samples, tmp_path, odd):
    file = "run/checkpoints/last_step=2.ckpt"
    kind = Kind(file, damage_torch, ((*MORE, "--ckpt_path", file),))
    load = partial(torch.load, weights_only=True)
    assert not swept(samples, tmp_path, kind, odd, load, torch.save).faults


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD, ids=map(str, range(len(ODD))))
@pytest.mark.parametrize("name", STRUCTURED)
def test_odd_values_in_a_structured_file_are_refused_in_a_sentence(samples, tmp_path, name, odd):
    def load(path):
        return yaml.safe_load(path.read_text())

    def save(content, path):
        path.write_text((json.dumps if path.suffix == ".json" else yaml.safe_dump)(content))

    assert not swept(samples, tmp_path, KINDS[name], odd, load, save).faults


def odd_values(samples, work, commands):
    counts = Counts()
    for command in commands:
        folder = work / "try"
        lay_out(samples, folder)
        name = next((part for part in command if part), "nothing")
        counts.add(name, " ".join(command), run(command, folder, before=files(folder)))
    print(f"\n{counts}\n\n" + "\n\n".join(counts.examples))
    return counts


def test_some_odd_values_are_refused_in_a_sentence(samples, tmp_path):
    assert not odd_values(samples, tmp_path, VALUES[::40]).faults


@pytest.mark.slow
def test_odd_values_of_upscale_are_refused_in_a_sentence(samples, tmp_path):
    assert not odd_values(samples, tmp_path, OF_UPSCALE).faults


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_odd_values_are_refused_in_a_sentence(samples, tmp_path, part):
    assert not odd_values(samples, tmp_path, VALUES[part::10]).faults
