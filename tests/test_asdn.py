"""ASDN and FSDN: published counts, levels and recursion, both recipes, any scale end to end."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
import torch
import yaml
from conftest import EXPERIMENTS, only_run, picture, tiny_fit
from PIL import Image
from torch.nn import functional as F

from sr_lightning.cubic import upscaled_size
from sr_lightning.errors import UserError
from sr_lightning.nn.bicubic import bicubic, bicubic_to
from sr_lightning.nn.complexity import complexity, parameter_count
from sr_lightning.papers.asdn import ASDN, FSDN, EDSRConv, RDNConv, VDSRConv
from sr_lightning.papers.asdn.lfr import SplitConv, level_scales, passes, resized
from sr_lightning.papers.asdn.module import ASDNModule

SMALL = {
    "blocks": 2,
    "layers": 2,
    "channels": 8,
    "growth": 6,
    "stem": 8,
    "reduction": 4,
    "start": "random",
}
SIZES = {
    "paper": ((16, 8, 64, 64), 22_405_168, 22_438_288, 20_630.5),
    "base": ((8, 4, 32, 32), 828_928, 839_008, 761.3),
    "complex": ((6, 5, 50, 32), 1_111_270, 1_122_670, 1_020.7),
}


def on_meta(kind, *args, **kwargs):
    with torch.device("meta"):
        return kind(*args, **kwargs)


@pytest.mark.parametrize("name", list(SIZES))
def test_parameters_and_macs_are_as_counted_by_the_student_project(name):
    arguments, published, true, gmacs = SIZES[name]
    network = on_meta(ASDN, *arguments)
    one_branch = parameter_count(network.trunk) + parameter_count(network.branches[0])
    assert (one_branch, parameter_count(network)) == (published, true)
    assert round(complexity(network, scale=2).macs / 1e9, 1) == gmacs


def test_dbdns_compression_is_nearer_to_the_papers_plot():
    assert parameter_count(on_meta(ASDN, layers=6, compression=3)) == 17_914_256


def test_a_scale_between_levels_costs_two_passes_unless_they_share_one():
    size = (72, 128)
    cost = {
        shared: complexity(on_meta(ASDN, **SMALL, shared_pass=shared), size, 1.5).macs
        for shared in (False, True)
    }
    assert cost[False] == cost[True]  # on a level
    between = {
        shared: complexity(on_meta(ASDN, **SMALL, shared_pass=shared), size, 1.55).macs
        for shared in (False, True)
    }
    assert between[False] > 1.9 * between[True]


@pytest.mark.parametrize("levels", [5, 9, 11, 17, 101])
def test_every_level_is_found_exactly(levels):
    network = ASDN(**SMALL, levels=levels)
    assert len(network.branches) == levels
    found = [network.phase(1 + level / (levels - 1)) for level in range(levels)]
    assert found == [(level, 0.0) for level in range(levels)]
    assert [network.phase(scale) for scale in network.scales] == found


@pytest.mark.parametrize(
    ("scale", "level", "weight"),
    [(1.27, 3, 0.3), (1.101, 2, 0.99), (1.99, 10, 0.1), (1.25, 3, 0.5)],
)
def test_phase_is_that_of_the_paper(scale, level, weight):
    found = ASDN(**SMALL).phase(scale)
    assert found == (level, pytest.approx(weight))


def test_level_zero_stands_at_the_papers_1_0001():
    network = ASDN(**SMALL)
    assert network.scales[0] == 1.0001
    assert network.phase(1.0) == network.phase(1.0001) == (0, 0.0)
    assert network.phase(1.0002)[0] == 1


def test_levels_can_be_given():
    assert level_scales([2, 3, 4]) == (2, 3, 4)
    for wrong in (1, [2], [2, 2], [3, 2], [0.5, 2]):
        with pytest.raises(ValueError, match="evels"):
            level_scales(wrong)


@pytest.mark.parametrize(
    ("scale", "factors"),
    [
        (1.0, [1.0]),
        (1.3, [1.3]),
        (2, [2]),
        (2.8, [2, 1.4]),
        (3, [2, 1.5]),
        (4, [2, 2]),
        (8, [2, 2, 2]),
        (11.3, [2, 2, 2, 1.4125]),
        (32, [2] * 5),
    ],
)
def test_recursion_takes_the_largest_factors_first(scale, factors):
    assert passes(scale, 2.0) == pytest.approx(factors)


def trunk_runs(network, scale, size=(6, 5)):
    """Sizes at which the trunk is run to upscale by a scale."""
    seen = []
    handle = network.trunk.register_forward_hook(
        lambda _, inputs, __: seen.append(tuple(inputs[0].shape[-2:]))
    )
    with torch.no_grad():
        network(torch.rand(1, 3, *size), scale)
    handle.remove()
    return seen


def test_trunk_runs_no_more_than_needed():
    network = ASDN(**SMALL)
    assert trunk_runs(network, 1.6, (10, 10)) == [(16, 16)]
    assert trunk_runs(network, 1.55, (10, 10)) == [(15, 15), (16, 16)]
    assert trunk_runs(network, 2.8, (10, 10)) == [(20, 20), (28, 28)]
    assert trunk_runs(network, 2.9, (10, 10)) == [(20, 20), (28, 28), (30, 30)]
    network.shared_pass = True
    assert trunk_runs(network, 1.56, (10, 10)) == [(16, 16)]
    assert trunk_runs(network, 2.9, (10, 10)) == [(20, 20), (29, 29)]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("size", [(17, 23), (1, 12), (12, 1)])
def test_any_scale_gives_the_exact_size_also_in_batches(size, shared):
    network = ASDN(**SMALL, shared_pass=shared).double()
    lr = torch.rand(2, 3, *size, dtype=torch.float64)
    for scale in (1, 1.0001, 1.05, 1.1, 1.73, 2, 2.8, 3.99, 4):
        with torch.no_grad():
            sr = network.upscale(lr, scale)
            assert tuple(sr.shape) == (2, 3, *upscaled_size(size, scale))
            torch.testing.assert_close(sr[1:], network(lr[1:], scale))


@pytest.mark.parametrize("scale", [11.3, 22.6, 32])
def test_large_scales_are_reached(scale):
    sr = ASDN(**SMALL)(torch.rand(1, 3, 3, 5), scale)
    assert tuple(sr.shape[-2:]) == upscaled_size((3, 5), scale)
    assert torch.isfinite(sr).all()


def test_between_levels_is_the_phase_between_their_images():
    network = ASDN(**SMALL).double()
    lr = torch.rand(1, 3, 20, 20, dtype=torch.float64)
    below = resized(network(lr, 1.5), (31, 31))
    above = resized(network(lr, 1.6), (31, 31))
    torch.testing.assert_close(network(lr, 1.53), above + 0.7 * (below - above))


def test_shared_pass_applies_both_branches_to_one_upscaling():
    network = ASDN(**SMALL, shared_pass=True).double()
    lr = torch.rand(1, 3, 20, 20, dtype=torch.float64)
    upscaled = bicubic_to(lr, (31, 31))
    maps = network.trunk(upscaled - network.normalise.mean)
    below, above = (network.branches[level](maps) for level in (5, 6))
    torch.testing.assert_close(network(lr, 1.53), upscaled + above + 0.7 * (below - above))
    apart = ASDN(**SMALL).double()
    apart.load_state_dict(network.state_dict())
    assert torch.equal(network(lr, 1.5), apart(lr, 1.5))
    assert not torch.allclose(network(lr, 1.53), apart(lr, 1.53), atol=1e-6)


def test_given_factors_are_followed_and_rounding_does_not_drift():
    network = ASDN(**SMALL)
    lr = torch.rand(1, 3, 17, 23)
    factors = [1.8, 1.8, 1.234]
    runs = []
    network.one_pass = lambda image, scale, size: (
        runs.append((scale, size)) or bicubic_to(image, size)
    )
    network(lr, 4, factors)
    assert runs == [(1.8, (31, 41)), (1.8, (55, 75)), (1.234, (68, 92))]
    runs.clear()
    network.factors = [2, 1.8, 1.1]
    network(lr, 4)
    assert [scale for scale, _ in runs] == [2, 1.8, 1.1]


def test_impossible_scales_are_refused_in_plain_words():
    network = ASDN(**SMALL)
    lr = torch.rand(1, 3, 4, 4)
    with pytest.raises(UserError, match=r"make 3\.24, not 4"):
        network(lr, 4, [1.8, 1.8])
    with pytest.raises(UserError, match=r"from 1 to 2; it cannot upscale by 2\.5"):
        network(lr, 2.5, [2.5])
    with pytest.raises(UserError, match=r"cannot upscale by 0\.5"):
        network(lr, 0.5)
    with pytest.raises(UserError, match=r"from 2 to 4; it cannot upscale by 1\.5"):
        ASDN(**SMALL, levels=[2, 3, 4])(lr, 1.5)


def test_direct_deployment_has_a_branch_for_each_scale():
    network = VDSRConv(3, 4, levels=[2, 3, 4])
    assert network.scales == (2, 3, 4)
    assert [trunk_runs(network, scale) for scale in (2, 3, 4)] == [
        [(12, 10)],
        [(18, 15)],
        [(24, 20)],
    ]


def test_split_convolution_is_that_of_the_concatenation():
    conv = SplitConv([3, 2, 4], 5, 3).double()
    parts = [torch.rand(2, c, 6, 5, dtype=torch.float64, requires_grad=True) for c in (3, 2, 4)]
    plain = F.conv2d(torch.cat(parts, dim=1), conv.weight, conv.bias, padding=1)
    split = conv(parts)
    torch.testing.assert_close(split, plain)
    inputs = (*parts, conv.weight, conv.bias)
    for a, b in zip(
        torch.autograd.grad(split.square().sum(), inputs),
        torch.autograd.grad(plain.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def plainly(network, lr, level):
    """ASDN at a level's scale as the figures draw it, with every concatenation made."""

    def conv(layer, x):
        return F.conv2d(x, layer.weight, layer.bias, padding=layer.padding)

    upscaled = bicubic(lr, network.scales[level])
    maps = conv(network.trunk.head, upscaled - network.normalise.mean)
    for block in network.trunk.blocks:
        x = inner = conv(block.compress, maps)
        for layer in block.layers:
            inner = torch.cat([inner, conv(layer, inner).relu()], dim=1)
        fused = conv(block.fuse, inner) + x
        pooled = fused.mean(dim=(2, 3), keepdim=True)
        gate = conv(block.attention.excite, conv(block.attention.squeeze, pooled).relu()).sigmoid()
        maps = torch.cat([maps, fused * gate], dim=1)
    branch = network.branches[level]
    residual = conv(branch.reconstruct, maps)
    shrink, _, grow, _ = branch.attention
    return upscaled + residual * conv(grow, conv(shrink, residual).relu()).sigmoid()


