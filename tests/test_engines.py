"""Engines give PyTorch's images; where they cannot, PyTorch does."""

from __future__ import annotations

import logging

import pytest
import torch
from conftest import picture
from PIL import Image
from torch import Tensor, nn

from sr_lightning import api
from sr_lightning.baselines.fsrcnn import FSRCNN
from sr_lightning.baselines.metasr import MetaEDSR
from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.inference import engines
from sr_lightning.inference.engines import ENGINES, EngineNetwork, with_engine
from sr_lightning.inference.evaluate import Evaluator, evaluate_set, means
from sr_lightning.inference.memory import fit_memory
from sr_lightning.inference.upscaler import Upscaler
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.metrics.quality import psnr
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.precision import set_layout
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.weights.zoo import load_weights, records

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")
COMPILED = [name for name in ENGINES if name not in {"auto", "torch"}]
# What no engine runs.
BY_PYTORCH = {"asdn"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SR_CACHE", str(tmp_path / "cache"))
    engines._started_runs.clear()


def kept(tmp_path, suffix=".onnx"):
    return sorted((tmp_path / "cache" / "engines").glob(f"*{suffix}"))


def small() -> SRNetwork:
    torch.manual_seed(0)
    return HFDN(2, channels=8, blocks=1, layers=2, growth=4, reduction=4).eval()


def image_of(*size: int) -> Tensor:
    return torch.from_numpy(picture(1, *size)).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("name", ["lesrcnn_x4", "hfdn_x2", "fsrcnn_x4", "cirn_x4"])
def test_engine_gives_the_networks_image_of_any_size(name, engine):
    network = load_weights(name)
    scale = network.scales[0]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    set_layout(network, channels_last=True)
    run, said = with_engine(network, scale, engine)
    assert said == {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}[engine]
    assert run.receptive_field == network.receptive_field
    assert type(run).__name__ == type(network).__name__
    with torch.inference_mode():
        for size in ((40, 56), (33, 21)):
            lr = torch.cat([image_of(*size), image_of(*size).flip(-1)])
            made, expected = run.upscale(lr, scale), network.upscale(lr, scale)
            torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("name", [record.name for record in records()])
def test_psnr_of_set5_is_pytorchs(name, engine, sr_data):
    network = load_weights(name)
    scale = max(scale for scale in network.scales if scale <= 4)
    run, said = with_engine(network, scale, engine)
    assert said.startswith("PyTorch") == (name in BY_PYTORCH)
    protocols = [PROTOCOLS["edsr2017"]]
    ours, theirs = (
        next(iter(means(evaluate_set(Evaluator(n, protocols), "Set5", scale, sr_data)).values()))
        for n in (run, network)
    )
    assert ours["psnr"] == pytest.approx(theirs["psnr"], abs=1e-4)


@pytest.mark.parametrize("engine", COMPILED)
def test_tiles_and_self_ensemble_work_with_engines(engine):
    network = load_weights("fsrcnn_x4")
    run, _ = with_engine(network, 4, engine)
    lr = image_of(40, 56)
    with torch.inference_mode():
        tiled, whole = Upscaler(run, tile=24)(lr, 4), Upscaler(run)(lr, 4)
        torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)
        ours, theirs = (Upscaler(n, ensemble=True)(lr, 4) for n in (run, network))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", COMPILED)
def test_translation_is_kept_and_a_damaged_one_made_again(tmp_path, engine, monkeypatch):
    network, lr = small(), image_of(24, 24)
    with_engine(network, 2, engine)
    (path,) = kept(tmp_path)
    whole = path.read_bytes()
    other = small()
    torch.nn.init.normal_(next(other.parameters()))
    # Cut off, no ONNX, and a whole file of other weights.
    for damaged in (whole[: len(whole) // 2], b"no model", engines._translated(
        engines._Part(other, 2), tmp_path / "other.onnx"
    )):  # fmt: skip
        path.write_bytes(damaged)
        engines._started_runs.clear()
        run, said = with_engine(network, 2, engine)
        assert not said.startswith("PyTorch")
        assert len(path.read_bytes()) == len(whole)
        with torch.inference_mode():
            torch.testing.assert_close(run.upscale(lr, 2), network(lr), rtol=0, atol=1e-5)
    engines._started_runs.clear()
    monkeypatch.setattr(engines, "_translated", lambda *_: pytest.fail("made again"))
    with_engine(network, 2, engine)


