"""Compared networks: counts, contract, receptive fields, fast layers against the papers' own."""

from __future__ import annotations

import inspect
import math
from types import SimpleNamespace

import pytest
import torch
from conftest import EXPERIMENTS, ROOT, only_run, tiny_fit
from torch import nn
from torch.nn import functional as F

from sr_lightning.baselines.awsrn import AWSRN
from sr_lightning.baselines.bicubic import Bicubic
from sr_lightning.baselines.csfm import CSFM
from sr_lightning.baselines.dbdn import DBDN
from sr_lightning.baselines.dbpn import DBPN
from sr_lightning.baselines.drcn import DRCN
from sr_lightning.baselines.drrn import DRRN
from sr_lightning.baselines.edsr import EDSR
from sr_lightning.baselines.espcn import ESPCN
from sr_lightning.baselines.fsrcnn import FSRCNN
from sr_lightning.baselines.lcscnet import LCSCNet
from sr_lightning.baselines.mdsr import MDSR
from sr_lightning.baselines.memnet import MemNet
from sr_lightning.baselines.metasr import MetaEDSR, MetaRDN
from sr_lightning.baselines.rcan import RCAN
from sr_lightning.baselines.rdn import RDN
from sr_lightning.baselines.safmn import SAFMN, adaptive_maxima
from sr_lightning.baselines.span import SPAN, MergeableConv
from sr_lightning.baselines.srcnn import SRCNN
from sr_lightning.baselines.srdensenet import SRDenseNet
from sr_lightning.baselines.srmdnf import SRMDNF
from sr_lightning.baselines.swinir import SwinIR
from sr_lightning.baselines.swinir import _mask as swinir_mask
from sr_lightning.colour import rgb_to_y
from sr_lightning.cubic import upscaled_size
from sr_lightning.errors import UserError
from sr_lightning.experiments import experiment_file, experiment_files
from sr_lightning.inference.upscaler import Upscaler
from sr_lightning.nn.bicubic import bicubic
from sr_lightning.nn.complexity import complexity, parameter_count
from sr_lightning.nn.layers import reference
from sr_lightning.studies.complexity import PublishedCosts
from sr_lightning.training.complexity import network_of_config
from sr_lightning.training.frequency import FrequencyModule
from sr_lightning.training.module import SRModule
from sr_lightning.training.supervision import SupervisedModule
from sr_lightning.weights.files import load_network, save_network

