"""Where networks start: as their skip, and every tensor by (seed, name)."""

from __future__ import annotations

import math
import re

import pytest
import torch
import yaml
from conftest import ROOT, picture
from torch import nn

from sr_lightning.baselines.lapsrn import LapSRN
from sr_lightning.cli import main
from sr_lightning.data.images import to_tensor
from sr_lightning.experiments import experiment_file
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.metrics.quality import psnr
from sr_lightning.nn.bicubic import bicubic
from sr_lightning.nn.network import SRNetwork
from sr_lightning.papers.hfdn.network import HFDN
from sr_lightning.training.complexity import network_of_config

# The experiments of all networks that add to an interpolated image, small where they are large.
WITH_SKIP = {
    "hfdn_x2": {},
    "hfdn_x3": {},
    "hfdn_x4": {},
    "cmsc": {"stages": 2, "modules": 1},
    "cmsc_x4": {"stages": 2, "modules": 1},
    "asdn": {"blocks": 1, "layers": 1},
    "fsdn_x4": {"blocks": 1, "layers": 1},
    "vdsr_conv": {"layers": 3},
    "edsr_conv": {"blocks": 1, "channels": 8},
    "rdn_conv": {"blocks": 1, "layers": 1},
    "vdsr": {},
    "drcn_x4": {"channels": 16},
    "drrn": {"channels": 16, "units": 2},
    "memnet": {"channels": 16, "blocks": 2, "recursions": 2},
    "dncnn3": {"layers": 5},
    "idn_x4": {},
    "lcscnet_x4": {"channels": 16, "blocks": 2},
}
# Those that have none, and carry the image past their trunk at first.
WITHOUT_SKIP = {
    "cirn_x4": {"groups": 2, "blocks": 1, "channels": 16, "gain": 1.0},
    "edsr_baseline_x3": {"channels": 8, "blocks": 2},
    "mdsr": {"channels": 8, "blocks": 2},
    "rcan_x8": {"groups": 2, "blocks": 1, "channels": 16},
    "rdn_x4": {"blocks": 2, "layers": 2, "channels": 8, "growth": 8},
    "csfm_x2": {"channels": 16},
    "imdn_x2": {"channels": 32, "blocks": 1},
    "safmn_x3": {"channels": 16, "blocks": 2},
    "span_x2": {"channels": 8, "blocks": 2},
    "swinir_light_x3": {"channels": 12, "depths": [2], "heads": 2},
}


@pytest.fixture
def network_of(tmp_path):
    """Builds an experiment's network with some other arguments."""

    def build(experiment, **arguments):
        config = yaml.safe_load(experiment_file(ROOT, experiment).read_text())
        model = config["model"].setdefault("init_args", {})
        own = model["network"].setdefault("init_args", {}) if "network" in model else model
        own.update(arguments)
        changed = tmp_path / "changed.yaml"
        changed.write_text(yaml.safe_dump(config))
        return network_of_config(changed).eval()

    return build


@pytest.mark.parametrize("experiment", WITH_SKIP)
def test_an_untrained_network_with_a_skip_gives_the_bicubic_image(network_of, experiment):
    network = network_of(experiment, **WITH_SKIP[experiment])
    for scale in (2, 3, 4):
        if not network.supports_scale(scale):
            continue
        hr = to_tensor(picture(1, 12 * scale, 15 * scale))[None]
        lr = to_tensor(picture(2, 12, 15))[None]
        with torch.inference_mode():
            sr = network.upscale(lr, scale)
        a, b = (
            psnr(*PROTOCOLS["edsr2017"].prepare(image, hr, scale)).item()
            for image in (sr, bicubic(lr, scale))
        )
        assert a == pytest.approx(b, abs=0.01)


def test_an_untrained_pyramid_doubles_by_bilinear_interpolation():
    y = torch.rand(1, 1, 9, 11)
    for image in LapSRN(4).predict(y, 4):
        size = image.shape[-2:]
        expected = nn.functional.interpolate(y, scale_factor=2, mode="bilinear")
        if size[0] == 36:
            expected = nn.functional.interpolate(expected, scale_factor=2, mode="bilinear")
        assert torch.allclose(image[..., 8:-8, 8:-8], expected[..., 8:-8, 8:-8], atol=1e-6)


