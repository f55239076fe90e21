"""A folder of small sound files of every kind, and the commands that read them."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import test_convert
import torch
import yaml
from conftest import CONFIGS, EXPERIMENTS, ROOT, picture, save_pictures
from harness import (
    Kind,
    damage_bytes,
    damage_json,
    damage_safetensors,
    damage_torch,
    damage_yaml,
)
from PIL import Image

from sr_lightning.baselines.fsrcnn import FSRCNN
from sr_lightning.cli import main
from sr_lightning.experiments import experiment_files
from sr_lightning.weights.files import save_network

TINY = [
    *("--config", str(EXPERIMENTS / "compared" / "fsrcnn_x4_fast.yaml")),
    *("--config", str(CONFIGS / "debug" / "fast.yaml")),
    *("--trainer.accelerator", "cpu", "--data.patch_size", "8", "--data.holdout", "1"),
    *("--data.train", "photos", "--data.test", "photos/small", "--wandb.mode", "disabled"),
    *("--data.leaks", "warn"),
]
UPSCALE = ("upscale", "a.png", "--out", "o.png")
FIT = ("fit", *TINY, "--output.folder", "new")
MORE = ("fit", "--run", "run", "--trainer.max_steps", "4")
STUDY = """
title: A study
paper: hfdn
base: fsrcnn_x4_fast
factor: width
seeds: 1
measure: {metric: psnr, protocol: edsr2017, sets: [photos/small], scales: [4]}
levels:
  narrow: {model.network.channels: 16}
  full: {}
claims:
  - {better: full, worse: narrow, set: photos/small, source: here}
budgets:
  quick: {overlays: [configs/debug/fast.yaml], set: {data.train: [photos]}, test: [photos/small]}
may_vary: [data.patch_size]
reference: full
max_seeds: 10
reproduce: {quick: 1}
"""
CAMPAIGN = """
data_licence: made up
test: [photos/small]
overlays: [configs/debug/fast.yaml]
runs:
  - {name: one, priority: 1, experiment: fsrcnn_x4_fast, set: {data.patch_size: 8},
     minutes: {cpu: 1, gpu: 1}, expected: {x4: 30.0}, why: a test}
  - {name: two, priority: 2, experiment: fsrcnn_x4_fast, after: one, minutes: {cpu: 1},
     overlays: [configs/debug/fast.yaml], test_scales: [4], weights: one, why: a test}
