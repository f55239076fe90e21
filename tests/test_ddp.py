"""Two processes over gloo: the same training as one, exact metrics, one set of files, no hang."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS, ROOT, SMALL_HFDN, only_run, tiny_fit

TWO = [
    *("--config", str(CONFIGS / "trainer" / "ddp.yaml")),
    *("--trainer.accelerator", "cpu", "--trainer.devices", "2"),
]
SGD = ["--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "0.05"]


def run(args: list[str], timeout: float = 240) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    return subprocess.run(
        [sys.executable, "-m", "sr_lightning", *args],
        capture_output=True,
        text=True,
        env=environment,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory, train_folder, val_folder) -> tuple[Path, Path]:
    """The same training by two processes and by one (data.batch_size is the whole batch)."""
    folders = []
    for name, extra in (("two", TWO), ("one", [])):
        out = tmp_path_factory.mktemp(name)
        args = tiny_fit("hfdn_x4", out, train_folder, val_folder, wandb__mode="offline")
        # The overlay comes first, then the options of the command line.
        args = [args[0], *args[1:3], *extra[:2], *args[3:], *extra[2:], *SMALL_HFDN, *SGD]
        done = run(args)
        assert done.returncode == 0, done.stderr[-2000:]
        assert ("Starting with 2 processes" in done.stderr) == (name == "two")
        folders.append(only_run(out))
    return folders[0], folders[1]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (last,) = (folder / "checkpoints").glob("last_step=4.ckpt")
    return torch.load(last, weights_only=True)["state_dict"]


def test_two_processes_train_the_weights_of_one(pair):
    """Tolerance: float32 sums in another order, over 4 steps of SGD."""
    two, one = (weights(folder) for folder in pair)
    assert two.keys() == one.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6, msg=name)
    moved = [n for n in one if one[n].is_floating_point() and n.startswith("network.shallow")]
    assert moved


@pytest.mark.slow
def test_predictions_without_a_loss_are_told_and_can_be_trained_beside(
    tmp_path, train_folder, val_folder
):
    """SRModule supervises HFDN's last prediction alone, so that the other heads learn nothing."""
    (tmp_path / "last.yaml").write_text(
        "model:\n  class_path: sr_lightning.training.module.SRModule\n  init_args:\n    network:\n"
        "      class_path: sr_lightning.papers.hfdn.network.HFDN\n"
        "      init_args: {scale: 4, channels: 16, blocks: 2, layers: 2, growth: 8, reduction: 4}\n"
    )
    command, *given = tiny_fit("srcnn_x4", tmp_path, train_folder, val_folder)
    overlays = ("--config", str(tmp_path / "last.yaml"), *TWO[:2])
    args = [command, *given[:2], *overlays, *given[2:], *TWO[2:]]
    done = run(args)
    assert done.returncode == 2
    assert "--trainer.strategy.find_unused_parameters true." in done.stderr
    assert "Traceback" not in done.stderr
    done = run([*args, "--trainer.strategy.find_unused_parameters", "true"])
    assert done.returncode == 0, done.stderr[-2000:]


def _column(folder: Path, name: str) -> list[float]:
    rows = csv.DictReader((folder / "metrics.csv").open())
    return [float(row[name]) for row in rows if row.get(name)]


def test_validation_over_three_images_is_exact_on_two_ranks(pair):
    for metric in ("val/edsr2017/psnr", "val/edsr2017/ssim"):
        two, one = (_column(folder, metric) for folder in pair)
        assert len(two) == len(one) == 2
        assert two == pytest.approx(one, abs=1e-3)


def test_one_set_of_files_and_one_wandb_run(pair):
    two, _ = pair
    assert len(list((two / "checkpoints").iterdir())) == 2
    assert len(list(two.glob("*.csv"))) == 1
    assert len(list((two / "wandb").glob("offline-run-*"))) == 1


@pytest.mark.slow
def test_test_on_two_ranks_has_every_image_once_with_the_same_numbers(pair, test_folder, tmp_path):
    _, one = pair
    tables = []
    for name, extra in (("two", TWO), ("one", ["--trainer.accelerator", "cpu"])):
        out = tmp_path / name
        test = ["--data.test", f"[{test_folder}]", "--wandb.mode", "disabled"]
        args = ["test", "--run", str(one), *extra, *test, "--output.folder", str(out)]
        done = run(args)
        assert done.returncode == 0, done.stderr[-2000:]
        tables.append(list(csv.DictReader((out / "results" / "images.csv").open())))
    assert len(tables[0]) == 6
    for a, b in zip(*tables, strict=True):
        assert (a["image"], a["method"]) == (b["image"], b["method"])
        assert float(a["psnr"]) == pytest.approx(float(b["psnr"]), abs=1e-5)
        assert float(a["ssim"]) == pytest.approx(float(b["ssim"]), abs=1e-6)


def broken(callback: str, rank: int, out: Path, train: Path, val: Path):
    """A training of two ranks, one of which fails at the third step, after a checkpoint."""
    args = tiny_fit("hfdn_x4", out, train, val)
    failing = [
        f"--trainer.callbacks+=helper_callbacks.{callback}",
        f"--trainer.callbacks.rank={rank}",
        "--trainer.callbacks.step=3",
    ]
    args = [args[0], *args[1:3], *TWO[:2], *args[3:], *TWO[2:], *SMALL_HFDN, *failing]
    return run(args, timeout=240)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_failure_of_one_rank_ends_the_run_instead_of_hanging(
    tmp_path, train_folder, val_folder, rank
):
    done = broken("RaiseOnRank", rank, tmp_path, train_folder, val_folder)
    assert done.returncode not in {0, -9}
    assert "deliberate failure" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(only_run(tmp_path).glob("checkpoints/last_step=2.ckpt"))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_run_which_goes_on_from_its_checkpoint(
    tmp_path, train_folder, val_folder, rank
):
    done = broken("KillRank", rank, tmp_path, train_folder, val_folder)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    if rank == 1:
        assert "sr-lightning: " in done.stderr
    folder = only_run(tmp_path)
    assert list(folder.glob("checkpoints/last_step=2.ckpt"))
    again = run(["fit", "--run", str(folder), "--trainer.callbacks", "null"])
    assert again.returncode == 0, again.stderr[-2000:]
    assert list(folder.glob("checkpoints/last_step=4.ckpt"))


@pytest.mark.slow
def test_predictions_of_two_ranks_lie_in_one_folder(pair, test_folder, tmp_path):
    _, one = pair
    out = tmp_path / "out"
    predict = ["predict", "--run", str(one), *TWO, "--data.predict", str(test_folder)]
    done = run([*predict, "--wandb.mode", "disabled", "--output.folder", str(out)])
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((out / "predictions").iterdir())) == len(list(test_folder.iterdir()))


def test_batch_that_ranks_cannot_share_is_refused(tmp_path, train_folder, val_folder, monkeypatch):
    from sr_lightning.data.datamodule import PatchDataModule
    from sr_lightning.errors import UserError

    data = PatchDataModule(
        train=[str(train_folder)], val=[str(val_folder)], test=[], scale=4, patch_size=8
    )

    class ThreeRanks:
        lightning_module = None
        world_size, global_rank, global_step, accumulate_grad_batches, max_steps = 3, 0, 0, 1, 4

    data.trainer = ThreeRanks()
    with pytest.raises(UserError, match="16 patches over all devices, which 3"):
        data.setup("fit")
