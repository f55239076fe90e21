"""Test images are found among training images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from conftest import picture
from PIL import Image

from sr_lightning.data.catalog import find_set
from sr_lightning.data.images import read_rgb
from sr_lightning.data.integrity import measure, references
from sr_lightning.data.near_duplicates import (
    LOOKS_ALIKE,
    SAME_PICTURE,
    find_leaks,
    hash_distance,
    perceptual_hash,
)
from sr_lightning.data.prepare import main


def photograph(seed: int) -> np.ndarray:
    """A picture with most of its energy at large scales, as photographs have."""
    small = Image.fromarray(picture(seed, 15, 18))
    return np.asarray(small.resize((288, 240), Image.Resampling.BICUBIC))


def as_jpeg(rgb: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


@pytest.mark.parametrize("size", [(144, 120), (403, 336)])
@pytest.mark.parametrize("quality", [30, 75])
def test_resized_and_compressed_copies_keep_their_hash(size, quality):
    for seed in range(5):
        image = photograph(seed)
        copy = as_jpeg(np.asarray(Image.fromarray(image).resize(size)), quality)
        assert hash_distance(perceptual_hash(image), perceptual_hash(copy)) <= SAME_PICTURE


def test_different_pictures_have_different_hashes():
    hashes = [perceptual_hash(photograph(seed)) for seed in range(12)]
    pairs = [(a, b) for place, a in enumerate(hashes) for b in hashes[:place]]
    assert min(hash_distance(a, b) for a, b in pairs) > LOOKS_ALIKE


def test_brightness_does_not_change_the_hash():
    image = photograph(3)
    darker = (image * 0.8).astype(np.uint8)
    assert hash_distance(perceptual_hash(image), perceptual_hash(darker)) <= SAME_PICTURE


def test_distance_counts_the_bits_that_differ():
    assert hash_distance("0000000000000000", "8000000000000001") == 2
    assert hash_distance("ffffffffffffffff", "0000000000000000") == 64


def test_near_duplicates_name_both_images_and_their_distance():
    train = [("a", "00000000000000ff"), ("b", "ffffffff00000000")]
    test = [("t", "00000000000000f0"), ("u", "0f0f0f0f0f0f0f0f")]
    (leak,) = find_leaks(train, test)
    assert (leak.train, leak.test, leak.distance) == ("a", "t", 4)
    assert not find_leaks(train, test, within=3)


@pytest.mark.oracle
def test_woman_of_set5_is_found_among_training_images(sr_data, tmp_path, capsys):
    woman = read_rgb(next(f for f in find_set("Set5", sr_data).files if f.stem == "woman"))
    # As BSDS keeps it: 321 x 481 and JPEG.
    copy = Image.fromarray(woman).resize((321, 481), Image.Resampling.BICUBIC)
    folder = tmp_path / "mine"
    folder.mkdir()
    copy.save(folder / "302003.jpg", quality=75)
    with pytest.raises(SystemExit) as ended:
        main(["--leaks", str(folder), "--data-root", str(sr_data)])
    assert ended.value.code == 1
    shown = capsys.readouterr().out
    assert "mine/302003.jpg" in shown
    assert "Set5/woman.png" in shown
    assert "the same picture" in shown


@pytest.mark.oracle
def test_the_real_training_sets_hold_no_test_image(sr_data):
    # The recorded hashes are those of the real files, which test_integrity.py proves.
    tests = [
        (one.name, one.phash) for name in ("Set5", "Set14", "B100") for one in references(name)
    ]
    train = [
        (one.name, one.phash)
        for name in ("BSDS400", "T91", "General100")
        for one in references(name)
    ]
    train += [(one.file.stem, one.phash) for one in measure(find_set("CLIC2025", sr_data).files)]
    assert (len(train), len(tests)) == (617, 119)
    assert not find_leaks(train, tests)