"""
MADE = ("o.safetensors", "o.json")
CONVERTED = {"imdn": "3", "vdsr": None, "dncnn": None, "lapsrn": "8", "idn": "3"}


def convert(arch: str, file: str) -> tuple[str, ...]:
    """The command that converts the sample of an architecture."""
    _, _, arguments = test_convert.CASES[arch]
    scale = CONVERTED[arch]
    return (
        *("weights", "convert", file, "--arch", arch, "--out", "o.safetensors"),
        *(() if scale is None else ("--scale", scale)),
        *(part for key, value in arguments.items() for part in ("--set", f"{key}={value}")),
    )


KINDS = {
    "png": Kind("a.png", damage_bytes, (UPSCALE,), ("o.png",)),
    "jpeg": Kind("a.jpg", damage_bytes, (("upscale", "a.jpg", "--out", "o.png"),), ("o.png",)),
    "photographs": Kind("photos/img_00.png", damage_bytes, (FIT, ("prepare", "--check", "photos"))),
    "safetensors": Kind(
        "w.safetensors",
        damage_safetensors,
        (
            (*UPSCALE, "--weights", "w.safetensors"),
            (*UPSCALE, "--weights", "w.safetensors"),
            ("export", "w.safetensors", "--out", "o.pt2"),
            (*FIT, "--model.init_from", "w.safetensors"),
        ),
        ("o.png", "o.pt2"),
    ),
    "checkpoint": Kind(
        "run/checkpoints/last*.ckpt",
        damage_torch,
        (
            MORE,
            (*MORE, "--ckpt_path", "run/checkpoints/last_step=2.ckpt"),
            ("test", "--run", "run", "--ckpt_path", "run/checkpoints/last_step=2.ckpt"),
            (*UPSCALE, "--weights", "run/checkpoints/last_step=2.ckpt"),
            (*FIT, "--model.init_from", "run/checkpoints/last_step=2.ckpt"),
        ),
        ("o.png",),
    ),
    "run's config": Kind(
        "run/config.yaml",
        damage_yaml,
        (
            MORE,
            ("test", "--run", "run"),
            ("validate", "--run", "run"),
            (*UPSCALE, "--weights", "run"),
        ),
    ),
    "run's summary": Kind(
        "run/results/summary.json", damage_json, (("plot-scales", "run"), ("doctor", "run"))
    ),
    "run's rows": Kind("run/metrics.csv", damage_bytes, (MORE,)),
    "run's facts": Kind("run/provenance.json", damage_json, (MORE,)),
    "state dict": Kind("imdn.pth", damage_torch, (convert("imdn", "imdn.pth"),), MADE),
    "matlab": Kind("dncnn.mat", damage_bytes, (convert("dncnn", "dncnn.mat"),), MADE),
    "matlab 7.3": Kind("vdsr.mat", damage_bytes, (convert("vdsr", "vdsr.mat"),), MADE),
    "caffe": Kind("idn.caffemodel", damage_bytes, (convert("idn", "idn.caffemodel"),), MADE),
    "study": Kind(
        "mine.yaml",
        damage_yaml,
        (
            *(("study", name, "./mine.yaml") for name in ("show", "plan", "sweep")),
            ("study", "list"),
        ),
    ),
    "ledger": Kind(
        "results/mine/quick/full/seed0.json",
        damage_json,
        tuple(("study", command, "./mine.yaml") for command in ("show", "plan")),
    ),
    "campaign": Kind("experiments/campaign.yaml", damage_yaml, (("zoo", "list"),)),
    "published": Kind(
        "experiments/published/hfdn.yaml",
        damage_yaml,
        (("study", "show", "hfdn_attention"), ("report", "--table", "hfdn/attention")),
    ),
    "archive": Kind(
        "photos.zip",
        damage_bytes,
        (("prepare", "set5", "--from", "photos.zip", "--data-root", "d"),),
    ),
}


def make(folder: Path) -> None:
    """Make the samples in an empty folder, which becomes the current one."""
    save_pictures(folder / "photos", 3, (64, 72), seed=7)
    save_pictures(folder / "photos" / "small", 1, (48, 40), seed=70)
    image = Image.fromarray(picture(5, 24, 20))
    image.save(folder / "a.png")
    image.save(folder / "a.jpg")
    torch.manual_seed(0)
    save_network(FSRCNN(4).eval(), folder / "w.safetensors")
    for arch in CONVERTED:
        made = test_convert.made(arch, folder)[1]
        made.replace(folder / f"{arch}{made.suffix}")
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for index, name in enumerate(("baby", "bird", "butterfly", "head", "woman")):
            archive.write(folder / "photos" / f"img_0{index % 3}.png", f"Set5/{name}.png")
    (folder / "mine.yaml").write_text(STUDY)
    experiments = folder / "experiments"
    (experiments / "compared").mkdir(parents=True)
    for path in experiment_files(ROOT):
        (experiments / path.relative_to(EXPERIMENTS)).symlink_to(path)
    (folder / "configs").symlink_to(CONFIGS)
    (experiments / "campaign.yaml").write_text(CAMPAIGN)
    shutil.copytree(EXPERIMENTS / "published", experiments / "published")
    shutil.copytree(EXPERIMENTS / "studies", experiments / "studies")
    main([*FIT[:-1], "run"])
    main(["test", "--run", "run"])
    entry = json.loads(
        next((EXPERIMENTS / "results" / "hfdn_attention").rglob("seed0.json")).read_text()
    )
    cells = {"FSRCNN": {"psnr": 30.0, "ssim": 0.9, "images": {"a": [30.0, 0.9]}}}
    entry |= {"name": "mine/quick/full/seed0", "study": "mine", "budget": "quick", "level": "full"}
    entry |= {"seed": 0, "metrics": {"edsr2017": {"small_x4": cells}}}
    path = folder / "results" / "mine" / "quick" / "full" / "seed0.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(entry))
    assert yaml.safe_load(STUDY)["seeds"] == 1
