"""What is killed before or inside any act on its files goes on as if it had not been.

A preloaded shim counts what a process does to files of its folder (opens, writes, renames, links,
removals, syncs) and kills it at a chosen act. A training must then resume to the very weights,
optimiser, averaged weights and rows of the run that was not stopped, or begin anew where no
checkpoint was written yet; every other command must give, run again, what it gives undisturbed.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import Meddle, Outcome, lay_out, partial, run, shim
from samples import FIT as SHORT
from samples import FROM, RELEASE, UPSCALE, WEIGHTS, convert

pytestmark = pytest.mark.skipif(shim() is None, reason="needs Linux and a C compiler")

STEPS = ("--trainer.max_steps", "6", "--trainer.val_check_interval", "2")
FIT = (*SHORT, *STEPS)
GO_ON = ("fit", "--run", "new", "--trainer.max_steps", "6")
KILLS = int(os.environ.get("SR_KILLS", 40))
ERRORS = {"disk full": errno.ENOSPC, "broken": errno.EIO, "read-only": errno.EROFS}


def spread(count: int, wanted: int, first: int = 0) -> list[int]:
    """Numbers of acts that are evenly spread over all of them."""
    return sorted({first + round(i * (count - first) / wanted) for i in range(wanted)} - {count})


# ---- trainings ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unstopped(samples, tmp_path_factory):
    """The folder of a run that nothing stopped, and how much it did to its files."""
    folder = tmp_path_factory.mktemp("unstopped") / "try"
    lay_out(samples, folder)
    done = run(FIT, folder, meddle=Meddle())
    assert done.status == 0, done.said
    return folder, done.acts


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


def check_goes_on(
    how: Meddle, samples: Path, work: Path, unstopped: Path, environment: dict[str, str]
) -> str:
    """Stop a training at an act and go on; says how it went on."""
    folder = work / "stopped"
    lay_out(samples, folder)
    first = run(FIT, folder, meddle=how, environment=environment)
    # Without a picture training goes on, though the disk is full.
    expected = {-signal.SIGKILL} if isinstance(how.how, str) else {0, 2}
    assert first.status in expected, f"{how}: {first.said}"
    assert "Traceback" not in first.said
    if first.status == 2:
        assert first.said.count("sr-lightning: ") == 1, f"{how}: {first.said}"
    if not isinstance(how.how, str) and how.how != errno.EROFS and how.how != errno.EIO:
        assert not partial(folder), f"{how}: {partial(folder)}"
    whole = list((folder / "new" / "checkpoints").glob("*.ckpt"))
    config = (folder / "new" / "config.yaml").is_file()
    assert config or not whole, f"{how}: a checkpoint without a config"
    if not whole:
        shutil.rmtree(folder / "new", ignore_errors=True)
    if first.status != 0:
        again = run(GO_ON if whole else FIT, folder, environment=environment)
        assert again.status == 0, f"{how}: {again.said}"
    ours, theirs = state(folder), state(unstopped)
    # Callbacks and loops hold paths and times.
    for part in ours.keys() - {"callbacks", "loops"}:
        assert same(ours[part], theirs[part]), f"{how}: other {part}"
    assert rows(folder) == rows(unstopped), f"{how}: other rows"
    return "resumed" if whole else "anew"


def elsewhere(tmp_path: Path) -> dict[str, str]:
    """Temporary files on another file system, where there is one."""
    shared = Path("/dev/shm")
    if shared.is_dir() and shared.stat().st_dev != tmp_path.stat().st_dev:
        return {"TMPDIR": str(shared)}
    return {}


def test_a_run_killed_at_some_acts_goes_on_bit_for_bit(samples, tmp_path, unstopped):
    folder, count = unstopped
    for number in (count // 3, 2 * count // 3):
        check_goes_on(Meddle(number, "kill inside"), samples, tmp_path, folder, {})


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill before", "kill inside", *ERRORS])
def test_a_run_stopped_at_any_act_goes_on_bit_for_bit(samples, tmp_path, unstopped, how):
    folder, count = unstopped
    tried = spread(count, KILLS)
    ways = [
        check_goes_on(
            Meddle(number, ERRORS.get(how, how)), samples, tmp_path, folder, elsewhere(tmp_path)
        )
        for number in tried
    ]
    print(f"\n{how}: {len(tried)} of {count} acts, {ways.count('resumed')} resumed, others anew")
    assert "resumed" in ways


# ---- everything else that writes ----------------------------------------------------------------


@dataclass(frozen=True)
class Writer:
    """A command that writes.

    Attributes:
        command: as typed after ``sr-lightning``.
        results: patterns of what it makes or changes.
        again: what is typed after it was killed, where that is something else.
        old: what stood in the place of a result before.
    """

    command: tuple[str, ...]
    results: tuple[str, ...]
    again: tuple[str, ...] = ()
    old: tuple[str, ...] = ()


WRITERS = {
    "upscale": Writer((*UPSCALE, *WEIGHTS, "--overwrite"), ("o.png",), old=("o.png",)),
    "upscale folder": Writer(
        ("upscale", "photos", *WEIGHTS, "--out", "up", "--skip-existing"), ("up/*.png",)
    ),
    "export": Writer(("export", "w.safetensors", "--out", "o.pt2"), ("o.pt2",), old=("o.pt2",)),
    "convert": Writer(
        convert("dncnn", "dncnn.mat"),
        ("o.safetensors", "o.json"),
        old=("o.safetensors", "o.json"),
    ),
    "release": Writer(RELEASE, ("zoo/new.*",)),
    "weights eval": Writer(
        ("weights", "eval", "fsrcnn_x4", "--sets", "photos/small", "--save"),
        ("zoo/fsrcnn_x4.json",),
    ),
    "prepare": Writer(("prepare", "animals", "--from", "photos", *FROM), ("d/Animals/*",)),
    "prepare from zip": Writer(
        ("prepare", "animals", "--from", "photos.zip", *FROM), ("d/Animals/*",)
    ),
    "report": Writer(("report", "./mine.yaml", "--out", "page"), ("page/**/*",)),
    "frame": Writer(("report", "./mine.yaml", "--frame", "o.csv"), ("o.csv",), old=("o.csv",)),
    "compare": Writer(
        ("compare", "photos/img_00.png", *WEIGHTS, "--out", "c"), ("c/*.json", "c/**/*.png")
    ),
    "doctor": Writer(
        ("doctor", "--hr", "photos", "--lr", "lr", "--json", "o.json"), ("o.json",), old=("o.json",)
    ),
    "plot-scales": Writer(("plot-scales", "run", "--out", "o.svg"), ("o.svg",), old=("o.svg",)),
    "test": Writer(("test", "--run", "run"), ("run/results/images.csv",)),
    "predict": Writer(
        ("predict", "--run", "run", "--data.predict", "photos"), ("run/predictions/*.png",)
    ),
    "image cache": Writer(("validate", "--run", "run"), ("store/pixels/*/*",)),
}
"""Every command that writes but for trainings and studies; ``dashboard`` and the rest of
``prepare`` write nothing."""


def _environment(folder: Path) -> dict[str, str]:
    return {"SR_CACHE": str(folder / "store")}


def _made(folder: Path, writer: Writer) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for pattern in writer.results
        for path in sorted(folder.glob(pattern))
        if path.is_file() and ".part" not in str(path.relative_to(folder))
    }


def _laid(samples: Path, folder: Path, writer: Writer) -> Path:
    lay_out(samples, folder)
    for name in writer.old:
        (folder / name).write_bytes(b"an older result")
    return folder


def _do(writer: Writer, folder: Path, meddle: Meddle | None, again: bool = False) -> Outcome:
    command = (again and writer.again) or writer.command
    return run(
        command,
        folder,
        meddle=meddle,
        environment={**_environment(folder), **elsewhere(folder)},
        zoo=str(folder / "zoo"),
    )


@pytest.fixture(scope="module")
def undisturbed(samples, tmp_path_factory):
    """What a command makes, and how much it does to files; each is tried once."""
    known: dict[str, tuple[dict[str, bytes], int]] = {}

    def get(name: str) -> tuple[dict[str, bytes], int]:
        if name not in known:
            folder = _laid(samples, tmp_path_factory.mktemp("sound") / "try", WRITERS[name])
            done = _do(WRITERS[name], folder, Meddle())
            assert done.status == 0, done.said
            made = _made(folder, WRITERS[name])
            assert made
            assert b"an older result" not in made.values()
            known[name] = made, done.acts
        return known[name]

    return get


def _alike(name: str, made: bytes, sound: bytes) -> bool:
    """Whether results are equal but for the time that they name."""
    if name.endswith(".json") and made != sound:
        one, other = json.loads(made), json.loads(sound)
        return one.keys() == other.keys() if isinstance(one, dict) else False
    if name.endswith(".pt2"):
        # A zip archive with a time.
        return abs(len(made) - len(sound)) < 1000
    return made == sound


def check_error(name: str, number: int, error: int, samples, work, undisturbed) -> str:
    """A disk fails at an act: one sentence, and every result is new, old or absent as a whole."""
    writer, (sound, _) = WRITERS[name], undisturbed(name)
    folder = _laid(samples, work / "failing", writer)
    kept = _made(folder, writer)
    done = _do(writer, folder, Meddle(number, error))
    where = f"{name}, act {number}, {os.strerror(error)}"
    assert done.status in {0, 1, 2}, f"{where}: {done.status} {done.said}"
    assert "Traceback" not in done.said, f"{where}: {done.said}"
    if done.status != 0:
        told = [line for line in done.said.splitlines() if os.strerror(error) in line]
        assert told, f"{where}: {done.said}"
    for path, content in _made(folder, writer).items():
        assert content == kept.get(path) or _alike(path, content, sound[path]), f"{where}: {path}"
    if error == errno.ENOSPC:
        assert not partial(folder), f"{where}: {partial(folder)}"
    return "done" if done.status == 0 else "told"


def check_kill(name: str, number: int, how: str, samples, work, undisturbed) -> None:
    """Killed at an act, every result is new, old or absent as a whole; again, all is there."""
    writer, (sound, _) = WRITERS[name], undisturbed(name)
    folder = _laid(samples, work / "killed", writer)
    kept = _made(folder, writer)
    done = _do(writer, folder, Meddle(number, how))
    where = f"{name}, act {number}, {how}"
    assert done.status == -signal.SIGKILL, f"{where}: {done.said}"
    for path, content in _made(folder, writer).items():
        assert content == kept.get(path) or _alike(path, content, sound[path]), f"{where}: {path}"
    again = _do(writer, folder, None, again=True)
    assert again.status == 0, f"{where}: {again.said}"
    made = _made(folder, writer)
    assert made.keys() == sound.keys(), where
    assert all(_alike(path, made[path], sound[path]) for path in sound), where


def test_a_full_disk_leaves_no_half_results(samples, tmp_path, undisturbed):
    for name in ("upscale", "convert", "plot-scales"):
        _, count = undisturbed(name)
        for number in spread(count, 2):
            check_error(name, number, errno.ENOSPC, samples, tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("error", ERRORS)
def test_errors_of_a_disk_are_told_and_leave_no_half_results(
    samples, tmp_path, undisturbed, name, error
):
    _, count = undisturbed(name)
    tried = spread(count, int(os.environ.get("SR_ERRORS", 8)))
    ways = [
        check_error(name, number, ERRORS[error], samples, tmp_path, undisturbed) for number in tried
    ]
    print(f"\n{name}, {error}: {len(tried)} of {count} acts, {ways.count('told')} told")
    assert ways[0] == "told"


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_a_command_killed_at_any_act_leaves_whole_results_and_can_be_run_again(
    samples, tmp_path, undisturbed, name
):
    _, count = undisturbed(name)
    tried = spread(count, max(1, KILLS // 5))
    for place, number in enumerate(tried):
        how = ("kill before", "kill inside")[place % 2]
        check_kill(name, number, how, samples, tmp_path, undisturbed)
    print(f"\n{name}: killed at {len(tried)} of {count} acts")


# ---- studies ------------------------------------------------------------------------------------

STUDY = ("study", "run", "./mine.yaml", "--seeds", "1")


def _numbers(folder: Path) -> dict[str, Any]:
    found = sorted((folder / "results" / "mine" / "quick").glob("*/seed0.json"))
    return {path.parent.name: json.loads(path.read_text())["metrics"] for path in found}


def check_study(number: int, how: str, samples: Path, work: Path, sound: dict[str, Any]) -> None:
    """A study whose runner is killed at an act is finished by the next with the same numbers."""
    folder = work / "study"
    lay_out(samples, folder)
    shutil.rmtree(folder / "results")
    done = run(STUDY, folder, meddle=Meddle(number, how), seconds=400)
    assert done.status == -signal.SIGKILL, f"act {number}: {done.said}"
    known = _numbers(folder)
    assert all(known[level] == sound[level] for level in known), f"act {number}"
    again = run(STUDY, folder, seconds=400)
    assert again.status == 0, f"act {number}: {again.said}"
    assert _numbers(folder) == sound, f"act {number}"


@pytest.mark.slow
def test_a_study_whose_runner_is_killed_is_finished_by_the_next(samples, tmp_path):
    folder = tmp_path / "study"
    lay_out(samples, folder)
    shutil.rmtree(folder / "results")
    done = run(STUDY, folder, meddle=Meddle(), seconds=400)
    assert done.status == 0, done.said
    sound = _numbers(folder)
    assert sorted(sound) == ["full", "narrow"]
    tried = spread(done.acts, max(2, KILLS // 10))
    for place, number in enumerate(tried):
        how = ("kill before", "kill inside")[place % 2]
        check_study(number, how, samples, tmp_path, sound)
    print(f"\nstudy: killed at {len(tried)} of {done.acts} acts")
