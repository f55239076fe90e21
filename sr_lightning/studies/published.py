"""Published numbers as data: every table of the seed papers, cell by cell, with its errata.

They stand in ``experiments/published``, in YAML files that look like the printed tables; how to
write one is described in :mod:`sr_lightning.studies.published_tables`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sr_lightning.errors import UserError
from sr_lightning.studies.located_yaml import meant
from sr_lightning.studies.published_cells import METRICS, Cell, Claim, Label, Metric
from sr_lightning.studies.published_tables import read_tables, set_name

__all__ = ["METRICS", "Cell", "Claim", "Metric", "PublishedNumbers", "load_published"]


@dataclass(frozen=True)
class PublishedNumbers:
    """All published cells and claims.

    Attributes:
        cells: Cells in the order of the files.
        claims: The same.
        warnings: What looks odd but may be right, such as a PSNR that rises with the scale.
    """

    cells: tuple[Cell, ...]
    claims: tuple[Claim, ...]
    warnings: tuple[str, ...] = ()

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of all tables."""
        found = [cell.table for cell in self.cells] + [claim.table for claim in self.claims]
        return tuple(dict.fromkeys(found))

    def table(self, name: str) -> tuple[Cell, ...]:
        """The cells of a table; none where only claims are known.

        Raises:
            UserError: there is no such table.
        """
        self._check(name)
        return tuple(cell for cell in self.cells if cell.table == name)

    def claims_of(self, table: str) -> tuple[Claim, ...]:
        """The claims of a table.

        Raises:
            UserError: there is no such table.
        """
        self._check(table)
        return tuple(claim for claim in self.claims if claim.table == table)

    def cell(
        self,
        table: str,
        method: str,
        scale: float | None,
        set: str | None,
        metric: str,
        **factors: Label,
    ) -> Cell:
        """One cell.

        Args:
            table: ``file/table``.
            method: Method as the table prints it.
            scale: Or None where the table has none.
            set: Name of the image set or an alias.
            metric: Metric of :data:`METRICS`.
            factors: Enough of the table's own factors to leave one cell.

        Raises:
            UserError: no cell fits, or several do.
        """
        wanted = (method, scale, set_name(set) or set, metric)
        found = [
            cell
            for cell in self.table(table)
            if (cell.method, cell.scale, cell.set, cell.metric) == wanted
            and factors.items() <= cell.factors.items()
        ]
        if len(found) != 1:
            sought = ", ".join(map(str, (*wanted, *(f"{k}={v}" for k, v in factors.items()))))
            raise UserError(
                f"The published table {table} has {len(found) or 'no'} cells for {sought}."
            )
        return found[0]

    def _check(self, table: str) -> None:
        if table not in self.tables:
            raise UserError(
                f"There is no published table '{table}'{meant(table, self.tables)}; "
                f"there are {', '.join(self.tables)}."
            )


def load_published(folder: str | Path) -> PublishedNumbers:
    """Read and check all files of published numbers.

    Args:
        folder: Usually ``experiments/published``.

    Raises:
        UserError: a file is damaged, or a key, name or value in it is impossible; the message names
            file, line and key.
    """
    files = sorted(Path(folder).glob("*.yaml"))
    if not files:
        raise UserError(f"There are no published numbers (*.yaml) in {folder}.")
    cells: list[Cell] = []
    claims: list[Claim] = []
    for table in itertools.chain.from_iterable(map(read_tables, files)):
        cells += table.cells
        claims += table.claims
    warnings = (*_rising(cells), *_unsupported(claims))
    return PublishedNumbers(tuple(cells), tuple(claims), warnings)


def _rising(cells: Iterable[Cell]) -> Iterator[str]:
    series: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        if cell.metric == "psnr" and cell.scale is not None:
            key = (cell.table, cell.method, cell.set, tuple(cell.factors.items()))
            series.setdefault(key, []).append(cell)
    for group in series.values():
        ordered = sorted(group, key=lambda cell: cell.scale or 0)
        for small, large in itertools.pairwise(ordered):
            if large.value > small.value:
                yield (
                    f"{large.table}: PSNR of {large.method} on {large.set} rises from "
                    f"{small.value:g} dB at x{small.scale:g} to {large.value:g} dB "
                    f"at x{large.scale:g}."
                )


def _unsupported(claims: Iterable[Claim]) -> Iterator[str]:
    for claim in claims:
        if not claim.supported:
            where = " ".join(
                str(part)
                for part in (claim.set, claim.scale and f"x{claim.scale:g}", claim.metric)
                if part
            )
            yield (
                f"{claim.table}: the numbers ({where}) do not bear out that {_words(claim.better)} "
                f"beats {_words(claim.worse)} (difference {claim.delta:g})."
            )


def _words(labels: Mapping[str, Label]) -> str:
    return ", ".join(f"{name} {label}" for name, label in labels.items())
