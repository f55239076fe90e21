"""Does the paper's claim hold here? Differences paired by seed, with an interval and a rule."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sr_lightning.studies.ledger import Entry
from sr_lightning.studies.study import Claim, Study

__all__ = [
    "PAIRED",
    "RULE",
    "Verdict",
    "against_reference",
    "group_of",
    "judge",
    "level_values",
    "mean_and_deviation",
    "tested_groups",
]

PAIRED = "Differences are paired by seed, with 95% t-intervals."
RULE = (
    "Differences are paired by seed: both sides saw the same patches in the same order for as many "
    "steps. Replicated: the 95% t-interval of the mean difference lies above zero. Not "
    "replicated: it lies below zero. Inconclusive: it contains zero, or there is only one seed."
)

# Two-sided 95% quantiles of Student's t by degrees of freedom.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)

Word = Literal["replicated", "not replicated", "inconclusive", "not run"]


@dataclass(frozen=True)
class Verdict:
    """What the measured cells say of a claim.

    Attributes:
        claim: of the paper.
        word: the verdict.
        mean: measured mean difference (better - worse), or None.
        deviation: standard deviation over seeds, or None for fewer than two.
        half_width: half of the 95% interval, or None.
        seeds: that both levels have.
        set: that was measured; at the quick budget it is not the paper's.
    """

    claim: Claim
    word: Word
    mean: float | None
    deviation: float | None
    half_width: float | None
    seeds: tuple[int, ...]
    set: str


def tested_groups(study: Study, entries: Iterable[Entry]) -> list[str]:
    """Sets and scales that entries have numbers on (``Set5_x4``), the study's own sets first."""
    found: dict[str, None] = {}
    for entry in entries:
        for group in entry.metrics.get(study.measure.protocol, {}):
            found[group] = None
    order = {name: place for place, name in enumerate(study.measure.sets)}
    return sorted(found, key=lambda group: order.get(group.rpartition("_x")[0], len(order)))


def group_of(claim: Claim, groups: Sequence[str]) -> str:
    """The measured set that speaks for a claim: the claim's own, or else the first.

    Args:
        claim: of the paper.
        groups: as :func:`tested_groups` gives them; of none, the claim's set is returned.
    """
    own = [group for group in groups if group.rpartition("_x")[0] == claim.set]
    return (own or [*groups] or [claim.set])[0]


def level_values(study: Study, entries: list[Entry], group: str) -> dict[str, dict[int, float]]:
    """The measured metric by level and seed.

    Args:
        study: which metric and protocol.
        entries: of one budget.
        group: set and scale, such as ``Set5_x4``.
    """
    values: dict[str, dict[int, float]] = {level: {} for level in study.levels}
    for entry in entries:
        value = entry.value(study.measure.metric, study.measure.protocol, group)
        if value is not None and entry.level in values:
            values[entry.level][entry.seed] = value
    return values


def mean_and_deviation(values: Mapping[int, float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation over seeds; None where there are too few."""
    numbers = list(values.values())
    if not numbers:
        return None, None
    spread = statistics.stdev(numbers) if len(numbers) > 1 else None
    return statistics.fmean(numbers), spread


def judge(study: Study, claim: Claim, entries: list[Entry], group: str) -> Verdict:
    """Compare the two levels of a claim.

    Args:
        study: that the claim belongs to.
        claim: of the paper.
        entries: of one budget.
        group: set and scale that were measured.
    """
    values = level_values(study, entries, group)
    better, worse = values[claim.better], values[claim.worse]
    seeds = tuple(sorted(set(better) & set(worse)))
    gaps = [better[seed] - worse[seed] for seed in seeds]
    if not gaps:
        return Verdict(claim, "not run", None, None, None, (), group)
    mean = statistics.fmean(gaps)
    if len(gaps) < 2:
        return Verdict(claim, "inconclusive", mean, None, None, seeds, group)
    deviation = statistics.stdev(gaps)
    freedom = len(gaps) - 1
    quantile = _T95[min(freedom, len(_T95)) - 1]
    half = quantile * deviation / math.sqrt(len(gaps))
    word: Word = "inconclusive"
    if mean - half > 0:
        word = "replicated"
    elif mean + half < 0:
        word = "not replicated"
    return Verdict(claim, word, mean, deviation, half, seeds, group)


def against_reference(study: Study, level: str, entries: list[Entry], group: str) -> Verdict | None:
    """A level less the study's reference, paired by seed; None where there is nothing to compare.

    Args:
        study: with a reference or without.
        level: of the study.
        entries: of one budget.
        group: set and scale that were measured.
    """
    if study.reference is None or level == study.reference:
        return None
    pair = Claim(level, study.reference, group.rpartition("_x")[0], None, "")
    found = judge(study, pair, entries, group)
    return None if found.mean is None else found
