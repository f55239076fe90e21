"""CIRN: attention against its definition, coverage, sizes, ablations, and the network contract."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from conftest import EXPERIMENTS, only_run, tiny_fit

from sr_lightning.inference import upscaler
from sr_lightning.inference.ensemble import dihedral, inverse_dihedral
from sr_lightning.inference.upscaler import Upscaler
from sr_lightning.nn.complexity import complexity, parameter_count
from sr_lightning.papers.cirn import CIRN
from sr_lightning.papers.cirn import network as rooms
from sr_lightning.papers.cirn.criss_cross import CHUNK, criss_cross_attention
from sr_lightning.papers.cirn.module import CIRNModule
from sr_lightning.papers.cirn.network import ISAB, CrissCross
from sr_lightning.training.complexity import network_of_config
from sr_lightning.weights.files import load_network, save_network

SMALL = {"start": "random", "groups": 3, "blocks": 1, "channels": 16, "gain": 0.5}
LIGHT = {"groups": 6, "blocks": 4, "channels": 48}


def by_the_definition(query, key, value):
    """Attention pixel by pixel: softmax over row and column, the pixel itself once."""
    answer = torch.empty_like(value)
    count, _, height, width = query.shape
    for n in range(count):
        for y in range(height):
            for x in range(width):
                seen = [(y, j) for j in range(width)]
                seen += [(i, x) for i in range(height) if i != y]
                assert len(seen) == height + width - 1
                keys = torch.stack([key[n, :, i, j] for i, j in seen])
                values = torch.stack([value[n, :, i, j] for i, j in seen])
                answer[n, :, y, x] = (keys @ query[n, :, y, x]).softmax(0) @ values
    return answer


def features(count, channels, height, width):
    return torch.randn(count, channels, height, width, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("size", [(5, 7), (7, 4), (1, 6), (6, 1), (1, 1)])
@pytest.mark.parametrize("chunk", [CHUNK, 200, 1])
def test_attention_and_its_gradients_are_those_of_the_definition(size, chunk):
    torch.manual_seed(0)
    query, key, value = features(2, 3, *size), features(2, 3, *size), features(2, 4, *size)
    answer = criss_cross_attention(query, key, value, chunk)
    expected = by_the_definition(query, key, value)
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-12)
    weight = torch.randn_like(expected)
    found, wanted = (
        torch.autograd.grad((result * weight).sum(), (query, key, value))
        for result in (answer, expected)
    )
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_attention_without_preference_is_the_mean_of_row_and_column():
    value = torch.rand(1, 2, 4, 6, dtype=torch.float64)
    nothing = torch.zeros(1, 3, 4, 6, dtype=torch.float64)
    total = value.sum(dim=2, keepdim=True) + value.sum(dim=3, keepdim=True) - value
    torch.testing.assert_close(criss_cross_attention(nothing, nothing, value), total / (4 + 6 - 1))


def test_large_similarities_do_not_overflow():
    large = torch.full((1, 2, 3, 4), 100.0)
    assert criss_cross_attention(large, large, torch.rand(1, 2, 3, 4)).isfinite().all()


@pytest.mark.parametrize("which", range(8))
def test_attention_turns_with_the_image(which):
    torch.manual_seed(0)
    maps = [torch.randn(1, 3, 5, 8, dtype=torch.float64) for _ in range(3)]
    turned = criss_cross_attention(*(dihedral(one, which) for one in maps))
    torch.testing.assert_close(inverse_dihedral(turned, which), criss_cross_attention(*maps))


def reached(block, which, pixel):
    """Which pixels of X (0) or Y (1) one pixel of the block's result depends on."""
    x, y = features(1, 16, 9, 11), features(1, 16, 9, 11)
    block(x, y)[(0, slice(None), *pixel)].sum().backward()
    return (x, y)[which].grad.abs().sum(dim=(0, 1)) > 0