def test_cache_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SR_CACHE", str(tmp_path / "file"))
    assert with_engine(small(), 2, "openvino")[1] == "OpenVINO"
    assert isinstance(with_engine(small(), 2, "auto")[1], str)


def test_oldest_translations_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "_KEPT", 2)
    network = small()
    for _ in range(4):
        torch.nn.init.normal_(next(network.parameters()))
        with_engine(network, 2, "onnxruntime")
    assert len(kept(tmp_path)) == 2


class Untranslated(SRNetwork):
    """A network with an operation that ONNX does not have."""

    scales = (2,)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, lr: Tensor) -> Tensor:
        w = lr.shape[-1]
        wide = torch.linalg.matrix_exp(torch.zeros(w, w)) @ self.conv(lr).transpose(-1, -2)
        return nn.functional.interpolate(wide.transpose(-1, -2), scale_factor=2)


def test_network_that_no_engine_runs_is_left_to_pytorch(tmp_path, capfd):
    for network, scale, words in (
        (Untranslated().eval(), 2, "Untranslated has no ONNX"),
        (MetaEDSR(channels=8, blocks=1).eval(), 1.5, "MetaEDSR"),
    ):
        run, said = with_engine(network, scale, "openvino")
        assert run is network
        assert said.startswith("PyTorch, for ")
        assert words in said
        assert "\n" not in said
        assert with_engine(network, scale)[1] == "PyTorch"
    # Not even its graph is written, where an image may be.
    assert capfd.readouterr().out == ""


def test_second_scale_that_an_engine_lacks_is_upscaled_by_pytorch(caplog, monkeypatch):
    network = load_weights("carn_m")
    run, _ = with_engine(network, 2, "openvino")

    def fails(*_):
        raise engines._UnfitError("a reason")

    monkeypatch.setattr(engines, "_started", fails)
    lr = image_of(16, 16)
    with torch.inference_mode(), caplog.at_level(logging.WARNING):
        assert torch.equal(run.upscale(lr, 3), network.upscale(lr, 3))
    assert "PyTorch upscales by x3, for a reason" in caplog.text


def test_automatic_choice_starts_no_engine_for_little_work(tmp_path, monkeypatch):
    network = small()
    monkeypatch.setattr(engines, "_started", lambda *_: pytest.fail("an engine was started"))
    monkeypatch.setattr(engines, "_times", lambda runs, *_, **__: dict.fromkeys(runs, 1.0))
    # A second for 128 x 128 pixels.
    pixels = 128 * 128 * (engines._LONG - 1)
    assert with_engine(network, 2, pixels=pixels) == (network, "PyTorch")
    assert kept(tmp_path, "") == []


def test_an_engine_that_is_hardly_faster_is_left(tmp_path, monkeypatch):
    seconds = {"torch": 1.19, "onnxruntime": 1.0, "openvino": 1.1}
    monkeypatch.setattr(engines, "_times", lambda runs, *_, **__: {n: seconds[n] for n in runs})
    assert with_engine(small(), 2)[1] == "PyTorch"
    seconds["torch"] = 1.21
    (note,) = kept(tmp_path, ".engine")
    note.unlink()
    assert with_engine(small(), 2)[1] == "ONNX Runtime"


def test_openvino_is_taken_unasked_only_where_it_needs_no_more_memory(tmp_path, monkeypatch):
    seconds = {"torch": 3.0, "onnxruntime": 2.0, "openvino": 1.0}
    monkeypatch.setattr(engines, "_times", lambda runs, *_, **__: {n: seconds[n] for n in runs})
    bounded = FSRCNN(2, channels=8, shrunk=4, depth=1).eval()
    assert bounded.receptive_field is not None
    assert with_engine(bounded, 2)[1] == "OpenVINO"
    assert small().receptive_field is None
    assert with_engine(small(), 2)[1] == "ONNX Runtime"


