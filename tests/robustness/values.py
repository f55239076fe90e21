"""Odd values on the command line: each a command that has one sentence, or works."""

from __future__ import annotations

from samples import FIT, UPSCALE, convert

_FIT = {
    "data.scale": ("1.5", "0", "-1", "nan", "inf", "1e9", "[]", "x"),
    "data.val_scale": ("0", "nan", "[]"),
    "data.num_workers": ("-1",),
    "data.batch_size": ("0", "-1", "1000000000000"),
    "data.patch_size": ("0", "-3", "1000000000", "1.5"),
    "data.holdout": ("-1", "0", "1000000000"),
    "data.candidates": ("0", "-1"),
    "data.val_crop": ("0", "-1"),
    "data.val_limit": ("0", "-1"),
    "data.seed": ("-1", str(10**30)),
    "data.train": (
        "photoz",
        "~no_user",
        "/dev/null",
        "[]",
        "a.png",
        "photos\0",
        "/proc/self/mem",
    ),
    "data.val": ("photoz", "[]"),
    "data.test": ("photoz", "photos[/x]", "a.png"),
    "data.store": ("x", "compressed"),
    "data.cache": ("/proc/x", "a.png", "~no_user/x"),
    "data.paired_lr": ("{photos: nowhere}", "{photos: '{x}'}", "3"),
    "trainer.accumulate_grad_batches": ("0", "-1", "100"),
    "trainer.val_check_interval": ("0.5", "0", "-1", "1.0", "2.5"),
    "trainer.max_steps": ("0", "-1", "-5"),
    "trainer.max_epochs": ("1", "-2"),
    "trainer.log_every_n_steps": ("0", "-1"),
    "trainer.limit_val_batches": ("2.0", "-1", "0"),
    "trainer.gradient_clip_val": ("-1", "nan"),
    "trainer.precision": ("bf16-true", "64-true", "16-true", "16-mixed", "x"),
    "trainer.devices": ("0", "-1", "x"),
    "trainer.accelerator": ("gpu", "x"),
    "trainer.enable_checkpointing": ("false",),
    "trainer.callbacks": ("x", "[lightning.pytorch.callbacks.EarlyStopping]"),
    "trainer.max_time": ("x",),
    "trainer.overfit_batches": ("1",),
    "trainer.fast_dev_run": ("true",),
    "model.optimizer.lr": ("nan", "-1", "0", "inf"),
    "model.optimizer.betas": ("[2, 3]", "x"),
    "model.optimizer": ("torch.optim.LBFGS", "torch.optim.Nothing", "os.system"),
    "model.scheduler": (
        *("lightning.pytorch.cli.ReduceLROnPlateau", "torch.optim.lr_scheduler.ReduceLROnPlateau"),
        *("torch.optim.lr_scheduler.StepLR", "null"),
    ),
    "model.scheduler.final": ("nan", "-1"),
    "model.scheduler.warmup": ("-1", "1000000"),
    "model.tile": ("0", "-1"),
    "model.network.scale": ("0", "-1", "5", "1.5", "1000000"),
    "model.network.channels": ("0", "-1", "x"),
    "model.protocols": ("[]", "[x]", "edsr2017"),
    "model.metrics": ("[]", "[ssim]", "[x]"),
    "model.init_from": ("nothing", "photos", "a.png", "~no_user", "/dev/zero", ""),
    "seed_everything": ("-1", "true", str(10**30), "x"),
    "output.checkpoint_minutes": ("nan", "-1", "0"),
    "output.root": ("/proc/x", "a.png", "~no_user/x"),
    "output.folder": ("/proc/x", "a.png", "a.png/x", "~no_user/x", "", "x" * 300),
    "wandb.mode": ("x",),
    "ckpt_path": ("nothing", "photos", "a.png", "w.safetensors", "last", "best", "/dev/zero", ""),
    "config": ("nothing", "photos", "a.png", "~no_user", "[]", "mine.yaml", ""),
}
_UPSCALE = {
    "tile": ("0", "-1", "1000000000", "1.5"),
    "scale": ("0", "-2", "nan", "inf", "1e9", "0.5", "1"),
    "device": ("x", "cuda:99", "meta"),
    "weights": ("nothing", "photos", "a.png", "~no_user", "/dev/zero", "[/x]", "", "photos.zip"),
    "out": (
        *(
            "/dev/null",
            "/proc/x.png",
            "a.png/o.png",
            "~no_user/o.png",
            "x" * 300 + ".png",
            "o.gif",
        ),
        *("[/x].png", "o\0.png", "photos", "", "."),
    ),
}

