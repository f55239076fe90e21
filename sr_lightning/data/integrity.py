"""Is this image set the one that papers mean?

Numbers on a benchmark compare only where the pixels are the same, and copies in circulation are
not: cropped to a multiple of the scale, saved as JPEG, half the size, one image missing. Of the
sets named in ``benchmark_checksums.json`` the decoded pixels are known, so that a copy is
recognised under any file name and format; of the others the number of images and their size.
``sr-lightning prepare`` and ``sr-lightning doctor`` both ask here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median

from rich import get_console
from rich.markup import escape
from rich.progress import track

from sr_lightning.data.catalog import ImageSet, SetFacts, catalog, known_set
from sr_lightning.data.images import read_picture
from sr_lightning.data.near_duplicates import (
    LOOKS_ALIKE,
    SAME_PICTURE,
    hash_distance,
    perceptual_hash,
)
from sr_lightning.data.store import StoredImage
from sr_lightning.errors import UserError

__all__ = [
    "ImageRecord",
    "Report",
    "check_set",
    "is_lossy",
    "listed",
    "measure",
    "only_cropped",
    "recognised",
    "references",
    "unrecorded",
]

# Crops up to a multiple of 12 are what x2, x3 and x4 need.
_CROP = 12

_Sentences = Iterator[tuple[bool, str]]
"""What was found: whether numbers then do not compare with published ones, and a sentence."""


@dataclass(frozen=True)
class ImageRecord:
    """What an image of a set decodes to; an unreadable file has no pixels.

    Attributes:
        name: Name that the set's authors gave it, or of the file without suffix.
        height: Height in pixels.
        width: Width in pixels.
        sha256: First 16 hex digits of the hash of its RGB bytes; empty of an unreadable file.
        phash: Perceptual hash; see :mod:`sr_lightning.data.near_duplicates`.
        grey: Whether the file, or the usual file, holds one channel.
        file: Where it is; nowhere of an image that is only known of a public set.
    """

    name: str
    height: int = 0
    width: int = 0
    sha256: str = ""
    phash: str = ""
    grey: bool = False
    file: Path = Path()

    def written(self) -> str:
        """The line of ``benchmark_checksums.json``."""
        grey = " grey" if self.grey else ""
        return f"{self.width}x{self.height} {self.sha256} {self.phash}{grey}"

    @property
    def size(self) -> str:
        """Width and height for people."""
        return f"{self.width} x {self.height}"


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        name: Name of the set.
        folder: Where it lies.
        found: Number of images there.
        expected: Number of images the set has; None for a folder of the user's own.
        matching: Number of images whose pixels are the reference; None where there is none.
        problems: Sentences; with any of these, numbers do not compare with published ones.
        notes: Sentences that are good to know.
    """

    name: str
    folder: Path
    found: int
    expected: int | None
    matching: int | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One phrase, such as ``5 of 5 images are the reference pixels``."""
        if self.expected is None:
            return f"{self.found} images"
        if self.matching is None:
            return f"{self.found} of {self.expected} images, no reference pixels to compare with"
        return f"{self.matching} of {self.expected} images are the reference pixels"


@lru_cache(maxsize=1)
def _recorded() -> dict[str, dict[str, str]]:
    text = Path(__file__).with_name("benchmark_checksums.json").read_text(encoding="utf-8")
    recorded: dict[str, dict[str, str]] = json.loads(text)
    return recorded


def references(name: str) -> tuple[ImageRecord, ...]:
    """The images of a set of the catalog, as far as they are recorded; else empty."""
    found = []
    for title, line in _recorded().get(name, {}).items():
        size, sha256, phash, *grey = line.split()
        width, height = map(int, size.split("x"))
        found.append(ImageRecord(title, height, width, sha256, phash, bool(grey)))
    return tuple(found)


def unrecorded() -> list[str]:
    """Benchmarks whose pixels are not recorded, so that nothing can be recognised as theirs."""
    known = (facts for facts in catalog().values() if facts.kind == "benchmark")
    return [facts.name for facts in known if not references(facts.name)]


def measure(files: Sequence[Path], label: str | None = None) -> list[ImageRecord]:
    """Decode image files, several at a time.

    Args:
        files: Files to decode.
        label: Name under which progress is shown; without it, none is.
    """
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        done: Iterable[ImageRecord] = pool.map(_measure, files)
        if label is not None:
            quiet = not get_console().is_terminal
            done = track(done, escape(label), total=len(files), transient=True, disable=quiet)
        return list(done)


def _measure(file: Path) -> ImageRecord:
    try:
        picture = read_picture(file)
    except UserError:
        return ImageRecord(file.stem, file=file)
    height, width = picture.rgb.shape[:2]
    digest = hashlib.sha256(picture.rgb.tobytes()).hexdigest()[:16]
    phash = perceptual_hash(picture.rgb)
    return ImageRecord(file.stem, height, width, digest, phash, picture.grey, file)


def is_lossy(path: Path) -> bool:
    """Whether a file is JPEG or lossy WebP, whatever its suffix says."""
    with path.open("rb") as stream:
        start = stream.read(16)
        if start[:4] != b"RIFF" or start[8:12] != b"WEBP":
            return start[:3] == b"\xff\xd8\xff"
        stream.seek(12)
        # Chunks of a four-letter name and a little-endian length, padded to an even length.
        while len(head := stream.read(8)) == 8 and head[:4] not in {b"VP8 ", b"VP8L"}:
            stream.seek((int.from_bytes(head[4:], "little") + 1) // 2 * 2, os.SEEK_CUR)
    return head[:4] == b"VP8 "


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names of a list, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def recognised(measured: Sequence[ImageRecord]) -> SetFacts | None:
    """The public set that the images of a folder are of, or seem to be.

    Sets are recognised by their pixels or by what most images show. Of those whose pixels are not
    recorded, the folder's name decides, or the names of the right number of files.

    Args:
        measured: All images of one folder.
    """
    votes: Counter[str] = Counter()
    for facts in catalog().values():
        known = references(facts.name)
        votes[facts.name] = sum(
            bool(image.phash)
            and any(
                image.sha256 == one.sha256 or hash_distance(image.phash, one.phash) <= SAME_PICTURE
                for one in known
            )
            for image in measured
        )
    (name, count), *_ = votes.most_common(1)
    if count and 2 * count >= len(measured):
        return known_set(name)
    folder = measured[0].file.resolve().parent
    for facts in (catalog()[name.lower()] for name in unrecorded()):
        named = any(known_set(part) == facts for part in folder.parts[-3:])
        alike = facts.stems and all(re.fullmatch(facts.stems, one.file.stem) for one in measured)
        if named or (alike and len(measured) == facts.count):
            return facts
    return None


def only_cropped(name: str, measured: Sequence[ImageRecord]) -> bool:
    """Whether every image is one of a set, exact or with some rows and columns cut off.

    Args:
        name: Name of the set in the catalog.
        measured: Images of one folder.
    """
    known = references(name)
    return all(
        any(image.sha256 == one.sha256 for one in known)
        or (
            not is_lossy(image.file)
            and any(
                hash_distance(image.phash, one.phash) <= LOOKS_ALIKE
                and 0 <= one.height - image.height < _CROP
                and 0 <= one.width - image.width < _CROP
                and (one.height, one.width) != (image.height, image.width)
                for one in known
            )
        )
        for image in measured
    )


def check_set(
    images: ImageSet,
    decoded: Sequence[StoredImage | ImageRecord] | None = None,
    *,
    show: bool = False,
) -> Report:
    """Compare an image set with what is known of it.

    Args:
        images: Set to check.
        decoded: What is known of the same files in the same order, from a pixel store or
            :func:`measure`, which makes the check cheap; without it, every file is decoded.
        show: Show progress while decoding.
    """
    if decoded is None:
        decoded = measure(images.files, f"Checking {images.name}" if show else None)
    measured = [
        ImageRecord(file.stem, one.height, one.width, one.sha256[:16], one.phash, one.grey, file)
        for file, one in zip(images.files, decoded, strict=True)
    ]
    facts = images.facts
    matching, found = None, list(_unreadable(measured))
    readable = [one for one in measured if one.sha256]
    if facts is None:
        if lossy := [one.file.name for one in readable if is_lossy(one.file)]:
            found.append((False, f"{_images(lossy)} in a lossy format: {listed(lossy)}"))
    elif known := references(facts.name):
        exact, others, copies = _by_pixels(readable, known)
        matching = len(exact)
        found += _differences(exact, others, copies, known, facts)
    else:
        found += _count(measured, facts)
        if not facts.jpeg and (lossy := [one.file.name for one in readable if is_lossy(one.file)]):
            found.append(_lossy(lossy, facts))
        found += _sizes(readable, facts)
    return Report(
        name=images.name,
        folder=images.folder,
        found=len(measured),
        expected=facts.count if facts else None,
        matching=matching,
        problems=tuple(sentence for wrong, sentence in found if wrong),
        notes=tuple(sentence for wrong, sentence in found if not wrong),
    )


def _images(names: Collection[object]) -> str:
    return f"{len(names)} image" if len(names) == 1 else f"{len(names)} images"


def _unreadable(measured: Sequence[ImageRecord]) -> _Sentences:
    if names := [one.file.name for one in measured if not one.sha256]:
        yield (
            True,
            f"{_images(names)} cannot be read (truncated, damaged or no image): {listed(names)}",
        )


def _by_pixels(
    measured: Sequence[ImageRecord], known: Sequence[ImageRecord]
) -> tuple[list[tuple[ImageRecord, ImageRecord]], list[ImageRecord], list[str]]:
    """Exact images with their references, the other images, and names of surplus copies."""
    # A list for each, because T91 has a picture twice (t36 and t65).
    twins: dict[str, list[ImageRecord]] = {}
    for one in known:
        twins.setdefault(one.sha256, []).append(one)
    exact, others, copies = [], [], []
    for image in measured:
        left = twins.get(image.sha256)
        if left is None:
            others.append(image)
        elif left:
            exact.append((image, left.pop(0)))
        else:
            copies.append(image.file.name)
    return exact, others, copies


def _differences(
    exact: Sequence[tuple[ImageRecord, ImageRecord]],
    others: Sequence[ImageRecord],
    copies: Sequence[str],
    known: Sequence[ImageRecord],
    facts: SetFacts,
) -> _Sentences:
    """What is said of images that are not exact: they are recognised by what they show."""
    found = {twin.name for _, twin in exact}
    missing = {one.name: one for one in known if one.name not in found}
    resized, changed, lossy, strange = [], [], [], []
    for image in others:
        distances = ((hash_distance(one.phash, image.phash), one) for one in missing.values())
        distance, twin = min(distances, key=lambda pair: pair[0], default=(64, None))
        if twin is None or distance > LOOKS_ALIKE:
            strange.append(image.file.name)
            continue
        del missing[twin.name]
        if (image.height, image.width) != (twin.height, twin.width):
            resized.append(f"{image.file.name} is {image.size}, not {twin.size}")
        elif is_lossy(image.file) and not facts.jpeg:
            lossy.append(image.file.name)
        else:
            changed.append(image.file.name)
    if resized:
        yield (
            True,
            f"{_images(resized)} of another size (LR files, or cropped or resized copies): "
            f"{listed(resized, 3)}",
        )
    if lossy:
        yield _lossy(lossy, facts)
    if changed:
        advice = "JPEG decoders may differ by a level" if facts.jpeg else "get another copy"
        yield (
            # Training on slightly other pixels spoils nothing; measuring on them does.
            facts.kind == "benchmark" and not facts.jpeg,
            f"{_images(changed)} with other pixels than the reference, though they show the same: "
            f"{listed(changed)}; {advice}",
        )
    if missing:
        yield True, f"{_images(missing)} missing: {listed(list(missing))}"
    if strange:
        yield True, f"{_images(strange)} not of {facts.name}: {listed(strange)}"
    if copies:
        yield True, f"{_images(copies)} there twice: {listed(copies)}"
    if grey := [image.file.name for image, twin in exact if image.grey != twin.grey]:
        yield (
            False,
            f"{listed(grey)}: grey where the usual file is colour or the other way round, which "
            "changes the Y channel of some protocols",
        )


def _lossy(names: Sequence[str], facts: SetFacts) -> tuple[bool, str]:
    what = "scores on them" if facts.kind == "benchmark" else "training on them"
    return (
        facts.kind == "benchmark",
        f"{_images(names)} as JPEG or lossy WebP though {facts.name} is lossless, which "
        f"spoils {what}: {listed(names)}; get the PNG files",
    )


def _count(measured: Sequence[ImageRecord], facts: SetFacts) -> _Sentences:
    if len(measured) == facts.count:
        return
    sentence = f"{_images(measured)} instead of {facts.count}"
    stems = {one.file.stem for one in measured}
    if facts.numbers is not None and all(stem.isdigit() for stem in stems):
        first, last = facts.numbers
        absent = sorted(set(range(first, last + 1)) - {int(stem) for stem in stems})
        sentence += f"; missing: {listed([f'{number:04}' for number in absent])}" if absent else ""
    yield True, sentence


def _sizes(measured: Sequence[ImageRecord], facts: SetFacts) -> _Sentences:
    """Most images of another size are the wrong files; a few may be the set's own exceptions."""
    if facts.long_side is None or not measured:
        return
    low, high = facts.long_side
    sides = [max(one.height, one.width) for one in measured]
    outside = [
        f"{one.file.name} ({one.size})"
        for one, side in zip(measured, sides, strict=True)
        if not low <= side <= high
    ]
    expected = f"{low}" if low == high else f"{low} to {high}"
    if 2 * len(outside) > len(measured):
        yield (
            True,
            f"the long side of most images is about {median(sides):.0f} px, not {expected}: "
            f"{facts.wrong_size}",
        )
    elif outside:
        yield False, f"long side not {expected} px: {listed(outside)}"
