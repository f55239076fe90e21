"""What a run leaves behind."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, SMALL_HFDN, names_this_machine, only_run, tiny_fit
from PIL import Image

from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.papers.hfdn.network import HFDN
from sr_lightning.runs import RunFolder
from sr_lightning.training.wandb_logging import WandbOptions, mode_of
from sr_lightning.weights.files import save_network


def test_run_leaves_its_full_config(finished_run):
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    assert config["model"]["init_args"]["network"]["init_args"]["channels"] == 16
    assert config["model"]["init_args"]["network"]["init_args"]["growth"] == 8
    assert config["data"]["init_args"]["patch_size"] == 8
    assert config["seed_everything"] == 0


def test_checkpoints_carry_protocol_and_metric_in_their_names(finished_run):
    names = sorted(path.name for path in (finished_run / "checkpoints").iterdir())
    assert len(names) == 2
    best, last = names
    assert last == "last_step=4.ckpt"
    assert best.startswith("best_step=")
    assert float(best.partition("edsr2017_psnr=")[2].removesuffix(".ckpt")) > 5


def test_metrics_are_in_a_csv_file(finished_run):
    rows = list(csv.DictReader((finished_run / "metrics.csv").open()))
    assert {"train/loss", "val/edsr2017/psnr", "val/edsr2017/ssim", "perf/img_s", "lr-Adam"} <= set(
        rows[0]
    )
    assert len([row for row in rows if row["train/loss"]]) == 4
    validated = [row for row in rows if row["val/edsr2017/psnr"]]
    assert len(validated) == 2
    # What belongs to one moment has one step.
    assert all(row["train/loss"] and row["perf/step_ms"] for row in validated)


def test_test_leaves_per_image_rows_means_and_pictures(finished_run):
    rows = list(csv.DictReader((finished_run / "results" / "images.csv").open()))
    assert len(rows) == 3 * 2
    summary = json.loads((finished_run / "results" / "summary.json").read_text())
    for mean in summary["means"]:
        values = [float(r["psnr"]) for r in rows if r["method"] == mean["method"]]
        assert mean["psnr"] == pytest.approx(sum(values) / 3)
        assert (mean["protocol"], mean["images"]) == ("edsr2017", 3)
    (folder,) = (p for p in (finished_run / "images").iterdir() if p.name != "validation")
    pictures = sorted(folder.glob("*.png"))
    assert [p.stem for p in pictures] == ["img_00", "img_01", "img_02"]
    assert Image.open(pictures[0]).width > 600
    assert list((finished_run / "images" / "validation").glob("*_x4.png"))
    for picture in pictures:
        crops = sorted(crop.name for crop in picture.with_suffix("").iterdir())
        assert crops == ["bicubic.png", "hr.png", "lr.png", "sr.png"]


def _wandb(run_folder) -> dict:
    """Read an offline run back with wandb's own command."""
    executable = str(Path(sys.executable).parent / "wandb")
    out = subprocess.run(
        [executable, "leet", "inspect", "--json", str(run_folder)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {"records": [json.loads(line) for line in out.splitlines() if line.strip()], "text": out}


def test_offline_wandb_runs_hold_config_group_and_table(finished_commands):
    read = _wandb(finished_commands["fit"])
    assert "a-group" in read["text"]
    assert "sr_lightning.papers.hfdn.module.HFDNModule" in read["text"]
    assert "val/edsr2017/psnr" in read["text"]
    tables = list(finished_commands["test"].rglob("*.table.json"))
    assert len(tables) == 1
    table = json.loads(tables[0].read_text())
    assert len(table["data"]) == 3 * 2
    assert table["columns"][:5] == ["set", "scale", "image", "method", "protocol"]


def test_a_training_and_its_test_are_one_wandb_run(finished_commands):
    folders = [finished_commands["fit"], finished_commands["test"]]
    (own,) = {folder.name.rpartition("-")[2] for folder in folders}
    assert (finished_commands["run"] / "wandb-id").read_text() == own
    records = [record for folder in folders for record in _wandb(folder)["records"]]
    ids = {record["run"]["run_id"] for record in records if "run" in record}
    assert ids == {own}


def _summary(run_folder) -> dict:
    executable = str(Path(sys.executable).parent / "wandb")
    out = subprocess.run(
        [executable, "leet", "inspect", "--summary", "--json", str(run_folder)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return json.loads(out)["summary"]


def test_wandb_knows_the_code_the_data_and_the_best_checkpoint(finished_commands):
    text = _wandb(finished_commands["fit"])["text"]
    facts = json.loads((finished_commands["run"] / "provenance.json").read_text())
    ((_, train),) = facts["data"]["train"].items()
    for said in (train["sha256"], facts["sittings"][0]["hardware"], "true count"):
        assert said in text
    noted = _summary(finished_commands["fit"])["checkpoint"]
    best = finished_commands["run"] / noted["path"]
    assert best.name.startswith("best_")
    assert noted["sha256"] == hashlib.sha256(best.read_bytes()).hexdigest()


def test_pictures_and_weights_go_to_wandb_on_request(
    tmp_path, train_folder, val_folder, test_folder
):
    args = tiny_fit(
        "hfdn_x4", tmp_path, train_folder, val_folder, trainer__max_steps=2, wandb__mode="offline"
    )
    more = ["--wandb.log_images", "true", "--wandb.log_weights", "true"]
    main([*args, *SMALL_HFDN, *more, "--data.test", f"[{test_folder}]"])
    run = only_run(tmp_path)
    (trained,) = (run / "wandb").glob("offline-run-*")
    assert "artifact" in _wandb(trained)["text"]
    main(["test", "--run", str(run)])
    (tested,) = set((run / "wandb").glob("offline-run-*")) - {trained}
    (file,) = tested.rglob("*.table.json")
    table = json.loads(file.read_text())
    pictures = {line[table["columns"].index("method")]: line[-1] for line in table["data"]}
    assert pictures["bicubic"] is None
    # The file only says that there is one; the pictures are in the table's artifact.
    assert pictures["HFDN"] == "Image"
    assert "media/images/" in _wandb(tested)["text"]


def test_further_loggers_stand_beside_the_suites_own(tmp_path, train_folder, val_folder):
    args = tiny_fit(
        "hfdn_x4", tmp_path, train_folder, val_folder, trainer__max_steps=2, wandb__mode="offline"
    )
    logger = "lightning.pytorch.loggers.CSVLogger"
    folder = tmp_path / "more"
    more = ["--trainer.logger", logger, "--trainer.logger.save_dir", str(folder)]
    main([*args, *SMALL_HFDN, *more])
    assert list(folder.rglob("metrics.csv"))
    run = only_run(tmp_path)
    assert (run / "metrics.csv").is_file()
    assert list((run / "wandb").glob("offline-run-*"))


def test_no_logger_is_no_logger(tmp_path, train_folder, val_folder):
    args = tiny_fit("hfdn_x4", tmp_path, train_folder, val_folder, trainer__max_steps=2)
    main([*args, *SMALL_HFDN, "--trainer.logger", "false"])
    assert not (only_run(tmp_path) / "metrics.csv").exists()


def test_the_summary_holds_the_best_validation(finished_commands):
    best = _summary(finished_commands["fit"])["val/edsr2017/psnr"]["max"]
    rows = csv.DictReader((finished_commands["run"] / "metrics.csv").read_text().splitlines())
    psnr = [float(row["val/edsr2017/psnr"]) for row in rows if row["val/edsr2017/psnr"]]
    assert best == pytest.approx(max(psnr), abs=1e-4)


@pytest.mark.parametrize(
    ("option", "variable", "mode"),
    [
        ("offline", "disabled", "disabled"),
        ("offline", "online", "offline"),
        ("online", "offline", "offline"),
        ("disabled", "online", "disabled"),
        ("online", "anything", "online"),
    ],
)
def test_wandb_mode_of_the_environment_can_only_tell_less(option, variable, mode, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", variable)
    assert mode_of(WandbOptions(mode=option)) == mode


def test_wandb_leaves_nothing_in_the_environment(finished_run):
    assert "WANDB_MODE" not in os.environ
    import wandb

    assert wandb.run is None


def test_private_runs_do_not_tell_the_machine(tmp_path, train_folder, val_folder):
    args = tiny_fit("hfdn_x4", tmp_path, train_folder, val_folder, wandb__mode="offline")
    start = tmp_path / "start.safetensors"
    save_network(HFDN(4, channels=16, blocks=1, layers=2, growth=8, reduction=4), start)
    main([*args, *SMALL_HFDN, "--wandb.private", "true", "--trainer.max_steps", "2",
          "--data.root", str(tmp_path / "all_data"), "--model.init_from", str(start)])  # fmt: skip
    (run,) = (only_run(tmp_path) / "wandb").glob("offline-run-*")
    (file,) = run.glob("*.wandb")
    assert not (run / "files" / "requirements.txt").exists()
    recorded = [_wandb(run)["text"], file.read_bytes().decode(errors="replace")]
    # Its logs, which name places, are not among what 'wandb sync' uploads.
    recorded += [one.read_text() for one in (run / "files").rglob("*") if one.is_file()]
    commit = _git_commit()
    for text in recorded:
        assert not names_this_machine(text)
        places = [tmp_path, train_folder.parent, ROOT, sys.executable, Path.home()]
        for place in places:
            assert str(place) not in text
        assert not commit or commit not in text
    for name in ("all_data", "start.safetensors", train_folder.name, "HFDNModule", "edsr2017"):
        assert name in recorded[0], name


def _git_commit() -> str:
    """The first twelve digits of the commit, or nothing outside of a checkout."""
    done = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_second_run_gets_a_folder_of_its_own(tmp_path, train_folder, val_folder):
    for _ in range(2):
        main(
            [
                *tiny_fit("hfdn_x4", tmp_path, train_folder, val_folder, trainer__max_steps=2),
                *SMALL_HFDN,
            ]
        )
    assert len(list(tmp_path.glob("hfdn_x4/*/config.yaml"))) == 2


def test_paths_are_printed(tmp_path, train_folder, val_folder, capsys):
    main(
        [
            *tiny_fit("hfdn_x4", tmp_path, train_folder, val_folder, trainer__max_steps=2),
            *SMALL_HFDN,
        ]
    )
    out = capsys.readouterr().out
    run = only_run(tmp_path)
    for path in (
        run / "config.yaml",
        run / "metrics.csv",
        *run.glob("checkpoints/*"),
    ):
        assert str(path) in out
    assert f"sr-lightning test --run {run}" in out


def test_provenance_says_code_data_machine_and_time(finished_run, train_folder):
    facts = json.loads((finished_run / "provenance.json").read_text())
    (sitting,) = facts["sittings"]
    assert (sitting["from_step"], sitting["to_step"]) == (0, 4)
    assert sitting["seconds"] > 0
    assert "threads" in sitting["hardware"]
    ((name, train),) = facts["data"]["train"].items()
    assert (name, train["images"]) == (train_folder.name, 6)
    assert len(train["sha256"]) == 64
    summary = json.loads((finished_run / "results" / "summary.json").read_text())
    assert {"hardware", "commit", "data"} <= set(summary)
    ((_, test),) = summary["data"].items()
    assert test["images"] == 3


@pytest.mark.parametrize(("name", "value"), [("psnr", "31.5"), ("scale", -1), ("images", True)])
def test_results_of_other_kinds_are_named(finished_run, tmp_path, name, value):
    run = RunFolder(shutil.copytree(finished_run, tmp_path / "run"))
    content = run.summary()
    content["means"][0][name] = value
    (run.results / "summary.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"json is damaged: means\.0\.{name}: .*test --run"):
        run.summary()
