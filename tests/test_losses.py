"""Losses and schedules are the functions that their names say."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from conftest import picture

from sr_lightning.data.images import to_tensor
from sr_lightning.metrics.quality import ssim
from sr_lightning.training.losses import PixelLoss, ssim_loss
from sr_lightning.training.schedules import Cosine, Milestones


def test_pixel_losses():
    a, b = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.1)
    assert float(PixelLoss("l1")(a, b)) == pytest.approx(0.1)
    assert float(PixelLoss("mse")(a, b)) == pytest.approx(0.01)
    # Not kornia's sqrt(x^2 + 1) - 1, which is 0.005 here.
    assert float(PixelLoss("charbonnier")(a, b)) == pytest.approx(0.1000, abs=1e-4)


@pytest.mark.parametrize("strength", [0.001, 0.05, 0.5])
def test_ssim_loss_is_one_minus_the_metric(strength):
    hr = to_tensor(picture(1, 32, 40))[None]
    sr = hr + strength * torch.randn(hr.shape, generator=torch.Generator().manual_seed(0))
    metric = ssim(sr.double() * 255, hr.double() * 255).mean()
    assert float(ssim_loss(sr, hr)) == pytest.approx(float(1 - metric), abs=2e-6)


def test_ssim_loss_is_sound_on_flat_and_small_images_and_in_bf16():
    flat = torch.full((1, 3, 8, 8), 0.5, requires_grad=True)
    loss = ssim_loss(flat, torch.full((1, 3, 8, 8), 0.5))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert torch.isfinite(flat.grad).all()
    with torch.autocast("cpu", torch.bfloat16):
        assert ssim_loss(flat.bfloat16(), flat).dtype == torch.float32


def test_ssim_loss_gradient_is_that_of_its_value():
    hr = torch.rand(1, 1, 13, 13, dtype=torch.float64)
    sr = (hr + 0.1 * torch.rand_like(hr)).requires_grad_()
    value = ssim_loss(sr.float(), hr.float())
    (gradient,) = torch.autograd.grad(value, sr)
    step = 1e-3 * gradient / gradient.norm()
    change = ssim_loss((sr + step).float(), hr.float()) - ssim_loss((sr - step).float(), hr.float())
    assert float(change) == pytest.approx(float(2e-3 * gradient.norm()), rel=0.02)


def rates(kind, steps, **kwargs):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = kind(optimizer, **kwargs)
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


def test_cosine_warms_up_and_falls_to_its_end():
    found = rates(Cosine, 110, total_steps=110, warmup=10, final=0.1)
    assert found[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert found[60] == pytest.approx(0.1 + 0.9 * 0.5)
    assert found[-1] == pytest.approx(0.1, abs=1e-3)
    assert all(a >= b for a, b in pairwise(found[10:]))


def test_milestones_are_fractions_of_the_run():
    found = rates(Milestones, 100, total_steps=100, at=(0.5, 0.75), gamma=0.5)
    assert (found[49], found[50], found[74], found[75]) == (1.0, 0.5, 0.5, 0.25)


def test_resumed_schedule_keeps_the_new_length():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    old, new = Cosine(optimizer, total_steps=100), Cosine(optimizer, total_steps=200)
    new.load_state_dict(old.state_dict())
    assert new.total_steps == 200
    assert new.after_warmup(0.5) == pytest.approx(math.cos(math.pi / 4) ** 2)
