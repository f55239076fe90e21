"""The process of one cell: its ``fit``, then its ``test``, each printed as it could be typed.

It ends with the process that started it, however that ends: its training saves itself and stops.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading

from sr_lightning.cli import main

__all__ = ["end_with_runner", "run"]


def run(commands: list[list[str]]) -> None:
    """Run commands one after the other; a failing one ends the process.

    Args:
        commands: Each as typed after ``sr-lightning``.
    """
    for arguments in commands:
        print(f"$ sr-lightning {shlex.join(arguments)}", flush=True)
        main(arguments)


def end_with_runner() -> None:
    """Ask this process to stop, by SIGTERM, as soon as nobody holds the other end of its stdin."""

    def watch() -> None:
        # Not by sys.stdin, whose lock would be held while Python ends.
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    end_with_runner()
    run(json.loads(sys.argv[1]))
