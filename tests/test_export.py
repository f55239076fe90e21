"""Exported files run without the package and give the network's images."""

from __future__ import annotations

import json
import subprocess
import sys

import onnx
import onnxruntime
import pytest
import test_baselines
import test_released_networks
import torch

from sr_lightning.baselines.fsrcnn import FSRCNN
from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.inference import export as exporting
from sr_lightning.inference.export import export
from sr_lightning.papers.asdn import ASDN, FSDN
from sr_lightning.papers.cirn import CIRN
from sr_lightning.papers.cmsc import CMSC
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.papers.lesrcnn import LESRCNN
from sr_lightning.weights.files import load_network, save_network
from sr_lightning.weights.zoo import find_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    """FSRCNN x2 with weights of chance."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_network(FSRCNN(scale=2), path)
    return str(path)


def onnx_of(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda lr: torch.from_numpy(session.run(["sr"], {"lr": lr.numpy()})[0])


def refused(capsys, *args: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["export", *args])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_onnx_file_upscales_images_of_any_size_as_the_network_does(weights, tmp_path, capsys):
    path = tmp_path / "new" / "small.onnx"
    main(["export", weights, "--out", str(path)])
    said = capsys.readouterr().out
    assert f"FSRCNN x2 ({weights}) -> {path}" in said
    assert "(batch, 3, 2 * height, 2 * width)" in said
    (tmp_path / "neighbour").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "neighbour").stat().st_mode
    run, network = onnx_of(path), load_network(weights)
    for shape in ((1, 3, 9, 31), (4, 3, 16, 8)):
        lr = torch.rand(shape)
        with torch.inference_mode():
            torch.testing.assert_close(run(lr), network(lr), rtol=0, atol=1e-5)


def test_onnx_file_says_what_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["export", "fsrcnn_x4"])
    model = onnx.load(tmp_path / "fsrcnn_x4.onnx")
    notes = {entry.key: entry.value for entry in model.metadata_props}
    record = find_weights("fsrcnn_x4")
    assert notes["network"] == "FSRCNN"
    assert notes["scale"] == "4"
    assert notes["sha256"] == record.sha256
    assert notes["training_data_licence"] == record.data_licence
    psnr = record.measured["edsr2017"]["Set5_x4"]["psnr"]
    assert notes["Set5"].startswith(f"{psnr:.2f} dB")
    assert notes["margin_of_exact_tiles"] == str(load_network(record.file).receptive_field // 2)
    sides = [side.dim_param for side in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", "", "height", "width"]


_WITHOUT_US = """
import sys, torch
notes = {"notes.json": ""}
run = torch.export.load(sys.argv[1], extra_files=notes).module()
torch.save(run(torch.load(sys.argv[2])), sys.argv[3])
assert not any(name.startswith("sr_lightning") for name in sys.modules)
print(notes["notes.json"])
"""


def test_program_runs_where_this_package_is_not(weights, tmp_path):
    path, lr, sr = tmp_path / "small.pt2", tmp_path / "lr.pt", tmp_path / "sr.pt"
    main(["export", weights, "--out", str(path)])
    image = torch.rand(2, 3, 11, 8)
    torch.save(image, lr)
    command = [sys.executable, "-c", _WITHOUT_US, str(path), str(lr), str(sr)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    notes = json.loads(out)
    assert (notes["network"], notes["weights"]) == ("FSRCNN", "small.safetensors")
    with torch.inference_mode():
        torch.testing.assert_close(torch.load(sr), load_network(weights)(image))


def test_file_of_one_size_takes_no_other(weights, tmp_path, capsys):
    path = tmp_path / "small.onnx"
    main(["export", weights, "--out", str(path), "--size", "12", "20"])
    assert "(1, 3, 12, 20)" in capsys.readouterr().out
    run = onnx_of(path)
    assert run(torch.rand(1, 3, 12, 20)).shape == (1, 3, 24, 40)
    with pytest.raises(Exception, match="Got invalid dimensions"):
        run(torch.rand(1, 3, 12, 21))


def test_run_is_exported_with_its_best_weights(finished_run, tmp_path):
    path = tmp_path / "run.pt2"
    main(["export", str(finished_run), "--out", str(path)])
    best = next((finished_run / "checkpoints").glob("best_*.ckpt"))
    lr = torch.rand(1, 3, 12, 14)
    with torch.inference_mode():
        given = torch.export.load(path).module()(lr)
        torch.testing.assert_close(given, load_network(best)(lr))


def test_file_that_differs_is_not_left_and_an_older_one_stays(
    weights, tmp_path, monkeypatch, capsys
):
    path = tmp_path / "small.pt2"
    path.write_text("older")
    monkeypatch.setattr(exporting, "_TOLERANCE", -1.0)
    assert "was not written: it would differ" in refused(capsys, weights, "--out", str(path))
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_network_that_torch_cannot_trace_is_said_so(tmp_path):
    class Untraceable(FSRCNN):
        def forward(self, lr):
            return super().forward(lr) * float(lr.mean())

    with pytest.raises(UserError, match=r"Untraceable cannot be exported by torch [\d.]+"):
        export(Untraceable(scale=2).eval(), tmp_path / "a.pt2", 2)
    assert list(tmp_path.iterdir()) == []


def test_network_that_gives_no_numbers_is_not_exported(tmp_path):
    network = FSRCNN(scale=2).eval()
    torch.nn.init.constant_(next(network.parameters()), float("nan"))
    with pytest.raises(UserError, match="would differ from the network by nan"):
        export(network, tmp_path / "a.pt2", 2)
    assert list(tmp_path.iterdir()) == []


def test_without_onnx_the_other_format_is_named(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    said = refused(capsys, weights, "--out", str(tmp_path / "a.onnx"))
    assert "pip install sr-lightning[export]" in said
    assert ".pt2" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out", "a.txt"], "a.txt has to end in .onnx or .pt2"),
        (["--scale", "3"], "upscale by x2, not by x3"),
        (["--size", "0", "4"], "--size needs a height and a width of at least 1"),
    ],
)
def test_mistakes_are_said_in_one_sentence(weights, tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    assert words in refused(capsys, weights, *options)
    assert list(tmp_path.iterdir()) == []


_ASDN = {"blocks": 2, "layers": 2, "channels": 8, "growth": 6, "stem": 8, "reduction": 4}
_PAPERS = {
    "HFDN": (HFDN, {"channels": 16, "blocks": 1, "layers": 2, "growth": 8, "reduction": 4}, 4),
    "LESRCNN": (LESRCNN, {"channels": 8, "pairs": 3}, 3),
    "CMSC": (CMSC, {"scale": [2, 3], "stages": 2, "modules": 2, "channels": 16, "width": 8}, 3),
    "CIRN": (CIRN, {"groups": 3, "blocks": 1, "channels": 16}, 2),
    "FSDN": (FSDN, _ASDN, 3),
    "ASDN": (ASDN, _ASDN, 2.8),
}


_COMPARED = {name: room for room in (test_baselines, test_released_networks) for name in room.SMALL}


def _network(name: str):
    if name not in _PAPERS:
        room = _COMPARED[name]
        scale = room.SMALL[name][2][-1]
        return room.small(name, scale), scale
    kind, arguments, scale = _PAPERS[name]
    own = {} if kind in (CMSC, ASDN) else {"scale": scale}
    return kind(**own, **arguments).eval(), scale


@pytest.mark.slow
@pytest.mark.parametrize("name", [*_PAPERS, *_COMPARED])
def test_every_network_becomes_onnx(name, tmp_path):
    network, scale = _network(name)
    made = export(network, tmp_path / "a.onnx", scale)
    lr = torch.rand(2, 3, 13, 22)
    with torch.inference_mode():
        torch.testing.assert_close(
            onnx_of(made.path)(lr), network.upscale(lr, scale), rtol=0, atol=1e-4
        )


@pytest.mark.slow
def test_sizes_that_an_engine_rounds_otherwise_are_refused(tmp_path):
    with pytest.raises(UserError, match="the network 57 x 46; choose one size with --size"):
        export(ASDN(**_ASDN).eval(), tmp_path / "a.onnx", 2.3)