# Parameters and GMACs for a 1280 x 720 output, as the networks' files state them, by experiment
# and scale. None: counted at another scale, as counting RCAN and CSFM takes seconds.
COUNTS = {
    "srcnn_x2": {2: (57_281, 52.70)},
    "srcnn_x3": {3: (57_281, 52.74)},
    "srcnn_x4": {4: (57_281, 52.70)},
    "srcnn_915_x2": {2: (8_129, 7.40)},
    "srcnn_915_x3": {3: (8_129, 7.41)},
    "srcnn_915_x4": {4: (8_129, 7.40)},
    "fsrcnn_x2": {2: (12_809, 2.87)},
    "fsrcnn_x3": {3: (12_809, 1.28)},
    "fsrcnn_x4": {4: (12_809, 0.72)},
    "espcn_x2": {2: (21_284, 4.88)},
    "espcn_x3": {3: (22_729, 2.32)},
    "espcn_x4": {4: (24_752, 1.42)},
    "drcn_x2": {2: (1_775_121, 17_974.30)},
    "drcn_x3": {3: (1_775_121, 17_988.34)},
    "drcn_x4": {4: (1_775_121, 17_974.30)},
    "drrn": {3: (310_659, 6_802.21), 4: (310_659, 6_796.90)},
    "memnet": {4: (695_497, 2_665.00)},
    "edsr_baseline_x2": {2: (1_369_859, 316.25)},
    "edsr_baseline_x3": {3: (1_554_499, 160.44)},
    "edsr_baseline_x4": {4: (1_517_571, 114.23)},
    "edsr_x2": {2: (40_729_603, 9_384.75)},
    "edsr_x3": {3: (43_680_003, 4_480.03)},
    "edsr_x4": {4: (43_089_923, 2_894.55)},
    "mdsr_baseline": {2: (3_227_203, 410.62), 3: (3_227_203, 202.42), 4: (3_227_203, 137.82)},
    "mdsr": {2: (7_953_987, 1_497.78)},
    "rdn_x2": {2: (22_123_395, 5_096.18)},
    "rdn_x3": {3: (22_308_035, 2_286.51)},
    "rdn_x4": {4: (22_271_107, 1_309.21)},
    "dbpn_x2": {2: (5_953_526, 1_435.87)},
    "dbpn_x4": {4: (10_426_358, 681.59)},
    "dbpn_x8": {8: (23_205_878, 419.41)},
    "rcan_x2": {2: (15_444_643, None)},
    "rcan_x3": {3: (15_629_283, None)},
    "rcan_x4": {4: (15_592_355, 916.86)},
    "rcan_x8": {8: (15_740_067, None)},
    "srmdnf_x2": {2: (1_510_540, 347.70)},
    "srmdnf_x3": {3: (1_527_835, 156.43)},
    "srmdnf_x4": {4: (1_552_048, 89.31)},
    "dbdn_x2": {2: (18_161_347, 4_183.61)},
    "dbdn_x3": {3: (18_345_667, 1_880.61)},
    "dbdn_x4": {4: (18_308_867, 1_081.07)},
    "csfm_x2": {2: (12_071_875, None)},
    "csfm_x3": {3: (12_256_515, None)},
    "csfm_x4": {4: (12_219_587, 724.11)},
    "awsrn_s_x2": {2: (397_482, 91.22)},
    "awsrn_s_x3": {3: (476_757, 48.68)},
    "awsrn_s_x4": {4: (587_742, 33.74)},
    "lcscnet_x2": {2: (1_849_177, 1_024.14)},
    "lcscnet_x3": {3: (1_849_177, 798.20)},
    "lcscnet_x4": {4: (1_849_177, 718.28)},
    "meta_edsr": {2: (1_665_536, 282.28), 4: (1_665_536, 71.77)},
    "meta_rdn": {2: (22_419_072, 5_062.21)},
    "srdensenet_x4": {4: (2_004_225, 162.62)},
    "safmn_x2": {2: (227_820, 51.48)},
    "safmn_x3": {3: (232_695, 23.40)},
    "safmn_x4": {4: (239_520, 13.54)},
    "span_x2": {2: (2_140_252, 110.64)},
    "span_x4": {4: (2_157_136, 28.63)},
    "span_s_x2": {2: (1_824_900, 94.39)},
    "span_s_x4": {4: (1_840_488, 24.49)},
    "swinir_light_x2": {2: (910_152, 240.91)},
    "swinir_light_x3": {3: (918_267, 109.25)},
    "swinir_light_x4": {4: (929_628, 62.71)},
}

# Published figures that are printed to fewer digits than they are off here, or not met.
UNEXPLAINED = {("lcscnet_x4", "macs"): 0.0115, ("dbdn_x4", "parameters"): 0.012}

