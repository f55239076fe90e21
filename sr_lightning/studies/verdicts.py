"""Does a paper's claim hold here? Differences of levels with intervals, and a rule for words."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from sr_lightning.studies.additive import AdditiveFit, Estimate, fit_additive, holm
from sr_lightning.studies.claims import Claim
from sr_lightning.studies.ledger import RunRecord, measured_metrics
from sr_lightning.studies.study import Study

__all__ = [
    "CONVERGED_DB",
    "PAIRED",
    "RULE",
    "UNDECIDED",
    "WORDS",
    "Difference",
    "Verdict",
    "Word",
    "against_reference",
    "differences",
    "fit_of",
    "group_at",
    "judge",
    "level_values",
    "mean_and_deviation",
    "primary_group",
    "tested_groups",
    "unconverged",
    "word_of",
]

CONVERGED_DB = 0.1
"""A level is judged once its mean PSNR passes bicubic's by this much on the same set."""

PAIRED = (
    "Differences are from one fit of level and seed over all levels, with 95% t-intervals that are "
    "not corrected for their number."
)
RULE = (
    "All levels of a study share patches and their order within a seed; the metric is fitted as"
    " level + seed, with one residual variance over all levels, and differences get Student's "
    "t-intervals. The unit of replication is the seed; images are fixed. The verdict goes by "
    "the corrected interval: the one at the step of Holm's procedure, over the claims of a "
    "study at one budget, at which the claim is decided (Holm has no simple simultaneous "
    "intervals); it leaves out zero exactly if the corrected p is at most 0.05. Agrees: the "
    "interval lies above zero and contains the published difference. Same sign, other size: "
    "above zero without it; same sign: no size is published. Null: it contains zero and not the"
    " published difference. Reversed: it lies below zero. Inconclusive: it contains zero and "
    "the published difference if there is one, or there is only one seed. Not converged: a "
    f"level has not passed bicubic by {CONVERGED_DB:g} dB on that set; it is not judged and not "
    "part of the fit. A claim is judged on the set that it was published on; beside it stands "
    "the primary set of many images, corrected over all pairs there."
)

Word = Literal[
    "agrees",
    "same sign, other size",
    "same sign",
    "null",
    "reversed",
    "inconclusive",
    "not converged",
    "not measured",
    "not run",
]
WORDS: tuple[Word, ...] = get_args(Word)
UNDECIDED: tuple[Word, ...] = ("not measured", "not run")
"""Words of claims that no number speaks to."""

_ALPHA = 0.05
_Pair = tuple[str, str]


@dataclass(frozen=True)
class Difference:
    """One level less another on one set.

    Attributes:
        better: Level that a claim says is better.
        worse: The other level.
        group: Set and scale that were measured, such as ``Set5_x4``.
        seeds: Seeds that both levels have.
        mean: Mean of the difference, by the fit over all levels; of the pairs alone where a level
            has not converged.
        deviation: Standard deviation of the paired differences over seeds, or None for fewer than
            two.
        estimate: The fit's, or None where a level has not converged.
        corrected_half_width: Half of the interval at the claim's step of Holm's procedure.
        corrected_p: P-value after Holm's procedure.
        image_error: Standard error over images of the mean difference, the seeds' mean being taken
            first: how much another choice of images could change it. None for fewer than two.
        unconverged: Levels of the two that have not passed bicubic.
    """

    better: str
    worse: str
    group: str
    seeds: tuple[int, ...]
    mean: float
    deviation: float | None = None
    estimate: Estimate | None = None
    corrected_half_width: float | None = None
    corrected_p: float | None = None
    image_error: float | None = None
    unconverged: tuple[str, ...] = ()

    @property
    def half_width(self) -> float | None:
        """Half of the 95% interval, or None where there is none."""
        return None if self.estimate is None else self.estimate.half_width(_ALPHA)

    @property
    def p(self) -> float | None:
        """Two-sided p-value, or None."""
        return None if self.estimate is None else self.estimate.p


@dataclass(frozen=True)
class Verdict:
    """What the measured cells say of a claim.

    Attributes:
        claim: Claim of the paper.
        word: The verdict, from the claim's own set.
        own: Measured on the set that the claim was published on, or None.
        primary: Measured on the study's set of many images, or None.
        primary_word: The verdict from that.
        reason: Why there is no verdict, or nothing.
    """

    claim: Claim
    word: Word
    own: Difference | None
    primary: Difference | None
    primary_word: Word
    reason: str = ""

    @property
    def shown(self) -> Difference | None:
        """What the verdict is about; where its own set was not measured, the primary one."""
        return self.own or self.primary


# What was measured -------------------------------------------------------------------------------


