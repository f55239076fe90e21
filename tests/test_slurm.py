"""On a real SLURM of one node (``tests/slurm/one_node.sh start``): jobs, kills and requeues."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS, ROOT, SMALL_HFDN, only_run, tiny_fit

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    if shutil.which("sbatch") is None or subprocess.run(["sinfo"], capture_output=True).returncode:
        pytest.skip("no SLURM controller answers; run tests/slurm/one_node.sh start")


def wait_for(condition, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.5)


def state(job: str) -> str:
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True).stdout
    return next((w.partition("=")[2] for w in shown.split() if w.startswith("JobState=")), "GONE")


def submit(tmp_path: Path, args: list[str], *options: str) -> str:
    script = tmp_path / "job.sh"
    command = " ".join(f"'{arg}'" for arg in [sys.executable, "-m", "sr_lightning", *args])
    script.write_text(f"#!/bin/sh\nexport PYTHONPATH={ROOT / 'tests'}\nsrun {command}\n")
    told = subprocess.run(
        [
            "sbatch",
            "--parsable",
            "--requeue",
            "-n1",
            "-c1",
            f"--output={tmp_path}/log-%j.txt",
            *options,
            str(script),
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return told.stdout.strip()


STEPS = 60


def arguments(out: Path, train: Path, val: Path) -> list[str]:
    args = tiny_fit(
        "hfdn_x4", out, train, val, trainer__max_steps=STEPS, trainer__val_check_interval=10
    )
    overlay = ["--config", str(CONFIGS / "trainer" / "slurm.yaml")]
    slow = ["--trainer.callbacks+=helper_callbacks.SlowSteps", "--trainer.callbacks.seconds=0.2"]
    return [*args[:3], *overlay, *args[3:], *SMALL_HFDN, "--trainer.precision=32-true", *slow]


def final_weights(run: Path) -> dict[str, torch.Tensor]:
    (last,) = (run / "checkpoints").glob(f"last_step={STEPS}.ckpt")
    return torch.load(last, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, train_folder, val_folder) -> dict[str, torch.Tensor]:
    out = tmp_path_factory.mktemp("unbroken")
    job = submit(out, arguments(out, train_folder, val_folder))
    wait_for(lambda: state(job) in {"COMPLETED", "FAILED"}, 180, "the unbroken job")
    assert state(job) == "COMPLETED", (out / f"log-{job}.txt").read_text()[-2000:]
    return final_weights(only_run(out))


@pytest.mark.parametrize("way", ["kill", "signal"])
def test_requeued_job_goes_on_bit_for_bit(tmp_path, train_folder, val_folder, unbroken, way):
    """Killed by the scheduler, or warned by SIGUSR1 as before the end of its time."""
    job = submit(tmp_path, arguments(tmp_path, train_folder, val_folder))
    wait_for(lambda: list(tmp_path.glob("*/*/checkpoints/last_step=20.ckpt")), 120, "a checkpoint")
    if way == "kill":
        subprocess.run(["scontrol", "requeue", job], check=True)
    else:
        subprocess.run(["scancel", "--signal=USR1", job], check=True)
    wait_for(lambda: state(job) in {"PENDING", "REQUEUED", "COMPLETING"}, 60, "the requeue")
    # A requeued job waits two minutes before it may start; this lets it start now.
    for _ in range(40):
        subprocess.run(["scontrol", "update", f"jobid={job}", "starttime=now"], capture_output=True)
        if state(job) == "RUNNING":
            break
        time.sleep(1)
    wait_for(lambda: state(job) in {"COMPLETED", "FAILED", "CANCELLED"}, 240, "the requeued job")
    log = (tmp_path / f"log-{job}.txt").read_text()
    assert state(job) == "COMPLETED", log[-2000:]
    run = only_run(tmp_path)
    assert run.name == f"job-{job}"
    resumed = final_weights(run)
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
    assert (run / "metrics.csv").is_file()


def test_study_runs_as_jobs(tmp_path, monkeypatch):
    from sr_lightning.studies.ledger import Ledger
    from sr_lightning.studies.runner import StudyQueue
    from sr_lightning.studies.slurm import run_on_slurm
    from sr_lightning.studies.study import find_study

    study = find_study("hfdn_supervision", ROOT)
    asked = {"timeout_min": 10, "cpus_per_task": 1}
    ledger = Ledger(tmp_path / "ledger")
    queue = StudyQueue(study, "quick", ledger, tmp_path / "runs", seeds=1)
    run_on_slurm(queue, tmp_path / "logs", study.name, asked, poll_s=1)
    assert {s.state for s in queue.jobs} == {"done"}, [s.reason for s in queue.jobs]
    assert len(ledger.entries()) == 3
    again = StudyQueue(study, "quick", ledger, tmp_path / "runs", seeds=1)
    run_on_slurm(again, tmp_path / "logs", study.name, asked, poll_s=1)
    assert {s.state for s in again.jobs} == {"in ledger"}
