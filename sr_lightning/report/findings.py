"""What the numbers say of the papers' claims: a sentence for each, from the verdicts alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sr_lightning.report.document import Finding, PaperView, StudyView
from sr_lightning.report.format import group_text
from sr_lightning.report.measurements import budget_text, reduces
from sr_lightning.studies.claims import Claim
from sr_lightning.studies.plan import MOST_SEEDS, Need
from sr_lightning.studies.published_cells import METRICS
from sr_lightning.studies.study import Study
from sr_lightning.studies.verdicts import CONVERGED_DB, UNDECIDED, WORDS, Difference, Verdict

__all__ = ["findings", "findings_summary"]

_WHY = {
    "agrees": "the interval lies above zero and contains the published difference",
    "same sign, other size": "the interval lies above zero without the published difference",
    "same sign": "the interval lies above zero",
    "null": "the interval contains zero and not the published difference",
    "reversed": "the interval lies below zero",
    "inconclusive": "the interval contains zero",
}


def findings(papers: Sequence[PaperView]) -> Iterator[Finding]:
    """A sentence for each verdict; claims that wait for runs share one.

    Args:
        papers: Papers with their studies, each at its highest budget first.
    """
    for paper in papers:
        for view in paper.studies:
            budget = budget_text(view.study, view.budget) if view.budget else "not run"
            for word, sentence in _sentences(view):
                yield Finding(paper.title, f"{view.study.title} ({budget})", word, sentence)


def findings_summary(papers: Sequence[PaperView], claimed: int, answered: int) -> str:
    """How many claims have which verdict, each counted once, with that of its highest budget.

    Args:
        papers: Papers with their studies, each at its highest budget first.
        claimed: Comparisons that the published tables claim.
        answered: How many of them have a verdict here.
    """
    best: dict[tuple[str, Claim], tuple[str, bool]] = {}
    for view in (view for paper in papers for view in paper.studies):
        for verdict in view.judged:
            key = (view.study.name, verdict.claim)
            if best.get(key, ("not run", False))[0] in UNDECIDED:
                smaller = view.budget is not None and reduces(view.study, view.budget)
                best[key] = (verdict.word, smaller)
    words = [word for word, _ in best.values()]
    counts = [f"{words.count(word)} {word}" for word in WORDS if word in words]
    said = "No study tests a claim of the papers yet."
    if counts:
        claims = "claim" if len(words) == 1 else "claims"
        said = f"Of {len(words)} {claims} that studies test here, {_and(counts)}."
    of_smaller = sum(is_smaller for word, is_smaller in best.values() if word not in UNDECIDED)
    if of_smaller:
        are = "is" if of_smaller == 1 else "are"
        said += f" Of these verdicts, {of_smaller} {are} of smaller networks than the papers'."
    if claimed:
        said += (
            f" The papers' tables claim {claimed:,} comparisons, of which {answered or 'none'} "
            f"{'have' if answered > 1 else 'has'} a verdict here."
        )
    return said


def _sentences(view: StudyView) -> Iterator[tuple[str, str]]:
    waiting: dict[tuple[str, str], list[Verdict]] = {}
    for verdict, need in zip(view.judged, view.needs, strict=True):
        if verdict.word == "not run":
            sides = (verdict.claim.better, verdict.claim.worse)
            waiting.setdefault(sides, []).append(verdict)
        else:
            yield verdict.word, _sentence(view.study, verdict) + _need(need)
    claims = []
    for (better, worse), verdicts in waiting.items():
        published = _published(view.study, verdicts)
        claims.append(f"{better} against {worse}{f' (published: {published})' * bool(published)}")
    if claims:
        yield "not run", f"Not run: {'; '.join(claims)}."


def _sentence(study: Study, verdict: Verdict) -> str:
    """What was measured of a claim on its own set and on the one of many images."""
    claim, own, primary = verdict.claim, verdict.own, verdict.primary
    said = f"{claim.better} minus {claim.worse}"
    if own is None:
        said += f" on {claim.set}: {verdict.word}, {verdict.reason}."
    else:
        said += f" is {_measured(study, own)}: {verdict.word}, {_why(verdict, own)}."
    if published := _published(study, [verdict]):
        said += f" Published: {published}."
    if primary is not None and (own is None or primary.group != own.group):
        said += f" Primary set: {_measured(study, primary)}, {verdict.primary_word}."
    return said


def _measured(study: Study, found: Difference) -> str:
    """The measured difference with the interval that the verdict goes by."""
    seeds, digits = len(found.seeds), study.measure.digits + 1
    half = found.corrected_half_width
    shown = f"{found.mean:+.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")
    where = f"on {group_text(found.group)} over {seeds} seed{'s' if seeds != 1 else ''}"
    return f"{shown}{_unit(study)} {where}"


def _why(verdict: Verdict, own: Difference) -> str:
    if own.unconverged:
        return f"{verdict.reason}, less than {CONVERGED_DB:g} dB"
    return "one seed gives no interval" if own.half_width is None else _WHY[verdict.word]


def _need(need: Need) -> str:
    """What would make the interval narrow enough, where it is not."""
    if not need.is_open or need.hours is None:
        return ""
    if need.seeds == MOST_SEEDS:
        return f" To tell would take over {MOST_SEEDS:,} seeds."
    return f" To tell would take {need.seeds} seeds, {need.hours:.1f} hours more."


def _published(study: Study, verdicts: Sequence[Verdict]) -> str:
    """What the paper prints for the claims, or nothing."""
    digits = study.measure.digits
    claims = [verdict.claim for verdict in verdicts]
    return _and(
        [
            f"{claim.published:+.{digits}f}{_unit(study)} on {claim.set}"
            for claim in claims
            if claim.published is not None
        ]
    )


def _unit(study: Study) -> str:
    unit = METRICS[study.measure.metric].unit
    return f" {unit}" if unit else ""


def _and(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