def test_one_stage_reaches_a_cross_and_two_interlaced_stages_everything():
    torch.manual_seed(0)
    cross = torch.zeros(9, 11, dtype=torch.bool)
    cross[3], cross[:, 4] = True, True
    stage = CrissCross(16, 2).double()
    assert torch.equal(reached(lambda x, y: stage(y, x), 0, (3, 4)), cross)
    interlaced = ISAB(16, gain=0.5).double()
    assert reached(interlaced, 0, (3, 4)).all()
    assert torch.equal(reached(interlaced, 1, (3, 4)), cross)
    mutual = ISAB(16, "mutual", gain=0.5).double()
    assert torch.equal(reached(mutual, 0, (3, 4)), cross)
    assert torch.equal(reached(mutual, 1, (3, 4)), cross)


def test_network_sees_from_corner_to_corner_and_says_so():
    torch.manual_seed(0)
    network = CIRN(2, groups=2, blocks=1, channels=16, gain=0.5, start="random").double()
    assert network.receptive_field is None
    assert CIRN(isab="mutual", **SMALL).receptive_field is None
    lr = torch.rand(1, 3, 40, 44, dtype=torch.float64, requires_grad=True)
    local = CIRN(2, groups=2, blocks=1, channels=16, isab="none", start="random").receptive_field
    assert local < 40
    network(lr)[..., -1, -1].sum().backward()
    assert (lr.grad.abs().sum(dim=(0, 1)) > 0).all()


@pytest.mark.parametrize(
    ("size", "arguments", "parameters"),
    [
        ("", {}, [8_036_661, 8_221_301, 8_184_373, 8_332_085]),
        ("_light", LIGHT, [1_258_309, 1_362_229, 1_341_445, 1_424_581]),
    ],
    ids=["paper-like", "light"],
)
def test_parameters(size, arguments, parameters):
    scales = (2, 3, 4, 8)
    with torch.device("meta"):
        networks = [CIRN(scale, **arguments) for scale in scales]
        files = [EXPERIMENTS / f"cirn{size}_x{scale}.yaml" for scale in scales]
        trained = [network_of_config(file) for file in files]
    assert [parameter_count(network) for network in networks] == parameters
    assert [network.config for network in trained] == [network.config for network in networks]


@pytest.mark.parametrize(("arguments", "each"), [({}, 10_402), ({"shared": True}, 5_202)])
def test_attention_is_a_hundredth_of_the_parameters(arguments, each):
    with torch.device("meta"):
        whole, without = CIRN(**arguments), CIRN(isab="none")
    assert parameter_count(whole) - parameter_count(without) == 9 * each


def test_macs_of_attention_grow_with_the_sides_of_the_image():
    """Beside the projections, two stages of H * W * (H + W) * (D + C) per block."""
    small = CIRN(4, **SMALL)
    without = CIRN(4, **(SMALL | {"isab": "none"}))
    pixels, sides = 20 * 30, 20 + 30
    projections = pixels * (16 * 2 + 16 * (2 + 16))
    expected = 2 * 2 * (projections + pixels * sides * (2 + 16))
    assert complexity(small, (80, 120)).macs - complexity(without, (80, 120)).macs == expected


def test_network_starts_as_the_one_without_attention():
    torch.manual_seed(0)
    network = CIRN(2, **(SMALL | {"gain": 0.0}))
    plain = CIRN(2, **(SMALL | {"isab": "none"}))
    plain.load_state_dict(network.state_dict(), strict=False)
    lr = torch.rand(1, 3, 8, 9)
    torch.testing.assert_close(network(lr), plain(lr))


@pytest.mark.parametrize("arguments", [{}, {"isab": "mutual"}, {"isab": "none"}, {"shared": True}])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_every_variant_learns_everywhere_with_l1(scale, arguments):
    torch.manual_seed(0)
    module = CIRNModule(CIRN(scale=scale, **(SMALL | arguments)))
    batch = {
        "lr": torch.rand(2, 3, 7, 9),
        "hr": torch.rand(2, 3, 7 * scale, 9 * scale),
        "scale": scale,
    }
    loss = module.losses(batch)["loss"]
    torch.testing.assert_close(loss, (module.network(batch["lr"]) - batch["hr"]).abs().mean())
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.network.parameters())


