"""The report: what was measured beside what was published, in every format."""

from __future__ import annotations

import csv
import html as html_module
import importlib
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from conftest import EXPERIMENTS, ROOT
from PIL import Image
from rich.console import Console
from test_studies import entry

from sr_lightning import report
from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.inference.pictures import save_crops
from sr_lightning.nn.complexity import parameter_count
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.report import frame
from sr_lightning.report.build import build_report
from sr_lightning.report.cli import write_report
from sr_lightning.report.document import Number, Plot, Point, Row, Table, ranked
from sr_lightning.report.figures import cost_figure, description, file_svg, inline_svg
from sr_lightning.report.format import count, delta_text, text
from sr_lightning.report.frame import COLUMNS, tidy_frame, write_frame
from sr_lightning.report.html import page
from sr_lightning.report.measurements import Evidence
from sr_lightning.report.published_view import claims_table, published_table
from sr_lightning.report.readmes import lasting_evidence, stale
from sr_lightning.report.writers import latex, markdown, spreadsheet, terminal_tables
from sr_lightning.studies import cli as study_cli
from sr_lightning.studies.claims import level_of
from sr_lightning.studies.ledger import Failure, Ledger, RunRecord
from sr_lightning.studies.study import find_study
from sr_lightning.studies.verdicts import PAIRED
from sr_lightning.weights.zoo import WeightRecord

PUBLISHED = """
paper: Toy
source: Toy slides
methods: {Old: null, Later: later_x*, Toy: toy_x*}
tables:
  results:
    title: Results
    axes: [scale, method, {metric: [psnr, ssim]}]
    common: {set: Set5}
    protocol: edsr2017
    certain: false
    cells:
      x2:
        Old:   [33.50, 0.9000]
        Toy:   [33.60, 0.9100]
      x4:
        Old:   [29.50, 0.8000]
        Later: [29.90, 0.8000]
        Toy:   [30.00, 0.8105]
    errata:
      - {at: {scale: x4, method: Old, metric: psnr}, printed: 29.50, why: it is below bicubic.}
    claims:
      - {better: {method: Toy}, worse: {method: Old}, says: better than old}
  unit:
    title: The unit
    axes: [unit]
    common: {method: Toy, scale: x4, set: Set5, metric: psnr}
    protocol: edsr2017
    certain: false
    complete: {unit: full}
    cells: {plain: 29.80, full: 30.00}
    claims:
      - {better: {unit: full}, worse: {unit: plain}, says: the unit helps}
"""
STUDY = """
title: The unit
paper: toy
base: toy_x4
factor: unit
table: toy/unit
seeds: 2
reproduce: {quick: 1}
measure: {metric: psnr, protocol: edsr2017, sets: [Set5]}
levels:
  plain: {model.network.unit: dense}
  full: {}
budgets:
  quick: {set: {model.network.channels: 16}}
  short: {}
"""


@pytest.fixture
def checkout(tmp_path) -> Path:
    root = tmp_path / "checkout"
    for folder in ("published", "studies", "results"):
        (root / "experiments" / folder).mkdir(parents=True)
    (root / "configs").mkdir()
    (root / "experiments" / "published" / "toy.yaml").write_text(PUBLISHED)
    (root / "experiments" / "studies" / "toy_unit.yaml").write_text(STUDY)
    shutil.copy(EXPERIMENTS / "hfdn_x4.yaml", root / "experiments" / "toy_x4.yaml")
    return root


def run(
    level: str, seed: int, psnr: float, budget: str = "short", group: str = "Set5_x4"
) -> RunRecord:
    made = entry(level, seed, psnr, "toy_unit")
    cells = made.metrics["edsr2017"].pop("Set5_x4")
    cells["HFDN"]["images"] = cells["bicubic"]["images"] = {"baby": [psnr, 0.9]}
    made.metrics["edsr2017"][group] = cells
    made.curve.update(step=[10, 20], psnr=[psnr - 1, psnr])
    return RunRecord(
        **{**vars(made), "name": f"toy_unit/{budget}/{level}/seed{seed}", "budget": budget}
    )


def evidence_of(
    root: Path, *entries: RunRecord, weights: tuple[WeightRecord, ...] = ()
) -> Evidence:
    ledger = Ledger(root / "experiments" / "results")
    for one in entries:
        ledger.write(one)
    return Evidence(root, ledger, weights)


