"""Training batches: the right bytes, the same for any number of workers, ranks and sittings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import save_pictures
from torch.utils.data import DataLoader

from sr_lightning.data.datamodule import PatchDataModule
from sr_lightning.data.images import find_images, read_rgb, write_image
from sr_lightning.data.patches import dihedral, packed_to_float
from sr_lightning.data.resize import imresize
from sr_lightning.errors import UserError


def module(folder, **kwargs) -> PatchDataModule:
    options = {"scale": 2, "patch_size": 12, "batch_size": 8, "seed": 5, "holdout": 1} | kwargs
    data = PatchDataModule(train=[str(folder)], test=[], **options)
    data.setup("fit")
    return data


def dataset(folder, **kwargs):
    return module(folder, **kwargs).train_dataloader().dataset


def same(a, b) -> bool:
    return (
        torch.equal(a["lr"], b["lr"]) and torch.equal(a["hr"], b["hr"]) and a["name"] == b["name"]
    )


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("boundary", ["replicate", "symmetric"])
def test_lr_patch_made_from_hr_patch_equals_crop_of_whole_lr_image(train_folder, scale, boundary):
    options = {"scale": scale, "patch_size": 10, "boundary": boundary}
    cached = dataset(train_folder, lr_source="cached", **options)
    made = dataset(train_folder, lr_source="on_the_fly", **options)
    assert all(same(cached.batch(step), made.batch(step)) for step in range(40))


def test_patches_are_crops_of_the_files(train_folder):
    data = dataset(train_folder, augment=False)
    images = {path.stem: read_rgb(path) for path in find_images(train_folder)}
    batch = data.batch(3)
    for slot, name in enumerate(batch["name"]):
        hr = batch["hr"][slot, ..., :3].numpy()
        windows = np.lib.stride_tricks.sliding_window_view(images[name], hr.shape).squeeze(2)
        rows, columns = (windows == hr).all(axis=(2, 3, 4)).nonzero()
        assert (rows % 2 == 0).any()
        row, column = int(rows[0]), int(columns[0])
        whole = torch.from_numpy(images[name]).permute(2, 0, 1)
        lr = imresize(whole, 1 / 2)[:, row // 2 :, column // 2 :][:, :12, :12]
        assert torch.equal(batch["lr"][slot, ..., :3].permute(2, 0, 1), lr)


def test_eight_turns_are_the_dihedral_group():
    square = np.arange(9, dtype=np.uint32).reshape(3, 3)
    turned = [dihedral(square, which).tobytes() for which in range(8)]
    expected = [np.rot90(s, k).tobytes() for s in (square, square.T) for k in range(4)]
    assert sorted(turned) == sorted(expected)


def test_lr_and_hr_are_turned_alike(train_folder):
    """Downscaling the turned HR patch gives the turned LR patch (inside, within rounding)."""
    data = dataset(train_folder, patch_size=16)
    batch = {k: packed_to_float(v) for k, v in data.batch(0).items() if k in {"lr", "hr"}}
    downscaled = imresize(batch["hr"], 0.5)
    inner = (..., slice(3, -3), slice(3, -3))
    assert float((downscaled - batch["lr"])[inner].abs().max()) < 3 / 255


def test_workers_do_not_change_the_batches(train_folder):
    data = dataset(train_folder)
    alone = [data.batch(step) for step in range(6)]
    for workers in (1, 3):
        loader = DataLoader(data, batch_size=None, num_workers=workers)
        for expected, got in zip(alone, loader, strict=False):
            assert same(expected, got)


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_each_batch(train_folder, world):
    from sr_lightning.data.patches import StepDataset

    whole = module(train_folder)
    options = {"patch": 12, "batch": 8, "seed": 5}
    full = StepDataset(whole._sources, **options).batch(9)
    parts = [
        StepDataset(whole._sources, rank=rank, world=world, **options).batch(9)
        for rank in range(world)
    ]
    assert torch.equal(torch.cat([p["hr"] for p in parts]), full["hr"])
    assert [name for p in parts for name in p["name"]] == full["name"]


def test_later_start_continues_the_same_batches(train_folder):
    from sr_lightning.data.patches import StepDataset

    sources = module(train_folder)._sources
    options = {"patch": 12, "batch": 4, "seed": 1, "stop": 8}
    whole = list(StepDataset(sources, **options))
    rest = list(StepDataset(sources, start=5, **options))
    assert len(rest) == 3
    assert all(same(a, b) for a, b in zip(whole[5:], rest, strict=True))


def test_of_several_candidates_the_one_with_most_texture_is_taken(train_folder):
    def texture(patch):
        green = patch[..., 1].double()
        down, across = (green.diff(dim=dim).abs().mean() for dim in (0, 1))
        return float(down + across) / 2

    several = dataset(train_folder, candidates=3, augment=False)
    (sampler,), slots = several._samplers, np.arange(8)
    chosen = []
    for step in range(5):
        offers = [several._sources[0].cut(sampler(step, slots, n), 12)[1] for n in range(3)]
        bytes_of = [torch.from_numpy(o.view(np.uint8).reshape(*o.shape, 4)) for o in offers]
        hr = several.batch(step)["hr"]
        for slot in range(8):
            values = [texture(patches[slot]) for patches in bytes_of]
            chosen.append(int(np.argmax(values)))
            assert torch.equal(hr[slot], bytes_of[chosen[-1]][slot])
    assert set(chosen) == {0, 1, 2}


def test_one_candidate_is_the_first_of_several(train_folder):
    one, several = dataset(train_folder), dataset(train_folder, candidates=3)
    (sampler,), slots = several._samplers, np.arange(8)
    _, high = several._sources[0].cut(sampler(4, slots, 0), 12)
    assert (one.batch(4)["hr"].numpy().view(np.uint32)[..., 0] == high).all()


def test_candidates_are_the_same_on_one_rank_and_on_two(train_folder):
    from sr_lightning.data.patches import StepDataset

    sources = module(train_folder)._sources
    options = {"patch": 12, "batch": 8, "seed": 5, "candidates": 4}
    full = StepDataset(sources, **options).batch(9)
    parts = [StepDataset(sources, rank=r, world=2, **options).batch(9) for r in (0, 1)]
    assert torch.equal(torch.cat([p["lr"] for p in parts]), full["lr"])


def test_less_than_one_candidate_is_refused(train_folder):
    with pytest.raises(UserError, match=r"data\.candidates is 0; give 1 or more"):
        dataset(train_folder, candidates=0)


def test_several_scales_are_drawn_one_per_step(train_folder):
    data = dataset(train_folder, scale=[2, 3, 1.5], patch_size=10)
    seen = {}
    for step in range(60):
        batch = data.batch(step)
        seen[batch["scale"]] = batch["hr"].shape[1]
        assert batch["lr"].shape[1] == 10
    assert seen == {2: 20, 3: 30, 1.5: 15}


def test_paired_folders_are_used_and_checked(tmp_path):
    high = save_pictures(tmp_path / "high", 3, (48, 48))
    low = tmp_path / "low" / "X2"
    for path in find_images(high):
        whole = torch.from_numpy(read_rgb(path)).permute(2, 0, 1)
        small = 255 - imresize(whole, 0.5).permute(1, 2, 0).numpy()
        write_image(low / f"{path.stem}x2.png", small)
    pairs = {high.name: str(tmp_path / "low" / "X{scale}")}
    paired = dataset(high, lr_source="paired", paired_lr=pairs).batch(0)
    cached = dataset(high).batch(0)
    assert torch.equal(paired["lr"][..., :3], 255 - cached["lr"][..., :3])
    assert torch.equal(paired["hr"], cached["hr"])


def test_floats_are_the_bytes_over_255_and_channels_last(train_folder):
    batch = dataset(train_folder).batch(0)
    floats = packed_to_float(batch["hr"])
    assert floats.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal((floats * 255).round().byte(), batch["hr"][..., :3].permute(0, 3, 1, 2))