def test_automatic_choice_is_the_fastest_and_remembered(tmp_path, monkeypatch):
    network = small()
    measured = []

    def times(runs, *_, **__):
        measured.append(set(runs))
        return {name: 1.0 if name == "onnxruntime" else 2.0 for name in runs}

    monkeypatch.setattr(engines, "_times", times)
    assert with_engine(network, 2, pixels=128 * 128 * engines._LONG)[1] == "ONNX Runtime"
    assert measured == [{"torch"}, {"torch", "onnxruntime"}]
    # What is not used is let go.
    assert [key[0] for key in engines._started_runs] == ["onnxruntime"]
    # Now that it is known, it is taken for smaller images as well.
    assert with_engine(network, 2, pixels=engines._FEW)[1] == "ONNX Runtime"
    assert with_engine(network, 2, pixels=engines._FEW - 1)[1] == "PyTorch"
    assert len(measured) == 2
    (note,) = kept(tmp_path, ".engine")
    note.write_text("nonsense")
    assert with_engine(network, 2)[1] == "ONNX Runtime"
    assert len(measured) == 4


def test_sixteen_bits_are_taken_only_where_they_are_faster(monkeypatch):
    network, lr = small(), image_of(24, 24)
    for seconds, said in ((0.5, "PyTorch in bfloat16"), (2.0, "PyTorch")):
        monkeypatch.setattr(
            engines, "_times", lambda runs, *_, s=seconds, **__: {n: s if n else 1.0 for n in runs}
        )
        run, words = with_engine(network, 2, "torch", fast=True)
        assert words == said
        made, expected = run.upscale(lr, 2), network.upscale(lr, 2)
        assert made.dtype == torch.float32
        assert psnr(made.detach().double() * 255, expected.detach().double() * 255) > 40
        assert isinstance(run, EngineNetwork) == (seconds < 1)


def test_fast_openvino_stays_close():
    network, lr = load_weights("lesrcnn_x4"), image_of(32, 32)
    run, _ = with_engine(network, 4, "openvino", fast=True)
    with torch.inference_mode():
        made, expected = (n.upscale(lr, 4).double() * 255 for n in (run, network))
    assert psnr(made, expected) > 45


def test_mistakes_are_said_in_one_sentence(monkeypatch, tmp_path, capsys):
    with pytest.raises(UserError, match="no engine 'warp'; choose from auto, torch"):
        with_engine(small(), 2, "warp")
    with pytest.raises(UserError, match="float32 on the CPU; give --device cpu"):
        with_engine(small().double(), 2, "openvino")
    assert with_engine(small().double(), 2)[1] == "PyTorch"
    monkeypatch.setattr(engines, "_versions", dict)
    Image.fromarray(picture(1, 8, 8)).save(tmp_path / "a.png")
    with pytest.raises(SystemExit) as stopped:
        main(["upscale", str(tmp_path / "a.png"), "--engine", "openvino", "--device", "cpu"])
    assert stopped.value.code == 2
    assert "OpenVINO is not installed: pip install 'sr-lightning[engines]'" in (
        capsys.readouterr().err
    )
    assert with_engine(small(), 2)[1] == "PyTorch"


def test_command_and_python_take_an_engine_and_say_it(tmp_path, capsys):
    Image.fromarray(picture(1, 30, 40)).save(tmp_path / "a.png")
    args = ["upscale", str(tmp_path / "a.png"), "--weights", "fsrcnn_x4", "--device", "cpu"]
    main([*args, "--engine", "openvino"])
    assert "on cpu by OpenVINO" in capsys.readouterr().out
    made = Image.open(tmp_path / "a_x4.png")
    given = Image.fromarray(picture(1, 30, 40))
    for engine in ("torch", "onnxruntime"):
        large = api.upscale(given, "fsrcnn_x4", engine=engine, device="cpu")
        levels = [
            torch.frombuffer(bytearray(i.tobytes()), dtype=torch.uint8) for i in (made, large)
        ]
        assert int((levels[0].int() - levels[1].int()).abs().max()) <= 1


def test_images_one_by_one_start_an_engine_once(monkeypatch):
    network = FSRCNN(2).eval()
    given = Image.fromarray(picture(1, 16, 16))
    api.upscale(given, network, engine="openvino")
    monkeypatch.setattr(engines, "_checked", lambda *_: pytest.fail("started again"))
    api.upscale(given, network, engine="openvino")


def test_tiles_are_smaller_where_an_engine_takes_more_memory():
    network = HFDN(4, channels=16, blocks=1, layers=2, growth=8, reduction=4).eval()
    by_torch = Upscaler(network)
    fit_memory(by_torch, 4)
    by_openvino = Upscaler(with_engine(network, 4, "openvino")[0])
    fit_memory(by_openvino, 4)
    assert by_openvino.tile < by_torch.tile
    assert by_openvino.whole < by_torch.whole
