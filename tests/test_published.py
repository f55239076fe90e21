"""Published numbers: cells against the papers, errata, claims, and what the schema refuses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from conftest import EXPERIMENTS, ROOT

from sr_lightning.data.catalog import catalog
from sr_lightning.errors import UserError
from sr_lightning.experiments import experiment_file
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.nn.complexity import HR_720P, HR_HFDN, complexity
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.studies.published import METRICS, PublishedNumbers, load_published

# Experiments that published cells wait for. Take out what exists; the test below insists.
# Tables quote them: SRCNN and EDSR at x8, and LapSRN at x3, which it reaches through x4.
NOT_YET = {"edsr_x8", "lapsrn_x3", "srcnn_x8"}


@pytest.fixture(scope="module")
def published() -> PublishedNumbers:
    return load_published(EXPERIMENTS / "published")


# The papers' numbers ---------------------------------------------------------------------------

CELLS_PER_TABLE = {
    "compared/results": 192,  # 12 methods x 2 scales x 4 sets x 2
    "compared/recent": 37,  # SwinIR-light whole
    "asdn/fixed_scale": 480,  # (13 + 12 + 13 + 10 methods) x 5 sets x 2
    # 7 methods x 18 scales, of which Meta-EDSR and Meta-RDN lack 6 each
    "asdn/arbitrary_scale": 114,
    "asdn/recursion": 24,
    "asdn/ratios": 8,
    "asdn/modules": 8,
    "asdn/density": 0,
    "asdn/continuous": 2,
    "asdn/parameters": 2,
    "asdn/training": 9,
    "asdn_student/architecture": 8,
    "asdn_student/parameters": 9,
    "asdn_student/memory": 12,
    "asdn_student/tuning": 116,  # 29 runs x 4
    "asdn_student/batch_time": 12,
    "asdn_student/training": 4,
    "asdn_student/loss": 1,
    "asdn_student/results": 24,
    "bicubic/usual": 18,
    "cirn/isab": 16,
    "cmsc/results": 24,
    "cmsc/neighbours": 27,
    "cmsc/size": 1,
    "cmsc/depth": 2,
    "complexity/macs": 61,
    "complexity/parameters": 79,
    "dbdn/results": 18,
    "dbdn/parameters": 1,
    "hfdn/results": 224,  # (10 + 9 + 9 rows) x 4 sets x 2
    "hfdn/costs": 56,
    "hfdn/attention": 4,
    "hfdn/dense_unit": 6,
    "hfdn/supervision": 6,
    "hfdn/training": 3,
    "hfdn/schedule": 2,
    "lesrcnn/urban100": 118,  # 20 methods x 3 scales x 2, LapSRN without x3
    "lesrcnn/results": 36,
    "lesrcnn/neighbours": 18,
    "lesrcnn/ablation": 10,
    "lesrcnn/ablation_seconds": 6,
    "lesrcnn/ablation_costs": 4,
    "lesrcnn/seconds": 12,
    "lesrcnn/costs": 10,
    "lesrcnn/picture": 10,
    "lesrcnn/data": 7,
    "lesrcnn/training": 7,
    "lesrcnn/paddlegan": 6,
    "ulesrcnn/results": 12,
    "ulesrcnn/schedule": 8,
    "ulesrcnn/parameters": 2,
}


def test_every_table_is_complete(published):
    counts = Counter(cell.table for cell in published.cells)
    assert {table: counts[table] for table in published.tables} == CELLS_PER_TABLE


@pytest.mark.parametrize(
    ("table", "method", "scale", "image_set", "metric", "factors", "value"),
    [
        ("hfdn/results", "HFDN", 2, "Urban100", "ssim", {}, 0.9252),
        ("hfdn/results", "HFDN+", 4, "Set5", "psnr", {}, 31.95),
        ("hfdn/results", "IDN", 3, "B100", "psnr", {}, 28.95),
        ("hfdn/results", "MoreMNAS-A", 2, "Set14", "ssim", {}, 0.9138),
        ("hfdn/costs", "DRRN", 3, None, "macs", {}, 6796.9e9),
        ("hfdn/costs", "LCSC_76_291", 4, None, "parameters", {}, 1844e3),
        ("hfdn/attention", "HFDN", 3, "Set5", "psnr", {"attention": "SA"}, 34.17),
        ("hfdn/dense_unit", "HFDN", 4, "Urban100", "psnr", {"unit": "Dense"}, 25.49),
        ("hfdn/supervision", "HFDN", 4, "Set14", "psnr", {"levels": "s&d"}, 28.00),
        ("lesrcnn/urban100", "CPCA", 4, "Urban100", "ssim", {}, 0.7257),
        ("lesrcnn/urban100", "LESRCNN-S", 3, "Urban100", "psnr", {}, 27.76),
        ("lesrcnn/ablation", "IEEB+RB", 4, "Set5", "ssim", {}, 0.8881),
        ("lesrcnn/seconds", "MemNet", 2, None, "seconds", {"size": "1024x1024"}, 14.69),
        ("lesrcnn/ablation_seconds", "HN", 4, None, "seconds", {"size": "512x512"}, 0.00869),
        ("lesrcnn/costs", "DRCN", None, None, "flops", {}, 29.07e9),
        ("lesrcnn/ablation_costs", "HN", None, None, "parameters", {}, 368e3),
        ("ulesrcnn/schedule", "ULESRCNN", 2, "Urban100", "psnr", {"steps": 200_000}, 31.30),
        ("ulesrcnn/results", "ULESRCNN", 3, "Urban100", "ssim", {}, 0.8442),
        ("cirn/isab", "CIRN", 8, "Set14", "psnr", {"ISAB": False}, 25.02),
        ("cmsc/results", "CMSC", 4, "Urban100", "ssim", {}, 0.7692),
        ("asdn/fixed_scale", "FSDN", 8, "Manga109", "ssim", {}, 0.803),
        ("asdn/fixed_scale", "SRMDNF", 4, "Urban100", "psnr", {}, 25.68),
        ("asdn/arbitrary_scale", "RDN-Conv", 22.6, "B100", "psnr", {}, 21.50),
        ("asdn/recursion", "EDSR-Conv", 3, "Set5", "psnr", {"deployment": "recursive"}, 34.32),
        ("asdn/ratios", "ASDN", 3, "Set5", "psnr", {"ratios": "2.000, 1.500"}, 34.48),
        ("asdn_student/training", "base", None, None, "seconds", {"augmentation": True}, 37_414),
        ("asdn_student/memory", "complex", None, None, "megabytes", {"size of": "params"}, 4.24),
        ("asdn_student/results", "base", None, "BSDS100", "psnr", {"ensemble": False}, 24.924),
        ("compared/recent", "SwinIR-light", 4, "Urban100", "ssim", {}, 0.7980),
        ("compared/recent", "SAFMN", 3, "Urban100", "psnr", {}, 27.95),
        ("dbdn/results", "DBDN", 4, "Manga109", "psnr", {}, 31.23),
        ("bicubic/usual", "Bicubic", 3, "Set14", "ssim", {}, 0.7742),
    ],
)
def test_cells_hold_what_the_papers_print(
    published, table, method, scale, image_set, metric, factors, value
):
    cell = published.cell(table, method, scale, image_set, metric, **factors)
    assert cell.value == value
    assert cell.unit == METRICS[metric].unit


@pytest.mark.parametrize(
    ("table", "method", "scale", "image_set", "metric", "printed", "right"),
    [
        ("asdn/fixed_scale", "Bicubic", 2, "B100", "psnr", "20.55", 29.55),
        ("asdn/fixed_scale", "VDSR", 3, "Urban100", "psnr", "27.41", 27.14),
        ("asdn/arbitrary_scale", "ASDN", 2, "B100", "psnr", "32.9,", 32.30),
        ("asdn/arbitrary_scale", "Bicubic", 1.2, "B100", "psnr", "33.01", 35.01),
        ("asdn/arbitrary_scale", "VDSR-Conv", 2.8, "B100", "psnr", "28.23", 29.23),
        ("asdn/arbitrary_scale", "Meta-RDN", 2.8, "B100", "psnr", "29.07", 29.67),
        ("ulesrcnn/results", "LESRCNN", 4, "Urban100", "ssim", "07732", 0.7732),
        ("hfdn/costs", "TSCN", 4, None, "parameters", "981.38,", 981.38e3),
    ],
)
def test_known_misprints_are_corrected_and_told(
    published, table, method, scale, image_set, metric, printed, right
):
    cell = published.cell(table, method, scale, image_set, metric)
    assert cell.value == right
    assert cell.erratum is not None
    assert printed in cell.erratum
    assert not cell.doubtful


def test_numbers_that_cannot_be_right_are_marked_doubtful_and_warned_of(published):
    doubtful = {(cell.method, cell.scale, cell.set) for cell in published.cells if cell.doubtful}
    assert doubtful == {("LapSRN", 3, "B100"), ("SRMDNF", 3, "B100"), ("EDSR", 3, "Manga109")}
    first, second, third = published.warnings
    assert first.startswith("asdn/fixed_scale: PSNR of LapSRN on B100 rises")
    assert second.startswith("asdn/fixed_scale: PSNR of SRMDNF on B100 rises")
    assert "(Set5 x2 ssim) do not bear out that method FSDN beats method ASDN" in third


# What is in print with two values, neither of them a slip of ours: ASDN's table and IMDN's.
IN_PRINT_TWICE = {
    (method, scale, "Set14", "psnr") for method in ("SRCNN", "LapSRN") for scale in (2.0, 4.0)
}


def test_tables_agree_on_what_they_copy_from_each_other(published):
    """Papers copy rows with small slips; a slip of ours would be larger."""
    groups: dict[tuple, list[float]] = {}
    for cell in published.cells:
        plain = cell.metric in ("psnr", "ssim") and cell.set and cell.scale and not cell.factors
        if plain and not (cell.doubtful or cell.approximate or cell.method == "Bicubic"):
            key = (cell.method, cell.scale, cell.set, cell.metric)
            groups.setdefault(key, []).append(cell.value)
    shared = {key: values for key, values in groups.items() if len(values) > 1}
    assert len(shared) > 60
    apart = {
        key
        for key, values in shared.items()
        if max(values) - min(values) >= (0.07 if key[-1] == "psnr" else 0.006)
    }
    assert apart == IN_PRINT_TWICE
    noted = {(c.method, c.scale, c.set, c.metric) for c in published.cells if c.note}
    assert noted >= apart


def test_every_cell_says_where_it_stands_and_how_it_was_measured(published):
    known_sets = {facts.name for facts in catalog().values()} | {"historical", None}
    for cell in published.cells:
        assert cell.set in known_sets
        measured = cell.metric in ("psnr", "ssim")
        assert (cell.protocol is not None) == measured
        assert cell.protocol is None or cell.protocol in PROTOCOLS or " " in cell.protocol
        assert cell.source.count(", ") >= 1
        assert "/" not in cell.source.split(", ")[0]


def test_protocols_differ_by_row_where_papers_do(published):
    def protocol(method: str) -> tuple[str | None, bool]:
        cell = published.cell("lesrcnn/urban100", method, 2, "Urban100", "psnr")
        return cell.protocol, cell.protocol_certain

    assert protocol("LESRCNN") == ("lesrcnn2020", True)
    assert protocol("VDSR") == ("vdsr2016", False)
    assert protocol("NDRCN") == ("as each method's own paper measured it", False)


def test_bold_cells_are_the_best_of_their_row(published):
    best = [cell for cell in published.cells if cell.best]
    assert Counter(cell.table for cell in best) == {
        "hfdn/attention": 1,
        "hfdn/dense_unit": 2,
        "hfdn/supervision": 2,
    }
    for cell in best:
        row = [other.value for other in published.table(cell.table) if other.set == cell.set]
        assert cell.value == max(row)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_published_complexity_of_hfdn_is_met_at_its_output_size(published, scale):
    parameters = published.cell("hfdn/costs", "HFDN", scale, None, "parameters")
    macs = published.cell("hfdn/costs", "HFDN", scale, None, "macs")
    assert macs.hr_size == HR_HFDN
    cost = complexity(HFDN(scale=scale), macs.hr_size)
    assert cost.parameters == pytest.approx(parameters.value, rel=0.002)
    assert cost.macs_out_bias == pytest.approx(macs.value, rel=0.002)


def test_output_sizes_of_macs_differ_by_row(published):
    def sizes(method: str) -> set:
        cells = published.table("hfdn/costs")
        return {c.hr_size for c in cells if c.method == method and c.metric == "macs"}

    assert sizes("TSCN") == {HR_HFDN}
    assert sizes("AWSRN-S") == {HR_720P}
    assert sizes("IDN") == {None}


# Claims ------------------------------------------------------------------------------------------


def test_claims_carry_the_difference_of_their_cells(published):
    claims = {
        (claim.better["attention"], claim.worse["attention"]): claim
        for claim in published.claims_of("hfdn/attention")
    }
    assert set(claims) == {
        ("CA", "Baseline"),
        ("SA", "Baseline"),
        *(("CA&SA", worse) for worse in ("Baseline", "CA", "SA")),
    }
    claim = claims["CA&SA", "Baseline"]
    assert (claim.scale, claim.set, claim.metric, claim.delta) == (3, "Set5", "psnr", 0.05)
    assert claim.supported
    assert not claim.approximate


def test_claim_without_a_place_holds_wherever_both_have_a_cell(published):
    claims = published.claims_of("cirn/isab")
    assert len(claims) == 8
    deltas = {(c.scale, c.set): c.delta for c in claims if c.metric == "psnr"}
    assert deltas == {(4, "Set5"): 0.18, (4, "Set14"): 0.23, (8, "Set5"): 0.29, (8, "Set14"): 0.3}


def test_claims_of_costs_are_supported_by_smaller_numbers(published):
    claims = published.claims_of("lesrcnn/ablation_seconds")
    assert len(claims) == 3
    assert all(claim.delta < 0 and claim.supported for claim in claims)


def test_claims_of_a_figure_are_approximate(published):
    denser, saturated = published.claims_of("asdn/density")
    assert (denser.delta, denser.better, denser.worse) == (0.1, {"phases": 8}, {"phases": 4})
    assert saturated.delta == 0
    assert denser.approximate
    assert denser.cells is None
    assert published.table("asdn/density") == ()


# Our experiments ---------------------------------------------------------------------------------


def test_experiments_that_answer_cells_exist(published):
    named = {cell.experiment.removesuffix("+") for cell in published.cells if cell.experiment}
    missing = {name for name in named if not experiment_file(ROOT, name).exists()}
    assert missing <= NOT_YET, "a published cell names an experiment that does not exist"
    assert missing >= NOT_YET, (
        f"{', '.join(sorted(NOT_YET - missing))} is there (or no longer named): "
        "take it out of NOT_YET"
    )


def test_only_whole_methods_are_answered(published):
    answered = [c.factors for c in published.table("hfdn/supervision") if c.experiment == "hfdn_x4"]
    assert answered == [{"levels": "s&d&m"}] * 2
    assert {c.method for c in published.cells if c.experiment == "hfdn_x4+"} == {"HFDN+"}
    tables = {c.table for c in published.cells if c.experiment == "hfdn_x4"}
    assert tables == {"hfdn/results", "hfdn/costs", "hfdn/dense_unit", "hfdn/supervision"}


# Looking up --------------------------------------------------------------------------------------


def test_lookups_that_find_nothing_or_too_much_are_refused(published):
    with pytest.raises(UserError, match=r"no published table 'hfdn/result'.*'hfdn/results'"):
        published.table("hfdn/result")
    with pytest.raises(UserError, match=r"hfdn/results has no cells for HFDN, 8, Set5, psnr"):
        published.cell("hfdn/results", "HFDN", 8, "Set5", "psnr")
    with pytest.raises(UserError, match=r"hfdn/attention has 4 cells for HFDN"):
        published.cell("hfdn/attention", "HFDN", 3, "Set5", "psnr")
    assert published.cell("hfdn/results", "HFDN", 4, "BSD100", "psnr").set == "B100"


# The schema --------------------------------------------------------------------------------------

GOOD = """\
paper: P
source: slides of P
methods: {A: null, B: b_x*}
tables:
  t:
    title: a table
    axes: [scale, method, {set: [Set5, BSD100]}, {metric: [psnr, ssim]}]
    protocol: edsr2017
    certain: false
    cells:
      x2: {A: [[35.5, 0.95], null], B: [[36, 0.96], [33, null]]}
      x3: {A: [[31, 0.9], null]}
    errata:
      - {at: {method: A, scale: x2, metric: psnr}, printed: 53.5, right: 35.5, why: swapped digits}
    claims:
      - {better: {method: B}, worse: {method: A}, says: B is better}
  costs:
    title: what it costs
    axes: [metric]
    common: {method: B, scale: x2, set: null}
    hr: 1280x720
    cells: {parameters: 1.5M, macs: 2.25G, seconds: 1h 2m 3s}
