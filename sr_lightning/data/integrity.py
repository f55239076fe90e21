"""Is this image set the one that papers mean?

Numbers on a benchmark compare only where the pixels are the same, and copies in circulation are
not: cropped to a multiple of the scale, saved as JPEG, half the size, one image missing. Of the
sets named in ``benchmark_checksums.json`` the decoded pixels are known, so that a copy is
recognised under any file name and format; of the others the number of images and their size.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median

from rich import get_console
from rich.markup import escape
from rich.progress import track

from sr_lightning.data.catalog import ImageSet, SetFacts
from sr_lightning.data.images import read_picture
from sr_lightning.data.near_duplicates import LOOKS_ALIKE, hash_distance, perceptual_hash
from sr_lightning.data.store import StoredImage
from sr_lightning.errors import UserError

__all__ = [
    "Measured",
    "Reference",
    "Report",
    "check_set",
    "is_lossy",
    "listed",
    "measure",
    "references",
]


@dataclass(frozen=True)
class Reference:
    """What is known of one image of a public set.

    Attributes:
        name: as the set's authors name it.
        height: in pixels.
        width: in pixels.
        sha256: first 16 hex digits of the hash of its RGB bytes.
        phash: perceptual hash; see :mod:`sr_lightning.data.near_duplicates`.
        grey: whether the usual file holds one channel.
    """

    name: str
    height: int
    width: int
    sha256: str
    phash: str
    grey: bool = False

    def written(self) -> str:
        """The line of ``benchmark_checksums.json``."""
        grey = " grey" if self.grey else ""
        return f"{self.width}x{self.height} {self.sha256} {self.phash}{grey}"


@dataclass(frozen=True)
class Measured:
    """An image file of a set and what it decodes to; an unreadable one has no pixels.

    Attributes:
        file: where it is.
        height: in pixels; 0 where the file cannot be read.
        width: in pixels; 0 where the file cannot be read.
        sha256: of its RGB bytes.
        phash: perceptual hash.
        grey: whether the file holds one channel.
    """

    file: Path
    height: int = 0
    width: int = 0
    sha256: str = ""
    phash: str = ""
    grey: bool = False

    @property
    def reference(self) -> Reference:
        """What would be written down of this image as a reference."""
        return Reference(
            self.file.stem, self.height, self.width, self.sha256[:16], self.phash, self.grey
        )


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        name: of the set.
        folder: where it lies.
        found: number of images there.
        expected: number of images the set has; None for a folder of the user's own.
        matching: number of images whose pixels are the reference; None where there is none.
        problems: sentences; with any of these, numbers do not compare with published ones.
        notes: sentences that are good to know.
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


def references(name: str) -> tuple[Reference, ...]:
    """The images of a set of the catalog, as far as they are recorded; else empty."""
    found = []
    for title, line in _recorded().get(name, {}).items():
        size, sha256, phash, *grey = line.split()
        width, height = map(int, size.split("x"))
        found.append(Reference(title, height, width, sha256, phash, bool(grey)))
    return tuple(found)


def measure(files: Sequence[Path], label: str | None = None) -> list[Measured]:
    """Decode image files, several at a time.

    Args:
        files: what to decode.
        label: show progress under this name.
    """
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        done: Iterable[Measured] = pool.map(_measure, files)
        if label is not None:
            quiet = not get_console().is_terminal
            done = track(done, escape(label), total=len(files), transient=True, disable=quiet)
        return list(done)


def _measure(file: Path) -> Measured:
    try:
        picture = read_picture(file)
    except UserError:
        return Measured(file)
    height, width = picture.rgb.shape[:2]
    digest = hashlib.sha256(picture.rgb.tobytes()).hexdigest()
    return Measured(file, height, width, digest, perceptual_hash(picture.rgb), picture.grey)


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


def check_set(
    images: ImageSet, decoded: Sequence[StoredImage] | None = None, *, show: bool = False
) -> Report:
    """Compare an image set with what is known of it.

    Args:
        images: what to check.
        decoded: what a pixel store knows of the same files in the same order, which makes the
            check cheap; without it, every file is decoded.
        show: show progress while decoding.
    """
    if decoded is None:
        measured = measure(images.files, f"Checking {images.name}" if show else None)
    else:
        measured = [
            Measured(file, one.height, one.width, one.sha256, one.phash, one.grey)
            for file, one in zip(images.files, decoded, strict=True)
        ]
    findings = _Findings()
    if unreadable := [one.file.name for one in measured if not one.sha256]:
        findings.problems.append(
            f"{_images(len(unreadable))} cannot be read (truncated, damaged or no image): "
            f"{listed(unreadable)}"
        )
    readable = [one for one in measured if one.sha256]
    facts = images.facts
    known = references(facts.name) if facts else ()
    matching = None
    if facts is None:
        if lossy := [one.file.name for one in readable if is_lossy(one.file)]:
            findings.notes.append(f"{_images(len(lossy))} in a lossy format: {listed(lossy)}")
    elif known:
        matching = _compare(readable, known, facts, findings)
    else:
        _count(measured, facts, findings)
        _lossy(readable, facts, findings)
        _sizes(readable, facts, findings)
    return Report(
        name=images.name,
        folder=images.folder,
        found=len(measured),
        expected=facts.count if facts else None,
        matching=matching,
        problems=tuple(findings.problems),
        notes=tuple(findings.notes),
    )


class _Findings:
    def __init__(self) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []

    def add(self, sentence: str, *, grave: bool) -> None:
        (self.problems if grave else self.notes).append(sentence)


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"


def _compare(
    measured: Sequence[Measured],
    known: Sequence[Reference],
    facts: SetFacts,
    findings: _Findings,
) -> int:
    """Recognise images by their pixels, else by what they show; return how many are exact."""
    exact, others, copies = _by_pixels(measured, known)
    found = {twin.name for _, twin in exact}
    missing = {one.name: one for one in known if one.name not in found}
    resized, changed, lossy, strange = [], [], [], []
    for image in others:
        twin = _most_alike(image, missing.values())
        if twin is None:
            strange.append(image.file.name)
            continue
        del missing[twin.name]
        if (image.height, image.width) != (twin.height, twin.width):
            here, there = f"{image.width} x {image.height}", f"{twin.width} x {twin.height}"
            resized.append(f"{image.file.name} is {here}, not {there}")
        elif is_lossy(image.file) and not facts.jpeg:
            lossy.append(image.file.name)
        else:
            changed.append(image.file.name)
    _tell_differences(facts, findings, resized, changed, lossy)
    if missing:
        findings.problems.append(f"{_images(len(missing))} missing: {listed(list(missing))}")
    if strange:
        findings.problems.append(f"{_images(len(strange))} not of {facts.name}: {listed(strange)}")
    if copies:
        findings.problems.append(f"{_images(len(copies))} there twice: {listed(copies)}")
    if grey := [image.file.name for image, twin in exact if image.grey != twin.grey]:
        findings.notes.append(
            f"{listed(grey)}: grey where the usual file is colour or the other way round, which "
            "changes the Y channel of some protocols"
        )
    return len(exact)


def _by_pixels(
    measured: Sequence[Measured], known: Sequence[Reference]
) -> tuple[list[tuple[Measured, Reference]], list[Measured], list[str]]:
    """Exact images with their references, the other images, and names of surplus copies."""
    # A list for each, because T91 has a picture twice (t36 and t65).
    twins: dict[str, list[Reference]] = {}
    for one in known:
        twins.setdefault(one.sha256, []).append(one)
    exact, others, copies = [], [], []
    for image in measured:
        left = twins.get(image.sha256[:16])
        if left is None:
            others.append(image)
        elif left:
            exact.append((image, left.pop(0)))
        else:
            copies.append(image.file.name)
    return exact, others, copies


def _most_alike(image: Measured, known: Iterable[Reference]) -> Reference | None:
    """The reference that shows the same picture as an image, if there is one."""
    distances = [(hash_distance(one.phash, image.phash), one) for one in known]
    near = min(distances, key=lambda pair: pair[0], default=None)
    return near[1] if near is not None and near[0] <= LOOKS_ALIKE else None


def _tell_differences(
    facts: SetFacts,
    findings: _Findings,
    resized: list[str],
    changed: list[str],
    lossy: list[str],
) -> None:
    if resized:
        findings.problems.append(
            f"{_images(len(resized))} of another size (LR files, or cropped or resized copies): "
            f"{listed(resized, 3)}"
        )
    # Training on slightly other pixels spoils nothing; measuring on them does.
    grave = facts.kind == "benchmark"
    if lossy:
        findings.add(_lossy_sentence(lossy, facts), grave=grave)
    if changed and facts.jpeg:
        findings.notes.append(
            f"{_images(len(changed))} with other pixels than the reference, though they show the "
            f"same: {listed(changed)}; JPEG decoders may differ by a level"
        )
    elif changed:
        findings.add(
            f"{_images(len(changed))} with other pixels than the reference, though they show the "
            f"same: {listed(changed)}; get another copy",
            grave=grave,
        )


def _lossy_sentence(names: Sequence[str], facts: SetFacts) -> str:
    what = "scores on them" if facts.kind == "benchmark" else "training on them"
    return (
        f"{_images(len(names))} as JPEG or lossy WebP though {facts.name} is lossless, which "
        f"spoils {what}: {listed(names)}; get the PNG files"
    )


def _count(measured: Sequence[Measured], facts: SetFacts, findings: _Findings) -> None:
    if len(measured) == facts.count:
        return
    sentence = f"{_images(len(measured))} instead of {facts.count}"
    stems = {one.file.stem for one in measured}
    if facts.numbers is not None and all(stem.isdigit() for stem in stems):
        first, last = facts.numbers
        absent = sorted(set(range(first, last + 1)) - {int(stem) for stem in stems})
        sentence += f"; missing: {listed([f'{number:04}' for number in absent])}" if absent else ""
    findings.problems.append(sentence)


def _lossy(measured: Sequence[Measured], facts: SetFacts, findings: _Findings) -> None:
    if facts.jpeg:
        return
    if lossy := [one.file.name for one in measured if is_lossy(one.file)]:
        findings.add(_lossy_sentence(lossy, facts), grave=facts.kind == "benchmark")


def _sizes(measured: Sequence[Measured], facts: SetFacts, findings: _Findings) -> None:
    """Most images of another size are the wrong files; a few may be the set's own exceptions."""
    if facts.long_side is None or not measured:
        return
    low, high = facts.long_side
    sides = [max(one.height, one.width) for one in measured]
    outside = [
        f"{one.file.name} ({one.width} x {one.height})"
        for one, side in zip(measured, sides, strict=True)
        if not low <= side <= high
    ]
    expected = f"{low}" if low == high else f"{low} to {high}"
    if 2 * len(outside) > len(measured):
        findings.problems.append(
            f"the long side of most images is about {median(sides):.0f} px, not {expected}: "
            f"{facts.wrong_size}"
        )
    elif outside:
        findings.notes.append(f"long side not {expected} px: {listed(outside)}")
