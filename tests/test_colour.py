"""MATLAB's YCbCr, and the trap of everybody else's."""

from __future__ import annotations

import torch
from kornia.color import rgb_to_y as kornia_y

from sr_lightning.colour import rgb_to_y, rgb_to_ycbcr, ycbcr_to_rgb


def test_black_white_and_primaries_are_matlabs():
    colours = torch.tensor([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]]).double()
    image = colours.T.reshape(1, 3, 1, 5)
    y = rgb_to_y(image).flatten() * 255
    expected = torch.tensor([16, 235, 81.481, 144.553, 40.966], dtype=torch.float64)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-9)


def test_transform_is_inverted_exactly():
    image = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(ycbcr_to_rgb(rgb_to_ycbcr(image)), image, rtol=0, atol=1e-12)
    torch.testing.assert_close(rgb_to_ycbcr(image)[:, :1], rgb_to_y(image), rtol=0, atol=1e-12)


def test_kornias_luminance_is_full_range():
    """If kornia changes its range, the documentation of the 1.32 dB trap must change too."""
    image = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(
        rgb_to_y(image), 16 / 255 + kornia_y(image) * 219 / 255, rtol=0, atol=5e-4
    )