@pytest.mark.parametrize("level", [0, 3, 10])
def test_network_is_bi_dense_as_drawn(level):
    torch.manual_seed(0)
    network = ASDN(**SMALL).double()
    lr = torch.rand(2, 3, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(network(lr, network.scales[level]), plainly(network, lr, level))


def test_checkpointing_changes_nothing_but_memory():
    gradients, kept = [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = ASDN(**SMALL, checkpointing=checkpointing)
        storages: dict[int, int] = {}

        def keep(tensor, storages=storages):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = network(torch.linspace(0, 1, 768).reshape(1, 3, 16, 16), 1.5).square().mean()
        kept.append(sum(storages.values()))
        loss.backward()
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
    assert kept[1] < 0.7 * kept[0]


@pytest.mark.parametrize(
    "ablation",
    [
        {"channel_attention": "none"},
        {"channel_attention": "max"},
        {"spatial_attention": False},
        {"skip": False},
        {"compression": 3},
        {"normalise": "mean_std"},
    ],
    ids=str,
)
def test_every_option_changes_the_network_and_trains(ablation):
    lr = torch.rand(1, 3, 8, 8)
    outputs = []
    for options in ({}, ablation):
        torch.manual_seed(0)
        network = ASDN(**SMALL, **options)
        outputs.append(network(lr, 1.5))
        outputs[-1].mean().backward()
        assert all(torch.isfinite(p.grad).all() for p in network.trunk.parameters())
    assert not torch.allclose(*outputs)


def test_tiles_are_never_exact():
    assert ASDN(**SMALL).receptive_field is None
    assert VDSRConv(3, 4).receptive_field is None


@pytest.mark.parametrize("kind", [VDSRConv, EDSRConv, RDNConv])
def test_comparison_networks_upscale_by_any_scale(kind):
    small = {
        VDSRConv: {"layers": 3, "channels": 4},
        EDSRConv: {"blocks": 1, "channels": 4},
        RDNConv: {"channels": 4, "growth": 4, "blocks": 2, "layers": 2},
    }
    network = kind(**small[kind], levels=5)
    assert network(torch.rand(2, 3, 7, 5), 2.9).shape == (2, 3, 20, 15)


def test_comparison_trunks_are_those_of_their_networks():
    from sr_lightning.baselines.edsr import EDSR
    from sr_lightning.baselines.rdn import RDN
    from sr_lightning.baselines.vdsr import VDSR

    def convolutions(module):
        return [m.weight.shape for m in module.modules() if isinstance(m, torch.nn.Conv2d)]

    edsr = on_meta(EDSR, channels=256, blocks=32)
    assert convolutions(on_meta(EDSRConv).trunk) == convolutions(edsr.head) + convolutions(
        edsr.body
    )
    assert convolutions(on_meta(RDNConv).trunk) == convolutions(on_meta(RDN).trunk)
    assert convolutions(on_meta(VDSRConv).trunk)[1:] == convolutions(on_meta(VDSR))[1:-1]


# ---- training ------------------------------------------------------------------------------------


def test_a_batch_trains_the_trunk_and_one_branch():
    module = ASDNModule(ASDN(**SMALL))
    module.log_dict = lambda *_, **__: None
    batch = {"lr": torch.rand(2, 3, 10, 10), "hr": torch.rand(2, 3, 13, 13), "scale": 1.3}
    module.training_step(batch, 0).backward()
    network = module.network
    assert all(p.grad.abs().sum() > 0 for p in network.trunk.parameters())
    trained = [
        level
        for level, branch in enumerate(network.branches)
        if any(p.grad.abs().sum() > 0 for p in branch.parameters())
    ]
    assert trained == [3]
    assert all(p.grad is not None for p in network.parameters())


def test_neighbours_recipe_is_the_student_projects():
    torch.manual_seed(0)
    module = ASDNModule(ASDN(**SMALL), recipe="neighbours")
    hr = torch.rand(1, 3, 96, 96)
    lr = F.interpolate(hr, size=(48, 48), mode="bilinear")
    sizes = []
    network = module.network
    network.trunk.register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0].shape[-1]))
    with torch.no_grad():
        loss = module.neighbours(hr, 1.27)
        below, above = (bicubic_to(lr, (size, size)) for size in (57, 62))
        below = below + network.branches[2](network.trunk(below - network.normalise.mean))
        above = above + network.branches[3](network.trunk(above - network.normalise.mean))
        below, target = resized(below, (62, 62)), resized(hr, (62, 62))
    torch.testing.assert_close(loss, (above + 0.3 * (below - above) - target).abs().mean())
    sizes.clear()
    with torch.no_grad():
        for level in range(1, 11):
            module.neighbours(hr, 1 + level / 10)
    assert sizes == [52, 57, 62, 67, 72, 76, 81, 86, 91, 96]


