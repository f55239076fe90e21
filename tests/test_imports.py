"""Imports run downward alone, and what is plain torch loads without Lightning."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

PACKAGE = ROOT / "sr_lightning"
# From the ground floor up. A file imports from its own line and from those above it in this list;
# a paper's Lightning module stands with training, and its network below.
FLOORS = (
    {
        "runs",
        "errors",
        "experiments",
        "init",
        "wheel",
        "files",
        "colour",
        "cubic",
        "classes",
        "code_identity",
    },
    {"nn", "data", "metrics"},
    {"papers", "baselines"},
    {"weights"},
    {"inference"},
    {"training"},
    {"cli", "doctor"},
    {"studies"},
    {"report"},
    {"api", "bench", "gpu_check", "demo", "__main__"},
)
HEAVY = {"lightning", "torchmetrics", "kornia"}


def floor(parts):
    """Floor of a module, or None for the package itself, whose names are looked up late."""
    if not parts:
        return None
    name = "training" if parts[0] == "papers" and parts[-1] == "module" else parts[0]
    (found,) = (height for height, rooms in enumerate(FLOORS) if name in rooms)
    return found


def imported(path):
    """Modules of the package that a file names in its imports, as parts below the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, *parts = name.split(".")
            while parts and not is_module(parts):
                parts.pop()
            if package == PACKAGE.name:
                yield parts


def is_module(parts):
    place = PACKAGE.joinpath(*parts)
    return place.is_dir() or place.with_suffix(".py").is_file()


def files():
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


def test_no_import_runs_upward():
    upward = []
    for path in files():
        relative = path.relative_to(PACKAGE)
        own = floor([part for part in relative.with_suffix("").parts if part != "__init__"])
        for parts in imported(path):
            other = floor(parts)
            if other is not None and other > own:
                upward.append(f"{relative} -> {'.'.join(parts)}")
    assert upward == []


def loaded_after(code, heavy=frozenset(HEAVY)):
    """Heavy libraries that a fresh interpreter has loaded after some code."""
    report = f"import sys\n{code}\nprint(*sorted({ ({*heavy}) } & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", report], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def plain_torch():
    """Modules of networks, layers and weights."""
    for path in files():
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] in {"nn", "baselines", "papers", "weights"} and parts[-1] != "module":
            yield ".".join((PACKAGE.name, *parts)).removesuffix(".__init__")


@pytest.mark.parametrize(
    "code",
    [
        "from sr_lightning.weights.zoo import load_weights; load_weights('hfdn_x4')",
        "import sr_lightning.papers.hfdn",
        "\n".join(f"import {name}" for name in plain_torch()),
    ],
    ids=["weights of the zoo", "a paper", "all networks"],
)
def test_networks_and_weights_load_without_lightning(code):
    assert loaded_after(code) == []


def test_upscaling_starts_without_what_it_does_not_need():
    code = "import sr_lightning.inference.upscale, sr_lightning.data.photo_writer"
    assert loaded_after(code, {*HEAVY, "scipy", "pandas", "matplotlib", "wandb"}) == []


def test_loading_weights_leaves_pytorchs_compiler_alone():
    code = "from sr_lightning.weights.zoo import load_weights; load_weights('hfdn_x4')"
    report = f"import sys\n{code}\nprint('torch._dynamo' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", report], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False"]
