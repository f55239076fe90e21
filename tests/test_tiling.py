"""Tiles equal the whole image; self-ensemble is what the papers mean; memory running out is met."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sr_lightning.baselines.metasr import MetaEDSR
from sr_lightning.data.images import read_rgb
from sr_lightning.data.sample import find_photographs
from sr_lightning.inference.ensemble import dihedral, inverse_dihedral, self_ensemble
from sr_lightning.inference.memory import bytes_per_pixel, fit_memory, tile_for
from sr_lightning.inference.tiling import upscaled_strips
from sr_lightning.inference.upscaler import Upscaler
from sr_lightning.metrics.quality import psnr
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.precision import set_layout
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.weights.zoo import load_weights

SMALL = {
    "channels": 16,
    "blocks": 1,
    "layers": 2,
    "growth": 8,
    "channel_attention": False,
    "start": "random",
}


class Blur(SRNetwork):
    """A convolution and nearest-neighbour upscaling: a known receptive field of 5."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        self.scales = (scale,)
        self.conv = nn.Conv2d(3, 3, 5, padding=2)

    @property
    def receptive_field(self) -> int:
        return 5

    def forward(self, lr: Tensor) -> Tensor:
        return nn.functional.interpolate(self.conv(lr), scale_factor=self.scale, mode="nearest")


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    tile=st.integers(1, 17),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_tiles_equal_the_whole_for_any_size(height, width, tile, seed):
    torch.manual_seed(seed)
    network = Blur().double().eval()
    lr = torch.rand(2, 3, height, width, dtype=torch.float64)
    with torch.no_grad():
        tiled = Upscaler(network, tile=tile)(lr, 2)
        torch.testing.assert_close(tiled, network(lr), rtol=0, atol=1e-12)


def refuse(error: RuntimeError, tile: int) -> int:
    raise error


