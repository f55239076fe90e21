"""``sr-lightning init``: recipes where a user can change them, from a checkout and from a wheel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, save_pictures

from sr_lightning import experiments
from sr_lightning.cli import main
from sr_lightning.experiments import experiment_files, project_root, recipe_files


def test_init_makes_what_is_missing_and_changes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["init", "mine"])
    first = capsys.readouterr().out.splitlines()
    files = recipe_files(ROOT)
    assert first[0] == f"mine: {len(files)} files made, 0 were there."
    assert [line.partition(":")[0] for line in first[1:]] == [
        "Go there",
        "Train a network",
        "See what there is",
    ]
    assert {p.stem for p in experiment_files(Path("mine"))} == {
        p.stem for p in experiment_files(ROOT)
    }
    recipe, lost = Path("mine/experiments/hfdn_x4.yaml"), Path("mine/configs/trainer/cpu.yaml")
    recipe.write_text("of mine")
    lost.unlink()
    main(["init", "mine"])
    said = capsys.readouterr().out
    assert f"1 files made, {len(files) - 1} were there." in said
    assert "left as they are: experiments/hfdn_x4.yaml." in said
    assert recipe.read_text() == "of mine"
    assert lost.read_bytes() == (ROOT / "configs/trainer/cpu.yaml").read_bytes()
    monkeypatch.chdir("mine/experiments")
    assert project_root() == tmp_path / "mine"


def test_results_of_seconds_are_left_out(tmp_path):
    for name in ("a/quick/x/seed0.json", "a/short/x/seed0.json"):
        path = tmp_path / "experiments" / "results" / name
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    assert recipe_files(tmp_path) == [Path("experiments/results/a/short/x/seed0.json")]


def test_folder_that_is_a_file_is_said(tmp_path, capsys):
    (tmp_path / "mine").write_text("")
    with pytest.raises(SystemExit, match="2"):
        main(["init", str(tmp_path / "mine")])
    assert "is a file; name a folder" in capsys.readouterr().err


@pytest.mark.parametrize("typed", ["experiments/hfdn_x4.yaml", "./configs/trainer/cpu.yaml"])
def test_recipe_that_is_not_here_says_how_to_get_it(tmp_path, monkeypatch, capsys, typed):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["fit", "--config", typed])
    assert "'sr-lightning init my-experiments'" in capsys.readouterr().err


def test_nothing_is_written_into_the_installed_package(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiments, "_CARRIED", ROOT)
    for command in (["study", "run", "hfdn_attention"], ["zoo", "train"], ["report", "--readmes"]):
        with pytest.raises(SystemExit, match="2"):
            main(command)
        assert "'sr-lightning init my-experiments'" in capsys.readouterr().err


@pytest.mark.slow
def test_wheel_is_useful_alone(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    if "No matching distribution" in built.stderr:
        pytest.skip("setuptools cannot be fetched here")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    place = tmp_path / "installed"
    install = ["-m", "pip", "install", "--no-deps", "--target", str(place), str(wheel)]
    subprocess.run([sys.executable, *install], check=True, capture_output=True)

    def run(*command: str, where: Path) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "sr_lightning", *command],
            cwd=where,
            env={**os.environ, "PYTHONPATH": str(place)},
            capture_output=True,
            text=True,
            check=False,
        )
        return f"{done.returncode}: {done.stdout}{done.stderr}"

    assert "'sr-lightning init my-experiments'" in run("study", "run", "cmsc_merge", where=tmp_path)
    assert run("init", "mine", where=tmp_path).startswith("0: mine: ")
    mine = tmp_path / "mine"
    assert run("study", "list", where=mine).startswith("0: ")
    table = "experiments/published/hfdn.yaml"
    assert (mine / table).read_bytes() == (ROOT / table).read_bytes()
    photos = save_pictures(tmp_path / "photos", 2, (64, 64))
    trained = run(
        *("fit", "--config", "experiments/hfdn_x4_fast.yaml"),
        *("--config", "configs/budget/quick.yaml", "--wandb.mode", "disabled"),
        *("--trainer.max_steps", "1", f"--data.train=[{photos}]", "--data.holdout", "1"),
        where=mine,
    )
    assert trained.startswith("0: "), trained
    assert "metrics.csv" in trained
