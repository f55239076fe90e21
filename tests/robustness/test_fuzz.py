"""Damaged files and odd values: one sentence in bounded time, and nothing left behind."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from harness import Counts, files, lay_out, run, try_kind
from samples import KINDS, MORE
from values import OF_UPSCALE, VALUES


def tried(samples, work, names, seeds):
    counts = Counts()
    for name in names:
        try_kind(name, KINDS[name], samples, work, seeds, counts)
    print(f"\n{counts}\n\n" + "\n\n".join(counts.examples))
    return counts


def test_some_damaged_files_are_refused_in_a_sentence(samples, tmp_path):
    assert not tried(samples, tmp_path, [*KINDS][::2], range(1)).faults


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_refused_in_a_sentence(samples, tmp_path, name):
    first = int(os.environ.get("SR_FUZZ_SEED", 0))
    count = int(os.environ.get("SR_FUZZ_COUNT", 20))
    assert not tried(samples, tmp_path, [name], range(first, first + count)).faults


# In place of a value that a checkpoint keeps.
ODD: tuple[Any, ...] = (None, "x", -1, 1e30, True, {}, [])


def places(content, path=()):
    """Every place of nested mappings and lists, by the keys that lead to it; tensors are left."""
    inner = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in inner:
        if not isinstance(value, torch.Tensor):
            yield (*path, key)
        if isinstance(value, dict | list) and key != "state_dict":
            yield from places(value, (*path, key))


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD, ids=map(str, range(len(ODD))))
def test_odd_values_in_a_checkpoint_are_refused_in_a_sentence(samples, tmp_path, odd):
    counts = Counts()
    folder = tmp_path / "try"
    lay_out(samples, folder)
    (last,) = (folder / "run" / "checkpoints").glob("last*.ckpt")
    for place in places(torch.load(last, weights_only=True)):
        lay_out(samples, folder)
        content = node = torch.load(last, weights_only=True)
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = odd
        last.unlink()
        torch.save(content, last)
        command = (*MORE, "--ckpt_path", str(last))
        counts.add("checkpoint", f"{place}: {odd!r}", run(command, folder, before=files(folder)))
    print(f"\n{counts}\n\n" + "\n\n".join(counts.examples))
    assert not counts.faults


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
    assert not odd_values(samples, tmp_path, VALUES[::20]).faults


@pytest.mark.slow
def test_odd_values_of_upscale_are_refused_in_a_sentence(samples, tmp_path):
    assert not odd_values(samples, tmp_path, OF_UPSCALE).faults


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_odd_values_are_refused_in_a_sentence(samples, tmp_path, part):
    assert not odd_values(samples, tmp_path, VALUES[part::10]).faults
