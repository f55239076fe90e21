"""What our offline W&B runs become where ``wandb sync`` uploads them.

The receiver is the small server in ``wandb_server.py``, the client is wandb's own.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, SMALL_HFDN, names_this_machine, only_run, tiny_fit
from test_studies import STUDY, study_of
from wandb_server import Run, WandbServer

from sr_lightning.cli import main

PSNR = "val/edsr2017/psnr"


def upload(command: str, server: WandbServer) -> str:
    """Run a command as it was printed, and give back what it said."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command],
        env={**os.environ, **server.environment(), "PATH": programs},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert server.refused == []
    return done.stderr


def logged(run: Run, key: str) -> dict[int, float]:
    """Values of a metric by step; each step has one."""
    found = [(row["trainer/global_step"], row[key]) for row in run.history if key in row]
    assert len(found) == len(dict(found))
    return dict(found)


def key_of_test(keys: object) -> str:
    """The key of the test's PSNR."""
    (key,) = (key for key in keys if re.fullmatch(r"test/\w+_x4/edsr2017/psnr", key))
    return key


def in_metrics_file(folder: Path, key: str) -> dict[int, float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row[key]) for row in csv.DictReader(file) if row[key]}


@pytest.fixture(scope="module")
def three_commands(tmp_path_factory, train_folder, val_folder, test_folder) -> Path:
    """A run that was stopped after three steps of eight, gone on with, and tested."""
    out = tmp_path_factory.mktemp("three_commands")
    args = tiny_fit(
        "hfdn_x4", out, train_folder, val_folder, trainer__max_steps=8, wandb__mode="offline"
    )
    said = ["--wandb.group", "a-group", "--wandb.tags", "[one, two]", "--wandb.notes", "a note"]
    stop = ["--trainer.callbacks+=helper_callbacks.InterruptAt", "--trainer.callbacks.step=2"]
    main([*args, *SMALL_HFDN, *said, *stop, "--data.test", f"[{test_folder}]"])
    run = only_run(out)
    main(["fit", "--run", str(run), "--trainer.callbacks", "[]"])
    main(["test", "--run", str(run)])
    assert len(list((run / "wandb").glob("offline-run-*"))) == 3
    return run


@pytest.fixture
def folder(three_commands, tmp_path) -> Path:
    """A copy of that run: the client marks what it has uploaded."""
    return shutil.copytree(three_commands, tmp_path / "run", symlinks=True)


@pytest.fixture
def server():
    with WandbServer() as server:
        yield server


def the_run(server: WandbServer, folder: Path) -> Run:
    (run,) = server.runs.values()
    assert run.name == (folder / "wandb-id").read_text()
    return run


def test_what_was_stopped_gone_on_with_and_tested_is_one_run(server, folder):
    upload(f"wandb sync {folder}/wandb/offline-run-*", server)
    run = the_run(server, folder)
    assert run.state == "finished"
    said = {key: run.said[key] for key in ("displayName", "groupName", "jobType", "tags", "notes")}
    assert said == {
        "displayName": "hfdn_x4",
        "groupName": "a-group",
        "jobType": "fit",
        "tags": ["one", "two"],
        "notes": "a note",
    }
    # One history: rows are counted on, and no step of the training is told twice or missing.
    assert [row["_step"] for row in run.history] == list(range(len(run.history)))
    assert list(logged(run, "train/loss")) == list(range(8))
    for key in ("train/loss", PSNR, "lr-Adam"):
        assert logged(run, key) == pytest.approx(in_metrics_file(folder, key))
    # One config, of the network that was trained.
    assert run.config["model"]["value"]["init_args"]["network"]["init_args"]["channels"] == 16
    assert set(run.config["provenance"]["value"]["data"]) == {"train", "val", "test"}


