"""Weights that go on from other weights say of every training behind them what it was."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import yaml
from conftest import CONFIGS, EXPERIMENTS, SMALL_HFDN, only_run, tiny_fit

from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.studies.campaign import load_campaign, state_of
from sr_lightning.weights import zoo
from sr_lightning.weights.release import release
from sr_lightning.weights.zoo import WeightRecord, find_weights


@pytest.fixture
def own_zoo(tmp_path, monkeypatch):
    """An empty zoo."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    monkeypatch.setattr(zoo, "ZOO", folder)
    return folder


def further(start, finished_run, out, train_folder, val_folder):
    """A run that starts from weights and takes no step away from them."""
    args = tiny_fit("hfdn_x4", out, train_folder, val_folder, model__init_from=start)
    main([*args, *SMALL_HFDN, "--model.optimizer.lr", "0"])
    run = only_run(out)
    shutil.copytree(finished_run / "results", run / "results")
    return run


def test_record_keeps_the_trainings_that_its_own_started_from(
    own_zoo, finished_run, tmp_path, train_folder, val_folder
):
    first = release(finished_run, "first", data_licence="made up", recipe="sr-lightning fit one")
    assert first.stages == ()
    run = further("first", finished_run, tmp_path / "a", train_folder, val_folder)
    # That they are replaced afterwards does not change what this run started from.
    first.file.write_bytes(b"another")
    record = release(run, "second", data_licence="made up", recipe="sr-lightning fit two")

    assert record == WeightRecord.read(own_zoo / "second.json")
    (stage,) = record.stages
    assert (stage.name, stage.sha256, stage.recipe) == (
        "first",
        first.sha256,
        "sr-lightning fit one",
    )
    assert (stage.steps, stage.hours, stage.measured) == (first.steps, first.hours, first.measured)
    assert [s.recipe for s in record.history] == ["sr-lightning fit one", "sr-lightning fit two"]


def test_training_starts_from_weights_of_the_zoo_by_name(
    own_zoo, finished_run, tmp_path, train_folder, val_folder
):
    first = release(finished_run, "first", data_licence="", recipe="")
    run = further("first", finished_run, tmp_path / "a", train_folder, val_folder)
    path = next((run / "checkpoints").glob("last_*.ckpt"))
    after = torch.load(path, weights_only=True)["state_dict"]
    before = zoo.load_weights(first.name).state_dict()
    assert all(torch.equal(value, after[f"network.{name}"]) for name, value in before.items())


def test_weights_from_an_unknown_start_are_not_shipped(
    own_zoo, finished_run, tmp_path, train_folder, val_folder
):
    best = next((finished_run / "checkpoints").glob("best_*.ckpt"))
    run = further(best, finished_run, tmp_path / "a", train_folder, val_folder)
    with pytest.raises(UserError, match=r"best_.*of which nothing is known"):
        release(run, "second", data_licence="", recipe="")
    assert list(own_zoo.iterdir()) == []


def test_a_release_that_was_broken_off_can_be_repeated(own_zoo, finished_run):
    first = release(finished_run, "first", data_licence="made up", recipe="one")
    assert release(finished_run, "first", data_licence="made up", recipe="one") == first


@pytest.mark.parametrize(
    ("file", "words"),
    [("provenance.json", "'train'"), ("results/summary.json", "'ssim'"), ("config.yaml", "'data'")],
)
def test_a_run_that_does_not_tell_all_is_named(own_zoo, finished_run, tmp_path, file, words):
    run = shutil.copytree(finished_run, tmp_path / "run")
    content = yaml.safe_load((run / file).read_text())
    content.pop("data", None) if file == "config.yaml" else None
    content.get("data", {}).pop("train", None)
    for row in content.get("means", []):
        del row["ssim"]
    (run / file).write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"{run} do not tell all that a record needs .{words}"):
        release(run, "first", data_licence="", recipe="")
    assert not list(own_zoo.iterdir())


def test_start_that_is_nowhere_is_named_with_those_that_are(
    own_zoo, finished_run, tmp_path, train_folder, val_folder, capsys
):
    release(finished_run, "first", data_licence="", recipe="")
    args = tiny_fit("hfdn_x4", tmp_path / "a", train_folder, val_folder, model__init_from="furst")
    with pytest.raises(SystemExit):
        main([*args, *SMALL_HFDN])
    assert "nor the folder of a run, nor a name of the zoo (first)" in (capsys.readouterr().err)


def test_run_that_goes_on_from_weights_waits_until_it_is_behind_them(
    own_zoo, finished_run, tmp_path
):
    root = tmp_path / "checkout"
    shutil.copytree(CONFIGS, root / "configs")
    (root / "experiments").mkdir()
    shutil.copy(EXPERIMENTS / "hfdn_x4.yaml", root / "experiments")
    common = {"experiment": "hfdn_x4", "minutes": {"cpu": 1}, "why": "a test"}
    runs = [
        {"name": "first", "priority": 1, **common},
        {"name": "more", "priority": 2, "weights": "first", "after": "first", **common},
    ]
    path = root / "experiments" / "campaign.yaml"
    path.write_text(yaml.safe_dump({"data_licence": "", "test": ["Set5"], "runs": runs}))
    first, more = load_campaign(path, root).runs
    assert "--model.init_from=first" in more.recipe("cpu")

    def states():
        return [state_of(run, tmp_path / "runs") for run in (first, more)]

    assert states() == ["waiting", "waiting"]
    release(finished_run, "first", data_licence="", recipe=first.recipe("cpu"))
    assert states() == ["shipped", "waiting"]
    record = find_weights("first")
    assert record is not None
    content = json.loads((own_zoo / "first.json").read_text())
    (own_zoo / "first.json").write_text(json.dumps({**content, "recipe": more.recipe("cpu")}))
    assert states() == ["shipped", "shipped"]
