"""Studies: fair grids, cells that survive each other's failures, numbers that know their origin."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT

from sr_lightning.errors import UserError
from sr_lightning.experiments import experiment_files
from sr_lightning.nn.complexity import parameter_count
from sr_lightning.studies.ledger import Ledger, RunRecord
from sr_lightning.studies.runner import StudyQueue, data_digest
from sr_lightning.studies.schemas import schemas
from sr_lightning.studies.study import Cell, find_study, load_study, studies
from sr_lightning.training.complexity import module_of_config

STUDY = """
title: A study
paper: hfdn
base: hfdn_x4
factor: unit
seeds: 2
measure: {metric: psnr, protocol: edsr2017, sets: [Set5]}
levels:
  plain: {model.network.unit: dense}
  full: {}
claims:
  - {better: full, worse: plain, set: Set5, source: here}
budgets:
  quick:
    overlays: [configs/data/sample.yaml, configs/budget/quick.yaml]
    test: [sample-test]
"""


def study_of(tmp_path: Path, text: str = STUDY):
    path = tmp_path / "a_study.yaml"
    path.write_text(text)
    return load_study(path, ROOT)


# ---- study files --------------------------------------------------------------------------------


@pytest.mark.parametrize("study", studies(ROOT), ids=lambda s: s.name)
def test_every_study_of_the_project_is_sound(study):
    is_main = study.name.startswith("results_")
    assert study.claims or study.reference or is_main, (
        "a study answers a claim, compares with a level, or is a main table"
    )
    # A comparison of networks has as many recipes as levels, and how to train in few steps is no
    # question of the papers.
    ablation = len(set(study.experiments.values())) == 1 and bool(study.claims)
    assert set(study.budgets) - {"medium"} == {"quick", "short"} | (
        {"paper"} if ablation or is_main else set()
    )
    if is_main:
        # The paper's own size, so that its numbers stand under the published ones.
        assert not any(study.levels.values())
        assert not any(key.startswith("model.") for b in study.budgets.values() for key in b.set)
        assert {*study.reproduce, "quick"} == set(study.budgets)
    for budget in study.budgets:
        cells = list(study.cells(budget))
        assert len(cells) == len(study.levels) * study.seeds
        assert len({cell.name for cell in cells}) == len(cells)
        assert len({cell.key("code", "data") for cell in cells}) == len(cells)


@pytest.mark.parametrize("study", studies(ROOT), ids=lambda study: study.name)
def test_every_level_of_a_study_can_be_built(study, tmp_path):
    path = tmp_path / "cell.yaml"
    built = set()
    for cell in (cell for budget in study.budgets for cell in study.cells(budget, seeds=1)):
        model = cell.merged_config()["model"]
        # A budget's other schedule replaces the paper's whole; only LightningCLI knows how.
        model["init_args"].pop("scheduler", None)
        for option, value in cell.options.items():
            section, _, name = option.partition(".")
            if section == "model":
                *path_to, last = name.split(".")
                place = model["init_args"]
                for step in path_to:
                    place = place[step].setdefault("init_args", {})
                place[last] = value
        text = yaml.safe_dump({"model": model})
        if text in built:
            continue
        built.add(text)
        path.write_text(text)
        with torch.device("meta"):
            module = module_of_config(path)
        assert parameter_count(module.network) > 0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "factor: unit",
            "factr: unit",
            r"\(factr\): unknown key \(did you mean 'factor'\?\)",
        ),
        ("title: A study\n", "", r"\(title\): the key is missing"),
        ("base: hfdn_x4", "base: hfdn_x9", r"no experiment hfdn_x9\.yaml"),
        ("better: full", "better: fool", "level 'fool', which is not one of plain, full"),
        (
            "better: full",
            "better: [full]",
            r"line 12 \(claims > 1 > better\): .*, got",
        ),
        (
            "full: {}",
            "full: {data.batch_size: 99}",
            r"changes data\.batch_size, but levels",
        ),
        ("full: {}", "full: {trainer.max_steps: 9}", r"changes trainer\.max_steps"),
        (
            "quick:",
            "quik:",
            r"budgets > quik\): .*; known are quick, short, medium, paper",
        ),
        (
            "data/sample.yaml",
            "data/nothing.yaml",
            r"nothing\.yaml, which does not exist",
        ),
        ("seeds: 2", "seeds: many", r"line 6 \(seeds\): it should be a valid integer, got 'many'"),
        ("seeds: 2", "seeds: 1000000000", r"\(seeds\): it should be less than or equal to 1000"),
        ("full: {}", "full: 5", r"line 10 \(levels > full\): expected keys with values, got '5'"),
        ("levels:", "may_vary: 3\nlevels:", r"\(may_vary\): .*got '3'"),
        (
            "sets: [Set5]",
            "sets: 7",
            r"line 7 \(measure > sets\): .*, got '7'",
        ),
        ("sets: [Set5]", "sets: []", r"\(measure > sets\): name at least one"),
        ("metric: psnr", "metric: pnsr", r"\(measure > metric\): .*known are psnr, ssim"),
        (
            "    test: [",
            "    set: []\n    test: [",
            r"\(budgets > quick > set\): expected keys with values",
        ),
        ("title: A study", "title: [A]", r"\(title\): it should be a valid string, got"),
    ],
)
def test_mistakes_in_a_study_are_named(tmp_path, old, new, words):
    with pytest.raises(UserError, match=words):
        study_of(tmp_path, STUDY.replace(old, new))


def test_the_schemas_for_editors_are_those_of_the_models():
    found = schemas(ROOT)
    assert found
    for file, content in found.items():
        assert file.read_text() == content, "run: python -m sr_lightning.studies.schemas"
    for file in (ROOT / "experiments" / "studies").glob("*.yaml"):
        assert file.read_text().startswith("# yaml-language-server: $schema=../schemas/study.json")


COMPARISON = """
title: Two networks
paper: compared
factor: network
measure: {metric: psnr, protocol: edsr2017, sets: [Set5], scales: [4]}
levels:
  SRCNN: {experiment: srcnn_x4_fast}
  CARN-M: {experiment: carn_m_fast, model.network.scale: 4}