def rows_of(table: Table) -> dict[tuple[str, ...], Row]:
    return {(*row.labels, row.kind): row for row in table.rows}


def record(**changed) -> WeightRecord:
    facts = dict.fromkeys(WeightRecord.__dataclass_fields__, "")
    numbers = {"parameters": 1, "steps": 9, "batch": 1, "patch": 1, "hours": 1.0, "scales": (4,)}
    facts.update(numbers, name="toy_x4", measured={}, published={}, stages=())
    return WeightRecord(**{**facts, **changed})


# ---- published tables ---------------------------------------------------------------------------


def test_measured_row_stands_under_the_published_one(checkout):
    evidence = evidence_of(checkout, run("full", 0, 30.0), run("full", 1, 30.2))
    table = published_table(evidence, "toy/results")
    rows = rows_of(table)
    number = rows["x4", "Toy", "measured"].cells[0]
    assert number.value == pytest.approx(30.1)
    assert number.deviation == pytest.approx(0.2 / 2**0.5)
    assert number.delta == pytest.approx(0.1)
    assert (text(number), delta_text(number), number.tone) == ("30.10 ± 0.141", "+0.10", "better")
    assert rows["x4", "Toy", "measured"].remark == "short budget, n = 2, edsr2017"
    assert number.origin.runs == ("toy_unit/short/full/seed0", "toy_unit/short/full/seed1")
    place = [row.kind for row in table.rows].index("measured")
    assert table.rows[place - 1].labels == table.rows[place].labels


def test_what_was_not_measured_says_why(checkout):
    rows = rows_of(published_table(evidence_of(checkout), "toy/results"))
    assert rows["x4", "Toy", "published"].missing == "not run"
    assert rows["x4", "Later", "published"].missing == "no experiment yet"
    assert rows["x4", "Old", "published"].missing == ""
    elsewhere = evidence_of(checkout, run("plain", 0, 25.0, group="sample-test_x4"))
    missing = rows_of(published_table(elsewhere, "toy/unit"))["plain", "published"].missing
    assert missing == "not run on these sets; other sets: study toy_unit"


def test_numbers_under_another_protocol_are_not_subtracted(checkout):
    cells = {"Set5_x4": {"psnr": 30.5, "ssim": 0.82}}
    whole = parameter_count(HFDN(scale=4))
    weights = record(measured={"vdsr2016": cells}, parameters=whole)
    other = evidence_of(checkout, weights=(weights,))
    row = rows_of(published_table(other, "toy/results"))["x4", "Toy", "measured"]
    assert (row.cells[0].value, row.cells[0].delta) == (30.5, None)
    assert row.remark == "weights toy_x4, vdsr2016"
    both = {"vdsr2016": cells, "edsr2017": {"Set5_x4": {"psnr": 30.4, "ssim": 0.82}}}
    same = evidence_of(checkout, weights=(record(measured=both, parameters=whole),))
    row = rows_of(published_table(same, "toy/results"))["x4", "Toy", "measured"]
    assert (row.cells[0].value, row.remark) == (30.4, "weights toy_x4, edsr2017")
    assert row.cells[0].delta == pytest.approx(0.4)


def test_higher_budget_speaks_and_smaller_networks_are_told(checkout):
    quick = run("full", 0, 28.0, "quick")
    row = rows_of(published_table(evidence_of(checkout, quick), "toy/unit"))["full", "measured"]
    assert row.remark == "quick budget, smaller network, n = 1, edsr2017"
    assert row.cells[0].delta is None
    both = evidence_of(checkout, quick, run("full", 0, 30.0))
    row = rows_of(published_table(both, "toy/unit"))["full", "measured"]
    assert (row.remark, row.cells[0].value) == ("short budget, n = 1, edsr2017", 30.0)


def test_doubtful_numbers_carry_their_erratum_and_are_not_ranked(checkout):
    table = published_table(evidence_of(checkout), "toy/results")
    number = rows_of(table)["x4", "Old", "published"].cells[0]
    assert text(number) == "29.50?"
    assert number.rank == 0
    assert "below bicubic" in table.notes[number.marks[0] - 1]


