"""What the README tells users to type works."""

from __future__ import annotations

import re

import torch
from conftest import ROOT, picture
from PIL import Image

from sr_lightning.cli import TOOLS, TRAINER_COMMANDS

README = (ROOT / "README.md").read_text()


def test_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    hr = Image.fromarray(picture(1, 96, 80))
    hr.save("photo_hr.png")
    hr.resize((20, 24), Image.Resampling.BICUBIC).save("photo.png")
    exec(compile(code, "README.md", "exec"), {})
    assert Image.open("photo_x4.png").size == (80, 96)
    value = re.search(r"tensor\(\[?([\d.]+)", capsys.readouterr().out)
    assert 10 < float(value.group(1)) < 60
    assert torch.is_grad_enabled()


def test_commands_of_the_readme_exist():
    named = set(re.findall(r"^sr-lightning (\w+)", README, re.MULTILINE))
    assert named >= {"fit", "test", "upscale", "export", "study"}
    assert named <= {*TOOLS, *TRAINER_COMMANDS}


def test_experiments_and_overlays_of_the_readme_exist():
    named = set(re.findall(r"(?:experiments|configs)/[\w/]+\.yaml", README))
    assert len(named) > 8
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []
