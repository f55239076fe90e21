"""The weights in the report: their table, plots and pictures; and what the studies found."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import torch
import yaml
from conftest import ROOT, picture
from matplotlib.text import Text
from PIL import Image
from test_report import PUBLISHED, STUDY, checkout, evidence_of, record, rows_of, run

from sr_lightning.errors import UserError
from sr_lightning.inference.compare import Photograph, compare
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.nn.complexity import parameter_count
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.report.build import build_report
from sr_lightning.report.cli import write_report
from sr_lightning.report.document import Number, Plot, Point, Table
from sr_lightning.report.figures import cost_figure, inline_svg
from sr_lightning.report.format import text
from sr_lightning.report.html import page
from sr_lightning.report.measurements import Evidence
from sr_lightning.report.published_view import claims_table, published_table
from sr_lightning.report.readmes import refresh, stale
from sr_lightning.report.writers import markdown
from sr_lightning.report.zoo_view import zoo_view
from sr_lightning.studies.ledger import Ledger
from sr_lightning.weights.zoo import Stage

__all__ = ["checkout"]

MEASURED = {"psnr": 29.8, "ssim": 0.81, "bicubic_psnr": 28.43, "bicubic_ssim": 0.8113}
with torch.device("meta"):
    WHOLE = parameter_count(HFDN(scale=4))


def weights(scales=("x4",), **changed):
    """A record of HFDN; the toy paper's own network at x4 is HFDN of the usual size."""
    measured = {"edsr2017": {f"Set5_{scale}": MEASURED for scale in scales}}
    facts = {"measured": measured, "network": "HFDN", "parameters": WHOLE, "preview": False}
    return record(**{**facts, **changed})


def shown(table: Table) -> list[list[str]]:
    return [[*row.labels, *map(cell_text, row.cells)] for row in table.rows]


def cell_text(cell) -> str:
    return text(cell) if isinstance(cell, Number) else cell or ""


def scales_of(table: Table) -> list[str]:
    return [row.labels[1] for row in table.rows if row.labels[0] == "toy_x4"]


# ---- the table ----------------------------------------------------------------------------------


def test_weights_stand_between_bicubic_and_their_papers_own_row(checkout):
    table = zoo_view(evidence_of(checkout, weights=(weights(),))).tables[0]
    costs = ["761.4k", "115.5G"]
    assert shown(table) == [
        ["bicubic", "x4", "", "", "28.43", "0.8113", "", "", "", ""],
        # Its file does not exist, so its MACs are not known.
        ["toy_x4", "x4", "761.4k", "", "29.80", "0.8100", "", "", "", ""],
        ["Toy, published, paper's size", "x4", *costs, "30.00", "0.8105", "-", "-", "-", "-"],
    ]
    number = rows_of(table)["toy_x4", "x4", "both"].cells[2]
    assert dict(number.origin.facts)["protocol"] == "edsr2017"


def test_weights_with_a_published_row_of_their_own_do_not_answer_another(checkout):
    own = PUBLISHED.replace("Later: later_x*", "Later: toy_m")
    (checkout / "experiments" / "published" / "toy.yaml").write_text(own)
    evidence = evidence_of(checkout, weights=(weights(name="toy_m"),))
    table = zoo_view(evidence).tables[0]
    assert [row.labels[0] for row in table.rows][-1] == "Later, published, paper's size"
    rows = rows_of(published_table(evidence, "toy/results"))
    assert ("x4", "Later", "measured") in rows
    assert ("x4", "Toy", "measured") not in rows


def test_printed_zeros_at_the_end_are_shown(checkout):
    (checkout / "experiments" / "published" / "toy.yaml").write_text(
        PUBLISHED.replace("Toy:   [30.00, 0.8105]", "Toy:   [30.00, 0.8100]").replace(
            "Old:   [29.50, 0.8000]", "Old:   [29.50, 0.8001]"
        )
    )
    table = zoo_view(evidence_of(checkout, weights=(weights(),))).tables[0]
    assert shown(table)[-1][4:6] == ["30.00", "0.8100"]


def test_light_weights_and_previews_say_so(checkout):
    light = weights(name="toy_small_x4", parameters=1000, preview=True)
    table = zoo_view(evidence_of(checkout, weights=(weights(), light))).tables[0]
    labels = [row.labels[0] for row in table.rows]
    # Small ones first, and the paper's row once.
    paper = "Toy, published, paper's size"
    assert labels == ["bicubic", "toy_small_x4 (preview, light)", "toy_x4", paper]


