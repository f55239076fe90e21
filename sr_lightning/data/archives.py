"""Image sets inside folders and archives of someone else's making.

Nothing is unpacked by the paths that an archive names: of each image only the file name is used, so
that no archive can write outside the folder meant for it.
"""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from sr_lightning.data.catalog import SetFacts, members_of
from sr_lightning.data.download import readable_size, write_error
from sr_lightning.data.images import IMAGE_SUFFIXES
from sr_lightning.data.integrity import references
from sr_lightning.errors import UserError

__all__ = ["DamagedArchiveError", "Picks", "Source", "candidates", "open_source"]

_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    # A version of the format, or a method, that Python does not know.
    NotImplementedError,
)

# Images are packed already; only plain ones of one colour shrink as far.
_MOST_UNPACKED = 200
# File name to be: path inside the source.
Picks = Mapping[str, PurePosixPath]


class DamagedArchiveError(UserError):
    """A file that is no archive, or not all of one."""


class Source(Protocol):
    """A folder or archive with images.

    Attributes:
        images: Paths of its images, in the order that reads fastest.
    """

    images: list[PurePosixPath]

    def place(self, image: PurePosixPath, target: Path) -> None:
        """Write an image to a new file."""


class _Folder:
    def __init__(self, path: Path, copy: bool) -> None:
        self._base = path.resolve().parent
        self._copy = copy
        # With the folder's own name in front, which may be the set's.
        found = sorted(one for one in path.resolve().rglob("*") if one.is_file())
        self.images = [PurePosixPath(one.relative_to(self._base).as_posix()) for one in found]
        self.images = [one for one in self.images if _is_image(one)]

    def place(self, image: PurePosixPath, target: Path) -> None:
        source = (self._base / image).resolve()
        if not self._copy:
            try:
                os.link(source, target)
            except OSError:
                # Another disk, or a file system without hard links.
                pass
            else:
                return
        shutil.copyfile(source, target)


class _Zip:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        # Archives made on Windows may have backslashes.
        entries = {PurePosixPath(one.filename.replace("\\", "/")): one for one in archive.filelist}
        for one in archive.filelist:
            _refuse_bomb(f"'{one.filename}'", one.file_size, one.compress_size)
        _refuse_bomb(
            "It",
            sum(one.file_size for one in archive.filelist),
            sum(one.compress_size for one in archive.filelist),
        )
        self._entries = {path: one for path, one in entries.items() if not one.is_dir()}
        self.images = [path for path in self._entries if _is_image(path)]

    def place(self, image: PurePosixPath, target: Path) -> None:
        try:
            with self._archive.open(self._entries[image]) as stream:
                _write(stream, target)
        except RuntimeError as error:
            # A password, or a method of compression that Python does not know.
            raise zipfile.BadZipFile(str(error)) from error


class _Tar:
    def __init__(self, archive: tarfile.TarFile, size: int) -> None:
        self._archive = archive
        self._entries = {}
        unpacked = 0
        for one in archive:
            _refuse_bomb(f"'{one.name}'", one.size, size)
            unpacked += one.size
            _refuse_bomb("It", unpacked, size)
            # Plain files only: a link could name any file of this machine.
            if one.isfile():
                self._entries[PurePosixPath(one.name)] = one
        self.images = [path for path in self._entries if _is_image(path)]

    def place(self, image: PurePosixPath, target: Path) -> None:
        stream = self._archive.extractfile(self._entries[image])
        assert stream is not None
        with stream:
            _write(stream, target)


def _refuse_bomb(what: str, size: int, packed: int) -> None:
    """Refuse what is unpacked to far more than images ever are."""
    if size > _MOST_UNPACKED * packed + (1 << 20):
        raise DamagedArchiveError(
            f"{what} would be unpacked to {readable_size(size)}, which no images are; fetch the "
            "archive from another place."
        )


def _is_image(path: PurePosixPath) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _write(stream: IO[bytes], target: Path) -> None:
    with target.open("xb") as copy:
        shutil.copyfileobj(stream, copy, 1 << 20)


@contextmanager
def open_source(path: Path, *, copy: bool = False) -> Iterator[Source]:
    """Open a folder, a zip or a tar archive.

    Args:
        path: What to open.
        copy: Copy the files of a folder instead of making hard links.

    Raises:
        UserError: there is nothing, it is no archive or a damaged one, or (while the caller places
            images) the disk is full.
    """
    try:
        if path.is_dir():
            yield _Folder(path, copy)
        elif not path.exists():
            raise UserError(f"There is no folder or archive {path}; check the path.")
        elif not path.is_file():
            raise UserError(f"{path} is a pipe or a device; name a folder or an archive.")
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield _Zip(archive)
        elif tarfile.is_tarfile(path):
            with tarfile.open(path) as tar:
                yield _Tar(tar, path.stat().st_size)
        else:
            raise DamagedArchiveError(
                f"{path} is not a zip or tar archive, or an incomplete one; fetch it again, or "
                "unpack it yourself and name the folder."
            )
    except _DAMAGE as error:
        raise DamagedArchiveError(
            f"The archive {path} is damaged or incomplete ({error or type(error).__name__}); fetch "
            "it again, or unpack it yourself and name the folder."
        ) from error
    except OSError as error:
        raise write_error(Path(error.filename2 or error.filename or path), error) from error


def candidates(facts: SetFacts, source: Source) -> list[Picks]:
    """Where in a source a set may be, likeliest first.

    A folder named as the catalog says comes first, then the images at the top, then folders with
    as many images as the set has. Of a folder that holds more, the images named as in the set.
    """
    folders: dict[PurePosixPath, list[PurePosixPath]] = {}
    for image in source.images:
        folders.setdefault(image.parent, []).append(image)
    found: list[Picks] = []
    for layout in facts.layouts:
        found += _laid_out(facts, layout, folders)
    top = min(folders, key=lambda folder: len(folder.parts), default=None)
    for folder, images in folders.items():
        picks = _picks(facts, images, "")
        if folder == top or len(picks) == facts.count:
            found.append(picks)
    return [picks for place, picks in enumerate(found) if picks and picks not in found[:place]]


def _laid_out(
    facts: SetFacts,
    layout: Mapping[str, str],
    folders: Mapping[PurePosixPath, list[PurePosixPath]],
) -> Iterator[Picks]:
    """Every place in which all folders of a layout lie beside each other."""
    first, *_ = layout
    for folder in sorted(folders, key=lambda folder: len(folder.parts)):
        # Compared with a slash in front, so that DIV2K does not match MyDIV2K.
        path = f"/{folder.as_posix()}"
        if not path.casefold().endswith(f"/{first.casefold()}"):
            continue
        base = path[1 : len(path) - len(first)]
        by_name = {one.as_posix().casefold(): images for one, images in folders.items()}
        parts = {part: by_name.get(f"{base}{part}".casefold()) for part in layout}
        if all(parts.values()):
            merged: dict[str, PurePosixPath] = {}
            for part, prefix in layout.items():
                merged |= _picks(facts, parts[part] or [], prefix)
            yield merged


def _picks(facts: SetFacts, images: list[PurePosixPath], prefix: str) -> Picks:
    chosen = members_of(facts, images)
    stems = {one.name for one in references(facts.name)}
    if len(chosen) > facts.count and stems <= {one.stem for one in chosen}:
        chosen = [one for one in chosen if one.stem in stems]
    return {f"{prefix}{one.name}": one for one in chosen}