# Small enough for milliseconds, wide enough that no layer is dead by chance.
SMALL = {
    "Bicubic": (Bicubic, {}, (2, 3, 4)),
    "SRCNN": (SRCNN, {"channels": (8, 8)}, (2, 3, 4)),
    "SRCNN 9-1-5": (SRCNN, {"channels": (8, 8), "kernels": (9, 1, 5)}, (2, 3, 4)),
    "FSRCNN": (FSRCNN, {"channels": 8, "shrunk": 6, "depth": 2}, (2, 3, 4)),
    "ESPCN": (ESPCN, {"channels": (8, 8)}, (2, 3, 4)),
    "DRCN": (DRCN, {"channels": 8, "recursions": 3}, (2, 3, 4)),
    "DRRN": (DRRN, {"channels": 8, "units": 2}, (2, 3, 4)),
    "DRRN B2": (DRRN, {"channels": 8, "blocks": 2, "units": 1}, (2,)),
    "MemNet": (MemNet, {"channels": 8, "blocks": 2, "recursions": 2}, (2, 3, 4)),
    "EDSR": (EDSR, {"channels": 8, "blocks": 2, "residual_scale": 0.5}, (2, 3, 4, 8)),
    "MDSR": (MDSR, {"channels": 8, "blocks": 2}, (2, 3, 4)),
    "RDN": (RDN, {"channels": 8, "growth": 8, "blocks": 2, "layers": 2}, (2, 3, 4)),
    "DBPN": (DBPN, {"channels": 8, "shallow": 8, "stages": 3}, (2, 4, 8)),
    "RCAN": (RCAN, {"channels": 8, "groups": 2, "blocks": 2, "reduction": 2}, (2, 3, 4, 8)),
    "SRMDNF": (SRMDNF, {"channels": 8, "layers": 4}, (2, 3, 4)),
    "DBDN": (DBDN, {"channels": 8, "growth": 8, "blocks": 2, "layers": 2}, (2, 3, 4, 8)),
    "CSFM": (CSFM, {"channels": 8, "modules": 2, "blocks": 2, "reduction": 2}, (2, 3, 4)),
    "AWSRN": (AWSRN, {"channels": 8, "wide": 16, "units": 2}, (2, 3, 4)),
    "LCSCNet": (LCSCNet, {"channels": 8, "blocks": 3, "units": 2}, (2, 3, 4)),
    "MetaEDSR": (MetaEDSR, {"channels": 8, "blocks": 2}, (2, 3, 4)),
    "MetaRDN": (MetaRDN, {"channels": 8, "growth": 8, "blocks": 2, "layers": 2}, (2, 3)),
    "SRDenseNet": (
        SRDenseNet,
        {"blocks": 2, "layers": 2, "growth": 8, "bottleneck": 8},
        (2, 4, 8),
    ),
    "SAFMN": (SAFMN, {"channels": 16, "blocks": 2}, (2, 3, 4)),
    "SPAN": (SPAN, {"channels": 8, "blocks": 2}, (2, 3, 4)),
    "SwinIR": (SwinIR, {"channels": 12, "depths": (2, 2), "heads": 3}, (2, 3, 4)),
    "SPAN merged": (SPAN, {"channels": 8, "blocks": 2, "white": 1.0, "merged": True}, (2,)),
}
AT = [(name, scale) for name, (_, _, scales) in SMALL.items() for scale in scales]
WHOLE_IMAGE = ("RCAN", "CSFM", "SAFMN", "SwinIR")


def small(name, scale):
    """A small network in evaluation mode; those of several scales are made for the one alone."""
    kind, arguments, _ = SMALL[name]
    several = kind in (MDSR, MetaEDSR, MetaRDN)
    torch.manual_seed(0)
    if "start" in inspect.signature(kind).parameters:
        # What starts as its skip has nothing to show yet.
        arguments = {"start": "random", **arguments}
    return kind(scale=[scale] if several else scale, **arguments).eval()


def batch_of(scale, count=2, side=6):
    return {
        "lr": torch.rand(count, 3, side, side),
        "hr": torch.rand(count, 3, side * scale, side * scale),
        "scale": scale,
    }


# ---- counts -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures():
    return PublishedCosts(EXPERIMENTS)


@pytest.mark.parametrize("experiment", list(COUNTS))
def test_experiments_have_the_stated_and_the_published_costs(experiment, figures):
    with torch.device("meta"):
        network = network_of_config(experiment_file(ROOT, experiment))
    for scale, (parameters, gmacs) in COUNTS[experiment].items():
        assert scale in network.scales
        assert parameter_count(network) == parameters
        if gmacs is None:
            continue
        cost = complexity(network, scale=scale)
        assert round(cost.macs / 1e9, 2) == gmacs
        for metric in ("parameters", "macs"):
            figure = figures.of(experiment, scale, metric)
            ours = None if figure is None else figure.ours(network, cost)
            if ours is not None:
                off = UNEXPLAINED.get((experiment, metric), 0.01)
                assert ours == pytest.approx(figure.cell.value, rel=off)


def test_all_experiments_of_these_networks_are_counted():
    # Recipes for small budgets have the network of the paper's.
    of_these = {
        path.stem.removesuffix("_fast")
        for path in experiment_files(ROOT)
        for kind, _, _ in SMALL.values()
        if f"class_path: {kind.__module__}.{kind.__name__}\n" in path.read_text()
    }
    assert of_these == set(COUNTS)


# ---- contract -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "scale"), AT)
def test_odd_sizes_strips_and_batches_are_upscaled(name, scale):
    network = small(name, scale)
    with torch.no_grad():
        for height, width in ((17, 23), (1, 9), (9, 1)):
            lr = torch.rand(2, 3, height, width)
            sr = network.upscale(lr, scale)
            assert sr.shape == (2, 3, height * scale, width * scale)
            assert sr.dtype == torch.float32
            alone = network.upscale(lr[1:], scale)
            torch.testing.assert_close(sr[1:], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(SMALL))
