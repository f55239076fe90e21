"""The W&B workspace of a study: made without a key and without a network."""

from __future__ import annotations

import json
import socket
import sys

import pytest
from conftest import ROOT
from test_studies import study_of

from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.studies.dashboard import config_key, workspace

pytest.importorskip("wandb_workspaces")


@pytest.fixture
def spec(monkeypatch, capsys) -> dict:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked for a network")

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    main(["dashboard", "hfdn_attention", "--budget", "short", "--dry-run"])
    first = capsys.readouterr().out
    main(["dashboard", "hfdn_attention", "--budget", "short", "--dry-run"])
    assert capsys.readouterr().out == first
    return json.loads(first)


def test_workspace_shows_the_study_by_level(spec):
    sections = spec["section"]["panelBankConfig"]["sections"]
    shown = {
        section["name"]: [(panel["viewType"], panel["config"]) for panel in section["panels"]]
        for section in sections
    }
    (curve, loss) = (config for _, config in shown["Training"])
    assert (curve["metrics"], loss["metrics"]) == (["val/edsr2017/psnr"], ["train/loss"])
    assert (curve["groupBy"], curve["groupAgg"], curve["groupArea"]) == (
        "ablation.value.level",
        "mean",
        "minmax",
    )
    assert curve["xAxis"] == "trainer/global_step"
    assert [(view, config["metrics"]) for view, config in shown["Test"]] == [
        ("Bar Chart", [f"test/{name}_x3/edsr2017/psnr"]) for name in ("Set5", "Set14", "B100")
    ]
    ((view, coordinates),) = shown["Factors"]
    assert view == "Parallel Coordinates Plot"
    assert [column["accessor"] for column in coordinates["columns"]] == [
        "config:ablation.value.level",
        "config:model.value.init_args.network.init_args.channel_attention",
        "config:model.value.init_args.network.init_args.spatial_attention",
        "config:seed.value",
        "summary:params",
        "summary:val/edsr2017/psnr",
    ]
    assert shown["Pictures"][0][1]["mediaKeys"] == [f"val/images/{n}" for n in range(3)]
    assert shown["Runs"][0][0] == "Run Comparer"
    (runs,) = spec["section"]["runSets"]
    assert [one["value"] for one in runs["filters"]["filters"]] == [
        ["study:hfdn_attention"],
        ["budget:short"],
    ]
    assert [one["name"] for one in runs["grouping"]] == ["ablation.value.level"]


def test_options_are_found_in_a_runs_config():
    assert config_key("model.network.unit") == "model.init_args.network.init_args.unit"
    assert config_key("model.init_args.unit") == "model.init_args.unit"

    assert config_key("trainer.max_steps") == "trainer.max_steps"


def test_without_a_key_nothing_is_tried(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", "/nonexistent")
    with pytest.raises(SystemExit):
        main(["dashboard", "hfdn_attention"])
    assert "no W&B API key" in capsys.readouterr().err


def test_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    with pytest.raises(SystemExit):
        main(["dashboard", "hfdn_attention", "--dry-run"])
    assert "pip install sr-lightning[dashboard]" in capsys.readouterr().err


def test_budget_that_a_study_lacks_is_refused(tmp_path):
    with pytest.raises(UserError, match="a_study has no budget 'short'"):
        workspace(study_of(tmp_path), "short", "p")
