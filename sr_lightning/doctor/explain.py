"""Which ways of measuring give the number that somebody expected, and how sure is that?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sr_lightning.doctor.conventions import Explanation
from sr_lightning.errors import UserError

__all__ = ["Answer", "Expected", "explain"]

# Beyond the printed digits, what image decoders and other versions may change.
_NEAR_PSNR, _NEAR_SSIM = 0.02, 0.001

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
        text: as typed.
        psnr: in dB.
        ssim: None where only a PSNR was given.
        psnr_digits: decimals of the PSNR.
        ssim_digits: decimals of the SSIM.
    """

    text: str
    psnr: float
    ssim: float | None
    psnr_digits: int
    ssim_digits: int

    @classmethod
    def parse(cls, text: str) -> Expected:
        """Read ``PSNR`` or ``PSNR/SSIM``.

        Raises:
            UserError: it is neither.
        """
        parts = [part.strip() for part in text.replace(" ", "/").split("/") if part.strip()]
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            numbers = []
        if (
            len(numbers) not in {1, 2}
            or not 1 < numbers[0] < 100
            or not all(0 <= one <= 1 for one in numbers[1:])
        ):
            raise UserError(
                f"--expect takes PSNR or PSNR/SSIM, such as 32.21/0.8948, not '{text}'."
            )
        digits = [len(part.partition(".")[2]) for part in parts]
        return cls(
            text,
            numbers[0],
            numbers[1] if len(numbers) == 2 else None,
            digits[0],
            digits[1] if len(numbers) == 2 else 0,
        )

    @property
    def tolerance(self) -> tuple[float, float]:
        """Half of the last digit given, of PSNR and SSIM."""
        return 0.5 * 10**-self.psnr_digits + 2e-4, 0.5 * 10**-self.ssim_digits + 2e-5

    def cost(self, one: Explanation) -> float:
        """How unlikely an explanation is: -log of how common it is times how well it fits.

        That a number was printed with many digits tells much, that it is hundredths of a dB off
        tells little, and a way of measuring that hardly anybody uses needs good reasons.
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

    def gaps(self, one: Explanation) -> tuple[float, float]:
        """How far an explanation is off: dB and SSIM (0 where none is expected)."""
        similar = 0.0
        if self.ssim is not None:
            similar = math.inf if one.ssim is None else one.ssim - self.ssim
        return one.psnr - self.psnr, similar

    def band(self, one: Explanation) -> int:
        """0: agrees to the digits given; 1: near; 2: does not explain."""
        decibels, similar = map(abs, self.gaps(one))
        if decibels <= self.tolerance[0] and similar <= self.tolerance[1]:
            return 0
        near = max(_NEAR_PSNR, self.tolerance[0]), max(_NEAR_SSIM, self.tolerance[1])
        return 1 if decibels <= near[0] and similar <= near[1] else 2


@dataclass(frozen=True)
class Answer:
    """What explains an expected number.

    Attributes:
        expected: the number.
        ranked: explanations, best first: those that agree to the digits given or nearly, the
            likeliest first; then by distance.
        tried: number of combinations.
        chance: part of the numbers within half a dB that some combination would hit as well.
        psnr_alone: commonest combination that gives the PSNR, whatever its SSIM; None if none does.
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
        expected: the number.
        candidates: combinations with their PSNR, SSIM unknown or known.
        similarity: computes the SSIM of one; called only for those whose PSNR is near.
    """
    by_psnr = sorted(
        candidates, key=lambda one: (abs(one.psnr - expected.psnr), len(one.deviations))
    )
    if expected.ssim is not None:
        by_psnr = _with_ssim(expected, by_psnr, similarity)

    def order(one: Explanation) -> tuple[float, ...]:
        gaps = [abs(gap) / width for gap, width in zip(expected.gaps(one), _SCALES, strict=True)]
        # One of many pairs of deviations hits a number's digits easily: a nearly right base is
        # the better explanation.
        likely = (0, expected.cost(one)) if expected.band(one) < 2 else (1,)
        return (*likely, max(gaps))

    ranked = sorted(by_psnr, key=order)
    tolerance = expected.tolerance[0]
    giving = [one for one in by_psnr if abs(one.psnr - expected.psnr) <= tolerance]
    return Answer(
        expected,
        tuple(_worth_showing(expected, ranked)),
        len(candidates),
        _chance(candidates, expected, tolerance),
        max(giving, key=lambda one: math.prod(d.odds for d in one.deviations), default=None),
    )


def _worth_showing(expected: Expected, ranked: Sequence[Explanation]) -> list[Explanation]:
    """Those that fit, or the nearest ones, and always the base."""
    fitting = sum(expected.band(one) < 2 for one in ranked)
    kept = list(ranked[: max(_FEWEST, min(fitting, _SHOWN))])
    return kept + [one for one in ranked if not one.deviations and one not in kept]


def _with_ssim(
    expected: Expected, by_psnr: Sequence[Explanation], similarity: Callable[[Explanation], float]
) -> list[Explanation]:
    """The combinations of nearest PSNR and the base, with their SSIM.

    Once a number is explained to its digits, combinations of more deviations are not looked at.
    """
    near = [one for one in by_psnr if abs(one.psnr - expected.psnr) <= _NEAR_PSNR]
    looked_at: list[Explanation] = []
    for count in range(3):
        level = [one for one in near if len(one.deviations) == count]
        # Those that change SSIM alone must not crowd out the others, nor the other way round.
        kept = [one for one in level if not _is_about_ssim(one)][:_LOOKED_AT]
        kept += [one for one in level if _is_about_ssim(one)][:_LOOKED_AT]
        looked_at += [_measured(one, similarity) for one in kept]
        if any(expected.band(one) == 0 for one in looked_at):
            break
    if not near:
        looked_at = [_measured(one, similarity) for one in by_psnr[:_FEWEST]]
    known = {one.deviations for one in looked_at}
    base = [one for one in by_psnr if not one.deviations and one.deviations not in known]
    return looked_at + [_measured(one, similarity) for one in base]


def _measured(one: Explanation, similarity: Callable[[Explanation], float]) -> Explanation:
    if one.ssim is not None:
        return one
    return Explanation(one.deviations, one.psnr, similarity(one))


def _is_about_ssim(one: Explanation) -> bool:
    return any(deviation.axis == "ssim" for deviation in one.deviations)


def _chance(candidates: Sequence[Explanation], expected: Expected, tolerance: float) -> float:
    """Part of the numbers within the window that some combination hits to the digits given."""
    low, high = expected.psnr - _WINDOW, expected.psnr + _WINDOW
    covered, end = 0.0, low
    for psnr in sorted({one.psnr for one in candidates if math.isfinite(one.psnr)}):
        start, stop = max(psnr - tolerance, end), min(psnr + tolerance, high)
        if stop > start:
            covered += stop - start
            end = stop
    return covered / (high - low)