def test_light_weights_answer_their_paper_without_a_difference(checkout):
    light = weights(name="toy_small_x4", parameters=1000)
    evidence = evidence_of(checkout, weights=(light,))
    row = rows_of(published_table(evidence, "toy/results"))["x4", "Toy", "measured"]
    assert row.remark == "weights toy_small_x4, smaller network, edsr2017"
    assert (row.cells[0].value, row.cells[0].delta) == (29.8, None)
    both = evidence_of(checkout, weights=(light, weights()))
    row = rows_of(published_table(both, "toy/results"))["x4", "Toy", "measured"]
    assert row.cells[0].delta == pytest.approx(-0.2)


def test_a_row_holds_the_numbers_of_one_network(checkout):
    known = {"psnr": 29.8, "bicubic_psnr": 28.43, "bicubic_ssim": 0.8113}
    shipped = weights(measured={"edsr2017": {"Set5_x4": known}})
    evidence = evidence_of(checkout, run("full", 0, 29.0), weights=(shipped,))
    row = rows_of(published_table(evidence, "toy/results"))["x4", "Toy", "measured"]
    assert row.remark == "weights toy_x4, edsr2017"
    # The run has an SSIM, but is of another training.
    assert [cell_text(cell) for cell in row.cells] == ["29.80", "not run"]


def test_bicubic_is_measured_beside_weights(checkout):
    own = PUBLISHED.replace("Old:", "Bicubic:").replace("method: Old", "method: Bicubic")
    (checkout / "experiments" / "published" / "toy.yaml").write_text(own)
    evidence = evidence_of(checkout, weights=(weights(),))
    row = rows_of(published_table(evidence, "toy/results"))["x4", "Bicubic", "measured"]
    assert [cell_text(cell) for cell in row.cells] == ["28.43", "0.8113"]
    assert row.remark == "bicubic, edsr2017"


def test_rows_of_an_ablation_are_answered_by_its_runs(checkout):
    light = weights(name="toy_small_x4", parameters=1000)
    for shipped in (light, weights()):
        evidence = evidence_of(checkout, run("full", 0, 29.0), weights=(shipped,))
        row = rows_of(published_table(evidence, "toy/unit"))["full", "measured"]
        assert row.remark == "short budget, n = 1, edsr2017"
    row = rows_of(published_table(evidence, "toy/results"))["x4", "Toy", "measured"]
    assert row.remark == "weights toy_x4, edsr2017"


def test_weights_of_other_networks_do_not_answer_a_paper(checkout):
    other = weights(name="toy_edsr_x4", network="EDSR")
    table = zoo_view(evidence_of(checkout, weights=(other,))).tables[0]
    assert [row.labels[0] for row in table.rows] == ["bicubic", "toy_edsr_x4"]
    # A second network of the paper has the class, but not the name of the first.
    second = PUBLISHED.replace("Toy: toy_x*", "Toy: toy_s").replace("toy_x4", "toy_s")
    (checkout / "experiments" / "toy_x4.yaml").rename(checkout / "experiments" / "toy_s.yaml")
    (checkout / "experiments" / "studies" / "toy_unit.yaml").unlink()
    (checkout / "experiments" / "published" / "toy.yaml").write_text(second)
    table = zoo_view(evidence_of(checkout, weights=(weights(),))).tables[0]
    assert [row.labels[0] for row in table.rows] == ["bicubic", "toy_x4"]


def test_published_row_is_of_the_table_that_tells_most(checkout):
    # A table of another paper, before it by name, that rounds what it repeats.
    second = yaml.safe_load(PUBLISHED)
    results = second["tables"]["results"]
    results |= {"cells": {"x4": {"Toy": [30.02, 0.81]}}, "claims": []}
    results.pop("errata")
    second["tables"] = {"results": results}
    (checkout / "experiments" / "published" / "another.yaml").write_text(yaml.safe_dump(second))
    rows = shown(zoo_view(evidence_of(checkout, weights=(weights(),))).tables[0])
    (printed,) = (row for row in rows if row[0].startswith("Toy, published"))
    assert printed[4:6] == ["30.00", "0.8105"]


def test_any_scale_weights_show_usual_scales_first(checkout):
    arbitrary_scale = weights(("x1.5", "x2", "x4", "x2.8"), arbitrary_scale=True)
    usual, _, _, others = zoo_view(evidence_of(checkout, weights=(arbitrary_scale,))).tables
    assert (usual.name, scales_of(usual)) == ("weights", ["x2", "x4"])
    assert (others.name, scales_of(others)) == ("weights/toy_x4", ["x1.5", "x2", "x2.8", "x4"])
    assert [row.labels[0] for row in others.rows] == ["bicubic", "toy_x4"] * 4


