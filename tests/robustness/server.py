"""A process that has imported everything once and forks a child for every command that is tried.

It reads requests as lines of JSON and answers in the same way. With ``shim.c`` preloaded, a child
can die or fail at a chosen act on files of a folder, whatever library makes it.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import io
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

_MEMORY = 24 << 30
# Times the seconds of processor time.
_WALL = 1.5
_PRELOADED = (
    *("pandas", "matplotlib.figure", "jinja2", "pyvips", "tifffile", "scipy.io", "scipy.ndimage"),
    *("scipy.stats", "h5py", "pydantic", "wandb", "filelock", "torch.export", "torch._export"),
    *("sr_lightning.training.cli", "sr_lightning.training.module", "sr_lightning.experiments"),
    *("sr_lightning.studies.runner", "sr_lightning.doctor.results", "sr_lightning.report.html"),
)


def _serve() -> None:
    import torch

    from sr_lightning.cli import TOOLS
    from sr_lightning.papers import asdn, cirn, cmsc, hfdn, lesrcnn  # noqa: F401

    torch.set_num_threads(1)
    for name in (*_PRELOADED, *(module for module, _ in TOOLS.values())):
        importlib.import_module(name)
    _add_a_small_set()
    gc.collect()
    # Children share what they never free.
    gc.freeze()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(_answer(json.loads(line))) + "\n")
        answers.flush()


def _add_a_small_set() -> None:
    """Let ``prepare`` know a set that small samples can be taken for."""
    from sr_lightning.data import catalog as module
    from sr_lightning.data import prepare

    animals = module.SetFacts("Animals", "train", 3, ("Animals",), layouts=({"photos": ""},))
    known = {**module.catalog(), "animals": animals}
    for one in (module, prepare):
        one.catalog = lambda: known  # type: ignore[assignment]


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Run a command in a child; its exit status (None of a hang), peak memory and acts."""
    acts, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(acts)
        _be(told=told, **asked)
    os.close(told)
    status, used, end = None, None, time.monotonic() + _WALL * asked["seconds"]
    while time.monotonic() < end:
        done, code, used = os.wait4(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(code)
            break
        time.sleep(0.01)
    else:
        os.killpg(child, signal.SIGKILL)
        _, _, used = os.wait4(child, 0)
    if status == -signal.SIGXCPU:
        status = None
    with os.fdopen(acts) as said:
        return {"status": status, "memory": used.ru_maxrss << 10, "acts": int(said.read() or -1)}


def _be(
    arguments: list[str],
    folder: str,
    log: str,
    seconds: int,
    meddle: list[int] | None,
    environment: dict[str, str],
    zoo: str | None,
    told: int,
) -> None:
    """Become the command; never returns."""
    status = 99
    shim = ctypes.CDLL(None)
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        os.chdir(folder)
        os.environ.update(environment)
        opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(opened, stream)
        sys.stdin = io.StringIO()
        sys.stdout, sys.stderr = (os.fdopen(os.dup(opened), "w", buffering=1) for _ in range(2))
        from sr_lightning.cli import main

        if zoo is not None:
            from sr_lightning.weights import zoo as module

            module.ZOO = Path(zoo)
        if meddle is not None:
            at, mode, error = meddle
            shim.shim_set(os.fsencode(f"{folder}/"), ctypes.c_long(at), mode, error)
        main(arguments)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        if meddle is not None:
            os.write(told, str(shim.shim_count()).encode())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
