"""A run that was killed and went on ends exactly where an uninterrupted one does."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SMALL_HFDN, only_run, tiny_fit

from sr_lightning.cli import main

STEPS = 60
EMA = "lightning.pytorch.callbacks.EMAWeightAveraging"


def arguments(out, train, val, *extra: str) -> list[str]:
    args = tiny_fit(
        "hfdn_x4", out, train, val, trainer__max_steps=STEPS, trainer__val_check_interval=10
    )
    return [
        *args,
        *SMALL_HFDN,
        *("--model.optimizer.lr", "1e-3", "--trainer.gradient_clip_val", "1"),
        f"--trainer.callbacks+={EMA}",
        "--trainer.callbacks.decay=0.9",
        *extra,
    ]


def last_state(run: Path) -> dict:
    (path,) = (run / "checkpoints").glob(f"last_step={STEPS}.ckpt")
    return torch.load(path, weights_only=True)


def assert_same(a: object, b: object, where: str = "") -> None:
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}/{index}")
    else:
        assert a == b, where


PARTS = (
    "state_dict",
    "current_model_state",
    "averaging_state",
    "optimizer_states",
    "lr_schedulers",
    "global_step",
)
"""Averaged weights, raw weights, averaging counter, Adam's moments, schedule, step."""


def rows_of(run: Path) -> list[dict[str, str]]:
    """What was logged, but for speeds, which differ from one time to the next."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = csv.DictReader(file)
        return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in rows]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, train_folder, val_folder) -> dict:
    out = tmp_path_factory.mktemp("unbroken")
    main(arguments(out, train_folder, val_folder))
    return {**last_state(only_run(out)), "rows": rows_of(only_run(out))}


def test_killed_run_goes_on_bit_for_bit(tmp_path, train_folder, val_folder, unbroken):
    slow = ["--trainer.callbacks+=helper_callbacks.SlowSteps", "--trainer.callbacks.seconds=0.05"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "sr_lightning",
            *arguments(tmp_path, train_folder, val_folder, *slow),
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/*/checkpoints/last_step=30.ckpt")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run = only_run(tmp_path)
    assert not list(run.glob(f"checkpoints/last_step={STEPS}.ckpt"))
    # The callback is named in the config that the run goes on with.
    sys.path.insert(0, str(ROOT / "tests"))
    main(
        [
            "fit",
            "--run",
            str(run),
            "--trainer.callbacks",
            f"[{{class_path: {EMA}, init_args: {{decay: 0.9}}}}]",
        ]
    )
    resumed = last_state(run)
    for part in PARTS:
        assert_same(unbroken[part], resumed[part], part)
    assert rows_of(run) == unbroken["rows"]


def test_interrupted_run_saves_itself_and_goes_on_bit_for_bit(
    tmp_path, train_folder, val_folder, unbroken, capfd
):
    sys.path.insert(0, str(ROOT / "tests"))
    stop = ["--trainer.callbacks+=helper_callbacks.InterruptAt", "--trainer.callbacks.step=24"]
    main(arguments(tmp_path, train_folder, val_folder, *stop))
    run = only_run(tmp_path)
    out, err = capfd.readouterr()
    assert "Stopping after this step" in err
    assert f"sr-lightning fit --run {run}" in out
    assert (run / "checkpoints" / "last_step=25.ckpt").is_file()
    main(["fit", "--run", str(run)])
    resumed = last_state(run)
    for part in PARTS:
        assert_same(unbroken[part], resumed[part], part)
    assert rows_of(run) == unbroken["rows"]


def test_finished_run_is_made_longer_bit_for_bit(tmp_path, train_folder, val_folder, unbroken):
    """From an end that no validation follows, where weights are averaged."""
    short = ("--trainer.max_steps=25", f"--model.scheduler.total_steps={STEPS}")
    main(arguments(tmp_path, train_folder, val_folder, *short))
    run = only_run(tmp_path)
    main(["fit", "--run", str(run), "--trainer.max_steps", str(STEPS)])
    longer = last_state(run)
    for part in PARTS:
        assert_same(unbroken[part], longer[part], part)
