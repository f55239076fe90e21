"""The papers' claims, as a study asks them: one level beats another on an image set.

A claim is stored once. Where a published table prints numbers, the claims stand beside them in
``experiments/published`` and the study only names the table; where nothing is printed, the study
file states the order alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sr_lightning.errors import UserError
from sr_lightning.studies.published_cells import Claim as PublishedClaim
from sr_lightning.studies.published_cells import Label, label_text
from sr_lightning.studies.published_tables import PublishedTable, read_tables

__all__ = ["Claim", "level_of", "published_table", "table_claims"]


@dataclass(frozen=True)
class Claim:
    """What a paper concludes from two levels: `better` beats `worse`.

    Attributes:
        better: Name of a level.
        worse: Name of a level.
        set: Image set that the paper measures.
        published: The paper's difference (better - worse), or None where only the order is known.
        source: Where it is printed.
        scale: Scale that it is about, or None for that of the study.
    """

    better: str
    worse: str
    set: str
    published: float | None
    source: str
    scale: float | None = None


def published_table(root: Path, name: str) -> PublishedTable:
    """A published table by name; only its own file is read.

    Args:
        root: The checkout.
        name: ``file/table``.

    Raises:
        UserError: there is no such table, or its file is damaged.
    """
    file = root / "experiments" / "published" / f"{name.partition('/')[0]}.yaml"
    found = _file(file, file.stat().st_mtime_ns).get(name) if file.is_file() else None
    if found is None:
        raise UserError(f"There is no published table '{name}' in experiments/published.")
    return found


@lru_cache(maxsize=64)
def _file(file: Path, changed: int) -> dict[str, PublishedTable]:
    return {table.name: table for table in read_tables(file)}


def level_of(levels: Iterable[str], labels: Mapping[str, Label]) -> str | None:
    """The level that a row of a published table is about, or None.

    Levels are named as the table names its rows: by a label, or by all labels joined with commas;
    where the labels are all yes or no, by those that are yes, joined with ``+``, or "none".

    Args:
        levels: Names of a study's levels.
        labels: Labels of the row; those that all rows share may be there.
    """
    texts = [label_text(name, label) for name, label in labels.items()]
    names = {*texts, ", ".join(texts)}
    flags = {name: label for name, label in labels.items() if isinstance(label, bool)}
    if flags:
        names.add("+".join(name for name, label in flags.items() if label) or "none")
    found = [level for level in levels if level in names]
    return found[0] if len(found) == 1 else None


def table_claims(
    claims: Iterable[PublishedClaim], levels: Iterable[str], metric: str, scale: float | None
) -> Iterator[Claim]:
    """The claims of a published table that are about two levels of a study.

    Args:
        claims: Claims of the table.
        levels: Names of the study's levels.
        metric: Metric that the study compares.
        scale: Scale that the study is about, or None for any.
    """
    levels = list(levels)
    for claim in claims:
        if claim.metric != metric or claim.set is None:
            continue
        if scale is not None and claim.scale not in (None, scale):
            continue
        better, worse = (level_of(levels, labels) for labels in _sides(claim))
        if better is not None and worse is not None and better != worse:
            yield Claim(better, worse, claim.set, claim.delta, claim.source, claim.scale)


def _sides(claim: PublishedClaim) -> tuple[Mapping[str, Label], Mapping[str, Label]]:
    """All labels of both sides; a claim about one factor has the others in its cells."""
    if claim.cells is not None:
        return claim.cells[0].labels, claim.cells[1].labels
    shared: dict[str, Label] = {} if claim.method is None else {"method": claim.method}
    return {**shared, **claim.better}, {**shared, **claim.worse}