claims:
  - {better: CARN-M, worse: SRCNN, set: Set5, source: here}
budgets:
  short:
    overlays: [configs/budget/short.yaml]
    set: {trainer.callbacks: null}
"""


def test_levels_with_experiments_of_their_own_share_the_budget(tmp_path):
    study = study_of(tmp_path, COMPARISON)
    srcnn, carn = study.cells("short", seeds=1)
    assert [cell.configs[0].name for cell in (srcnn, carn)] == [
        "srcnn_x4_fast.yaml",
        "carn_m_fast.yaml",
    ]
    assert srcnn.merged_config()["data"] == carn.merged_config()["data"]
    assert "--model.network.scale=4" in carn.fit_arguments(tmp_path)
    assert not [word for word in carn.fit_arguments(tmp_path) if word.startswith("--experiment")]
    assert carn.test_arguments(tmp_path)[-2:] == ["--scale", "[4]"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "overlays: [configs/budget/short.yaml]",
            "overlays: []",
            r"budget 'short' level 'CARN-M' has data\.batch_size 16 and another has 8",
        ),
        (
            "{experiment: srcnn_x4_fast}",
            "{}",
            "'base' is missing, and level 'SRCNN' has no 'experiment'",
        ),
        ("srcnn_x4_fast", "srcnn_x9", r"no experiment srcnn_x9\.yaml"),
    ],
)
def test_unfair_comparisons_are_named(tmp_path, old, new, words):
    with pytest.raises(UserError, match=words):
        study_of(tmp_path, COMPARISON.replace(old, new))


def test_cell_is_another_one_at_other_scales(tmp_path):
    keys = [
        next(study_of(tmp_path, text).cells("short")).key("code", "data")
        for text in (COMPARISON, COMPARISON.replace("scales: [4]", "scales: [2, 4]"))
    ]
    assert keys[0] != keys[1]


def test_study_about_the_schedule_may_vary_it(tmp_path):
    text = STUDY.replace("full: {}", "full: {trainer.max_steps: 9}")
    study = study_of(tmp_path, text + "may_vary: [trainer.max_steps]\n")
    assert study.levels["full"] == {"trainer.max_steps": 9}


def test_unknown_study_and_budget_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no study .nothing.; there are .*hfdn_attention"):
        find_study("nothing", ROOT)
    with pytest.raises(UserError, match="no budget 'short'"):
        list(study_of(tmp_path).cells("short"))


def test_key_depends_on_everything_that_decides_the_number(tmp_path):
    def keys(text: str = STUDY, code: str = "c", data: str = "d") -> dict[str, str]:
        return {c.name: c.key(code, data) for c in study_of(tmp_path, text).cells("quick")}

    first = keys()
    assert first == keys()
    assert not set(first.values()) & set(keys(code="other").values())
    assert not set(first.values()) & set(keys(data="other").values())
    changed = keys(STUDY.replace("model.network.unit: dense", "model.network.unit: adu_na"))
    assert {name.split("/")[2] for name in first if first[name] != changed[name]} == {"plain"}
    titled = keys(STUDY.replace("A study", "Another title"))
    assert titled == first


# ---- verdicts -----------------------------------------------------------------------------------


def entry(level: str, seed: int, value: float, study: str = "a_study") -> RunRecord:
    cells = {"HFDN": {"psnr": value, "ssim": 0.9, "images": {}}, "bicubic": {"psnr": 1, "ssim": 0}}
    return RunRecord(
        name=f"{study}/quick/{level}/seed{seed}",
        study=study,
        budget="quick",
        level=level,
        seed=seed,
        key="k",
        metrics={"edsr2017": {"Set5_x4": cells}},
        parameters=1,
        macs_720p=1,
        steps=1,
        seconds=1.0,
        hardware="",
        commit="",
        code="",
        data={},
        config={},
    )


def test_reference_that_is_no_level_is_refused(tmp_path):
    with pytest.raises(UserError, match="the reference 'fast' is not a level; there are plain, fu"):
        study_of(tmp_path, STUDY + "reference: fast\n")


# ---- ledger -------------------------------------------------------------------------------------


def test_ledger_gives_back_what_was_written_and_forgets_failures(tmp_path):
    from sr_lightning.studies.ledger import Failure

    ledger = Ledger(tmp_path)
    first = entry("plain", 0, 30.0)
    ledger.fail(Failure(first.name, "no memory", "log"))
    assert ledger.failure(first.name).reason == "no memory"
    assert ledger.entries() == []
    ledger.write(first)
    assert ledger.read(first.name) == first
    assert ledger.failure(first.name) is None
    assert ledger.entries("a_study", "quick") == [first]
    assert ledger.entries("a_study", "short") == []
    assert first.value("psnr", "edsr2017", "Set5_x4") == 30.0


@pytest.mark.parametrize("content", ["{", "[]", '{"name": "x"}', "null", "\udcff"])
def test_a_damaged_entry_is_named_once_and_the_others_are_read(tmp_path, caplog, content):
    ledger = Ledger(tmp_path)
    first, second = entry("plain", 0, 30.0), entry("plain", 1, 30.0)
    ledger.write(first)
    damaged = ledger.write(second)
    damaged.write_bytes(content.encode(errors="surrogateescape"))
    assert ledger.entries() == ledger.siblings(first.name) == [first]
    assert ledger.read(second.name) is None
    assert len(caplog.records) == 1
    assert f"The ledger entry {damaged} is " in caplog.text
    assert "It is left out; remove it." in caplog.text


# ---- queue --------------------------------------------------------------------------------------

FAKE = """
import json, os, signal, sys, time
from pathlib import Path
commands = json.loads(sys.argv[1])
fit = commands[0]
if "--run" in fit:
    folder = fit[fit.index("--run") + 1]
