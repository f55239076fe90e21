"""What the documents tell users to type works."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, picture, save_pictures
from PIL import Image

from sr_lightning.cli import TOOLS, TRAINER_COMMANDS, main
from sr_lightning.inference.compare import ComparedPhotograph, Photograph, compare, photographs
from sr_lightning.metrics.protocol import get_protocol
from sr_lightning.weights.zoo import load_weights

README = (ROOT / "README.md").read_text()
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / ".github").glob("*.md")),
    *(path for top in ("sr_lightning", "experiments") for path in (ROOT / top).rglob("README.md")),
]
TEXT = "\n".join(path.read_text() for path in DOCUMENTS)
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    (code,) = (code for code in PYTHON if "photo.png" in code)
    monkeypatch.chdir(tmp_path)
    hr = Image.fromarray(picture(1, 96, 80))
    hr.save("photo_hr.png")
    hr.resize((20, 24), Image.Resampling.BICUBIC).save("photo.png")
    exec(compile(code, "README.md", "exec"), {})
    assert Image.open("photo_x4.png").size == (80, 96)
    value = re.search(r"'psnr': ([\d.]+)", capsys.readouterr().out)
    assert 10 < float(value.group(1)) < 60
    assert torch.is_grad_enabled()


def test_commands_of_the_readme_exist():
    named = set(re.findall(r"(?:^|`)sr-lightning (\w[\w-]*)", TEXT, re.MULTILINE))
    assert named >= {"fit", "test", "upscale", "study", "plot-scales"}
    assert named <= {*TOOLS, *TRAINER_COMMANDS}


def test_experiments_and_overlays_of_the_readme_exist():
    named = set(re.findall(r"(?:experiments|configs)/[\w/]+\.yaml", TEXT))
    assert len(named) > 20
    assert [
        name for name in sorted(named) if "NAME" not in name and not (ROOT / name).is_file()
    ] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_the_documents_lead_somewhere(path):
    text = path.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([\w-]+))?\)", text)
    assert [file for file, _ in links if not (path.parent / file).exists()] == []
    for file, anchor in links:
        if anchor:
            target = (path.parent / file) if file else path
            headings = re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings]


def test_readme_is_short():
    assert len(README.split()) <= 900


def test_picture_of_the_readme_is_of_todays_weights(tmp_path):
    (path,) = [one.path for one in photographs(root=tmp_path) if one.path.stem == "astronaut"]
    caption = re.search(r"!\[LR, bicubic (.*?), and the original\]", README).group(1)
    named = {"FSRCNN": "fsrcnn_x4", "LESRCNN": "lesrcnn_x4", "HFDN": "hfdn_x4"}
    networks = {label: load_weights(name) for label, name in named.items()}
    drawn = compare(Photograph("astronaut", path), networks, 4, get_protocol("edsr2017"), tmp_path)
    made = ComparedPhotograph.read(drawn.with_suffix(".json"))
    psnr = {m.label: m.numbers.get("psnr") for m in made.methods}
    found = {
        label: float(re.search(rf"(?:^|, ){label} ([\d.]+) dB", f"bicubic {caption}").group(1))
        for label in ("bicubic", *named)
    }
    for label, value in found.items():
        # Another processor's convolutions sum in another order.
        assert psnr[label] == pytest.approx(value, abs=0.011)


def test_your_network_in_15_lines_works_as_printed(tmp_path, monkeypatch, capfd):
    section = README.partition("## Your network in 15 lines\n")[2].partition("\n## ")[0]
    files = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", section, re.DOTALL))
    assert list(files) == ["mynet.py", "mynet.yaml", "versus.yaml"]
    assert len([line for line in files["mynet.py"].splitlines() if line.strip()]) <= 15
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    save_pictures(tmp_path / "photos", 3, (96, 96), seed=1)
    save_pictures(tmp_path / "bench", 2, (64, 64), seed=9)
    (commands,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    for line in commands.splitlines():
        main(shlex.split(line, comments=True)[1:])
    # Other tests have networks of this name.
    del sys.modules["mynet"]
    said = capfd.readouterr().out
    assert "MyNet against two compared networks" in " ".join(said.split())
    assert Image.open("bench/img_00_x4.png").size == (256, 256)
    entries = sorted(path.parent.name for path in Path("results/versus/quick").rglob("*.json"))
    assert entries == ["FSRCNN", "MyNet", "SRCNN"]
    page = Path("runs/report/index.html").read_text()
    assert "MyNet against two compared networks" in page
    for claim in ("MyNet &gt; FSRCNN", "MyNet &gt; SRCNN"):
        assert claim in page
    assert re.search("inconclusive|not converged", page), "one seed in few steps"
    assert "HFDN" not in page, "only the study that was named"