@pytest.mark.parametrize("experiment", WITHOUT_SKIP)
def test_an_untrained_network_without_a_skip_interpolates_bilinearly(network_of, experiment):
    network = network_of(experiment, **WITHOUT_SKIP[experiment])
    lr = to_tensor(picture(2, 12, 15))[None]
    for scale in network.scales:
        expected = lr
        for factor in (3,) if scale == 3 else (2,) * int(math.log2(scale)):
            expected = nn.functional.interpolate(expected, scale_factor=factor, mode="bilinear")
        with torch.inference_mode():
            sr = network.upscale(lr, scale)
        # Convolutions see zeros beyond the border where interpolation repeats it.
        inside = (
            ...,
            slice(3 * int(scale), -3 * int(scale)),
            slice(3 * int(scale), -3 * int(scale)),
        )
        torch.testing.assert_close(sr[inside], expected[inside], rtol=0, atol=1e-5)


@pytest.mark.parametrize("experiment", WITH_SKIP | WITHOUT_SKIP)
def test_the_papers_or_pytorchs_start_is_an_argument(network_of, experiment):
    network = network_of(experiment, **(WITH_SKIP | WITHOUT_SKIP)[experiment], start="random")
    scale = network.scales[-1]
    lr = to_tensor(picture(2, 12, 15))[None]
    with torch.inference_mode():
        assert not torch.allclose(network.upscale(lr, scale), bicubic(lr, scale), atol=1e-3)


def same_start(one, other):
    theirs = other.state_dict()
    return {
        name
        for name, tensor in one.state_dict().items()
        if name in theirs and torch.equal(tensor, theirs[name])
    }


def test_levels_of_an_ablation_share_the_start_of_all_that_they_share():
    torch.manual_seed(5)
    whole = HFDN(channels=16, growth=8, reduction=4, start="random")
    part = HFDN(channels=16, growth=8, reduction=4, start="random", levels="d", blocks=2)
    shared = same_start(part, whole)
    differing = {
        name
        for name, tensor in part.state_dict().items()
        if name not in shared and tensor.shape == whole.state_dict()[name].shape
    }
    # A bias is drawn within bounds that the size of its kernel sets.
    assert differing == {"fusion.bias"}
    assert "mapping.1.refine.weight" in shared


class Own(SRNetwork):
    """A network that initialises itself as it likes, in its constructor."""

    def __init__(self, extra: int = 0) -> None:
        super().__init__()
        self.scales = (2,)
        self.before = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(extra))
        self.conv = nn.Conv2d(3, 12, 3, padding=1)
        nn.init.orthogonal_(self.conv.weight)
        self.table = nn.Parameter(torch.randn(7) + 10)
        nn.init.trunc_normal_(self.conv.bias, std=5.0)


def test_what_a_constructor_does_to_its_tensors_is_kept():
    torch.manual_seed(0)
    plain, longer = Own(), Own(extra=2)
    assert {"table", "conv.bias"} <= same_start(plain, longer)
    assert plain.table.min() > 5
    assert plain.conv.bias.abs().max() > 1
    weight = plain.conv.weight.flatten(1)
    assert torch.allclose(weight @ weight.T, torch.eye(12), atol=1e-5)


def test_the_start_follows_the_seed_and_leaves_the_random_state_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again = Own(), Own()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    other = Own()
    assert same_start(first, again) == set(first.state_dict())
    assert not same_start(first, other)


def test_starts_are_listed_beside_bicubic(test_folder, capsys):
    files = [str(experiment_file(ROOT, name)) for name in ("fsrcnn_x4", "cmsc_x4")]
    main(["study", "starts", *files, "--set", str(test_folder)])
    without, with_skip = capsys.readouterr().out.splitlines()
    assert re.search(r"fsrcnn_x4 +FSRCNN +x4 .* -\d+\.\d\d$", without)
    assert re.search(r"cmsc_x4 +CMSC +x4 .* [+-]0\.00$", with_skip)
