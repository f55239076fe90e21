"""The data module: what it refuses, and in which words."""

from __future__ import annotations

import shutil

import pytest
import torch
from conftest import save_pictures
from PIL import Image

from sr_lightning.data.datamodule import PatchDataModule
from sr_lightning.data.evaluation import find_low
from sr_lightning.data.images import find_images, read_rgb
from sr_lightning.errors import UserError


def fit(train, **kwargs) -> PatchDataModule:
    options = {"scale": 2, "patch_size": 12, "holdout": 1, "test": []} | kwargs
    data = PatchDataModule(train=[str(train)], **options)
    data.setup("fit")
    return data


def test_missing_set_says_where_it_goes_and_how_to_get_it(tmp_path):
    with pytest.raises(UserError) as error:
        fit("DIV2K", root=str(tmp_path))
    message = str(error.value)
    assert str(tmp_path / "train" / "DIV2K") in message
    assert "sr-lightning prepare div2k" in message
    assert "configs/data/sample.yaml" in message
    assert message.count(".") - message.count(".yaml") <= 2


def test_image_smaller_than_the_patch_is_named_or_skipped(tmp_path):
    folder = save_pictures(tmp_path / "set", 4, (40, 40))
    Image.fromarray(read_rgb(find_images(folder)[0])[:20, :30]).save(folder / "tiny.png")
    with pytest.raises(UserError, match=r"tiny\.png is 30 x 20, smaller than a training patch"):
        fit(folder, val=[str(save_pictures(tmp_path / "val", 1, (40, 40), seed=9))])
    data = fit(folder, small_images="skip", holdout=1)
    names = {
        name for step in range(20) for name in data.train_dataloader().dataset.batch(step)["name"]
    }
    assert "tiny" not in names


def test_held_out_images_are_not_trained_on_and_stay_the_same(tmp_path):
    folder = save_pictures(tmp_path / "set", 6, (40, 40))
    first, second = (fit(folder, holdout=2) for _ in range(2))
    held = {batch["name"][0] for batch in first.val_dataloader()}
    assert len(held) == 2
    assert held == {batch["name"][0] for batch in second.val_dataloader()}
    drawn = {
        name for step in range(30) for name in first.train_dataloader().dataset.batch(step)["name"]
    }
    assert drawn == {f"img_{i:02}" for i in range(6)} - held


@pytest.mark.parametrize("lr_source", ["cached", "on_the_fly"])
def test_a_compressed_store_gives_the_same_batches(tmp_path, lr_source):
    folder = save_pictures(tmp_path / "set", 4, (150, 140))
    batches = [
        fit(folder, lr_source=lr_source, store=kind, candidates=2).train_dataloader().dataset
        for kind in ("decoded", "compressed")
    ]
    for step in range(5):
        one, other = (each.batch(step) for each in batches)
        assert one["lr"].equal(other["lr"])
        assert one["hr"].equal(other["hr"])


def test_validation_may_have_scales_of_its_own(tmp_path):
    folder = save_pictures(tmp_path / "set", 4, (40, 40))
    data = fit(folder, scale=[2, 3], val_scale=[1.5, 4])
    assert [batch["scale"] for batch in data.val_dataloader()] == [1.5, 4]
    drawn = {data.train_dataloader().dataset.batch(step)["scale"] for step in range(20)}
    assert drawn == {2, 3}


def test_holding_everything_out_is_refused(tmp_path):
    with pytest.raises(UserError, match="hold fewer out"):
        fit(save_pictures(tmp_path / "set", 2, (40, 40)), holdout=2)


@pytest.mark.parametrize("role", ["train", "val"])
def test_benchmark_sets_are_refused_for_training_and_validation(tmp_path, role):
    save_pictures(tmp_path / "benchmarks" / "Set5" / "HR", 2, (40, 40))
    train = save_pictures(tmp_path / "set", 3, (40, 40), seed=50)
    options = {"train": [str(train)], role: ["set5"]}
    data = PatchDataModule(**options, test=[], scale=2, patch_size=12, root=str(tmp_path))
    with pytest.raises(UserError, match="Set5 is a benchmark set"):
        data.setup("fit")


def test_test_image_among_training_images_is_refused(tmp_path):
    test = save_pictures(tmp_path / "benchmarks" / "Set5" / "HR", 2, (64, 64))
    train = save_pictures(tmp_path / "set", 3, (64, 64), seed=50)
    stolen = Image.open(find_images(test)[1]).resize((90, 88), Image.Resampling.BICUBIC)
    stolen.save(train / "stolen.jpg", quality=80)
    with pytest.raises(UserError, match="set/stolen is Set5/img_01"):
        fit(train, root=str(tmp_path))
    with pytest.warns(UserWarning, match="stolen"):
        fit(train, root=str(tmp_path), leaks="warn")


def test_missing_test_set_is_skipped_with_a_notice(tmp_path, test_folder):
    data = PatchDataModule(test=[str(test_folder), "Urban100"], scale=2, root=str(tmp_path))
    with pytest.warns(UserWarning, match="Not tested: Urban100 is expected in"):
        data.setup("test")
    assert len(data.test_dataloader()) == 3


