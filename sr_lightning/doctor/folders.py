"""What lies in a folder: HR images with LR or SR images beside them, a benchmark set, a run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sr_lightning.data.images import find_images
from sr_lightning.data.integrity import references
from sr_lightning.doctor.pairs import image_size, pair_files, scale_in_name
from sr_lightning.doctor.sets import set_shown_in
from sr_lightning.errors import UserError

__all__ = ["Case", "beside_known_set", "look_into"]

_HIGH = re.compile(r"^(hr|gt|gtmod\d*|original|originals|ground_?truth|target)$", re.IGNORECASE)
_LOW = re.compile(r"(^|[^a-z])(lr|low|input|bicubic_?lr)|^lr", re.IGNORECASE)
_RUN = "config.yaml"

# Deeper, a folder is no longer one thing.
_DEEPEST = 3


@dataclass(frozen=True)
class Case:
    """One thing to be looked at.

    Attributes:
        kind: "lr" or "sr" beside HR images, a "set" of HR images, or a "run".
        folder: Folder of the LR or SR images, of the set or of the run.
        high: HR files.
        other: LR or SR files.
        scale: Scale that folder or file names have, if any.
    """

    kind: Literal["lr", "sr", "set", "run"]
    folder: Path
    high: tuple[Path, ...] = ()
    other: tuple[Path, ...] = ()
    scale: float | None = None


def look_into(folder: Path) -> list[Case]:
    """What there is to look at in a folder, in the order of its names.

    Raises:
        UserError: it does not exist or holds nothing to look at.
    """
    if not folder.is_dir():
        raise UserError(
            f"The folder {folder} does not exist; name a folder of images, of a benchmark set or "
            "of a run."
        )
    cases = list(_cases(folder, 0))
    if not cases:
        raise UserError(
            f"{folder} holds neither images nor a run; name the folders with --hr and --lr or --sr."
        )
    return cases


def beside_known_set(case: Case) -> Case:
    """A folder of images that show a public set which is at hand, beside its HR images.

    Images of its size stay a set of their own where no name has their scale, and where its pixels
    are not recorded, so that they may be the HR images as well.
    """
    shown = set_shown_in(case.high) if case.kind == "set" else None
    if shown is None or not pair_files(shown.files, case.high).pairs:
        return case
    scale = scale_in_name(case.high[0]) or scale_in_name(case.folder)
    kind = _kind(shown.files, case.high)
    if kind == "sr" and (scale is None or not references(shown.name)):
        return case
    return Case(kind, case.folder, shown.files, case.high, scale)


def _cases(folder: Path, depth: int) -> Iterator[Case]:
    if (folder / _RUN).is_file():
        yield Case("run", folder)
        return
    children = sorted(one for one in folder.iterdir() if one.is_dir() and one.name[0] != ".")
    high_folder = next((one for one in children if _HIGH.match(one.name)), None)
    high = _images(high_folder) if high_folder is not None else []
    if high_folder is not None and high:
        yield Case("set", high_folder, tuple(high))
        for child in children:
            if child != high_folder:
                yield from _beside(tuple(high), child, 0)
        return
    files = _images(folder)
    if high_folder is not None and not files:
        # RCAN's layout: HR/x2, HR/x4 beside SR/x2, SR/x4.
        by_scale = {scale_in_name(one): one for one in high_folder.iterdir() if one.is_dir()}
        for scale, inner in sorted(by_scale.items(), key=lambda pair: pair[0] or 0):
            high = _images(inner)
            for child in children if high else ():
                if child != high_folder:
                    yield from _beside(tuple(high), child, 0, scale)
        return
    if files:
        yield from _flat(folder, files)
        return
    if depth < _DEEPEST:
        for child in children:
            yield from _cases(child, depth + 1)


def _flat(folder: Path, files: list[Path]) -> Iterator[Case]:
    """A folder of images: a set, or HR, LR and results side by side (SelfExSR)."""
    high = [one for one in files if one.stem.upper().endswith(("_HR", "_GT"))]
    low = [one for one in files if one.stem.upper().endswith("_LR")]
    if not high or not low:
        yield Case("set", folder, tuple(files))
        return
    yield Case("set", folder, tuple(high))
    yield Case("lr", folder, tuple(high), tuple(low))


def _beside(
    high: tuple[Path, ...], folder: Path, depth: int, only: float | None = None
) -> Iterator[Case]:
    """LR and SR images in a folder beside the HR images, or in its subfolders."""
    files = _images(folder)
    if files and pair_files(high, files).pairs:
        scale = scale_in_name(files[0]) or scale_in_name(folder)
        if only is None or scale is None or scale == only:
            yield Case(_kind(high, files), folder, high, tuple(files), scale)
        return
    if depth < _DEEPEST:
        for child in sorted(one for one in folder.iterdir() if one.is_dir()):
            yield from _beside(high, child, depth + 1, only)


def _kind(high: Sequence[Path], files: Sequence[Path]) -> Literal["lr", "sr"]:
    """LR images are smaller than HR images; of an unreadable file, its folder's name decides."""
    pair = pair_files(high, files).pairs[0]
    try:
        (y, x), (h, w) = image_size(pair.high), image_size(pair.other)
    except UserError:
        return "lr" if _LOW.search(pair.other.parent.name) else "sr"
    return "lr" if y / h > 1.4 and x / w > 1.4 else "sr"


def _images(folder: Path) -> list[Path]:
    try:
        return find_images(folder)
    except UserError:
        return []
