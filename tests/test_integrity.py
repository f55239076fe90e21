"""Copies of benchmark sets that are not what papers mean are recognised."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import picture
from PIL import Image

from sr_lightning.data import integrity
from sr_lightning.data.catalog import ImageSet, SetFacts, find_set, known_set
from sr_lightning.data.integrity import (
    Report,
    check_set,
    is_lossy,
    measure,
    recognised,
    references,
    unrecorded,
)
from sr_lightning.data.store import PixelStore

NAMES = ("ant", "bee", "cow")


def save(path: Path, rgb: np.ndarray, **options: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path, **options)


def smooth(seed: int, height: int = 60, width: int = 72) -> np.ndarray:
    """A picture that survives JPEG and cropping, as photographs do."""
    small = Image.fromarray(picture(seed, 9, 11))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture
def animals(tmp_path, monkeypatch) -> Path:
    """A folder of the set "Animals" of three images, whose pixels are recorded."""
    folder = tmp_path / "animals"
    for seed, name in enumerate(NAMES):
        save(folder / f"{name}.png", smooth(seed))
    recorded = {one.name: one.written() for one in measured_of(folder)}
    monkeypatch.setattr(integrity, "_recorded", lambda: {"Animals": recorded})
    return folder


def files_of(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(folder.iterdir()))


def measured_of(folder: Path):
    return measure(files_of(folder))


def check(folder: Path, **facts) -> Report:
    known = {"name": "Animals", "kind": "benchmark", "count": 3, "folders": ("Animals",), **facts}
    files = files_of(folder)
    return check_set(ImageSet(known["name"], folder, files, SetFacts(**known)))


def test_the_reference_pixels_are_recognised(animals):
    report = check(animals)
    assert report.summary == "3 of 3 images are the reference pixels"
    assert not report.problems
    assert not report.notes


def test_other_file_names_and_formats_do_not_matter(animals):
    for number, file in enumerate(files_of(animals)):
        Image.open(file).save(animals / f"img_{number:03}.bmp")
        file.unlink()
    assert check(animals).matching == 3


def test_a_missing_image_is_named(animals):
    (animals / "bee.png").unlink()
    report = check(animals)
    assert report.summary == "2 of 3 images are the reference pixels"
    assert report.problems == ("1 image missing: bee",)


def test_a_surplus_image_is_named(animals):
    save(animals / "zebra.png", smooth(9))
    assert check(animals).problems == ("1 image not of Animals: zebra.png",)


def test_a_second_copy_is_named(animals):
    shutil.copy(animals / "bee.png", animals / "wasp.png")
    assert check(animals).problems == ("1 image there twice: wasp.png",)


def test_a_cropped_image_is_named_with_both_sizes(animals):
    save(animals / "cow.png", smooth(2)[:60, :71])
    (problem,) = check(animals).problems
    assert "cow.png is 71 x 60, not 72 x 60" in problem


def test_a_shrunken_image_is_not_taken_for_another(animals):
    save(animals / "cow.png", np.asarray(Image.fromarray(smooth(2)).resize((36, 30))))
    (problem,) = check(animals).problems
    assert "cow.png is 36 x 30, not 72 x 60" in problem


def test_a_changed_pixel_spoils_a_benchmark_but_not_a_training_set(animals):
    changed = smooth(1).copy()
    changed[5, 5, 0] ^= 1
    save(animals / "bee.png", changed)
    report = check(animals)
    assert report.matching == 2
    assert "bee.png" in report.problems[0]
    report = check(animals, kind="train")
    assert not report.problems
    assert "bee.png" in report.notes[0]


def test_jpeg_files_in_a_lossless_benchmark_are_refused(animals):
    save(animals / "bee.jpg", smooth(1), quality=95)
    (animals / "bee.png").unlink()
    (problem,) = check(animals).problems
    assert "lossless" in problem
    assert "bee.jpg" in problem


def test_a_jpeg_file_is_recognised_under_a_false_suffix(animals):
    (animals / "bee.png").unlink()
    save(animals / "bee.jpg", smooth(1), quality=95)
    (animals / "bee.jpg").rename(animals / "bee.png")
    (problem,) = check(animals).problems
    assert "lossless" in problem


def test_other_pixels_of_jpeg_originals_are_only_noted(animals):
    save(animals / "bee.jpg", smooth(1), quality=95)
    (animals / "bee.png").unlink()
    report = check(animals, jpeg=True)
    assert not report.problems
    assert "JPEG decoders" in report.notes[0]


def test_a_grey_file_stored_as_colour_is_noted(animals, monkeypatch):
    grey = smooth(1)[..., 0]
    save(animals / "bee.png", grey)
    recorded = {one.name: one.written() for one in measured_of(animals)}
    monkeypatch.setattr(integrity, "_recorded", lambda: {"Animals": recorded})
    assert not check(animals).notes
    save(animals / "bee.png", np.stack([grey] * 3, axis=-1))
    report = check(animals)
    assert report.matching == 3
    assert "bee.png: grey" in report.notes[0]


def test_a_damaged_file_is_named_and_the_rest_is_checked(animals):
    whole = (animals / "bee.png").read_bytes()
    (animals / "bee.png").write_bytes(whole[: len(whole) // 2])
    report = check(animals)
    assert report.matching == 2
    assert "cannot be read" in report.problems[0]
    assert "bee.png" in report.problems[0]


def test_two_equal_pictures_of_a_set_count_twice(animals, monkeypatch):
    shutil.copy(animals / "ant.png", animals / "cow.png")
    recorded = {one.name: one.written() for one in measured_of(animals)}
    monkeypatch.setattr(integrity, "_recorded", lambda: {"Animals": recorded})
    report = check(animals)
    assert report.matching == 3
    assert not report.problems


def test_what_a_pixel_store_knows_is_enough(animals, tmp_path, monkeypatch):
    images = ImageSet("Animals", animals, files_of(animals), None)
    store = PixelStore.of_files(images.files, label="animals", cache=tmp_path / "cache")
    monkeypatch.setattr(integrity, "measure", None)
    facts = SetFacts("Animals", "benchmark", 3, ("Animals",))
    named = ImageSet("Animals", animals, images.files, facts)
    assert check_set(named, store.images).matching == 3


def test_a_set_without_references_is_counted(animals):
    report = check(animals, name="Insects", count=5)
    assert report.matching is None
    assert report.summary == "3 of 5 images, no reference pixels to compare with"
    assert report.problems == ("3 images instead of 5",)


def test_missing_numbers_of_a_numbered_set_are_named(tmp_path):
    for number in (1, 2, 4):
        save(tmp_path / f"{number:04}.png", smooth(number))
    (problem,) = check(tmp_path, name="Numbers", count=5, numbers=(1, 5)).problems
    assert problem.endswith("missing: 0003, 0005")


def urban(folder: Path, side: int, suffix: str = "png") -> Report:
    """A check of four files with this long side as Urban100."""
    for number in range(4):
        save(folder / f"img_{number:03}.{suffix}", np.zeros((side // 2, side, 3), np.uint8))
    facts = known_set("Urban100")
    assert facts is not None
    few = dataclasses.replace(facts, count=4)
    return check_set(ImageSet("Urban100", folder, files_of(folder), few))


def test_the_half_size_urban100_is_refused_with_the_remedy(tmp_path):
    (problem,) = urban(tmp_path, 512).problems
    assert "about 512 px" in problem
    assert "image_SRF_4" in problem


def test_the_true_size_of_urban100_is_accepted(tmp_path):
    assert not urban(tmp_path, 1024).problems


def test_a_jpeg_copy_of_urban100_is_refused(tmp_path):
    (problem,) = urban(tmp_path, 1024, "jpg").problems
    assert "4 images as JPEG" in problem


@pytest.mark.parametrize(
    ("folder", "names", "name"),
    [
        ("Urban100/image_SRF_2", ["a", "b"], "Urban100"),
        ("urban-100", ["a", "b"], "Urban100"),
        ("mine", [f"img_{number:03}_SRF_2_HR" for number in range(1, 101)], "Urban100"),
        ("mine", [f"img_{number:03}" for number in range(1, 50)], None),
        ("Set5", ["a", "b"], None),
    ],
)
def test_a_set_without_references_is_recognised_by_names(folder, names, name, tmp_path):
    for title in names:
        save(tmp_path / folder / f"{title}.png", smooth(1, 16, 16))
    facts = recognised(measure(files_of(tmp_path / folder)))
    assert (facts and facts.name) == name


def test_benchmarks_without_references_are_named():
    assert unrecorded() == ["Urban100", "Manga109"]


def test_a_few_images_of_another_size_are_only_noted(tmp_path):
    for number, side in enumerate((40, 40, 20)):
        save(tmp_path / f"{number}.png", np.zeros((10, side, 3), np.uint8))
    report = check(tmp_path, name="Sizes", long_side=(40, 40))
    assert not report.problems
    assert "2.png (20 x 10)" in report.notes[0]


def test_lossy_and_lossless_webp_are_told_apart(tmp_path):
    image = Image.fromarray(smooth(1))
    image.save(tmp_path / "lossy.webp", quality=80)
    image.save(tmp_path / "lossless.webp", lossless=True)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(tmp_path / "lossy_alpha.webp", quality=80)
    lossy = [path.stem for path in files_of(tmp_path) if is_lossy(path)]
    assert lossy == ["lossy", "lossy_alpha"]


def test_a_folder_of_ones_own_has_no_problems_but_damaged_files(tmp_path):
    save(tmp_path / "a.jpg", smooth(1))
    (tmp_path / "b.png").write_bytes(b"nothing")
    report = check_set(ImageSet("mine", tmp_path, files_of(tmp_path), None))
    assert report.summary == "2 images"
    assert "b.png" in report.problems[0]
    assert "a.jpg" in report.notes[0]


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["Set5", "Set14", "B100", "BSDS400", "T91", "General100"])
def test_recorded_pixels_are_those_of_the_real_files(sr_data, name):
    found = find_set(name, sr_data)
    recorded = {one.name: one.written() for one in references(name)}
    assert recorded == {one.name: one.written() for one in measure(found.files)}
    # And a check that has only names and sizes to go by finds nothing else to say.
    report = check_set(found)
    assert report.matching == len(found.files)
    assert not report.problems
    assert not report.notes


@pytest.mark.oracle
def test_b100_without_jpeg_is_the_reference_too(sr_data, tmp_path):
    for file in find_set("B100", sr_data).files:
        Image.open(file).save(tmp_path / f"{file.stem}.bmp")
    files = files_of(tmp_path)
    report = check_set(ImageSet("B100", tmp_path, files, known_set("B100")))
    assert report.summary == "100 of 100 images are the reference pixels"
