"""MATLAB's imresize: facts that need no MATLAB. Byte tests on real files: test_oracle_matlab.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sr_lightning.cubic import cubic, upscaled_size
from sr_lightning.data.degradation import bicubic_up, degrade, downscale
from sr_lightning.data.resize import imresize, lr_size, resize_matrix
from sr_lightning.nn.bicubic import bicubic


def planes(seed: int, height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(picture(seed, height, width)).permute(2, 0, 1).contiguous()


@given(
    n_in=st.integers(1, 60),
    scale=st.floats(0.1, 4.0),
    boundary=st.sampled_from(["replicate", "symmetric"]),
)
@settings(max_examples=60, deadline=None)
def test_weights_keep_constants(n_in, scale, boundary):
    n_out = max(1, int(np.ceil(n_in * scale)))
    rows = resize_matrix(n_in, n_out, scale, boundary).sum(dim=1)
    torch.testing.assert_close(rows, torch.ones_like(rows), rtol=0, atol=1e-12)


def test_kernel_is_keys_with_minus_one_half():
    x = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 2.5], dtype=torch.float64)
    assert cubic(x).tolist() == [1.0, 0.5625, 0.0, -0.0625, 0.0, 0.0]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_float_resize_equals_torch_antialiased_inside(scale):
    image = planes(3, 24 * scale, 20 * scale).double()
    ours = imresize(image, 1 / scale)
    theirs = F.interpolate(image[None], ours.shape[1:], mode="bicubic", antialias=True)[0]
    inner = (slice(None), slice(3, -3), slice(3, -3))
    torch.testing.assert_close(ours[inner], theirs[inner], rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("boundary", ["replicate", "symmetric"])
def test_float32_passes_over_bytes_equal_exact_integers(scale, boundary):
    """The fast path of x2, x3, x4 against integer arithmetic with its halves rounded up."""
    image = planes(4, 15 * scale, 17 * scale)
    work = image.numpy().astype(object)
    for axis in (1, 2):
        n_in = work.shape[axis]
        matrix = resize_matrix(n_in, n_in // scale, 1 / scale, boundary).numpy()
        unit = {2: 256, 3: 162, 4: 4096, 8: 65536}[scale]
        whole = np.rint(matrix * unit).astype(int).astype(object)
        assert np.allclose(whole.astype(float) / unit, matrix, atol=1e-12)
        summed = np.moveaxis(np.tensordot(whole, work, axes=([1], [axis])), 0, axis)
        work = np.clip((2 * summed + unit) // (2 * unit), 0, 255)
    assert np.array_equal(
        imresize(image, 1 / scale, boundary=boundary).numpy(), work.astype(np.uint8)
    )


def test_whole_scale_and_size_agree_when_they_divide():
    image = planes(5, 48, 36)
    assert torch.equal(imresize(image, 1 / 3), imresize(image, size=(16, 12)))


def test_scalar_scale_rounds_the_size_up_and_size_is_exact():
    image = planes(6, 17, 23)
    assert imresize(image, 0.5).shape == (3, 9, 12)
    assert imresize(image, size=(8, 11)).shape == (3, 8, 11)


def test_batches_equal_single_images():
    batch = torch.stack([planes(seed, 24, 24) for seed in range(3)])
    assert torch.equal(imresize(batch, 0.5)[1], imresize(batch[1], 0.5))


def test_mistakes_are_refused():
    image = planes(7, 8, 8)
    with pytest.raises(ValueError, match="either"):
        imresize(image)
    with pytest.raises(ValueError, match="either"):
        imresize(image, 0.5, size=(4, 4))
    with pytest.raises(ValueError, match="Cannot resize"):
        imresize(image, size=(0, 4))
    with pytest.raises(ValueError, match="uint8 or float"):
        imresize(image.int(), 0.5)


def test_float_resize_has_gradients():
    image = torch.rand(1, 12, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: imresize(x, 1 / 2), image)


@pytest.mark.parametrize("scale", [1, 1.1, 1.5, 2, 2.8, 3, 4, 8])
def test_network_bicubic_equals_imresize(scale):
    image = torch.rand(2, 3, 17, 23)
    torch.testing.assert_close(
        bicubic(image, scale), bicubic_up(image.double(), scale).float(), rtol=0, atol=2e-6
    )


def test_network_bicubic_stays_float32_under_autocast():
    image = torch.rand(1, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(bicubic(image, 2), bicubic(image.clone(), 2))
        assert bicubic(image, 2).dtype == torch.float32


def test_sizes_of_real_scales():
    assert lr_size((96, 97), 1.2) == (80, 80)
    assert upscaled_size((17, 23), 1.5) == (26, 35)  # 25.5 and 34.5: halves go up
    # Cropped for their LR size, images are downscaled to just that: 127 / 1.4 is 90.7, of 91.
    assert downscale(planes(8, 39, 127), 1.4).shape[1:] == (28, 91)


def test_ycbcr_recipe_keeps_unrounded_luminance():
    from sr_lightning.colour import rgb_to_y

    hr = planes(9, 24, 24).float().div(255)
    levels = rgb_to_y(hr.double()).mul(255).add(0.5).floor().div(255)
    lr = degrade(hr, 2, "ycbcr_float")
    torch.testing.assert_close(rgb_to_y(lr.double()), imresize(levels, 0.5), rtol=0, atol=1e-6)