def test_neighbours_recipe_draws_scales_by_step_alone():
    module = ASDNModule(ASDN(**SMALL), recipe="neighbours")
    drawn = []
    module.neighbours = lambda _, scale: drawn.append(scale) or torch.zeros(())
    steps = iter([0, 1, 2, 3, 1])
    type(module).global_step = property(lambda _: next(steps))
    try:
        for _ in range(5):
            module.losses({"hr": torch.rand(1, 3, 8, 8)})
    finally:
        del type(module).global_step
    assert all(1 < scale <= 2 for scale in drawn)
    assert len(set(drawn[:4])) == 4
    assert drawn[4] == drawn[1]


def test_neighbours_recipe_needs_levels_from_1_to_2():
    with pytest.raises(UserError, match="levels from 1 to 2, not from 2 to 4"):
        ASDNModule(ASDN(levels=[2, 3, 4], **SMALL), recipe="neighbours")


# ---- FSDN ----------------------------------------------------------------------------------------


def test_fsdn_of_another_scale_is_refused():
    with pytest.raises(ValueError, match="2, 3, 4 or 8, not 5"):
        FSDN(5)


def test_fsdn_starts_from_the_whole_trunk_of_asdn(tmp_path):
    from sr_lightning.training.warm_start import load_matching
    from sr_lightning.weights.files import load_network, save_network

    asdn, fsdn = ASDN(**SMALL), FSDN(4, **SMALL, width=8)
    save_network(asdn, tmp_path / "asdn.safetensors")
    load_matching(fsdn, tmp_path / "asdn.safetensors")
    own, given = fsdn.state_dict(), asdn.state_dict()
    names = [name for name in own if name.startswith("trunk.")]
    assert names == [name for name in given if name.startswith("trunk.")]
    assert all(torch.equal(own[name], given[name]) for name in names)
    again = load_network(tmp_path / "asdn.safetensors")
    lr = torch.rand(1, 3, 6, 6)
    torch.testing.assert_close(again(lr, 1.7), asdn(lr, 1.7))


