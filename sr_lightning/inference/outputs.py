"""Which image files are meant, and what their results are called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sr_lightning.data.images import IMAGE_SUFFIXES, find_images, natural_key, unique_names
from sr_lightning.data.photo_writer import check_format
from sr_lightning.errors import UserError
from sr_lightning.files import user_path

__all__ = ["files_of", "shown", "targets_of"]

# Read as well, some with plugins of Pillow's, but not as images of training sets.
_PHOTO_SUFFIXES = IMAGE_SUFFIXES | {
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".gif", ".apng", ".ppm", ".pgm", ".tga"),
}
_RESULT = re.compile(r"(.+)_(x[\d.]+|\d+x\d+|fit\d+)\.png", re.DOTALL)


def shown(path: Path) -> str:
    """A path on one line, whatever bytes its name is made of."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


def files_of(named: Sequence[str], *, recursive: bool = False) -> list[tuple[Path, Path]]:
    """The image files that are named, one by one or by their folder.

    Results that lie beside their original are left out of folders.

    Args:
        named: Files and folders; a file need not exist.
        recursive: Look into folders of folders as well.

    Returns:
        Each file, and the folder in which its result belongs below that of all results.

    Raises:
        UserError: a folder holds no image.
    """
    files: list[tuple[Path, Path]] = []
    for name in named:
        path = user_path(name)
        if not path.is_dir():
            files.append((path, Path()))
        elif recursive:
            inside = [p for p in path.rglob("*") if p.is_file() and _is_photo(p.relative_to(path))]
            found = sorted(inside, key=lambda p: natural_key(str(p)))
            files += [(p, p.parent.relative_to(path)) for p in _originals(found)]
            if not found:
                raise UserError(f"The folder {path} and those in it hold no image.")
        else:
            found = [p for p in path.iterdir() if p.is_file() and _is_photo(Path(p.name))]
            found = sorted(found, key=lambda p: natural_key(p.name)) or find_images(path)
            files += [(p, Path()) for p in _originals(found)]
    seen = set[Path]()
    return [f for f in files if not (f[0].absolute() in seen or seen.add(f[0].absolute()))]  # type: ignore[func-returns-value]


def _is_photo(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in _PHOTO_SUFFIXES and not hidden


def _originals(files: Sequence[Path]) -> list[Path]:
    names = {(p.parent, name) for p in files for name in (p.stem, p.name)}
    results = {p for p in files if (m := _RESULT.fullmatch(p.name)) and (p.parent, m[1]) in names}
    return [path for path in files if path not in results]


def targets_of(files: Sequence[tuple[Path, Path]], out: str | None, label: str) -> list[Path]:
    """Where the results of images go, refusing places that cannot be.

    Args:
        files: As :func:`files_of` gives them.
        out: File or folder; None for beside each image.
        label: What is made of them, such as ``x4``.

    Raises:
        UserError: the file's format is unknown, or results would overwrite each other or an image.
    """
    paths = [path for path, _ in files]
    target = None if out is None else user_path(out)
    if (
        target is not None
        and out is not None
        and target.suffix
        and not target.is_dir()
        and not out.endswith(("/", "\\"))
    ):
        check_format(target)
        if len(files) > 1:
            raise UserError(f"There are {len(files)} images for the one file {target}.")
        targets = [target]
    else:
        beside = [path if target is None else target / below / path.name for path, below in files]
        names = unique_names(beside)
        targets = [p.with_name(f"{n}_{label}.png") for p, n in zip(beside, names, strict=True)]
    inputs = {path.resolve() for path in paths}
    counts = Counter(targets)
    for path, place in zip(paths, targets, strict=True):
        if counts[place] > 1:
            raise UserError(f"Two images would become {shown(place)}; upscale them one by one.")
        if place.resolve() in inputs:
            raise UserError(f"{shown(place)} is an image to upscale; name another --out.")
        if place.is_dir():
            raise UserError(f"{shown(place)} is a folder; name a file for {shown(path)}.")
    return targets
