"""Checkpoints: whole or not there, the last steps kept, signals obeyed, a folder for one run."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, SMALL_HFDN, only_run, tiny_fit

from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.runs import OutputOptions, RunFolder
from sr_lightning.training import checkpoints
from sr_lightning.training.checkpoints import SafeCheckpointIO
from sr_lightning.weights.formats.pytorch import is_whole


@pytest.fixture
def fit(tmp_path, train_folder, val_folder):
    """Trains a small HFDN for some steps; gives its checkpoint names."""

    def run(*extra: str, **options: object) -> Path:
        main([*tiny_fit("hfdn_x4", tmp_path, train_folder, val_folder, **options),
              *SMALL_HFDN, *extra])  # fmt: skip
        return only_run(tmp_path)

    return run


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def error_of(capsys) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_steps_after_the_last_validation_are_kept(fit):
    run = fit(trainer__max_steps=5, trainer__val_check_interval=2)
    assert "last_step=5.ckpt" in names(run)
    assert len(names(run)) == 2


def test_training_without_validation_leaves_a_checkpoint_that_can_be_used(fit, capsys):
    run = fit(trainer__max_steps=3, trainer__limit_val_batches=0)
    assert names(run) == ["last_step=3.ckpt"]
    assert str(run / "checkpoints" / "last_step=3.ckpt") in capsys.readouterr().out
    assert RunFolder(run).best_checkpoint().name == "last_step=3.ckpt"


@pytest.mark.parametrize(("interval", "used"), [(6, 6), (20, 8)])
def test_the_interval_of_validations_counts_batches_as_a_short_budget_does(fit, interval, used):
    run = fit(trainer__max_steps=4, trainer__accumulate_grad_batches=2,
              trainer__val_check_interval=interval)  # fmt: skip
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["trainer"]["val_check_interval"] == used
    assert any(name.startswith("best_") for name in names(run))


def test_a_checkpoint_is_written_every_few_minutes(fit, monkeypatch):
    written = []
    save = SafeCheckpointIO.save_checkpoint
    monkeypatch.setattr(
        SafeCheckpointIO,
        "save_checkpoint",
        lambda self, content, path, **more: (written.append(Path(path).name),
                                             save(self, content, path, **more)),
    )  # fmt: skip
    run = fit("--output.checkpoint_minutes=0", trainer__max_steps=3,
              trainer__val_check_interval=3)  # fmt: skip
    assert {"last_step=1.ckpt", "last_step=2.ckpt"} <= set(written)
    assert [name for name in names(run) if name.startswith("last")] == ["last_step=3.ckpt"]


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_going_on_takes_the_newest_whole_checkpoint(fit, damage, capsys, monkeypatch):
    run = fit(trainer__max_steps=4)
    good = run / "checkpoints" / "last_step=4.ckpt"
    newer = good.with_name("last_step=6.ckpt")
    content = bytearray(good.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 1
    newer.write_bytes(content)
    assert is_whole(good)
    assert not is_whole(newer)
    main(["fit", "--run", str(run), "--trainer.max_steps", "8"])
    assert "last_step=8.ckpt" in names(run)
    assert not newer.exists()


def test_nothing_whole_to_go_on_from_is_one_sentence(fit, capsys):
    run = fit(trainer__max_steps=2)
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SystemExit):
        main(["fit", "--run", str(run)])
    assert "holds no whole checkpoint" in error_of(capsys)


def test_a_full_disk_leaves_the_checkpoint_before_and_nothing_else(tmp_path, monkeypatch):
    writer, path = SafeCheckpointIO(), tmp_path / "last_step=1.ckpt"
    writer.save_checkpoint({"state_dict": {"a": torch.ones(3)}}, path)
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    with pytest.raises(UserError, match=r"No space left.*has last_step=1\.ckpt"):
        writer.save_checkpoint({"state_dict": {"a": torch.zeros(3)}}, path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_pipe_in_the_place_of_a_checkpoint_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "last_step=4.ckpt")
    signal.alarm(20)
    try:
        assert not is_whole(tmp_path / "last_step=4.ckpt")
    finally:
        signal.alarm(0)


def test_a_preview_picture_that_cannot_be_written_does_not_end_training(fit, monkeypatch, recwarn):
    from PIL import Image

    def full(self, *args, **more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    run = fit(trainer__max_steps=4)
    assert "last_step=4.ckpt" in names(run)
    said = [str(one.message) for one in recwarn if "without that picture" in str(one.message)]
    assert said
    assert "No space left" in said[0]


def test_a_reader_of_the_log_that_has_gone_does_not_end_training(fit, monkeypatch):
    import builtins

    real = builtins.print

    def broken(*args, **more):
        if str(args[0]).startswith("step "):
            raise BrokenPipeError
        real(*args, **more)

    monkeypatch.setattr(builtins, "print", broken)
    assert "last_step=4.ckpt" in names(fit(trainer__max_steps=4))


def test_weights_that_are_not_finite_replace_nothing(tmp_path):
    path = tmp_path / "last_step=2.ckpt"
    with pytest.raises(UserError, match=r"NaN or infinity in 'a'.*not written.*no checkpoint yet"):
        SafeCheckpointIO().save_checkpoint(
            {"state_dict": {"a": torch.tensor([1, torch.inf])}}, path
        )
    assert not list(tmp_path.iterdir())


def test_best_is_the_best_value_whatever_was_copied_last(tmp_path):
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    for order, name in enumerate(("9_edsr2017_psnr=18.2000", "20_edsr2017_psnr=7.0000")):
        path = folder.checkpoints / f"best_step={name}.ckpt"
        path.write_bytes(b"")
        os.utime(path, (order, order))
    assert folder.best_checkpoint().name == "best_step=9_edsr2017_psnr=18.2000.ckpt"
    for name in ("1_rgb_lpips-min=0.3000", "2_rgb_lpips-min=0.4000"):
        (folder.checkpoints / f"best_step={name}.ckpt").write_bytes(b"")
    for path in folder.checkpoints.glob("*psnr*"):
        path.unlink()
    assert folder.best_checkpoint().name == "best_step=1_rgb_lpips-min=0.3000.ckpt"


@pytest.mark.parametrize(
    ("name", "code"),
    [("SIGTERM", 143), pytest.param("SIGHUP", 129, marks=pytest.mark.slow)],
)
def test_signals_of_systems_save_and_stop(
    tmp_path, train_folder, val_folder, own_signals, name, code
):
    args = tiny_fit("hfdn_x4", tmp_path, train_folder, val_folder, trainer__max_steps=40)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(
        [sys.executable, "-m", "sr_lightning", *args, *SMALL_HFDN, *signalled(name, 3)],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stderr[-2000:]
    assert "last_step=4.ckpt" in names(only_run(tmp_path))
    assert "go on  sr-lightning fit --run" in done.stdout


def signalled(name: str, step: int) -> list[str]:
    return ["--trainer.callbacks+=helper_callbacks.SignalAt", f"--trainer.callbacks.step={step}",
            f"--trainer.callbacks.signal_name={name}"]  # fmt: skip


def test_under_nohup_a_closed_terminal_stops_no_training(fit, own_signals):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run = fit(*signalled("SIGHUP", 2), trainer__max_steps=4)
    assert "last_step=4.ckpt" in names(run)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_test_that_a_system_stops_is_not_done(
    fit, test_folder, tmp_path, own_signals, name, code
):
    fit(trainer__max_steps=2)
    asked = ["test", "--config", str(ROOT / "experiments" / "hfdn_x4.yaml"), *SMALL_HFDN]
    options = [
        f"--data.test=[{test_folder}]",
        "--trainer.accelerator=cpu",
        f"--output.root={tmp_path}",
    ]
    with pytest.raises(SystemExit) as ended:
        main([*asked, *options, *signalled(name, 0)])
    assert ended.value.code == code


def test_a_used_folder_is_not_trained_into_again(fit, tmp_path, train_folder, val_folder, capsys):
    run = fit(trainer__max_steps=2)
    before = names(run)
    args = tiny_fit("hfdn_x4", tmp_path, train_folder, val_folder, output__folder=run)
    with pytest.raises(SystemExit):
        main([*args, *SMALL_HFDN])
    assert f"go on with it by --run {run}" in error_of(capsys)
    assert names(run) == before


def test_two_trainings_do_not_share_a_run(fit, capsys):
    run = fit(trainer__max_steps=2)
    from filelock import FileLock

    with FileLock(run / ".lock"):
        with pytest.raises(SystemExit):
            main(["fit", "--run", str(run), "--trainer.max_steps", "4"])
        assert "Another training is running in" in error_of(capsys)


def test_runs_of_one_second_have_folders_of_their_own(tmp_path):
    made = []
    for _ in range(3):
        made.append(RunFolder.create(OutputOptions(root=str(tmp_path), name="x")).path)
        RunFolder.stop_handing_down()
    assert len(set(made)) == 3
    assert all(path.is_dir() for path in made)


def test_a_learning_rate_given_on_resuming_is_used(fit, capsys):
    run = fit("--model.optimizer.lr=1e-3", trainer__max_steps=4)
    main(["fit", "--run", str(run), "--trainer.max_steps", "8", "--model.optimizer.lr=1e-5",
          "--model.optimizer.eps=1e-6"])  # fmt: skip
    state = torch.load(run / "checkpoints" / "last_step=8.ckpt", weights_only=True)
    (group,) = state["optimizer_states"][0]["param_groups"]
    assert group["initial_lr"] == pytest.approx(1e-5)
    assert group["lr"] <= 1e-5
    assert group["eps"] == 1e-6
    assert state["lr_schedulers"][0]["base_lrs"] == [1e-5]


def test_another_optimizer_on_resuming_is_refused(fit, capsys):
    run = fit(trainer__max_steps=2)
    with pytest.raises(SystemExit):
        main(["fit", "--run", str(run), "--trainer.max_steps", "4",
              "--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=1e-3"])  # fmt: skip
    assert "trained with Adam" in error_of(capsys)
    shutil.rmtree(run)