def test_images_in_chunks_are_upscaled_exactly(monkeypatch):
    torch.manual_seed(0)
    network = CIRN(2, **SMALL).double().eval()
    lr = torch.rand(2, 3, 17, 23, dtype=torch.float64)
    assert CHUNK > 2 * 17 * 23 * (17 + 23)
    with torch.no_grad():
        whole = network(lr)
        in_chunks = partial(criss_cross_attention, chunk=10_000)
        monkeypatch.setattr(rooms, "criss_cross_attention", in_chunks)
        torch.testing.assert_close(network(lr), whole, rtol=0, atol=1e-6)


def test_whole_image_in_bf16_stays_close():
    torch.manual_seed(0)
    network = CIRN(2, **SMALL).eval()
    lr = torch.rand(1, 3, 30, 40)
    with torch.no_grad():
        exact = network(lr)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(lr)
            assert network.groups[0](network.head(lr)).dtype == torch.bfloat16
    assert rounded.dtype == torch.float32
    assert float((rounded - exact).abs().max()) < 0.02


def test_tiles_change_the_result_and_this_is_said_once(caplog):
    upscaler._warn_of_tiles.cache_clear()
    torch.manual_seed(0)
    network = CIRN(2, **SMALL).eval()
    lr = torch.rand(1, 3, 40, 80)
    with torch.no_grad():
        assert torch.equal(Upscaler(network)(lr, 2), network(lr))
        assert caplog.text == ""
        tiled = [Upscaler(network, tile=tile, margin=8) for tile in (20, 30)]
        first, second = (one(lr, 2) for one in tiled)
        assert not any(one.exact for one in tiled)
        assert float((first - second).abs().max()) > 1e-4
    assert caplog.text.count("CIRN sees the whole image") == 1
    assert "its result in tiles is an approximation" in caplog.text


class Attention(torch.nn.Module):
    """The attention as a module, for export."""

    def forward(self, query, key, value):
        return criss_cross_attention(query, key, value, chunk=100)


def test_exported_attention_takes_any_size():
    sides = {2: torch.export.Dim("height", max=4096), 3: torch.export.Dim("width", max=4096)}
    maps = [torch.rand(1, 2, 9, 12) for _ in range(3)]
    program = torch.export.export(Attention(), tuple(maps), dynamic_shapes=(sides, sides, sides))
    maps = [torch.rand(1, 2, 4, 31) for _ in range(3)]
    torch.testing.assert_close(program.module()(*maps), criss_cross_attention(*maps))


def test_x8_starts_from_x4(tmp_path):
    torch.manual_seed(0)
    x4 = CIRN(4, **SMALL)
    save_network(x4, tmp_path / "x4.safetensors")
    assert load_network(tmp_path / "x4.safetensors").config == x4.config
    module = CIRNModule(CIRN(scale=8, **SMALL), init_from=str(tmp_path / "x4.safetensors"))
    fresh = module.network.upsample[2].weight.clone()
    module.setup("fit")
    own = module.network.state_dict()
    assert set(own) - set(x4.state_dict()) == {"upsample.2.weight", "upsample.2.bias"}
    assert all(torch.equal(own[name], value) for name, value in x4.state_dict().items())
    assert torch.equal(module.network.upsample[2].weight, fresh)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"groups": 0}, "a group and a block"),
        ({"blocks": 0}, "a group and a block"),
        ({"channels": 4}, "no channel"),
        ({"scale": 5}, "2, 3, 4 or 8"),
    ],
)
def test_impossible_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        CIRN(**arguments)


def test_fast_experiment_runs_through_the_command_line(tmp_path, train_folder, val_folder):
    from sr_lightning.cli import main

    options = {"trainer__precision": "bf16-mixed", "data__batch_size": 2}
    fit = tiny_fit("cirn_x4_fast", tmp_path, train_folder, val_folder, **options)
    main([*fit, "--model.network.groups=2", "--model.network.blocks=1"])
    (checkpoint,) = (only_run(tmp_path) / "checkpoints").glob("last*")
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.isfinite(v).all() for v in state.values() if v.is_floating_point())
    assert state["network.isabs.0.gains"][1] != 0
