"""The commands: ``sr-lightning fit | validate | test | predict`` and the tools beside them.

The four are a plain LightningCLI: every value of a YAML file can be given on the command line,
later ``--config`` files change earlier ones, and a typo is refused with its key.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

__all__ = ["main", "quiet"]

TRAINER_COMMANDS = ("fit", "validate", "test", "predict")
TOOLS = {
    "init": ("sr_lightning.init", "experiments and studies into a folder of yours"),
    "prepare": ("sr_lightning.data.prepare", "get image sets and check them"),
    "upscale": ("sr_lightning.inference.upscale", "upscale photographs"),
    "serve": ("sr_lightning.inference.serve", "a page that upscales photographs"),
    "compare": ("sr_lightning.inference.compare", "all networks on your HR photographs"),
    "export": ("sr_lightning.inference.export", "a network as ONNX or as a PyTorch program"),
    "study": ("sr_lightning.studies.cli", "ablations: run, resume, verdicts"),
    "report": ("sr_lightning.report.cli", "published numbers beside measured ones"),
    "dashboard": ("sr_lightning.report.dashboard", "the W&B workspace or report of a study"),
    "zoo": ("sr_lightning.studies.campaign", "the queue of trainings that weights come from"),
    "doctor": ("sr_lightning.doctor.cli", "why is my PSNR not the paper's? judge LR, SR images"),
    "weights": (
        "sr_lightning.inference.weights_cli",
        "convert, verify and measure weights, authors' and ours",
    ),
    "complexity": ("sr_lightning.studies.complexity", "parameters, MACs and speed of networks"),
    "plot-scales": (
        "sr_lightning.studies.plot_scales",
        "draw PSNR over scale, of one tested run or more",
    ),
}

_HELP = """\
usage: sr-lightning COMMAND [OPTIONS]

train and measure (each takes --help, --config FILE, --print_config):
  fit         train:    sr-lightning fit --config experiments/hfdn_x4.yaml
  validate    measure the held-out images of a run
  test        measure benchmark sets:  sr-lightning test --run runs/hfdn_x4
  predict     upscale a folder with a run:  sr-lightning predict --run RUN --data.predict FOLDER

  --run FOLDER       go on with a run (fit), or use its config and best weights (the others)
  --data-root FOLDER where image sets lie; default: $SR_DATA or ./data
  --scale SCALE      2.8, or '[1.5, 2, 2.8]': what a network of several scales is measured at

tools:
{tools}

every command takes:
  --plugin MODULE    let files name classes of an installed module; may be repeated

'sr-lightning --version' prints the version.

exit status: 0 done; 1 a check or a cell of a study failed; 2 something given cannot be used, or a
place cannot be written; 70 an error of this program, kept in a file; 130 stopped by Ctrl-C; 129 and
143 stopped by SIGHUP and SIGTERM.
"""


def main(args: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        args: What was typed after ``sr-lightning``; default: the process's own.
    """
    given = list(sys.argv[1:] if args is None else args)
    for stream in (sys.stdout, sys.stderr):
        # A terminal of fewer characters is no reason to fail.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    with _stopping(given) as stopped:
        try:
            _dispatch(given)
            sys.stdout.flush()
        except Exception as error:
            _end(error, given, stopped)
        except KeyboardInterrupt:
            by = stopped[0].name if stopped else "Ctrl-C"
            print(f"\nsr-lightning: Stopped by {by}.", file=sys.stderr)
            raise SystemExit(128 + (stopped or [signal.SIGINT])[0]) from None