else:
    folder = next(a.partition("=")[2] for a in fit if a.startswith("--output.folder="))
Path(folder, "calls.txt").open("a").write(" ".join(fit[:2]) + "\\n")
print("step 1/2  loss 0.1", flush=True)
{body}
"""


def fake_runner(
    tmp_path,
    body: str,
    monkeypatch,
    psnr: float = 30.0,
    data: str = "",
    text: str = STUDY,
    **options,
) -> StudyQueue:
    script = tmp_path / "fake.py"
    script.write_text(FAKE.replace("{body}", textwrap.dedent(body)))
    from sr_lightning.studies import runner as module

    def made(run: Path, **facts) -> RunRecord:
        return RunRecord(
            **{
                **entry(facts["level"], facts["seed"], psnr).__dict__,
                **{k: facts[k] for k in ("name", "key", "code")},
                "data": {"train": data},
                "config": {"seed_everything": facts["seed"], "wandb": {"tags": [facts["name"]]}},
            }
        )

    monkeypatch.setattr(module, "entry_of_run", made)
    return StudyQueue(
        study_of(tmp_path, text),
        "quick",
        Ledger(tmp_path / "ledger"),
        tmp_path / "runs",
        program=(sys.executable, str(script)),
        **options,
    )


def test_finished_cells_are_not_run_again(tmp_path, monkeypatch):
    states = fake_runner(tmp_path, "", monkeypatch).run()
    assert [s.state for s in states] == ["done"] * 4
    again = fake_runner(tmp_path, "", monkeypatch).run()
    assert [s.state for s in again] == ["in ledger"] * 4


def run_with_code(tmp_path, monkeypatch, code: str, psnr: float = 30.0, **options):
    monkeypatch.setattr(Cell, "code", lambda cell: code)
    states = fake_runner(tmp_path, "", monkeypatch, psnr, **options).run()
    return [s.state for s in states], [s.reason for s in states]


def test_after_a_change_of_code_one_seed_speaks_for_the_others(tmp_path, monkeypatch):
    def states(code: str, psnr: float = 30.0) -> list[str]:
        return run_with_code(tmp_path, monkeypatch, code, psnr)[0]

    # Seed 0 of both levels, then seed 1 of both.
    assert states("a") == ["done"] * 4
    ledger = Ledger(tmp_path / "ledger")
    measured = ledger.read("a_study/quick/plain/seed1")
    found, reasons = run_with_code(tmp_path, monkeypatch, "b")
    assert found == ["done", "done", "in ledger", "in ledger"]
    assert (
        reasons
        == ["the same numbers as before"] * 2 + ["seed 0 has the same numbers as before"] * 2
    )
    kept = ledger.read("a_study/quick/plain/seed1")
    assert (kept.code, kept.same_as) == ("b", [measured.origin])
    assert kept.metrics == measured.metrics
    assert states("b") == ["in ledger"] * 4
    # What was left out then stands on: its numbers are still those of the first.
    assert states("c") == ["done", "done", "in ledger", "in ledger"]
    assert len(ledger.read("a_study/quick/plain/seed0").same_as) == 2


def test_numbers_of_another_processor_are_told_as_such(tmp_path, monkeypatch):
    run_with_code(tmp_path, monkeypatch, "a")
    for path in (tmp_path / "ledger").rglob("*.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "hardware": "another (avx2), 1 of 2 threads"}))
    _, reasons = run_with_code(tmp_path, monkeypatch, "b", 30.1)
    assert all(reason.endswith("another processor, which rounds otherwise)") for reason in reasons)


@pytest.mark.parametrize("change", [0.1, 2e-5])
def test_other_numbers_after_a_change_of_code_make_every_seed_stale(tmp_path, monkeypatch, change):
    run_with_code(tmp_path, monkeypatch, "a")
    found, reasons = run_with_code(tmp_path, monkeypatch, "b", 30.0 + change)
    assert found == ["done"] * 4
    assert set(reasons) == {"other numbers than before; the level's older entries are stale"}
    assert all(entry.same_as == [] for entry in Ledger(tmp_path / "ledger").entries())


def test_numbers_that_differ_by_their_rounding_are_the_same(tmp_path, monkeypatch):
    run_with_code(tmp_path, monkeypatch, "a")
    found, _ = run_with_code(tmp_path, monkeypatch, "b", 30.0 + 1e-7)
    assert found == ["done", "done", "in ledger", "in ledger"]
    first = entry("plain", 0, 30.0)
    images = first.metrics["edsr2017"]["Set5_x4"]["HFDN"]["images"]

    def with_image(psnr: float) -> RunRecord:
        images["baby"] = [psnr, 0.9]
        return replace(first, metrics=json.loads(json.dumps(first.metrics)))

    # Images are kept with four decimals.
    assert with_image(30.1234).same_numbers(with_image(30.1235))
    assert not with_image(30.1234).same_numbers(with_image(30.1236))


def test_an_entry_from_elsewhere_than_the_confirmed_one_is_run_again(tmp_path, monkeypatch):
    run_with_code(tmp_path, monkeypatch, "a", seeds=1)
    run_with_code(tmp_path, monkeypatch, "b")
    # Seed 1 of both levels has been made by the second code alone.
    ledger = Ledger(tmp_path / "ledger")
    old = ledger.read("a_study/quick/full/seed1")
    ledger.write(replace(old, code="elsewhere", key="elsewhere", same_as=[]))
    found, _ = run_with_code(tmp_path, monkeypatch, "c")
    assert found == ["done", "done", "in ledger", "done"]


def test_the_same_numbers_under_a_config_said_otherwise_stand(tmp_path, monkeypatch):
    """Configs get other names for the same; the numbers tell that it is the same."""
    run_with_code(tmp_path, monkeypatch, "a")
    key = Cell.key
    monkeypatch.setattr(Cell, "key", lambda cell, code, data: key(cell, code, data) + "renamed")
    found, _ = run_with_code(tmp_path, monkeypatch, "b")
    assert found == ["done", "done", "in ledger", "in ledger"]


def test_one_cell_of_a_level_speaks_first_however_many_run_at_a_time(tmp_path, monkeypatch):
    run_with_code(tmp_path, monkeypatch, "a")
    found, _ = run_with_code(tmp_path, monkeypatch, "b", workers=4)
    assert sorted(found) == ["done", "done", "in ledger", "in ledger"]


def test_change_of_data_runs_every_cell_again(tmp_path, monkeypatch):
    from sr_lightning.studies import runner as module

    fake_runner(tmp_path, "", monkeypatch).run()
    monkeypatch.setattr(module, "data_digest", lambda *args: "others")
    found, _ = run_with_code(tmp_path, monkeypatch, "another", data="others")
    assert found == ["done"] * 4


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "Killed from outside"),
        ("raise RuntimeError('can\\'t allocate memory')", "Out of memory"),
        (
            "print('sr-lightning: The loss became nan at step 3.'); sys.exit(2)",
            "The loss became nan",
        ),
        ("raise ValueError('a bug')", "ValueError: a bug"),
    ],
)
def test_failing_cell_is_noted_and_the_others_go_on(tmp_path, monkeypatch, body, reason):
    guarded = f"if 'plain' in folder and 'seed0' in folder:\n    {body}"
    runner = fake_runner(tmp_path, guarded, monkeypatch, workers=2)
    states = {s.name: s for s in runner.run()}
    broken = "a_study/quick/plain/seed0"
    assert states[broken].state == "failed"
    assert reason in states[broken].reason
    assert sum(s.state == "done" for s in states.values()) == 3
    assert reason in runner.shared.ledger.failure(broken).reason
    mended = {s.name: s.state for s in fake_runner(tmp_path, "", monkeypatch).run()}
    assert mended[broken] == "done"
    assert list(mended.values()).count("in ledger") == 3
    assert runner.shared.ledger.failure(broken) is None


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one study, whose cells of seed 0 at level plain fail."""
    from sr_lightning.studies import cli

    root = tmp_path / "checkout"
    (root / "experiments" / "studies").mkdir(parents=True)
    (root / "configs").symlink_to(ROOT / "configs")
    for path in experiment_files(ROOT):
        (root / "experiments" / path.name).symlink_to(path)
    text = STUDY + "reproduce: {quick: 1}\n"
    (root / "experiments" / "studies" / "a_study.yaml").write_text(text)
    body = "if 'plain' in folder and 'seed0' in folder: raise ValueError('[a] bug')"
    fake = fake_runner(tmp_path, body, monkeypatch)
    monkeypatch.setattr(cli, "StudyQueue", partial(StudyQueue, program=fake.program))
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize("command", [["run", "a_study"], ["reproduce"]])
def test_failed_cells_are_named_at_the_end_and_in_the_exit_status(checkout, capsys, command):
    from sr_lightning.studies.cli import main

    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 1
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("a_study/quick/plain/seed0 failed: ValueError: [a] bug (log: ")
    done = [entry.name for entry in Ledger(checkout / "experiments" / "results").entries()]
    assert "a_study/quick/full/seed0" in done


