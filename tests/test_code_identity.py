"""Results know which code made them: what changes the identity of code, and what does not."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from sr_lightning import code_identity as module
from sr_lightning.code_identity import class_paths, code_identity, reached
from sr_lightning.errors import UserError
from sr_lightning.experiments import experiment_file
from sr_lightning.studies.ledger import ASIDE, code_of

PACKAGE = ROOT / "sr_lightning"


# ---- definitions of the suite -------------------------------------------------------------------

SMALL = {
    "sr_lightning/__init__.py": "",
    "sr_lightning/net.py": """
        import torch
        from torch import nn

        from sr_lightning import parts
        from sr_lightning.tools.filters import blur as smooth, SIZE
        from sr_lightning.shown import draw

        class Net(nn.Module):
            def forward(self, x):
                if x.ndim != 4:
                    raise ValueError(f"{x.ndim} dimensions; see {draw(x)}")
                return parts.twice(smooth(x, SIZE))
    """,
    "sr_lightning/parts.py": """
        from sr_lightning.tools import filters

        def twice(x):
            return 2 * filters.even(x)

        def unused(x):
            return x
    """,
    "sr_lightning/tools/__init__.py": "",
    "sr_lightning/tools/filters.py": """
        from sr_lightning.errors import UserError

        SIZE = 3

        def blur(x, size):
            return x / size

        def even(x):
            return blur(x, 2)
    """,
    "sr_lightning/errors.py": "class UserError(Exception):\n    pass\n",
    "sr_lightning/shown.py": "def draw(x):\n    return 'a picture'\n",
}


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """A folder whose ``sr_lightning`` is taken for the suite."""

    def find(name):
        return PathFinder.find_spec(name, [str(tmp_path)]) or PathFinder.find_spec(name)

    monkeypatch.setattr(module, "find_spec", find)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.split("\n")
        margin = min((len(li) - len(li.lstrip()) for li in lines if li.strip()), default=0)
        path.write_text("\n".join(line[margin:] for line in lines))


@pytest.fixture
def small(suite):
    write(suite, SMALL)
    return suite


def identity() -> str:
    return code_identity(["sr_lightning.net.Net"])


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    # Longer than before, so that even a clock that stands still shows the change.
    path.write_text(text.replace(old, new) + "\n" * 3)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("tools/filters.py", "x / size", "x / size / 2"),
        ("tools/filters.py", "SIZE = 3", "SIZE = 5"),
        ("tools/filters.py", "blur(x, 2)", "blur(x, 4)"),
        ("parts.py", "2 * filters", "3 * filters"),
        ("net.py", "ndim != 4", "ndim != 3"),
        ("net.py", "raise ValueError", "raise TypeError"),
        # Another package's class under the same name.
        ("net.py", "from torch import nn", "from torch import jit as nn"),
        # What a name stands for, though each definition stays as it is.
        ("net.py", "blur as smooth", "even as smooth"),
    ],
)
def test_whatever_a_run_can_reach_counts(small, file, old, new):
    before = identity()
    edit(small / "sr_lightning" / file, old, new)
    assert identity() != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("net.py", "class Net", "# A comment.\nclass Net"),
        ("net.py", "def forward(self, x):", "def forward(self, x):\n        'What it does.'"),
        ("net.py", "parts.twice(smooth(x, SIZE))", "(\n    parts.twice(smooth(x, SIZE)))"),
        ("net.py", "dimensions; see", "dimensions are wrong; look at"),
        ("net.py", "import torch\n", ""),
        ("net.py", "from torch import nn", "import torch.nn as nn"),
        ("net.py", "from sr_lightning import parts", "import sr_lightning.parts as parts"),
        ("net.py", "from sr_lightning.tools.f", "from .tools.f"),
        ("parts.py", "    return x\n", "    return -x\n"),
        ("shown.py", "a picture", "a better picture"),
        ("parts.py", "def twice", "if __name__ == '__main__':\n    twice(1)\ndef twice"),
    ],
)
def test_what_decides_no_number_does_not_count(small, file, old, new):
    before = identity()
    edit(small / "sr_lightning" / file, old, new)
    assert identity() == before


def test_files_and_definitions_may_move(small):
    before = identity()
    package = small / "sr_lightning"
    (package / "tools" / "filters.py").rename(package / "smoothing.py")
    edit(package / "net.py", "tools.filters", "smoothing")
    edit(package / "parts.py", "sr_lightning.tools import filters", "sr_lightning import smoothing")
    edit(package / "parts.py", "filters.even", "smoothing.even")
    moved = identity()
    assert moved != before, "the module's name is mentioned in a definition"
    edit(package / "parts.py", "import smoothing", "import smoothing as filters")
    edit(package / "parts.py", "smoothing.even", "filters.even")
    assert identity() == before
    write(small, {"sr_lightning/sizes.py": "SIZE = 3"})
    edit(package / "smoothing.py", "SIZE = 3", "from sr_lightning.sizes import SIZE")
    assert identity() == before


def test_names_that_a_package_hands_on_are_followed(small):
    before = identity()
    package = small / "sr_lightning"
    (package / "tools" / "__init__.py").write_text("from sr_lightning.tools.filters import *\n")
    edit(package / "net.py", "tools.filters", "tools")
    assert identity() == before
    (package / "tools" / "__init__.py").write_text(
        "def __getattr__(name):\n    from .filters import SIZE, blur\n    return locals()[name]"
    )
    assert identity() == before


def test_circles_of_imports_end(small):
    before = identity()
    edit(
        small / "sr_lightning" / "tools" / "filters.py",
        "SIZE = 3",
        "SIZE = 3\nimport sr_lightning.net",
    )
    (small / "sr_lightning" / "tools" / "__init__.py").write_text("from . import filters\n")
    assert identity() == before


def test_definitions_set_aside_are_not_followed(small):
    def aside() -> str:
        return code_identity(["sr_lightning.net.Net"], ["twice"])

    before = aside()
    edit(small / "sr_lightning" / "parts.py", "2 * ", "3 * ")
    assert aside() == before


def test_missing_class_and_broken_source_are_named(small):
    with pytest.raises(UserError, match=r"no 'sr_lightning\.net\.Nett'"):
        code_identity(["sr_lightning.net.Nett"])
    edit(small / "sr_lightning" / "parts.py", "2 * ", "2 ** * ")
    with pytest.raises(UserError, match=r"parts\.py cannot be read as Python"):
        identity()


# ---- the user's modules -------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with a network of the user's own."""
    write(
        tmp_path,
        {
            "mynet.py": """
                from mylib.blocks import block
                import sideways

                class MyNet:
                    def forward(self, x):
                        return block(x)
            """,
            "mylib/__init__.py": "",
            "mylib/blocks.py": """
                from . import _helper

                def block(x):
                    return _helper.FACTOR * x
            """,
            "mylib/_helper.py": "FACTOR = 1\n",
            "sideways.py": "import torch\n\ntorch.rand = torch.zeros\n",
            "apart.py": "X = 1\n",
        },
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("mynet.py", "block(x)", "block(-x)"),
        ("mylib/blocks.py", "* x", "+ x"),
        ("mylib/_helper.py", "FACTOR = 1", "FACTOR = 0"),
        ("mylib/__init__.py", "", "import torch\ntorch.set_num_threads(1)"),
        ("sideways.py", "torch.zeros", "torch.ones"),
    ],
)
def test_modules_behind_a_users_network_count(own, file, old, new):
    before = code_identity(["mynet.MyNet"])
    edit(own / file, old, new)
    assert code_identity(["mynet.MyNet"]) != before