# What the command itself reads and writes by names.
OF_UPSCALE: list[list[str]] = [
    *([*UPSCALE, f"--{key}", value] for key, values in _UPSCALE.items() for value in values),
    *(["upscale", name] for name in ("nothing.png", "mine.yaml", "photos.zip", "~no_user", "o\0")),
    *(["upscale", name] for name in ("/dev/zero", "/dev/null", "x" * 300, "[/x].png", "")),
]
VALUES: list[list[str]] = [
    *([*FIT, f"--{key}", value] for key, values in _FIT.items() for value in values),
    *(["export", "w.safetensors", "--out", to] for to in ("/proc/x.pt2", "a.png", "a.png/o.pt2")),
    *(["export", "w.safetensors", "--out", "o.pt2", "--size", n, n] for n in ("0", "-1")),
    *(["export", "w.safetensors", "--out", "o.pt2", "--scale", n] for n in ("0", "nan", "inf")),
    ["export", "photos", "--out", "o.pt2"],
    *(
        [*convert("imdn", "imdn.pth"), "--set", text]
        for text in ("channels", "=", "x=1", "blocks=[")
    ),
    *([*convert("imdn", "imdn.pth"), "--set", f"channels={n}"] for n in ("0", "-1", "1e9", "null")),
    *([*convert("imdn", "imdn.pth"), "--out", to] for to in ("/proc/x.safetensors", "o.png")),
    *(convert("imdn", name) for name in ("nothing", "photos", "a.png", "/dev/zero", "~no_user")),
    *(
        ["study", "show", name]
        for name in ("nothing", "./nothing.yaml", "~no_user/x.yaml", "photos")
    ),
    *(["study", "run", "./mine.yaml", "--seeds", n] for n in ("0", "-1", "x")),
    ["study", "show", "./mine.yaml", "--budget", "paper"],
    ["study", "run", "./mine.yaml", "--launcher", "slurm", "--slurm", "x"],
    *(["plot-scales", "run", "--out", to] for to in ("/proc/x.svg", "photos", "a.png/x.svg")),
    *(["plot-scales", name] for name in ("photos", "nothing", "~no_user", "a.png")),
    ["plot-scales", "run", "--protocol", "x"],
    *(["doctor", "--hr", "photos", "--lr", name] for name in ("nothing", "photos", "a.png", "d")),
    ["doctor", "--hr", "photos", "--sr", "photos", "--json", "/proc/x.json"],
    *(["doctor", "run", "--expect", text] for text in ("x", "nan", "30/x", "inf/inf")),
    *(["doctor", name] for name in ("~no_user", "nothing", "a.png", "photos.zip", "/dev/zero")),
    *(
        ["prepare", "set5", "--from", name, "--data-root", "d"]
        for name in ("nothing", "/dev/zero", "~no_user", "mine.yaml")
    ),
    *(["prepare", "set5", "--from", "photos", "--data-root", to] for to in ("/proc/x", "a.png")),
    ["prepare", "nothing"],
    *(["complexity", "w.safetensors", "--hr", text] for text in ("x", "0x0", "-1x5", "1280")),
    *(["complexity", name] for name in ("nothing.yaml", "mine.yaml", "a.png", "~no_user")),
    *(["compare", "photos", "--weights", "w.safetensors", "--scale", n] for n in ("0", "nan", "3")),
    ["compare", "a.png", "--weights", "w.safetensors", "--region", "-1", "-1", "0"],
    ["compare", "a.png", "--weights", "w.safetensors", "--out", "/proc/x"],
    ["report", "--table", "x"],
    ["zoo", "train", "--only", "nothing"],
    *(["zoo", "train", "--minutes", n] for n in ("nan", "-1")),
    *(["weights", "eval", name, "--sets", "photos/small"] for name in ("w.safetensors", "nothing")),
    *(
        ["test", "--run", name]
        for name in ("nothing", "photos", "a.png", "~no_user", "/dev/zero", "")
    ),
    *(
        ["predict", "--run", "run", "--data.predict", name]
        for name in ("a.png", "nothing", "d", "")
    ),
    *(["validate", "--run", "run", "--scale", text] for text in ("0", "x", "[]", "nan")),
    *([name] for name in ("", "nothing", "--", "-x", "fit", "test")),
    ["--plugin"],
    ["--plugin", "os", "fit"],
]