# ---- any scale, end to end -----------------------------------------------------------------------


def test_a_trained_network_is_tested_at_any_scales_and_drawn(
    tmp_path, train_folder, val_folder, test_folder, capsys
):
    from sr_lightning.cli import main

    small = [f"--model.network.{name}={value}" for name, value in SMALL.items()]
    arguments = tiny_fit("asdn_light", tmp_path, train_folder, val_folder, data__val_limit=1)
    main([*arguments, *small, "--trainer.precision", "bf16-mixed"])
    run = only_run(tmp_path)
    assert {path.stem[-4:] for path in (run / "images" / "validation").iterdir()} == {
        "x1.4",
        "0_x2",
    }
    test = ["test", "--run", str(run), "--data.test", f"[{test_folder}]"]
    capsys.readouterr()
    main([*test, "--scale", "[1.0001, 1.35, 1.35, 2, 2.1, 2.2, 2.8]", "--trainer.accelerator=cpu"])
    printed = capsys.readouterr().out
    means = json.loads((run / "results" / "summary.json").read_text())["means"]
    scales = [row["scale"] for row in means if row["method"] == "ASDN"]
    assert sorted(scales) == [1.0001, 1.35, 2, 2.1, 2.2, 2.8]
    # More scales than columns have room for: each has a line.
    assert all(
        f"x{scale:g} (3)" in line for scale, line in zip(scales, table(printed), strict=True)
    )
    drawing = run / "results" / "arbitrary_scale.svg"
    assert str(drawing) in printed
    lines = ElementTree.parse(drawing).getroot().findall(".//{http://www.w3.org/2000/svg}polyline")
    points = sorted(len(line.get("points").split()) for line in lines)
    # Bicubic at 1.0001 is the image itself, whose PSNR is infinite.
    assert points == [5, 6]
    main([*test, "--scale=2.8", "--trainer.accelerator=cpu"])
    means = json.loads((run / "results" / "summary.json").read_text())["means"]
    assert {row["scale"] for row in means} == {2.8}
    assert not drawing.exists()