def test_last_prediction_is_the_output(name):
    scale = SMALL[name][2][-1]
    network, lr = small(name, scale), torch.rand(2, 3, 5, 7)
    with torch.no_grad():
        sr, predictions = network.upscale(lr, scale), network.supervised_outputs(lr, scale)
    final = sr if network.colour == "rgb" else rgb_to_y(sr)
    torch.testing.assert_close(predictions[-1], final, rtol=0, atol=2e-6)
    assert len({prediction.shape for prediction in predictions}) == 1


@pytest.mark.parametrize(("name", "count"), [("DRCN", 3), ("MemNet", 2), ("LCSCNet", 3)])
def test_every_stage_of_supervised_networks_is_predicted(name, count):
    network = small(name, 2)
    assert len(network.supervised_outputs(torch.rand(1, 3, 5, 6), 2)) == count + 1


@pytest.mark.parametrize("name", ["SRCNN", "DRCN", "DRRN", "MemNet", "MDSR"])
def test_one_network_serves_several_scales(name):
    kind, arguments, scales = SMALL[name]
    network = kind(scale=list(scales), **arguments).eval()
    with torch.no_grad():
        for scale in scales:
            assert network.upscale(torch.rand(1, 3, 4, 5), scale).shape[2:] == (
                4 * scale,
                5 * scale,
            )


@pytest.mark.parametrize("name", ["EDSR", "MDSR", "FSRCNN", "RDN"])
def test_another_scale_is_refused(name):
    with pytest.raises(ValueError, match="by 2, not by 3"):
        small(name, 2).upscale(torch.rand(1, 3, 4, 4), 3)


@pytest.mark.parametrize("kind", [DBPN, DBDN, SRDenseNet])
def test_impossible_scales_are_refused(kind):
    with pytest.raises(ValueError, match="not 5"):
        kind(scale=5)


