"""Damaged files and odd values: one sentence in bounded time, and nothing left behind."""

from __future__ import annotations

import os

import pytest
from harness import Counts, files, lay_out, run, try_kind
from samples import KINDS
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
