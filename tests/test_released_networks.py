"""Networks whose authors released weights: counts, contract, receptive fields, fast paths."""

from __future__ import annotations

import pytest
import torch
from conftest import ROOT, only_run, tiny_fit
from torch.nn import functional as F

from sr_lightning.baselines.carn import CARN
from sr_lightning.baselines.dncnn import DnCNN
from sr_lightning.baselines.idn import IDN
from sr_lightning.baselines.imdn import IMDN
from sr_lightning.baselines.lapsrn import LapSRN, MSLapSRN
from sr_lightning.baselines.tscn import TSCN
from sr_lightning.baselines.vdsr import VDSR
from sr_lightning.colour import rgb_to_y
from sr_lightning.data.degradation import downscale
from sr_lightning.experiments import experiment_file
from sr_lightning.nn.bicubic import bicubic
from sr_lightning.nn.complexity import HR_HFDN, complexity, parameter_count
from sr_lightning.training.complexity import network_of_config
from sr_lightning.training.module import SRModule
from sr_lightning.training.supervision import PyramidModule

# Parameters and GMACs for a 1280 x 720 output, by experiment and scale.
COUNTS = {
    "vdsr": {2: (665_921, 612.59), 3: (665_921, 613.07), 4: (665_921, 612.59)},
    "dncnn3": {2: (667_073, 612.59), 4: (667_073, 612.59)},
    "lapsrn_x2": {2: (407_441, 94.10)},
    "lapsrn_x4": {4: (814_242, 117.49)},
    "lapsrn_x8": {8: (1_221_043, 123.33)},
    "mslapsrn_d5r2": {2: (222_801, 94.10), 4: (222_801, 117.49), 8: (222_801, 123.33)},
    "mslapsrn_d5r5": {2: (222_801, None)},
    "mslapsrn_d5r8": {2: (222_801, None)},
    "idn_x2": {2: (552_769, 126.96)},
    "idn_x3": {3: (552_769, 56.47)},
    "idn_x4": {4: (552_769, 31.74)},
    "tscn_x2": {2: (784_834, 267.50)},
    "tscn_x3": {3: (821_698, 187.40)},
    "tscn_x4": {4: (981_442, 165.39)},
    "imdn_x2": {2: (694_404, 158.77)},
    "imdn_x3": {3: (703_059, 71.50)},
    "imdn_x4": {4: (715_176, 40.89)},
    "carn": {2: (1_591_939, 222.82), 3: (1_591_939, 118.88), 4: (1_591_939, 90.87)},
    "carn_m": {2: (414_787, 91.17), 3: (414_787, 46.16), 4: (414_787, 32.48)},
}

SMALL = {
    "VDSR": (VDSR, {"layers": 4, "channels": 8}, (2, 3, 4)),
    "DnCNN": (DnCNN, {"layers": 4, "channels": 8}, (2, 3, 4)),
    "DnCNN merged": (DnCNN, {"layers": 4, "channels": 8, "batch_norm": False}, (3,)),
    "LapSRN": (LapSRN, {"depth": 2, "channels": 8}, (2, 4, 8)),
    "MSLapSRN": (MSLapSRN, {"depth": 2, "recursions": 2, "channels": 8}, (2, 4, 8)),
    "MSLapSRN DS": (MSLapSRN, {"depth": 1, "channels": 8, "skip": "distinct"}, (2,)),
    "IDN": (IDN, {"channels": 16, "blocks": 1, "difference": 4}, (2, 3, 4)),
    "TSCN": (TSCN, {"channels": 24, "modules": 1, "units": 1}, (2, 3, 4)),
    "TSCN first": (TSCN, {"channels": 24, "modules": 1, "stage": "first"}, (2,)),
    "IMDN": (IMDN, {"channels": 16, "blocks": 2}, (2, 3, 4)),
    "CARN": (CARN, {"channels": 8, "blocks": 2, "units": 2}, (2, 3, 4)),
    "CARN-M": (CARN, {"channels": 8, "groups": 4, "recursive": True}, (2, 3, 4)),
}
AT = [(name, scale) for name, (_, _, scales) in SMALL.items() for scale in scales]


def small(name, scale):
    kind, arguments, _ = SMALL[name]
    torch.manual_seed(0)
    return kind(scale=scale, **arguments).eval()


