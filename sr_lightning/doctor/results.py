"""What are these super-resolved images worth, under which protocol, and are the files sound?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from sr_lightning.data.degradation import bicubic_up, degrade
from sr_lightning.data.images import to_tensor
from sr_lightning.data.integrity import listed
from sr_lightning.doctor.checked import Checked, examine, interpolation
from sr_lightning.doctor.conventions import (
    Compared,
    Convention,
    Deviation,
    Explanation,
    combinations,
    deviations,
    set_psnrs,
)
from sr_lightning.doctor.diagnosis import Diagnosis, mean_numbers
from sr_lightning.doctor.estimators import is_colourless
from sr_lightning.doctor.explain import Answer, Expected, explain
from sr_lightning.doctor.faults import Correction, common_correction, find_faults, is_truncated
from sr_lightning.doctor.known_sets import hr_findings
from sr_lightning.doctor.pairs import FilePair, pair_files, pairing_findings, scale_in_name
from sr_lightning.doctor.verdict import conclude
from sr_lightning.errors import UserError
from sr_lightning.metrics.protocol import PROTOCOLS, Protocol

__all__ = ["diagnose_results"]

Progress = Callable[[Sequence[FilePair], str], Iterator[FilePair]]


def diagnose_results(
    high: Sequence[Path],
    sr: Sequence[Path],
    scale: float | None = None,
    *,
    expected: Expected | None = None,
    subject: str = "SR images",
    per_image: bool = False,
    progress: Progress | None = None,
) -> Diagnosis:
    """Measure SR images under every protocol, look for faults, and explain an expected number.

    Args:
        high: HR files.
        sr: SR files.
        scale: of the task; default: what file and folder names tell.
        expected: mean over the set that the user expected.
        subject: what is looked at, for the title.
        per_image: show a row per image.
        progress: shows progress over pairs.

    Raises:
        UserError: nothing can be paired or measured, or the scale is unknown.
    """
    pairing = pair_files(high, sr)
    if not pairing.pairs:
        raise UserError(
            f"No SR file in {sr[0].parent} belongs to an HR file in {high[0].parent} by its name "
            f"({sr[0].name}, {high[0].name}); name matching folders in --hr and --sr."
        )
    scale = scale or _told_scale(pairing.pairs)
    shown = progress or (lambda pairs, _: iter(pairs))
    checked = Checked()
    for pair in shown(pairing.pairs, "Measuring"):
        image = examine(pair, scale, checked)
        if image is not None:
            checked.images.append(image)
    if not checked.images:
        raise UserError(
            f"No SR image has a size that can be compared: {listed(checked.strange, 2)}; upscale "
            "them by the scale first, or use --lr for LR images."
        )
    correction = common_correction(checked)
    truncated = is_truncated(checked, correction)
    if correction.text:
        checked.images = [
            replace(
                one, compared=replace(one.compared, corrected=correction.applied(one.compared.sr))
            )
            for one in checked.images
        ]
    findings = [
        *find_faults(checked, correction, truncated, scale),
        *pairing_findings(pairing, "SR"),
        *hr_findings(high),
    ]
    findings.sort(key=lambda finding: finding.kind != "problem")
    answer = None
    if expected is not None:
        answer = _answer(expected, checked, scale, correction, truncated, shown)
    return conclude(checked, scale, subject, findings, answer, per_image)


def _told_scale(pairs: Sequence[FilePair]) -> float:
    for pair in pairs:
        told = scale_in_name(pair.other) or scale_in_name(pair.high)
        if told is not None:
            return told
    raise UserError(
        f"Neither {pairs[0].other} nor its folder tells the scale, which sets the border that is "
        "cropped; add --scale, such as --scale 4."
    )


# ---- the expected number -------------------------------------------------------------------------


def _answer(
    expected: Expected,
    checked: Checked,
    scale: float,
    correction: Correction,
    truncated: bool,
    shown: Progress,
) -> Answer:
    images = [one.compared for one in checked.images]
    known = deviations(_facts(images, scale, expected, correction, truncated), correction.text)
    tried = [Explanation(combination, math.nan, None) for combination in combinations(known)]
    conventions = [one.convention for one in tried]
    pairs = [one.pair for one in checked.images]
    looked_at = zip(shown(pairs, "Trying conventions"), images, strict=True)
    numbers = set_psnrs((image for _, image in looked_at), conventions, scale)
    candidates = [
        replace(one, psnr=numbers[convention])
        for one, convention in zip(tried, conventions, strict=True)
    ]
    if (interpolation(checked) or "").startswith("MATLAB"):
        candidates += [
            _pipeline(protocol, images, scale)
            for protocol in PROTOCOLS.values()
            if protocol.lr != "rgb_uint8"
        ]

    @cache
    def similarity(convention: Convention) -> float:
        return float(np.nanmean([image.ssim(convention, scale) for image in images]))

    # Averaging of PSNR does not touch SSIM.
    return explain(
        expected, candidates, lambda one: similarity(replace(one.convention, pooled=False))
    )


def _facts(
    images: Sequence[Compared],
    scale: float,
    expected: Expected,
    correction: Correction,
    truncated: bool,
) -> set[str]:
    """What is true of the images, in the words of :func:`deviations`."""
    smallest = min(min(one.sr.shape[:2]) for one in images)
    facts = {
        "colour": not all(is_colourless(one.sr) and is_colourless(one.hr) for one in images),
        "grey": any(one.grey for one in images),
        "equal": any(one.equal for one in images),
        "cut": any(one.others for one in images),
        "roomy": smallest > 2 * (round(scale) + 6),
        "several": len(images) > 1,
        "truncated": truncated,
        "untruncated": not truncated,
        "unswapped": not correction.swapped,
        "ssim": expected.ssim is not None,
    }
    return {fact for fact, true in facts.items() if true}


def _pipeline(protocol: Protocol, images: Sequence[Compared], scale: float) -> Explanation:
    """The bicubic row as a protocol makes it from HR to SR."""
    rows = []
    for image in images:
        hr = to_tensor(image.hr)[None]
        sr = bicubic_up(degrade(hr, scale, protocol.lr, grey=image.grey), scale)
        rows.append(protocol.measure(sr, hr, scale, image.grey))
    means = mean_numbers(rows)
    text = (
        f"the bicubic row made as protocol {protocol.name} makes it, from an LR image that is "
        "never rounded to 8 bits"
    )
    return Explanation(
        (Deviation("pipeline", protocol.name, 0.5, "", {}, text),), means["psnr"], means["ssim"]
    )
