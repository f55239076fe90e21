"""Protocols and metrics on made-up images, and the traps of other libraries."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import picture
from kornia.metrics import ssim as kornia_ssim
from torchmetrics.functional.image import structural_similarity_index_measure

from sr_lightning.colour import rgb_to_y
from sr_lightning.data.images import read_rgb, to_pixels, to_tensor, write_image
from sr_lightning.metrics.protocol import PROTOCOLS, get_protocol
from sr_lightning.metrics.quality import METRICS, Metric, numbers_text, psnr, ssim, stored
from sr_lightning.metrics.scores import ImageScores

EDSR = PROTOCOLS["edsr2017"]


def pair(seed: int = 0, size: tuple[int, int] = (40, 48)) -> tuple[torch.Tensor, torch.Tensor]:
    hr = to_tensor(picture(seed, *size))[None]
    noise = torch.randn(hr.shape, generator=torch.Generator().manual_seed(seed)) * 0.04
    return hr + noise, hr


def test_psnr_is_the_textbook_formula_per_image():
    a = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    b = torch.stack([torch.full((1, 4, 4), 5.0), torch.full((1, 4, 4), 10.0)]).double()
    expected = [20 * math.log10(255 / 5), 20 * math.log10(255 / 10)]
    assert psnr(a, b).tolist() == pytest.approx(expected, abs=1e-12)


def test_identical_images_have_infinite_psnr_and_ssim_one():
    _, hr = pair()
    a, b = EDSR.prepare(hr, hr, 2)
    assert math.isinf(float(psnr(a, b)))
    assert float(ssim(a, b)) == pytest.approx(1.0, abs=1e-12)


def test_ssim_equals_its_definition_written_out():
    """Wang et al. 2004 in numpy: 11 x 11 Gaussian of sigma 1.5, valid region, L = 255."""
    sr, hr = pair(1)
    a, b = EDSR.prepare(sr, hr, 2)
    x, y = a[0, 0].numpy(), b[0, 0].numpy()
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2

    def mean(image):
        views = np.lib.stride_tricks.sliding_window_view(image, (11, 11))
        return (views * window).sum(axis=(2, 3))

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (
        (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    ).mean()
    assert float(ssim(a, b)) == pytest.approx(expected, abs=1e-7)


def hard_pair(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that are hard for float32, (2, 3, 75, 102) in [0, 255]."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    white = torch.full((2, 3, 75, 102), 255.0, dtype=torch.float64)
    areas = noise(2, 3, 3, 4).mul(255).repeat_interleave(25, 2).repeat_interleave(27, 3)[..., :102]
    levels = torch.where(areas > 127, 200.0, 100.0).double()
    smooth = torch.nn.functional.interpolate(noise(2, 3, 6, 8), (75, 102), mode="bicubic") * 255
    grain = noise(2, 3, 75, 102) - 0.5
    return {
        "equal": (smooth, smooth.clone()),
        "white and nearly white": (white, white - 1),
        "black and white": (white * 0, white),
        "flat areas": (areas, (areas + 60 * (areas > 100)).clamp(0, 255)),
        "two levels exchanged": (levels, 300 - levels),
        "flat areas nearly 22 dB apart": (areas, areas + 19 * (areas > 100)),
        "flat areas and noise": (areas, areas + 20 * grain),
        "saturated": tuple((i * 5 - 512).clamp(0, 255) for i in (smooth, smooth + 40 * grain)),
        "tiny differences": (smooth, smooth + 1e-3 * grain),
        "noise": (noise(2, 3, 75, 102) * 255, noise(2, 3, 75, 102) * 255),
        "negative": (smooth, 255 - smooth),
        "beyond the range": (smooth * 1.2 - 30, smooth * 1.2 - 28),
    }[name]


HARD = [
    "equal",
    "white and nearly white",
    "black and white",
    "flat areas",
    "two levels exchanged",
    "flat areas nearly 22 dB apart",
    "flat areas and noise",
    "saturated",
    "tiny differences",
    "noise",
    "negative",
    "beyond the range",
]


@pytest.mark.parametrize("name", HARD)
def test_ssim_is_that_of_float64_with_whole_windows_on_hard_images(name):
    a, b = hard_pair(name)
    for height, width in ((75, 102), (16, 16), (11, 11), (43, 75)):
        x, y = (image[..., :height, :width] for image in (a, b))
        for window in (11, 7):
            expected = kornia_ssim(x, y, window, max_val=255.0, eps=0.0, padding="valid")
            expected = expected.mean(dim=(1, 2, 3))
            assert ssim(x, y, window).tolist() == pytest.approx(expected.tolist(), abs=1e-6)
        padded = (torch.nn.functional.pad(image, [5] * 4, mode="replicate") for image in (x, y))
        expected = kornia_ssim(*padded, 11, max_val=255.0, eps=0.0, padding="valid")
        repeated = ssim(x, y, border="replicate").tolist()
        assert repeated == pytest.approx(expected.mean(dim=(1, 2, 3)).tolist(), abs=1e-6)


def test_ssim_is_not_rounded_by_autocast_or_a_global_precision():
    a, b = (image.float() for image in hard_pair("flat areas and noise"))
    expected = ssim(a, b)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(ssim(a, b), expected)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("border", ["valid", "replicate"])
def test_images_smaller_than_the_window_have_psnr_but_no_ssim(border):
    a, b = hard_pair("noise")
    for height, width in ((10, 40), (40, 10), (1, 1)):
        x, y = (image[..., :height, :width] for image in (a, b))
        assert ssim(x, y, border=border).isnan().tolist() == [True, True]
        assert psnr(x, y).isfinite().all()
    assert ssim(a[..., :11, :11], b[..., :11, :11], border=border).isfinite().all()


def test_neither_metric_needs_kornia_or_torchmetrics():
    code = "import sys, sr_lightning.metrics.quality; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"kornia", "torchmetrics", "lightning"} & set(done.stdout.split())


def test_metric_of_the_saved_file_is_metric_of_the_tensor(tmp_path):
    sr, hr = pair(2)
    write_image(tmp_path / "sr.png", to_pixels(sr[0]))
    from_file = to_tensor(read_rgb(tmp_path / "sr.png"))[None]
    for name in ("edsr2017", "rgb"):
        protocol = PROTOCOLS[name]
        expected = [f(*protocol.prepare(sr, hr, 4)) for f in (psnr, ssim)]
        measured = [f(*protocol.prepare(from_file, hr, 4)) for f in (psnr, ssim)]
        assert measured == expected


def test_as_many_pixels_as_the_scale_are_cropped_at_each_side():
    sr, hr = pair(3)
    a, _ = EDSR.prepare(sr, hr, 3)
    assert a.shape == (1, 1, 40 - 6, 48 - 6)
    spoiled = sr.clone()
    spoiled[..., :3, :] = 0
    spoiled[..., :, -3:] = 1
    assert torch.equal(EDSR.prepare(spoiled, hr, 3)[0], a)


def test_protocols_quantise_as_named():
    hr = torch.full((1, 3, 12, 12), 100 / 255)
    sr = torch.full((1, 3, 12, 12), 100.6 / 255)
    y = {name: PROTOCOLS[name].prepare(sr, hr, 2)[0].unique() for name in PROTOCOLS}
    exact = float(rgb_to_y(torch.full((1, 3, 1, 1), 101 / 255, dtype=torch.float64)) * 255)
    assert y["edsr2017"].item() == pytest.approx(exact, abs=1e-9)
    assert y["lesrcnn2020"].item() == round(16 + 100 * 219 / 255)
    assert y["vdsr2016"].item() == round(16 + 100.6 * 219 / 255)
    assert y["rgb"].item() == 101


def test_truncation_keeps_whole_levels():
    levels = torch.arange(256).float().reshape(1, 1, 16, 16).expand(1, 3, 16, 16) / 255
    a, b = PROTOCOLS["lesrcnn2020"].prepare(levels, levels, 1)
    assert torch.equal(a, b)


def test_grey_files_are_measured_on_their_levels():
    sr, hr = (image[:, :1].expand(-1, 3, -1, -1) for image in pair(4))
    direct = psnr(*EDSR.prepare(sr, hr, 2, grey=True))
    matrix = psnr(*EDSR.prepare(sr, hr, 2, grey=False))
    assert float(matrix - direct) == pytest.approx(20 * math.log10(255 / 219), abs=1e-9)


def test_mismatched_or_tiny_images_are_refused():
    sr, hr = pair(5)
    with pytest.raises(ValueError, match="SR is"):
        EDSR.prepare(sr[..., :-1], hr, 2)
    with pytest.raises(ValueError, match="Nothing is left"):
        EDSR.prepare(sr[..., :6, :6], hr[..., :6, :6], 4)


def test_unknown_protocol_is_refused_with_the_known_ones():
    with pytest.raises(KeyError, match=r"edsr2017, vdsr2016"):
        get_protocol("edsr2071")


def test_measure_gives_what_the_metrics_give_of_the_prepared_images():
    sr, hr = pair(7)
    for protocol in PROTOCOLS.values():
        a, b = protocol.prepare(sr, hr, 2)
        expected = {
            "psnr": float(psnr(a, b)),
            "ssim": float(ssim(a, b, border=protocol.ssim_border)),
        }
        assert protocol.measure(sr, hr, 2) == expected
        assert protocol.measure(sr[0], hr[0], 2, metrics=["ssim"]) == {"ssim": expected["ssim"]}


def test_undefined_numbers_are_valid_json_and_dashes():
    sr, hr = pair(8, (14, 14))
    numbers = EDSR.measure(hr, hr, 2)
    assert math.isinf(numbers["psnr"])
    assert math.isnan(EDSR.measure(sr, hr, 2)["ssim"])
    assert json.loads(json.dumps(stored(numbers), allow_nan=False)) == {"psnr": None, "ssim": None}
    assert numbers_text(numbers) == "inf dB / -"


def test_a_further_metric_is_one_entry(monkeypatch):
    """Nothing else needs to know it: modules measure and log what they are told to by name."""
    error = Metric("mae", "MAE", "levels", 2, 4, lambda a, b, _: (a - b).abs().mean(), False)
    monkeypatch.setitem(METRICS, "mae", error)
    sr, hr = pair(9)
    a, b = EDSR.prepare(sr, hr, 2)
    assert EDSR.measure(sr, hr, 2, metrics=["mae"]) == {"mae": float((a - b).abs().mean())}
    assert numbers_text({"mae": 1.5, "psnr": 30.0}) == "30.00 dB / 1.50 levels"


def test_several_images_at_once_are_refused():
    sr, hr = pair(5)
    with pytest.raises(ValueError, match="one by one"):
        EDSR.measure(sr.expand(2, -1, -1, -1), hr.expand(2, -1, -1, -1), 2)


def test_mean_is_over_images_not_over_pixels():
    scores = ImageScores(["psnr", "ssim"])
    numbers = []
    for seed, size in ((0, (40, 48)), (1, (60, 20))):
        sr, hr = pair(seed, size)
        numbers.append(EDSR.measure(sr * (1 + seed), hr, 2))
        scores.update(numbers[-1], seed)
    mean = sum(one["psnr"] for one in numbers) / 2
    assert float(scores.compute()["psnr"]) == pytest.approx(mean, abs=1e-4)
    assert scores.rows()[1] == pytest.approx(numbers[1], abs=1e-4)


def test_images_that_were_repeated_for_even_shares_count_once():
    repeated, once = ImageScores(["ssim"]), ImageScores(["ssim"])
    for seed in (0, 1, 2, 0):
        repeated.update(EDSR.measure(*pair(seed), 2), seed)
    for seed in (0, 1, 2):
        once.update(EDSR.measure(*pair(seed), 2), seed)
    assert repeated.compute() == once.compute()


def test_torchmetrics_ssim_is_still_another_number():
    """If this fails, torchmetrics changed and the documentation of the trap must change too."""
    sr, hr = pair(6)
    a, b = EDSR.prepare(sr, hr, 2)
    theirs = structural_similarity_index_measure(a, b, data_range=255.0)
    assert abs(float(theirs) - float(ssim(a, b))) > 1e-4