@pytest.mark.parametrize("experiment", list(COUNTS))
def test_experiments_have_the_stated_costs(experiment):
    with torch.device("meta"):
        network = network_of_config(experiment_file(ROOT, experiment))
    for scale, (parameters, gmacs) in COUNTS[experiment].items():
        assert parameter_count(network) == parameters
        if gmacs is not None:
            assert round(complexity(network, scale=scale).macs / 1e9, 2) == gmacs


@pytest.mark.parametrize(("scale", "published"), [(2, 225.7), (3, 157.99), (4, 139.55)])
def test_tscns_published_cost_is_for_the_smaller_output(scale, published):
    assert complexity(TSCN(scale), HR_HFDN).macs / 1e9 == pytest.approx(published, abs=0.006)


def test_lapsrns_published_figures_count_outputs_and_no_biases():
    network = LapSRN(4)
    biases = sum(p.numel() for name, p in network.named_parameters() if name.endswith("bias"))
    assert parameter_count(network) - biases == pytest.approx(813e3, abs=500)
    assert complexity(network).macs_out / 1e9 == pytest.approx(149.4, abs=0.06)


@pytest.mark.parametrize(("name", "scale"), AT)
def test_odd_sizes_strips_and_batches_are_upscaled(name, scale):
    network = small(name, scale)
    with torch.no_grad():
        for height, width in ((17, 23), (1, 9), (9, 1)):
            lr = torch.rand(2, 3, height, width)
            sr = network.upscale(lr, scale)
            assert sr.shape == (2, 3, height * scale, width * scale)
            assert sr.dtype == torch.float32
            torch.testing.assert_close(sr[1:], network.upscale(lr[1:], scale), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(SMALL))
def test_last_prediction_is_the_output(name):
    scale = SMALL[name][2][-1]
    network, lr = small(name, scale), torch.rand(2, 3, 5, 7)
    with torch.no_grad():
        sr, predictions = network.upscale(lr, scale), network.supervised_outputs(lr, scale)
    final = sr if network.colour == "rgb" else rgb_to_y(sr)
    torch.testing.assert_close(predictions[-1], final, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["VDSR", "DnCNN", "MSLapSRN", "CARN", "CARN-M"])
def test_one_network_serves_several_scales(name):
    kind, arguments, scales = SMALL[name]
    network = kind(scale=scales, **arguments).eval()
    with torch.no_grad():
        for scale in scales:
            assert network.upscale(torch.rand(1, 3, 4, 5), scale).shape[2:] == (
                4 * scale,
                5 * scale,
            )


@pytest.mark.parametrize("kind", [LapSRN, MSLapSRN, IDN, TSCN, CARN])
def test_impossible_scales_are_refused(kind):
    with pytest.raises(ValueError, match=r"not (by )?5"):
        kind(scale=5)