@given(height=st.integers(1, 50), width=st.integers(1, 50), tile=st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_strips_hold_every_pixel_once_and_in_place(height, width, tile):
    places = torch.arange(height * width).reshape(1, height, width)
    sizes = set()

    def piece(rows: slice, columns: slice) -> Tensor:
        sizes.add(places[:, rows, columns].shape)
        return places[:, rows, columns]

    strips = list(upscaled_strips(piece, (height, width), 1, tile, 3, refuse))
    assert torch.equal(torch.cat(strips, dim=1), places)
    assert len(strips) == -(-height // tile)
    assert len(sizes) == 1


@pytest.mark.parametrize("name", ["fsrcnn_x4", "lesrcnn_x4", "carn_m", "edsr_baseline_x4"])
def test_networks_in_tiles_give_the_whole_images_bits(name):
    network = load_weights(name)
    set_layout(network, channels_last=True)
    lr = torch.rand(1, 3, 144, 176).contiguous(memory_format=torch.channels_last)
    upscaler = Upscaler(network, tile=80)
    assert upscaler.exact
    with torch.inference_mode():
        assert torch.equal(upscaler(lr, 4), network.upscale(lr, 4))


@pytest.mark.parametrize("scale", [1.5, 2.7])
def test_real_scales_in_tiles_equal_the_whole(scale):
    network = MetaEDSR(channels=8, blocks=1).eval()
    lr = torch.rand(1, 3, 60, 80)
    with torch.no_grad():
        tiled = Upscaler(network, tile=20)(lr, scale)
        torch.testing.assert_close(tiled, network(lr, scale), rtol=0, atol=1e-6)
        # Sides that hold no whole number of periods keep their size.
        assert Upscaler(network, tile=20)(lr[:, :, :53, :71], 2.7).shape[2:] == (143, 192)


def test_tiles_are_smaller_where_a_network_takes_more_memory(monkeypatch):
    def doubled(lr: Tensor, channels: int) -> Tensor:
        return lr.repeat(1, channels, 2, 2).exp()[:, :3]

    like = torch.empty(0)
    # Both the repeated image and its exponential are there at once, of 4 x 4 bytes a channel.
    assert bytes_per_pixel(lambda lr: doubled(lr, 10), like) == pytest.approx(2 * 480 + 12, rel=0.1)
    few, many = (tile_for(n * 100.0, like.device, 8) for n in (100, 400))
    assert many < few
    assert tile_for(1000.0, like.device, 8, most=1) == 32
    monkeypatch.setattr("sr_lightning.inference.memory.free_memory", lambda device: 2**20)
    assert tile_for(1000.0, like.device, 8) == 32


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_hfdn_in_tiles_equals_hfdn_whole(scale):
    network = HFDN(scale=scale, **SMALL).double().eval()
    lr = torch.rand(1, 3, 41, 37, dtype=torch.float64)
    with torch.no_grad():
        # Bicubic skips compute in float32 on purpose.
        torch.testing.assert_close(
            Upscaler(network, tile=16)(lr, scale), network(lr), rtol=0, atol=1e-6
        )


def test_too_small_a_margin_is_not_exact_and_says_so():
    network = HFDN(scale=2, **SMALL).double().eval()
    lr = torch.rand(1, 3, 40, 40, dtype=torch.float64)
    upscaler = Upscaler(network, tile=16, margin=2)
    assert not upscaler.exact
    with torch.no_grad():
        assert float((upscaler(lr, 2) - network(lr)).abs().max()) > 1e-6


def test_turns_are_undone():
    image = torch.rand(1, 3, 5, 7)
    for which in range(8):
        assert torch.equal(inverse_dihedral(dihedral(image, which), which), image)


def test_ensemble_of_an_equivariant_network_is_the_network():
    lr = torch.rand(1, 3, 6, 9)

    def nearest(x):
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    torch.testing.assert_close(self_ensemble(nearest, lr), nearest(lr))


def test_ensemble_commutes_with_every_turn():
    network = HFDN(scale=2, **SMALL).eval()
    lr = torch.rand(1, 3, 9, 12)
    with torch.no_grad():
        plain = self_ensemble(network, lr)
        for which in range(8):
            turned = self_ensemble(network, dihedral(lr, which))
            torch.testing.assert_close(inverse_dihedral(turned, which), plain, rtol=0, atol=1e-5)


def test_memory_running_out_falls_back_on_tiles(caplog):
    class Greedy(Blur):
        def forward(self, lr: Tensor) -> Tensor:
            if lr.shape[-1] > 60:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(lr)

    network = Greedy().eval()
    lr = torch.rand(1, 3, 50, 200)
    with torch.no_grad():
        result = Upscaler(network)(lr, 2)
        expected = Blur.forward(network, lr)
    torch.testing.assert_close(result, expected)
    assert "going on with tiles of 50 (the same result)" in caplog.text


def test_other_errors_are_not_swallowed():
    class Broken(Blur):
        def forward(self, lr: Tensor) -> Tensor:
            return super().forward(lr[:, :2])

    with pytest.raises(RuntimeError, match=r"[Ee]xpected"):
        Upscaler(Broken())(torch.rand(1, 3, 8, 8), 2)
    with pytest.raises(ValueError, match="upscales by 2, not by 3"):
        Upscaler(Blur())(torch.rand(1, 3, 8, 8), 3)


def test_small_photographs_are_not_cut_where_tiles_would_change_them():
    network = HFDN(4, channels=16, blocks=1, layers=2, growth=8, reduction=4).eval()
    upscaler = Upscaler(network)
    fit_memory(upscaler, 4)
    assert not upscaler.exact
    assert upscaler.tile < 400
    assert not upscaler.tiles((400, 300))
    assert upscaler.tiles((20_000, 300))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["asdn", "cirn_x4", "hfdn_x2", "hfdn_x3", "hfdn_x4"])
def test_tiles_of_networks_that_see_the_whole_image_differ_by_less_than_a_level(name):
    network = load_weights(name)
    assert network.receptive_field is None
    (path, *_) = find_photographs("sample-val").files
    lr = torch.from_numpy(read_rgb(path)[:224, :224].copy()).permute(2, 0, 1)[None] / 255
    scale = network.scales[-1]
    whole = Upscaler(network)(lr, scale)
    tiles = Upscaler(network, tile=96)(lr, scale)
    assert not torch.equal(whole, tiles)
    assert psnr(tiles * 255, whole * 255) > 60
