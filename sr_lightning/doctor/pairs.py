"""Which file belongs to which HR image, at which scale."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from sr_lightning.data.images import find_images, read_photo
from sr_lightning.data.integrity import listed
from sr_lightning.doctor.diagnosis import Finding, finding
from sr_lightning.errors import UserError
from sr_lightning.files import user_path

__all__ = [
    "FilePair",
    "Pairing",
    "Progress",
    "image_size",
    "images_in",
    "pair_files",
    "paired",
    "scale_in_name",
    "scale_of_pairs",
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
        name: Name of the image, without suffixes.
        high: HR file.
        other: LR or SR file.
    """

    name: str
    high: Path
    other: Path


@dataclass(frozen=True)
class Pairing:
    """What could be paired.

    Attributes:
        pairs: Pairs in the order of the HR files.
        missing: Names of HR images without a partner.
        surplus: Names of files without an HR image.
        by_order: Whether no name fitted, so that sorted files were paired one by one.
    """

    pairs: tuple[FilePair, ...]
    missing: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()
    by_order: bool = False


Progress = Callable[[Sequence[FilePair], str], Iterator[FilePair]]
"""Goes through pairs of files and shows how far it has come, under a title."""


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
    except UnidentifiedImageError:
        # Levels that Pillow does not know, or no image at all.
        height, width = read_photo(path).pixels.shape[:2]
        return height, width
    except Image.DecompressionBombError:
        raise UserError(f"The image {path} is too large to be read; cut it into pieces.") from None
    except (OSError, SyntaxError, ValueError) as error:
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
    names = {path: _HIGH.sub("", path.stem) for path in high}
    free = list(other)
    found: dict[Path, Path] = {}
    # Long names first, so that 'face' does not take the file of 'face_2'.
    for path in sorted(high, key=lambda one: -len(names[one])):
        if fitting := [one for one in free if _fits(names[path], one.stem)]:
            # Of baby.png and baby_extra.png, the one that says least beyond the name.
            found[path] = min(fitting, key=lambda one: len(one.stem))
            free.remove(found[path])
    by_order = not found and len(high) == len(other)
    if by_order:
        found, free = dict(zip(high, other, strict=True)), []
    return Pairing(
        tuple(FilePair(names[path], path, found[path]) for path in high if path in found),
        tuple(names[path] for path in high if path not in found),
        tuple(path.name for path in free),
        by_order and len(high) > 1,
    )


def paired(
    high: Sequence[Path], other: Sequence[Path], kind: str
) -> tuple[tuple[FilePair, ...], list[Finding]]:
    """Pairs of files, and what is to be said about them.

    Args:
        high: HR files.
        other: LR or SR files.
        kind: "LR" or "SR".

    Raises:
        UserError: nothing can be paired.
    """
    pairing = pair_files(high, other)
    if not pairing.pairs:
        raise UserError(
            f"No {kind} file in {other[0].parent} belongs to an HR file in {high[0].parent} by its "
            f"name ({other[0].name}, {high[0].name}); name matching folders in --hr and "
            f"--{kind.lower()}."
        )
    said = []
    if pairing.by_order:
        first = pairing.pairs[0]
        names = {"first": first.other.name, "high": first.high.name, "name": first.high.stem}
        said.append(finding("paired_by_order", files=kind, **names))
    if missing := pairing.missing:
        absent = {"count": len(missing), "names": listed(missing)}
        said.append(finding("partners_missing", files=kind, **absent))
    if pairing.surplus:
        said.append(finding("files_left_over", files=kind, names=listed(pairing.surplus)))
    return pairing.pairs, said


def _fits(key: str, stem: str) -> bool:
    """Whether a file's name holds an image's name as a word (a scale may follow at once)."""
    pattern = rf"(?<![a-z0-9]){re.escape(key)}(?![a-z0-9]|$)|(?<![a-z0-9]){re.escape(key)}(x\d|$)"
    return re.search(pattern, stem, re.IGNORECASE) is not None


def scale_in_name(path: Path) -> float | None:
    """The scale in the name of a file or of the folders above it, such as ``LR_bicubic/X4``."""
    for part in (path.stem if path.suffix else path.name, *(p.name for p in path.parents[:2])):
        named = {float("".join(groups)) for groups in _SCALE.findall(part)} - {1.0}
        if len(named) == 1:
            return named.pop()
    return None


def scale_of_pairs(pairs: Sequence[FilePair]) -> float:
    """The scale of most pairs by the sizes of their images.

    A whole scale is taken where it fits within a pixel of the LR image.
    """
    scales: Counter[float] = Counter()
    for pair in pairs:
        (high, wide), (low, narrow) = image_size(pair.high), image_size(pair.other)
        ratio = (high / low + wide / narrow) / 2
        whole = max(1, round(ratio))
        fits = abs(high / whole - low) < 2 and abs(wide / whole - narrow) < 2
        scales[float(whole) if fits else round(ratio, 2)] += 1
    return scales.most_common(1)[0][0]


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder, or the one image file that was named instead.

    Raises:
        UserError: there are none.
    """
    folder = user_path(folder)
    return [folder] if folder.is_file() else find_images(folder)
