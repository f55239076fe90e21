"""``make docs``: the site is built, and nothing in it leads nowhere."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_site_is_built_without_a_warning():
    pytest.importorskip("pdoc")
    pytest.importorskip("gradio")
    command = [sys.executable, ROOT / ".ci" / "docs.py"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    options = (ROOT / "build" / "docs" / "options.html").read_text()
    for option in ("model.scheduler", "data.patch_size", "model.network", "wandb.mode"):
        assert f"--{option}<" in options
