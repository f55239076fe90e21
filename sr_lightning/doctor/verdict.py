"""What a check of SR images concludes: verdict, tables, and facts for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sr_lightning.doctor.checked import Checked
from sr_lightning.doctor.diagnosis import Diagnosis, Finding, Numbers, Table, mean_numbers
from sr_lightning.doctor.explain import Answer
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.metrics.quality import METRICS, numbers_text

__all__ = ["conclude"]


def conclude(
    checked: Checked,
    scale: float,
    subject: str,
    findings: list[Finding],
    answer: Answer | None,
    per_image: bool,
) -> Diagnosis:
    """Put together what was found.

    Args:
        checked: the images.
        scale: of the task.
        subject: what was looked at, for the title.
        findings: problems first.
        answer: to the expected number, if there was one.
        per_image: show a row per image.
    """
    means = {name: mean_numbers([one.rows[name] for one in checked.images]) for name in PROTOCOLS}
    tables = [_protocol_table(means)]
    if per_image:
        tables.append(_image_table(checked))
    if answer is not None:
        tables.append(_answer_table(answer))
    here = means["edsr2017"]
    verdict = (
        _plain_verdict(here, findings, checked)
        if answer is None
        else _answer_verdict(here, findings, answer)
    )
    facts: dict[str, Any] = {
        "scale": scale,
        "images": len(checked.images),
        "means": means,
        "per_image": {one.pair.other.name: one.rows for one in checked.images},
    }
    if answer is not None:
        facts["expectation"] = answer.as_json()
    return Diagnosis("sr", subject, verdict, tuple(findings), tuple(tables), facts)


def _plain_verdict(here: Numbers, findings: Sequence[Finding], checked: Checked) -> str:
    count = len(checked.images)
    what = f"The mean of {count} SR images is" if count > 1 else "The SR image has"
    number = (
        f"{what} {numbers_text(here)} (PSNR-Y / SSIM-Y, protocol edsr2017, as most papers since "
        "2017)"
    )
    problems = [finding for finding in findings if finding.kind == "problem"]
    if not problems:
        return f"{number}; nothing is wrong with the files."
    return f"{number}, but {_first(problems)}."


def _first(problems: Sequence[Finding]) -> str:
    if len(problems) == 1:
        return problems[0].text
    more = f"{len(problems) - 1} more problem{'s' if len(problems) > 2 else ''} below"
    return f"{problems[0].text} ({more})"


def _answer_verdict(here: Numbers, findings: Sequence[Finding], answer: Answer) -> str:
    expected, best = answer.expected, answer.best
    have = f"Under protocol edsr2017 these images have {numbers_text(here)}."
    problems = [finding for finding in findings if finding.kind == "problem"]
    also = f" Besides, {_first(problems)}." if problems else ""
    if answer.band < 2 and not best.deviations:
        if answer.band == 0:
            return f"The images have the expected {expected.text} under protocol edsr2017.{also}"
        sentence = (
            f"The images are within hundredths of a dB of the expected {expected.text} under "
            f"protocol edsr2017: {numbers_text(here)}"
        )
        if answer.exact is not None:
            sentence += (
                f"; its digits come out with {answer.exact.text}, which may well be a coincidence"
            )
        return f"{sentence}.{also}"
    if answer.band < 2:
        degree = "comes out" if answer.band == 0 else "nearly comes out"
        sentence = f"The expected {expected.text} {degree} with {best.text}"
        if any(deviation.axis == "files" for deviation in best.deviations):
            also = f" The fault: {_first(problems)}."
        if answer.rivals:
            count = len(answer.rivals)
            sentence += (
                f"; {count} other explanation{'s fit' if count > 1 else ' fits'} as well, and the "
                "images alone cannot tell which is true"
            )
        return f"{sentence}. {have}{also}"
    decibels, _ = expected.gaps(best)
    near = f"of {answer.tried} tried, the nearest is {abs(decibels):.2f} dB off"
    alone = answer.psnr_alone
    if expected.ssim is not None and alone is not None:
        similar = expected.gaps(alone)[1]
        near = f"its PSNR comes out with {alone.text}, but SSIM is then {similar:+.4f} off"
    return f"No way of measuring explains the expected {expected.text}: {near}. {have}" + (
        f" A fault of the files may be the cause: {_first(problems)}."
        if problems
        else " The difference is in the images themselves: weights, LR images (see doctor "
        "--lr), self-ensemble or training."
    )


def _protocol_table(means: Mapping[str, Numbers]) -> Table:
    """A row for each protocol that gives other numbers, and in a note, which give the same."""
    groups: dict[tuple[float, ...], list[str]] = {}
    for name, numbers in means.items():
        groups.setdefault(tuple(numbers.values()), []).append(name)
    same = [
        f"{', '.join(names[1:])} {'give' if len(names) > 2 else 'gives'} the same as {names[0]}"
        for names in groups.values()
        if len(names) > 1
    ]
    return Table(
        "Mean over images",
        ("protocol", *(METRICS[metric].heading for metric in means["edsr2017"]), ""),
        tuple(
            (
                names[0],
                *(METRICS[metric].text(value) for metric, value in means[names[0]].items()),
                PROTOCOLS[names[0]].summary,
            )
            for names in groups.values()
        ),
        f"On these files, {'; '.join(same)}." if same else "",
    )


def _image_table(checked: Checked) -> Table:
    shown = ("edsr2017", "vdsr2016", "rgb")
    return Table(
        "Each image: PSNR (dB) / SSIM",
        ("image", *shown),
        tuple(
            (
                one.pair.other.name,
                *(numbers_text(one.rows[name], unit=False) for name in shown),
            )
            for one in checked.images
        ),
        "The other protocols are in the file that --json writes.",
    )


def _answer_table(answer: Answer) -> Table:
    expected = answer.expected
    rows = []
    for one in answer.ranked:
        decibels, similar = expected.gaps(one)
        cells = [one.text, f"{one.psnr:.2f}", f"{decibels:+.3f}"]
        if expected.ssim is not None:
            known = one.ssim is not None
            cells += [f"{one.ssim:.4f}" if known else "-", f"{similar:+.4f}" if known else "-"]
        rows.append((*cells, ("yes", "nearly", "no")[expected.band(one)]))
    headings = ["measured with", "PSNR (dB)", "gap"]
    if expected.ssim is not None:
        headings += ["SSIM", "gap"]
    note = (
        f"{answer.tried} combinations of at most two deviations were tried; "
        f"{100 * answer.chance:.0f} % of all PSNRs within half a dB would be hit by one of them by "
        "chance" + (", before SSIM is looked at." if expected.ssim is not None else ".")
    )
    return Table(f"What gives {expected.text}?", (*headings, "explains"), tuple(rows), note)