@pytest.mark.parametrize("stage", ["fit", "test"])
def test_a_mistyped_test_folder_is_an_error(tmp_path, test_folder, stage):
    folder = save_pictures(tmp_path / "set", 4, (40, 40))
    data = PatchDataModule(
        train=[str(folder)], test=[str(test_folder), f"{test_folder}x"], scale=2, patch_size=12,
        holdout=1, root=str(tmp_path),
    )  # fmt: skip
    with pytest.raises(UserError, match=f"'{test_folder}x' is neither a folder nor"):
        data.setup(stage)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("scale", 0.5, "give a real scale from 1 on"),
        ("scale", float("nan"), "give a real scale from 1 on"),
        ("scale", [2, float("inf")], "give a real scale from 1 on"),
        ("scale", [], "give a real scale from 1 on"),
        ("val_scale", 0, "give a real scale from 1 on"),
        ("num_workers", -1, "give 0 or more"),
        ("holdout", -1, "give 0 or more"),
        ("batch_size", 0, "give 1 or more"),
        ("patch_size", -3, "give 1 or more"),
        ("val_crop", 0, "give 1 or more"),
        ("candidates", 0, "give 1 or more"),
        ("seed", 10**30, "give a number of 64 bits"),
    ],
)
def test_a_number_that_cannot_be_is_named_with_its_key(name, value, words):
    with pytest.raises(UserError, match=rf"data\.{name} is .*{words}"):
        PatchDataModule(**{name: value})


def test_lr_folders_with_other_braces_than_the_scale_are_refused(tmp_path):
    folder = save_pictures(tmp_path / "set", 4, (40, 40))
    with pytest.raises(UserError, match=r"only \{scale\} may stand in braces"):
        fit(folder, lr_source="paired", paired_lr={"set": "/x/{size}"})


def test_no_test_set_at_all_is_an_error(tmp_path):
    with pytest.raises(UserError, match="Set5 is expected in"):
        PatchDataModule(test=["Set5", "Set14"], scale=2, root=str(tmp_path)).setup("test")


def test_test_images_are_cropped_to_the_scale_and_downscaled(test_folder):
    data = PatchDataModule(test=[str(test_folder)], scale=[3, 2.5])
    data.setup("test")
    shapes = {b["scale"]: (b["lr"].shape[2:], b["hr"].shape[2:]) for b in data.test_dataloader()}
    assert shapes == {3: ((24, 20), (72, 60)), 2.5: ((28, 24), (70, 60))}


def test_users_lr_files_are_measured_and_checked(tmp_path, test_folder):
    low = tmp_path / "low"
    low.mkdir()
    for path in find_images(test_folder):
        Image.fromarray(read_rgb(path)).resize((30, 36)).save(low / f"{path.stem}_x2.png")
    pairs = {test_folder.name: str(low)}
    data = PatchDataModule(test=[str(test_folder)], scale=2, paired_lr=pairs)
    data.setup("test")
    got = next(iter(data.test_dataloader()))["lr"][0]
    expected = read_rgb(low / "img_00_x2.png")
    assert torch.equal((got * 255).round().byte().permute(1, 2, 0), torch.from_numpy(expected))
    Image.fromarray(expected[:-1]).save(low / "img_00_x2.png")
    with pytest.raises(UserError, match=r"img_00_x2\.png is 30 x 35, but .* wants 30 x 36"):
        next(iter(data.test_dataloader()))
    shutil.rmtree(low)
    with pytest.raises(UserError, match="No LR file of 'img_00' at x2"):
        PatchDataModule(test=[str(test_folder)], scale=2, paired_lr=pairs).setup("test")


def test_sample_photographs_are_there_and_disjoint():
    from sr_lightning.data.sample import PHOTOGRAPHS, find_photographs

    files = [find_photographs(name).files for name in PHOTOGRAPHS]
    flat = [path for group in files for path in group]
    assert len(set(flat)) == len(flat) == 11
    assert all(read_rgb(path).shape[2] == 3 for path in flat)


def test_benchmark_copy_that_is_not_the_papers_is_noticed(tmp_path):
    save_pictures(tmp_path / "benchmarks" / "Set5" / "HR", 4, (40, 40))
    data = PatchDataModule(test=["Set5"], scale=2, root=str(tmp_path))
    with pytest.warns(UserWarning, match="Numbers on Set5 will not compare"):
        data.setup("test")


@pytest.mark.oracle
def test_benchmark_image_is_recognised_without_the_benchmark_on_disk(tmp_path, sr_data):
    train = save_pictures(tmp_path / "set", 3, (64, 64), seed=50)
    Image.open(sr_data / "benchmarks" / "Set5" / "HR" / "woman.png").save(train / "lady.jpg")
    with pytest.raises(UserError, match="set/lady is Set5/woman"):
        fit(train, root=str(tmp_path))


@pytest.mark.parametrize(
    "name", ["a.png", "ax4.png", "a_x4.PNG", "a_LRx4.jpeg", "ax4m.png", "a_LR.png", "a_lr.JPG"]
)
def test_lr_files_are_found_by_the_names_in_use(tmp_path, name):
    (tmp_path / name).touch()
    (tmp_path / "Canon_001_LR4.png").touch()
    assert find_low(tmp_path, "a", 4) == tmp_path / name
    assert find_low(tmp_path, "Canon_001_HR", 4) == tmp_path / "Canon_001_LR4.png"
    with pytest.raises(UserError, match=r"No LR file of 'b' .*rename its files"):
        find_low(tmp_path, "b", 4)
