"""Where image sets are: names such as ``DIV2K`` or ``Set5`` become folders of files.

What is known of each public set (count, home, licence, checksums) is data, in ``catalog.yaml``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Literal, TypeVar

import yaml

from sr_lightning.data.images import find_images
from sr_lightning.errors import UserError
from sr_lightning.files import user_path

__all__ = [
    "Archive",
    "ImageSet",
    "SetFacts",
    "catalog",
    "data_root",
    "find_set",
    "known_set",
    "locate_set",
    "members_of",
]

Kind = Literal["train", "val", "benchmark"]
AnyPath = TypeVar("AnyPath", bound=PurePath)

# Where sets of a kind lie under the data root, best first.
_PLACES: dict[Kind, tuple[str, ...]] = {
    "train": ("train/{}", "{}"),
    "val": ("val/{}", "{}"),
    "benchmark": (
        *("benchmarks/{}/HR", "benchmarks/{}", "benchmarks/{}/image_SRF_4"),
        *("benchmark/{}/HR", "benchmark/{}", "{}/HR", "{}", "{}/image_SRF_4"),
    ),
}


@dataclass(frozen=True)
class Archive:
    """A file to download.

    Attributes:
        name: Name of the file.
        url: Where it is.
        size: Size in bytes, where it is known exactly.
        about: Rough size in bytes; for showing only.
        sha256: Checksum of the file, where one is published.
        md5: Older checksum of the file, where that one is published.
    """

    name: str
    url: str
    size: int | None = None
    about: int | None = None
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True)
class SetFacts:
    """What is known of a public image set; one entry of ``catalog.yaml``.

    Attributes:
        name: Name that papers use.
        kind: "train", "val" or "benchmark"; a benchmark is never trained or validated on.
        count: Number of images.
        folders: Where it may lie under the data root, best first; ``prepare`` uses the first.
        archives: What it can be downloaded with, best first.
        layouts: Where it lies in an archive or a folder of someone else's making, best first:
            the end of a folder's path, and what its file names are prefixed with.
        aliases: Other names in use.
        licence: Rights as far as its authors state them.
        by_hand: How to get it where it cannot be downloaded.
        exclude: Stems of images that must not be used, such as copies of test images.
        numbers: First and last number of the file names, where another set continues them.
        stems: Regular expression of the names of its files without suffix; empty where they are
            called otherwise everywhere.
        long_side: Smallest and largest long side of most images in pixels.
        wrong_size: What to do about images of another size.
        jpeg: Whether the originals themselves are JPEG files.
    """

    name: str
    kind: Kind
    count: int
    folders: tuple[str, ...]
    archives: tuple[Archive, ...] = ()
    layouts: tuple[Mapping[str, str], ...] = ()
    aliases: tuple[str, ...] = ()
    licence: str = "unstated"
    by_hand: str = ""
    exclude: tuple[str, ...] = ()
    numbers: tuple[int, int] | None = None
    stems: str = ""
    long_side: tuple[int, int] | None = None
    wrong_size: str = ""
    jpeg: bool = False


@dataclass(frozen=True)
class ImageSet:
    """Image files that are there.

    Attributes:
        name: Name of the set, or of the folder where it is the user's own.
        folder: Where the files lie.
        files: Image files in natural order.
        facts: What is known of the set; None for a folder of the user's own.
    """

    name: str
    folder: Path
    files: tuple[Path, ...]
    facts: SetFacts | None


@lru_cache(maxsize=1)
def catalog() -> dict[str, SetFacts]:
    """All known sets by lower-case name."""
    known = yaml.safe_load(Path(__file__).with_name("catalog.yaml").read_text(encoding="utf-8"))
    archives = {name: Archive(name, **entry) for name, entry in known["archives"].items()}
    facts = (_facts(name, entry, archives) for name, entry in known["sets"].items())
    return {fact.name.lower(): fact for fact in facts}


def _facts(name: str, entry: Mapping[str, Any], archives: Mapping[str, Archive]) -> SetFacts:
    plain: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    names = (name, *entry.get("aliases", ()))
    places = (place.format(title) for title in names for place in _PLACES[entry["kind"]])
    usual = (f"{title}{inner}" for title in names for inner in ("/HR", "/image_SRF_4", ""))
    layouts = (*entry.get("layouts", ()), *usual)
    plain["folders"] = (*places, *entry.get("folders", ()))
    plain["layouts"] = tuple({one: ""} if isinstance(one, str) else one for one in layouts)
    plain["archives"] = tuple(archives[title] for title in entry.get("archives", ()))
    return SetFacts(name=name, **plain)


def _key(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).casefold()


def known_set(name: str) -> SetFacts | None:
    """The facts of a set by its name or an alias, whatever its case, hyphens and underscores."""
    for facts in catalog().values():
        if _key(name) in map(_key, (facts.name, *facts.aliases)):
            return facts
    return None


def data_root(explicit: str | Path | None = None) -> Path:
    """The folder under which sets are looked for: given, or ``SR_DATA``, or ``./data``."""
    return user_path(explicit or os.environ.get("SR_DATA") or "data")


def members_of(facts: SetFacts, files: Iterable[AnyPath]) -> list[AnyPath]:
    """The files of a folder that belong to a set: no excluded ones, no LR files beside HR files.

    Args:
        facts: What is known of the set.
        files: Image files of one folder.
    """
    kept = [file for file in files if file.stem not in facts.exclude]
    if facts.numbers is not None:
        first, last = facts.numbers
        kept = [f for f in kept if not f.stem.isdigit() or first <= int(f.stem) <= last]
    # SelfExSR keeps img_001_SRF_4_HR.png beside img_001_SRF_4_LR.png and results.
    high = [file for file in kept if file.stem.lower().endswith("_hr")]
    return high or kept


def locate_set(facts: SetFacts, root: str | Path | None = None) -> ImageSet | None:
    """A set of the catalog under the data root, or None.

    Of several folders, the one whose number of images comes nearest to what is expected is taken.
    """
    base = data_root(root)
    return _nearest(facts, (_descend(base, relative) for relative in facts.folders))


def _nearest(facts: SetFacts, folders: Iterable[Path | None]) -> ImageSet | None:
    found = []
    for folder in folders:
        files = members_of(facts, _images(folder)) if folder is not None else []
        if folder is not None and files:
            found.append(ImageSet(facts.name, folder, tuple(files), facts))
    return min(found, key=lambda one: abs(len(one.files) - facts.count), default=None)


def find_set(name: str, root: str | Path | None = None) -> ImageSet:
    """Find a set by its name, or the images of a folder by its path.

    Args:
        name: Name of the catalog (any case) or path to a folder.
        root: Folder under which sets are looked for; see :func:`data_root`.

    Raises:
        UserError: neither exists. The message says where the set is expected and how to get it.
    """
    base = data_root(root)
    facts = known_set(name)
    if facts is None:
        for folder in (user_path(name), base / name):
            if folder.is_dir():
                return _own_folder(folder)
        known = ", ".join(fact.name for fact in catalog().values())
        raise UserError(f"'{name}' is neither a folder nor a known image set ({known}).")
    # A folder of that name where the user stands counts, too.
    here = user_path(name)
    found = locate_set(facts, base) or _nearest(facts, (_descend(here, "HR"), here))
    if found is None:
        raise UserError(
            f"{facts.name} is expected in {base / facts.folders[0]}; get it with "
            f"'sr-lightning prepare {facts.name.lower()}', name another data root with "
            "--data-root or SR_DATA, or run on the bundled sample photographs with "
            "--config configs/data/sample.yaml."
        )
    return found


def _own_folder(folder: Path) -> ImageSet:
    inner = _descend(folder, "HR")
    if inner is not None and not _images(folder):
        return ImageSet(folder.name, inner, tuple(find_images(inner)), None)
    name = folder.resolve().parent.name if folder.name.lower() == "hr" else folder.name
    return ImageSet(name, folder, tuple(find_images(folder)), None)


def _images(folder: Path) -> list[Path]:
    try:
        return find_images(folder)
    except UserError:
        return []


def _descend(base: Path, relative: str) -> Path | None:
    """The folder below `base`, its names in any case."""
    folder = base
    for part in PurePosixPath(relative).parts:
        if (folder / part).is_dir():
            folder = folder / part
            continue
        if not folder.is_dir():
            return None
        named = (one for one in folder.iterdir() if one.name.casefold() == part.casefold())
        inner = next((one for one in named if one.is_dir()), None)
        if inner is None:
            return None
        folder = inner
    return folder
