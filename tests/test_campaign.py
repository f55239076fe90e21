"""The queue of trainings: checked when read, resumed, tested, kept only where better."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import threading
import time

import pytest
import yaml
from conftest import CONFIGS, EXPERIMENTS, ROOT, SMALL_HFDN
from rich.console import Console

from sr_lightning.errors import UserError
from sr_lightning.studies import campaign as module
from sr_lightning.studies.campaign import TrainingJob, campaign_jobs, load_campaign, state_of
from sr_lightning.studies.queue import Queue
from sr_lightning.weights import zoo
from sr_lightning.weights.zoo import find_weights, load_weights


def test_queue_of_the_project_is_sound_and_ordered():
    queue = load_campaign(EXPERIMENTS / "campaign.yaml", ROOT)
    priorities = [run.priority for run in queue.runs]
    assert priorities == sorted(priorities)
    assert {"Set5", "Set14", "B100"} <= set(queue.test)
    for run in queue.runs:
        # What takes a CPU days is for a GPU alone.
        assert run.minutes["gpu"] > 0
        assert run.minutes.get("cpu", 1) > 0
        assert all(25 < psnr < 40 for psnr in run.expected.values())


@pytest.fixture
def tiny(tmp_path, train_folder, val_folder, test_folder, monkeypatch):
    """A checkout with one small run in its queue, and an empty zoo."""
    root = tmp_path / "checkout"
    (root / "experiments").mkdir(parents=True)
    shutil.copytree(CONFIGS, root / "configs")
    shutil.copy(EXPERIMENTS / "hfdn_x4.yaml", root / "experiments")
    small = dict(zip(SMALL_HFDN[::2], map(int, SMALL_HFDN[1::2]), strict=True))
    options = {key.removeprefix("--"): value for key, value in small.items()} | {
        "data.train": [str(train_folder)],
        "data.val": [str(val_folder)],
        "data.patch_size": 8,
        "data.batch_size": 4,
        # Long enough after the first checkpoint for a signal to arrive before the end.
        "trainer.max_steps": 300,
        "trainer.val_check_interval": 50,
        "trainer.log_every_n_steps": 50,
        "wandb.mode": "disabled",
    }
    content = {
        "data_licence": "made up",
        "test": [str(test_folder)],
        "runs": [
            {
                "name": "small",
                "priority": 1,
                "experiment": "hfdn_x4",
                "set": options,
                "minutes": {"cpu": 1},
                "why": "a test",
            }
        ],
    }
    path = root / "experiments" / "campaign.yaml"
    path.write_text(yaml.safe_dump(content))
    (tmp_path / "zoo").mkdir()
    monkeypatch.setattr(zoo, "ZOO", tmp_path / "zoo")
    return path, root, content


def queue_of(tiny, tmp_path, minutes: float = 30) -> Queue:
    path, root, _ = tiny
    jobs = campaign_jobs(load_campaign(path, root), tmp_path / "runs", "cpu", [])
    return Queue(jobs, minutes=minutes)


def test_run_without_a_budget_for_a_device_is_left_to_others(tiny, tmp_path, monkeypatch):
    path, root, content = tiny
    content["runs"][0]["minutes"] = {"gpu": 5}
    path.write_text(yaml.safe_dump(content))
    assert queue_of(tiny, tmp_path).jobs == []
    monkeypatch.chdir(root)
    with pytest.raises(UserError, match="small is too long for a cpu"):
        module.main(["train", "--only", "small"])


def test_listing_never_shortens_names(tiny, tmp_path):
    path, root, content = tiny
    content["runs"][0]["name"] = "a_rather_long_name_of_a_run"
    path.write_text(yaml.safe_dump(content))
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(module._listing(load_campaign(path, root), tmp_path / "runs"))
    assert "a_rather_long_name_of_a_run" in console.export_text()


@pytest.mark.slow
def test_run_is_broken_off_resumed_tested_and_kept_once(tiny, tmp_path, monkeypatch):
    run = load_campaign(*tiny[:2]).runs[0]
    assert state_of(run, tmp_path / "runs") == "waiting"
    # The time is over from the start: nothing may begin.
    (job,) = queue_of(tiny, tmp_path, minutes=0).run()
    assert (job.state, state_of(run, tmp_path / "runs")) == ("waiting", "waiting")

    # Ctrl-C at the first checkpoint reaches the training, which saves itself.
    def interrupt():
        deadline = time.monotonic() + 60
        while not list((tmp_path / "runs").glob("small/checkpoints/last_*")):
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    watcher = threading.Thread(target=interrupt, daemon=True)
    watcher.start()
    queue = queue_of(tiny, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        queue.run()
    watcher.join()
    assert queue.jobs[0].state == "stopped"

    queue = queue_of(tiny, tmp_path)
    assert [command[:2] for command in queue.jobs[0].commands()] == [
        ["fit", "--run"],
        ["test", "--run"],
    ]
    (job,) = queue.run()
    assert job.state == "done"
    assert re.fullmatch(r"kept as .*small\.safetensors", job.reason)
    assert state_of(run, tmp_path / "runs") == "finished"
    record = find_weights("small")
    assert record is not None
    assert record.data_licence == "made up"
    assert "--model.network.channels=16" in record.recipe
    assert load_weights("small").scales == (4,)
    ledger = json.loads((tiny[1] / "experiments/results/campaign/small.json").read_text())
    assert ledger["steps"] == 300
    assert queue_of(tiny, tmp_path).jobs == []
    # Where the run folder is not, the weights that came with the package speak for the run.
    shutil.rmtree(tmp_path / "runs")
    assert state_of(run, tmp_path / "runs") == "shipped"
    assert queue_of(tiny, tmp_path).jobs == []


@pytest.mark.slow
def test_run_whose_time_is_over_saves_itself(tiny, tmp_path, monkeypatch):
    path, _, content = tiny
    content["runs"][0]["set"]["trainer.max_steps"] = 100_000
    path.write_text(yaml.safe_dump(content))
    monkeypatch.setattr("sr_lightning.studies.queue.GRACE_S", 0)
    (job,) = queue_of(tiny, tmp_path, minutes=0.5).run()
    assert (job.state, job.reason) == (
        "stopped",
        "the time is over; it goes on from here next time",
    )
    assert re.fullmatch(r"at step [\d,]+", state_of(job.run, tmp_path / "runs"))


@pytest.fixture
def failing(tiny):
    """The queue with a run that is refused, one that would go on from it, and one apart."""
    path, root, content = tiny
    small = content["runs"][0]
    content["runs"] = [
        {**small, "set": {**small["set"], "model.network.chanels": 3}},
        {**small, "name": "next", "after": "small", "priority": 2},
        {**small, "name": "apart", "priority": 3},
    ]
    path.write_text(yaml.safe_dump(content))
    return path, root, content


def test_failing_run_is_told_of_and_the_others_go_on(failing, tmp_path, monkeypatch, capsys):
    apart = TrainingJob.commands
    monkeypatch.setattr(
        TrainingJob, "commands", lambda job: None if job.name == "apart" else apart(job)
    )
    monkeypatch.chdir(failing[1])
    with pytest.raises(SystemExit) as ended:
        module.main(["train", "--runs", str(tmp_path / "runs")])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "next  waiting: waits for small\n" in said
    assert "apart  in ledger\n" in said
    log = tmp_path / "runs" / "small" / "log.txt"
    assert re.search(rf"small failed: .*chanels.* \(log: {log}\)\n$", said)
    assert "fit --config experiments/hfdn_x4.yaml" in log.read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"experimnet": "x"},
            r"runs > 1 > experimnet\): .*\(did you mean 'experiment'\?\)",
        ),
        ({"experiment": "nothing"}, r"experiments/nothing\.yaml, which does not exist"),
        ({"after": "nobody"}, "unknown weights, 'nobody'"),
        ({"experiment": "/dev/zero"}, r"/dev/zero\.yaml, which is not in experiments"),
        ({"minutes": None}, r"runs > 1 > minutes\): the key is missing"),
        (
            {"minutes": {"cpu": "5"}},
            r"runs > 1 > minutes > cpu\): .*number, got '5'",
        ),
    ],
)
def test_mistakes_in_the_queue_are_named(tiny, change, message):
    path, root, content = tiny
    run = content["runs"][0]
    for key, value in change.items():
        if value is None:
            del run[key]
        else:
            run[key] = value
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=message):
        load_campaign(path, root)


def test_an_empty_queue_is_named(tiny):
    path, root, content = tiny
    path.write_text(yaml.safe_dump(content | {"runs": []}))
    with pytest.raises(UserError, match=r"\(runs\): name at least one"):
        load_campaign(path, root)


def test_unknown_name_is_refused(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match="No run is called 'nobody'"):
        module.main(["train", "--only", "nobody"])
