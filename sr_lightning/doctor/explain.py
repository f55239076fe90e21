"""Which ways of measuring give the number that somebody expected, and how sure is that?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sr_lightning.doctor.conventions import Explanation
from sr_lightning.errors import UserError

__all__ = ["Answer", "Expected", "explain"]

# Beyond the printed digits, what image decoders and other versions may change: dB and SSIM.
_NEAR = 0.02, 0.001

# A random number is compared with all combinations within this many dB.
_WINDOW = 0.5

# SSIM takes time and is computed for those whose PSNR is near only, and for no more than these.
_LOOKED_AT = 8

# One number in so many is only nearly what the same way of measuring gives elsewhere, because of
# decoders and versions; the distance then falls off with these scales (Laplace), in dB and SSIM.
_INEXACT, _SCALES = 0.3, (0.01, 0.0005)

# An explanation that is no more than e times less likely than the best one fits as well.
_AS_WELL = 1.0

# Rows for people.
_SHOWN, _FEWEST = 6, 3


@dataclass(frozen=True)
class Expected:
    """The number that a user expected, such as ``32.21/0.8948``.

    Attributes:
        text: What was typed.
        psnr: PSNR in dB.
        ssim: SSIM; None where only a PSNR was given.
        tolerance: Half of the last digit given, of PSNR and of SSIM.
    """

    text: str
    psnr: float
    ssim: float | None
    tolerance: tuple[float, float]

    @classmethod
    def parse(cls, text: str) -> Expected:
        """Read ``PSNR`` or ``PSNR/SSIM``.

        Raises:
            UserError: it is neither.
        """
        parts = text.replace("/", " ").split()
        try:
            psnr, *rest = map(float, parts)
            if not 1 < psnr < 100 or len(rest) > 1 or not all(0 <= one <= 1 for one in rest):
                raise ValueError
        except ValueError:
            raise UserError(
                f"--expect takes PSNR or PSNR/SSIM, such as 32.21/0.8948, not '{text}'."
            ) from None
        halves = [0.5 * 10 ** -len(part.partition(".")[2]) for part in (*parts, "0")]
        tolerance = halves[0] + 2e-4, halves[1] + 2e-5
        return cls(text, psnr, rest[0] if rest else None, tolerance)

    def gaps(self, one: Explanation) -> tuple[float, float]:
        """How far an explanation is off: dB and SSIM (0 where none is expected)."""
        similar = 0.0
        if self.ssim is not None:
            similar = math.inf if one.ssim is None else one.ssim - self.ssim
        return one.psnr - self.psnr, similar

    def cost(self, one: Explanation) -> float:
        """How unlikely an explanation is: -log of how common it is times how well it fits.

        That a number was printed with many digits counts much, that it is hundredths of a dB off
        counts little, and a way of measuring that hardly anybody uses needs good reasons.
        """
        likely = sum(math.log(deviation.odds) for deviation in one.deviations)
        for gap, half, width in zip(self.gaps(one), self.tolerance, _SCALES, strict=True):
            if abs(gap) <= half:
                likely += math.log(1 - _INEXACT)
            else:
                # The part of a Laplace density that lies within the digits given.
                inside = min(0.0, math.log(half / width))
                likely += math.log(_INEXACT) + inside - (abs(gap) - half) / width
        return -likely

    def band(self, one: Explanation) -> int:
        """0 where an explanation agrees to the digits given, 1 where nearly, 2 where it fails."""
        gaps = [abs(gap) for gap in self.gaps(one)]
        if all(gap <= half for gap, half in zip(gaps, self.tolerance, strict=True)):
            return 0
        near = map(max, _NEAR, self.tolerance)
        return 1 if all(gap <= most for gap, most in zip(gaps, near, strict=True)) else 2


@dataclass(frozen=True)
class Answer:
    """What explains an expected number.

    Attributes:
        expected: The number.
        ranked: Explanations, best first: those that agree to the digits given or nearly, the
            likeliest first; then by distance.
        tried: Number of combinations.
        chance: Part of the numbers within half a dB that some combination would hit as well.
        psnr_alone: Commonest combination that gives the PSNR, whatever its SSIM; None if none does.
    """

    expected: Expected
    ranked: tuple[Explanation, ...]
    tried: int
    chance: float
    psnr_alone: Explanation | None = None

    @property
    def best(self) -> Explanation:
        """The first."""
        return self.ranked[0]

    @property
    def band(self) -> int:
        """How well the best one fits; see :meth:`Expected.band`."""
        return self.expected.band(self.best)

    @property
    def exact(self) -> Explanation | None:
        """The first that agrees to the digits given."""
        return next((one for one in self.ranked if self.expected.band(one) == 0), None)

    @property
    def rivals(self) -> list[Explanation]:
        """Others that fit as well and are about as common."""
        limit = self.expected.cost(self.best) + _AS_WELL
        return [
            one
            for one in self.ranked[1:]
            if self.expected.band(one) == self.band and self.expected.cost(one) <= limit
        ]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "expected": self.expected.text,
            "explained": self.band < 2,
            "combinations_tried": self.tried,
            "chance_of_a_coincidence": self.chance,
            "ranked": [
                {
                    "deviations": [deviation.key for deviation in one.deviations],
                    "text": one.text,
                    "psnr": one.psnr,
                    "ssim": one.ssim,
                    "agreement": ("digits", "near", "no")[self.expected.band(one)],
                }
                for one in self.ranked
            ],
        }


def explain(
    expected: Expected,
    candidates: Sequence[Explanation],
    similarity: Callable[[Explanation], float],
) -> Answer:
    """Rank combinations by how well they give an expected number.

    Args:
        expected: The number.
        candidates: Combinations with their PSNR, SSIM unknown or known.
        similarity: Function that computes the SSIM of one; called for those of near PSNR only.
    """
    by_psnr = sorted(
        candidates, key=lambda one: (abs(one.psnr - expected.psnr), len(one.deviations))
    )
    tolerance = expected.tolerance[0]
    if expected.ssim is not None:
        by_psnr = _with_ssim(expected, by_psnr, similarity)

    def order(one: Explanation) -> tuple[float, ...]:
        gaps = [abs(gap) / width for gap, width in zip(expected.gaps(one), _SCALES, strict=True)]
        # One of many pairs of deviations hits a number's digits easily: a nearly right base is
        # the better explanation.
        likely = (0, expected.cost(one)) if expected.band(one) < 2 else (1,)
        return (*likely, max(gaps))

    ranked = sorted(by_psnr, key=order)
    fitting = sum(expected.band(one) < 2 for one in ranked)
    shown = ranked[: max(_FEWEST, min(fitting, _SHOWN))]
    shown += [one for one in ranked if not one.deviations and one not in shown]
    giving = [one for one in by_psnr if abs(one.psnr - expected.psnr) <= tolerance]
    return Answer(
        expected,
        tuple(shown),
        len(candidates),
        _chance(candidates, expected.psnr, tolerance),
        max(giving, key=lambda one: math.prod(d.odds for d in one.deviations), default=None),
    )


def _with_ssim(
    expected: Expected, by_psnr: Sequence[Explanation], similarity: Callable[[Explanation], float]
) -> list[Explanation]:
    """The combinations of nearest PSNR and the base, with their SSIM.

    Once a number is explained to its digits, combinations of more deviations are not looked at.
    """

    def measured(one: Explanation) -> Explanation:
        return one if one.ssim is not None else replace(one, ssim=similarity(one))

    near = [one for one in by_psnr if abs(one.psnr - expected.psnr) <= _NEAR[0]]
    looked_at = [] if near else [measured(one) for one in by_psnr[:_FEWEST]]
    for count in range(3):
        # Those that change SSIM alone must not crowd out the others, nor the other way round.
        for about_ssim in (False, True):
            level = [
                one
                for one in near
                if len(one.deviations) == count
                and any(deviation.axis == "ssim" for deviation in one.deviations) == about_ssim
            ]
            looked_at += [measured(one) for one in level[:_LOOKED_AT]]
        if near and any(expected.band(one) == 0 for one in looked_at):
            break
    known = {one.deviations for one in looked_at}
    base = [one for one in by_psnr if not one.deviations and one.deviations not in known]
    return looked_at + [measured(one) for one in base]


def _chance(candidates: Sequence[Explanation], psnr: float, tolerance: float) -> float:
    """Part of the numbers within the window that some combination hits to the digits given."""
    low, high = psnr - _WINDOW, psnr + _WINDOW
    covered, end = 0.0, low
    for one in sorted({one.psnr for one in candidates if math.isfinite(one.psnr)}):
        start, stop = max(one - tolerance, end), min(one + tolerance, high)
        if stop > start:
            covered += stop - start
            end = stop
    return covered / (high - low)
