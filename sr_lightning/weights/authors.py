"""Weights that authors released, by name: ``lesrcnn_x4@authors``.

What is known of each file, its home, checksum and printed numbers, is data (``released.yaml``), as
is what was measured of it here (``released_measured.json``). The files themselves are fetched from
their homes, converted, and kept in the user's data folder; none comes with the package.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path, PurePosixPath

from rich.console import Console

from sr_lightning.data.catalog import Archive
from sr_lightning.data.download import download
from sr_lightning.errors import UserError
from sr_lightning.files import read_json, read_record, read_yaml, regular_file, write_json
from sr_lightning.weights.convert import ConversionRecord, convert

__all__ = [
    "SUFFIX",
    "Printed",
    "ReleasedFile",
    "find_released",
    "get",
    "printed_text",
    "released_files",
    "save_measured",
    "weights_home",
]

SUFFIX = "@authors"
_HERE = Path(__file__).parent
_MEASURED = _HERE / "released_measured.json"
# Files of GitHub, where they are, and where copies of them are.
_GITHUB = "https://raw.githubusercontent.com/{repository}/{commit}/{path}"
_MIRROR = "https://cdn.jsdelivr.net/gh/{repository}@{commit}/{path}"

Cells = dict[str, dict[str, dict[str, int | float]]]
"""Measured numbers by protocol and cell, as the records of the zoo have them."""


@dataclass(frozen=True)
class Printed:
    """A printed number, which stands for all that are rounded to it.

    Attributes:
        text: Text as printed.
    """

    text: str

    def difference(self, measured: float) -> float:
        """Measured minus printed, 0 where the measured number is rounded to the printed one."""
        printed = Decimal(self.text)
        half_digit = float(Decimal(1).scaleb(int(printed.as_tuple().exponent))) / 2
        raw = measured - float(printed)
        return max(0.0, abs(raw) - half_digit) * (1 if raw > 0 else -1)


@dataclass(frozen=True)
class ReleasedFile:
    """A file of released weights, and its printed numbers.

    Attributes:
        name: Name for people and for ``--only``.
        sha256: SHA-256 by which it is known, whatever it is called, or its first digits.
        homes: Where its authors have it: URLs, or REPOSITORY@COMMIT:PATH of GitHub.
        arch: One of :data:`~sr_lightning.weights.state_dict_maps.RELEASES`.
        source: Source of the printed numbers.
        protocol: Name of the protocol that they were measured under.
        published: PSNR and SSIM by scale and set.
        size: Size in bytes, where it is known exactly.
        about: Rough size in bytes, where it is not.
        note: What is known of a difference.
        parameters: Trainable parameters, where it was measured here.
        measured: What was measured here.
        others: The same with other choices in its conversion, such as "clip=off".
    """

    name: str
    sha256: str
    homes: tuple[str, ...]
    arch: str
    source: str
    protocol: str
    published: dict[int, dict[str, tuple[Printed, Printed]]] = field(default_factory=dict)
    size: int | None = None
    about: int | None = None
    note: str = ""
    parameters: int | None = None
    measured: Cells = field(default_factory=dict)
    others: dict[str, Cells] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """Where it is kept once it was fetched and converted."""
        return weights_home() / f"{self.name}.safetensors"

    @property
    def urls(self) -> list[str]:
        """Where to ask for it, likeliest first."""
        asked: list[str] = []
        for home in self.homes:
            place, _, path = home.partition(":")
            repository, at, commit = place.partition("@")
            if not at:
                asked.append(home)
                continue
            for form, of in ((_GITHUB, "HEAD"), (_GITHUB, commit), (_MIRROR, commit)):
                if (form, of) != (_MIRROR, "HEAD"):
                    asked.append(form.format(repository=repository, commit=of, path=path))
        return list(dict.fromkeys(asked))

    def check(self, path: Path) -> bool:
        """Whether a file is this one."""
        return hashlib.sha256(path.read_bytes()).hexdigest().startswith(self.sha256)

    def record(self) -> ConversionRecord | None:
        """What is known of the converted file; None where it was not fetched.

        Raises:
            UserError: it is damaged.
        """
        if not self.file.is_file():
            return None
        found = read_record(self.file.with_suffix(".json"), ConversionRecord, "weight record")
        if hashlib.sha256(self.file.read_bytes()).hexdigest() != found.sha256:
            raise UserError(
                f"{self.file} is damaged (checksum differs); remove it, and fetch it again: "
                f"sr-lightning weights get {self.name}{SUFFIX}"
            )
        return found


def weights_home() -> Path:
    """The user's folder of fetched weights, below ``XDG_DATA_HOME`` or ``~/.local/share``."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "sr-lightning" / "weights"