def table(printed):
    """Lines of a printed table that have numbers."""
    return [line for line in printed.splitlines() if " / " in line and "PSNR" not in line]


@pytest.mark.parametrize(("command", "key"), [("test", "scale"), ("validate", "val_scale")])
def test_scale_on_the_command_line_is_the_datas(command, key, capsys):
    from sr_lightning.cli import main

    with pytest.raises(SystemExit):
        main(
            [
                *(command, "--config", str(EXPERIMENTS / "asdn.yaml"), "--scale", "[1.5, 2.8]"),
                "--print_config",
            ]
        )
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["data"]["init_args"][key] == [1.5, 2.8]
    with pytest.raises(SystemExit):
        main([command, "--scale"])
    assert "--scale needs a number" in capsys.readouterr().err


def test_photographs_are_upscaled_by_any_scale(tmp_path, capsys):
    from sr_lightning.cli import main
    from sr_lightning.weights.files import save_network

    save_network(ASDN(**SMALL), tmp_path / "asdn.safetensors")
    Image.fromarray(picture(0, 10, 15)).save(tmp_path / "a.png")
    upscale = ["upscale", str(tmp_path / "a.png"), "--weights", str(tmp_path / "asdn.safetensors")]
    main([*upscale, "--scale", "2.8"])
    assert Image.open(tmp_path / "a_x2.8.png").size == (42, 28)
    with pytest.raises(SystemExit):
        main([*upscale, "--scale", "0.5"])
    assert "A scale of 0.5 does not upscale" in capsys.readouterr().err
    assert not VDSRConv(3, 4, levels=[2, 3, 4]).supports_scale(2.5)


