"""One file from a web server, in as many goes as it takes.

A download grows in ``NAME.part`` and gets its name when it is complete and its checksum right. What
is there of it is kept when the connection or the user breaks off, and asked for no second time
where the server can send the rest (HTTP Range).
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from sr_lightning import __version__
from sr_lightning.data.catalog import Archive
from sr_lightning.errors import UserError

__all__ = ["download", "readable_size", "write_error"]

_CHUNK = 1 << 18
_TIMEOUT = 60.0
# A broken connection is taken up again after a pause of so many seconds, for as long as bytes come;
# so many attempts without a new byte are enough.
_PAUSE = 2.0
_ATTEMPTS = 3

Watch = Callable[[int, int | None], None]


class _BrokenOffError(Exception):
    """The connection ended before the file did; what has come is kept."""


def download(archive: Archive, folder: Path, console: Console) -> Path:
    """Fetch an archive, or go on fetching it.

    Args:
        archive: What to fetch.
        folder: Where to put it.
        console: Where to show progress.

    Returns:
        The complete file; at once where an earlier run has fetched it.

    Raises:
        UserError: the server cannot be reached or does not have the file, the connection keeps
            breaking, the disk is full, or the file is not the published one.
    """
    target = folder / archive.name
    if target.is_file():
        return target
    part = folder / f"{archive.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    console.print(f"Downloading {archive.name} from {_host(archive)} ...", soft_wrap=True)
    resumed = _size(part) > 0
    _fetch_shown(archive, part, console)
    try:
        _verify(archive, part, console)
    except UserError:
        if not resumed:
            raise
        # What was there may be of another server.
        _fetch_shown(archive, part, console)
        _verify(archive, part, console)
    part.rename(target)
    return target


def _fetch_shown(archive: Archive, part: Path, console: Console) -> None:
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task(archive.name, total=archive.size)

        def watch(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        _fetch(archive, part, watch)


def readable_size(count: float) -> str:
    """Bytes for people, such as ``3.5 GB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.{0 if count >= 10 * size else 1}f} {unit}"
    return f"{count:.0f} bytes"


def write_error(path: Path, error: OSError) -> UserError:
    """What to tell about a file that cannot be written."""
    existing = next(one for one in (path, *path.absolute().parents) if one.exists())
    free = readable_size(shutil.disk_usage(existing).free)
    return UserError(
        f"Cannot write {path}: {error.strerror or error} ({free} are free there); free some space "
        "or name another place (of image sets: --data-root)."
    )


def _fetch(archive: Archive, part: Path, watch: Watch) -> None:
    """Fetch the rest of a file, however often the connection breaks."""
    idle = 0
    while True:
        before = _size(part)
        try:
            return _transfer(archive, part, watch)
        except _BrokenOffError as error:
            idle = 0 if _size(part) > before else idle + 1
            if idle == _ATTEMPTS:
                raise UserError(
                    f"The connection to {_host(archive)} broke off ({error}); "
                    f"{readable_size(_size(part))} of {archive.name} are kept."
                ) from error
        time.sleep(_PAUSE)


def _transfer(archive: Archive, part: Path, watch: Watch) -> None:
    """One request for what is missing.

    Raises:
        _BrokenOffError: to be tried again.
        UserError: it makes no sense to try again at once.
    """
    start = _size(part)
    if archive.size is not None and start >= archive.size:
        # A longer file is not this one, which its checksum will tell.
        return
    response = _request(archive, part, start)
    if response is None:
        return
    with response:
        # 206 is the rest; a server without Range sends 200 and the whole file again.
        done = start if response.status == 206 else 0
        length = response.headers["Content-Length"]
        total = done + int(length) if length else archive.size
        _check_length(archive, part, total or 0)
        _check_space(part, (total or 0) - done)
        try:
            with part.open("ab" if done else "wb") as stream:
                for chunk in _chunks(response):
                    _check_length(archive, part, done + len(chunk))
                    stream.write(chunk)
                    stream.flush()
                    done += len(chunk)
                    watch(done, total)
        except OSError as error:
            raise write_error(part, error) from error
    if total is not None and done < total:
        raise _BrokenOffError("closed by the server")


def _request(archive: Archive, part: Path, start: int) -> HTTPResponse | None:
    """Ask for a file from a byte on; None where nothing is missing."""
    request = Request(archive.url, headers={"User-Agent": f"sr-lightning/{__version__}"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response: HTTPResponse = urlopen(request, timeout=_TIMEOUT)
    except HTTPError as error:
        if error.code == 416:
            # "Content-Range: bytes */SIZE" says how long the file is.
            if error.headers.get("Content-Range", "").endswith(f"/{start}"):
                return None
            part.unlink()
            raise _BrokenOffError("the file on the server has changed") from error
        if error.code >= 500 and start:
            raise _BrokenOffError(f"HTTP {error.code}") from error
        raise UserError(
            f"{_host(archive)} does not give {archive.name} (HTTP {error.code} {error.reason})."
        ) from error
    except URLError as error:
        reason = getattr(error.reason, "strerror", None) or error.reason
        if start:
            raise _BrokenOffError(str(reason)) from error
        raise UserError(f"{_host(archive)} cannot be reached ({reason}).") from error
    except (OSError, HTTPException) as error:
        raise _BrokenOffError(str(error) or type(error).__name__) from error
    return response


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := response.read(_CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _BrokenOffError(str(error) or type(error).__name__) from error


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _host(archive: Archive) -> str:
    return urlsplit(archive.url).netloc


def _check_length(archive: Archive, part: Path, length: int) -> None:
    """Refuse what is longer than the published file, of which a server could send without end."""
    most = archive.size if archive.size is not None else 2 * (archive.about or 0)
    if most and length > most:
        part.unlink(missing_ok=True)
        raise UserError(
            f"{_host(archive)} sends more for {archive.name} than the {readable_size(most)} that "
            "it has."
        )


def _check_space(part: Path, need: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if need > free:
        raise UserError(
            f"{part.name.removesuffix('.part')} needs {readable_size(need)} more in {part.parent}, "
            f"but only {readable_size(free)} are free there (its images will need about as much "
            "again); free some space or name another place (of image sets: --data-root)."
        )


def _verify(archive: Archive, part: Path, console: Console) -> None:
    for method, expected in (("sha256", archive.sha256), ("md5", archive.md5)):
        if expected is None:
            continue
        with console.status(f"Checking {archive.name} ..."), part.open("rb") as stream:
            digest = hashlib.file_digest(stream, method).hexdigest()
        if not digest.startswith(expected):
            part.unlink()
            raise UserError(
                f"{archive.name} from {_host(archive)} is not the published file ({method} "
                f"{digest[:12]}..., not {expected[:12]}...) and was removed."
            )
