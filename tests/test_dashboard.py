"""The W&B workspace and report of a study: made without a key and without a network."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from test_studies import study_of
from wandb_server import ENTITY, Run, WandbServer

from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.report.dashboard import as_json, config_key, wandb_report, workspace
from sr_lightning.report.document import PaperView
from sr_lightning.report.findings import findings
from sr_lightning.report.measurements import Evidence
from sr_lightning.report.study_view import study_views
from sr_lightning.studies.ledger import Ledger
from sr_lightning.studies.study import find_study

pytest.importorskip("wandb_workspaces")


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return Evidence(ROOT, Ledger(ROOT / "experiments" / "results"))


@pytest.fixture(scope="module")
def sentences(evidence) -> list[str]:
    """What ``sr-lightning report`` says of the study at that budget."""
    study = find_study("hfdn_attention", ROOT)
    views = [view for view in study_views(evidence, study) if view.budget == "short"]
    found = [one.sentence for one in findings([PaperView("", "", (), tuple(views))])]
    assert len(found) == len(study.claims)
    return found


@pytest.fixture
def dry_run(monkeypatch, capsys):
    """Gives what a dry run prints, which asks nobody."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked for a network")

    def run(*options: str) -> dict:
        main(["dashboard", "hfdn_attention", "--budget", "short", "--dry-run", *options])
        return json.loads(capsys.readouterr().out)

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return run


def test_the_same_study_gives_the_same_json(evidence):
    study = find_study("hfdn_attention", ROOT)
    place = (evidence, study, "short", "a-project")
    for make in (workspace, wandb_report):
        assert as_json(make(*place)) == as_json(make(*place))


def test_workspace_shows_the_study_by_level(dry_run, sentences):
    spec = dry_run()
    sections = spec["section"]["panelBankConfig"]["sections"]
    shown = {
        section["name"]: [(panel["viewType"], panel["config"]) for panel in section["panels"]]
        for section in sections
    }
    assert list(shown) == ["Verdicts", "Test", "Training", "Pictures", "Factors", "Runs"]
    assert [section["isOpen"] for section in sections] == [True] * 4 + [False] * 2
    ((view, verdicts),) = shown["Verdicts"]
    assert view == "Markdown Panel"
    assert verdicts["value"].splitlines() == [f"- {one}" for one in sentences]
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


def texts_of(block: object) -> list[str]:
    """The texts in a block of a report."""
    if isinstance(block, list):
        return [text for one in block for text in texts_of(one)]
    assert isinstance(block, dict)
    return [block["text"]] if "text" in block else texts_of(block.get("children", []))


def test_report_says_verdicts_and_means_and_shows_the_runs(dry_run, sentences):
    blocks = dry_run("--report", "--entity", "somebody")["blocks"]
    heads = [texts_of(block)[0] for block in blocks if block["type"] == "heading"]
    shown = ["Test", "Training", "Pictures", "Factors", "Runs"]
    assert heads == ["Verdicts", "Means", *shown]
    (listed,) = (block for block in blocks if block["type"] == "list")
    assert texts_of(listed) == sentences
    (means,) = (block["content"] for block in blocks if block["type"] == "markdown-block")
    for level in find_study("hfdn_attention", ROOT).levels:
        assert f"| {level} |" in means
    grids = [block["metadata"] for block in blocks if block["type"] == "panel-grid"]
    for grid in grids:
        (runs,) = grid["runSets"]
        assert [one["value"] for one in runs["filters"]["filters"]] == [
            ["study:hfdn_attention"],
            ["budget:short"],
        ]
        assert [one["name"] for one in runs["grouping"]] == ["ablation.value.level"]
    panels = [grid["panelBankSectionConfig"]["panels"] for grid in grids]
    assert [(panel["viewType"], panel["config"]["metrics"]) for panel in panels[0]] == [
        ("Bar Chart", [f"test/{name}_x3/edsr2017/psnr"]) for name in ("Set5", "Set14", "B100")
    ]
    assert panels[1][0]["config"]["metrics"] == ["val/edsr2017/psnr"]


def test_report_of_what_has_not_run_says_so(tmp_path, evidence):
    made = wandb_report(evidence, study_of(tmp_path), "quick", "p")
    assert "Nothing of the quick budget is in the ledger yet." in as_json(made)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Report", "Workspace"])
def test_it_is_saved_where_the_runs_are(kind, tmp_path):
    with WandbServer() as server:
        server.runs["one"] = Run("one", "sr-lightning")
        done = dashboard(server, tmp_path, *["--report"] * (kind == "Report"))
        assert (done.returncode, server.refused) == (0, []), done.stderr
        (view,) = server.views.values()
        assert f"{kind}: {server.url}/{ENTITY}/sr-lightning" in done.stdout
    assert view["displayName"].startswith(find_study("hfdn_attention", ROOT).title)
    assert "val/edsr2017/psnr" in view["spec"]


@pytest.mark.slow
def test_a_report_without_its_project_asks_for_the_runs(tmp_path):
    with WandbServer() as server:
        done = dashboard(server, tmp_path, "--report")
    assert done.returncode == 2
    assert f"no project {ENTITY}/sr-lightning" in done.stderr
    assert "wandb sync runs/studies/hfdn_attention/short/" in done.stderr


def dashboard(server: WandbServer, home: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Make it in a process of its own: the client keeps the first server that it is told."""
    command = ["-m", "sr_lightning", "dashboard", "hfdn_attention", "--budget", "short", *more]
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **server.environment(), "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
    )


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


def test_budget_that_a_study_lacks_is_refused(tmp_path, evidence):
    with pytest.raises(UserError, match="a_study has no budget 'short'"):
        workspace(evidence, study_of(tmp_path), "short", "p")
