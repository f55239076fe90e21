"""A folder of small sound files of every kind, and the commands that read them."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import test_convert
import tifffile
import torch
from conftest import CONFIGS, EXPERIMENTS, picture, save_pictures
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
from sr_lightning.data.compressed import open_store
from sr_lightning.data.images import find_images
from sr_lightning.data.resize import imresize
from sr_lightning.weights.files import save_network
from sr_lightning.weights.zoo import ZOO

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
  quick:
    overlays: [configs/debug/fast.yaml]
    set: {data.train: [photos], data.holdout: 1, data.patch_size: 8, wandb.mode: disabled}
    test: [photos/small]
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


EXPERIMENT = """
output: {name: mine}
wandb: {mode: disabled}
model:
  class_path: sr_lightning.training.module.SRModule
  init_args:
    network: {class_path: sr_lightning.baselines.fsrcnn.FSRCNN, init_args: {scale: 4}}
    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 1.0e-3}}
    scheduler: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 5}}
data:
  class_path: sr_lightning.data.PatchDataModule
  init_args: {train: [photos], holdout: 1, test: [photos/small], patch_size: 8, batch_size: 2}
trainer: {accelerator: cpu, max_steps: 2, val_check_interval: 2, log_every_n_steps: 1}
"""
WEIGHTS = ("--weights", "w.safetensors")
PAIRED = ("--data.lr_source", "paired", "--data.paired_lr.photos", "lr")
RELEASE = ("weights", "release", "run", "new", "--data-licence", "made up", "--recipe", "none")
SPEED = "experiments/results/speed/made-up-1-thread.csv"
FROM = ("--data-root", "d")

KINDS = {
    "png": Kind("a.png", damage_bytes, (UPSCALE,)),
    "jpeg": Kind("a.jpg", damage_bytes, (("upscale", "a.jpg", "--out", "o.png"),)),
    "rare images": Kind(
        "odd/*",
        damage_bytes,
        (("upscale", "odd", "--out", "up", *WEIGHTS), ("doctor", "--hr", "odd", "--sr", "odd")),
    ),
    "photographs": Kind(
        "photos/img_00.png",
        damage_bytes,
        (
            FIT,
            ("prepare", "--check", "photos"),
            ("prepare", "--leaks", "photos"),
            ("validate", "--run", "run"),
            ("predict", "--run", "run", "--data.predict", "photos"),
            ("compare", "photos/img_00.png", *WEIGHTS, "--out", "c"),
            ("doctor", "photos"),
            ("doctor", "--hr", "photos", "--sr", "photos", "--json", "o.json"),
            ("upscale", "photos", *WEIGHTS, "--out", "up"),
            ("prepare", "animals", "--from", "photos", *FROM),
        ),
    ),
    "test images": Kind(
        "photos/small/img_00.png",
        damage_bytes,
        (
            ("test", "--run", "run"),
            ("weights", "eval", "w.safetensors", "--sets", "photos/small"),
            ("doctor", "--hr", "photos/small", "--sr", "photos/small"),
        ),
    ),
    "LR images": Kind(
        "lr/img_00x4.png",
        damage_bytes,
        (
            (*FIT, *PAIRED),
            ("doctor", "--hr", "photos", "--lr", "lr", "--json", "o.json"),
            ("doctor", "--hr", "photos", "--lr", "lr", *WEIGHTS),
        ),
    ),
    "safetensors": Kind(
        "w.safetensors",
        damage_safetensors,
        (
            (*UPSCALE, *WEIGHTS),
            (*UPSCALE, *WEIGHTS),
            ("export", "w.safetensors", "--out", "o.pt2"),
            (*FIT, "--model.init_from", "w.safetensors"),
            ("compare", "a.png", *WEIGHTS, "--out", "c"),
            ("complexity", "w.safetensors"),
            ("weights", "eval", "w.safetensors", "--sets", "photos/small"),
        ),
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
    ),
    "best checkpoint": Kind(
        "run/checkpoints/best*.ckpt",
        damage_torch,
        (
            ("test", "--run", "run"),
            ("predict", "--run", "run", "--data.predict", "photos/small"),
            (*UPSCALE, "--weights", "run"),
            ("export", "run", "--out", "o.pt2"),
            RELEASE,
        ),
        zoo="zoo",
    ),
    "run's config": Kind(
        "run/config.yaml",
        damage_yaml,
        (
            MORE,
            ("test", "--run", "run"),
            ("validate", "--run", "run"),
            ("predict", "--run", "run", "--data.predict", "photos/small"),
            (*UPSCALE, "--weights", "run"),
            RELEASE,
        ),
        zoo="zoo",
    ),
    "run's summary": Kind(
        "run/results/summary.json",
        damage_json,
        (("plot-scales", "run"), ("doctor", "run"), RELEASE),
        zoo="zoo",
    ),
    "run's results": Kind("run/results/images.csv", damage_bytes, (("doctor", "run"),)),
    "run's rows": Kind("run/metrics.csv", damage_bytes, (MORE,)),
    "run's facts": Kind("run/provenance.json", damage_json, (MORE, RELEASE), zoo="zoo"),
    "state dict": Kind("imdn.pth", damage_torch, (convert("imdn", "imdn.pth"),)),
    "matlab": Kind("dncnn.mat", damage_bytes, (convert("dncnn", "dncnn.mat"),)),
    "matlab graph": Kind("lapsrn.mat", damage_bytes, (convert("lapsrn", "lapsrn.mat"),)),
    "matlab 7.3": Kind("vdsr.mat", damage_bytes, (convert("vdsr", "vdsr.mat"),)),
    "caffe": Kind("idn.caffemodel", damage_bytes, (convert("idn", "idn.caffemodel"),)),
    "experiment": Kind(
        "exp.yaml",
        damage_yaml,
        (
            ("fit", "--config", "exp.yaml", "--output.folder", "new"),
            ("complexity", "exp.yaml"),
            ("validate", "--config", "exp.yaml", "--ckpt_path", "run/checkpoints/last_step=2.ckpt"),
        ),
    ),
    "study": Kind(
        "mine.yaml",
        damage_yaml,
        (
            *(("study", name, "./mine.yaml") for name in ("show", "plan", "sweep")),
            ("study", "list"),
            ("report", "./mine.yaml", "--out", "new"),
            ("dashboard", "./mine.yaml", "--dry-run"),
        ),
    ),
    "ledger": Kind(
        "results/mine/quick/full/seed0.json",
        damage_json,
        (
            *(("study", command, "./mine.yaml") for command in ("show", "plan")),
            ("report", "./mine.yaml", "--out", "new"),
        ),
    ),
    "campaign": Kind("experiments/campaign.yaml", damage_yaml, (("zoo", "list"),)),
    "published": Kind(
        "experiments/published/hfdn.yaml",
        damage_yaml,
        (
            ("study", "show", "hfdn_attention"),
            ("report", "--table", "hfdn/attention", "--out", "new"),
        ),
    ),
    "times": Kind(
        SPEED,
        damage_bytes,
        (("report", "--frame", "o.csv"), ("report", "./mine.yaml", "--out", "new")),
    ),
    "comparison": Kind(
        "runs/comparison/img_00_x4.json",
        damage_json,
        (("report", "./mine.yaml", "--out", "new"),),
    ),
    "weight record": Kind(
        "zoo/fsrcnn_x4.json",
        damage_json,
        (
            (*UPSCALE, "--weights", "fsrcnn_x4"),
            UPSCALE,
            ("weights", "eval", "fsrcnn_x4", "--sets", "photos/small"),
            ("export", "fsrcnn_x4", "--out", "o.pt2"),
            ("zoo", "list"),
        ),
        zoo="zoo",
    ),
    "zoo's weights": Kind(
        "zoo/fsrcnn_x4.safetensors",
        damage_safetensors,
        (UPSCALE, ("compare", "a.png", "--out", "c"), ("export", "fsrcnn_x4", "--out", "o.pt2")),
        zoo="zoo",
    ),
    "archive": Kind(
        "photos.zip", damage_bytes, (("prepare", "animals", "--from", "photos.zip", *FROM),)
    ),
    "tar archive": Kind(
        "photos.tar", damage_bytes, (("prepare", "animals", "--from", "photos.tar", *FROM),)
    ),
    "packed tar": Kind(
        "photos.t?z", damage_bytes, (("prepare", "animals", "--from", "photos.tgz", *FROM),)
    ),
    "store": Kind(
        "cache/pixels/*/*",
        damage_bytes,
        (FIT, ("test", "--run", "run"), ("validate", "--run", "run")),
        environment={"SR_CACHE": "HERE/cache"},
    ),
    "compressed store": Kind(
        "cache/compressed/pixels/*/*",
        damage_bytes,
        ((*FIT, "--data.store", "compressed"),),
        environment={"SR_CACHE": "HERE/cache"},
    ),
    "store's record": Kind(
        "cache/**/*.json",
        damage_json,
        (
            FIT,
            (*FIT, "--data.store", "compressed"),
            ("test", "--run", "run"),
            ("validate", "--run", "run"),
        ),
        environment={"SR_CACHE": "HERE/cache"},
    ),
}


def make(folder: Path) -> None:
    """Make the samples in an empty folder, which becomes the current one."""
    save_pictures(folder / "photos", 3, (64, 72), seed=7)
    save_pictures(folder / "photos" / "small", 1, (48, 40), seed=70)
    image = Image.fromarray(picture(5, 24, 20))
    image.save(folder / "a.png")
    image.save(folder / "a.jpg")
    _save_rare(image, folder / "odd")
    (folder / "lr").mkdir()
    for path in sorted((folder / "photos").glob("*.png")):
        high = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)
        low = imresize(high, 1 / 4).permute(1, 2, 0).numpy()
        Image.fromarray(low).save(folder / "lr" / f"{path.stem}x4.png")
    torch.manual_seed(0)
    save_network(FSRCNN(4).eval(), folder / "w.safetensors")
    for arch in CONVERTED:
        made = test_convert.made(arch, folder)[1]
        made.replace(folder / f"{arch}{made.suffix}")
    _save_archives(folder)
    (folder / "mine.yaml").write_text(STUDY)
    (folder / "exp.yaml").write_text(EXPERIMENT)
    (folder / "zoo").mkdir()
    for suffix in ("json", "safetensors"):
        shutil.copyfile(ZOO / f"fsrcnn_x4.{suffix}", folder / "zoo" / f"fsrcnn_x4.{suffix}")
    experiments = folder / "experiments"
    (folder / "configs").symlink_to(CONFIGS)
    # One of each, for all of them would be read with every input.
    kept = ("published/hfdn.yaml", "studies/hfdn_attention.yaml", "hfdn_x4.yaml")
    for name in (*kept, "compared/fsrcnn_x4_fast.yaml"):
        (experiments / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(EXPERIMENTS / name, experiments / name)
    (experiments / "campaign.yaml").write_text(CAMPAIGN)
    (folder / SPEED).parent.mkdir(parents=True)
    times = next((EXPERIMENTS / "results" / "speed").glob("*.csv"))
    head, *lines = times.read_text().splitlines()
    kept = [line for line in lines if ",hfdn_x4," in line]
    (folder / SPEED).write_text("\n".join([head, *kept, ""]))
    before = os.environ["SR_CACHE"]
    os.environ["SR_CACHE"] = str(folder / "cache")
    main([*FIT[:-1], "run"])
    main(["test", "--run", "run"])
    os.environ["SR_CACHE"] = before
    open_store(find_images("photos"), "photos", "compressed", Path("cache"))
    main(["compare", "photos/img_00.png", *WEIGHTS])
    entry = json.loads(
        next((EXPERIMENTS / "results" / "hfdn_attention").rglob("seed0.json")).read_text()
    )
    cells = {"FSRCNN": {"psnr": 30.0, "ssim": 0.9, "images": {"a": [30.0, 0.9]}}}
    entry |= {"name": "mine/quick/full/seed0", "study": "mine", "budget": "quick", "level": "full"}
    entry |= {"seed": 0, "metrics": {"edsr2017": {"small_x4": cells}}}
    path = folder / "results" / "mine" / "quick" / "full" / "seed0.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(entry))


def _save_rare(image: Image.Image, folder: Path) -> None:
    """The formats and kinds of levels beside 8-bit PNG and JPEG."""
    folder.mkdir()
    grey = image.convert("L")
    image.convert("P").save(folder / "palette.gif.png")
    image.convert("RGBA").save(folder / "alpha.webp", lossless=True)
    image.convert("CMYK").save(folder / "cmyk.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")
    image.save(folder / "plain.bmp")
    image.save(folder / "packed.tif", compression="tiff_lzw")
    grey.convert("1").save(folder / "bits.tif", compression="group4")
    grey.convert("LA").save(folder / "grey_alpha.png")
    grey.convert("I;16").save(folder / "grey16.png")
    grey.convert("F").point(lambda level: level / 255).save(folder / "float.tif")
    deep = np.asarray(image).astype(np.uint16) * 257
    tifffile.imwrite(folder / "deep.tif", deep, photometric="rgb", compression="zlib")
    tifffile.imwrite(folder / "real.tif", deep.astype(np.float32) / 65535, photometric="rgb")
    image.save(folder / "moving.png", save_all=True, append_images=[image.rotate(90)])


def _save_archives(folder: Path) -> None:
    names = ("baby", "bird", "butterfly", "head", "woman")
    photos = sorted((folder / "photos").glob("*.png"))
    files = [(photos[place % 3], f"Set5/{name}.png") for place, name in enumerate(names)]
    files += [(path, f"photos/{path.name}") for path in photos]
    with zipfile.ZipFile(folder / "photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, name in files:
            archive.write(path, name)
    for suffix, mode in (("tar", "w"), ("tgz", "w:gz"), ("txz", "w:xz")):
        with tarfile.open(folder / f"photos.{suffix}", mode) as tar:
            for path, name in files:
                tar.add(path, name)
