"""What every paper's network and experiment keeps: sizes, receptive fields, turns, a bf16 step."""

from __future__ import annotations

import re

import pytest
import torch
from conftest import ROOT

from sr_lightning.experiments import experiment_file, experiment_files
from sr_lightning.inference.upscaler import Upscaler
from sr_lightning.papers.asdn import FSDN
from sr_lightning.papers.cirn import CIRN
from sr_lightning.papers.cmsc import CMSC
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.papers.lesrcnn import LESRCNN
from sr_lightning.training.complexity import module_of_config

# Small enough for milliseconds, wide enough that no layer is dead by chance.
RANDOM = {"start": "random"}
HFDN_SIZE = {"channels": 16, "blocks": 2, "layers": 2, "growth": 8, "reduction": 4} | RANDOM
CMSC_SIZE = {"stages": 2, "modules": 2, "channels": 16, "width": 8} | RANDOM
CIRN_SIZE = {"groups": 3, "blocks": 1, "channels": 16, "gain": 0.5, "start": "random"}
LESRCNN_SIZE = {"channels": 8, "pairs": 3}
FSDN_SIZE = {"blocks": 2, "layers": 2, "channels": 8, "growth": 6, "stem": 8, "reduction": 4}
FSDN_SIZE |= {"width": 8} | RANDOM
NETWORKS = {
    "HFDN": (HFDN, HFDN_SIZE, (2, 3, 4)),
    "HFDN on Y": (HFDN, HFDN_SIZE | {"colour": "y"}, (2, 3, 4)),
    "HFDN without CA": (HFDN, HFDN_SIZE | {"channel_attention": False}, (2, 3, 4)),
    "HFDN without attention": (
        HFDN,
        HFDN_SIZE | {"channel_attention": False, "spatial_attention": False},
        (2, 3, 4),
    ),
    "CMSC": (CMSC, CMSC_SIZE, (2, 3, 4, [2, 3, 4])),
    "CMSC one kernel": (CMSC, CMSC_SIZE | {"kernels": (3, 3)}, (2, 3, 4, [2, 3, 4])),
    "CMSC one stage": (CMSC, CMSC_SIZE | {"stages": 1}, (2, 3, 4, [2, 3, 4])),
    "CMSC one module": (CMSC, CMSC_SIZE | {"modules": 1}, (2, 3, 4, [2, 3, 4])),
    "CIRN": (CIRN, CIRN_SIZE, (2, 3, 4, 8)),
    "CIRN without ISAB": (CIRN, CIRN_SIZE | {"isab": "none"}, (2, 3, 4, 8)),
    "FSDN": (FSDN, FSDN_SIZE, (2, 3, 4, 8)),
    "FSDN without CA": (FSDN, FSDN_SIZE | {"channel_attention": "none"}, (2, 3, 4, 8)),
    "FSDN compressed": (
        FSDN,
        FSDN_SIZE | {"channel_attention": "none", "compression": 3},
        (2, 3, 4, 8),
    ),
    **{
        f"LESRCNN {variant} {enhanced}": (
            LESRCNN,
            LESRCNN_SIZE | {"variant": variant, "enhanced": enhanced},
            (2, 3, 4, [2, 3, 4]),
        )
        for variant in ("sn", "hn", "ieeb", "ieeb_rb", "full")
        for enhanced in ("no", "intended", "as_run")
    },
}
AT = [(name, scale) for name, (_, _, scales) in NETWORKS.items() for scale in scales]


def small(name, scale):
    """A small network in evaluation mode, in float64 but for CMSC, which converts to float32."""
    kind, arguments, _ = NETWORKS[name]
    torch.manual_seed(0)
    network = kind(scale, **arguments).eval()
    return network if network.colour == "y" else network.double()


def image_for(network, *shape):
    return torch.rand(*shape, dtype=next(network.parameters()).dtype)


@pytest.mark.parametrize(("name", "scale"), AT, ids=str)
def test_odd_sizes_and_strips_are_upscaled_in_batches(name, scale):
    network = small(name, scale)
    for height, width in ((17, 23), (1, 12), (12, 1)):
        lr = image_for(network, 2, 3, height, width)
        for by in network.scales:
            with torch.no_grad():
                sr, alone = network.upscale(lr, by), network.upscale(lr[1:], by)
            assert sr.shape == (2, 3, by * height, by * width)
            torch.testing.assert_close(sr[1:], alone)


@pytest.mark.parametrize(("name", "scale"), AT, ids=str)
def test_receptive_field_is_true(name, scale):
    """Gradient of one LR cell of output reaches exactly as far as the property says."""
    network = small(name, scale)
    field, by = network.receptive_field, min(network.scales)
    if field is None:
        # Pooled over the whole image, which tiles would show.
        assert name in ("HFDN", "HFDN on Y", "CIRN", "FSDN")
        return
    side = field + 6
    lr = image_for(network, 1, 3, side, side).requires_grad_()
    middle = slice(side // 2 * by, (side // 2 + 1) * by)
    network.supervised_outputs(lr, by)[-1][..., middle, middle].sum().backward()
    rows = lr.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert (int(rows.min()), int(rows.max())) == (3, side - 4)


@pytest.mark.parametrize("name", ["CMSC", "CIRN", "LESRCNN full no", "FSDN", "HFDN"])
def test_self_ensemble_turns_with_the_image(name):
    network = small(name, 2)
    upscale = Upscaler(network, ensemble=True)
    lr = image_for(network, 1, 3, 6, 9)
    with torch.no_grad():
        turned = upscale(lr.flip(-1).transpose(-1, -2), 2)
        expected = upscale(lr, 2).flip(-1).transpose(-1, -2)
        torch.testing.assert_close(turned, expected, rtol=0, atol=1e-6)


# ASDN's levels, of which a batch has one.
LEVELS = {
    "asdn": 1.1,
    "asdn_fast": 1.9,
    "asdn_light": 2,
    "asdn_student_base": 2,
    "asdn_student_complex": 2,
    "vdsr_conv": 1.6,
    "edsr_conv": 1.5,
    "rdn_conv": 1.3,
}
PAPERS = sorted(
    path.stem
    for path in experiment_files(ROOT)
    if "  class_path: sr_lightning.papers." in path.read_text()
)


def test_every_paper_has_experiments():
    assert {re.match(r"[a-z]+", name)[0] for name in PAPERS} >= {
        *("hfdn", "cmsc", "cirn", "lesrcnn", "ulesrcnn", "asdn", "fsdn", "edsr")
    }
    assert set(LEVELS) <= set(PAPERS)


@pytest.mark.parametrize("experiment", PAPERS)
def test_experiment_trains_in_bf16_at_the_scale_of_its_name(experiment):
    module = module_of_config(experiment_file(ROOT, experiment))
    module.log_dict = lambda *_, **__: None
    by_name = re.search(r"_x(\d)", experiment)
    if experiment in LEVELS:
        scales = (LEVELS[experiment],)
        assert scales[0] in module.network.scales
    else:
        scales = (2, 3, 4) if by_name is None else (int(by_name[1]),)
        assert module.network.scales == scales
    for scale in scales:
        module.zero_grad()
        side = round(4 * scale)
        batch = {"lr": torch.rand(1, 3, 4, 4), "hr": torch.rand(1, 3, side, side), "scale": scale}
        with torch.autocast("cpu", torch.bfloat16):
            loss = module.training_step(batch, 0)
        loss.backward()
        assert torch.isfinite(loss)
        gradients = [p.grad for p in module.parameters()]
        assert all(g is not None and torch.isfinite(g).all() for g in gradients)
