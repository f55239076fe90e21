"""Verdicts: the fit of level and seed, Holm's correction, every word, and seeds by power."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from test_studies import STUDY, entry, study_of

from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.studies import cli as study_cli
from sr_lightning.studies.additive import fit_additive, half_width, holm
from sr_lightning.studies.claims import Claim
from sr_lightning.studies.ledger import Ledger, RunRecord
from sr_lightning.studies.plan import MOST_SEEDS, needs, seconds_per_seed, seeds_for
from sr_lightning.studies.study import find_study, load_study, studies
from sr_lightning.studies.verdicts import against_reference, judge, primary_group

# ---- statistics ---------------------------------------------------------------------------------

# Box, Hunter and Hunter, Statistics for Experimenters: yields of penicillin by four processes in
# five blends; means 84, 85, 89, 86, residual sum of squares 226 with 12 degrees of freedom.
PENICILLIN = {
    "A": [89, 84, 81, 87, 79],
    "B": [88, 77, 87, 92, 81],
    "C": [97, 92, 87, 89, 80],
    "D": [94, 79, 85, 84, 88],
}


def table(rows: dict[str, list[float]]) -> dict[str, dict[int, float]]:
    return {level: dict(enumerate(values)) for level, values in rows.items()}


def test_fit_is_the_textbooks_randomised_blocks():
    fit = fit_additive(table(PENICILLIN))
    assert (fit.freedom, fit.seeds) == (12, 5)
    assert fit.variance == pytest.approx(226 / 12)
    found = fit.difference("C", "A")
    assert found.mean == pytest.approx(5)
    assert found.error == pytest.approx((2 * 226 / 12 / 5) ** 0.5)
    # t(0.975, 12) = 2.179
    assert found.half_width(0.05) == pytest.approx(2.179 * found.error, rel=1e-3)
    assert fit.difference("C", "nothing") is None


def test_fit_of_two_levels_is_the_paired_t_test():
    found = fit_additive(table({"a": [20.1, 25.2, 30.3], "b": [20.0, 25.0, 30.0]}))
    difference = found.difference("a", "b")
    assert difference.mean == pytest.approx(0.2)
    assert difference.half_width(0.05) == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)
    # t = 0.2 / (0.1 / sqrt 3) = 3.464 with 2 degrees of freedom
    assert difference.p == pytest.approx(0.0742, abs=1e-4)


def test_missing_cells_are_fitted_by_least_squares():
    # Without residuals every difference is exact, whichever cells are missing.
    level, seed = {"a": 0.0, "b": 1.0, "c": 3.0}, [20.0, 27.0, 22.0]
    whole = {name: {s: v + base for s, base in enumerate(seed)} for name, v in level.items()}
    del whole["a"][1], whole["c"][0]
    fit = fit_additive(whole)
    # 7 values less 3 levels and 3 seeds that share a mean.
    assert fit.freedom == 2
    assert fit.difference("c", "a").mean == pytest.approx(3)
    assert fit.difference("c", "a").error == pytest.approx(0, abs=1e-9)
    # With residuals: the normal equations, solved by hand with one seed as the origin.
    whole["b"][2] += 0.3
    rows = [(n, s, v) for n, by_seed in whole.items() for s, v in by_seed.items()]
    design = np.array(
        [[1, n == "b", n == "c", s == 1, s == 2] for n, s, _ in rows], dtype=np.float64
    )
    values = np.array([v for *_, v in rows])
    solved = np.linalg.solve(design.T @ design, design.T @ values)
    residuals = values - design @ solved
    covariance = np.linalg.inv(design.T @ design) * (residuals @ residuals / 2)
    found = fit_additive(whole).difference("c", "a")
    assert found.mean == pytest.approx(solved[2])
    assert found.error == pytest.approx(covariance[2, 2] ** 0.5, rel=1e-6)


def test_levels_that_no_seed_connects_have_no_difference():
    fit = fit_additive({"a": {0: 1.0, 1: 2.0}, "b": {2: 1.0, 3: 5.0}})
    assert fit.difference("a", "b") is None
    assert fit_additive({}).difference("a", "b") is None


def test_holm_is_the_textbooks():
    # Holm's procedure on four p-values: 0.005 x 4, 0.01 x 3, then 0.03 x 2 ends it.
    steps = holm([0.01, 0.04, 0.03, 0.005])
    assert [step.p for step in steps] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [step.alpha for step in steps] == pytest.approx([0.05 / 3, 0.025, 0.025, 0.0125])
    assert holm([]) == []


def test_intervals_at_holms_steps_leave_out_zero_just_where_he_finds_it():
    rng = np.random.default_rng(0)
    for _ in range(200):
        p_values = list(rng.uniform(0, 0.06, 5))
        for p, step in zip(p_values, holm(p_values), strict=True):
            assert (p <= step.alpha) == (step.p <= 0.05)


# ---- words --------------------------------------------------------------------------------------


def pair_of(gaps: list[float], base: float = 30.0) -> list[RunRecord]:
    entries = [entry("plain", s, base + s) for s in range(len(gaps))]
    return entries + [entry("full", s, base + s + gap) for s, gap in enumerate(gaps)]


def asking(tmp_path: Path, published: float | None = 0.1, name: str = "Set5"):
    claim = Claim("full", "plain", name, published, "here")
    return replace(study_of(tmp_path), claims=(claim,))


@pytest.mark.parametrize(
    ("gaps", "published", "word"),
    [
        ([0.10, 0.11, 0.09], 0.1, "agrees"),
        ([0.90, 0.91, 0.89], 0.1, "same sign, other size"),
        ([0.90, 0.91, 0.89], None, "same sign"),
        ([0.01, -0.01, 0.0], 0.1, "null"),
        ([0.01, -0.01, 0.0], None, "inconclusive"),
        ([-0.10, -0.11, -0.09], 0.1, "reversed"),
        ([-0.10, -0.11, -0.09], None, "reversed"),
        ([0.10, -0.05, 0.02], 0.1, "inconclusive"),
        ([0.5], 0.1, "inconclusive"),
        ([], 0.1, "not run"),
    ],
)
def test_words_follow_the_interval_and_the_published_difference(tmp_path, gaps, published, word):
    (verdict,) = judge(asking(tmp_path, published), pair_of(gaps))
    assert verdict.word == word
    assert (verdict.primary is None) == (not gaps)


def test_one_seed_has_a_difference_and_no_interval(tmp_path):
    (verdict,) = judge(asking(tmp_path), pair_of([0.5]))
    assert verdict.own.mean == pytest.approx(0.5)
    assert (verdict.own.half_width, verdict.own.p, verdict.own.corrected_p) == (None, None, None)


def test_levels_below_bicubic_are_not_judged_and_not_in_the_fit(tmp_path):
    text = STUDY.replace("full: {}", "full: {}\n  wild: {model.network.unit: adu_na}")
    claims = (
        Claim("full", "plain", "Set5", 0.1, ""),
        Claim("plain", "wild", "Set5", 0.1, ""),
    )
    study = replace(study_of(tmp_path, text), claims=claims)
    entries = pair_of([0.10, 0.11, 0.09]) + [entry("wild", s, 30 + s * s) for s in range(3)]
    for one in entries:
        # The wild level is 0.09 dB above bicubic on average, the others far more.
        cells = one.metrics["edsr2017"]["Set5_x4"]
        cells["bicubic"]["psnr"] = cells["HFDN"]["psnr"] - (0.09 if one.level == "wild" else 2)
    good, wild = judge(study, entries)
    assert (good.word, wild.word) == ("agrees", "not converged")
    assert wild.reason == "wild +0.09 dB against bicubic"
    assert (wild.own.half_width, good.own.estimate.freedom) == (None, 2)
    for one in entries:
        cells = one.metrics["edsr2017"]["Set5_x4"]
        cells["bicubic"]["psnr"] = cells["HFDN"]["psnr"] - 0.11
    good, wild = judge(study, entries)
    assert wild.word != "not converged"
    assert good.own.estimate.freedom == 4


def test_verdicts_go_by_the_corrected_interval_of_their_step(tmp_path):
    text = STUDY.replace("full: {}", "full: {}\n  third: {model.network.unit: adu_na}")
    claims = tuple(
        Claim(better, worse, "Set5", None, "")
        for better, worse in (("full", "plain"), ("third", "plain"), ("full", "third"))
    )
    study = replace(study_of(tmp_path, text), claims=claims)
    noise = [0.02, -0.02, 0.01, -0.01]
    entries = pair_of([0.2 + n for n in noise])
    entries += [entry("third", s, 30 + s + 0.03 - n) for s, n in enumerate(noise)]
    first, weak, other = judge(study, entries)
    assert first.word == other.word == "same sign"
    assert first.own.corrected_p == pytest.approx(3 * first.own.p)
    assert first.own.corrected_half_width > first.own.half_width
    # The last step is not corrected any more.
    assert weak.own.corrected_half_width == pytest.approx(weak.own.half_width)
    # A claim that the same difference answers does not count again.
    twice = judge(replace(study, claims=(*claims, claims[0])), entries)
    assert twice[0].own == first.own


def test_claim_of_a_set_that_is_not_here_is_not_judged_on_another(tmp_path):
    (verdict,) = judge(asking(tmp_path, 0.05, "Urban100"), pair_of([0.10, 0.11, 0.09]))
    assert (verdict.word, verdict.reason) == ("not measured", "Urban100 is not here")
    assert verdict.own is None
    assert verdict.shown.group == "Set5_x4"
    assert verdict.primary_word == "same sign"


def on_many_images(made: RunRecord, gaps: list[float], group: str = "B100_x4") -> RunRecord:
    images = {str(n): [25.0 + n + gap, 0.8] for n, gap in enumerate(gaps)}
    mean = sum(psnr for psnr, _ in images.values()) / len(images)
    made.metrics["edsr2017"][group] = {
        "bicubic": {"psnr": 20.0, "ssim": 0.7},
        "HFDN": {"psnr": mean, "ssim": 0.8, "images": images},
    }
    return made


def test_primary_set_is_judged_beside_the_papers_with_both_kinds_of_error(tmp_path):
    text = STUDY.replace("sets: [Set5]", "sets: [Set5, B100], primary: B100")
    claim = Claim("full", "plain", "Set5", 0.1, "")
    study = replace(study_of(tmp_path, text), claims=(claim,))
    entries = pair_of([0.10, 0.11, 0.09])
    for one in entries:
        gains = [0.1, 0.3, 0.2] if one.level == "full" else [0.0, 0.0, 0.0]
        on_many_images(one, [gain + one.seed / 100 for gain in gains])
    (verdict,) = judge(study, entries)
    assert verdict.own.group == "Set5_x4"
    assert verdict.primary.group == "B100_x4"
    assert verdict.primary.mean == pytest.approx(0.2)
    # Seeds agree, images do not: standard deviation 0.1 over three of them.
    assert verdict.primary.half_width == pytest.approx(0, abs=1e-6)
    assert verdict.primary.image_error == pytest.approx(0.1 / 3**0.5)
    assert verdict.primary_word == "same sign"


def test_without_the_primary_set_the_one_of_most_images_stands_for_it(tmp_path):
    text = STUDY.replace("sets: [Set5]", "sets: [Set5, B100], primary: B100")
    study = study_of(tmp_path, text)
    few = [on_many_images(entry("plain", 0, 30.0), [0, 0], "Set14_x4")]
    assert primary_group(study, few) == "Set14_x4"
    assert primary_group(study, few, 2.0) is None
    assert primary_group(study, [on_many_images(few[0], [0])]) == "B100_x4"


def test_levels_are_compared_with_the_reference(tmp_path):
    study = study_of(tmp_path, STUDY + "reference: plain\n")
    entries = pair_of([0.1, 0.2, 0.3])
    found = against_reference(study, "full", entries, "Set5_x4")
    assert found.mean == pytest.approx(0.2)
    assert found.half_width == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)
    assert found.deviation == pytest.approx(0.1)
    assert against_reference(study, "plain", entries, "Set5_x4") is None
    assert against_reference(study, "full", entries[:3], "Set5_x4") is None
    assert against_reference(study_of(tmp_path), "full", entries, "Set5_x4") is None


# ---- claims -------------------------------------------------------------------------------------


def test_claims_of_a_table_are_those_of_its_study():
    study = find_study("hfdn_supervision", ROOT)
    assert {(c.better, c.worse, c.set): c.published for c in study.claims} == {
        ("s&d", "d", "Set14"): 0.13,
        ("s&d", "d", "Urban100"): 0.04,
        ("s&d&m", "s&d", "Set14"): 0.26,
        ("s&d&m", "s&d", "Urban100"): 0.02,
        ("s&d&m", "d", "Set14"): 0.39,
        ("s&d&m", "d", "Urban100"): 0.06,
    }
    assert {c.scale for c in find_study("cirn_isab_x8", ROOT).claims} == {8}
    pairs = {(c.better, c.worse) for c in find_study("asdn_modules", ROOT).claims}
    assert {("CA", "none"), ("CA+SC", "SC"), ("CA+SA+SC", "SA+SC")} <= pairs
    between = {(c.better, c.worse): c.published for c in find_study("equal_steps_x4", ROOT).claims}
    assert between["EDSR-baseline", "HFDN"] == 0.23
    assert between["CIRN light", "VDSR"] is None


def test_every_study_judges_without_any_run():
    for study in studies(ROOT):
        assert {verdict.word for verdict in judge(study, [])} <= {"not run"}


def test_table_with_claims_at_several_scales_needs_one(tmp_path):
    text = (ROOT / "experiments" / "studies" / "cirn_isab_x4.yaml").read_text()
    path = tmp_path / "isab.yaml"
    path.write_text(text.replace("scale: 4\n", ""))
    with pytest.raises(UserError, match="claims at several scales; name the study's under 'scale'"):
        load_study(path, ROOT)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("factor: unit", "factor: unit\ntable: hfdn/nothing", "no published table 'hfdn/nothing'"),
        ("sets: [Set5]", "sets: [Set5], primary: B100", "primary set 'B100' is not among the sets"),
        ("seeds: 2", "seeds: 2\nmax_seeds: 1", "'max_seeds' is 1, less than the 2 of 'seeds'"),
        (
            "factor: unit",
            "factor: unit\nprinted: {fool: {table: hfdn/results, method: HFDN}}",
            "'printed' names the level 'fool'",
        ),
        (
            "factor: unit",
            "factor: unit\nprinted: {full: {table: hfdn/results, method: SRCNN}}",
            "hfdn/results prints no psnr of 'SRCNN'",
        ),
        (
            "factor: unit",
            "factor: unit\nprinted: {full: {table: hfdn/results, method: HFDN}, "
            "plain: {table: hfdn/results, method: VDSR}}\nscale: 4",
            "tables give the difference of 'full' and 'plain' on Set5; take 'published' out",
        ),
    ],
)
def test_mistakes_about_what_is_published_are_named(tmp_path, old, new, words):
    text = STUDY.replace("source: here", "published: 0.3, source: here")
    with pytest.raises(UserError, match=words):
        study_of(tmp_path, text.replace(old, new))


def test_claim_of_a_study_of_ones_own_states_its_difference(tmp_path):
    text = STUDY.replace("source: here", "published: 0.3, source: here")
    (claim,) = study_of(tmp_path, text).claims
    assert claim == Claim("full", "plain", "Set5", 0.3, "here")
    for study in studies(ROOT):
        assert "published:" not in study.file.read_text(), "the tables hold the numbers"


# ---- plan ---------------------------------------------------------------------------------------


def test_seeds_are_the_fewest_whose_interval_is_narrow_enough():
    # Two levels, residuals of 0.1 dB, half a difference of 0.2 dB:
    # n = 9: t(0.975, 8) = 2.306, 2.306 x 0.1 x sqrt(2/9) = 0.1087
    # n = 10: t(0.975, 9) = 2.262, 2.262 x 0.1 x sqrt(2/10) = 0.1012
    # n = 11: t(0.975, 10) = 2.228, 2.228 x 0.1 x sqrt(2/11) = 0.0950
    assert seeds_for(0.1, 0.1, levels=2) == 11
    # Four levels have more degrees of freedom: n = 9: t(0.975, 24) = 2.064, 0.0973.
    assert seeds_for(0.1, 0.1, levels=4) == 9
    assert half_width(0.1, 10) == pytest.approx(0.2228, abs=1e-4)
    assert seeds_for(1.0, 0.0, levels=2) == 2
    assert seeds_for(1e-6, 1.0, levels=2) == MOST_SEEDS


def timed(entries: list[RunRecord]) -> list[RunRecord]:
    seconds = {"plain": 1800.0, "full": 5400.0}
    return [replace(one, seconds=seconds[one.level]) for one in entries]


def test_plan_tells_seeds_and_hours_from_residuals_and_wall_times(tmp_path):
    # Gaps of standard deviation 0.1 are residuals of 0.1 / sqrt 2.
    study, entries = asking(tmp_path, 0.2), timed(pair_of([0.1, 0.2, 0.3]))
    (need,) = needs(study, judge(study, entries), entries)
    assert need.deviation == pytest.approx(0.1 / 2**0.5)
    # n = 6: t(0.975, 5) = 2.571, 2.571 x 0.1 / sqrt 6 = 0.105; n = 7: 2.447 x 0.1 / sqrt 7 = 0.092
    assert need.seeds == 7
    # Half an hour and an hour and a half for each of four more seeds.
    assert seconds_per_seed(study, entries) == 7200
    assert need.hours == pytest.approx(8)
    assert need.is_open


def test_plan_does_not_ask_where_there_is_nothing_to_tell(tmp_path):
    for published, gaps in ((None, [0.1, 0.2, 0.3]), (0.2, [0.1]), (0.2, [])):
        study, entries = asking(tmp_path, published), pair_of(gaps)
        (need,) = needs(study, judge(study, entries), entries)
        assert (need.seeds, need.is_open) == (None, False)
    assert seconds_per_seed(study, []) == 0


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    root = tmp_path / "checkout"
    (root / "experiments" / "studies").mkdir(parents=True)
    (root / "configs").mkdir()
    published = root / "experiments" / "published"
    published.mkdir()
    (published / "toy.yaml").write_text(
        "paper: Toy\nsource: Slides\nmethods: {Toy: null}\ntables:\n  unit:\n"
        "    title: The unit\n    axes: [unit]\n"
        "    common: {method: Toy, scale: x4, set: Set5, metric: psnr}\n"
        "    protocol: edsr2017\n    certain: false\n    cells: {plain: 29.80, full: 30.00}\n"
        "    claims: [{better: {unit: full}, worse: {unit: plain}}]\n"
    )
    shutil.copy(ROOT / "experiments" / "hfdn_x4.yaml", root / "experiments" / "hfdn_x4.yaml")
    text = STUDY.replace("paper: hfdn", "paper: toy\ntable: toy/unit\nmax_seeds: 9")
    text = re.sub(r"claims:\n.*\n", "", text).replace(
        "overlays: [configs/data/sample.yaml, configs/budget/quick.yaml]", "overlays: []"
    )
    (root / "experiments" / "studies" / "a_study.yaml").write_text(text)
    monkeypatch.chdir(root)
    return root


def test_plan_command_says_what_to_expect(checkout, capsys):
    main(["study", "plan", "a_study"])
    assert "Nothing has run at this budget: sr-lightning study run" in capsys.readouterr().out
    ledger = Ledger(checkout / "experiments" / "results")
    for one in timed(pair_of([0.1, 0.2, 0.3])):
        ledger.write(one)
    main(["study", "plan", "a_study"])
    said = " ".join(capsys.readouterr().out.split())
    assert "--seeds auto takes at most 7 seeds (limit 9), 8.00 hours more" in said
    assert "0 claims need more than the limit" in said


@pytest.mark.parametrize(("gap", "seeds"), [(0.001, [2]), (0.1, [2, 3, 4, 5, 6, 7]), (9.0, None)])
def test_auto_adds_seeds_until_the_interval_is_narrow_enough(checkout, monkeypatch, gap, seeds):
    """Residuals by seed in turn, so that their deviation stays what it is."""
    asked = []

    class FakeQueue:
        def __init__(self, study, budget, ledger, runs, *, seeds, workers, extra):
            asked.append(seeds)
            for seed in range(seeds):
                ledger.write(entry("plain", seed, 30.0))
                ledger.write(entry("full", seed, 30.2 + gap * (-1) ** seed))

        def run(self):
            return []

        def failures(self):
            return []

    monkeypatch.setattr(study_cli, "StudyQueue", FakeQueue)
    main(["study", "run", "a_study", "--seeds", "auto"])
    assert asked == (seeds if seeds is not None else list(range(2, 10)))


def test_number_of_seeds_that_is_none_is_refused(checkout, capsys):
    with pytest.raises(SystemExit):
        main(["study", "run", "a_study", "--seeds", "many"])
    assert "'many' is neither a number of seeds nor 'auto'" in capsys.readouterr().err