def test_entries_of_other_code_are_told_of(checkout, capsys, monkeypatch):
    from sr_lightning.studies.cli import main

    with pytest.raises(SystemExit):
        main(["run", "a_study"])
    capsys.readouterr()
    main(["show", "a_study"])
    assert "other code" not in capsys.readouterr().out
    monkeypatch.setattr(Cell, "code", lambda cell: "another")
    main(["show", "a_study"])
    assert "3 of 3 entries were made by other code than today's" in capsys.readouterr().out


def test_cell_of_a_network_that_is_not_there_fails_alone(tmp_path, monkeypatch):
    runner = fake_runner(tmp_path, "", monkeypatch, seeds=1)
    code = Cell.code

    def of(cell):
        if cell.level == "plain":
            raise UserError("net.py cannot be read as Python.")
        return code(cell)

    monkeypatch.setattr(Cell, "code", of)
    assert [s.state for s in runner.run()] == ["failed", "done"]


def test_change_in_a_helper_of_a_users_network_is_noticed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynet.py").write_text("from helper import F\n\nclass MyNet:\n    factor = F\n")
    (tmp_path / "helper.py").write_text("F = 1\n")
    text = STUDY.replace("plain: {", "plain: {model.network.class_path: mynet.MyNet, ")

    def run(psnr: float) -> list[str]:
        runner = fake_runner(tmp_path, "", monkeypatch, psnr, text=text)
        return [f"{s.cell.level} {s.state}" for s in runner.run()]

    run(30.0)
    assert run(30.0) == ["plain in ledger", "full in ledger"] * 2
    (tmp_path / "helper.py").write_text("F = 0  # changed\n")
    assert run(10.0) == ["plain done", "full in ledger"] * 2