def test_best_and_second_are_marked_within_a_scale():
    def number(value: float, kind: str = "published") -> Number:
        return Number(value, "psnr", kind)

    rows = (
        Row(("x2", "a"), (number(33.0),), group="x2"),
        Row(("x2", "b"), (number(33.004),), group="x2"),
        Row(("x2", "c"), (number(32.0),), group="x2"),
        Row(("x2", "c"), (number(40.0, "measured"),), "measured", group="x2"),
        Row(("x4", "a"), (number(29.0),), group="x4"),
        Row(("x4", "b"), (number(28.0),), group="x4"),
    )
    table = Table("t", "t", "", ("scale", "method"), (("", "PSNR"),), rows)
    # 33.004 is printed as 33.00: both are best. A lone measured number is not "best".
    assert [row.cells[0].rank for row in ranked(table).rows] == [1, 1, 2, 0, 1, 2]


def test_parameters_are_counted_from_the_network(checkout):
    published = yaml.safe_load(PUBLISHED)
    published["tables"] = {
        "costs": {
            "title": "Costs",
            "axes": ["method", {"metric": ["parameters", "macs"]}],
            "common": {"set": None, "scale": "x4"},
            "hr": "1080x720",
            "cells": {"Old": ["1k", "1G"], "Toy": ["760.1k", "178.51G"]},
        }
    }
    (checkout / "experiments" / "published" / "toy.yaml").write_text(yaml.safe_dump(published))
    (checkout / "experiments" / "studies" / "toy_unit.yaml").unlink()
    table = published_table(evidence_of(checkout), "toy/costs")
    parameters, macs = rows_of(table)["Toy", "measured"].cells
    assert parameters.value == parameter_count(HFDN(scale=4))
    assert delta_text(parameters) == f"{parameters.value / 760_100 - 1:+.1%}"
    assert (macs.kind, abs(macs.delta) < 0.01, macs.tone) == ("computed", True, "same")


@pytest.mark.parametrize(
    ("level", "labels"),
    [
        ("CA&SA", {"method": "HFDN", "attention": "CA&SA"}),
        ("200000, 150000", {"steps": 200000, "halved every": 150000}),
        ("yes", {"method": "CIRN", "ISAB": True}),
        ("CA+SC", {"method": "ASDN", "CA": True, "SA": False, "SC": True}),
        ("none", {"CA": False, "SA": False, "SC": False}),
    ],
)
def test_levels_are_found_by_the_tables_own_labels(checkout, level, labels):
    content = yaml.safe_load(STUDY)
    content.update(levels={level: {}, "another": {"model.network.unit": "dense"}})
    (checkout / "experiments" / "studies" / "toy_unit.yaml").write_text(yaml.safe_dump(content))
    study = find_study("toy_unit", checkout)
    assert level_of(study.levels, labels) == level
    assert level_of(study.levels, {"unit": "a third"}) is None


# ---- claims and studies -------------------------------------------------------------------------


def test_claims_take_the_verdict_of_their_study(checkout):
    runs = [run("plain", seed, 29.0 + seed) for seed in range(3)]
    runs += [run("full", seed, 29.2 + seed + seed / 1000) for seed in range(3)]
    (row,) = claims_table(evidence_of(checkout, *runs), "toy/unit").rows
    assert row.labels == ("the unit helps", "full > plain")
    words = "agrees (short budget, Set5 x4)"
    assert row.cells == ("1", "1 of 1", "+0.20 dB", words)
    (row,) = claims_table(evidence_of(checkout), "toy/results").rows
    assert row.cells[0] == "4"
    assert row.cells[3] == "not run"


def test_runs_at_another_scale_do_not_answer_a_claim(checkout):
    runs = [run(level, 0, 29.0, group="Set5_x2") for level in ("plain", "full")]
    (row,) = claims_table(evidence_of(checkout, *runs), "toy/unit").rows
    assert row.cells[3] == "not run"


