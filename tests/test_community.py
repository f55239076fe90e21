"""Community models that spandrel recognises are used like all others, and run no code."""

from __future__ import annotations

import os
import sys
import types

import pytest
import torch
from PIL import Image
from torch import nn

from sr_lightning import load
from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.weights.community import CommunityNetwork


@pytest.fixture
def spandrel(monkeypatch):
    """The library; two models of it, not for super-resolution, want functions of torchvision."""
    pytest.importorskip("einops", reason="spandrel's libraries are not installed")
    with monkeypatch.context() as patched:
        try:
            import torchvision  # noqa: F401
        except (ImportError, RuntimeError):
            # Missing, or made for another torch, as those beside a CPU's torch often are.
            functional = types.ModuleType("torchvision.transforms.functional")
            functional.InterpolationMode = functional.rotate = functional.normalize = None
            for name in ("torchvision", "torchvision.transforms"):
                patched.setitem(sys.modules, name, types.ModuleType(name))
            patched.setitem(sys.modules, functional.__name__, functional)
        return pytest.importorskip("spandrel")


class Compact(nn.Module):
    """SRVGGNetCompact (Real-ESRGAN's small models), from its public description."""

    def __init__(self, scale=2, width=8, depth=2):
        super().__init__()
        self.scale = scale
        layers = [nn.Conv2d(3, width, 3, padding=1), nn.PReLU(width)]
        for _ in range(depth):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)]
        layers.append(nn.Conv2d(width, 3 * scale**2, 3, padding=1))
        self.body = nn.ModuleList(layers)

    def forward(self, x):
        out = x
        for layer in self.body:
            out = layer(out)
        out = nn.functional.pixel_shuffle(out, self.scale)
        return out + nn.functional.interpolate(x, scale_factor=self.scale, mode="nearest")


@pytest.fixture
def compact(tmp_path):
    """A model as its trainer saves it, and its file."""
    torch.manual_seed(0)
    model = Compact().eval()
    torch.save({"params_ema": model.state_dict()}, tmp_path / "2x_tiny.pth")
    return model, tmp_path / "2x_tiny.pth"


def test_a_community_model_gives_what_its_own_code_does(spandrel, compact):
    model, path = compact
    network = load(path)
    assert isinstance(network, CommunityNetwork)
    assert type(network).__name__ == "RealESRGAN Compact"
    assert (network.scales, network.receptive_field) == ((2,), None)
    lr = torch.rand(1, 3, 7, 9)
    with torch.no_grad():
        torch.testing.assert_close(network(lr), model(lr).clamp(0, 1))


def test_upscale_compare_and_eval_take_it(spandrel, compact, tmp_path, capsys, test_folder):
    _, path = compact
    Image.effect_mandelbrot((40, 36), (-2, -1, 1, 1), 50).convert("RGB").save(tmp_path / "a.png")
    main(["upscale", str(tmp_path / "a.png"), "--weights", str(path), "--tile", "32"])
    assert Image.open(tmp_path / "a_x2.png").size == (80, 72)
    options = ["--scale", "2", "--weights", str(path), "--out", str(tmp_path / "compared")]
    main(["compare", str(tmp_path / "a.png"), *options])
    assert (tmp_path / "compared" / "a_x2.png").is_file()
    main(["weights", "eval", str(path), "--sets", str(test_folder), "--protocol", "rgb"])
    said = capsys.readouterr().out
    assert "RealESRGAN Compact" in said
    assert path.name in said.replace("\n", "")


def test_tiles_of_a_local_model_are_close_to_the_whole(spandrel, compact):
    from sr_lightning.inference.upscaler import Upscaler

    network, lr = load(compact[1]), torch.rand(1, 3, 70, 60)
    with torch.no_grad():
        whole, tiled = Upscaler(network)(lr, 2), Upscaler(network, tile=32)(lr, 2)
    torch.testing.assert_close(whole, tiled, rtol=0, atol=1e-5)


def test_it_need_not_and_cannot_be_converted(spandrel, compact, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["weights", "convert", str(compact[1]), "--out", str(tmp_path / "o.safetensors")])
    assert "use the file as it is" in capsys.readouterr().err
    assert not (tmp_path / "o.safetensors").exists()
    with pytest.raises(SystemExit):
        main(["weights", "push", str(compact[1]), str(tmp_path / "folder")])
    assert "pass its own file on" in capsys.readouterr().err
    assert not (tmp_path / "folder").exists()


def test_models_for_something_else_are_refused(spandrel, tmp_path):
    torch.save(Compact(scale=1).state_dict(), tmp_path / "denoise.pth")
    with pytest.raises(UserError, match=r"denoise\.pth is a RealESRGAN Compact for Restoration"):
        load(tmp_path / "denoise.pth")


def test_tensors_that_nobody_knows_are_named(spandrel, tmp_path):
    torch.save({"strange.weight": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth does not say .*'strange\.weight'.* spandrel"):
        load(tmp_path / "x.pth")


def test_half_of_a_model_is_refused_in_a_sentence(spandrel, compact, tmp_path):
    state = dict(compact[0].state_dict())
    del state["body.3.weight"]
    torch.save(state, tmp_path / "half.pth")
    with pytest.raises(UserError, match=r"half\.pth"):
        load(tmp_path / "half.pth")


class _Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_code_in_a_community_file_is_not_run(spandrel, compact, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"params": compact[0].state_dict(), "bad": _Bomb()}, "bad.pth")
    with pytest.raises(UserError, match=r"bad\.pth is damaged, or holds Python objects"):
        load("bad.pth")
    assert not (tmp_path / "exploded").exists()


def test_without_spandrel_the_extra_is_named(compact, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(UserError, match=r"pip install 'sr-lightning\[community\]'"):
        load(compact[1])


def test_a_torchvision_of_another_torch_is_named(compact, monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "spandrel":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(UserError, match=r"torchvision::nms.*install the torchvision that was made"):
        load(compact[1])
