"""Losses and gradients of all modules, against numbers written down once and against formulas.

Two comparisons, for the last digit depends on the machine: oneDNN and PyTorch choose their kernels,
and with them the order of summation, by the CPU.

- What one training step of a whole network gives (loss, its parts, sum of |gradient|) stands in
  ``loss_numbers.json``, written down before the modules got one shape, and holds to 1e-5 (the
  gradient to 1e-4).
- Within one run the module's loss and gradients equal the formula of the paper, written out here
  over the network's predictions, to the last digit.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from sr_lightning.baselines.drcn import DRCN
from sr_lightning.baselines.edsr import EDSR
from sr_lightning.baselines.fsrcnn import FSRCNN
from sr_lightning.baselines.lapsrn import LapSRN, MSLapSRN
from sr_lightning.baselines.lcscnet import LCSCNet
from sr_lightning.baselines.memnet import MemNet
from sr_lightning.colour import rgb_to_y
from sr_lightning.data.degradation import downscale
from sr_lightning.data.sampling import LEVEL, draw_one
from sr_lightning.papers.asdn import ASDN, FSDN, EDSRConv
from sr_lightning.papers.asdn.lfr import resized
from sr_lightning.papers.asdn.module import ASDNModule
from sr_lightning.papers.cirn import CIRN
from sr_lightning.papers.cirn.module import CIRNModule
from sr_lightning.papers.cmsc import CMSC
from sr_lightning.papers.cmsc.module import CMSCModule
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.papers.hfdn.module import HFDNModule
from sr_lightning.papers.lesrcnn import LESRCNN
from sr_lightning.papers.lesrcnn.module import LESRCNNModule
from sr_lightning.training.losses import ssim_loss
from sr_lightning.training.module import SRModule
from sr_lightning.training.supervision import PyramidModule, SupervisedModule

NUMBERS = json.loads(Path(__file__).with_name("loss_numbers.json").read_text())

RANDOM = {"start": "random"}
HFDN_SIZE = {"channels": 16, "blocks": 2, "layers": 2, "growth": 8, "reduction": 4} | RANDOM
CMSC_SIZE = {"stages": 2, "modules": 2, "channels": 16, "width": 8} | RANDOM
CIRN_SIZE = {"groups": 3, "blocks": 2, "channels": 16, "gain": 0.5}
ASDN_SIZE = {"blocks": 2, "layers": 2, "channels": 8, "growth": 6, "stem": 8, "reduction": 4}
ASDN_SIZE |= RANDOM

# Module, its own arguments, network, its arguments, scale of the batch.
CASES: dict[str, tuple[type, dict[str, Any], type, dict[str, Any], float]] = {
    "HFDN": (HFDNModule, {}, HFDN, HFDN_SIZE, 4),
    "HFDN weights": (
        HFDNModule,
        {"ssim_weight": 0.2, "level_weights": [0.2, 0.3, 0.5]},
        HFDN,
        {**HFDN_SIZE, "scale": 2, "colour": "y"},
        2,
    ),
    "HFDN L1 alone": (HFDNModule, {"ssim_weight": 0.0}, HFDN, {**HFDN_SIZE, "levels": "sd"}, 4),
    "CMSC": (CMSCModule, {}, CMSC, {**CMSC_SIZE, "scale": [2, 3, 4]}, 3),
    "CMSC weights": (
        CMSCModule,
        {"supervision": [0.1, 0.2, 0.7]},
        CMSC,
        {**CMSC_SIZE, "scale": 2},
        2,
    ),
    "CIRN": (CIRNModule, {}, CIRN, {**CIRN_SIZE, "scale": 2} | RANDOM, 2),
    "LESRCNN": (LESRCNNModule, {}, LESRCNN, {"scale": [2, 3], "channels": 8, "pairs": 2}, 2),
    "LESRCNN L1": (LESRCNNModule, {"loss": "l1"}, LESRCNN, {"channels": 8, "pairs": 2}, 4),
    "ASDN level": (ASDNModule, {}, ASDN, ASDN_SIZE, 1.3),
    "ASDN neighbours": (ASDNModule, {"recipe": "neighbours"}, ASDN, ASDN_SIZE, 2),
    "EDSR-Conv": (ASDNModule, {}, EDSRConv, {"blocks": 1, "channels": 8} | RANDOM, 1.5),
    "FSDN": (SRModule, {}, FSDN, {**ASDN_SIZE, "scale": 4, "width": 8}, 4),
    "DRCN": (
        SupervisedModule,
        {"alpha": 1.0, "final_alpha": 0.0, "loss": "mse"},
        DRCN,
        {"scale": 2, "channels": 8, "recursions": 3} | RANDOM,
        2,
    ),
    "LCSCNet": (
        SupervisedModule,
        {"alpha": 0.043},
        LCSCNet,
        {"scale": 2, "channels": 8, "blocks": 3, "units": 2} | RANDOM,
        2,
    ),
    "MemNet": (
        SRModule,
        {"supervise": "all", "loss": "mse"},
        MemNet,
        {"scale": 2, "channels": 8, "blocks": 7, "recursions": 2} | RANDOM,
        2,
    ),
    "LapSRN": (PyramidModule, {"loss": "charbonnier"}, LapSRN, {"scale": 4} | RANDOM, 4),
    "MSLapSRN": (
        PyramidModule,
        {"loss": "charbonnier"},
        MSLapSRN,
        {"scale": [2, 4, 8], "recursions": 2} | RANDOM,
        8,
    ),
    "L1": (SRModule, {}, EDSR, {"scale": 3, "channels": 8, "blocks": 2} | RANDOM, 3),
    "MSE": (
        SRModule,
        {"loss": "mse"},
        FSRCNN,
        {"scale": 3, "channels": 8, "shrunk": 6, "depth": 2},
        3,
    ),
    "Charbonnier": (
        SRModule,
        {"loss": "charbonnier"},
        EDSR,
        {"scale": 2, "channels": 8, "blocks": 2} | RANDOM,
        2,
    ),
}
SEED, STEP, STEPS = 0, 2, 8


@pytest.fixture(autouse=True)
def _seed_of_the_run(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", str(SEED))


def module_of(name):
    """A module in the middle of a run, and a batch of its."""
    kind, options, network, arguments, scale = CASES[name]
    torch.manual_seed(0)
    module = kind(network(**arguments), **options)
    module._trainer = SimpleNamespace(max_steps=STEPS, global_step=STEP)
    random = torch.Generator().manual_seed(1)
    side = round(12 * scale)
    batch = {
        "lr": torch.rand(2, 3, 12, 12, generator=random),
        "hr": torch.rand(2, 3, side, side, generator=random),
        "scale": scale,
    }
    return module, batch


def charbonnier(prediction, target):
    return torch.sqrt((prediction - target).square() + 1e-3**2).mean()


def weighted(weights, errors):
    return sum(weight * error for weight, error in zip(weights, errors, strict=True))


def hfdn(ssim_weight, weights):
    def formula(network, batch):
        target = rgb_to_y(batch["hr"]) if network.colour == "y" else batch["hr"]
        errors = []
        for prediction in network.supervised_outputs(batch["lr"], batch["scale"]):
            structure = ssim_loss(prediction, target) if ssim_weight else 0.0
            errors.append(F.l1_loss(prediction, target) + ssim_weight * structure)
        return weighted(weights, errors)

    return formula


def on_luma(compose):
    """A formula over predictions of luminance and the luminance of the HR patches."""

    def formula(network, batch):
        predictions = network.supervised_outputs(batch["lr"], batch["scale"])
        return compose(predictions, rgb_to_y(batch["hr"]))

    return formula


def cmsc(weights):
    return on_luma(lambda ps, y: weighted(weights, [F.mse_loss(p, y) for p in ps]))


def share(at_step, error):
    def compose(predictions, y):
        *between, last = [error(prediction, y) for prediction in predictions]
        return at_step * torch.stack(between).mean() + (1 - at_step) * last

    return on_luma(compose)


def pyramid(predictions, y):
    total = 0.0
    for prediction in predictions:
        factor = y.shape[-1] // prediction.shape[-1]
        aim = y if factor == 1 else downscale(y, factor)
        total = total + charbonnier(prediction, aim) * aim[0].numel()
    return total


def of_last(error):
    return lambda network, batch: error(network.upscale(batch["lr"], batch["scale"]), batch["hr"])


def neighbours(network, batch):
    """The student project's: two levels' images, the target at the upper one's size."""
    lr = F.avg_pool2d(batch["hr"], 2)
    upper, weight = network.phase(2 - draw_one(SEED, LEVEL, STEP))
    side = lr.shape[-1]
    sizes = [int(side * network.scales[level] + 1e-6) for level in (upper, upper - 1)]
    above, below = (
        network.at_levels(lr, (size, size), [level])[0]
        for size, level in zip(sizes, (upper, upper - 1), strict=True)
    )
    size = (sizes[0], sizes[0])
    prediction = above + weight * (resized(below, size) - above)
    return F.l1_loss(prediction, resized(batch["hr"], size))


