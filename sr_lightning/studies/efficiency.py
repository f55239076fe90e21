"""The score of the NTIRE challenges on efficient super-resolution, as a named convention.

Source: the ranking of the NTIRE 2024 challenge (arXiv:2404.10343), kept in 2025 and 2026. Of
runtime, FLOPs and parameters each is set over that of a baseline network, ``exp(2 * ratio)`` is its
score, and 0.7, 0.15 and 0.15 of the three scores are added up: the baseline has e^2, 7.39, and less
is better. FLOPs are multiply-accumulates for an LR image of 256 x 256 at x4, as the challenge's
counter has them.

inferred: the baseline. The challenge's, RLFN and later EFDN, are not of this suite; IMDN, the
baseline of its first years, stands in their place, timed on the same machine.
"""

from __future__ import annotations

import math

from sr_lightning.studies.speeds import SpeedRow

__all__ = ["BASELINE", "SCALE", "ntire_score"]

BASELINE = "imdn_x4"
"""Experiment that others are compared with."""
SCALE = 4
"""The challenge's scale."""
_WEIGHTS = (0.7, 0.15, 0.15)


def ntire_score(row: SpeedRow, baseline: SpeedRow) -> float | None:
    """A network's score; None where one of the two was not timed.

    Args:
        row: Times and counts of the network.
        baseline: Those of the baseline on the same machine.
    """
    if row.ntire is None or baseline.ntire is None:
        return None
    ratios = (
        row.ntire / baseline.ntire,
        row.ntire_macs / baseline.ntire_macs,
        row.ntire_parameters / baseline.ntire_parameters,
    )
    try:
        scores = [math.exp(2 * ratio) for ratio in ratios]
    except OverflowError:
        return math.inf
    return sum(weight * score for weight, score in zip(_WEIGHTS, scores, strict=True))