def test_published_numbers_of_another_protocol_are_marked(checkout):
    other = PUBLISHED.replace("protocol: edsr2017", "protocol: lesrcnn2020")
    (checkout / "experiments" / "published" / "toy.yaml").write_text(other)
    table = zoo_view(evidence_of(checkout, weights=(weights(),))).tables[0]
    assert table.notes == ("Published under lesrcnn2020.",)
    assert "30.00<sup>1</sup>" in markdown(table)


def test_licences_of_training_images_are_told_once(checkout):
    records = [
        weights(name=name, data_licence=licence, training_data="A (3)", hours=0.5, steps=12_000)
        for name, licence in (("toy_a", "free"), ("toy_b", "free"), ("toy_c", "research use"))
    ]
    table = zoo_view(evidence_of(checkout, weights=tuple(records))).tables[1]
    assert table.name == "weights/training"
    assert table.source == (
        "Rights in the training images of toy_a and toy_b: free. "
        "Rights in the training images of toy_c: research use."
    )
    assert shown(table)[0] == ["toy_a", "-", "12,000", "1 x 1", "0.5", "", "A (3)"]


def test_costs_are_of_every_training_behind_the_weights(checkout):
    same = {"sha256": "", "recipe": "", "commit": "", "batch": 4, "patch": 8, "hardware": "a CPU"}
    first = Stage(name="toy_x2", steps=1_000, hours=0.5, **same)
    second = Stage(name="toy_a", steps=2_000, hours=0.25, **same)
    facts = {"batch": 16, "patch": 8, "hours": 1.5, "steps": 12_000, "hardware": "a GPU"}
    one = weights(name="toy_a", stages=(first, second), **facts)
    table = zoo_view(evidence_of(checkout, weights=(one,))).tables[1]
    steps, batch, hours, hardware = shown(table)[0][2:6]
    assert steps == "1,000 (toy_x2) + 2,000 + 12,000"
    assert (batch, hours, hardware) == ("4 x 8, 16 x 8", "2.25", "a CPU, a GPU")


def test_readme_takes_the_tables_of_the_weights(checkout):
    readme = checkout / "README.md"
    readme.write_text("<!-- table weights -->\n<!-- /table -->\n")
    evidence = evidence_of(checkout, weights=(weights(),))
    (fresh,) = stale(evidence).values()
    assert "| toy\\_x4 | x4 | 761.4k |" in fresh
    readme.write_text(fresh)
    assert stale(evidence) == {}


def test_weights_of_the_package_are_of_the_size_that_their_record_says():
    evidence = Evidence(ROOT, Ledger(ROOT / "experiments" / "results"))
    assert evidence.weights
    for one in evidence.weights.values():
        cost = evidence.cost_of_weights(one, one.scales[0])
        assert cost is not None
        assert (cost.parameters, cost.macs > 0) == (one.parameters, True)


# ---- plots --------------------------------------------------------------------------------------

SIZES = {
    "title": "Sizes",
    "axes": ["method"],
    "common": {"set": None, "scale": None, "metric": "parameters"},
    "cells": {"Old": "1k", "Later": "2k", "Third": "3k", "Fourth": "900k"},
}


@pytest.fixture
def plotted(checkout):
    """Evidence of a field of four published networks and weights of ours."""
    published = yaml.safe_load(PUBLISHED)
    published["methods"] = {"Old": None, "Later": None, "Third": None, "Fourth": None}
    cells = {m: [[30 + n, 0.9], [29 + n, 0.8]] for n, m in enumerate(published["methods"])}
    results = {**published["tables"]["results"], "cells": {"x4": cells}, "claims": []}
    results["axes"] = ["scale", "method", {"set": ["Set5", "Set14"]}, {"metric": ["psnr", "ssim"]}]
    results.pop("common")
    results.pop("errata")
    ablation = {
        **published["tables"]["unit"],
        "common": {"scale": "x4", "set": "Set5", "metric": "psnr"},
        "axes": ["method"],
        "cells": {"Old": 20.0},
        "claims": [],
    }
    ablation.pop("complete")
    # An ablation of one set must not speak for a network.
    published["tables"] = {"ablation": ablation, "results": results, "sizes": SIZES}
    (checkout / "experiments" / "published" / "toy.yaml").write_text(yaml.safe_dump(published))
    (checkout / "experiments" / "studies" / "toy_unit.yaml").unlink()
    return evidence_of(checkout, weights=(weights(),))


