"""The statistics of studies: a fit of level and seed, Student's t, and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

__all__ = ["AdditiveFit", "Estimate", "Step", "fit_additive", "half_width", "holm"]

# Differences of PSNR that are no more than the rounding of sums.
_DIGITS = 9


@dataclass(frozen=True)
class Estimate:
    """A difference of two levels.

    Attributes:
        mean: Mean of the difference.
        error: Its standard error, or None where no residual is left to estimate it from.
        freedom: Degrees of freedom of that error.
    """

    mean: float
    error: float | None
    freedom: int

    @property
    def p(self) -> float | None:
        """Two-sided p-value of the difference being zero, or None without an error."""
        if self.error is None:
            return None
        if self.error == 0:
            return 0.0 if self.mean else 1.0
        return float(2 * stdtr(self.freedom, -abs(self.mean) / self.error))

    def half_width(self, alpha: float) -> float | None:
        """Half of the interval that misses the true difference with probability `alpha`."""
        return None if self.error is None else half_width(self.error, self.freedom, alpha)


def half_width(error: float, freedom: int, alpha: float = 0.05) -> float:
    """Half of Student's two-sided interval.

    Args:
        error: Standard error.
        freedom: Its degrees of freedom.
        alpha: Probability of missing the true value, in (0, 1).
    """
    return float(stdtrit(freedom, 1 - alpha / 2)) * error


@dataclass(frozen=True)
class AdditiveFit:
    """Least squares of ``value[level, seed] = mean + level + seed + residual``.

    Attributes:
        levels: Levels that have values.
        variance: Variance of the residuals, pooled over all levels; None where none are left.
        freedom: Degrees of freedom of the variance.
        seeds: Number of seeds that have values.
    """

    levels: tuple[str, ...]
    variance: float | None
    freedom: int
    seeds: int
    _design: npt.NDArray[np.float64]
    _inverse: npt.NDArray[np.float64]
    _effects: npt.NDArray[np.float64]

    def difference(self, better: str, worse: str) -> Estimate | None:
        """The effect of one level less that of another; None where the values do not tell it."""
        if not {better, worse} <= set(self.levels):
            return None
        contrast = np.zeros(len(self._effects))
        contrast[self.levels.index(better)] += 1
        contrast[self.levels.index(worse)] -= 1
        weights = contrast @ self._inverse
        if not np.allclose(weights @ self._design, contrast):
            return None
        error = None
        if self.variance is not None:
            error = math.sqrt(self.variance * float(weights @ weights))
        return Estimate(round(float(contrast @ self._effects), _DIGITS), error, self.freedom)


def fit_additive(values: Mapping[str, Mapping[int, float]]) -> AdditiveFit:
    """Fit level and seed at once; where all levels have all seeds it is the two-way table's fit.

    Args:
        values: Values by level, then seed; some may be missing.
    """
    levels = tuple(level for level, by_seed in values.items() if by_seed)
    seeds = sorted({seed for by_seed in values.values() for seed in by_seed})
    rows = [
        (place, len(levels) + seeds.index(seed), value)
        for place, level in enumerate(levels)
        for seed, value in values[level].items()
    ]
    design = np.zeros((len(rows), len(levels) + len(seeds)))
    for row, (level, seed, _) in enumerate(rows):
        design[row, [level, seed]] = 1
    measured = np.array([value for *_, value in rows])
    inverse = np.asarray(np.linalg.pinv(design), np.float64)
    effects = inverse @ measured
    rank = int(np.linalg.matrix_rank(design)) if rows else 0
    freedom = len(rows) - rank
    residuals = np.round(measured - design @ effects, _DIGITS)
    variance = float(residuals @ residuals) / freedom if freedom > 0 else None
    return AdditiveFit(levels, variance, freedom, len(seeds), design, inverse, effects)


@dataclass(frozen=True)
class Step:
    """What Holm's procedure says of one of several p-values.

    Attributes:
        p: Adjusted: the smallest family-wise level at which it is significant.
        alpha: Share of the family-wise level that it was compared with where it was decided. The
            interval at this level holds zero exactly if the adjusted p-value is not significant.
    """

    p: float
    alpha: float


def holm(p_values: Sequence[float], alpha: float = 0.05) -> list[Step]:
    """Holm's step-down correction, in the order given.

    The smallest of m p-values is compared with alpha / m, the next with alpha / (m - 1) and so on.
    At the first that is not significant the procedure ends, and the rest share its level.

    Args:
        p_values: p-values of one family of tests.
        alpha: Probability that any of them is significant by chance.
    """
    steps = [Step(1.0, alpha)] * len(p_values)
    adjusted, level, ended = 0.0, alpha, False
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    for place, index in enumerate(order):
        left = len(p_values) - place
        adjusted = max(adjusted, min(1.0, left * p_values[index]))
        level = level if ended else alpha / left
        ended = ended or p_values[index] > level
        steps[index] = Step(adjusted, level)
    return steps
