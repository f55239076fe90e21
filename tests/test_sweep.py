"""Studies as W&B sweeps."""

from __future__ import annotations

import pytest
import yaml
from conftest import ROOT
from test_studies import STUDY, study_of

from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.studies.study import find_study
from sr_lightning.studies.sweep import sweep


def test_sweep_is_the_studys_grid(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    main(["study", "sweep", "hfdn_attention", "--budget", "quick", "--seeds", "2"])
    made = yaml.safe_load(capsys.readouterr().out)
    assert made["method"] == "grid"
    assert made["metric"]["name"] == "val/edsr2017/psnr"
    assert made["parameters"] == {
        "model.network.channel_attention": {"values": [False, True]},
        "model.network.spatial_attention": {"values": [False, True]},
        "seed_everything": {"values": [0, 1]},
    }


def test_agents_command_is_one_that_the_suite_takes(monkeypatch, capsys):
    made = yaml.safe_load(sweep(find_study("hfdn_attention", ROOT), "quick"))
    before, after = made["command"][:4], made["command"][4:]
    assert before == ["${env}", "${interpreter}", "-m", "sr_lightning"]
    assert (after[0], after[-1]) == ("fit", "${args}")
    assert not [word for word in after if str(ROOT) in word]
    options = ("--model.network.channel_attention", "--seed")
    assert not [word for word in after if word.startswith(options)]
    monkeypatch.chdir(ROOT)
    given = [f"--{name}={spec['values'][-1]}" for name, spec in made["parameters"].items()]
    with pytest.raises(SystemExit) as ended:
        main([*after[:-1], *given, "--print_config"])
    assert not ended.value.code
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["init_args"]["network"]["init_args"]["channels"] == 16
    assert config["model"]["init_args"]["network"]["init_args"]["channel_attention"] is True
    assert config["wandb"]["mode"] == "online"
    assert config["seed_everything"] == 2


def test_levels_that_are_no_full_grid_are_refused(tmp_path):
    text = STUDY.replace(
        "model.network.unit: dense}", "model.network.unit: dense, model.network.channels: 16}"
    )
    with pytest.raises(
        UserError, match=r"not all combinations of model\.network\.unit, model\.network\.channels"
    ):
        sweep(study_of(tmp_path, text), "quick")


def test_networks_of_several_experiments_are_refused():
    with pytest.raises(UserError, match="equal_steps_x4 have experiments of their own"):
        sweep(find_study("equal_steps_x4", ROOT), "short")


def test_unknown_defaults_are_asked_for(tmp_path):
    text = STUDY.replace("model.network.unit: dense}", "model.loss_of_mine: 3}")
    with pytest.raises(UserError, match=r"default of model\.loss_of_mine"):
        sweep(study_of(tmp_path, text), "quick")