"""


def read(tmp_path: Path, text: str) -> PublishedNumbers:
    (tmp_path / "p.yaml").write_text(text)
    return load_published(tmp_path)


def test_a_file_expands_to_flat_cells(tmp_path):
    published = read(tmp_path, GOOD)
    assert published.tables == ("p/t", "p/costs")
    assert len(published.table("p/t")) == 7
    cell = published.cell("p/t", "A", 2, "Set5", "psnr")
    assert cell.source == "slides of P, a table"
    assert cell.erratum == "Printed is 53.5, right is 35.5: swapped digits"
    assert (cell.protocol, cell.protocol_certain, cell.experiment) == ("edsr2017", False, None)
    costs = {cell.metric: (cell.value, cell.unit) for cell in published.table("p/costs")}
    assert costs == {"parameters": (1.5e6, ""), "macs": (2.25e9, "MAC"), "seconds": (3723, "s")}
    assert [c.experiment for c in published.table("p/costs")] == ["b_x2"] * 3
    assert published.cell("p/costs", "B", 2, None, "macs").hr_size == (720, 1280)
    assert {claim.delta for claim in published.claims} == {0.5, 0.01}
    assert published.warnings == ()


OPTIONAL = ("protocol", "certain", "hr", "source", "note", "approximate")


@pytest.mark.parametrize(
    "key", ["certain", "source", "note", "approximate", "paper", "complete", "best", "where"]
)
def test_null_is_as_if_left_out(tmp_path, key):
    without = read(tmp_path, GOOD.replace("    certain: false\n", ""))
    with_null = GOOD.replace("    certain: false\n", f"    {key}: null\n")
    assert read(tmp_path, with_null) == without


@pytest.mark.parametrize("key", ["protocol: edsr2017", "hr: 1280x720"])
def test_null_where_something_is_needed_is_refused(tmp_path, key):
    with pytest.raises(UserError, match=r"p\.yaml, line \d+ .*: no .* is given for"):
        read(tmp_path, GOOD.replace(key, f"{key.partition(':')[0]}: null"))


@pytest.mark.parametrize("key", ["errata", "claims"])
def test_no_errata_and_no_claims_may_be_null(tmp_path, key):
    published = read(tmp_path, f"{GOOD[: GOOD.index('    errata:')]}    {key}: null\n")
    assert published.claims == ()


@pytest.mark.parametrize("key", OPTIONAL)
def test_null_in_an_exception_is_as_if_left_out(tmp_path, key):
    head, tail = GOOD.split("    errata:")
    said = "approximate: true" if key == "note" else "note: a remark"
    one, other = (
        read(tmp_path, f"{head}    where: [{{at: {{method: A}}, {facts}}}]\n    errata:{tail}")
        for facts in (said, f"{said}, {key}: null")
    )
    assert one == other


def test_rising_psnr_and_unsupported_claims_are_warned_of(tmp_path):
    text = GOOD.replace("x3: {A: [[31, 0.9]", "x3: {A: [[38, 0.9]").replace(
        "[36, 0.96]", "[35, 0.96]"
    )
    rising, unsupported = read(tmp_path, text).warnings
    assert rising == "p/t: PSNR of A on Set5 rises from 35.5 dB at x2 to 38 dB at x3."
    assert "(Set5 x2 psnr) do not bear out that method B beats method A" in unsupported


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("certain: false", "certian: false", r"line 9 .*unknown key.*did you mean 'certain'"),
        ("source: slides of P", "sources: P", r"line 2.*unknown key.*did you mean 'source'"),
        ("paper: P\n", "", r"\(paper\): the key is missing"),
        ("title: a table", "title: 3", r"it should be a valid string, got '3'"),
        ("[psnr, ssim]", "[psnr, sim]", r"line 7 .*unknown metric 'sim'.*did you mean 'ssim'"),
        ("BSD100]", "BSD10]", r"unknown image set 'BSD10'.*did you mean"),
        ("x2: {A:", "x2: {C:", r"line 11 .*unknown method 'C'.*known are A, B"),
        ("      x3:", "      3:", r"line 12 .*'3' is not a scale such as x2"),
        ("      x3:", "      x0.5:", r"'x0.5' is not a scale"),
        ("edsr2017", "edsr2071", r"no protocol 'edsr2071'.*did you mean 'edsr2017'"),
        ("    protocol: edsr2017\n", "", r"no protocol is given"),
        ("    hr: 1280x720\n", "", r"no output size 'hr' is given"),
        ("1280x720", "720p", r"'720p' is not a size such as 1280x720"),
        ("certain: false", "certain: perhaps", r"it should be a valid boolean, got 'perhaps'"),
        ("      x3:", "      x2:", r"line 12: the key 'x2' stands twice"),
        ("BSD100]", "set-5]", r"line 11 .*this cell is given twice"),
        ("0.95]", "9.5]", r"t > cells > x2 > A > Set5 > ssim.*ssim 9.5 is impossible"),
        ("0.95]", "0]", r"ssim 0 is impossible"),
        ("[31, 0.9]", "[3.1, 0.9]", r"psnr 3.1 is impossible: it lies between 5 and 60"),
        ("[31, 0.9]", "[310, 0.9]", r"psnr 310 is impossible"),
        ("1.5M", "-1.5M", r"parameters -1.5e\+06 is impossible"),
        ("1.5M", "1.5T", r"'1.5T' is not a number of parameters"),
        ("[31, 0.9]", "[yes, 0.9]", r"'True' is not a number of psnr"),
        ("[31, 0.9]", "[.nan, 0.9]", r"'nan' is not a number of psnr"),
        ("[31, 0.9]", "[31]", r"line 12 .*expected a list of 2 \(by metric\), got 1 values"),
        ("[[31, 0.9], null]", "31", r"expected a list of 2 \(by set\), got 31"),
        ("{A: [[31, 0.9], null]}", "31", r"expected keys with values, got 31"),
        ("set: null", "sett: null", r"neither 'axes' nor 'common' gives the set"),
        ("common: {method: B,", "common: {method: B, metric: psnr,", r"'metric' is an axis twice"),
        ("right: 35.5", "right: 35.6", r"line 14 .*must hold 35.6, but it holds 35.5"),
        (", printed: 53.5", "", r"'right' needs 'printed' beside it"),
        (", metric: psnr}, printed", "}, printed", r"about one cell, but 2 are selected"),
        ("{at: {method: A, scale: x2", "{at: {method: A, scale: x4", r"no cell.* has scale '4.0'"),
        ("{at: {method: A", "{at: {unit: A", r"no cell of the table has unit 'A'"),
        ("worse: {method: A}", "worse: {scale: x3}", r"must have the same keys"),
        ("says: B", "delta: 1, says: B", r"line 16 .*the cells give the difference"),
        ("      x3: {A", "      x3: {A: [1", r"line \d+: "),
    ],
)
def test_mistakes_are_refused_with_their_place(tmp_path, old, new, words):
    assert old in GOOD
    with pytest.raises(UserError, match=words) as refused:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert str(tmp_path / "p.yaml") in str(refused.value)
    assert ", line " in str(refused.value)


@pytest.mark.parametrize(
    ("shared", "claim", "words"),
    [
        ("metric: psnr", "", "needs the claimed difference as 'delta'"),
        ("other: 1", ", delta: 1", "does not say which metric"),
    ],
)
def test_claims_without_cells_must_say_all(tmp_path, shared, claim, words):
    table = f"""\
  figure:
    title: a figure
    axes: [unit{", metric" if shared.startswith("other") else ""}]
    common: {{method: A, scale: null, set: null, {shared}}}
    claims: [{{better: {{unit: 2}}, worse: {{unit: 1}}{claim}}}]
"""
    with pytest.raises(UserError, match=words):
        read(tmp_path, GOOD + table)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no published numbers"):
        load_published(tmp_path)


def test_files_name_no_path_of_a_machine():
    for file in sorted((ROOT / "experiments" / "published").glob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        assert text.startswith("# "), "a file of published numbers says at its head whose they are"
        assert not any(word in text for word in ("/work", "/home", "seeds/", "specs/"))