@pytest.mark.parametrize("name", [name for name in SMALL if name != "Bicubic"])
def test_a_step_in_bf16_is_finite_and_reaches_every_parameter(name):
    scale = SMALL[name][2][-1]
    supervised = name in ("DRCN", "MemNet", "LCSCNet")
    module = SRModule(small(name, scale).train(), supervise="all" if supervised else "last")
    with torch.autocast("cpu", torch.bfloat16):
        loss = module.losses(batch_of(scale))["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    for key, parameter in module.network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


# ---- receptive fields ---------------------------------------------------------------------------


def reached(network, scale):
    """Rows of LR pixels, from the middle one, that its cell of output depends on."""
    network = network.double()
    for key, parameter in network.named_parameters():
        # Positive everywhere, so that no ReLU and no cancellation hides a path; small where a
        # sigmoid would saturate.
        parameter.data = parameter.data.abs() * (1e-9 if key.startswith("gates") else 1) + 1e-6
    side = network.receptive_field + 6
    channels = 3 if network.colour == "rgb" else 1
    image = torch.rand(1, channels, side, side, dtype=torch.float64, requires_grad=True)
    middle = side // 2
    if network.colour == "rgb":
        output = network.upscale(image, scale)
    else:
        output = network.predict(image, scale)[-1]
    cell = slice(middle * scale, (middle + 1) * scale)
    output[..., cell, cell].sum().backward()
    rows = image.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten() - middle
    columns = image.grad.abs().sum(dim=(0, 1, 2)).nonzero().flatten() - middle
    assert rows.tolist() == columns.tolist()
    return int(rows.min()), int(rows.max())


@pytest.mark.parametrize(("name", "scale"), [at for at in AT if at[0] not in WHOLE_IMAGE])
def test_receptive_field_is_true(name, scale):
    network = small(name, scale)
    low, high = reached(network, scale)
    assert max(-low, high) == network.receptive_field // 2


@pytest.mark.parametrize("name", WHOLE_IMAGE)
def test_what_depends_on_the_whole_image_says_so(name):
    assert small(name, 2).receptive_field is None


@pytest.mark.parametrize(("name", "margin"), [("SAFMN", 16 * 2 + 8), ("SwinIR", 8 * 4 + 8)])
def test_tiles_of_eights_are_exact_where_the_image_has_such_sides(name, margin):
    network = small(name, 2).double()
    lr = torch.rand(1, 3, 96, 112, dtype=torch.float64)
    with torch.no_grad():
        whole = network(lr)
        exact, close = (Upscaler(network, tile=16, margin=m)(lr, 2) for m in (margin, 0))
    torch.testing.assert_close(exact, whole, rtol=0, atol=1e-12)
    assert not torch.allclose(close, whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_exported_pooling_is_pytorchs(factor, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    for height, width in ((1, 40), (7, 8), (13, 22), (15, 31), (37, 29)):
        x = torch.randn(2, 3, height, width)
        cells = [max(1, side // factor) for side in (height, width)]
        assert torch.equal(adaptive_maxima(x, factor), F.adaptive_max_pool2d(x, cells))


# ---- fast layers --------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("name", "scale"),
    [
        *(("FSRCNN", scale) for scale in (2, 3, 4)),
        ("ESPCN", 3),
        ("EDSR", 4),
        ("AWSRN", 3),
        *(("LCSCNet", scale) for scale in (2, 3, 4)),
        ("SRDenseNet", 4),
        ("SPAN", 3),
    ],
)
def test_fast_layers_compute_what_the_paper_writes(name, scale, layout):
    network = small(name, scale).double().to(memory_format=layout)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.rand_like(parameter)
    image = torch.rand(2, 3 if network.colour == "rgb" else 1, 6, 5, dtype=torch.float64)
    image = image.to(memory_format=layout)

    def output():
        if network.colour == "rgb":
            return network.upscale(image, scale)
        return torch.stack(network.predict(image, scale))

    fast = output()
    fast_gradients = torch.autograd.grad(fast.square().mean(), list(network.parameters()))
    with reference():
        slow = output()
        slow_gradients = torch.autograd.grad(slow.square().mean(), list(network.parameters()))
    tolerance = (
        {"rtol": 1e-5, "atol": 1e-6} if network.colour == "rgb" else {"rtol": 1e-9, "atol": 1e-9}
    )
    torch.testing.assert_close(fast, slow, **tolerance)
    for a, b in zip(fast_gradients, slow_gradients, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


@pytest.mark.parametrize("start", ["bilinear", "random"])
def test_spans_form_for_use_is_the_one_of_training(start):
    """The papers' parameters are those of the form for use; see COUNTS for those of training."""
    torch.manual_seed(0)
    network = SPAN(2, channels=8, blocks=2, start=start).double().eval()
    merged = network.merge()
    assert not any(isinstance(module, MergeableConv) for module in merged.modules())
    lr = torch.rand(2, 3, 9, 7, dtype=torch.float64)
    with torch.no_grad(), reference():
        torch.testing.assert_close(merged(lr), network(lr), rtol=1e-9, atol=1e-9)
    assert type(merged)(**merged.config).state_dict().keys() == merged.state_dict().keys()


def test_spans_published_parameters_are_those_of_the_form_for_use(figures):
    with torch.device("meta"):
        network = network_of_config(experiment_file(ROOT, "span_s_x4"))
    figure = figures.of("span_s_x4", 4, "parameters")
    assert figure.counting == "merged"
    assert figure.ours(network, complexity(network)) == 426_288
    assert figure.cell.value == 426e3


def test_spans_attention_is_an_odd_function_of_what_a_block_finds():
    block = small("SPAN", 2).blocks[0]
    x = torch.rand(1, 8, 5, 5)
    outputs = []
    for sign in (1, -1):
        for layer in (block.conv3.project, block.conv3.shortcut):
            layer.weight.data *= sign
            layer.bias.data *= sign
        outputs.append((block(x)[0], block.conv3(F.silu(block.conv2(F.silu(block.conv1(x)))))))
    (one, found), (other, opposite) = outputs
    torch.testing.assert_close(opposite, -found)
    attention = found.sigmoid() - 0.5
    torch.testing.assert_close(one + other, 2 * attention * found, rtol=1e-4, atol=1e-4)


def test_swinirs_shifted_windows_see_neither_across_the_ends_nor_out_of_their_window():
    layer = small("SwinIR", 2).groups[0].layers[1].double()
    mask = swinir_mask(torch.zeros(1, 1, 16, 24, dtype=torch.float64), 8)
    x = torch.rand(1, 16, 24, 12, dtype=torch.float64, requires_grad=True)
    for row, column, rows, columns in (
        (0, 0, range(4), range(4)),
        (5, 9, range(4, 12), range(4, 12)),
        (15, 13, range(12, 16), range(12, 20)),
        (6, 23, range(4, 12), range(20, 24)),
    ):
        (gradient,) = torch.autograd.grad(layer(x, mask)[0, row, column].sum(), x)
        seen = gradient.abs().sum(-1)[0] > 1e-12
        assert {tuple(place) for place in seen.nonzero().tolist()} == {
            (r, c) for r in rows for c in columns
        }


def test_swinirs_positions_are_relative():
    attention = small("SwinIR", 2).groups[0].layers[0].attention
    span, index = 15, attention.index
    for one, other in (((0, 0), (0, 0)), ((0, 0), (7, 7)), ((3, 5), (1, 6))):
        down, right = (a - b + 7 for a, b in zip(one, other, strict=True))
        place = index[8 * one[0] + one[1], 8 * other[0] + other[1]]
        assert int(place) == span * down + right
    assert len(index.unique()) == span**2


def test_memnets_split_gate_is_a_convolution_of_the_concatenation():
    block = small("MemNet", 2).blocks[1].double()
    memories = [torch.rand(2, 8, 5, 6, dtype=torch.float64) for _ in range(2)]
    seen = list(memories)
    for norm1, norm2 in zip(block.norms1, block.norms2, strict=True):
        seen.append(seen[-1] + block.conv2(norm2(block.conv1(norm1(seen[-1])))))
    normed = torch.cat([norm(x) for (norm, _), x in zip(block.gate, seen, strict=True)], dim=1)
    weight = torch.cat([conv.weight for _, conv in block.gate], dim=1)
    expected = F.conv2d(normed, weight, block.gate[0][1].bias)
    torch.testing.assert_close(block(memories), expected, rtol=0, atol=1e-12)
    assert sum(conv.bias is not None for _, conv in block.gate) == 1


@pytest.mark.parametrize("scale", [2, 3, 1.1, 1.5, 2.7, 4])
def test_meta_upscaler_filters_every_pixel_as_the_paper_says(scale):
    torch.manual_seed(0)
    upscale = MetaEDSR(scale=[scale], channels=4, blocks=1).upscaler.double()
    x = torch.rand(2, 4, 7, 5, dtype=torch.float64)
    height, width = upscaled_size((7, 5), scale)
    # Paper, equations 3 to 5: pixel (i, j) lies in LR pixel (floor(i / r), floor(j / r)).
    patches = F.unfold(x, 3, padding=1).reshape(2, -1, 7, 5)
    expected = torch.zeros(2, 3, height, width, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            y, x_ = (math.floor(round(pixel / scale, 9)) for pixel in (i, j))
            position = torch.tensor([1 / scale, i / scale - y, j / scale - x_])
            filters = upscale.predict(position.double()).reshape(-1, 3)
            expected[:, :, i, j] = patches[:, :, y, x_] @ filters
    torch.testing.assert_close(upscale(x, scale), expected, rtol=0, atol=1e-6)


def test_meta_network_upscales_by_any_scale():
    network = MetaEDSR(channels=4, blocks=1)
    assert len(network.scales) == 30
    for scale in (1.1, math.pi, 4.5):
        size = upscaled_size((9, 8), scale)
        assert network(torch.rand(1, 3, 9, 8), scale).shape == (1, 3, *size)


# ---- what the papers say ------------------------------------------------------------------------


def test_bicubic_is_a_network_and_a_weight_file(tmp_path):
    lr = torch.rand(1, 3, 6, 7)
    save_network(Bicubic(3), tmp_path / "bicubic.safetensors")
    network = load_network(tmp_path / "bicubic.safetensors")
    torch.testing.assert_close(network(lr), bicubic(lr, 3))
    torch.testing.assert_close(network.upscale(lr, 2.5), bicubic(lr, 2.5))
    assert parameter_count(network) == 0


def test_recursions_share_their_weights():
    assert parameter_count(DRCN(recursions=3)) - parameter_count(DRCN(recursions=2)) == 1
    deeper = parameter_count(DRRN(channels=8, units=3)) - parameter_count(DRRN(channels=8, units=2))
    assert deeper == 2 * 2 * 8, "norms alone"


def test_drcn_output_is_the_weighted_sum_of_its_recursions():
    network = small("DRCN", 2)
    network.weights.data = torch.tensor([0.5, 0.0, -0.25])
    *between, output = network.refine(torch.rand(1, 1, 8, 8))
    torch.testing.assert_close(output, 0.5 * between[0] - 0.25 * between[2])


@pytest.mark.parametrize("name", ["DRCN", "DRRN", "MemNet"])
def test_residual_networks_start_from_the_interpolated_image(name):
    network = small(name, 2)
    for key, parameter in network.named_parameters():
        if key.startswith(("last.1", "reconstruct.", "reconstruct2")):
            nn.init.zeros_(parameter)
    y = torch.rand(1, 1, 6, 6)
    torch.testing.assert_close(network.predict(y, 2)[-1], bicubic(y, 2))


def test_edsr_and_mdsr_scale_residuals_as_given():
    block = small("EDSR", 2).body[0]
    x = torch.rand(1, 8, 5, 5)
    residual = block.conv2(block.conv1(x).relu())
    torch.testing.assert_close(block(x), x + 0.5 * residual)


def test_srmdnf_tells_blurs_apart_and_takes_them_per_pixel():
    network, lr = small("SRMDNF", 2), torch.rand(2, 3, 5, 6)
    code = torch.rand(2, 15)
    same = code[:, :, None, None].expand(-1, -1, 5, 6)
    torch.testing.assert_close(network.deblur(lr, code), network.deblur(lr, same))
    assert not torch.allclose(network.deblur(lr, code), network(lr))


def test_awsrn_kernels_are_weight_normalised():
    convolution = small("AWSRN", 2).head
    x = torch.rand(1, 3, 5, 5)
    before = convolution(x)
    convolution.weight.data *= 7
    torch.testing.assert_close(convolution(x), before)


def test_supervised_module_shifts_its_loss_to_the_output(monkeypatch):
    network, batch = small("DRCN", 2), batch_of(2)
    module = SupervisedModule(network, alpha=1.0, final_alpha=0.0, loss="mse")
    target = rgb_to_y(batch["hr"])
    *between, last = (F.mse_loss(p, target) for p in network.supervised_outputs(batch["lr"], 2))
    monkeypatch.setattr(SupervisedModule, "trainer", SimpleNamespace(max_steps=8))
    for step, share in ((0, 1.0), (4, 0.5), (8, 0.0), (9, 0.0)):
        monkeypatch.setattr(SupervisedModule, "global_step", step)
        expected = share * torch.stack(between).mean() + (1 - share) * last
        torch.testing.assert_close(module.losses(batch)["loss"], expected)


def test_frequency_module_adds_the_error_of_the_transform():
    network, batch = small("SAFMN", 2), batch_of(2, side=8)
    losses = FrequencyModule(network, frequency_weight=0.05).losses(batch)
    sr = network(batch["lr"])
    spectra = [torch.fft.rfft2(image) for image in (sr, batch["hr"])]
    real, imaginary = (F.l1_loss(*(getattr(s, k) for s in spectra)) for k in ("real", "imag"))
    expected = F.l1_loss(sr, batch["hr"]) + 0.05 * (real + imaginary) / 2
    torch.testing.assert_close(losses["loss"], expected)
    assert set(losses) == {"loss", "pixel", "frequency"}


def test_supervised_module_needs_the_runs_length(monkeypatch):
    module = SupervisedModule(small("DRCN", 2), alpha=1.0, final_alpha=0.0)
    monkeypatch.setattr(SupervisedModule, "trainer", SimpleNamespace(max_steps=-1))
    with pytest.raises(UserError, match=r"trainer\.max_steps"):
        module.on_fit_start()


# ---- training -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("experiment", "options"),
    [
        ("drcn_x3", {"model__network__channels": 8, "model__network__recursions": 2}),
        ("drrn", {"model__network__channels": 8, "model__network__units": 2}),
        (
            "meta_edsr",
            {
                "model__network__channels": 8,
                "model__network__blocks": 1,
                "data__val_crop": 48,
            },
        ),
        ("safmn_x4", {"model__network__channels": 8, "model__network__blocks": 1}),
    ],
)
def test_experiments_train(experiment, options, tmp_path, train_folder, val_folder):
    from sr_lightning.cli import main

    main(tiny_fit(experiment, tmp_path, train_folder, val_folder, **options))
    assert list((only_run(tmp_path) / "checkpoints").glob("best_*.ckpt"))
