"""``sr-lightning prepare``: get image sets, check them, look for test images in training sets."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich import get_console
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sr_lightning.data.archives import DamagedArchiveError, Picks, Source, candidates, open_source
from sr_lightning.data.catalog import (
    ImageSet,
    SetFacts,
    catalog,
    data_root,
    find_set,
    known_set,
    locate_set,
)
from sr_lightning.data.download import download, readable_size
from sr_lightning.data.images import natural_key
from sr_lightning.data.integrity import Report, check_set, measure, references
from sr_lightning.data.near_duplicates import SAME_PICTURE, find_leaks
from sr_lightning.errors import StoppedError, UserError
from sr_lightning.files import user_path

__all__ = ["main"]

_DESCRIPTION = """\
Get image sets and check them.

  sr-lightning prepare --list                      what there is, what is here
  sr-lightning prepare set5 b100 div2k             download into the data root
  sr-lightning prepare div2k --from ~/DIV2K.zip    use a file or folder that is already here
  sr-lightning prepare --check                     are the sets here what papers mean by them?
  sr-lightning prepare --leaks                     do training sets hold test images?
"""


def main(argv: Sequence[str]) -> None:
    """Run ``sr-lightning prepare``.

    Args:
        argv: What was typed after ``prepare``.

    Raises:
        UserError: a set cannot be had, or is not what it should be.
        SystemExit: status 1 where ``--check`` or ``--leaks`` found something.
    """
    options = _parse(argv)
    try:
        _run(options, data_root(options.data_root), Console(markup=False, highlight=False))
    except KeyboardInterrupt:
        raise StoppedError("Interrupted; the same command goes on from here.") from None


def _run(options: argparse.Namespace, root: Path, console: Console) -> None:
    if options.source and not options.names:
        raise UserError("Name the sets to take from there, such as 'prepare set5 --from PATH'.")
    if options.list or not (options.names or options.check or options.leaks):
        _list(root, console)
    elif options.leaks:
        _leaks(options.names, root, console)
    elif options.check:
        _check(options.names, root, console)
    else:
        source = user_path(options.source) if options.source else None
        _prepare(options.names, root, source, options.copy, console)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sr-lightning prepare",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="SET", help="such as set5, b100, div2k")
    parser.add_argument("--data-root", metavar="FOLDER", help="default: $SR_DATA or ./data")
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="PATH",
        help="a folder that has the images somewhere inside, or a downloaded archive",
    )
    parser.add_argument(
        "--copy", action="store_true", help="copy the files of --from instead of hard-linking them"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="show all sets and change nothing")
    what.add_argument("--check", action="store_true", help="check what is there, change nothing")
    what.add_argument("--leaks", action="store_true", help="look for test images in training sets")
    return parser.parse_args(argv)


# ---- getting -------------------------------------------------------------------------------------


def _prepare(
    names: Sequence[str], root: Path, source: Path | None, copy: bool, console: Console
) -> None:
    wanted = [_facts(name) for name in names]
    failures = []
    for facts in wanted:
        try:
            _say(console, _get(facts, root, source, copy, console))
        except UserError as error:
            failures.append(str(error))
    _tidy(root, wanted, console)
    if failures:
        raise UserError("\n".join(failures))


def _get(facts: SetFacts, root: Path, source: Path | None, copy: bool, console: Console) -> str:
    """Bring one set into the data root; return what was done."""
    there = locate_set(facts, root)
    if there is not None:
        report = check_set(there, show=True)
        if report.problems:
            raise UserError(
                f"{facts.name} is there, in {there.folder}, but not as it should be: "
                f"{'; '.join(report.problems)}. Move that folder away and run this again."
            )
        return f"{facts.name} is already there: {_told(report, there.folder)}"
    if source is not None:
        return _adopt(facts, root, source, copy)
    if not facts.archives:
        raise UserError(f"{facts.name} cannot be downloaded: {facts.by_hand}. {_adopting(facts)}")
    reasons = []
    for archive in facts.archives:
        try:
            fetched = download(archive, root / "downloads", console)
            try:
                return _adopt(facts, root, fetched, copy)
            except DamagedArchiveError:
                # Otherwise every later run would stumble over it.
                fetched.unlink()
                raise
        except UserError as error:
            reasons.append(str(error))
    raise UserError(
        f"{facts.name} could not be downloaded. {' '.join(reasons)} Run the same command again "
        f"later, or download {facts.archives[0].url} in a browser. {_adopting(facts)}"
    )


def _told(report: Report, folder: Path) -> str:
    return " ".join([f"{report.summary} ({folder}).", *(f"Note: {note}." for note in report.notes)])


def _adopting(facts: SetFacts) -> str:
    return (
        "When you have the archive or its images, run "
        f"'sr-lightning prepare {facts.name.lower()} --from PATH'."
    )


def _adopt(facts: SetFacts, root: Path, source: Path, copy: bool) -> str:
    """Take a set out of a folder or archive, if it is there and right."""
    target = root / facts.folders[0]
    if target.is_dir() and any(target.iterdir()):
        raise UserError(f"{target} is there but holds no image of {facts.name}; move it away.")
    reports = []
    with open_source(source, copy=copy) as opened:
        for picks in candidates(facts, opened):
            report = _install(facts, opened, picks, target)
            if not report.problems:
                return f"{facts.name} is ready: {_told(report, target)}"
            reports.append(report)
    if not reports:
        looked = ", ".join(" + ".join(layout) for layout in facts.layouts[:4])
        raise UserError(
            f"{source} holds nothing that looks like {facts.name} (looked for {looked}, or a "
            f"folder of {facts.count} images); name the folder of its images in --from."
        )
    best = min(reports, key=lambda one: (-(one.matching or 0), abs(one.found - facts.count)))
    raise UserError(
        f"{source} holds no usable {facts.name}: {'; '.join(best.problems)}. Nothing was changed."
    )


def _install(facts: SetFacts, source: Source, picks: Picks, target: Path) -> Report:
    """Place the picked images beside the target, and move them there if they are right."""
    staging = target.with_name(f".{target.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        order = {image: place for place, image in enumerate(source.images)}
        ordered = sorted(picks.items(), key=lambda pick: order[pick[1]])
        quiet = not get_console().is_terminal
        for name, image in track(ordered, f"Placing {facts.name}", transient=True, disable=quiet):
            source.place(image, staging / name)
        files = sorted(staging.iterdir(), key=lambda file: natural_key(file.name))
        report = check_set(ImageSet(facts.name, staging, tuple(files), facts), show=True)
        if not report.problems:
            staging.replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return report


def _tidy(root: Path, wanted: Sequence[SetFacts], console: Console) -> None:
    """Remove downloaded archives that no set is left to be taken from."""
    for archive in dict.fromkeys(one for facts in wanted for one in facts.archives):
        file = root / "downloads" / archive.name
        if not file.is_file():
            continue
        waiting = [
            facts.name
            for facts in catalog().values()
            if archive in facts.archives and locate_set(facts, root) is None
        ]
        if waiting:
            _say(
                console,
                f"{file} ({readable_size(file.stat().st_size)}) is kept for {', '.join(waiting)}; "
                "remove it if you do not want them.",
            )
        else:
            file.unlink()
    with suppress(OSError):
        # Only where it is empty.
        (root / "downloads").rmdir()


# ---- looking -------------------------------------------------------------------------------------


def _facts(name: str) -> SetFacts:
    facts = known_set(name)
    if facts is None:
        known = ", ".join(fact.name for fact in catalog().values())
        raise UserError(f"'{name}' is not a known image set; there are {known}.")
    return facts


def _say(console: Console, sentence: str) -> None:
    # Paths must stay in one piece, and may hold brackets.
    console.print(sentence, soft_wrap=True, markup=False)


def _list(root: Path, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("set", "for", "images", "where", "licence"):
        table.add_column(title, overflow="fold", justify="right" if title == "images" else "left")
    for facts in catalog().values():
        there = locate_set(facts, root)
        found = f"{len(there.files)} of {facts.count}" if there else f"{facts.count}"
        where = str(there.folder.relative_to(root)) if there else _way(facts)
        table.add_row(facts.name, facts.kind, found, where, facts.licence)
    _say(console, f"Image sets in {root}:")
    console.print(table)
    _say(console, "Get one with 'sr-lightning prepare SET', check them with '--check'.")


def _way(facts: SetFacts) -> str:
    if not facts.archives:
        return "(by hand, --from)"
    size = facts.archives[0].size or facts.archives[0].about
    return f"(download, {readable_size(size)})" if size else "(download)"


def _check(names: Sequence[str], root: Path, console: Console) -> None:
    found: list[ImageSet] = []
    missing = []
    for facts in [] if names else catalog().values():
        there = locate_set(facts, root)
        if there is not None:
            found.append(there)
    for name in names:
        try:
            found.append(find_set(name, root))
        except UserError as error:
            missing.append(str(error))
    if not found and not names:
        raise UserError(f"There is no image set in {root}; see 'sr-lightning prepare --list'.")
    wrong = bool(missing)
    for images in found:
        report = check_set(images, show=True)
        wrong = wrong or bool(report.problems)
        _say(console, f"{report.name}: {report.summary} ({report.folder})")
        for label, sentences in (("WRONG", report.problems), ("note", report.notes)):
            for sentence in sentences:
                _say(console, f"  {label}: {sentence}")
    for sentence in missing:
        _say(console, sentence)
    if wrong:
        raise SystemExit(1)


def _sides(
    names: Sequence[str], root: Path
) -> tuple[list[ImageSet], dict[str, list[tuple[str, str]]]]:
    """What to compare: training sets, and the names and hashes of test images by benchmark.

    A benchmark that is not here takes part if its hashes are recorded. Names restrict their side.
    """
    known = {name: known_set(name) for name in names}
    tests = [facts for facts in known.values() if facts and facts.kind == "benchmark"]
    train = [find_set(name, root) for name, facts in known.items() if facts not in tests]
    if not train:
        usual = [facts for facts in catalog().values() if facts.kind == "train"]
        train = [there for facts in usual if (there := locate_set(facts, root))]
    hashes = {}
    for facts in tests or [one for one in catalog().values() if one.kind == "benchmark"]:
        there = locate_set(facts, root)
        hashes[facts.name] = (
            [(one.file.name, one.phash) for one in measure(there.files) if one.phash]
            if there
            else [(one.name, one.phash) for one in references(facts.name)]
        )
    return train, {name: found for name, found in hashes.items() if found}


def _leaks(names: Sequence[str], root: Path, console: Console) -> None:
    """Compare training sets with benchmarks by what their images show."""
    train, tests = _sides(names, root)
    if not train:
        raise UserError(f"There is no training set in {root}; see 'sr-lightning prepare --list'.")
    hashes = [
        (f"{images.name}/{one.file.name}", one.phash)
        for images in train
        for one in measure(images.files, f"Reading {images.name}")
        if one.phash
    ]
    others = [(f"{name}/{title}", phash) for name, known in tests.items() for title, phash in known]
    leaks = sorted(find_leaks(hashes, others), key=lambda leak: leak.distance)
    same = [leak for leak in leaks if leak.distance <= SAME_PICTURE]
    _say(
        console,
        f"Compared {len(hashes)} images of {', '.join(one.name for one in train)} with "
        f"{len(others)} of {', '.join(tests)}.",
    )
    if not leaks:
        _say(console, "No training image shows a test image.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("training image", "test image", "bits that differ of 64", ""):
        table.add_column(title, overflow="fold")
    for leak in leaks:
        verdict = "the same picture" if leak in same else "looks alike"
        table.add_row(leak.train, leak.test, str(leak.distance), verdict)
    console.print(table)
    if same:
        _say(console, "Take the same pictures out of the training folders.")
        raise SystemExit(1)
