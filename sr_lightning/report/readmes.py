"""Tables and plots of READMEs, written by the same code as the report and never by hand.

A README says where: ``<!-- table hfdn/attention -->`` on one line, ``<!-- /table -->`` on a later
one. What stands between them is replaced. A picture ``.readme/Set5_x4.svg`` that a README shows is
drawn: PSNR against parameters on that set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from sr_lightning.errors import UserError
from sr_lightning.report.build import build_report
from sr_lightning.report.document import Table
from sr_lightning.report.markdown import markdown
from sr_lightning.report.measurements import Evidence
from sr_lightning.report.published_view import published_table
from sr_lightning.report.svg import cost_plot, standalone
from sr_lightning.report.zoo_view import zoo_view
from sr_lightning.studies.ledger import Ledger
from sr_lightning.studies.located_yaml import meant

__all__ = ["lasting_evidence", "refresh", "stale"]

_PLOT = re.compile(r"\]\(((?:\.\./)*\.readme/(\w+)_x([\d.]+)\.svg)\)")
_BLOCK = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def lasting_evidence(root: Path) -> Evidence:
    """What READMEs are written from: not the quick runs, which anyone's machine makes and forgets.

    Args:
        root: The checkout.
    """
    ledger = Ledger(root / "experiments" / "results")
    return Evidence(root, ledger, considered=("short", "medium", "paper"))


def stale(evidence: Evidence) -> dict[Path, str]:
    """The READMEs and plots that are not what the ledger gives, and what they should be.

    Args:
        evidence: Evidence of the checkout.

    Raises:
        UserError: a README names a table or a plot that does not exist.
    """
    root = evidence.root
    files = [root / "README.md"]
    for room in ("sr_lightning", "experiments"):
        files += sorted(root.glob(f"{room}/**/README.md"))
    texts = {file: file.read_text() for file in files if file.is_file()}
    texts = {
        file: text for file, text in texts.items() if _BLOCK.search(text) or _PLOT.search(text)
    }
    names = {match[2] for text in texts.values() for match in _BLOCK.finditer(text)}
    # Single tables are quick: the report counts the costs of all networks.
    tables = {
        name: published_table(evidence, name) for name in names & {*evidence.published.tables}
    }
    if any(name.partition("/")[0] == "weights" for name in names):
        tables |= {table.name: table for table in zoo_view(evidence).tables}
    if names - set(tables):
        report = build_report(evidence)
        tables = {table.name: table for table in (*report.tables, report.verdicts)}
    fresh = {file: _filled(file, text, tables) for file, text in texts.items()}
    for file, text in texts.items():
        fresh |= _plots(evidence, file, text)
    return {file: text for file, text in fresh.items() if text != _content(file)}


def refresh(evidence: Evidence) -> list[Path]:
    """Bring the tables of all READMEs up to date.

    Args:
        evidence: Evidence of the checkout.

    Returns:
        The files that were changed.
    """
    changed = stale(evidence)
    for file, text in changed.items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return list(changed)


def _content(file: Path) -> str | None:
    return file.read_text() if file.is_file() else None


def _plots(evidence: Evidence, readme: Path, text: str) -> dict[Path, str]:
    """The plots that a README shows."""
    shown = _PLOT.findall(text)
    known = {plot.title: plot for plot in zoo_view(evidence).plots} if shown else {}
    drawn = {}
    for path, name, scale in shown:
        title = f"{name} x{scale}"
        if title not in known:
            raise UserError(f"{readme}: there is no plot of {title}{meant(title, known)}.")
        drawn[(readme.parent / path).resolve()] = standalone(cost_plot(known[title]))
    return drawn


def _filled(file: Path, text: str, tables: Mapping[str, Table]) -> str:
    def block(match: re.Match[str]) -> str:
        name = match[2]
        if name not in tables:
            raise UserError(f"{file}: there is no table '{name}'{meant(name, tables)}.")
        return f"{match[1]}{markdown(tables[name], heading=False)}{match[3]}"

    return _BLOCK.sub(block, text)
