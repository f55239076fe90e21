"""What the numbers say of the papers' claims: a sentence for each, from the verdicts alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sr_lightning.studies.published_cells import METRICS
from sr_lightning.studies.report.evidence import budget_text, reduces
from sr_lightning.studies.report.views import Finding, Findings, PaperView, StudyView
from sr_lightning.studies.report.words import group_text
from sr_lightning.studies.study import Claim, Study
from sr_lightning.studies.verdicts import Verdict

__all__ = ["findings"]

_WORDS = ("replicated", "not replicated", "inconclusive", "not run")


def findings(papers: Sequence[PaperView], claimed: int, answered: int) -> Findings:
    """What all studies found.

    Args:
        papers: with their studies, each at its highest budget first.
        claimed: comparisons that the published tables claim.
        answered: how many of them have a verdict here.
    """
    listed = [
        Finding(paper.title, _heading(view), word, sentence)
        for paper in papers
        for view in paper.studies
        for word, sentence in _sentences(view)
    ]
    # A claim counts once, with the verdict of its highest budget.
    best: dict[tuple[str, Claim], tuple[str, bool]] = {}
    for view in (view for paper in papers for view in paper.studies):
        for verdict in view.judged:
            key = (view.study.name, verdict.claim)
            if best.get(key, ("not run", False))[0] == "not run":
                best[key] = (verdict.word, _is_smaller(view))
    return Findings(_summary(list(best.values()), claimed, answered), tuple(listed))


def _summary(found: Sequence[tuple[str, bool]], claimed: int, answered: int) -> str:
    words = [word for word, _ in found]
    counts = [f"{words.count(word)} {word}" for word in _WORDS if word in words]
    said = "No study tests a claim of the papers yet."
    if counts:
        claims = "claim" if len(words) == 1 else "claims"
        said = f"Of {len(words)} {claims} that studies test here, {_and(counts)}."
    smaller = sum(is_smaller for word, is_smaller in found if word != "not run")
    if smaller:
        said += (
            f" Of these verdicts, {smaller} {'is' if smaller == 1 else 'are'} of smaller networks "
            "than the papers'."
        )
    if claimed:
        said += (
            f" The papers' tables claim {claimed:,} comparisons, of which {answered or 'none'} "
            f"{'have' if answered > 1 else 'has'} a verdict here."
        )
    return said


def _heading(view: StudyView) -> str:
    budget = budget_text(view.study, view.budget) if view.budget else "not run"
    return f"{view.study.title} ({budget})"


def _is_smaller(view: StudyView) -> bool:
    return view.budget is not None and reduces(view.study, view.budget)


def _sentences(view: StudyView) -> Iterator[tuple[str, str]]:
    """Verdicts and sentences of a study; claims that the same numbers answer share one."""
    shared: dict[tuple[str, str, str], list[Verdict]] = {}
    waiting: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in view.judged:
        sides = (verdict.claim.better, verdict.claim.worse)
        if verdict.word == "not run":
            waiting.setdefault(sides, []).append(verdict)
        else:
            shared.setdefault((*sides, verdict.set), []).append(verdict)
    for verdicts in shared.values():
        published = _published(view.study, verdicts)
        said = f" Published: {published}." if published else ""
        yield verdicts[0].word, _sentence(view.study, verdicts[0]) + said
    if waiting:
        claims = []
        for (better, worse), verdicts in waiting.items():
            published = _published(view.study, verdicts)
            claims.append(
                f"{better} against {worse}" + (f" (published: {published})" if published else "")
            )
        yield "not run", f"Not run: {'; '.join(claims)}."


def _sentence(study: Study, verdict: Verdict) -> str:
    """What was measured of a claim."""
    better, worse = verdict.claim.better, verdict.claim.worse
    seeds = len(verdict.seeds)
    where = f"on {group_text(verdict.set)} over {seeds} seed{'s' if seeds != 1 else ''}"
    if verdict.word == "replicated":
        return f"{better} beats {worse} by {_gap(study, verdict)} {where}: replicated."
    if verdict.word == "not replicated":
        return (
            f"{better} falls behind {worse} by {_gap(study, verdict)} {where}: not replicated, "
            "the order is reversed."
        )
    # Neither beats the other: the difference is told as it is.
    why = "one seed gives no interval" if seeds < 2 else "the interval holds zero"
    gap = _gap(study, verdict, "+")
    return f"{better} minus {worse} is {gap} {where}: inconclusive, {why}."


def _published(study: Study, verdicts: Sequence[Verdict]) -> str:
    """What the paper prints for the claims, or nothing."""
    printed = [
        f"{_printed(study, verdict.claim.published)} on {verdict.claim.set}"
        for verdict in verdicts
        if verdict.claim.published is not None
    ]
    return _and(printed) if printed else ""


def _gap(study: Study, verdict: Verdict, sign: str = "") -> str:
    """The measured difference with its error bar."""
    assert verdict.mean is not None
    digits = {"psnr": 3, "ssim": 5}[study.measure.metric]
    mean = verdict.mean if sign else abs(verdict.mean)
    half = f" ± {verdict.half_width:.{digits}f}" if verdict.half_width is not None else ""
    return f"{mean:{sign}.{digits}f}{half}{_unit(study)}"


def _printed(study: Study, value: float) -> str:
    digits = {"psnr": 2, "ssim": 4}[study.measure.metric]
    return f"{value:+.{digits}f}{_unit(study)}"


def _unit(study: Study) -> str:
    unit = METRICS[study.measure.metric].unit
    return f" {unit}" if unit else ""


def _and(parts: Sequence[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last
