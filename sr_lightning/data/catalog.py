"""Where image sets are: names such as ``DIV2K`` or ``Set5`` become folders of files.

What is known of each public set (count, home, licence, checksums) is data, in ``catalog.yaml``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml

from sr_lightning.data.images import find_images
from sr_lightning.errors import UserError

__all__ = ["ImageSet", "SetFacts", "catalog", "data_root", "find_set"]


@dataclass(frozen=True)
class SetFacts:
    """What is known of a public image set; one entry of ``catalog.yaml``.

    Attributes:
        name: as papers write it.
        kind: "train", "val" or "benchmark"; a benchmark is never trained or validated on.
        count: number of images.
        folders: where it may lie under the data root, best first; ``prepare`` uses the first.
        archives: where it comes from; see :mod:`sr_lightning.data.prepare`.
        licence: rights as far as its authors state them.
        note: a trap that users should know of.
        exclude: stems of images that must not be used, such as copies of test images.
    """

    name: str
    kind: Literal["train", "val", "benchmark"]
    count: int
    folders: tuple[str, ...]
    archives: tuple[dict[str, Any], ...] = ()
    licence: str = "unstated"
    note: str = ""
    exclude: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class ImageSet:
    """Image files that are there.

    Attributes:
        name: of the set, or of the folder where it is the user's own.
        folder: where the files lie.
        files: in natural order.
        facts: None for a folder of the user's own.
    """

    name: str
    folder: Path
    files: tuple[Path, ...]
    facts: SetFacts | None


@lru_cache(maxsize=1)
def catalog() -> dict[str, SetFacts]:
    """All known sets by lower-case name."""
    text = (Path(__file__).with_name("catalog.yaml")).read_text()
    entries = yaml.safe_load(text)
    facts = []
    for name, entry in entries.items():
        known: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
        }
        facts.append(SetFacts(name=name, **known))
    return {fact.name.lower(): fact for fact in facts}


def data_root(explicit: str | Path | None = None) -> Path:
    """The folder under which sets are looked for: given, or ``SR_DATA``, or ``./data``."""
    return Path(explicit or os.environ.get("SR_DATA") or "data").expanduser()


def find_set(name: str, root: str | Path | None = None) -> ImageSet:
    """Find a set by its name, or the images of a folder by its path.

    Args:
        name: a name of the catalog (any case) or a path to a folder.
        root: the data root; see :func:`data_root`.

    Raises:
        UserError: neither exists. The message says where the set is expected and how to get it.
    """
    base = data_root(root)
    facts = catalog().get(name.lower())
    if facts is None:
        for folder in (Path(name).expanduser(), base / name):
            if folder.is_dir():
                return ImageSet(folder.name, folder, tuple(find_images(folder)), None)
        known = ", ".join(fact.name for fact in catalog().values())
        raise UserError(f"'{name}' is neither a folder nor a known image set ({known}).")
    for relative in facts.folders:
        folder = base / relative
        if folder.is_dir():
            found = [f for f in find_images(folder) if f.stem not in facts.exclude]
            return ImageSet(facts.name, folder, tuple(found), facts)
    raise UserError(
        f"{facts.name} is expected in {base / facts.folders[0]}; get it with "
        f"'sr-lightning prepare {facts.name.lower()}', name another data root with "
        "--data-root or SR_DATA, or run on the bundled sample photographs with "
        "--config configs/data/sample.yaml."
    )
