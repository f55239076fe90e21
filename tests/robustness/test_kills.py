"""A training stopped before or inside any write, rename, unlink or fsync goes on bit for bit.

The child counts what it does to files of its run folder and kills itself at a chosen one. What is
left must resume to the very weights, optimiser and averaged weights of the run that was not
stopped, and to the same rows; or begin anew where no checkpoint was written yet.
"""

from __future__ import annotations

import builtins
import csv
import errno
import io
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import run
from samples import TINY

STEPS = ("--trainer.max_steps", "6", "--trainer.val_check_interval", "2")
FIT = ("fit", *TINY, *STEPS, "--output.folder", "new")
GO_ON = ("fit", "--run", "new", "--trainer.max_steps", "6")


class Meddler:
    """Counts what a process does to files of a folder, and meddles with the n-th act.

    Args:
        folder: part of the paths that count.
        at: number of the act, from 0.
        act: what to do then; it gets the path.
    """

    def __init__(self, folder: str, at: int, act: Callable[[str], None]) -> None:
        self.folder, self.at, self.act = folder, at, act
        self.count = 0
        self._real = {name: getattr(os, name) for name in ("replace", "rename", "unlink", "fsync")}
        self._open = builtins.open

    def _counts(self, path: Any) -> bool:
        return self.folder in str(Path(path).absolute())

    def _met(self, path: Any) -> None:
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
        if self._counts(path):
            number, self.count = self.count, self.count + 1
            if number == self.at:
                self.act(os.fspath(path))

    def install(self) -> None:
        """Put itself before the file functions of this process."""

        def wrapped(name: str) -> Callable[..., Any]:
            def call(path: Any, *args: Any, **more: Any) -> Any:
                self._met(path)
                return self._real[name](path, *args, **more)

            return call

        for name in self._real:
            setattr(os, name, wrapped(name))

        def opened(path: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
            file = self._open(path, mode, *args, **more)
            if set(mode) & set("wax") and not isinstance(path, int):
                inner = file.write

                def write(content: Any) -> Any:
                    if self._counts(path) and self.count == self.at:
                        # Half of it reaches the disk.
                        inner(content[: len(content) // 2])
                        file.flush()
                    self._met(path)
                    return inner(content)

                file.write = write
            return file

        builtins.open = io.open = opened


def die(_: str) -> None:
    """As by SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


def full(_: str) -> None:
    """As a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def stopped_at(number: int, folder: Path, act: Callable[[str], None]) -> Any:
    """Train in a folder, meddled with at an act."""
    return run(FIT, folder, before=lambda: Meddler("/new/", number, act).install())


@pytest.fixture(scope="module")
def unstopped(samples, tmp_path_factory):
    """The folder of a run that nothing stopped, and how much it did to its files."""
    folder = tmp_path_factory.mktemp("unstopped")
    shutil.rmtree(folder)
    shutil.copytree(samples, folder, symlinks=True)
    counter = folder / "count.txt"

    def install() -> None:
        meddler = Meddler("/new/", -1, die)
        meddler.install()
        real = os._exit

        def leave(status: int) -> None:
            counter.write_text(str(meddler.count))
            real(status)

        os._exit = leave

    done = run(FIT, folder, before=install)
    assert done.status == 0, done.said
    return folder, int(counter.read_text())


def state(folder: Path) -> dict[str, Any]:
    (path,) = (folder / "new" / "checkpoints").glob("last_step=6.ckpt")
    return torch.load(path, weights_only=True)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "new" / "metrics.csv").open() as file:
        read = list(csv.DictReader(file))
    assert len({row["step"] for row in read}) == len(read)
    return {
        row["step"]: {k: v for k, v in row.items() if v and not k.startswith("perf/")}
        for row in read
    }


def check_goes_on(number: int, samples: Path, work: Path, unstopped: tuple[Path, int], act) -> str:
    """Stop at an act and go on; says how it went on."""
    folder = work / "stopped"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(samples, folder, symlinks=True)
    first = stopped_at(number, folder, act)
    assert first.status in {-signal.SIGKILL, 2}, f"act {number}: {first.said}"
    assert "Traceback" not in first.said
    whole = list((folder / "new" / "checkpoints").glob("*.ckpt"))
    config = (folder / "new" / "config.yaml").is_file()
    if not (whole and config):
        shutil.rmtree(folder / "new", ignore_errors=True)
    again = run(GO_ON if whole and config else FIT, folder)
    assert again.status == 0, f"act {number}: {again.said}"
    ours, theirs = state(folder), state(unstopped[0])
    # Callbacks and loops hold paths and times.
    for part in ours.keys() - {"callbacks", "loops"}:
        assert same(ours[part], theirs[part]), f"act {number}: other {part}"
    assert rows(folder) == rows(unstopped[0]), f"act {number}: other rows"
    left = [path.name for path in (folder / "new").rglob("*.part")]
    assert act is die or not left, f"act {number}: {left}"
    return "resumed" if whole and config else "anew"


def test_a_run_killed_at_some_acts_goes_on_bit_for_bit(samples, tmp_path, unstopped):
    _, count = unstopped
    for number in range(3, count, max(1, count // 3)):
        check_goes_on(number, samples, tmp_path, unstopped, die)


@pytest.mark.slow
@pytest.mark.parametrize("act", [die, full], ids=["killed", "disk full"])
def test_a_run_stopped_at_any_act_goes_on_bit_for_bit(samples, tmp_path, unstopped, act):
    _, count = unstopped
    tried = range(0, count, max(1, count // int(os.environ.get("SR_KILLS", 40))))
    ways = [check_goes_on(n, samples, tmp_path, unstopped, act) for n in tried]
    print(f"\n{len(tried)} of {count} acts: {ways.count('resumed')} resumed, the others anew")
    assert "resumed" in ways