def tested_groups(study: Study, entries: Iterable[RunRecord]) -> list[str]:
    """Sets and scales that entries have numbers on (``Set5_x4``), the study's own sets first."""
    found: dict[str, None] = {}
    for entry in entries:
        for group in entry.metrics.get(study.measure.protocol, {}):
            found[group] = None
    order = {name: place for place, name in enumerate(study.measure.sets)}
    return sorted(found, key=lambda group: order.get(_set_of(group), len(order)))


def group_at(groups: Sequence[str], set: str, scale: float | None) -> str | None:
    """The group of a set, at a scale where one is given; None where it was not measured."""
    end = "" if scale is None else f"_x{scale:g}"
    found = [group for group in groups if _set_of(group) == set and group.endswith(end)]
    return found[0] if found else None


def primary_group(
    study: Study, entries: Sequence[RunRecord], scale: float | None = None
) -> str | None:
    """The study's primary set; where it was not measured, the measured set of most images.

    Args:
        study: Study of the entries.
        entries: Entries of one budget.
        scale: Scale that is asked for, or None for any.
    """
    groups = tested_groups(study, entries)
    own = group_at(groups, study.measure.primary, scale)
    if own is not None:
        return own

    def images(group: str) -> int:
        return max(len(_cells(study, entry, group)[0].get("images", ())) for entry in entries)

    fitting = [group for group in groups if group_at([group], _set_of(group), scale)]
    return max(fitting, key=images, default=None)


def _set_of(group: str) -> str:
    return group.rpartition("_x")[0]