@contextmanager
def _stopping(given: Sequence[str]) -> Iterator[list[signal.Signals]]:
    """Let a closed terminal, a time limit or ``kill`` stop a command as Ctrl-C does.

    Otherwise what is half written would stay, and children would go on. SIGTERM is Lightning's
    while one of its commands runs, for processes that train together stop together.
    """
    stopped: list[signal.Signals] = []

    def stop(number: int, frame: object) -> NoReturn:
        stopped.append(signal.Signals(number))
        raise KeyboardInterrupt

    command = next((name for name in given if name in (*TRAINER_COMMANDS, *TOOLS)), "")
    names = ["SIGHUP"] if command in TRAINER_COMMANDS else ["SIGHUP", "SIGTERM"]
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        known = []
    # What 'nohup' ignores stays ignored.
    taken = [number for number in known if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _end(error: Exception, given: Sequence[str], stopped: Sequence[signal.Signals]) -> NoReturn:
    """Say in a sentence why a command ends, with its exit status; details go into a file."""
    # The import is late so that --help and mistakes answer at once.
    from sr_lightning.errors import StoppedError, UserError

    status, said = 2, str(error)
    if isinstance(error, BrokenPipeError):
        # Whoever read has gone, as 'head' does.
        status, said = 1, ""
    elif isinstance(error, StoppedError) and stopped:
        status = 128 + stopped[0]
    elif isinstance(error, UserError):
        status = error.status
    elif isinstance(error, MemoryError) or "out of memory" in said or "can't allocate" in said:
        said = (
            "There is not enough memory for this; work on smaller images or with --tile, on fewer "
            "at a time (data.batch_size, --jobs), or on a machine with more."
        )
    elif isinstance(error, OSError):
        where = error.filename or "A file or a connection cannot be used"
        advice = "; free some space" if error.errno in {errno.ENOSPC, errno.EDQUOT} else ""
        said = f"{where}: {error.strerror or error}{advice}."
    else:
        status = 70
        first = next(iter(said.strip().splitlines()), "no reason given")
        said = (
            f"Something unforeseen happened ({type(error).__name__}: {first:.200}); what is known "
            f"of it is in {_log_of(error, given)}; please report it with that file."
        )
    try:
        sys.stdout.flush()
    except OSError:
        # Python would complain of it once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if said:
        print(f"sr-lightning: {said}", file=sys.stderr)
    raise SystemExit(status) from None


def _log_of(error: Exception, given: Sequence[str]) -> str:
    """Write down an error that no one foresaw; where that cannot be done, print it."""
    from sr_lightning import __version__

    lines = [
        f"sr-lightning {__version__}, Python {sys.version.split()[0]}, {sys.platform}\n",
        f"$ {shlex.join(['sr-lightning', *given])}\n\n",
        *traceback.format_exception(error),
    ]
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    for folder in (Path(state) / "sr-lightning", Path(tempfile.gettempdir())):
        path = folder / f"error-{time.strftime('%Y-%m-%d_%H-%M-%S')}-{os.getpid()}.txt"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines), encoding="utf-8", errors="replace")
        except OSError:
            continue
        return str(path)
    sys.stderr.writelines(lines)
    return "the lines above"


def _dispatch(given: list[str]) -> None:
    from sr_lightning import __version__
    from sr_lightning.classes import use_current_folder
    from sr_lightning.errors import UserError

    use_current_folder()
    given = _without_plugins(given)
    if not given or given[0] in {"-h", "--help", "help"}:
        tools = "\n".join(f"  {name:<11} {what}" for name, (_, what) in TOOLS.items())
        print(_HELP.format(tools=tools), end="")
    elif given[0] in {"-V", "--version"}:
        print(f"sr-lightning {__version__}")
    elif given[0] in TOOLS:
        module = importlib.import_module(TOOLS[given[0]][0])
        module.main(given[1:])
    elif given[0] in TRAINER_COMMANDS:
        from sr_lightning.training.cli import run_trainer_command

        quiet()
        run_trainer_command(given)
    else:
        raise UserError(f"There is no command '{given[0]}'; see 'sr-lightning --help'.")


def _without_plugins(given: list[str]) -> list[str]:
    """Take every ``--plugin MODULE`` out of the arguments, and let files name its classes."""
    from sr_lightning.classes import use_plugin
    from sr_lightning.errors import UserError

    rest: list[str] = []
    pending = iter(given)
    for argument in pending:
        name, equals, module = argument.partition("=")
        if name != "--plugin":
            rest.append(argument)
            continue
        module = module if equals else next(pending, "")
        if not module or module.startswith("-"):
            raise UserError("--plugin needs the name of a module, as in 'import'.")
        use_plugin(module)
    return rest


def quiet() -> None:
    """Silence what users cannot act on; what they can is said in our own words."""
    for name in ("utilities.rank_zero", "trainer.connectors.checkpoint_connector"):
        logging.getLogger(f"lightning.pytorch.{name}").addFilter(_is_worth_saying)
    for text in _NOISE:
        warnings.filterwarnings("ignore", message=f".*{re.escape(text)}.*")


def _is_worth_saying(record: logging.LogRecord) -> bool:
    return not any(text in record.getMessage() for text in _NOISE)


_NOISE = (
    # Lightning's advertisements.
    "litlogger",
    "TPU available: False",
    # Said by Lightning about its own code.
    "isinstance(treespec, LeafSpec)",
    "``instantiate_classes`` was deprecated",
    "only one JsonargparseDeprecationWarning per type is shown",
    # Checkpoints are read by weights_only wherever that can be.
    "`weights_only` was not set",
    # A test needs the weights of a checkpoint, not the callbacks of the training.
    "callbacks used to create the checkpoint need to be provided",
    "loading a checkpoint outside the 'fit' stage",
    # The budgets' own limits, already in the config.
    "was configured so",
    "smaller than the logging interval",
    "Tip: ",
    "For seamless cloud",
    # Loaders here assemble a batch in a millisecond; worker processes make that slower on a CPU.
    "does not have many workers",
    # The patches of a step do not depend on the loader's state.
    "resuming from a checkpoint that ended before the epoch ended",
    # One length for several workers: each takes every n-th step.
    "has `__len__` defined",
    "Length of IterableDataset",
    # Checkpoints of an interrupted or finished run share the folder on purpose.
    "exists and is not empty",
)
