"""The README's table 'Why does my PSNR differ?': each size of error, measured on real images."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

from sr_lightning.data.degradation import bicubic_up, downscale
from sr_lightning.data.images import find_images, read_rgb, to_tensor
from sr_lightning.metrics.protocol import PROTOCOLS, Protocol
from sr_lightning.metrics.quality import psnr, ssim

pytestmark = pytest.mark.oracle

EDSR = PROTOCOLS["edsr2017"]
SCALES = (2, 3, 4)


@pytest.fixture(scope="module")
def rcan(sr_data) -> dict[int, list[tuple[torch.Tensor, torch.Tensor]]]:
    """SR and HR images of RCAN on Set5 by scale."""
    folder = sr_data / "oracle" / "matlab_metrics"
    return {
        scale: [
            tuple(
                to_tensor(read_rgb(folder / kind / f"x{scale}" / path.name))[None]
                for kind in ("SR", "HR")
            )
            for path in find_images(folder / "HR" / f"x{scale}")
        ]
        for scale in SCALES
    }


def _mean(values) -> float:
    values = [float(v) for v in values]
    return sum(values) / len(values)


def _reference(rcan) -> dict[int, float]:
    return {s: _mean(psnr(*EDSR.prepare(*pair, s)) for pair in rcan[s]) for s in SCALES}


def _under(protocol: Protocol, rcan) -> dict[int, float]:
    return {s: _mean(psnr(*protocol.prepare(*pair, s)) for pair in rcan[s]) for s in SCALES}


def _gaps(other, reference) -> list[float]:
    return [round(other[s] - reference[s], 2) for s in SCALES]


def test_measuring_rgb_instead_of_luminance(rcan):
    gaps = _gaps(_under(PROTOCOLS["rgb"], rcan), _reference(rcan))
    assert gaps == [-2.2, -2.01, -1.93]


def test_full_range_luminance(rcan):
    kornia_y = pytest.importorskip("kornia.color").rgb_to_y
    for scale in SCALES:
        for sr, hr in rcan[scale]:
            a, b = (
                kornia_y(image.double())[..., scale:-scale, scale:-scale] * 255
                for image in (sr, hr)
            )
            gap = float(psnr(a, b) - psnr(*EDSR.prepare(sr, hr, scale)))
            assert gap == pytest.approx(-1.322, abs=0.002)


def test_rounding_luminance(rcan):
    rounded = Protocol(name="x", summary="", quantise_y="round")
    assert _gaps(_under(rounded, rcan), _reference(rcan)) == [-0.09, -0.04, -0.02]


def test_no_border_cropped(rcan):
    whole = Protocol(name="x", summary="", crop_border=None)
    assert _gaps(_under(whole, rcan), _reference(rcan)) == [-0.03, -0.07, -0.1]


def test_pooling_the_error_over_images(rcan):
    pooled = {}
    for scale in SCALES:
        pairs = [EDSR.prepare(*pair, scale) for pair in rcan[scale]]
        error = sum(float((a - b).square().sum()) for a, b in pairs)
        error /= sum(a.numel() for a, _ in pairs)
        pooled[scale] = float(10 * torch.log10(torch.tensor(255.0**2 / error)))
    assert _gaps(pooled, _reference(rcan)) == [-0.24, -0.01, 0.08]


def test_torchmetrics_ssim(rcan):
    gaps = []
    for scale in SCALES:
        for sr, hr in rcan[scale]:
            a, b = EDSR.prepare(sr, hr, scale)
            theirs = structural_similarity_index_measure(a, b, data_range=255.0)
            gaps.append(abs(float(theirs) - float(ssim(a, b))))
    assert 0.004 < max(gaps) < 0.007


def _bicubic_set5(sr_data, scale, down, up) -> float:
    values = []
    for path in find_images(sr_data / "benchmarks" / "Set5" / "HR"):
        hr = to_tensor(read_rgb(path))[None]
        hr = hr[..., : hr.shape[2] // scale * scale, : hr.shape[3] // scale * scale]
        lr = (down(hr, scale) * 255).round().clamp(0, 255) / 255
        values.append(psnr(*EDSR.prepare(up(lr, scale), hr, scale)))
    return _mean(values)


def test_lr_images_without_antialiasing(sr_data):
    """What torch's default and OpenCV's INTER_CUBIC do: another task."""

    def plain(hr, scale):
        return F.interpolate(hr, scale_factor=1 / scale, mode="bicubic")

    gaps = [
        round(
            _bicubic_set5(sr_data, s, plain, bicubic_up)
            - _bicubic_set5(sr_data, s, downscale, bicubic_up),
            2,
        )
        for s in SCALES
    ]
    assert gaps == [0.76, -0.66, -0.63]


def test_upscaling_with_another_cubic_kernel(sr_data):
    """torch's default a = -0.75 as the bicubic baseline."""

    def up(lr, scale):
        return F.interpolate(lr, scale_factor=scale, mode="bicubic")

    gaps = [
        round(
            _bicubic_set5(sr_data, s, downscale, up)
            - _bicubic_set5(sr_data, s, downscale, bicubic_up),
            2,
        )
        for s in SCALES
    ]
    assert gaps == [0.29, 0.23, 0.2]