def test_other_files_of_the_user_and_comments_do_not_count(own):
    before = code_identity(["mynet.MyNet"])
    edit(own / "apart.py", "X = 1", "X = 2")
    edit(own / "mylib" / "_helper.py", "FACTOR = 1", "FACTOR = 1  # one")
    assert code_identity(["mynet.MyNet"]) == before


def test_the_suite_behind_a_users_network_counts(own):
    edit(own / "mynet.py", "import sideways", "from sr_lightning.baselines.edsr import EDSR")
    edit(own / "mynet.py", "class MyNet:", "class MyNet(EDSR):")
    found = {name for statement in reached(["mynet.MyNet"]) for name in statement.names}
    assert {"EDSR", "SRNetwork", "FACTOR"} <= found


def test_classes_are_found_in_configs():
    config = {
        "model": {"class_path": "mynet.MyNet", "init_args": {"lr": 1e-4, "unit": "adu"}},
        "trainer": {"callbacks": [{"class_path": "a.b.C"}], "root": "/x/y.z", "note": "e.g. this"},
    }
    assert class_paths(config) == ["a.b.C", "mynet.MyNet"]


# ---- the suite itself ---------------------------------------------------------------------------


def code(name: str) -> str:
    return code_of(yaml.safe_load(experiment_file(ROOT, name).read_text()))


