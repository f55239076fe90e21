"""How many seeds a study needs: until half of an interval is below half of a published difference.

It goes by the width of the interval alone, never by where it lies, so that adding seeds until it is
narrow enough does not favour any verdict.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from sr_lightning.studies.additive import half_width
from sr_lightning.studies.claims import Claim
from sr_lightning.studies.ledger import RunRecord
from sr_lightning.studies.study import Study
from sr_lightning.studies.verdicts import Difference, Verdict, fit_of

__all__ = ["MOST_SEEDS", "Need", "needs", "seconds_per_seed", "seeds_for"]

MOST_SEEDS = 1000
"""More than any claim is worth."""


@dataclass(frozen=True)
class Need:
    """What a claim still costs.

    Attributes:
        claim: Claim of the study.
        found: What was measured of it, or None.
        target: Half of the published difference; None where no size is published.
        deviation: Standard deviation of the residuals, or None where it is not known.
        seeds: Seeds that all levels need for it, or None where that cannot be told.
        hours: Hours of training that the seeds which are not there would take, one run after
            another.
    """

    claim: Claim
    found: Difference | None
    target: float | None
    deviation: float | None = None
    seeds: int | None = None
    hours: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the interval is there and still too wide."""
        half = None if self.found is None else self.found.half_width
        return self.target is not None and half is not None and half > self.target


def needs(study: Study, verdicts: Sequence[Verdict], entries: Sequence[RunRecord]) -> list[Need]:
    """What each claim needs, from the residuals and wall times of the runs so far.

    Args:
        study: Study with its claims.
        verdicts: Verdicts on them.
        entries: Entries of one budget, that the verdicts are from.
    """
    return [_need(study, verdict, entries) for verdict in verdicts]


def _need(study: Study, verdict: Verdict, entries: Sequence[RunRecord]) -> Need:
    claim, found = verdict.claim, verdict.own
    target = abs(claim.published) / 2 if claim.published else None
    if found is None or found.half_width is None:
        return Need(claim, found, target)
    fit = fit_of(study, entries, found.group)
    deviation = math.sqrt(fit.variance or 0.0)
    if target is None:
        return Need(claim, found, target, deviation)
    seeds = seeds_for(target, deviation, len(fit.levels))
    more = max(0, seeds - len(found.seeds))
    return Need(
        claim, found, target, deviation, seeds, more * seconds_per_seed(study, entries) / 3600
    )


def seeds_for(target: float, deviation: float, levels: int) -> int:
    """The fewest seeds that make half of a 95% interval no wider than a target.

    Args:
        target: Half width that is wanted.
        deviation: Standard deviation of the residuals of level + seed.
        levels: Levels of the study, all of which have all seeds.

    Returns:
        At least 2 and at most :data:`MOST_SEEDS`, which stands for "more".
    """
    for seeds in range(2, MOST_SEEDS):
        error = deviation * math.sqrt(2 / seeds)
        if half_width(error, (levels - 1) * (seeds - 1)) <= target:
            return seeds
    return MOST_SEEDS


def seconds_per_seed(study: Study, entries: Sequence[RunRecord]) -> float:
    """Wall time of one seed of all levels; a level that has no run takes the others' mean.

    Args:
        study: Study with its levels.
        entries: Entries of one budget.
    """
    by_level: dict[str, list[float]] = {}
    for entry in entries:
        by_level.setdefault(entry.level, []).append(entry.seconds)
    means = [statistics.fmean(seconds) for seconds in by_level.values()]
    return statistics.fmean(means) * len(study.levels) if means else 0.0