def test_study_sets_levels_beside_published_cells_and_names_failures(checkout):
    evidence = evidence_of(checkout, run("plain", 0, 29.5), run("full", 0, 29.9))
    evidence.ledger.fail(Failure("toy_unit/short/full/seed1", "Out of memory.", "log"))
    (paper,) = build_report(evidence).papers
    (view,) = paper.studies
    rows = rows_of(view.table)
    assert [text(cell) for cell in rows["full", "both"].cells[:2]] == ["30.00", "29.90"]
    assert rows["full", "both"].cells[1].delta == pytest.approx(-0.1)
    assert view.table.notes == ("toy_unit/short/full/seed1 failed: Out of memory.",)
    (verdict,) = view.verdicts.rows
    assert [text(c) if isinstance(c, Number) else c or "" for c in verdict.cells] == [
        "+0.20 (Set5)",
        "Set5 x4",
        "+0.400",
        *("", "", "", ""),
        "1",
        "inconclusive",
        "Set5 x4",
        "+0.400",
        *("", ""),
        "inconclusive",
        "",
    ]


def test_study_without_runs_is_shown_with_its_command(checkout):
    (view,) = build_report(evidence_of(checkout)).papers[0].studies
    assert view.table.source == "Not run. sr-lightning study run toy_unit --budget quick"
    assert view.verdicts.rows[0].cells[8] == "not run"


def test_study_with_a_reference_shows_differences_in_place_of_verdicts(checkout):
    own = STUDY.replace("table: toy/unit\n", "reference: plain\n")
    (checkout / "experiments" / "studies" / "toy_unit.yaml").write_text(own)
    values = [("plain", 0, 29.5), ("full", 0, 29.9), ("plain", 1, 28.5), ("full", 1, 29.0)]
    report = build_report(evidence_of(checkout, *(run(*value) for value in values)))
    (view,) = report.papers[0].studies
    heads = [*view.table.columns]
    place = heads.index(("Set5 x4", "minus plain ± 95%"))
    rows = rows_of(view.table)
    assert text(rows["full", "both"].cells[place]) == "+0.450 ± 0.635"
    assert rows["plain", "both"].cells[place] is None
    assert view.table.notes == (PAIRED,)
    # Nobody claimed anything, so there is no verdict to show or to count.
    assert view.verdicts not in report.tables
    assert report.verdicts.rows == ()
    assert report.findings == ()
    assert "<h3>Verdicts</h3>" not in page(report)


def test_a_study_of_the_suite_that_is_asked_for_alone_counts_each_seed_once(checkout):
    evidence = evidence_of(checkout, run("full", 0, 30.0), run("full", 1, 30.2))
    study = find_study("toy_unit", checkout)
    alone = Evidence(checkout, evidence.ledger, (), own=[study])
    assert len(alone.entries(study)) == 2


def test_study_of_several_papers_networks_has_a_heading_of_its_own(checkout):
    shutil.copy(EXPERIMENTS / "hfdn_x4.yaml", checkout / "experiments" / "other_x4.yaml")
    text = STUDY.replace("paper: toy", "paper: compared").replace("table: toy/unit\n", "")
    text = text.replace("full: {}", "full: {experiment: other_x4}")
    (checkout / "experiments" / "studies" / "between.yaml").write_text(text)
    *_, last = build_report(evidence_of(checkout)).papers
    assert (last.title, last.tables) == ("Networks of several papers", ())
    assert [view.study.name for view in last.studies] == ["between"]


def test_study_whose_runs_all_failed_says_why(checkout):
    evidence = evidence_of(checkout)
    evidence.ledger.fail(Failure("toy_unit/short/full/seed0", "Loss is not finite.", "log"))
    (view,) = build_report(evidence).papers[0].studies
    assert view.budget == "short"
    assert view.table.notes == ("toy_unit/short/full/seed0 failed: Loss is not finite.",)


def test_table_too_wide_for_a_terminal_is_told_in_parts():
    heads = [(f"Set{n}", "PSNR (dB)") for n in range(6)]
    cells = tuple(Number(30.0 + n, "psnr") for n in range(6))
    rows = tuple(Row((f"x{scale}", "A network"), cells) for scale in (2, 4))
    table = Table("t", "Results", "here", ("scale", "method"), tuple(heads), rows, ("a note",))
    for width, number in ((50, 3), (200, 1)):
        parts = terminal_tables(table, width)
        assert len(parts) == number
        console = Console(width=width, record=True, file=io.StringIO())
        for part in parts:
            console.print(part)
        said = console.export_text()
        assert "…" not in said
        assert said.count("A network") == 2 * number
        assert (said.count("Results"), said.count("a note")) == (1, 1)
        for n in range(6):
            assert said.count(f"{30 + n}.00") == 2


