"""MS-SSIM and VIF by their definitions, metrics of networks, and studies of any metric."""

from __future__ import annotations

import csv
import json
import math
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SMALL_HFDN, only_run, picture, tiny_fit
from scipy.ndimage import correlate
from test_studies import STUDY, entry, study_of

from sr_lightning.cli import main
from sr_lightning.data.images import to_tensor
from sr_lightning.errors import UserError
from sr_lightning.metrics import further
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.studies.verdicts import judge

EDSR, RGB = PROTOCOLS["edsr2017"], PROTOCOLS["rgb"]


def pair(size, sigma=0.05):
    hr = to_tensor(picture(3, *size))[None]
    noise = torch.randn(hr.shape, generator=torch.Generator().manual_seed(3)) * sigma
    return hr + noise, hr


def by_the_authors_script(x, y):
    """``msssim.m`` of Wang et al., line by line, with scipy in the place of MATLAB's filters."""
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2

    def mean(image):
        views = np.lib.stride_tricks.sliding_window_view(image, (11, 11))
        return (views * window).sum(axis=(2, 3))

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = 1.0
    weights = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]
    for level, weight in enumerate(weights):
        mx, my = mean(x), mean(y)
        vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
        structure = (2 * cov + c2) / (vx + vy + c2)
        if level == len(weights) - 1:
            structure = structure * (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        found *= structure.mean() ** weight
        # imfilter(img, ones(2) / 4, 'symmetric') looks down and to the right, then 1:2:end.
        x, y = (
            correlate(image, np.full((2, 2), 0.25), mode="reflect", origin=-1)[::2, ::2]
            for image in (x, y)
        )
    return found


@pytest.mark.parametrize("size", [(196, 212), (193, 207)])
def test_ms_ssim_is_that_of_the_authors_script(size):
    a, b = EDSR.prepare(*pair(size), 2)
    expected = by_the_authors_script(a[0, 0].numpy(), b[0, 0].numpy())
    assert 0.5 < expected < 0.999
    assert float(further.ms_ssim(a, b)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", ["ms_ssim", "vif"])
def test_equal_images_have_one_and_worse_ones_less(metric):
    def of(sigma):
        return EDSR.measure(*pair((200, 200), sigma), 2, metrics=[metric])[metric]

    assert of(0.0) == pytest.approx(1, abs=1e-6)
    assert 0 < of(0.1) < of(0.05) < of(0.01) < 1


@pytest.mark.parametrize(("metric", "side"), [("ms_ssim", 176), ("vif", 41)])
def test_images_too_small_for_a_metric_have_none(metric, side):
    for size, defined in ((side, True), (side - 1, False)):
        value = EDSR.measure(*pair((size + 4, size + 4)), 2, metrics=[metric])[metric]
        assert math.isfinite(value) == defined


def fake_pyiqa(seen):
    def metric(*images):
        seen.append([(tuple(image.shape), image.dtype, float(image.max())) for image in images])
        return torch.tensor([[0.25]])

    metric.metric_mode = "FR"
    module = types.ModuleType("pyiqa")
    module.create_metric = lambda name, device: metric
    return module


def test_networks_see_rgb_from_0_to_1_and_have_no_number_of_luminance(monkeypatch):
    seen = []
    monkeypatch.setitem(sys.modules, "pyiqa", fake_pyiqa(seen))
    further._loaded.cache_clear()
    sr, hr = pair((40, 44))
    assert RGB.measure(sr, hr, 2, metrics=["lpips"]) == {"lpips": 0.25}
    ((shape, dtype, largest), _) = seen[0]
    assert (shape, dtype) == ((1, 3, 36, 40), torch.float32)
    assert largest <= 1
    assert math.isnan(EDSR.measure(sr, hr, 2, metrics=["lpips"])["lpips"])
    further._loaded.cache_clear()


def test_a_metric_whose_package_or_weights_are_missing_is_a_sentence(monkeypatch):
    further._loaded.cache_clear()
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(UserError, match=r"lpips needs pyiqa.*sr-lightning\[perceptual\]"):
        RGB.measure(*pair((40, 44)), 2, metrics=["lpips"])
    offline = fake_pyiqa([])

    def refuse(name, device):
        raise ConnectionError("no route")

    offline.create_metric = refuse
    monkeypatch.setitem(sys.modules, "pyiqa", offline)
    with pytest.raises(UserError, match="weights of dists cannot be fetched"):
        RGB.measure(*pair((40, 44)), 2, metrics=["dists"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lpips", "dists"])
def test_pyiqas_values_are_those_of_torchmetrics(name):
    pytest.importorskip("pyiqa", exc_type=ImportError)
    from torchmetrics.functional.image import dists, lpips

    further._loaded.cache_clear()
    sr, hr = (image.float().clamp(0, 1) for image in pair((96, 128)))
    try:
        found = further.of_network(name, 255 * sr, 255 * hr)
    except UserError as error:
        pytest.skip(str(error))
    if name == "lpips":
        theirs = lpips.learned_perceptual_image_patch_similarity(sr, hr, normalize=True)
    else:
        theirs = dists.deep_image_structure_and_texture_similarity(sr, hr)
    assert found.item() > 0.01
    assert found.item() == pytest.approx(float(theirs.detach()), rel=1e-4)


def test_a_test_measures_what_it_is_told_to(tmp_path, train_folder, val_folder, test_folder):
    args = tiny_fit("hfdn_x4", tmp_path, train_folder, val_folder, trainer__max_steps=2)
    main([*args, *SMALL_HFDN, "--data.test", f"[{test_folder}]", "--model.metrics", "[psnr, vif]"])
    run = only_run(tmp_path)
    main(["test", "--run", str(run)])
    rows = list(csv.DictReader((run / "results" / "images.csv").open()))
    assert all(0 < float(row["vif"]) < 1 for row in rows)
    means = json.loads((run / "results" / "summary.json").read_text())["means"]
    assert all(0 < mean["vif"] < 1 for mean in means)


def measured(metric, level, seed, value):
    made = entry(level, seed, 30.0)
    cell = {"psnr": 30.0, "ssim": 0.9, metric: value, "images": {"a": [30.0, 0.9, value]}}
    cells = {**made.metrics["edsr2017"]["Set5_x4"], "HFDN": cell}
    return replace(made, metrics={"edsr2017": {"Set5_x4": cells}})


@pytest.mark.parametrize(("metric", "better"), [("vif", 0.6), ("lpips", 0.2)])
def test_a_claim_is_judged_by_what_is_better_of_its_metric(tmp_path, metric, better):
    study = study_of(tmp_path, STUDY.replace("metric: psnr", f"metric: {metric}"))
    assert next(iter(study.cells("quick"))).options["model.metrics"] == ["psnr", "ssim", metric]
    entries = [
        measured(metric, level, seed, value + seed / 1000)
        for seed in range(3)
        for level, value in (("full", better), ("plain", 0.4 + seed / 500))
    ]
    (verdict,) = judge(study, entries)
    assert verdict.word == "same sign"
    assert verdict.own.mean == pytest.approx(0.2, abs=0.01)


def test_a_study_of_an_unknown_metric_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"line 7 .*known are psnr, ssim, ms_ssim, vif"):
        study_of(tmp_path, STUDY.replace("metric: psnr", "metric: pnsr"))
