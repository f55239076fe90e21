"""The process of one cell: its ``fit``, then its ``test``, each printed as it could be typed."""

from __future__ import annotations

import json
import shlex
import sys

from sr_lightning.cli import main

__all__ = ["run"]


def run(commands: list[list[str]]) -> None:
    """Run commands one after the other; a failing one ends the process.

    Args:
        commands: each as typed after ``sr-lightning``.
    """
    for arguments in commands:
        print(f"$ sr-lightning {shlex.join(arguments)}", flush=True)
        main(arguments)


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))