FORMULAS = {
    "HFDN": hfdn(0.1, [1 / 3] * 3),
    "HFDN weights": hfdn(0.2, [0.2, 0.3, 0.5]),
    "HFDN L1 alone": hfdn(0.0, [1 / 2] * 2),
    "CMSC": cmsc([1 / 3] * 3),
    "CMSC weights": cmsc([0.1, 0.2, 0.7]),
    "CIRN": of_last(F.l1_loss),
    "LESRCNN": of_last(F.mse_loss),
    "LESRCNN L1": of_last(F.l1_loss),
    "ASDN level": of_last(F.l1_loss),
    "ASDN neighbours": neighbours,
    "EDSR-Conv": of_last(F.l1_loss),
    "FSDN": of_last(F.l1_loss),
    "DRCN": share(1 - STEP / STEPS, F.mse_loss),
    "LCSCNet": share(0.043, F.l1_loss),
    "MemNet": on_luma(lambda ps, y: torch.stack([F.mse_loss(p, y) for p in ps]).mean()),
    "LapSRN": on_luma(pyramid),
    "MSLapSRN": on_luma(pyramid),
    "L1": of_last(F.l1_loss),
    "MSE": on_luma(lambda ps, y: F.mse_loss(ps[-1], y)),
    "Charbonnier": of_last(charbonnier),
}