# ---- pictures -----------------------------------------------------------------------------------


def test_crops_of_all_methods_show_the_same_place(tmp_path):
    lr = torch.rand(3, 20, 31)
    hr = lr.repeat_interleave(3, 1).repeat_interleave(3, 2)
    save_crops(tmp_path, lr, {"hr": hr, "sr": hr}, 3, side=32)
    small, large = Image.open(tmp_path / "lr.png"), Image.open(tmp_path / "hr.png")
    assert (small.size, large.size) == ((10, 10), (30, 30))
    assert small.resize((30, 30), Image.Resampling.NEAREST).tobytes() == large.tobytes()
    assert (tmp_path / "sr.png").read_bytes() == (tmp_path / "hr.png").read_bytes()


def test_pictures_of_all_levels_are_inside_the_page(checkout, tmp_path):
    evidence = evidence_of(checkout, run("plain", 0, 29.5), run("full", 0, 29.9))
    assert "data:image" not in page(build_report(evidence, pictures=tmp_path))
    for level in ("plain", "full"):
        folder = tmp_path / f"toy_unit/short/{level}/seed0/images/Set5_x4/baby"
        folder.mkdir(parents=True)
        for method in ("lr", "bicubic", "sr", "hr"):
            Image.new("RGB", (4, 4)).save(folder / f"{method}.png")
    html = page(build_report(evidence, pictures=tmp_path))
    assert html.count("data:image/png;base64,") == 5
    assert "<figcaption>full<br>29.90 dB / 0.9000</figcaption>" in html


# ---- formats ------------------------------------------------------------------------------------


