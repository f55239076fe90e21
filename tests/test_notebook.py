"""Training in a notebook: a plain Trainer, without the command line, configs or run folders."""

from __future__ import annotations

import re

import lightning.pytorch as pl
import pytest
import torch
from conftest import save_pictures
from test_readme import PYTHON
from torch.utils.data import DataLoader, Dataset

from sr_lightning.baselines.fsrcnn import FSRCNN
from sr_lightning.data import PatchDataModule
from sr_lightning.data.batch import check_batch
from sr_lightning.errors import UserError
from sr_lightning.training.module import SRModule


def trainer(**options) -> pl.Trainer:
    return pl.Trainer(
        **{"max_steps": 2, **options},
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def module(scale: int = 4) -> SRModule:
    return SRModule(FSRCNN(scale, channels=8, shrunk=4, depth=1))


@pytest.fixture
def data(train_folder, test_folder) -> PatchDataModule:
    return PatchDataModule(
        train=str(train_folder),
        holdout=1,
        test=str(test_folder),
        predict=str(test_folder),
        patch_size=8,
        batch_size=4,
    )


def test_training_of_the_documents_runs(tmp_path, monkeypatch, train_folder):
    (code,) = (code for code in PYTHON if "SRModule" in code)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_photographs").symlink_to(train_folder)
    save_pictures(tmp_path / "mine", 1, (40, 48))
    for pattern, small in (
        (r"HFDN\(scale=4\)", "HFDN(4, channels=8, layers=1, growth=4, channel_attention=False)"),
        (r'test="Set5", batch_size=16, patch_size=48', 'test="mine", batch_size=2, patch_size=8, '
         "holdout=1"),
        (r"max_steps=10_000, val_check_interval=500", "max_steps=2, accelerator='cpu'"),
    ):  # fmt: skip
        code, count = re.subn(pattern, small, code)
        assert count == 1
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["trainer"].global_step == 2
    assert [row["method"] for row in names["module"].rows] == ["bicubic", "sr"]


def test_plain_trainer_fits_validates_tests_and_predicts(data):
    own, plain = module(), trainer()
    plain.fit(own, data)
    assert plain.global_step == 2
    (validated,) = plain.validate(own, data, verbose=False)
    assert set(validated) == {"val/edsr2017/psnr", "val/edsr2017/ssim"}
    (tested,) = plain.test(own, data, verbose=False)
    assert len(tested) == 2
    assert [row["image"] for row in own.rows if row["method"] == "sr"] == [
        "img_00",
        "img_01",
        "img_02",
    ]
    assert [tuple(sr.shape) for sr in plain.predict(own, data)] == [(1, 3, 288, 240)] * 3


def test_data_can_be_validated_before_training_and_used_for_other_scales(data):
    for scale in (4, 2):
        own = module(scale)
        trainer().validate(own, data, verbose=False)
        trainer().fit(own, data)
        (tested,) = trainer().test(own, data, verbose=False)
        assert all(f"_x{scale}/" in name for name in tested)


def test_seed_of_lightning_is_the_seed_of_the_patches(data, monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    data.scale = 4
    data.setup("fit")

    def first(seed: int | None) -> torch.Tensor:
        if seed is not None:
            pl.seed_everything(seed, verbose=False)
        return next(iter(data.train_dataloader()))["lr"]

    assert torch.equal(first(None), first(0))
    assert not torch.equal(first(0), first(1))


def test_epochs_without_steps_are_refused_and_break_nothing(data):
    with pytest.raises(UserError, match="Give the trainer max_steps"):
        trainer(max_steps=-1, max_epochs=3).fit(module(), data)
    # Lightning would leave DataLoader changed after an error of the loader's own.
    assert trainer().predict(module(), DataLoader(Images(), 1, collate_fn=collate))


# ---- data of one's own --------------------------------------------------------------------------


class Images(Dataset):
    """What a user's own data set may look like."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        torch.manual_seed(index)
        hr = torch.rand(3, 32, 40)
        return {"lr": hr[:, ::4, ::4].clone(), "hr": hr, "name": f"image {index}"}


def collate(items: list[dict]) -> dict:
    stacked = {key: torch.stack([item[key] for item in items]) for key in ("lr", "hr")}
    return {**stacked, "scale": 4.0, "name": [item["name"] for item in items]}


def test_loaders_of_ones_own_are_trained_on_and_measured():
    own, plain = module(), trainer()
    one_by_one = DataLoader(Images(), 1, collate_fn=collate)
    plain.fit(own, DataLoader(Images(), 2, collate_fn=collate), one_by_one)
    assert plain.global_step == 2
    (tested,) = plain.test(own, one_by_one, verbose=False)
    assert set(tested) == {"test/images_x4/edsr2017/psnr", "test/images_x4/edsr2017/ssim"}
    measured = [row for row in own.rows if row["method"] == "sr"]
    assert [row["image"] for row in measured] == [f"image {index}" for index in range(4)]
    assert tested["test/images_x4/edsr2017/psnr"] == pytest.approx(
        sum(row["psnr"] for row in measured) / 4
    )
    assert len(plain.predict(own, one_by_one)) == 4


BATCH = collate([Images()[0], Images()[1]])


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({k: v for k, v in BATCH.items() if k != "scale"}, "needs 'lr', 'hr', 'scale' and 'name'"),
        ({k: v for k, v in BATCH.items() if k != "scale"}, "this one is 'lr', 'hr', 'name'"),
        ([BATCH["lr"], BATCH["hr"]], "this one is list"),
        ({**BATCH, "scale": torch.tensor([4, 4])}, "one number for all of its images"),
        ({**BATCH, "lr": BATCH["lr"][0]}, r"'lr' of a batch is \(N, 3, H, W\), not \(3, 8, 10\)"),
        ({**BATCH, "hr": BATCH["hr"][:, :1]}, r"'hr' of a batch is \(N, 3, H, W\)"),
        ({**BATCH, "lr": BATCH["lr"].to(torch.uint8)}, r"float in \[0, 1\], not torch.uint8"),
        ({**BATCH, "hr": BATCH["hr"] * 255}, "divide levels of 0 to 255"),
        ({**BATCH, "hr": BATCH["hr"][..., :-4]}, "8 x 10 and its 'hr' 32 x 36, which is not x4"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-",
)
@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_what_is_no_batch_is_refused_in_a_sentence(batch, words, stage):
    loader = DataLoader([0], collate_fn=lambda _: batch)
    with pytest.raises(UserError, match=words):
        getattr(trainer(), stage)(module(), loader)


def test_prediction_needs_no_hr_image():
    batch = {k: v for k, v in BATCH.items() if k != "hr"}
    check_batch(batch, hr=False, levels=True)
    with pytest.raises(UserError, match="needs 'lr', 'scale' and 'name'"):
        check_batch({"lr": BATCH["lr"]}, hr=False)
