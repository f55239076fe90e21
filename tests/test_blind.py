"""Blind degradations: pure functions of (seed, step, slot), in range, each stage doing its part."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import CONFIGS, SMALL_HFDN, only_run, picture, tiny_fit
from PIL import Image
from scipy import stats
from torch.utils.data import DataLoader

from sr_lightning.cli import main
from sr_lightning.data.blind import (
    BlindDataModule,
    Degradation,
    Order,
    _normal,
    _poisson,
    draw_images,
)
from sr_lightning.errors import UserError

# An order of which each test switches one stage on.
NOTHING = Order(
    blur=0, enlarge=0, shrink=0, gaussian=1, noise=(0, 0), jpeg=(100, 100), resize=(1, 1)
)
SECOND = Order(
    blur=0.8, sigma=(0.2, 1.5), enlarge=0.3, shrink=0.4, resize=(0.3, 1.2), of="lr", noise=(1, 25)
)
TWO = [Order(), SECOND]


def pictures(count, side):
    stacked = np.stack([picture(seed, side, side) for seed in range(count)])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 255


def degraded(hr, by, orders, seed=0, step=0, slots=None):
    slots = np.arange(len(hr)) if slots is None else slots
    drawn = draw_images(seed, step, slots, len(orders))
    return Degradation(orders)(hr, (hr.shape[-2] // by, hr.shape[-1] // by), drawn)


def module(folder, **kwargs) -> BlindDataModule:
    options = {"scale": 2, "patch_size": 12, "batch_size": 8, "seed": 5, "holdout": 2} | kwargs
    data = BlindDataModule(train=[str(folder)], test=[], orders=TWO, **options)
    data.setup("fit")
    return data


class AtStep:
    """As much of a trainer as loaders ask for."""

    world_size, global_rank, accumulate_grad_batches, max_steps = 2, 0, 2, 20
    lightning_module = None

    def __init__(self, step, rank=0):
        self.global_step, self.global_rank = step, rank


@pytest.mark.parametrize("by", [2, 3, 4])
@pytest.mark.parametrize("orders", [[Order()], TWO], ids=["one order", "two orders"])
def test_lr_images_have_their_size_and_8_bit_levels(by, orders):
    hr = pictures(4, 48)
    lr = degraded(hr, by, orders)
    assert lr.shape == (4, 3, 48 // by, 48 // by)
    assert 0 <= lr.min() < lr.max() <= 1
    assert torch.equal((lr * 255).round() / 255, lr)
    # Neither darker nor brighter on the whole.
    torch.testing.assert_close(lr.mean((1, 2, 3)), hr.mean((1, 2, 3)), rtol=0, atol=0.04)


def test_an_image_gets_the_same_alone_in_a_part_and_in_the_whole_batch():
    hr = pictures(6, 36)
    whole = degraded(hr, 3, TWO, seed=7, step=11)
    for part in (slice(2, 3), slice(0, 3), slice(3, 6)):
        alone = degraded(hr[part], 3, TWO, seed=7, step=11, slots=np.arange(6)[part])
        assert torch.equal(alone, whole[part])
    for other in ({"seed": 8}, {"step": 12}, {"slots": np.arange(6, 12)}):
        changed = degraded(hr, 3, TWO, **({"seed": 7, "step": 11} | other))
        assert all(not torch.equal(a, b) for a, b in zip(changed, whole, strict=True))


def test_workers_devices_and_resuming_do_not_change_the_batches(train_folder):
    data = module(train_folder)
    loader = data.train_dataloader()

    def made(batches):
        return [data.on_after_batch_transfer(batch, 0) for _, batch in zip(range(4), batches)]  # noqa: B905

    alone = made(iter(loader))
    assert "drawn" not in alone[0]
    for got, expected in zip(
        made(DataLoader(loader.dataset, batch_size=None, num_workers=2)), alone, strict=True
    ):
        assert torch.equal(got["lr"], expected["lr"])
    for rank in range(2):
        # One optimiser step is two batches here.
        data.trainer = AtStep(1, rank)
        resumed = made(iter(data.train_dataloader()))
        half = slice(rank * 4, rank * 4 + 4)
        assert torch.equal(resumed[0]["hr"], alone[2]["hr"][half])
        assert torch.equal(resumed[0]["lr"], alone[2]["lr"][half])
        assert torch.equal(resumed[1]["lr"], alone[3]["lr"][half])


def test_patches_are_those_of_a_bicubic_run(train_folder):
    from sr_lightning.data import PatchDataModule

    plain = PatchDataModule(
        train=[str(train_folder)], test=[], scale=2, patch_size=12, batch_size=8, seed=5, holdout=2
    )
    plain.setup("fit")
    a, b = (next(iter(one.train_dataloader())) for one in (plain, module(train_folder)))
    assert torch.equal(a["hr"], b["hr"])


def test_measured_images_are_degraded_by_their_names_alone(train_folder):
    seeds = [module(train_folder, seed=seed) for seed in (1, 2)]
    first, second = (
        [data.on_after_batch_transfer(batch, 0) for batch in data.val_dataloader()]
        for data in seeds
    )
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a["lr"], b["lr"])
        assert a["set"] == "val-blind"
        assert a["lr"].shape[2] * 2 == a["hr"].shape[2]
    batch = next(iter(seeds[0].val_dataloader()))
    renamed = seeds[0].on_after_batch_transfer({**batch, "name": ["other"]}, 0)
    assert not torch.equal(renamed["lr"], first[0]["lr"])
    other = module(train_folder, test_seed=1).on_after_batch_transfer(batch, 0)
    assert not torch.equal(other["lr"], first[0]["lr"])


def test_images_to_predict_are_left_alone(train_folder):
    batch = {"lr": torch.rand(1, 3, 8, 8), "scale": 2, "name": ["a"]}
    assert module(train_folder).on_after_batch_transfer(batch, 0)["lr"] is batch["lr"]


def detail(image):
    """Mean absolute difference of neighbouring pixels along rows, and along columns."""
    return image.diff(dim=-1).abs().mean(), image.diff(dim=-2).abs().mean()


def test_nothing_drawn_changes_nothing_but_jpegs_rounding():
    hr = (pictures(2, 32) * 255).round() / 255
    # At the same size area, bilinear and bicubic are all the image itself; flat chroma survives.
    hr = hr.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1).contiguous()
    assert float((degraded(hr, 1, [NOTHING]) - hr).abs().max()) < 3 / 255


@pytest.mark.parametrize("anisotropic", [0, 1])
def test_blur_takes_detail_by_its_sigma(anisotropic):
    hr = pictures(8, 48)
    found = [
        detail(degraded(hr, 1, [replace(NOTHING, blur=blur, sigma=sigma, anisotropic=anisotropic)]))
        for blur, sigma in ((0, (1, 1)), (1, (1, 1)), (1, (3, 3)))
    ]
    for axis in (0, 1):
        sharp, soft, softer = (one[axis] for one in found)
        assert sharp > 1.5 * soft > 2 * softer


def test_anisotropic_blur_reaches_further_along_one_axis():
    dot = torch.zeros(40, 3, 41, 41)
    dot[:, :, 20, 20] = 1
    taps = torch.arange(41.0) - 20
    for anisotropic in (0, 1):
        order = replace(NOTHING, blur=1, sigma=(0.5, 4), anisotropic=anisotropic)
        lr = degraded(dot, 1, [order]).mean(dim=1)
        lr = lr / lr.sum(dim=(1, 2), keepdim=True)
        xx, yy = (lr.sum(dim) @ taps**2 for dim in (1, 2))
        xy = torch.einsum("nyx,y,x->n", lr, taps, taps)
        # Eigenvalues of the spread are those of an ellipse; a circle's are equal.
        root = ((xx - yy) ** 2 + 4 * xy**2).sqrt()
        ratio = ((xx + yy + root) / (xx + yy - root).clamp(min=0.1)).median()
        assert (ratio > 1.5) == bool(anisotropic)


def test_resize_through_a_small_size_takes_detail():
    hr = pictures(8, 48)
    kept = degraded(hr, 1, [NOTHING])
    shrunk = degraded(hr, 1, [replace(NOTHING, shrink=1, resize=(0.2, 1))])
    enlarged = degraded(hr, 1, [replace(NOTHING, enlarge=1, resize=(1, 1.5))])
    assert detail(shrunk)[0] < 0.7 * detail(kept)[0]
    assert (enlarged - hr).square().mean() < 0.6 * (shrunk - hr).square().mean()


@pytest.mark.parametrize("kind", range(3))
def test_a_resize_keeps_flat_areas_and_gradients(kind):
    from sr_lightning.data.blind import _resize

    ramp = torch.linspace(0, 1, 24).expand(1, 3, 24, 24).contiguous()
    chosen = torch.tensor([(kind + 0.5) / 3])
    before, after = torch.tensor([[24, 24]]), torch.tensor([[11, 9]])
    small = _resize(ramp, before, after, (16, 16), chosen)
    assert small.shape == (1, 3, 16, 16)
    expected = ((torch.arange(9) + 0.5) * 24 / 9 - 0.5) / 23
    # Area counts pixels as flat, so that a gradient has steps.
    atol = 0.01 if kind == 0 else 1e-5
    torch.testing.assert_close(small[0, 0, 3, 1:8], expected[1:8], rtol=0, atol=atol)
    # Beyond its own size an image's last row and column go on.
    assert torch.equal(small[..., 10:, :9], small[..., 10:11, :9].expand(-1, -1, 6, -1))
    assert torch.equal(small[..., 9:], small[..., 8:9].expand(-1, -1, -1, 7))


@pytest.mark.parametrize("grey", [0, 1])
@pytest.mark.parametrize("gaussian", [0, 1])
def test_noise_has_its_level_and_colour(gaussian, grey):
    level = 0.36
    hr = torch.full((8, 3, 64, 64), level)
    order = replace(NOTHING, gaussian=gaussian, noise=(20, 20), poisson=(2, 2), grey=grey)
    noise = (degraded(hr, 1, [order]) - level) * 255
    expected = 20 if gaussian else 2 * (level * 255) ** 0.5
    # JPEG of quality 100 halves chroma's size, which takes some of the noise of single channels.
    luminance = noise.mean(dim=1)
    assert float(luminance.std()) == pytest.approx(expected * (1 if grey else 0.6), rel=0.12)
    assert abs(float(luminance.mean())) < 0.6
    assert (float((noise[:, 0] - noise[:, 2]).std()) < 2) == bool(grey)


def test_jpeg_of_lower_quality_is_further_from_the_image():
    hr = pictures(4, 64)
    errors = []
    for quality in (10, 30, 60, 95):
        lr = degraded(hr, 1, [replace(NOTHING, jpeg=(quality, quality))])
        errors.append(float((lr - hr).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 3 * errors[-1]


def test_jpeg_errs_as_a_files_does():
    image = picture(3, 64, 64)
    hr = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    for quality in (30, 70):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        theirs = np.asarray(Image.open(file).convert("RGB")).astype(float)
        order = replace(NOTHING, jpeg=(quality, quality))
        ours = degraded(hr, 1, [order])[0].permute(1, 2, 0).numpy() * 255
        expected = ((theirs - image) ** 2).mean()
        assert ((ours - image) ** 2).mean() == pytest.approx(expected, rel=0.25)


def test_normal_and_poisson_numbers_are_distributed_as_such():
    normal = _normal(torch.arange(20), torch.Size([3, 80, 80]))
    assert stats.kstest(normal.flatten().numpy(), "norm").pvalue > 0.001
    between = torch.corrcoef(normal.flatten(1)).fill_diagonal_(0)
    assert float(between.abs().max()) < 0.04
    assert normal.unique().numel() > 0.99 * normal.numel()
    for rate in (1, 4, 20, 200):
        counts = _poisson(torch.full_like(normal, rate), normal).flatten().numpy().astype(int)
        share = np.bincount(counts) / counts.size
        exact = stats.poisson.pmf(np.arange(len(share)), rate)
        # Total variation: what is left of the expansion, and of the sample.
        assert np.abs(share - exact).sum() / 2 < 0.02


@pytest.mark.parametrize(
    ("experiment", "size", "overlay"),
    [
        ("hfdn_x4", SMALL_HFDN, "blind"),
        ("hfdn_x4", SMALL_HFDN, "blind2"),
        ("cmsc", ["--model.network.stages=1", "--model.network.channels=8"], "blind"),
        ("cirn_x4", ["--model.network.groups=1", "--model.network.channels=8"], "blind"),
        ("lesrcnn_x4", ["--model.network.channels=8"], "blind"),
        ("asdn", ["--model.network.blocks=1", "--data.val_scale=2"], "blind"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_paper_trains_blind(
    tmp_path, train_folder, val_folder, test_folder, experiment, size, overlay
):
    args = tiny_fit(experiment, tmp_path, train_folder, val_folder, trainer__max_steps=2)
    blind = ["--config", str(CONFIGS / "data" / f"{overlay}.yaml")]
    main([*args[:3], *blind, *args[3:], *size])
    run = only_run(tmp_path)
    assert "val/edsr2017/psnr" in (run / "metrics.csv").read_text()
    if overlay == "blind":
        sets = ["--data.test", f"[{test_folder}]", "--trainer.accelerator", "cpu"]
        main(["test", "--run", str(run), *sets, "--scale", "2" if experiment == "asdn" else "4"])
        assert f"{test_folder.name}-blind" in (run / "results" / "images.csv").read_text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sigma": (3.0, 0.2)}, r"orders\[0\]\.sigma is \[3.0, 0.2\]; give the lowest"),
        ({"sigma": (0.0, 1.0)}, r"orders\[0\]\.sigma .* from 0.05 to 5"),
        ({"jpeg": (30, 101)}, r"orders\[0\]\.jpeg .* from 1 to 100"),
        ({"noise": (float("nan"), 2)}, r"orders\[0\]\.noise"),
        ({"resize": (0.5, 0.9)}, r"highest at least 1"),
        ({"blur": 1.5}, r"orders\[0\]\.blur is 1.5; give a probability from 0 to 1"),
        ({"enlarge": 0.6, "shrink": 0.6}, "together they are at most 1"),
    ],
)
def test_impossible_ranges_are_refused_in_one_sentence(change, words):
    with pytest.raises(UserError, match=words):
        BlindDataModule(orders=[Order(**change)])


def test_what_makes_lr_images_otherwise_is_refused(train_folder, tmp_path, val_folder, capsys):
    with pytest.raises(UserError, match="empty; give one order or two"):
        BlindDataModule(orders=[])
    with pytest.raises(UserError, match="blind degradations make them"):
        BlindDataModule(paired_lr={"DIV2K": "/x"})
    with pytest.raises(UserError, match="test_seed is"):
        BlindDataModule(test_seed=10**30)
    args = tiny_fit("hfdn_x4", tmp_path, train_folder, val_folder)
    blind = ["--config", str(CONFIGS / "data" / "blind.yaml")]
    for extra, words in (
        (["--model.protocols", "[vdsr2016]"], "vdsr2016, which makes its own LR images"),
        (["--data.orders", "[{sigma: [2, 1]}]"], "data.orders[0].sigma is [2.0, 1.0]"),
        (["--data.orders", "[{sigmaa: [1, 2]}]"], "sigmaa"),
        (["--data.orders", "[{of: sr}]"], "data.orders"),
    ):
        with pytest.raises(SystemExit):
            main([*args[:3], *blind, *args[3:], *SMALL_HFDN, *extra])
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert message.startswith("sr-lightning: ")
        assert words in message