@pytest.fixture
def copied(suite):
    """A copy of the suite that may be changed."""
    shutil.copytree(PACKAGE, suite / "sr_lightning", ignore=shutil.ignore_patterns("*.safetensors"))
    return suite / "sr_lightning"


def test_a_compared_network_counts_where_it_is_used(copied):
    names = ("meta_edsr", "mdsr", "edsr_conv", "hfdn_x4", "vdsr")
    before = {name: code(name) for name in names}
    edit(copied / "baselines" / "edsr.py", "return ", "return 2 * ")
    assert {name for name in names if code(name) != before[name]} == {
        "meta_edsr",
        "mdsr",
        "edsr_conv",
    }


def test_a_file_of_the_suite_may_get_another_name(copied):
    before = code("hfdn_x4")
    (copied / "training" / "losses.py").rename(copied / "training" / "terms.py")
    for path in copied.rglob("*.py"):
        text = path.read_text()
        if "training.losses" in text:
            path.write_text(text.replace("training.losses", "training.terms"))
    assert code("hfdn_x4") == before
    edit(copied / "training" / "terms.py", "return ", "return 2 * ")
    assert code("hfdn_x4") != before


def test_screens_pictures_and_tools_do_not_count_but_steps_and_measures_do():
    found = {statement.module.removeprefix("sr_lightning.") for statement in _reached("hfdn_x4")}
    names = {name for statement in _reached("hfdn_x4") for name in statement.names}
    assert {"SRModule", "PatchSampler", "HFDN", "psnr", "ssim", "rgb_to_y", "imresize"} <= names
    assert {"HFDNModule", "BestCheckpoint", "Cosine", "PatchDataModule", "bicubic"} <= names
    rooms = {name.partition(".")[0] for name in found}
    assert not rooms & {"doctor", "studies", "cli", "bench", "baselines"}
    assert not {"StepProgress", "PlainProgress", "ImageStrips", "make_logger"} & names


def _reached(experiment: str) -> dict[module.Statement, list[tuple[str, module.Target]]]:
    config = yaml.safe_load(experiment_file(ROOT, experiment).read_text())
    entries = ["sr_lightning.training.module.SRModule", *class_paths(config)]
    return reached([*entries, "sr_lightning.training.checkpoints.BestCheckpoint"], ASIDE)


def test_every_name_set_aside_is_one_that_is_met():
    met = {target for targets in _reached("hfdn_x4").values() for _, target in targets}
    assert set(ASIDE) <= met


def test_every_name_that_the_suite_takes_from_itself_is_found():
    """A name that were not found would be left out in silence."""
    modules = module._Modules(())
    wanted = set()
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        taken = modules.load(name).imported.values()
        wanted |= {pair for pairs in taken for pair in pairs if pair[0].startswith("sr_lightning")}
    assert len(wanted) > 300
    missing = [
        f"{origin}.{name}"
        for origin, name in sorted(wanted)
        if name and not modules.load(f"{origin}.{name}") and not modules.entry(f"{origin}.{name}")
    ]
    assert missing == []


def test_identity_is_the_same_in_every_process():
    script = "from sr_lightning.code_identity import code_identity as c; print(c([{!r}]))"
    command = [sys.executable, "-c", script.format("sr_lightning.papers.asdn.module.ASDNModule")]
    told = {
        subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    assert re.fullmatch(r"[0-9a-f]{16}\n", told.pop())