def test_broken_off_cell_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    body = """
    Path(folder, "checkpoints").mkdir(exist_ok=True)
    Path(folder, "checkpoints", "last_step=1_x.ckpt").touch()
    Path(folder, "config.yaml").touch()
    if not os.environ.get("MENDED"):
        os.kill(os.getpid(), signal.SIGKILL)
    """
    fake_runner(tmp_path, body, monkeypatch, seeds=1).run()
    monkeypatch.setenv("MENDED", "1")
    states = fake_runner(tmp_path, body, monkeypatch, seeds=1).run()
    assert {s.state for s in states} == {"done"}
    calls = (tmp_path / "runs" / "a_study/quick/plain/seed0" / "calls.txt").read_text().split("\n")
    assert calls[0].startswith("fit --config")
    assert calls[1] == "fit --run"


def test_other_cells_leftovers_are_not_gone_on_with(tmp_path, monkeypatch):
    folder = tmp_path / "runs" / "a_study/quick/plain/seed0"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last_step=9_x.ckpt").touch()
    (folder / "config.yaml").touch()
    (folder / "cell.key").write_text("another")
    fake_runner(tmp_path, "", monkeypatch, seeds=1).run()
    assert (folder / "calls.txt").read_text().startswith("fit --config")


def test_ctrl_c_lets_cells_save_themselves(tmp_path, monkeypatch, request):
    # A shell's background job ignores Ctrl-C from its start, and so would these tests in one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    body = """
    def saved(*_):
        Path(folder, "saved").touch()
        sys.exit(1)
    signal.signal(signal.SIGINT, saved)
    Path(folder, "ready").touch()
    time.sleep(60)
    """
    runner = fake_runner(tmp_path, body, monkeypatch, seeds=1)
    folder = tmp_path / "runs" / "a_study/quick/plain/seed0"

    def interrupt_once_running() -> None:
        deadline = time.monotonic() + 30
        while not (folder / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    import threading

    threading.Thread(target=interrupt_once_running).start()
    with pytest.raises(KeyboardInterrupt):
        runner.run()
    assert (folder / "saved").exists()
    assert [s.state for s in runner.jobs] == ["stopped", "stopped"] or runner.jobs[
        1
    ].state == "waiting"
    assert runner.shared.ledger.entries() == []


WATCHED = """
import os, signal, sys, time
from pathlib import Path
from sr_lightning.studies.worker import end_with_runner
folder = Path(next(a.partition("=")[2] for a in __import__("json").loads(sys.argv[1])[0]
                   if a.startswith("--output.folder=")))
