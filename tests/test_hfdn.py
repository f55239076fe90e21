"""HFDN: published counts, every alternative of the spec, and the network contract."""

from __future__ import annotations

import pytest
import torch

from sr_lightning.errors import UserError
from sr_lightning.nn.complexity import HR_HFDN, complexity, parameter_count
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.papers.hfdn.module import HFDNModule

SMALL = {"channels": 16, "blocks": 2, "layers": 2, "growth": 8, "reduction": 4, "start": "random"}

# Parameters at x2 (= x4) and x3 of configurations that fit the published 760.1k and 823k.
ALTERNATIVES = {
    "P1": ({}, 761_379, 823_587),
    "P2": ({"blocks": 3, "layers": 5, "growth": 24}, 760_131, 822_339),
    "P3": (
        {"blocks": 6, "layers": 5, "growth": 16, "squeeze": True, "global_fusion": "tail"},
        759_735,
        821_943,
    ),
    "P4": (
        {
            "blocks": 6,
            "layers": 4,
            "growth": 16,
            "squeeze": True,
            "enhance_kernels": (3, 3),
            "colour": "y",
        },
        760_749,
        822_957,
    ),
    "P1 on Y, sums": ({"colour": "y", "combine": "sum"}, 760_317, 822_525),
    "P5": (
        {
            "blocks": 5,
            "layers": 4,
            "growth": 16,
            "enhance_kernels": (3, 3),
            "shallow_layers": 1,
            "colour": "y",
            "combine": "sum",
        },
        760_335,
        822_543,
    ),
}


@pytest.mark.parametrize("name", list(ALTERNATIVES))
def test_parameters_of_every_alternative_reading(name):
    arguments, x2, x3 = ALTERNATIVES[name]
    with torch.device("meta"):
        counts = [parameter_count(HFDN(scale=scale, **arguments)) for scale in (2, 3, 4)]
    assert counts == [x2, x3, x2]


@pytest.mark.parametrize(
    ("scale", "published_parameters", "published_gmacs"),
    [(2, 760.1e3, 260.7), (3, 823e3, 248.21), (4, 760.1e3, 178.51)],
)
def test_published_complexity_is_met_within_a_fifth_of_a_percent(
    scale, published_parameters, published_gmacs
):
    cost = complexity(HFDN(scale=scale), HR_HFDN)
    assert cost.parameters == pytest.approx(published_parameters, rel=0.002)
    assert cost.macs_out / 1e9 == pytest.approx(published_gmacs, rel=0.0025)
    assert cost.macs_out_bias / 1e9 == pytest.approx(published_gmacs, rel=0.002)


def test_adaptive_weights_are_36_scalars():
    assert parameter_count(HFDN()) - parameter_count(HFDN(unit="adu_na")) == 36


@pytest.mark.parametrize("unit", ["adu", "adu_na", "dense"])
@pytest.mark.parametrize("levels", ["smd", "sd", "d"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_every_ablation_predicts_every_level(unit, levels, scale):
    network = HFDN(scale=scale, unit=unit, levels=levels, **SMALL)
    lr = torch.rand(2, 3, 7, 9)
    predictions = network.supervised_outputs(lr)
    assert [p.shape for p in predictions] == [(2, 3, 7 * scale, 9 * scale)] * len(levels)
    torch.testing.assert_close(network(lr), predictions[-1])


def test_adaptive_weights_scale_the_concatenated_tensors():
    from sr_lightning.papers.hfdn.network import ConcatConv

    conv = ConcatConv([3, 2], 4, 3, adaptive=True)
    conv.scalars.data = torch.tensor([0.5, -2.0])
    a, b = torch.rand(1, 3, 6, 6), torch.rand(1, 2, 6, 6)
    plain = torch.nn.functional.conv2d(
        torch.cat([0.5 * a, -2.0 * b], dim=1), conv.weight, conv.bias, padding=1
    )
    torch.testing.assert_close(conv([a, b]), plain)


def test_channel_attention_sees_the_whole_image():
    assert HFDN(**SMALL).receptive_field is None


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="2, 3 or 4"):
        HFDN(scale=8)
    with pytest.raises(ValueError, match="in order"):
        HFDN(shallow_level=3, middle_level=2)
    with pytest.raises(UserError, match=r"level_weights has 2 numbers, but 3"):
        HFDNModule(HFDN(), level_weights=[1.0, 1.0])


@pytest.mark.parametrize("colour", ["rgb", "y"])
def test_loss_is_the_weighted_sum_over_levels(colour):
    torch.manual_seed(0)
    module = HFDNModule(
        HFDN(colour=colour, **SMALL), ssim_weight=0.2, level_weights=[0.25, 0.25, 0.5]
    )
    batch = {"lr": torch.rand(2, 3, 12, 12), "hr": torch.rand(2, 3, 48, 48), "scale": 4}
    parts = module.losses(batch)
    expected = sum(
        weight * (parts[f"l1_{level}"] + 0.2 * parts[f"ssim_{level}"])
        for level, weight in zip("smd", (0.25, 0.25, 0.5), strict=True)
    )
    torch.testing.assert_close(parts["loss"], expected)
