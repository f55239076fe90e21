"""The command line: real experiment files, overlays, mistakes, runs found again."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import warnings
from functools import partial

import numpy as np
import pytest
import torch
import yaml
from conftest import CONFIGS, EXPERIMENTS, ROOT, SMALL_HFDN, only_run, picture, tiny_fit
from PIL import Image, ImageCms

from sr_lightning.baselines.fsrcnn import FSRCNN
from sr_lightning.cli import main
from sr_lightning.data.images import find_images, read_photo, read_rgb
from sr_lightning.errors import UserError
from sr_lightning.experiments import experiment_files
from sr_lightning.papers.hfdn.module import HFDNModule
from sr_lightning.training.cli import _check_schedule
from sr_lightning.training.module import SRModule

HFDN = str(EXPERIMENTS / "hfdn_x4.yaml")


def refused(capsys, *args: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(args))
    assert stopped.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("sr-lightning: ")
    return message


def printed_config(capsys, *args: str) -> dict:
    with pytest.raises(SystemExit) as stopped:
        main([*args, "--print_config"])
    assert stopped.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_help_and_version_answer(capsys):
    main(["--help"])
    assert "fit" in capsys.readouterr().out
    main(["--version"])
    assert capsys.readouterr().out.startswith("sr-lightning 0.")


RUNNABLE = experiment_files(ROOT)


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda p: p.stem)
def test_every_experiment_file_is_a_valid_config_with_a_head(path, capsys):
    head = path.read_text()
    assert head.startswith("#"), "an experiment says at its head what it is"
    assert "sr-lightning fit --config" in head
    assert "Expected" in head or "expected" in head
    config = printed_config(capsys, "fit", "--config", str(path))
    assert config["output"]["name"] == path.stem
    assert config["trainer"]["max_steps"] > 0


@pytest.mark.parametrize(
    "overlay",
    sorted(p for p in CONFIGS.rglob("*.yaml")),
    ids=lambda p: f"{p.parent.name}/{p.stem}",
)
def test_every_overlay_composes_with_an_experiment(overlay, capsys):
    base = printed_config(capsys, "fit", "--config", HFDN)
    config = printed_config(capsys, "fit", "--config", HFDN, "--config", str(overlay))
    assert config != base
    assert config["model"]["init_args"]["network"]["init_args"]["scale"] == 4
    assert overlay.read_text().startswith("#")


def test_overlay_changes_only_what_it_names(capsys):
    config = printed_config(
        capsys, "fit", "--config", HFDN, "--config", str(CONFIGS / "trainer" / "cpu.yaml")
    )
    optimizer = config["model"]["init_args"]["optimizer"]
    assert optimizer["class_path"] == "torch.optim.Adam"
    assert (optimizer["init_args"]["lr"], optimizer["init_args"]["fused"]) == (1e-4, True)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            ["--model.network.scalee", "3"],
            "model.network: there is no option 'scalee' of HFDN (did you mean 'scale'?)",
        ),
        (
            ["--model.ssim_wight", "3"],
            "model: there is no option 'ssim_wight' of HFDNModule (did you mean 'ssim_weight'?)",
        ),
        (
            ["--model.ensembel", "true"],
            "model: there is no option 'ensembel' of HFDNModule (did you mean 'ensemble'?)",
        ),
        # What is the paper's own is no choice.
        (["--model.loss", "mse"], "model: there is no option 'loss' of HFDNModule"),
        (
            ["--data.patchsize", "3"],
            "no option 'patchsize' of PatchDataModule (did you mean 'patch_size'?)",
        ),
        (
            ["--model.optimizer.lrr", "3"],
            "model.optimizer: there is no option 'lrr' of Adam (did you mean 'lr'?)",
        ),
        (
            ["--trainer.max_stepz", "3"],
            "no option --trainer.max_stepz (did you mean '--trainer.max_steps'?)",
        ),
        (["--trainer.max_steps", "abc"], "trainer.max_steps: expected int, got abc"),
        (
            ["--model.network.unit", "foo"],
            "model.network.unit: expected Literal['adu', 'adu_na', 'dense'], got foo",
        ),
        (["--config", "nowhere.yaml"], "The config nowhere.yaml does not exist"),
        (["--model.protocols", "[psnr2020]"], "choose from edsr2017, vdsr2016"),
        (["--run", "nowhere"], "nowhere holds no run"),
        (["--data-root"], "--data-root needs a folder"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_mistakes_name_the_key_in_one_sentence(capsys, args, words):
    assert words in refused(capsys, "fit", "--config", HFDN, *args)


def test_help_of_a_module_lists_its_own_arguments_and_those_of_all_modules(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--model.help", "sr_lightning.papers.hfdn.module.HFDNModule"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for option in ("network", "ssim_weight", "optimizer", "scheduler", "init_from", "tile"):
        assert f"--model.{option} " in shown


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--trainer.accumulate_grad_batches", "0"], "accumulate_grad_batches is 0; give whole"),
        (["--trainer.val_check_interval", "0.5"], "val_check_interval is 0.5; give whole steps"),
        (["--trainer.val_check_interval", "0"], "val_check_interval is 0; give whole steps"),
        (["--trainer.gradient_clip_val", "-1"], "gradient_clip_val is -1"),
        (["--trainer.devices", "0"], "The config cannot be used: .*devices"),
        (["--trainer.max_steps", "-5"], "The config cannot be used: .*max_steps"),
        (["--trainer.limit_val_batches", "-1"], "The config cannot be used: .*limit_val_batches"),
        (["--seed_everything", str(10**30)], "seed_everything: 10+ is not in bounds"),
        (["--data.scale", "1.5"], "data.scale is 1.5, which HFDN is not made for"),
        (["--data.val_scale", "[4, 3]"], "data.val_scale is 3, which HFDN is not made for"),
        (["--data.val_crop", "8"], "is 8 x 8, too small to be measured at x4 under edsr2017"),
        (["--data.num_workers", "-1"], "data.num_workers is -1; give 0 or more"),
        (["--data.num_workers", "null"], "num_workers is null; give a value, or leave it out"),
        (["--trainer.max_steps", "null"], "trainer.max_steps: expected int, got None"),
        (["--trainer.max_steps", str(10**30)], "max_steps is 10+, which is beyond reason"),
        (["--model.tile", "[1]"], "model.tile: expected int"),
        (["--trainer", "7"], "trainer: a section of options belongs here, not "),
        (["--wandb", "[]"], "wandb: a section of options belongs here, not "),
        (["--model.optimizer.lr", "-1"], "Invalid learning rate: -1"),
        (["--ckpt_path", "best"], "The checkpoint best does not exist"),
        (["--ckpt_path", "/dev/zero"], "The checkpoint /dev/zero is a pipe or a device"),
        (["--config", "/dev/zero"], "The config /dev/zero is a pipe or a device"),
        (["--model.init_from", "~no_such_user/x"], "there is no user of that name"),
    ],
)
def test_odd_numbers_and_places_are_refused_in_one_sentence(
    tmp_path, train_folder, val_folder, capsys, args, words
):
    given = [*tiny_fit("hfdn_x4", tmp_path, train_folder, val_folder), *SMALL_HFDN, *args]
    assert re.search(words, refused(capsys, *given))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "a: &a [*a]", "- a", "a: 1\n b: 2", r'trainer: "\0"']
)
def test_a_config_that_jsonargparse_would_not_survive_is_refused(tmp_path, capsys, text):
    (tmp_path / "x.yaml").write_text(text)
    message = refused(capsys, "fit", "--config", HFDN, "--config", str(tmp_path / "x.yaml"))
    assert str(tmp_path / "x.yaml") in message


def test_a_scale_that_no_image_fits_is_refused_before_it_is_tried(
    tmp_path, train_folder, val_folder, capsys
):
    given = tiny_fit("fsrcnn_x4_fast", tmp_path, train_folder, val_folder)
    message = refused(capsys, *given, "--model.network.scale", "4096")
    assert "FSRCNN is made for x4096; scales go to x64" in message


def test_a_schedule_that_stumbles_over_its_options_is_refused_before_training(
    tmp_path, train_folder, val_folder, capsys
):
    given = tiny_fit("fsrcnn_x4_fast", tmp_path, train_folder, val_folder)
    steps = ("--model.scheduler", "torch.optim.lr_scheduler.StepLR", "--model.scheduler.step_size")
    message = refused(capsys, *given, *steps, "0")
    assert "model.scheduler: StepLR fails when it is stepped (integer modulo by zero)" in message
    message = refused(capsys, *given, *steps, "5", "--model.optimizer.lr", "-1")
    assert "cannot be made: Invalid learning rate" in message


def test_a_schedule_is_tried_also_where_the_optimiser_needs_the_losses():
    made = partial(torch.optim.lr_scheduler.StepLR, step_size=5)
    module = SRModule(FSRCNN(scale=4), optimizer=torch.optim.LBFGS, scheduler=made)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _check_schedule(module)
    module.scheduler = partial(made, step_size=0)
    with pytest.raises(UserError, match="StepLR fails when it is stepped"):
        _check_schedule(module)


def a_counter(loops):
    return loops["fit_loop"]["epoch_loop.batch_progress"]["current"]


def steps_of(loops):
    return loops["fit_loop"]["epoch_loop.state_dict"]


@pytest.mark.parametrize("key", ["wandb.mode", "output.name", "trainer.max_steps"])
def test_null_where_it_means_nothing_is_refused_in_one_sentence(tmp_path, capsys, key):
    section, _, name = key.partition(".")
    (tmp_path / "x.yaml").write_text(f"{section}: {{{name}: null}}")
    message = refused(capsys, "fit", "--config", HFDN, "--config", str(tmp_path / "x.yaml"))
    assert f"{key} is null; give a value, or leave it out." in message


@pytest.mark.parametrize(
    "value", ["5", "null", "[]", "x", "{class_path: os.system}", "{class_path: torch.nn.Conv2d}"]
)
@pytest.mark.parametrize("section", ["trainer", "model", "data", "output", "wandb"])
def test_a_section_that_is_none_is_refused_in_one_sentence(tmp_path, capsys, section, value):
    (tmp_path / "x.yaml").write_text(f"{section}: {value}")
    message = refused(capsys, "fit", "--config", HFDN, "--config", str(tmp_path / "x.yaml"))
    assert f"{section}.{section}" not in message


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: c["state_dict"].update(x=torch.ones(1)), "surplus x"),
        (lambda c: c["state_dict"].popitem(), "missing "),
        (lambda c: next(iter(c["state_dict"].values())).fill_(torch.nan), "NaN or infinity"),
        (lambda c: c.update(state_dict=[]), "no sound 'state_dict'"),
        (lambda c: c.update(optimizer_states="x"), "no sound 'optimizer_states'"),
        (lambda c: c.update(optimizer_states=[]), "no state of an optimiser to go on with"),
        (lambda c: c.update(loops=7), "no sound 'loops'"),
        (lambda c: a_counter(c["loops"]).update(ready="2"), "no sound 'loops'"),
        (lambda c: a_counter(c["loops"]).update(ready={}), "no sound 'loops'"),
        (lambda c: steps_of(c["loops"]).update(_batches_that_stepped={}), "no sound 'loops'"),
        (
            lambda c: c["optimizer_states"][0]["param_groups"][0].update(capturable=True),
            "no sound 'optimizer_states'",
        ),
        (
            lambda c: c["optimizer_states"][0]["param_groups"][0].update(lr="x"),
            "is not as a training leaves it",
        ),
        (lambda c: c.pop("pytorch-lightning_version"), "no sound 'pytorch-lightning_version'"),
    ],
)
def test_a_checkpoint_that_is_none_is_refused_in_one_sentence(
    finished_run, tmp_path, capsys, spoil, words
):
    (last,) = (finished_run / "checkpoints").glob("last*.ckpt")
    content = torch.load(last, weights_only=True)
    spoil(content)
    path = tmp_path / "x.ckpt"
    torch.save(content, path)
    run = shutil.copytree(finished_run, tmp_path / "run")
    arguments = ("--ckpt_path", str(path), "--trainer.max_steps", "9")
    message = refused(capsys, "fit", "--run", str(run), *arguments)
    assert words in message
    assert str(path) in message


def test_a_plateau_schedule_follows_the_validations(tmp_path, train_folder, val_folder):
    given = tiny_fit("hfdn_x4", tmp_path, train_folder, val_folder, trainer__max_steps=6)
    main([*given, *SMALL_HFDN, "--model.optimizer.lr", "1e-3",
          "--model.scheduler", "lightning.pytorch.cli.ReduceLROnPlateau",
          "--model.scheduler.monitor", "val/edsr2017/psnr", "--model.scheduler.mode", "max",
          "--model.scheduler.patience", "0", "--model.scheduler.threshold", "1"])  # fmt: skip
    with (only_run(tmp_path) / "metrics.csv").open() as file:
        rates = [float(row["lr-Adam"]) for row in csv.DictReader(file) if row["lr-Adam"]]
    assert rates[0] == pytest.approx(1e-3)
    assert rates[-1] < rates[0]


def test_typo_in_a_yaml_file_is_named(tmp_path, capsys):
    (tmp_path / "typo.yaml").write_text(
        "model:\n  init_args:\n    network:\n      init_args:\n        chanels: 3\n"
    )
    message = refused(capsys, "fit", "--config", HFDN, "--config", str(tmp_path / "typo.yaml"))
    assert "no option 'chanels' of HFDN (did you mean 'channels'?)" in message


def test_unknown_command_is_refused(capsys):
    assert "no command 'fitt'" in refused(capsys, "fitt")


def test_paper_recipe_without_its_data_says_what_to_do(tmp_path, capsys):
    message = refused(
        capsys,
        "fit",
        "--config",
        HFDN,
        "--data-root",
        str(tmp_path),
        "--output.root",
        str(tmp_path / "runs"),
    )
    for part in (str(tmp_path / "train" / "DIV2K"), "prepare div2k", "configs/data/sample.yaml"):
        assert part in message


def test_wandb_logger_under_trainer_is_refused(tmp_path, capsys):
    (tmp_path / "l.yaml").write_text(
        "trainer:\n  logger:\n    class_path: lightning.pytorch.loggers.WandbLogger\n"
    )
    message = refused(capsys, "fit", "--config", HFDN, "--config", str(tmp_path / "l.yaml"))
    assert "config section 'wandb:'" in message


def test_online_wandb_without_a_key_is_refused_at_once(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    message = refused(capsys, "fit", "--config", HFDN, "--wandb.mode", "online")
    assert "there is no W&B API key; run 'wandb login'" in message


def test_finished_run_can_be_validated_tested_and_predicted_from_its_folder(
    finished_run, test_folder, tmp_path, capsys
):
    cpu = ["--trainer.accelerator", "cpu"]
    main(["validate", "--run", str(finished_run), *cpu])
    assert "val/edsr2017/psnr" in capsys.readouterr().out
    # The experiment's folder stands for its newest run.
    main(["predict", "--run", str(finished_run.parent), "--data.predict", str(test_folder), *cpu])
    images = find_images(finished_run / "predictions")
    assert [p.name for p in images] == [f"img_{i:02}_x4.png" for i in range(3)]
    assert read_rgb(images[0]).shape == (288, 240, 3)


def test_predict_writes_what_upscale_does(finished_run, tmp_path, capsys):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    seen = Image.fromarray(np.dstack([picture(1, 12, 16), picture(2, 12, 16)[..., 0] // 2]))
    seen.save(tmp_path / "a.png", icc_profile=profile, dpi=(300, 300))
    seen.convert("RGB").save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(picture(1, 12, 16)[..., 0].astype(np.uint16) * 257).save(tmp_path / "grey.png")
    cpu = ["--trainer.accelerator", "cpu"]
    main(["predict", "--run", str(finished_run), "--data.predict", str(tmp_path), *cpu])
    args = ["--weights", str(finished_run), "--out", str(tmp_path / "out"), "--device", "cpu"]
    main(["upscale", str(tmp_path), *args])
    upscaled = find_images(tmp_path / "out")
    assert [p.name for p in upscaled] == ["a.jpg_x4.png", "a.png_x4.png", "grey_x4.png"]
    for path in upscaled:
        ours, theirs = read_photo(path), read_photo(finished_run / "predictions" / path.name)
        assert (ours.metadata, ours.dpi) == (theirs.metadata, theirs.dpi)
        assert ours.pixels.dtype == theirs.pixels.dtype
        assert np.abs(ours.pixels.astype(int) - theirs.pixels).max() <= 1


def test_predict_without_a_folder_says_so(finished_run, capsys):
    assert "--data.predict FOLDER" in refused(capsys, "predict", "--run", str(finished_run))


def test_tests_and_predictions_say_how_far_they_are_in_a_log(
    finished_run, test_folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("SR_PROGRESS_SECONDS", "0")
    quiet = ["--trainer.accelerator", "cpu", "--wandb.mode", "disabled"]
    out = ["--output.folder", str(tmp_path)]
    for command, sets, said in (
        ("test", ["--data.test", f"[{test_folder}]"], "tested 3/3 images"),
        ("predict", ["--data.predict", str(test_folder)], "upscaled 3/3 images"),
    ):
        main([command, "--run", str(finished_run), *sets, *quiet, *out])
        assert said in capsys.readouterr().out


def test_test_can_measure_under_several_protocols(finished_run, test_folder, tmp_path):
    main(
        [
            *("test", "--run", str(finished_run), "--data.test", f"[{test_folder}]"),
            *("--model.protocols", "[edsr2017, vdsr2016, lesrcnn2020]"),
            *("--model.ensemble", "true", "--output.folder", str(tmp_path)),
            *("--trainer.accelerator", "cpu", "--wandb.mode", "disabled"),
        ]
    )
    rows = list(csv.DictReader((tmp_path / "results" / "images.csv").open()))
    assert len(rows) == 3 * 3 * 2
    assert {row["method"] for row in rows} == {"HFDN+", "bicubic"}
    bicubic = {row["protocol"]: float(row["psnr"]) for row in rows if row["method"] == "bicubic"}
    assert len(set(bicubic.values())) == 3
    summary = json.loads((tmp_path / "results" / "summary.json").read_text())
    assert set(summary["protocols"]) == {"edsr2017", "vdsr2016", "lesrcnn2020"}


def test_checkpoint_can_be_used_without_its_run(finished_run):
    from sr_lightning.weights.files import load_network

    network = load_network(next((finished_run / "checkpoints").glob("best_*.ckpt")))
    assert network(torch.rand(1, 3, 8, 8)).shape == (1, 3, 32, 32)


def test_module_is_made_from_a_checkpoint_without_arguments(finished_run):
    best = next((finished_run / "checkpoints").glob("best_*.ckpt"))
    saved = torch.load(best, weights_only=True)["state_dict"]
    module = SRModule.load_from_checkpoint(best)
    for name, value in module.network.state_dict().items():
        assert torch.equal(value, saved[f"network.{name}"])
    assert module.training
    assert module.network.training
    batch = {"lr": torch.rand(1, 3, 8, 8), "hr": torch.rand(1, 3, 32, 32), "scale": 4, "name": [""]}
    weighted = HFDNModule.load_from_checkpoint(best, level_weights=[0.0, 0.0, 1.0], ssim_weight=0)
    losses = weighted.losses(batch)
    assert torch.equal(losses["loss"], losses["l1_d"])
    assert torch.equal(losses["loss"], module.losses(batch)["loss"])


def test_module_can_be_started_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "sr_lightning", "nonsense"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 2
    assert "no command 'nonsense'" in done.stderr


def test_warm_start_uses_another_scales_weights(finished_run, tmp_path, train_folder, val_folder):
    best = next((finished_run / "checkpoints").glob("best_*.ckpt"))
    args = tiny_fit("hfdn_x3", tmp_path, train_folder, val_folder, model__init_from=best)
    main([*args, *SMALL_HFDN, "--model.optimizer.lr", "0"])
    before = torch.load(best, weights_only=True)["state_dict"]
    after = torch.load(
        next((only_run(tmp_path) / "checkpoints").glob("last_*.ckpt")), weights_only=True
    )["state_dict"]
    name = "network.shallow.0.weight"
    assert torch.equal(before[name], after[name])
    assert (
        before["network.deconvolution.s.weight"].shape
        != after["network.deconvolution.s.weight"].shape
    )
