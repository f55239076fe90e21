"""Fixtures: small real-looking image folders, isolated caches, the oracle data where present."""

from __future__ import annotations

import os
import platform
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sr_lightning.experiments import experiment_file

# One thread each: with several test processes, torch's own threads only fight for the cores. The
# processes that tests start inherit it.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


def names_this_machine(text: str) -> bool:
    """Whether a text has this machine's name, as a word: random names may hold two letters."""
    return re.search(rf"\b{re.escape(platform.node())}\b", text) is not None


@pytest.fixture
def own_signals():
    """SIGTERM and SIGHUP as in a terminal: under 'nohup' the tests would inherit another start."""
    before = {
        number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def _isolated(tmp_path_factory):
    """Keep caches and W&B files of tests out of the user's folders."""
    base = tmp_path_factory.mktemp("isolated")
    names = {
        "SR_CACHE": base / "cache",
        "WANDB_DIR": base / "wandb",
        "WANDB_CACHE_DIR": base / "wandb_cache",
        "WANDB_DATA_DIR": base / "wandb_data",
        "WANDB_CONFIG_DIR": base / "wandb_config",
    }
    kept = {
        name: os.environ.get(name) for name in (*names, "WANDB_API_KEY", "WANDB_MODE", "SR_PLUGINS")
    }
    for name, path in names.items():
        path.mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(path)
    os.environ.pop("WANDB_API_KEY", None)
    os.environ.pop("WANDB_MODE", None)
    # Callbacks of the tests' own, which runs of theirs name.
    os.environ["SR_PLUGINS"] = "helper_callbacks"
    yield
    for name, value in kept.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope="session")
def sr_data() -> Path:
    """The data root with the real benchmark files; tests that need it carry the oracle marker."""
    root = os.environ.get("SR_DATA")
    if not root or not (Path(root) / "oracle").is_dir():
        pytest.skip("SR_DATA with the oracle files is not set")
    return Path(root)


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """A picture with edges, texture and gradients at many scales, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.zeros((height, width, 3))
    for _ in range(12):
        frequency, angle = rng.uniform(0.01, 0.6), rng.uniform(0, np.pi)
        wave = np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 6))
        edge = np.where(rng.random() < 0.5, np.sign(wave), wave)
        image += edge[..., None] * rng.uniform(0, 1, 3)
    image += rng.normal(0, 0.3, image.shape)
    image -= image.min()
    return (image / image.max() * 255).astype(np.uint8)


def save_pictures(folder: Path, count: int, size: tuple[int, int], seed: int = 0) -> Path:
    """Write `count` pictures of (height, width) into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.fromarray(picture(seed + index, *size)).save(folder / f"img_{index:02}.png")
    return folder


@pytest.fixture(scope="session")
def train_folder(tmp_path_factory) -> Path:
    """Six training pictures of 120 x 132."""
    return save_pictures(tmp_path_factory.mktemp("train_set"), 6, (120, 132), seed=100)


@pytest.fixture(scope="session")
def val_folder(tmp_path_factory) -> Path:
    """Three validation pictures (an odd number, for two ranks)."""
    return save_pictures(tmp_path_factory.mktemp("val_set"), 3, (72, 84), seed=200)


@pytest.fixture(scope="session")
def test_folder(tmp_path_factory) -> Path:
    """Three test pictures."""
    return save_pictures(tmp_path_factory.mktemp("test_set"), 3, (72, 60), seed=300)


ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = ROOT / "experiments"
CONFIGS = ROOT / "configs"

SMALL_HFDN = [
    *("--model.network.channels", "16"),
    *("--model.network.blocks", "1"),
    *("--model.network.layers", "2"),
    *("--model.network.growth", "8"),
    *("--model.network.reduction", "4"),
]
"""Makes HFDN small enough for a step in milliseconds."""


def tiny_fit(experiment: str, out: Path, train: Path, val: Path, **options: object) -> list[str]:
    """Arguments that run a real experiment file on tiny data for a few steps."""
    settings = {
        "output.root": out,
        "data.train": f"[{train}]",
        "data.val": f"[{val}]",
        "data.patch_size": 8,
        "data.batch_size": 4,
        "trainer.max_steps": 4,
        "trainer.val_check_interval": 2,
        "trainer.log_every_n_steps": 1,
        "trainer.accelerator": "cpu",
        "trainer.devices": 1,
        "wandb.mode": "disabled",
    } | {key.replace("__", "."): value for key, value in options.items()}
    args = ["fit", "--config", str(experiment_file(ROOT, experiment))]
    for key, value in settings.items():
        args += [f"--{key}", str(value)]
    return args


def only_run(root: Path) -> Path:
    """The single run folder under an output root."""
    (config,) = root.glob("*/*/config.yaml")
    return config.parent


@pytest.fixture(scope="session")
def finished_commands(tmp_path_factory, train_folder, val_folder, test_folder) -> dict[str, Path]:
    """A small HFDN x4 run that was trained and tested through the command line, W&B offline.

    ``run`` is its folder, ``fit`` and ``test`` the W&B folders of the two commands: noted as each
    ends, for their names have the second alone, and later tests add theirs.
    """
    from sr_lightning.cli import main

    out = tmp_path_factory.mktemp("runs")
    args = tiny_fit("hfdn_x4", out, train_folder, val_folder, wandb__mode="offline")
    main([*args, *SMALL_HFDN, "--wandb.group", "a-group"])
    run = only_run(out)
    (fit,) = (run / "wandb").glob("offline-run-*")
    main(
        [
            "test",
            "--run",
            str(run),
            "--data.test",
            f"[{test_folder}]",
            "--trainer.accelerator",
            "cpu",
        ]
    )
    (test,) = set((run / "wandb").glob("offline-run-*")) - {fit}
    return {"run": run, "fit": fit, "test": test}


@pytest.fixture(scope="session")
def finished_run(finished_commands) -> Path:
    """The folder of a small HFDN x4 run that was trained and tested."""
    return finished_commands["run"]


@pytest.fixture(scope="session")
def samples(tmp_path_factory) -> Path:
    """A folder of small sound files of every kind, which tests of robustness copy and damage."""
    from samples import make

    folder, before = tmp_path_factory.mktemp("samples"), Path.cwd()
    os.chdir(folder)
    try:
        make(folder)
    finally:
        os.chdir(before)
    return folder
