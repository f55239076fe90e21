"""Which file belongs to which HR image, at which scale."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from sr_lightning.data.images import find_images
from sr_lightning.data.integrity import listed
from sr_lightning.doctor.diagnosis import Finding
from sr_lightning.errors import UserError
from sr_lightning.files import user_path

__all__ = [
    "FilePair",
    "Pairing",
    "image_size",
    "images_in",
    "pair_files",
    "pairing_findings",
    "scale_in_name",
    "scale_of_sizes",
]

# What HR files are called beyond their name: img_001_SRF_4_HR, baby_GT.
_HIGH = re.compile(r"(_SRF_\d+)?[-_](HR|GT)$", re.IGNORECASE)
# x4, 4x, LRx4, LRbicx4, 0001x4, SRF_4; not the x2 of 'max2'.
_SCALE = re.compile(
    r"(?:^|[^a-z]|(?<=LR)|(?<=SR)|(?<=HR)|(?<=bic)|(?<=cubic))x(\d(?:\.\d+)?)(?![a-z0-9])"
    r"|(?<![a-z0-9])(\d)x(?![a-z0-9])|SRF_(\d)(?!\d)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class FilePair:
    """An HR file and the LR or SR file that belongs to it.

    Attributes:
        name: of the image, without suffixes.
        high: the HR file.
        other: the LR or SR file.
    """

    name: str
    high: Path
    other: Path


@dataclass(frozen=True)
class Pairing:
    """What could be paired.

    Attributes:
        pairs: in the order of the HR files.
        missing: names of HR images without a partner.
        surplus: names of files without an HR image.
        by_order: whether names told nothing, so that sorted files were paired one by one.
    """

    pairs: tuple[FilePair, ...]
    missing: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()
    by_order: bool = False


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) of an image file from its header.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            # A quarter turn noted by a camera; read_picture applies it.
            turned = image.getexif().get(0x0112, 1) >= 5
            width, height = image.size
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"The file {path} is damaged or not an image; fetch it again or remove it."
        ) from error
    return (width, height) if turned else (height, width)


def pair_files(high: Sequence[Path], other: Sequence[Path]) -> Pairing:
    """Pair HR files with LR or SR files by their names.

    ``baby`` is found in ``baby.png``, ``babyx4.png``, ``baby_x4.png``, ``baby_LRBI_x4.png``,
    ``SR_baby.png`` and ``baby_RCAN_x4.png``; ``img_001_SRF_4_HR`` in ``img_001_SRF_4_LR``; ``1`` is
    not found in ``10.png``. If no name fits and the numbers of files are equal, they are paired in
    natural order.

    Args:
        high: HR files.
        other: LR or SR files.
    """
    # Long names first, so that 'face' does not take the file of 'face_2'.
    keys = sorted(((_HIGH.sub("", path.stem), path) for path in high), key=lambda k: -len(k[0]))
    free = list(other)
    found: dict[Path, Path] = {}
    for key, path in keys:
        fitting = [one for one in free if _fits(key, one.stem)]
        if fitting:
            # Of baby.png and baby_extra.png, the one that says least beyond the name.
            found[path] = min(fitting, key=lambda one: len(one.stem))
            free.remove(found[path])
    names = {path: key for key, path in keys}
    if not found and len(high) == len(other):
        pairs = zip(high, other, strict=True)
        return Pairing(tuple(FilePair(names[h], h, o) for h, o in pairs), by_order=len(high) > 1)
    return Pairing(
        tuple(FilePair(names[path], path, found[path]) for path in high if path in found),
        tuple(names[path] for path in high if path not in found),
        tuple(path.name for path in free),
    )


def _fits(key: str, stem: str) -> bool:
    """Whether a file's name holds an image's name as a word (a scale may follow at once)."""
    pattern = rf"(?<![a-z0-9]){re.escape(key)}(?![a-z0-9]|$)|(?<![a-z0-9]){re.escape(key)}(x\d|$)"
    return re.search(pattern, stem, re.IGNORECASE) is not None


def scale_in_name(path: Path) -> float | None:
    """The scale that a file's name or the folders above it tell, such as ``LR_bicubic/X4``."""
    for part in (path.stem if path.suffix else path.name, *(p.name for p in path.parents[:2])):
        told = {float("".join(groups)) for groups in _SCALE.findall(part)} - {1.0}
        if len(told) == 1:
            return told.pop()
    return None


def scale_of_sizes(sizes: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> float:
    """The scale of most pairs of (HR size, LR size).

    A whole scale is taken where it fits within a pixel of the LR image.
    """
    told = []
    for (high, wide), (low, narrow) in sizes:
        ratio = (high / low + wide / narrow) / 2
        whole = max(1, round(ratio))
        fits = abs(high / whole - low) < 2 and abs(wide / whole - narrow) < 2
        told.append(float(whole) if fits else round(ratio, 2))
    return Counter(told).most_common(1)[0][0]


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder, or the one image file that was named instead.

    Raises:
        UserError: there are none.
    """
    folder = user_path(folder)
    return [folder] if folder.is_file() else find_images(folder)


def pairing_findings(pairing: Pairing, kind: str) -> list[Finding]:
    """What is to be said about a pairing.

    Args:
        pairing: of files.
        kind: "LR" or "SR".
    """
    found = []
    if pairing.by_order:
        first = pairing.pairs[0]
        found.append(
            Finding(
                "note",
                f"the {kind} files do not bear the names of HR files, so they were paired in their "
                f"order: {first.other.name} with {first.high.name} and so on",
                f"name {kind} files as their HR files, such as {first.high.stem}.png",
            )
        )
    if pairing.missing:
        found.append(
            Finding(
                "problem",
                f"{len(pairing.missing)} HR images have no {kind} file: {listed(pairing.missing)}",
                "a mean over fewer images compares with nothing; add the missing files",
            )
        )
    if pairing.surplus:
        found.append(
            Finding(
                "note", f"{kind} files without an HR image were left out: {listed(pairing.surplus)}"
            )
        )
    return found