class _Reader(HTMLParser):
    """Collects references and checks that elements close in order."""

    VOID = ("meta", "input", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
                self.references.append(value)
            if name == "id":
                self.ids.append(value)
        if tag not in self.VOID and tag not in ("path", "circle", "polygon", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("path", "circle", "polygon", "polyline"):
            assert self.open.pop() == tag


def test_page_is_whole_and_asks_nobody_for_anything(checkout):
    evidence = evidence_of(checkout, run("plain", 0, 29.5), run("full", 0, 29.9))
    html = page(build_report(evidence))
    reader = _Reader()
    reader.feed(html)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    targets = {reference for reference in reader.references if not reference.startswith("data:")}
    assert targets
    assert targets <= {f"#{name}" for name in reader.ids}
    assert "link" not in reader.tags
    assert "default-src 'none'" in html
    assert not re.search(r"https?://|@import|url\(", html)
    opened = set(re.findall(r'popovertarget="([^"]+)"', html))
    assert opened
    assert opened <= set(reader.ids)


HOSTILE = "<script>alert(1)</script> & 5%_of $a$ | ^~\\"


def hostile_table() -> Table:
    number = Number(30.0, "psnr", rank=1, marks=(1,), delta=0.1, kind="measured")
    return Table(
        name="a/b",
        title=HOSTILE,
        source=HOSTILE,
        stubs=(HOSTILE,),
        columns=((HOSTILE, HOSTILE), ("", "words")),
        rows=(Row((HOSTILE,), (number, HOSTILE), remark=HOSTILE, missing=HOSTILE),),
        notes=(HOSTILE,),
    )


def test_texts_are_escaped_in_every_format(checkout):
    report = build_report(evidence_of(checkout))
    paper = report.papers[0]
    hostile = type(paper)(paper.name, HOSTILE, (hostile_table(),), ())
    html = page(type(report)(**{**vars(report), "papers": (hostile,)}))
    assert html.count("<script>") == 1
    assert "alert(1)" in html
    shown = markdown(hostile_table())
    assert "<script>" not in shown.replace("\\<", "")
    (row,) = [line for line in shown.splitlines() if "**30.00**" in line]
    assert len(re.findall(r"(?<!\\)\|", row)) == 4
    tex = latex(hostile_table())
    bare = re.sub(r"\\[&%_$]|\\text\w+\{\}", "", tex)
    assert not re.search(r"[%_<>|~]", bare)
    assert bare.count("&") == 2 * 3
    (line,) = [r for r in csv.DictReader(io.StringIO(spreadsheet(hostile_table()))) if r["value"]]
    assert line[HOSTILE] == HOSTILE


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_latex_of_every_table_compiles(tmp_path):
    evidence = Evidence(ROOT, Ledger(ROOT / "experiments" / "results"))
    tables = [*build_report(evidence).tables, hostile_table()]
    page = "\\clearpage\n".join(latex(table) for table in tables)
    packages = "\\usepackage[T1]{fontenc}\\usepackage{booktabs}"
    (tmp_path / "all.tex").write_text(
        f"\\documentclass{{article}}{packages}\\begin{{document}}\n{page}\\end{{document}}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if line.startswith("!")]
    assert errors == []
    assert (tmp_path / "all.pdf").is_file()


def test_latex_and_markdown_mark_best_and_second(checkout):
    table = published_table(evidence_of(checkout), "toy/results")
    tex, shown = latex(table), markdown(table)
    for mark in (
        r"x4 & Toy \emph{(here: not run)} & \textbf{30.00} & \textbf{0.8105} \\",
        r"\underline{29.90}",
        r"\toprule",
        r"\multicolumn{2}{c}{Set5}",
    ):
        assert mark in tex
    assert "| x4 | Toy (here: not run) | **30.00** | **0.8105** |" in shown
    assert "<u>29.90</u>" in shown
    assert "29.50?<sup>1</sup>" in shown


def test_csv_keeps_every_digit(checkout):
    evidence = evidence_of(checkout, run("full", 0, 30.123456789))
    rows = list(csv.DictReader(io.StringIO(spreadsheet(published_table(evidence, "toy/unit")))))
    (measured,) = [row for row in rows if row["kind"] == "measured" and row["value"]]
    assert float(measured["value"]) == 30.123456789
    assert float(measured["minus_published"]) == pytest.approx(0.123456789)
    assert "seeds: 0" in measured["origin"]
    assert next(r["word"] for r in rows if r["unit"] == "plain").startswith("not run")


def test_same_ledger_gives_the_same_bytes(checkout, tmp_path):
    runs = [run(level, seed, 29.0 + seed) for level in ("plain", "full") for seed in (0, 1)]
    first = write_report(build_report(evidence_of(checkout, *runs)), tmp_path / "a")
    shutil.rmtree(checkout / "experiments" / "results")
    again = write_report(build_report(evidence_of(checkout, *reversed(runs))), tmp_path / "b")
    files = sorted(path.relative_to(tmp_path / "a") for path in first.parent.rglob("*.*"))
    assert len(files) > 10
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (again.parent / file).read_bytes(), file


@pytest.mark.parametrize(
    ("value", "shown"), [(760_104, "760.1k"), (19e6, "19M"), (6.7969e12, "6797G"), (12, "12")]
)
def test_counts_have_four_digits(value, shown):
    assert count(value) == shown


# ---- all numbers --------------------------------------------------------------------------------


def test_frame_has_a_row_for_every_number_and_says_where_it_is_from(checkout):
    weights = record(
        measured={"edsr2017": {"Set5_x4": {"psnr": 30.5, "bicubic_psnr": 28.4, "images": 5}}},
        network="HFDN",
    )
    runs = [run("full", seed, 30.0 + seed) for seed in range(2)]
    numbers = tidy_frame(evidence_of(checkout, *runs, weights=(weights,)))
    assert tuple(numbers.columns) == COLUMNS
    assert numbers["value"].notna().all()
    published = numbers[(numbers["kind"] == "published") & (numbers["table"] == "toy/results")]
    assert len(published) == 10
    (doubtful,) = published[published["remark"].str.contains("cannot be right")]["value"]
    assert doubtful == 29.5
    measured = numbers[(numbers["kind"] == "measured") & (numbers["metric"] == "psnr")]
    by_network = measured.groupby("network")["value"].agg(list)
    assert dict(by_network) == {"toy_unit": [30.0, 31.0], "toy_x4": [30.5], "bicubic": [28.4]}
    seeds = measured[measured["network"] == "toy_unit"]
    assert list(seeds["seed"]) == [0, 1]
    assert list(seeds["deviation"]) == [pytest.approx(0.5**0.5)] * 2
    assert set(seeds["unit"]) == {"dB"}
    assert "toy_unit/short/full/seed1" in seeds["origin"].iloc[1]
    counted = numbers[numbers["kind"] == "counted"].set_index(["network", "metric"])["value"]
    assert counted["toy_x4", "parameters"] == parameter_count(HFDN(scale=4))


def test_frame_is_written_as_csv_and_refuses_what_it_cannot_write(
    checkout, tmp_path, monkeypatch, capsys
):
    evidence = evidence_of(checkout, run("full", 0, 30.123456789))
    file = tmp_path / "new" / "numbers.csv"
    assert str(file) in write_frame(evidence, file)
    rows = list(csv.DictReader(file.open()))
    (psnr,) = (r for r in rows if r["seed"] == "0" and r["metric"] == "psnr")
    assert (float(psnr["value"]), psnr["budget"]) == (30.123456789, "short")
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(frame, "find_spec", lambda name: None)
    for name, said in (("a.xlsx", ".csv or .parquet"), ("a.parquet", "pip install pyarrow")):
        with pytest.raises(SystemExit):
            main(["report", "--frame", str(tmp_path / name)])
        assert said in capsys.readouterr().err
        assert not (tmp_path / name).exists()


def test_frame_can_be_read_back_from_parquet(checkout, tmp_path):
    pytest.importorskip("pyarrow")
    evidence = evidence_of(checkout, run("full", 0, 30.0))
    write_frame(evidence, tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), tidy_frame(evidence))


def test_report_says_how_to_get_its_libraries(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape('pip install "sr-lightning[report]"')):
        importlib.reload(report)


def test_only_the_report_imports_its_libraries():
    imports = re.compile(r"^ *(?:import|from) (?:pandas|matplotlib|jinja2)\b", re.MULTILINE)
    files = [file for file in (ROOT / "sr_lightning").rglob("*.py") if file.parent.name != "report"]
    assert [file for file in files if imports.search(file.read_text())] == []


# ---- figures ------------------------------------------------------------------------------------


def test_figures_take_the_colours_of_the_page_and_repeat_byte_by_byte():
    points = (Point("<b>&amp;", 1000.0, 30.0, False), Point("here", 2000.0, 31.0, True))
    plot = Plot("t", "parameters", points)
    first, again = (inline_svg(cost_figure(plot), "<t>", "figure1") for _ in range(2))
    assert first == again
    assert not re.search(r"#[0-9a-f]{6}", first), "a colour that is the same in the dark"
    assert "var(--text)" in first
    assert "&lt;b&gt;&amp;amp;" in first
    assert "<b>" not in first
    assert 'aria-label="&lt;t&gt;"' in first
    names = re.findall(r'\bid="([^"]+)"', first)
    assert all(name.startswith("figure1-") for name in names)
    alone = file_svg(cost_figure(plot), "a & b")
    assert description(alone) == "a & b"
    assert "var(" not in alone


# ---- commands -----------------------------------------------------------------------------------


def test_tables_writes_every_published_table_of_the_project(
    checkout, tmp_path, monkeypatch, capsys
):
    # Without experiments no network is built, which would take most of the time.
    shutil.rmtree(checkout / "experiments")
    shutil.copytree(ROOT / "experiments" / "published", checkout / "experiments" / "published")
    monkeypatch.chdir(checkout)
    main(["report", "--out", str(tmp_path / "out")])
    assert f"Report: {tmp_path / 'out' / 'index.html'}" in capsys.readouterr().out
    names = Evidence(checkout, Ledger(checkout)).published.tables
    assert len(names) >= 47
    for name in names:
        for suffix in ("md", "tex", "csv"):
            assert (tmp_path / "out" / f"{name}.{suffix}").stat().st_size > 0
    html = (tmp_path / "out" / "index.html").read_text()
    assert all(f'id="{name.replace("/", "-")}"' in html for name in names)


def test_one_table_can_be_asked_for(checkout, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(checkout)
    evidence_of(checkout, run("full", 0, 30.0))
    main(["report", "--table", "toy/unit", "--out", str(tmp_path / "out")])
    shown = capsys.readouterr().out
    assert "30.00" in shown
    assert "here: short budget" in shown
    assert not (tmp_path / "out" / "toy" / "results.md").exists()
    with pytest.raises(SystemExit):
        main(["report", "--table", "toy/unti"])
    assert "did you mean 'toy/unit'" in capsys.readouterr().err


def test_tables_in_readmes_follow_the_ledger(checkout, monkeypatch, capsys):
    readme = checkout / "README.md"
    readme.write_text("A\n<!-- table toy/unit -->\nold\n<!-- /table -->\nB\n")
    monkeypatch.chdir(checkout)
    main(["report", "--readmes"])
    assert "README.md" in capsys.readouterr().out
    assert readme.read_text().startswith("A\n<!-- table toy/unit -->\nToy, x4, Set5.")
    assert readme.read_text().endswith("\n<!-- /table -->\nB\n")
    assert stale(evidence_of(checkout)) == {}
    assert (
        "| full (here: short budget" in stale(evidence_of(checkout, run("full", 0, 30.0)))[readme]
    )
    readme.write_text("<!-- table toy/unti -->\n<!-- /table -->")
    with pytest.raises(UserError, match=r"no table 'toy/unti' \(did you mean 'toy/unit'"):
        stale(evidence_of(checkout))


def test_tables_in_the_projects_readmes_are_up_to_date():
    found = stale(lasting_evidence(ROOT))
    assert not found, "run: sr-lightning report --readmes"


def test_reproduce_runs_the_studies_that_name_the_budget(checkout, monkeypatch, capsys):
    second = STUDY.replace("reproduce: {quick: 1}", "reproduce: {short: 3}")
    (checkout / "experiments" / "studies" / "b_other.yaml").write_text(second)
    third = STUDY.replace("reproduce: {quick: 1}", "reproduce: {quick: 2}")
    (checkout / "experiments" / "studies" / "c_third.yaml").write_text(third)
    seen = []

    class FakeQueue:
        def __init__(self, study, budget, ledger, runs, *, seeds, workers, extra):
            seen.append((study.name, budget, seeds))

        def run(self):
            if len(seen) == 1:
                raise UserError("There is no DIV2K.")

        def failures(self):
            return []

    monkeypatch.setattr(study_cli, "StudyQueue", FakeQueue)
    monkeypatch.chdir(checkout)
    with pytest.raises(SystemExit) as ended:
        main(["study", "reproduce", "--budget", "quick"])
    assert ended.value.code == 1
    assert seen == [("c_third", "quick", 2), ("toy_unit", "quick", 1)]
    said = capsys.readouterr().out
    assert "c_third  not run: There is no DIV2K." in said
    assert said.endswith("c_third failed: There is no DIV2K.\n")
    with pytest.raises(SystemExit):
        main(["study", "reproduce", "--budget", "paper"])
    assert "No study names the budget 'paper'" in capsys.readouterr().err


# ---- in a browser -------------------------------------------------------------------------------

PROBE = """
<script>
const said = [];
document.addEventListener("securitypolicyviolation", (event) => said.push(event.blockedURI));
new Image().src = "https://example.org/spy.png";
const table = document.querySelector("#toy-results table");
table.querySelectorAll("th button")[2].click();
const labels = [...table.tBodies[1].rows].map((row) => row.cells[1].textContent);
document.querySelector("button.origin").click();
const open = document.querySelectorAll("[popover]:popover-open").length;
const wide = document.documentElement.scrollWidth - window.innerWidth;
setTimeout(() => {
  document.title = JSON.stringify({ said, labels, open, wide });
}, 200);
</script>
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 500])
def test_page_works_in_a_browser(checkout, tmp_path, width):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no chromium")
    evidence = evidence_of(checkout, run("plain", 0, 29.5), run("full", 0, 29.9))
    file = tmp_path / "page.html"
    file.write_text(page(build_report(evidence)).replace("</body>", f"{PROBE}</body>"))
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000")
    folder = f"--user-data-dir={tmp_path / 'profile'}"
    size = f"--window-size={width},900"
    dom = subprocess.run(
        [chromium, *flags, folder, size, "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    seen = json.loads(html_module.unescape(re.search(r"<title>(.*?)</title>", dom)[1]))
    # The page's own policy refuses what the probe asks for.
    assert seen["said"] == ["https://example.org/spy.png"]
    # Best first, and what was measured stays under what was published.
    order = [label.replace(":", " ").split()[0] for label in seen["labels"]]
    assert order == ["Toy", "here", "Later", "Old"]
    assert seen["open"] == 1
    assert seen["wide"] <= 0