def test_its_summary_holds_the_whole_run(server, folder):
    upload(f"wandb sync {folder}/wandb/offline-run-*", server)
    summary = the_run(server, folder).summary
    validated = in_metrics_file(folder, PSNR)
    # The best came before the run was stopped.
    best = min(validated)
    assert validated[best] == max(validated.values())
    assert summary[PSNR] == {"max": pytest.approx(validated[best])}
    assert summary["train/loss"] == pytest.approx(in_metrics_file(folder, "train/loss")[7])
    assert (folder / summary["checkpoint"]["path"]).name.startswith("best_")
    means = json.loads((folder / "results" / "summary.json").read_text())["means"]
    (psnr,) = (mean["psnr"] for mean in means if mean["method"] == "HFDN")
    assert summary[key_of_test(summary)] == pytest.approx(psnr, abs=1e-4)
    assert summary["params"] > 0


def test_what_is_tested_stands_at_the_step_of_its_weights(server, folder):
    upload(f"wandb sync {folder}/wandb/offline-run-*", server)
    run = the_run(server, folder)
    ((step, _),) = logged(run, key_of_test(run.summary)).items()
    assert step == max(logged(run, PSNR), key=lambda at: logged(run, PSNR)[at])


def test_the_tests_table_arrives_whole(server, folder):
    upload(f"wandb sync {folder}/wandb/offline-run-*", server)
    (artifact,) = server.artifacts.values()
    assert (artifact["artifactTypeName"], artifact["whole"]) == ("run_table", True)
    (path,) = artifact["files"].values()
    table = json.loads(server.files[path])
    assert len(table["data"]) == 3 * 2
    manifest = json.loads(server.files[artifact["manifest"]])
    assert list(manifest["contents"]) == list(artifact["files"])


def test_a_test_may_be_uploaded_later(server, folder):
    *trained, last = sorted((folder / "wandb").glob("offline-run-*"))
    away = last.rename(folder / last.name)
    upload(f"wandb sync {folder}/wandb/offline-run-*", server)
    before = the_run(server, folder).history
    assert list(logged(the_run(server, folder), "train/loss")) == list(range(8))
    away.rename(last)
    said = upload(f"wandb sync {folder}/wandb/offline-run-*", server)
    assert f"Skipped {len(trained)} synced run(s)" in said
    run = the_run(server, folder)
    assert run.history[: len(before)] == before
    assert [row["_step"] for row in run.history] == list(range(len(run.history)))
    assert {PSNR, "train/loss", key_of_test(run.summary)} <= set(run.summary)


def test_the_command_that_a_run_prints_uploads_it(
    server, tmp_path, train_folder, val_folder, capsys
):
    args = tiny_fit(
        "hfdn_x4", tmp_path, train_folder, val_folder, trainer__max_steps=2, wandb__mode="offline"
    )
    main([*args, *SMALL_HFDN])
    (command,) = re.findall(r"\(upload: (.*)\)", capsys.readouterr().out)
    upload(command, server)
    assert list(logged(the_run(server, only_run(tmp_path)), "train/loss")) == [0, 1]


def test_a_private_run_stays_private_when_it_is_uploaded(
    server, tmp_path, train_folder, val_folder
):
    args = tiny_fit(
        "hfdn_x4", tmp_path, train_folder, val_folder, trainer__max_steps=2, wandb__mode="offline"
    )
    main([*args, *SMALL_HFDN, "--wandb.private", "true"])
    run = only_run(tmp_path)
    # Otherwise the client tells where it is installed itself.
    upload(f"WANDB_PROGRAM=wandb wandb sync {run}/wandb/offline-run-*", server)
    assert PSNR in the_run(server, run).summary
    places = [tmp_path, train_folder.parent, ROOT, Path(sys.executable).parent]
    for sent in server.received:
        assert not names_this_machine(sent.decode(errors="replace"))
        for place in places:
            assert str(place).encode() not in sent


