"""Tables and plots of READMEs, written by the same code as the report and never by hand.

A README says where: ``<!-- table hfdn/attention -->`` on one line, ``<!-- /table -->`` on a later
one. What stands between them is replaced. A picture ``.readme/Set5_x4.svg`` that a README shows is
drawn: PSNR against parameters on that set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sr_lightning.errors import UserError
from sr_lightning.files import write_all
from sr_lightning.report.build import build_report
from sr_lightning.report.figures import cost_figure, description, file_svg
from sr_lightning.report.measurements import Evidence
from sr_lightning.report.published_view import published_table
from sr_lightning.report.writers import markdown
from sr_lightning.report.zoo_view import zoo_view
from sr_lightning.studies.ledger import Ledger
from sr_lightning.studies.located_yaml import meant

__all__ = ["lasting_evidence", "refresh", "stale"]

_PLOT = re.compile(r"\]\(((?:\.\./)*\.readme/(\w+)_x([\d.]+)\.svg)\)")
_BLOCK = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def lasting_evidence(root: Path) -> Evidence:
    """What READMEs are written from: not the quick runs, which anyone's machine makes and forgets.

    Args:
        root: Folder of the checkout.
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
    rooms = (path for room in ("sr_lightning", "experiments") for path in root.glob(f"{room}/**"))
    files = [root / "README.md", *sorted(path / "README.md" for path in rooms)]
    texts = {file: file.read_text() for file in files if file.is_file()}
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
    found: dict[Path, str] = {}
    for file, text in texts.items():

        def block(match: re.Match[str], file: Path = file) -> str:
            if match[2] not in tables:
                known = meant(match[2], tables)
                raise UserError(f"{file}: there is no table '{match[2]}'{known}.")
            return f"{match[1]}{markdown(tables[match[2]], heading=False)}{match[3]}"

        fresh = _BLOCK.sub(block, text)
        found |= {file: fresh} if fresh != text else {}
        found |= dict(_stale_plots(evidence, file, text))
    return found


def refresh(evidence: Evidence) -> list[Path]:
    """Bring the tables of all READMEs up to date.

    Args:
        evidence: Evidence of the checkout.

    Returns:
        The files that were changed.
    """
    changed = stale(evidence)
    write_all(changed)
    return list(changed)


def _stale_plots(evidence: Evidence, readme: Path, text: str) -> Iterator[tuple[Path, str]]:
    """The plots that a README shows and that are missing or of other numbers.

    Bytes are not compared: another matplotlib draws the same numbers with others.
    """
    shown = _PLOT.findall(text)
    plots = {plot.title: plot for plot in zoo_view(evidence).plots} if shown else {}
    for path, name, scale in shown:
        title, file = f"{name} x{scale}", (readme.parent / path).resolve()
        if title not in plots:
            raise UserError(f"{readme}: there is no plot of {title}{meant(title, plots)}.")
        says = "; ".join(f"{p.label}: {p.psnr:.2f} dB, {p.cost:.0f}" for p in plots[title].points)
        if not file.is_file() or description(file.read_text()) != says:
            yield file, file_svg(cost_figure(plots[title]), says)