def _cells(
    study: Study, entry: RunRecord, group: str
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The network's numbers on a group and bicubic's; empty where there are none."""
    cells = entry.metrics.get(study.measure.protocol, {}).get(group, {})
    own = [cell for method, cell in cells.items() if method != "bicubic"]
    return (own[0] if own else {}), cells.get("bicubic", {})


def level_values(
    study: Study, entries: Iterable[RunRecord], group: str
) -> dict[str, dict[int, float]]:
    """The measured metric by level and seed.

    Args:
        study: Which metric and protocol.
        entries: Entries of one budget.
        group: Set and scale, such as ``Set5_x4``.
    """
    values: dict[str, dict[int, float]] = {level: {} for level in study.levels}
    for entry in entries:
        value = entry.value(study.measure.metric, study.measure.protocol, group)
        if value is not None and entry.level in values:
            values[entry.level][entry.seed] = value
    return values


def _gains(study: Study, entries: Iterable[RunRecord], group: str) -> dict[str, dict[int, float]]:
    """The same with distances negated, so that more is better of every metric."""
    sign = study.measure.sign
    return {
        level: {seed: sign * value for seed, value in values.items()}
        for level, values in level_values(study, entries, group).items()
    }


def mean_and_deviation(values: Mapping[int, float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation over seeds; None where there are too few."""
    numbers = list(values.values())
    if not numbers:
        return None, None
    spread = statistics.stdev(numbers) if len(numbers) > 1 else None
    return statistics.fmean(numbers), spread


def unconverged(study: Study, entries: Iterable[RunRecord], group: str) -> dict[str, float]:
    """Levels that have not passed bicubic by :data:`CONVERGED_DB`, and how far they are above it.

    Args:
        study: Which protocol.
        entries: Entries of one budget.
        group: Set and scale, such as ``Set5_x4``.
    """
    gains: dict[str, list[float]] = {}
    for entry in entries:
        own, bicubic = _cells(study, entry, group)
        if own and bicubic:
            gains.setdefault(entry.level, []).append(own["psnr"] - bicubic["psnr"])
    means = {level: statistics.fmean(found) for level, found in gains.items()}
    return {level: gain for level, gain in means.items() if gain < CONVERGED_DB}


# Differences -------------------------------------------------------------------------------------


def fit_of(study: Study, entries: Sequence[RunRecord], group: str) -> AdditiveFit:
    """The fit of level and seed over all levels that have converged; more is better.

    Args:
        study: Study of the levels.
        entries: Entries of one budget.
        group: Set and scale that were measured.
    """
    failing = unconverged(study, entries, group)
    values = _gains(study, entries, group)
    return fit_additive({level: v for level, v in values.items() if level not in failing})


def differences(
    study: Study, pairs: Iterable[_Pair], entries: Sequence[RunRecord], group: str
) -> dict[_Pair, Difference]:
    """Differences of levels on one set, from one fit; pairs without a shared seed are left out.

    Args:
        study: Study of the levels.
        pairs: Pairs of levels, the one that should be better first.
        entries: Entries of one budget.
        group: Set and scale that were measured.
    """
    values = _gains(study, entries, group)
    failing = unconverged(study, entries, group)
    fit = fit_of(study, entries, group)
    found = {}
    for better, worse in pairs:
        seeds = tuple(sorted(values[better].keys() & values[worse].keys()))
        if not seeds:
            continue
        gaps = [values[better][seed] - values[worse][seed] for seed in seeds]
        estimate = fit.difference(better, worse)
        found[better, worse] = Difference(
            better,
            worse,
            group,
            seeds,
            mean=statistics.fmean(gaps) if estimate is None else estimate.mean,
            deviation=statistics.stdev(gaps) if len(gaps) > 1 else None,
            estimate=estimate,
            image_error=_image_error(study, entries, group, (better, worse), seeds),
            unconverged=tuple(level for level in (better, worse) if level in failing),
        )
    return found


def _image_error(
    study: Study, entries: Iterable[RunRecord], group: str, pair: _Pair, seeds: Sequence[int]
) -> float | None:
    """Standard error of the mean over images of their differences."""
    gaps: dict[str, float] = {}
    for entry in entries:
        if entry.level in pair and entry.seed in seeds:
            sign = 1 if entry.level == pair[0] else -1
            cell, _ = _cells(study, entry, group)
            if study.measure.metric not in cell:
                continue
            place = measured_metrics(cell).index(study.measure.metric)
            for image, measured in cell.get("images", {}).items():
                gaps[image] = gaps.get(image, 0.0) + sign * measured[place] / len(seeds)
    return statistics.stdev(gaps.values()) / math.sqrt(len(gaps)) if len(gaps) > 1 else None


def _corrected(found: Sequence[Difference | None]) -> list[Difference | None]:
    """The same with Holm's correction; claims that one difference answers count once."""
    family = list(dict.fromkeys(one for one in found if one is not None and one.p is not None))
    steps = dict(zip(family, holm([one.p or 0.0 for one in family], _ALPHA), strict=True))
    corrected: list[Difference | None] = []
    for one in found:
        if one is not None and one in steps and one.estimate is not None:
            step = steps[one]
            width = one.estimate.half_width(step.alpha)
            one = replace(one, corrected_half_width=width, corrected_p=step.p)
        corrected.append(one)
    return corrected


# Verdicts ----------------------------------------------------------------------------------------


def word_of(published: float | None, found: Difference | None) -> Word:
    """The verdict on a claim that one level beats another.

    Args:
        published: The paper's difference, or None where only the order is known.
        found: The corrected difference, or None where nothing was measured.
    """
    if found is None:
        return "not run"
    if found.unconverged:
        return "not converged"
    half = found.corrected_half_width
    if half is None:
        return "inconclusive"
    low, high = found.mean - half, found.mean + half
    if high < 0:
        return "reversed"
    if published is None:
        return "same sign" if low > 0 else "inconclusive"
    if low > 0:
        return "agrees" if low <= published <= high else "same sign, other size"
    return "inconclusive" if low <= published <= high else "null"


def judge(study: Study, entries: Sequence[RunRecord]) -> list[Verdict]:
    """The verdicts on all claims of a study, in their order.

    Args:
        study: Study with its claims.
        entries: Entries of one budget.
    """
    groups = tested_groups(study, entries)
    own_groups = [group_at(groups, claim.set, claim.scale) for claim in study.claims]
    primary_groups = [primary_group(study, entries, claim.scale) for claim in study.claims]
    pairs = {(claim.better, claim.worse) for claim in study.claims}
    measured = {group: differences(study, pairs, entries, group) for group in groups}

    def of(claims_groups: Sequence[str | None]) -> list[Difference | None]:
        return _corrected(
            [
                None if group is None else measured[group].get((claim.better, claim.worse))
                for claim, group in zip(study.claims, claims_groups, strict=True)
            ]
        )

    return [
        _verdict(study, claim, own, primary, entries)
        for claim, own, primary in zip(
            study.claims, of(own_groups), of(primary_groups), strict=True
        )
    ]


def _verdict(
    study: Study,
    claim: Claim,
    own: Difference | None,
    primary: Difference | None,
    entries: Sequence[RunRecord],
) -> Verdict:
    word, reason = word_of(claim.published, own), ""
    if own is None and primary is not None:
        word, reason = "not measured", f"{claim.set} is not here"
    elif own is not None and own.unconverged:
        gains = unconverged(study, entries, own.group)
        reason = ", ".join(f"{level} {gains[level]:+.2f} dB" for level in own.unconverged)
        reason += " against bicubic"
    published = None
    if primary is not None:
        published = study.published(claim.better, claim.worse, _set_of(primary.group))
    return Verdict(claim, word, own, primary, word_of(published, primary), reason)


def against_reference(
    study: Study, level: str, entries: Sequence[RunRecord], group: str
) -> Difference | None:
    """A level less the study's reference; None where there is nothing to compare.

    Args:
        study: Study with a reference or without.
        level: Level of the study.
        entries: Entries of one budget.
        group: Set and scale that were measured.
    """
    if study.reference is None or level == study.reference:
        return None
    pair = (level, study.reference)
    return differences(study, [pair], entries, group).get(pair)
