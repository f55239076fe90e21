"""What do these super-resolved images reach, under which protocol, and are the files sound?"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sr_lightning.data.batch import Batch
from sr_lightning.data.images import to_tensor
from sr_lightning.doctor.conventions import (
    Compared,
    Convention,
    Deviation,
    Explanation,
    combinations,
    deviations,
    set_psnrs,
)
from sr_lightning.doctor.diagnosis import Diagnosis, Finding, Numbers, Table, mean_numbers
from sr_lightning.doctor.estimators import is_colourless
from sr_lightning.doctor.explain import Answer, Expected, explain
from sr_lightning.doctor.pairs import FilePair, Progress, paired, scale_in_name
from sr_lightning.doctor.sets import hr_findings
from sr_lightning.doctor.sr_images import SRImages, examined, find_faults
from sr_lightning.errors import UserError
from sr_lightning.inference.evaluate import Evaluator
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.metrics.quality import METRICS, numbers_text

__all__ = ["diagnose_sr"]

_BASE = "edsr2017"

# Columns of the table of single images.
_SHOWN = (_BASE, "vdsr2016", "rgb")


def diagnose_sr(
    high: Sequence[Path],
    sr: Sequence[Path],
    scale: float | None = None,
    *,
    expected: Expected | None = None,
    per_image: bool = False,
    progress: Progress = lambda pairs, _: iter(pairs),
) -> Diagnosis:
    """Measure SR images under every protocol, look for faults, and explain an expected number.

    Args:
        high: HR files.
        sr: SR files.
        scale: Scale of the task; default: the one in file and folder names.
        expected: Mean over the set that the user expected.
        per_image: Show a row per image.
        progress: Goes through pairs and shows how far it has come.

    Raises:
        UserError: nothing can be paired or measured, or the scale is unknown.
    """
    pairs, said = paired(high, sr, "SR")
    looked = examined(pairs, scale or _named_scale(pairs), progress)
    findings = [*find_faults(looked), *said, *hr_findings(high)]
    findings.sort(key=lambda finding: finding.kind != "problem")
    means = {name: mean_numbers([one.rows[name] for one in looked.images]) for name in PROTOCOLS}
    facts: dict[str, Any] = {
        "scale": looked.scale,
        "images": len(looked.images),
        "means": means,
        "per_image": {one.name: one.rows for one in looked.images},
    }
    tables = [_protocol_table(means)]
    if per_image:
        tables.append(_image_table(looked))
    problems = [finding for finding in findings if finding.kind == "problem"]
    if expected is None:
        verdict = _plain_verdict(means[_BASE], problems, len(looked.images))
    else:
        answer = _answer(expected, looked, progress)
        facts["expectation"] = answer.as_json()
        tables.append(_answer_table(answer))
        verdict = _answer_verdict(means[_BASE], problems, answer)
    subject = f"SR images in {sr[0].parent if len(sr) > 1 else sr[0]}"
    return Diagnosis("sr", subject, verdict, tuple(findings), tuple(tables), facts)


def _named_scale(pairs: Sequence[FilePair]) -> float:
    for pair in pairs:
        named = scale_in_name(pair.other) or scale_in_name(pair.high)
        if named is not None:
            return named
    raise UserError(
        f"Neither {pairs[0].other} nor its folder names the scale, which sets the border that is "
        "cropped; add --scale, such as --scale 4."
    )


# ---- the expected number -------------------------------------------------------------------------


def _answer(expected: Expected, looked: SRImages, progress: Progress) -> Answer:
    images, scale = looked.compared, looked.scale
    known = deviations(_facts(looked, expected), looked.correction)
    tried = [Explanation(combination, math.nan, None) for combination in combinations(known)]
    conventions = [one.convention for one in tried]
    shown = progress([one.pair for one in looked.images], "Trying conventions")
    numbers = set_psnrs((image for _, image in zip(shown, images, strict=True)), conventions, scale)
    candidates = [
        replace(one, psnr=numbers[convention])
        for one, convention in zip(tried, conventions, strict=True)
    ]
    if (looked.upscaler or "").startswith("MATLAB"):
        candidates += _bicubic_rows(images, scale)

    @cache
    def similarity(convention: Convention) -> float:
        return float(np.nanmean([image.ssim(convention, scale) for image in images]))

    # Averaging of PSNR does not touch SSIM.
    return explain(
        expected, candidates, lambda one: similarity(replace(one.convention, pooled=False))
    )


def _facts(looked: SRImages, expected: Expected) -> set[str]:
    """What is true of the images, in the words of :func:`deviations`."""
    images = looked.compared
    smallest = min(min(one.sr.shape[:2]) for one in images)
    facts = {
        "colour": not all(is_colourless(one.sr) and is_colourless(one.hr) for one in images),
        "grey": any(one.grey for one in images),
        "equal": any(one.equal for one in images),
        "cut": any(one.others for one in images),
        "roomy": smallest > 2 * (round(looked.scale) + 6),
        "several": len(images) > 1,
        "truncated": looked.truncated,
        "untruncated": not looked.truncated,
        "unswapped": "swapped" not in looked.undone,
        "ssim": expected.ssim is not None,
    }
    return {fact for fact, true in facts.items() if true}


def _bicubic_rows(images: Sequence[Compared], scale: float) -> list[Explanation]:
    """The bicubic row as each protocol makes it from HR to SR, where its LR is not of 8 bits."""
    evaluator = Evaluator(None, [one for one in PROTOCOLS.values() if one.lr != "rgb_uint8"])
    rows = defaultdict(list)
    for image in images:
        # The LR image is made by each protocol.
        hr = to_tensor(image.hr)[None]
        batch = Batch(lr=hr, hr=hr, scale=scale, name=[""], grey=image.grey)
        for one in evaluator.measure(batch):
            rows[one.protocol.name].append(one.numbers)
    made = {
        name: f"the bicubic row made as protocol {name} makes it, from an LR image that is never "
        "rounded to 8 bits"
        for name in rows
    }
    return [
        Explanation((Deviation(name, "pipeline", 0.5, text),), **mean_numbers(rows[name]))
        for name, text in made.items()
    ]


# ---- conclusions ---------------------------------------------------------------------------------


def _plain_verdict(here: Numbers, problems: Sequence[Finding], count: int) -> str:
    what = f"The mean of {count} SR images is" if count > 1 else "The SR image has"
    number = (
        f"{what} {numbers_text(here)} (PSNR-Y / SSIM-Y, protocol {_BASE}, as most papers since "
        "2017)"
    )
    return (
        f"{number}, but {_first(problems)}."
        if problems
        else (f"{number}; nothing is wrong with the files.")
    )


def _first(problems: Sequence[Finding]) -> str:
    if len(problems) == 1:
        return problems[0].text
    more = f"{len(problems) - 1} more problem{'s' if len(problems) > 2 else ''} below"
    return f"{problems[0].text} ({more})"


def _answer_verdict(here: Numbers, problems: Sequence[Finding], answer: Answer) -> str:
    expected, best = answer.expected, answer.best
    have = f"Under protocol {_BASE} these images have {numbers_text(here)}."
    also = f" Besides, {_first(problems)}." if problems else ""
    if answer.band == 2:
        decibels, similar = map(abs, expected.gaps(best))
        off = f"{decibels:.2f} dB" + (f" and {similar:.4f} of SSIM" if expected.ssim else "")
        near = f"of {answer.tried} tried, the nearest is {off} off"
        if expected.ssim is not None and answer.psnr_alone is not None:
            similar = expected.gaps(answer.psnr_alone)[1]
            near = (
                f"its PSNR comes out with {answer.psnr_alone.text}, but SSIM is then "
                f"{similar:+.4f} off"
            )
        return f"No way of measuring explains the expected {expected.text}: {near}. {have}" + (
            f" A fault of the files may be the cause: {_first(problems)}."
            if problems
            else " The difference is in the images themselves: weights, LR images (see doctor "
            "--lr), self-ensemble or training."
        )
    if not best.deviations:
        if answer.band == 0:
            return f"The images have the expected {expected.text} under protocol {_BASE}.{also}"
        sentence = (
            f"The images are within hundredths of a dB of the expected {expected.text} under "
            f"protocol {_BASE}: {numbers_text(here)}"
        )
        if answer.exact is not None:
            sentence += (
                f"; its digits come out with {answer.exact.text}, which may well be a coincidence"
            )
        return f"{sentence}.{also}"
    degree = "comes out" if answer.band == 0 else "nearly comes out"
    sentence = f"The expected {expected.text} {degree} with {best.text}"
    if any(deviation.axis == "files" for deviation in best.deviations):
        also = f" The fault: {_first(problems)}."
    if count := len(answer.rivals):
        sentence += (
            f"; {count} other explanation{'s fit' if count > 1 else ' fits'} as well, and the "
            "images alone cannot tell which is true"
        )
    return f"{sentence}. {have}{also}"


def _protocol_table(means: Mapping[str, Numbers]) -> Table:
    """A row for each protocol that gives other numbers, and in a note, which give the same."""
    groups: dict[tuple[float, ...], list[str]] = defaultdict(list)
    for name, numbers in means.items():
        groups[tuple(numbers.values())].append(name)
    same = [
        f"{', '.join(names[1:])} {'give' if len(names) > 2 else 'gives'} the same as {names[0]}"
        for names in groups.values()
        if len(names) > 1
    ]
    rows = []
    for name, *_ in groups.values():
        cells = (METRICS[metric].text(value) for metric, value in means[name].items())
        rows.append((name, *cells, PROTOCOLS[name].summary))
    return Table(
        "Mean over images",
        ("protocol", *(METRICS[metric].heading for metric in means[_BASE]), ""),
        tuple(rows),
        f"On these files, {'; '.join(same)}." if same else "",
    )


def _image_table(looked: SRImages) -> Table:
    rows = (
        (one.name, *(numbers_text(one.rows[name], unit=False) for name in _SHOWN))
        for one in looked.images
    )
    return Table(
        "Each image: PSNR (dB) / SSIM",
        ("image", *_SHOWN),
        tuple(rows),
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
    similarity = ("SSIM", "gap") if expected.ssim is not None else ()
    note = (
        f"{answer.tried} combinations of at most two deviations were tried; "
        f"{100 * answer.chance:.0f} % of all PSNRs within half a dB would be hit by one of them by "
        f"chance{', before SSIM is looked at' if similarity else ''}."
    )
    headings = ("measured with", "PSNR (dB)", "gap", *similarity, "explains")
    return Table(f"What gives {expected.text}?", headings, tuple(rows), note)