def saved(*_):
    (folder / "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, saved)
end_with_runner()
(folder / "ready").write_text(str(os.getpid()))
time.sleep(60)
"""
RUNNING = """
import sys
from pathlib import Path
from sr_lightning.studies.ledger import Ledger
from sr_lightning.studies.runner import StudyQueue
from sr_lightning.studies.study import load_study
here = Path({here!r})
study = load_study(here / "a_study.yaml", Path({root!r}))
StudyQueue(study, "quick", Ledger(here / "ledger"), here / "runs", seeds=1,
       program=(sys.executable, str(here / "watched.py"))).run()
"""


def once(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not there() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert there()


def test_a_killed_runner_takes_its_cells_along_and_they_save_themselves(tmp_path):
    (tmp_path / "watched.py").write_text(WATCHED)
    (tmp_path / "a_study.yaml").write_text(STUDY)
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNING.format(root=str(ROOT), here=str(tmp_path))],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    folder = tmp_path / "runs" / "a_study/quick/plain/seed0"
    try:
        once((folder / "ready").exists)
    finally:
        runner.kill()
        runner.wait()
    once((folder / "saved").exists)


def test_two_runners_of_one_study_share_its_cells(tmp_path, monkeypatch):
    body = """
    time.sleep(0.3)
    """
    runners = [fake_runner(tmp_path, body, monkeypatch) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        states = list(pool.map(lambda runner: runner.run(), runners))
    calls = [file.read_text().splitlines() for file in (tmp_path / "runs").rglob("calls.txt")]
    assert [len(lines) for lines in calls] == [1] * 4
    ends = [sorted(state.state for state in one) for one in zip(*states, strict=True)]
    assert ends == [["done", "in ledger"]] * 4
    # Each did a part: the one that came second did not wait for the first.
    assert all(any(state.state == "done" for state in one) for one in states)


@pytest.mark.parametrize("name", ["nowhere", "./nowhere"])
def test_a_mistyped_test_set_fails_the_cell_and_names_it(tmp_path, name):
    cell = next(study_of(tmp_path, STUDY.replace("sample-test", name)).cells("quick", 1))
    with pytest.raises(UserError, match="nowhere"):
        data_digest(cell, str(tmp_path))


def test_infinite_numbers_of_a_run_are_null_in_its_entry(tmp_path):
    ledger = Ledger(tmp_path)
    path = ledger.write(entry("plain", 0, float("inf")))
    text = path.read_text()
    assert "Infinity" not in text
    json.loads(text, parse_constant=pytest.fail)
    read = ledger.read(entry("plain", 0, 0.0).name)
    assert read.value("psnr", "edsr2017", "Set5_x4") is None


@pytest.mark.slow
def test_real_cells_of_a_study_end_in_the_ledger(tmp_path, monkeypatch, capsys):
    """The whole path, with real processes, real photographs, one failing level.

    That of the README's own network is tried by the fast tests.
    """
    text = STUDY.replace("full: {}", "full: {model.network.channels: 3}")
    small = (
        "set: {model.network.channels: 16, model.network.blocks: 1, model.network.growth: 8, "
        "model.network.reduction: 4, "
        "trainer.max_steps: 4, trainer.val_check_interval: 2}"
    )
    study = study_of(tmp_path, text.replace("    test: [", f"    {small}\n    test: ["))
    ledger = Ledger(tmp_path / "ledger")
    runner = StudyQueue(study, "quick", ledger, tmp_path / "runs", seeds=1)
    states = {s.cell.level: s for s in runner.run()}
    assert states["plain"].state == "done", [s.reason for s in runner.jobs]
    assert states["full"].state == "failed"
    first = ledger.read("a_study/quick/plain/seed0")
    assert first.value("psnr", "edsr2017", "sample-test_x4") > 15
    assert first.steps == 4
    assert first.seconds > 0
    assert first.curve["step"] == [2, 4]
    assert set(first.data) == {"train", "val", "test"}
    assert first.config["model"]["init_args"]["network"]["init_args"]["unit"] == "dense"
    assert "root" not in json.dumps(first.config["data"])
    images = first.metrics["edsr2017"]["sample-test_x4"]["HFDN"]["images"]
    assert list(images) == ["astronaut"]
    again = StudyQueue(study, "quick", ledger, tmp_path / "runs", seeds=1).run()
    assert [s.state for s in again] == ["in ledger", "failed"]


def test_no_entry_of_the_projects_ledger_names_a_place_of_a_machine():
    files = sorted((ROOT / "experiments" / "results").rglob("*.json"))
    assert files
    absolute = [
        (file.name, line)
        for file in files
        for line in re.findall(r'"(?:/|~)[^"]*/.*"', file.read_text())
    ]
    assert absolute == []