@pytest.mark.parametrize("name", list(SMALL))
def test_a_step_in_bf16_is_finite_and_reaches_every_parameter(name):
    scale = SMALL[name][2][-1]
    pyramid = "LapSRN" in name
    module = (
        PyramidModule(small(name, scale).train(), loss="charbonnier")
        if pyramid
        else SRModule(small(name, scale).train(), supervise="all")
    )
    batch = {
        "lr": torch.rand(2, 3, 6, 6),
        "hr": torch.rand(2, 3, 6 * scale, 6 * scale),
        "scale": scale,
    }
    with torch.autocast("cpu", torch.bfloat16):
        loss = module.losses(batch)["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    for key, parameter in module.network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize(("name", "scale"), [at for at in AT if at[0] != "IMDN"])
def test_receptive_field_is_true(name, scale):
    """Gradient of one LR cell of output reaches exactly as far as the property says."""
    network = small(name, scale).double()
    for parameter in network.parameters():
        # Positive, so that no ReLU and no cancellation hides a path.
        parameter.data = parameter.data.abs() + 1e-3
    side = network.receptive_field + 6
    channels = 3 if network.colour == "rgb" else 1
    image = torch.rand(1, channels, side, side, dtype=torch.float64, requires_grad=True)
    rgb = network.colour == "rgb"
    output = network.upscale(image, scale) if rgb else network.predict(image, scale)[-1]
    middle = side // 2
    cell = slice(middle * scale, (middle + 1) * scale)
    output[..., cell, cell].sum().backward()
    rows = image.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten() - middle
    assert max(-int(rows.min()), int(rows.max())) == network.receptive_field // 2


def test_imdns_attention_sees_the_whole_image():
    assert IMDN().receptive_field is None


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_idns_deconvolution_is_aligned_as_its_release_crops_it(scale):
    """The release pads the 17x17 deconvolution by 8 and adds it from row `scale - 1` on."""
    layer = small("IDN", scale).double().upsample
    x = torch.rand(1, 16, 6, 5, dtype=torch.float64)
    theirs = F.conv_transpose2d(x, layer.weight, layer.bias, scale, padding=8)
    ours = layer(x)
    torch.testing.assert_close(ours[..., scale - 1 :, scale - 1 :], theirs)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_luminance_path_is_the_networks_own_answer_to_the_luminance(scale):
    network = small("LapSRN", scale)
    lr = torch.rand(1, 3, 7, 6)
    with torch.no_grad():
        y = network.predict(rgb_to_y(lr), scale)[-1]
        torch.testing.assert_close(rgb_to_y(network(lr)), y, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("name", "scale"), [("VDSR", 2), ("VDSR", 3), ("DnCNN", 4)])
def test_interpolating_luminance_alone_gives_that_of_the_interpolated_image(name, scale):
    """A third of the interpolation, and of the network's input, for the same output."""
    network, lr = small(name, scale).double(), torch.rand(2, 3, 6, 7, dtype=torch.float64)
    with torch.no_grad():
        whole = network.refine(rgb_to_y(bicubic(lr, scale)))[-1]
        torch.testing.assert_close(network.predict(rgb_to_y(lr), scale)[-1], whole)


def test_vdsr_clips_overshoot_when_told():
    plain, clipping = (VDSR(2, layers=2, channels=4, clip=clip) for clip in (False, True))
    clipping.load_state_dict(plain.state_dict())
    y = torch.tensor([0.0, 0.5, 1.0]).expand(1, 1, 3, 3)
    clipped = torch.tensor([16 / 255, 0.5, 235 / 255]).expand(1, 1, 3, 3)
    torch.testing.assert_close(clipping.refine(y)[0], plain.refine(clipped)[0])


@pytest.mark.parametrize("name", ["LapSRN", "MSLapSRN"])
def test_pyramids_are_supervised_at_every_level_with_sums(name):
    network = small(name, 4)
    module = PyramidModule(network, loss="charbonnier")
    batch = {"lr": torch.rand(2, 3, 5, 6), "hr": torch.rand(2, 3, 20, 24), "scale": 4}
    losses = module.losses(batch)
    target = rgb_to_y(batch["hr"])
    total = 0
    for prediction, aim in zip(
        network.supervised_outputs(batch["lr"], 4), (downscale(target, 2), target), strict=True
    ):
        total += ((prediction - aim).square() + 1e-6).sqrt().sum() / 2
    torch.testing.assert_close(losses["loss"], total)
    assert set(losses) == {"loss", "x2", "x4"}


def test_image_pyramid_starts_as_bilinear_interpolation():
    level = LapSRN(2, depth=1, channels=4).levels[0]
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    doubled = level.image(ramp)[0, 0, 4, 2:-2]
    torch.testing.assert_close(doubled, torch.arange(12) / 2 + 0.75)


def test_mslapsrn_recursions_and_levels_share_their_weights():
    counts = {
        parameter_count(MSLapSRN(scale, recursions=r, channels=8))
        for scale in (2, (2, 4, 8))
        for r in (2, 8)
    }
    assert len(counts) == 1


def test_carn_m_shares_a_blocks_units():
    one, several = (CARN(2, channels=8, groups=4, recursive=r) for r in (True, False))
    assert len(one.body.parts[0].parts) == 1
    assert len(several.body.parts[0].parts) == 3


def test_tscns_second_stage_is_trained_with_the_first_frozen():
    network = TSCN(2, stage="second", channels=24, modules=1, units=1)
    trained = {name.partition(".")[0] for name, p in network.named_parameters() if p.requires_grad}
    assert trained == {"refinement"}
    assert len(network.predict(torch.rand(1, 1, 4, 4), 2)) == 2


def test_mslapsrns_experiment_trains(tmp_path, train_folder, val_folder):
    from sr_lightning.cli import main

    main(
        tiny_fit(
            "mslapsrn_d5r2",
            tmp_path,
            train_folder,
            val_folder,
            model__network__channels=8,
            data__val_crop=48,
        )
    )
    assert list((only_run(tmp_path) / "checkpoints").glob("best_*.ckpt"))
