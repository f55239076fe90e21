"""``sr-lightning report``: every published table beside what the ledger has of it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sr_lightning.experiments import project_root
from sr_lightning.files import check_place, write_all
from sr_lightning.init import check_writable
from sr_lightning.report.build import build_report
from sr_lightning.report.document import Report
from sr_lightning.report.frame import write_frame
from sr_lightning.report.html import page
from sr_lightning.report.measurements import Evidence
from sr_lightning.report.readmes import lasting_evidence, refresh
from sr_lightning.report.writers import (
    findings_markdown,
    latex,
    markdown,
    spreadsheet,
    summary,
    terminal_tables,
    verdict_tables,
)
from sr_lightning.studies.ledger import Ledger
from sr_lightning.studies.study import find_study, own_studies
from sr_lightning.studies.verdicts import RULE

__all__ = ["main", "write_report"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: Options; default: the process's own.
    """
    parser = argparse.ArgumentParser(
        prog="sr-lightning report",
        description="Set every published table beside what was measured here: one HTML page, and "
        "each table as Markdown, LaTeX and CSV. Nothing is run; numbers come from the ledger "
        "(experiments/results) and from the records of shipped weights.",
    )
    add = parser.add_argument
    add(
        "studies",
        nargs="*",
        help="only these studies, files of your own; default: everything, and the studies in the "
        "current folder",
    )
    add("--out", default=Path("runs/report"), help="folder; default runs/report", type=Path)
    add("--table", metavar="ID", help="only this table, such as hfdn/attention")
    add(
        "--runs",
        default=Path("runs/studies"),
        help="run folders of the studies, for pictures; default runs/studies",
        type=Path,
    )
    add(
        "--comparison",
        default=Path("runs/comparison"),
        help="what 'sr-lightning compare' drew, for pictures; default runs/comparison",
        type=Path,
    )
    add(
        "--frame",
        help="write all numbers, published, measured and counted, one a row, to this .csv or "
        ".parquet file, and do nothing else",
        type=Path,
    )
    add(
        "--readmes",
        action="store_true",
        help="bring the tables inside the project's READMEs up to date, and do nothing else",
    )
    options = parser.parse_args(argv)
    root = project_root()
    console = Console(markup=False)
    if options.readmes:
        check_writable(root)
        for file in refresh(lasting_evidence(root)):
            console.print(f"Changed: {file}", soft_wrap=True)
        return
    own = [find_study(name, root) for name in options.studies] or own_studies(root, Path.cwd())
    evidence = Evidence(root, Ledger(root / "experiments" / "results"), own=own)
    if options.frame:
        check_place(options.frame)
        console.print(write_frame(evidence, options.frame), soft_wrap=True)
        return
    check_place(options.out, folder=True)
    report = build_report(
        evidence,
        options.table,
        options.runs,
        options.comparison,
        own_alone=bool(options.studies),
    )
    if options.table is not None:
        shown = [part for one in report.tables for part in terminal_tables(one, console.width)]
    else:
        shown = [summary(report), *verdict_tables(report, console.width)]
    for part in shown:
        console.print(part)
    if report.verdicts.rows:
        console.print(RULE, style="dim")
    written = write_report(report, options.out)
    console.print(f"{len(report.tables)} tables as .md, .tex and .csv under {options.out}")
    console.print(f"Report: {written}", soft_wrap=True)


def write_report(report: Report, folder: Path) -> Path:
    """Write the page, what the numbers say, and every table of a report.

    Args:
        report: Report to write; the same report gives the same bytes.
        folder: Where to; made if it is missing.

    Returns:
        The HTML page.
    """
    contents = {"findings.md": findings_markdown(report), "index.html": page(report)}
    for table in report.tables:
        contents[f"{table.name}.md"] = markdown(table)
        contents[f"{table.name}.tex"] = latex(table)
        contents[f"{table.name}.csv"] = spreadsheet(table)
    write_all({folder / name: content for name, content in contents.items()})
    return folder / "index.html"