def test_weights_are_plotted_among_the_published_networks(plotted):
    (plot,) = zoo_view(plotted).plots
    assert plot.title == "Set5 x4"
    points = {point.label: (point.cost, point.psnr, point.measured) for point in plot.points}
    assert points == {
        "Old": (1000, 30, False),
        "Later": (2000, 31, False),
        "Third": (3000, 32, False),
        "Fourth": (900_000, 33, False),
        "toy_x4": (WHOLE, 29.8, True),
    }


def test_names_in_a_crowded_plot_do_not_cover_each_other():
    points = [Point(f"network {n}", 1e5 * 1.03**n, 30 + 0.02 * n, n == 0) for n in range(16)]
    figure = cost_figure(Plot("crowd", "parameters", tuple(points)))
    svg = inline_svg(figure, "crowd", "figure1")
    assert svg.count("<title>network ") == 16, "every dot has its name as a tooltip"
    (axes,) = figure.axes
    figure.draw_without_rendering()
    names = {name.get_text() for name in axes.texts}
    assert len(names) >= 8
    assert "network 0" in names
    bare = [Text.get_window_extent(name) for name in axes.texts]
    for place, box in enumerate(bare):
        assert not any(box.overlaps(other) for other in bare[:place])


def test_readme_takes_plots_of_the_weights_as_files(plotted, checkout):
    readme = checkout / "README.md"
    readme.write_text("![a plot](.readme/Set5_x4.svg)\n")
    ((path, drawn),) = stale(plotted).items()
    assert path == checkout / ".readme" / "Set5_x4.svg"
    assert ">toy_x4<" in drawn
    assert ElementTree.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"
    assert refresh(plotted) == [path]
    assert path.read_text() == drawn
    assert stale(plotted) == {}
    readme.write_text("![a plot](.readme/Set6_x4.svg)\n")
    with pytest.raises(UserError, match=r"no plot of Set6 x4 \(did you mean 'Set5 x4'"):
        stale(plotted)


# ---- pictures -----------------------------------------------------------------------------------


