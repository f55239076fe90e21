"""Times that are kept, and the table of all systems that is made from them."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path

import pytest
import torch
from conftest import EXPERIMENTS, ROOT, names_this_machine
from test_report import PUBLISHED, record

from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.experiments import experiment_file
from sr_lightning.nn.complexity import complexity
from sr_lightning.report.build import build_report
from sr_lightning.report.document import Number, Table
from sr_lightning.report.html import page
from sr_lightning.report.measurements import Evidence
from sr_lightning.report.readmes import stale
from sr_lightning.report.systems import ntire_score, systems_tables
from sr_lightning.report.writers import markdown
from sr_lightning.studies import speeds
from sr_lightning.studies.ledger import Ledger
from sr_lightning.studies.speeds import Machine, SpeedFile, SpeedRow
from sr_lightning.training.complexity import network_of_config
from sr_lightning.training.speed import Speed, clock_here

HERE = Machine("A processor", 1, "cpu")
HFDN_X4 = {"parameters": 761_379, "macs_720p": 115_538_342_688}


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    (tmp_path / "experiments").mkdir()
    for stem in ("espcn_x2", "srcnn_x3"):
        shutil.copy(experiment_file(ROOT, stem), tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked(monkeypatch) -> list[tuple[str, float, int, int]]:
    """What is timed: nothing really, but each request is written down."""
    calls: list[tuple[str, float, int, int]] = []

    def speed(network, scale, patch, batch, limit) -> Speed:
        calls.append((type(network).__name__, scale, patch, batch))
        step = 7.125 if limit >= 9 else None
        return Speed(image=0.25, image_plain=0.5, ntire=0.75, step=step, step_plain=step)

    monkeypatch.setattr(speeds, "speed", speed)
    monkeypatch.setattr(Machine, "here", lambda: HERE)
    return calls


def kept(root: Path) -> Path:
    return root / "experiments" / "results" / "speed" / "a-processor-1-thread.csv"


def save(*options: str) -> None:
    main(["complexity", "experiments/espcn_x2.yaml", "--save", *options])


def row(**changed) -> SpeedRow:
    facts = dict.fromkeys(SpeedRow.__dataclass_fields__, "made up")
    times = {"image": 3.8, "step": 1.328, "image_plain": 5.1, "step_plain": None, "ntire": 4.25}
    times |= {
        "ntire_parameters": HFDN_X4["parameters"],
        "ntire_macs": 42_100_000_000,
        "ntire_activations": 314_600_000,
        "ntire_memory": 2**30,
    }
    others = {"patch": 24, "batch": 16, "limit": 2.0, "core_share": 0.5, "scale": 4.0}
    return SpeedRow(**{**facts, **times, **others, "experiment": "toy", **HFDN_X4, **changed})


# ---- times that are kept ------------------------------------------------------------------------


def test_what_was_timed_is_not_timed_again(checkout, asked, capsys):
    save()
    first = kept(checkout).read_text()
    assert asked == [("ESPCN", 2, 17, 16)]
    assert "7.12" in capsys.readouterr().out
    save()
    assert len(asked) == 1
    assert "7.12" in capsys.readouterr().out, "what is kept is shown"
    assert kept(checkout).read_text() == first
    (line,) = csv.DictReader(first.splitlines())
    machine = {"processor": "A processor", "threads": "1", "clock": "cpu"}
    assert {key: line[key] for key in machine} == machine
    assert (line["step"], line["ntire"], line["ntire_macs"]) == (
        "7.125",
        "0.75",
        f"{(25 * 64 + 9 * 64 * 32 + 9 * 32 * 4) * 256**2}",
    )
    assert str(checkout) not in first
    assert not names_this_machine(first)


def test_a_changed_batch_network_code_or_version_is_timed_again(checkout, asked, monkeypatch):
    save()
    file = checkout / "experiments" / "espcn_x2.yaml"
    text = file.read_text()
    assert "patch_size: 17" in text
    file.write_text(text.replace("patch_size: 17", "patch_size: 18"))
    save()
    assert asked[1:] == [("ESPCN", 2, 18, 16)]
    monkeypatch.setattr(speeds, "code_identity", lambda entries: "another")
    save()
    assert len(asked) == 3
    monkeypatch.setattr(torch, "__version__", "99.0")
    save()
    assert len(asked) == 4
    assert len(SpeedFile(kept(checkout)).rows) == 1, "one row per experiment and scale"


def test_what_was_left_out_is_tried_again_only_under_a_higher_limit(checkout, asked):
    save("--limit", "2")
    save("--limit", "1")
    assert len(asked) == 1
    save("--limit", "9")
    save("--limit", "99")
    assert len(asked) == 2, "what was measured whole stays"


def test_equal_networks_and_batches_are_timed_once(checkout, asked):
    shutil.copy(checkout / "experiments" / "espcn_x2.yaml", checkout / "experiments" / "again.yaml")
    main(["complexity", "--save"])
    assert sorted(name for name, *_ in asked) == ["ESPCN", "SRCNN"]
    rows = SpeedFile(kept(checkout)).rows
    assert [row.experiment for row in rows] == ["again", "espcn_x2", "srcnn_x3"]
    assert rows[0].key == rows[1].key


def test_rows_are_shown_and_kept_as_soon_as_they_are_known(checkout, asked, monkeypatch, capsys):
    fake = speeds.speed

    def stop_at_the_second(network, *args, **options) -> Speed:
        if asked:
            assert "ESPCN (espcn_x2)" in capsys.readouterr().out
            raise KeyboardInterrupt
        return fake(network, *args, **options)

    monkeypatch.setattr(speeds, "speed", stop_at_the_second)
    with pytest.raises(SystemExit):
        main(["complexity", "--save"])
    assert "Stopped. The times so far are in " in capsys.readouterr().err
    assert [row.experiment for row in SpeedFile(kept(checkout)).rows] == ["espcn_x2"]
    assert [path.name for path in kept(checkout).parent.iterdir()] == [kept(checkout).name]


def test_a_terminal_gets_one_table_with_all_rows(checkout, asked, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    main(["complexity", "--save"])
    out = capsys.readouterr().out
    last = out[out.rindex("Cost of one") :]
    assert "ESPCN (espcn_x2)" in last
    assert "SRCNN (srcnn_x3)" in last
    assert "2 of 2" not in last


def test_only_experiments_of_the_checkout_are_kept(checkout, asked, capsys):
    for name in ("hfdn_x4", str(EXPERIMENTS / "hfdn_x4.yaml")):
        with pytest.raises(SystemExit):
            main(["complexity", name, "--save"])
        assert f"'{name}' is no file of experiments/ here" in capsys.readouterr().err
    assert not asked


def test_a_damaged_file_of_times_is_named(tmp_path):
    file = tmp_path / "x.csv"
    SpeedFile(file, HERE).add(row())
    head, line = file.read_text().splitlines()
    for lines in (
        ['"'],
        [head],
        [head, line.replace("4.25", "four")],
        [head, line.replace("4.25", "inf")],
        [head, line[:40]],
        [head, f"{line},more"],
        [head, line, line.replace("A processor", "Another")],
    ):
        file.write_text("\n".join(lines))
        with pytest.raises(UserError, match=r"x\.csv is damaged"):
            SpeedFile(file)


def test_two_commands_can_add_to_a_file(tmp_path):
    one, other = (SpeedFile(tmp_path / "a.csv", HERE) for _ in range(2))
    one.add(row(experiment="b"))
    other.add(row(experiment="a"))
    assert [row.experiment for row in SpeedFile(tmp_path / "a.csv").rows] == ["a", "b"]


def test_times_are_no_runs_of_the_ledger(tmp_path):
    SpeedFile(tmp_path / "speed" / "a.csv", HERE).add(row())
    assert Ledger(tmp_path).entries() == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is timed by the wall clock")
def test_only_a_single_thread_is_timed_by_the_processor(monkeypatch):
    for threads, clock in ((1, "cpu"), (2, "wall")):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert clock_here() == clock
        assert Machine.here().clock == clock


# ---- the table ----------------------------------------------------------------------------------


@pytest.fixture
def toy(tmp_path) -> Path:
    (tmp_path / "experiments" / "published").mkdir(parents=True)
    (tmp_path / "experiments" / "published" / "toy.yaml").write_text(PUBLISHED)
    for stem in ("toy", "toy_fast"):
        shutil.copy(EXPERIMENTS / "hfdn_x4.yaml", tmp_path / "experiments" / f"{stem}.yaml")
    shutil.copy(experiment_file(ROOT, "espcn_x2"), tmp_path / "experiments" / "compared.yaml")
    return tmp_path


def evidence_of(root: Path, *rows: SpeedRow, machine: Machine = HERE, weights=()) -> Evidence:
    results = root / "experiments" / "results"
    file = SpeedFile(results / "speed" / f"{machine.slug}.csv", machine)
    for one in rows:
        file.add(one)
    return Evidence(root, Ledger(results), weights)


def cells(table: Table, experiment: str) -> dict[str, Number | str | None]:
    heads = table.heads
    (found,) = (row for row in table.rows if row.labels[1] == experiment)
    return dict(zip(heads, found.cells, strict=True))


def test_every_system_of_a_paper_has_a_row_and_times_have_origins(toy):
    table, *_ = systems_tables(evidence_of(toy, row()))
    assert table.name == "systems/a-processor-1-thread"
    assert [row.labels for row in table.rows] == [("HFDN", "toy", "x4"), ("HFDN", "toy_fast", "x4")]
    timed, other = cells(table, "toy"), cells(table, "toy_fast")
    assert timed["parameters"].value == other["parameters"].value == HFDN_X4["parameters"]
    assert timed["MACs"].value == HFDN_X4["macs_720p"]
    assert timed["batch"] == "16 x 24"
    assert (timed["step (s)"].value, timed["image (s)"].value) == (1.33, 3.8)
    assert dict(timed["image (s)"].origin.facts)["machine"] == "A processor, 1 thread"
    assert other["step (s)"].word == other["image (s)"].word == "not timed"
    assert "of the wall time of a measurement 50% to 50% was ours" in table.source
    assert "| HFDN | toy | x4 | 761.4k | 115.5G | 16 x 24 | 1.33 | 3.8 |" in markdown(table)


def test_times_of_another_network_are_not_shown(toy):
    table, *_ = systems_tables(evidence_of(toy, row(parameters=1)))
    assert cells(table, "toy")["image (s)"].word == "not timed"


def test_a_step_with_another_batch_is_not_shown(toy):
    table, *_ = systems_tables(evidence_of(toy, row(batch=8)))
    shown = cells(table, "toy")
    assert shown["batch"] == "16 x 24"
    assert shown["step (s)"].word == "not timed"
    assert shown["image (s)"].value == 3.8


def test_what_takes_longer_than_the_limit_is_not_measured_and_says_so(toy):
    table, *_ = systems_tables(evidence_of(toy, row(image=None, step=None)))
    shown = cells(table, "toy")
    assert shown["image (s)"].word == shown["step (s)"].word == "over 2"
    assert shown["image (s)"].value is None


def test_compared_networks_appear_where_they_were_timed(toy):
    assert systems_tables(evidence_of(toy)) == ()
    cost = complexity(network_of_config(toy / "experiments" / "compared.yaml"))
    counts = {"parameters": cost.parameters, "macs_720p": cost.macs}
    timed = row(experiment="compared", scale=2.0, **counts)
    table, *_ = systems_tables(evidence_of(toy, timed))
    assert [row.labels[0] for row in table.rows] == ["HFDN", "HFDN", "compared"]
    assert cells(table, "compared")["image (s)"].value == 3.8


def test_machines_have_tables_of_their_own(toy):
    evidence_of(toy, row())
    second = Machine("Another", 0, "wall")
    timed = evidence_of(toy, row(image=9.0, core_share=None), machine=second)
    one, other = (table for table in systems_tables(timed) if table.name.startswith("systems"))
    assert cells(one, "toy")["image (s)"].value == 3.8
    assert cells(other, "toy")["image (s)"].value == 9.0
    assert "Seconds on Another, float32" in other.source
    assert "Other work" not in other.source


def test_weights_stand_beside_the_experiment_that_trained_them(toy):
    weights = record(
        name="good",
        recipe="sr-lightning fit --config experiments/toy_fast.yaml",
        parameters=HFDN_X4["parameters"],
        measured={"edsr2017": {"Set5_x4": {"psnr": 31.32, "ssim": 0.8858}, "B100_x3": {"psnr": 1}}},
        preview=True,
    )
    table, *_ = systems_tables(evidence_of(toy, row(), weights=(weights,)))
    trained = cells(table, "toy_fast")
    assert trained["weights"] == "good (preview)"
    assert trained["Set5 PSNR (dB)"].value == 31.32
    assert dict(trained["Set5 SSIM"].origin.facts)["protocol"] == "edsr2017"
    assert trained["B100 PSNR (dB)"] is None, "measured at another scale"
    assert cells(table, "toy")["weights"] == ""
    assert cells(table, "toy")["Set5 PSNR (dB)"] is None


def test_the_page_and_readmes_show_the_systems(toy):
    evidence = evidence_of(toy, row())
    assert 'id="systems-a-processor-1-thread"' in page(build_report(evidence))
    readme = toy / "README.md"
    readme.write_text("<!-- table systems/a-processor-1-thread -->\n<!-- /table -->\n")
    assert "3.8" in stale(evidence)[readme]


# ---- efficiency ---------------------------------------------------------------------------------


def test_the_score_is_the_challenges_formula():
    baseline = row(ntire=2.0, ntire_macs=100, ntire_parameters=1000)
    assert ntire_score(baseline, baseline) == pytest.approx(math.exp(2))
    half = row(ntire=1.0, ntire_macs=200, ntire_parameters=1500)
    expected = 0.7 * math.exp(1) + 0.15 * math.exp(4) + 0.15 * math.exp(3)
    assert ntire_score(half, baseline) == pytest.approx(expected)
    assert ntire_score(row(ntire=None), baseline) is None
    assert ntire_score(row(ntire=2e6), baseline) == math.inf


def test_the_table_of_efficiency_has_what_the_challenge_asks(toy):
    rows = (row(), row(experiment="imdn_x4", ntire=8.5), row(experiment="slow", ntire=None))
    _, table = systems_tables(evidence_of(toy, *rows))
    assert table.name == "efficiency/a-processor-1-thread"
    assert [line.labels for line in table.rows] == [("toy",), ("imdn_x4",)]
    score = 0.7 * math.exp(1) + 0.3 * math.exp(2)
    shown = f"| toy | 761.4k | 42.10 | 314.6 | 1,024 | 4250 | {score:.2f} |"
    assert shown in markdown(table)
    (alone,) = (
        one for one in systems_tables(evidence_of(toy / "b", row())) if "efficiency" in one.name
    )
    assert alone.rows[0].cells[-1] == ""