def summary(folder, method, values):
    rows = [
        {
            **{"set": "B100", "scale": s, "method": m, "protocol": "edsr2017", "images": 1},
            **{"psnr": v, "ssim": 0.9},
        }
        for m, line in ((method, values), ("bicubic", {2: 29.55, 4: 25.96}))
        for s, v in line.items()
    ]
    (folder / "results").mkdir(parents=True)
    (folder / "config.yaml").write_text("")
    content = {"method": method, "protocols": {"edsr2017": ""}, "means": rows}
    (folder / "results" / "summary.json").write_text(json.dumps(content))
    return folder


def test_curves_of_several_runs_stand_side_by_side(tmp_path, capsys):
    from sr_lightning.cli import main
    from sr_lightning.studies.plot_scales import read_curves

    first = summary(tmp_path / "asdn" / "1", "ASDN", {2: 32.3, 4: 27.65, 1.0001: None})
    second = summary(tmp_path / "shared" / "1", "ASDN", {2: 32.2, 4: 27.6})
    protocol, curves = read_curves([first, second])
    assert protocol == "edsr2017"
    assert curves == {
        "B100": {
            "ASDN": {2: 32.3, 4: 27.65},
            "bicubic": {2: 29.55, 4: 25.96},
            "ASDN (shared)": {2: 32.2, 4: 27.6},
        }
    }
    main(["plot-scales", str(first), str(second)])
    drawing = first / "results" / "arbitrary_scale.svg"
    assert capsys.readouterr().out.strip() == str(drawing)
    text = drawing.read_text()
    assert all(word in text for word in ("B100", "edsr2017", "ASDN (shared)", "bicubic"))
    with pytest.raises(UserError, match="no numbers of protocol rgb"):
        read_curves([first], "rgb")
    (second / "results" / "summary.json").unlink()
    with pytest.raises(UserError, match="sr-lightning test --run"):
        read_curves([second])