def test_compared_photographs_are_inside_the_page(checkout, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(picture(1, 60, 60)).save(path)
    folder = tmp_path / "comparison"
    compare(Photograph("My photo", path), {}, 4, PROTOCOLS["edsr2017"], folder)
    evidence = evidence_of(checkout, weights=(weights(),))
    (seen,) = zoo_view(evidence, folder).pictures
    assert [panel.label for panel in seen.panels] == ["LR", "bicubic", "HR (original)"]
    assert re.fullmatch(r"\d\d\.\d\d dB / 0\.\d{4}", seen.panels[1].caption)
    # Weights that came later are not shown, and that is said.
    assert seen.note.endswith("Not shown, drawn before these weights came: toy_x4.")
    html = page(build_report(evidence, comparisons=folder))
    assert html.count("data:image/png;base64,") == 3
    assert "<h3>My photo, x4</h3>" in html


def test_pictures_of_weights_that_were_replaced_are_not_shown(checkout, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(picture(1, 60, 60)).save(path)
    compare(Photograph("p", path), {}, 4, PROTOCOLS["edsr2017"], tmp_path)
    made = tmp_path / "photo_x4.json"
    made.write_text(made.read_text().replace('"label": "bicubic"', '"label": "toy_x4"'))
    for sha256, labels in (
        ("old", ["LR", "HR (original)"]),
        ("new", ["LR", "toy_x4", "HR (original)"]),
    ):
        drawn = json.loads(made.read_text())
        drawn["methods"][1]["sha256"] = sha256
        made.write_text(json.dumps(drawn))
        evidence = evidence_of(checkout, weights=(weights(sha256="new"),))
        (seen,) = zoo_view(evidence, tmp_path).pictures
        assert [panel.label for panel in seen.panels] == labels


def test_pictures_that_would_make_the_page_too_large_are_left_out(checkout, tmp_path, monkeypatch):
    for name in ("a", "b"):
        Image.fromarray(picture(1, 60, 60)).save(tmp_path / f"{name}.png")
        compare(Photograph(name, tmp_path / f"{name}.png"), {}, 4, PROTOCOLS["edsr2017"], tmp_path)
    evidence = evidence_of(checkout, weights=(weights(),))
    whole = build_report(evidence, comparisons=tmp_path)
    size = whole.zoo.pictures[0].bytes
    assert (len(whole.zoo.pictures), whole.left_out) == (2, 0)
    monkeypatch.setattr("sr_lightning.report.build._PICTURE_BYTES", size + 1)
    small = build_report(evidence, comparisons=tmp_path)
    assert (len(small.zoo.pictures), small.left_out) == (1, 1)
    assert "1 comparison of pictures is left out" in page(small)


# ---- what the numbers say -----------------------------------------------------------------------


def sentences(report) -> list[tuple[str, str]]:
    return [(finding.word, finding.sentence) for finding in report.findings]


def test_findings_tell_what_agrees_with_its_error_bar(checkout):
    runs = [run("plain", seed, 29.0 + seed) for seed in range(3)]
    runs += [run("full", seed, 29.2 + seed + seed / 1000) for seed in range(3)]
    report = build_report(evidence_of(checkout, *runs))
    assert sentences(report) == [
        (
            "agrees",
            "full minus plain is +0.201 ± 0.002 dB on Set5 x4 over 3 seeds: agrees, the interval "
            "lies above zero and contains the published difference. Published: +0.20 dB on Set5.",
        )
    ]
    assert report.findings[0].study == "The unit (short budget)"
    # The one claim of toy/unit has a verdict; the four of toy/results have none.
    assert report.summary == (
        "Of 1 claim that studies test here, 1 agrees. The papers' tables claim 5 comparisons, "
        "of which 1 has a verdict here."
    )


def test_findings_do_not_call_inconclusive_differences_wins(checkout):
    runs = [
        run(level, seed, 29 + d * (seed - 0.4), "quick")
        for seed in (0, 1)
        for level, d in (("plain", 0), ("full", 1))
    ]
    report = build_report(evidence_of(checkout, *runs))
    ((word, said),) = sentences(report)
    assert word == "inconclusive"
    assert said.startswith(
        "full minus plain is +0.100 ± 6.353 dB on Set5 x4 over 2 seeds: inconclusive"
    )
    assert "beats" not in said
    assert report.findings[0].study == "The unit (quick budget, smaller network)"
    assert "1 is of smaller networks than the papers'" in report.summary


def test_findings_tell_reversed_claims_and_claims_that_were_not_run(checkout):
    runs = [run("plain", seed, 29.5 + seed) for seed in range(3)]
    runs += [run("full", seed, 29.2 + seed + seed / 1000) for seed in range(3)]
    second = yaml.safe_load(STUDY)
    second["levels"] = {
        "plain": {},
        "other": {"model.network.unit": "dense"},
        "full": {"model.network.channels": 8},
    }
    second["claims"] = [{"better": "other", "worse": "plain", "set": "Set14"}]
    second["title"] = "Another"
    (checkout / "experiments" / "studies" / "b_other.yaml").write_text(yaml.safe_dump(second))
    other, first = sorted(sentences(build_report(evidence_of(checkout, *runs))))
    assert first == (
        "reversed",
        "full minus plain is -0.299 ± 0.002 dB on Set5 x4 over 3 seeds: reversed, the interval "
        "lies below zero. Published: +0.20 dB on Set5.",
    )
    assert other == (
        "not run",
        "Not run: full against plain (published: +0.20 dB on Set5); other against plain.",
    )


def test_findings_are_written_beside_the_tables(checkout, tmp_path, capsys):
    report = build_report(evidence_of(checkout, run("full", 0, 30.0), run("plain", 0, 29.9)))
    write_report(report, tmp_path)
    said = (tmp_path / "findings.md").read_text()
    assert "#### Toy\n\nThe unit (short budget)\n\n- full minus plain is +0.100 dB" in said
    assert "one seed gives no interval" in said
    html = page(report)
    assert '<span class="verdict inconclusive">inconclusive</span>, one seed' in html


def test_single_light_weights_are_no_verdict_on_a_claim(checkout):
    both = (weights(parameters=1000), weights(name="later_x4", parameters=1000))
    (checkout / "experiments" / "later_x4.yaml").write_text(
        (checkout / "experiments" / "toy_x4.yaml").read_text()
    )
    published = PUBLISHED.replace("{method: Old}, says", "{method: Later}, says")
    (checkout / "experiments" / "published" / "toy.yaml").write_text(published)
    (row,) = claims_table(evidence_of(checkout, weights=both), "toy/results").rows
    assert row.cells[3] == "not run"
    whole = tuple(replace(one, parameters=WHOLE) for one in both)
    (row,) = claims_table(evidence_of(checkout, weights=whole), "toy/results").rows
    assert "inconclusive (single runs)" in row.cells[3]