def released_files() -> list[ReleasedFile]:
    """The files that are known (``released.yaml``)."""
    known = read_yaml(_HERE / "released.yaml")
    measured = read_json(_MEASURED)
    return [
        ReleasedFile(
            name=name,
            **{
                **entry,
                "homes": tuple(entry["homes"]),
                "published": _published(entry.get("published", {})),
                **measured.get(name, {}),
            },
        )
        for name, entry in known.items()
    ]


def _published(
    given: dict[int, dict[str, str]],
) -> dict[int, dict[str, tuple[Printed, Printed]]]:
    table: dict[int, dict[str, tuple[Printed, Printed]]] = {}
    for scale, cells in given.items():
        for image_set, text in cells.items():
            of_psnr, _, of_ssim = text.partition("/")
            table.setdefault(scale, {})[image_set] = (Printed(of_psnr), Printed(of_ssim))
    return table


def find_released(name: str) -> ReleasedFile | None:
    """The file of a name that ends in ``@authors``; None for other names.

    Raises:
        UserError: it ends so, and there is none.
    """
    if not name.endswith(SUFFIX):
        return None
    known = {one.name: one for one in released_files()}
    bare = name.removesuffix(SUFFIX)
    if bare not in known:
        like = [other for other in known if bare and other.startswith(bare)] or list(known)
        raise UserError(
            f"No released file '{name}' is known; there are "
            f"{', '.join(other + SUFFIX for other in like)}."
        )
    return known[bare]


def get(
    released: ReleasedFile, console: Console, source: str | Path | None = None
) -> ConversionRecord:
    """Fetch a released file, convert it, and keep it with its record.

    Args:
        released: What to get.
        console: Where to show progress.
        source: The file, where it was downloaded by hand.

    Raises:
        UserError: it cannot be fetched from any of its homes, or is another file.
    """
    there = released.record()
    if there is not None:
        return there
    if source is not None:
        path = regular_file(source, "weight file")
        if not released.check(path):
            raise UserError(
                f"{path} is not the file that was released as {released.name} (its SHA-256 begins "
                f"with {released.sha256[:8]}); download {released.urls[0]}."
            )
        return convert(path, released.file, released.arch)
    path = _fetch(released, console)
    record = convert(path, released.file, released.arch)
    path.unlink()
    path.parent.rmdir()
    return record


def _fetch(released: ReleasedFile, console: Console) -> Path:
    reasons: list[str] = []
    folder = released.file.with_suffix(".download")
    for url in released.urls:
        name = PurePosixPath(url).name
        archive = Archive(name, url, released.size, released.about, released.sha256)
        try:
            return download(archive, folder, console)
        except UserError as error:
            reasons.append(str(error).rstrip("."))
    if not any(folder.iterdir()):
        folder.rmdir()
    raise UserError(
        f"{released.name}{SUFFIX} could not be fetched: {'; '.join(dict.fromkeys(reasons))}. Try "
        f"again, or download {released.urls[0]} elsewhere and give the file: sr-lightning weights "
        f"get {released.name}{SUFFIX} --from FILE"
    )


def save_measured(name: str, parameters: int, measured: Cells) -> None:
    """Keep what was measured of a released file beside what is known of it.

    Args:
        name: Name without ``@authors``.
        parameters: Trainable parameters.
        measured: Measured numbers.
    """
    known = read_json(_MEASURED)
    known[name] = {**known.get(name, {}), "parameters": parameters, "measured": measured}
    write_json(_MEASURED, {key: known[key] for key in sorted(known)})


def printed_text(published: dict[str, tuple[Printed, Printed]]) -> str:
    """Printed numbers of a scale, such as "Set5 37.53/0.9587"."""
    return ", ".join(f"{name} {a.text}/{b.text}" for name, (a, b) in published.items())