def numbers_of(module, batch):
    """What a training step logs, and the sum of |gradient| over all parameters."""
    found = {}
    module.log_dict = found.update
    module.training_step(batch, 0).backward()
    gradients = [p.grad.double().abs().sum() for p in module.parameters() if p.grad is not None]
    numbers = {name.removeprefix("train/"): float(value) for name, value in found.items()}
    return numbers | {"gradient": float(torch.stack(gradients).sum()), "tensors": len(gradients)}


@pytest.mark.parametrize("name", CASES)
def test_a_training_step_gives_the_numbers_written_down(name):
    found, expected = numbers_of(*module_of(name)), dict(NUMBERS[name])
    # A prediction that crosses its target on another machine changes a sign of L1's gradient.
    assert found.pop("gradient") == pytest.approx(expected.pop("gradient"), rel=1e-4)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_are_the_formulas_to_the_last_digit(name):
    module, batch = module_of(name)
    parameters = [p for p in module.parameters() if p.requires_grad]
    found, expected = module.losses(batch)["loss"], FORMULAS[name](module.network, batch)
    assert torch.equal(found, expected)
    for a, b in zip(
        torch.autograd.grad(found, parameters, allow_unused=True),
        torch.autograd.grad(expected, parameters, allow_unused=True),
        strict=True,
    ):
        assert (a is None and b is None) or torch.equal(a, b)
