"""The evaluation against MATLAB itself: files it made, a log it wrote, rows that papers print."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from sr_lightning.data.evaluation import find_low
from sr_lightning.data.images import find_images, read_picture, read_rgb, to_tensor
from sr_lightning.data.resize import imresize
from sr_lightning.inference.evaluate import Evaluator, evaluate_set, means
from sr_lightning.metrics.protocol import PROTOCOLS

pytestmark = pytest.mark.oracle

LR_FOLDERS = [
    ("replicate", "Set5"),
    ("replicate", "Set14"),
    ("symmetric", "Set5"),
]


@pytest.mark.parametrize(("boundary", "name"), LR_FOLDERS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_matlab_lr_files_are_reproduced_byte_for_byte(sr_data, boundary, name, scale):
    folder = sr_data / "oracle" / f"matlab_lr_{boundary}" / name / f"x{scale}"
    images = find_images(sr_data / "benchmarks" / name / "HR")
    assert len(images) == {"Set5": 5, "Set14": 14}[name]
    for path in images:
        hr = torch.from_numpy(read_rgb(path)).permute(2, 0, 1)
        height, width = (extent // scale * scale for extent in hr.shape[1:])
        made = imresize(hr[:, :height, :width], 1 / scale, boundary=boundary)
        matlab = read_rgb(find_low(folder, path.stem, scale)).transpose(2, 0, 1)
        assert int((made.numpy() != matlab).sum()) == 0, path.name


def _matlab_log(sr_data: Path) -> dict[tuple[int, str], tuple[float, float]]:
    """Per-image PSNR and SSIM as MATLAB logged them for RCAN on Set5."""
    text = (sr_data / "oracle" / "matlab_metrics" / "psnr_ssim.txt").read_text()
    text = text.partition("RCANplus")[0]
    found = re.findall(r"x([234]) \d (\w+?)_RCAN_x\d\.png: PSNR= ([\d.]+) SSIM= ([\d.]+)", text)
    return {(int(s), name): (float(p), float(q)) for s, name, p, q in found}


def test_matlab_psnr_and_ssim_are_reproduced(sr_data):
    protocol = PROTOCOLS["edsr2017"]
    log = _matlab_log(sr_data)
    assert len(log) == 15
    for (scale, name), expected in log.items():
        folder = sr_data / "oracle" / "matlab_metrics"
        sr, hr = (
            to_tensor(read_rgb(folder / kind / f"x{scale}" / f"{name}.png"))[None]
            for kind in ("SR", "HR")
        )
        numbers = protocol.measure(sr, hr, scale)
        assert numbers["psnr"] == pytest.approx(expected[0], abs=1e-5)
        assert numbers["ssim"] == pytest.approx(expected[1], abs=1e-5)


PUBLISHED_BICUBIC = {
    ("Set5", 2): (33.66, 0.9299),
    ("Set5", 3): (30.39, 0.8682),
    ("Set5", 4): (28.42, 0.8104),
    ("Set14", 2): (30.24, 0.8688),
    ("Set14", 3): (27.55, 0.7742),
    ("Set14", 4): (26.00, 0.7027),
    ("B100", 2): (29.56, 0.8431),
    ("B100", 3): (27.21, 0.7385),
    ("B100", 4): (25.96, 0.6675),
}
"""The bicubic rows that papers copy from each other, made by the SRCNN-era scripts."""


def _bicubic_row(sr_data: Path, name: str, scale: int, protocol_name: str) -> tuple[float, float]:
    rows = evaluate_set(Evaluator(None, [PROTOCOLS[protocol_name]]), name, scale, sr_data)
    (mean,) = means(rows).values()
    return mean["psnr"], mean["ssim"]


@pytest.mark.parametrize(("name", "scale"), list(PUBLISHED_BICUBIC))
def test_published_bicubic_rows_are_reproduced_under_vdsr2016(sr_data, name, scale):
    measured = _bicubic_row(sr_data, name, scale, "vdsr2016")
    published = PUBLISHED_BICUBIC[name, scale]
    if name == "Set5":
        assert (round(measured[0], 2), round(measured[1], 4)) == published
    assert measured[0] == pytest.approx(published[0], abs=0.013)
    assert round(measured[1], 4) == pytest.approx(published[1], abs=0.0008 + 1e-9)


@pytest.mark.parametrize(
    ("scale", "expected"), [(2, (33.674, 0.9303)), (3, (30.405, 0.8689)), (4, (28.430, 0.8111))]
)
def test_bicubic_of_the_classic_lr_files_under_edsr2017(sr_data, scale, expected):
    """LR files, then MATLAB's upscaling to uint8 (rounded between passes), as RCAN's rows."""
    protocol = PROTOCOLS["edsr2017"]
    folder = sr_data / "oracle" / "matlab_lr_replicate" / "Set5" / f"x{scale}"
    values = []
    for path in find_images(sr_data / "benchmarks" / "Set5" / "HR"):
        hr = torch.from_numpy(read_rgb(path)).permute(2, 0, 1)
        hr = hr[:, : hr.shape[1] // scale * scale, : hr.shape[2] // scale * scale]
        lr = read_rgb(find_low(folder, path.stem, scale)).transpose(2, 0, 1)
        up = imresize(torch.from_numpy(np.ascontiguousarray(lr)), scale)
        numbers = protocol.measure(up.float() / 255, hr.float() / 255, scale)
        values.append((numbers["psnr"], numbers["ssim"]))
    mean = np.mean(values, axis=0)
    assert (round(mean[0], 3), round(mean[1], 4)) == expected


def test_only_bridge_is_a_grey_file_and_direct_grey_costs_a_tenth_of_a_decibel(sr_data):
    grey = [
        path.stem
        for path in find_images(sr_data / "benchmarks" / "Set14" / "HR")
        if read_picture(path).grey
    ]
    assert grey == ["bridge"]
    direct = _bicubic_row(sr_data, "Set14", 2, "edsr2017")[0]
    # 1.3219 dB of one image in 14: what sending grey levels through RGB -> Y would add.
    assert direct + 20 * np.log10(255 / 219) / 14 == pytest.approx(30.33, abs=0.01)
