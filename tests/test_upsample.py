"""Rearranged upscalings are the plain ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sr_lightning.nn.bicubic import bicubic
from sr_lightning.nn.layers import ConvShuffle, Deconvolution, SubPixelUpsample, reference


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("factor", [2, 3])
def test_conv_shuffle_is_convolution_and_pixel_shuffle(layout, factor):
    layer = ConvShuffle(6, 5, factor).double()
    x = torch.rand(2, 6, 5, 7, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    plain = F.pixel_shuffle(F.conv2d(x, layer.weight, layer.bias, padding=1), factor)
    got = layer(x)
    torch.testing.assert_close(got, plain, rtol=0, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(got.square().sum(), (x, layer.weight, layer.bias)),
        torch.autograd.grad(plain.square().sum(), (x, layer.weight, layer.bias)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_conv_shuffle_keeps_channels_last():
    x = torch.rand(2, 6, 5, 7).to(memory_format=torch.channels_last)
    assert ConvShuffle(6, 5, 2)(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kernel", [(4, 4, 0), (2, 2, 0), (4, 2, 1), (5, 3, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_deconvolution_is_torchs(kernel, bias):
    size, stride, padding = kernel
    layer = Deconvolution(6, 5, size, stride, padding, bias=bias).double()
    x = torch.rand(2, 6, 5, 7, dtype=torch.float64, requires_grad=True)
    plain = F.conv_transpose2d(x, layer.weight, layer.bias, stride, padding)
    got = layer(x)
    torch.testing.assert_close(got, plain, rtol=0, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(got.square().sum(), (x, layer.weight)),
        torch.autograd.grad(plain.square().sum(), (x, layer.weight)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("outputs", [1, 3, 16])
@pytest.mark.parametrize(
    ("kernel", "factor", "front"),
    [(9, 2, 4), (9, 3, 3), (9, 4, 3), (17, 2, 7), (3, 2, 0), (6, 2, 1)],
)
def test_deconvolution_cuts_what_it_is_told_however_it_is_computed(outputs, kernel, factor, front):
    layer = Deconvolution(4, outputs, kernel, factor, front).double()
    x = torch.rand(2, 4, 5, 6, dtype=torch.float64)
    whole = F.conv_transpose2d(x, layer.weight, layer.bias, factor)
    expected = whole[..., front : front + 5 * factor, front : front + 6 * factor]
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
    with reference():
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_upsampler_works_by_steps():
    for scale, steps in ((2, 1), (3, 1), (4, 2), (8, 3)):
        upsampler = SubPixelUpsample(4, scale, activation=True)
        assert upsampler(torch.rand(1, 4, 3, 5)).shape == (1, 4, 3 * scale, 5 * scale)
        assert sum(isinstance(m, nn.Conv2d) for m in upsampler) == steps
    with pytest.raises(ValueError, match="not 5"):
        SubPixelUpsample(4, 5)


@pytest.mark.parametrize("scale", [7, 2.3])
def test_images_that_were_upscaled_before_do_not_keep_a_training_from_gradients(scale):
    lr = torch.rand(1, 3, 9, 11)
    with torch.inference_mode():
        expected = bicubic(lr, scale)
    lr.requires_grad_()
    got = bicubic(lr, scale)
    got.sum().backward()
    torch.testing.assert_close(got.detach(), expected, rtol=0, atol=0)
    assert lr.grad.abs().sum() > 0