@pytest.mark.slow
def test_a_killed_run_that_went_on_has_every_step(server, tmp_path, train_folder, val_folder):
    """Steps after the last checkpoint are there twice, with the same numbers."""
    args = tiny_fit(
        "hfdn_x4", tmp_path, train_folder, val_folder, trainer__max_steps=30, wandb__mode="offline"
    )
    args += ["--trainer.val_check_interval", "20"]
    slow = ["--trainer.callbacks+=helper_callbacks.SlowSteps", "--trainer.callbacks.seconds=0.1"]
    # A process with a W&B service of its own, which the kill ends too. The client writes what it
    # has every 15 seconds, which is longer than this run takes.
    own = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    own["WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL"] = "0.2"
    process = subprocess.Popen(
        [sys.executable, "-m", "sr_lightning", *args, *SMALL_HFDN, *slow],
        env=own | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/*/checkpoints/last_step=20.ckpt")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.6)
    process.send_signal(signal.SIGKILL)
    process.wait()
    folder = only_run(tmp_path)
    main(["fit", "--run", str(folder), "--trainer.callbacks", "[]"])
    upload(f"wandb sync {folder}/wandb/offline-run-*", server)
    run = the_run(server, folder)
    assert (run.exit_codes[0], run.state) == (1, "finished")
    assert [row["_step"] for row in run.history] == list(range(len(run.history)))
    losses: dict[int, set[float]] = {}
    for row in run.history:
        if "train/loss" in row:
            losses.setdefault(row["trainer/global_step"], set()).add(row["train/loss"])
    assert sorted(losses) == list(range(30))
    assert all(len(values) == 1 for values in losses.values())
    assert run.summary[PSNR] == {"max": pytest.approx(max(in_metrics_file(folder, PSNR).values()))}


@pytest.mark.slow
def test_an_online_run_is_the_same_one_run(server, tmp_path, train_folder, val_folder, test_folder):
    args = tiny_fit(
        "hfdn_x4", tmp_path, train_folder, val_folder, trainer__max_steps=2, wandb__mode="online"
    )
    # Processes of their own: a client keeps the first server that it is told.
    own = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}

    def command(*given: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "sr_lightning", *given],
            cwd=ROOT,
            env=own | server.environment(),
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stderr

    command(*args, *SMALL_HFDN, "--data.test", f"[{test_folder}]")
    folder = only_run(tmp_path)
    command("fit", "--run", str(folder), "--trainer.max_steps", "4")
    command("test", "--run", str(folder))
    run = the_run(server, folder)
    assert run.state == "finished"
    assert [row["_step"] for row in run.history] == list(range(len(run.history)))
    assert list(logged(run, "train/loss")) == list(range(4))
    best = max(in_metrics_file(folder, PSNR).values())
    assert run.summary[PSNR] == {"max": pytest.approx(best)}
    assert key_of_test(run.summary)


@pytest.mark.slow
def test_runs_of_a_study_are_told_apart_and_belong_together(server, tmp_path):
    """Two levels with two seeds each, as ``study run`` starts them."""
    small = (
        "set: {model.network.channels: 16, model.network.blocks: 1, model.network.growth: 8, "
        "model.network.reduction: 4, trainer.max_steps: 2, trainer.val_check_interval: 2}"
    )
    study = study_of(tmp_path, STUDY.replace("    test: [", f"    {small}\n    test: ["))
    for cell in study.cells("quick"):
        folder = tmp_path / "runs" / study.name / "quick" / cell.level / f"seed{cell.seed}"
        main(cell.fit_arguments(folder))
        main(cell.test_arguments(folder))
    upload(f"wandb sync {tmp_path}/runs/{study.name}/quick/*/seed*/wandb/offline-run-*", server)
    assert {run.said["groupName"] for run in server.runs.values()} == {"a_study"}
    assert {run.state for run in server.runs.values()} == {"finished"}
    told = {
        (run.config["ablation"]["value"]["level"], run.config["seed"]["value"]): run
        for run in server.runs.values()
    }
    assert set(told) == {(level, seed) for level in ("plain", "full") for seed in (0, 1)}
    for (level, seed), run in told.items():
        assert run.said["displayName"] == f"a_study/quick/{level}/seed{seed}"
        assert {f"study:{study.name}", f"level:{level}", f"seed:{seed}"} <= set(run.said["tags"])
        assert {PSNR, "test/sample-test_x4/edsr2017/psnr", "params"} <= set(run.summary)
