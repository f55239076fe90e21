"""Names of image sets become folders of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_lightning.data.catalog import (
    catalog,
    data_root,
    find_set,
    known_set,
    locate_set,
    members_of,
)
from sr_lightning.data.integrity import references
from sr_lightning.errors import UserError


def put(folder: Path, *names: str) -> Path:
    """Tiny images under these names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(folder / name)
    return folder


def test_every_set_says_how_to_get_it():
    for facts in catalog().values():
        assert facts.archives or facts.by_hand, facts.name
        assert facts.count > 0
        assert facts.folders[0].split("/")[0] in {"train", "val", "benchmarks"}


def test_recorded_references_are_as_many_as_the_set_has():
    counted = {facts.name: len(references(facts.name)) for facts in catalog().values()}
    recorded = {name: count for name, count in counted.items() if count}
    assert recorded == {
        facts.name: facts.count for facts in catalog().values() if counted[facts.name]
    }
    assert {"Set5", "Set14", "B100"} <= set(recorded)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("set5", "Set5"),
        ("SET14", "Set14"),
        ("BSD100", "B100"),
        ("bsds100", "B100"),
        ("div2k-valid", "DIV2K_valid"),
        ("DIV2K_train_HR", "DIV2K"),
        ("General-100", "General100"),
    ],
)
def test_a_set_is_known_by_its_other_names(written, name):
    facts = known_set(written)
    assert facts is not None
    assert facts.name == name


def test_aliases_never_name_two_sets():
    names = [
        name.lower().replace("_", "").replace("-", "")
        for facts in catalog().values()
        for name in (facts.name, *facts.aliases)
    ]
    shared = {name for name in names if names.count(name) > 1}
    assert not shared


@pytest.mark.parametrize(
    "place",
    ["benchmarks/Set5/HR", "benchmark/Set5/HR", "Set5/HR", "Set5", "BENCHMARKS/set5/hr"],
)
def test_a_benchmark_is_found_in_flat_and_hr_folders_of_any_case(tmp_path, place):
    put(tmp_path / place, "a.png", "b.png")
    found = find_set("set5", tmp_path)
    assert found.name == "Set5"
    assert [file.name for file in found.files] == ["a.png", "b.png"]


def test_the_folder_with_the_expected_number_of_images_wins(tmp_path):
    put(tmp_path / "benchmarks" / "Set5" / "HR", "stray.png")
    full = put(tmp_path / "Set5", *(f"{index}.png" for index in range(5)))
    assert find_set("Set5", tmp_path).folder == full


def test_a_folder_of_lr_files_only_is_not_the_set(tmp_path):
    put(tmp_path / "benchmarks" / "Set5" / "LR" / "x4", "baby.png")
    with pytest.raises(UserError, match="prepare set5"):
        find_set("Set5", tmp_path)


def test_hidden_files_are_no_images(tmp_path):
    folder = put(tmp_path / "Set5", "a.png", "._a.png")
    (folder / ".DS_Store").write_bytes(b"x")
    assert [file.name for file in find_set("Set5", tmp_path).files] == ["a.png"]


def test_the_copy_of_a_test_image_is_left_out(tmp_path):
    put(tmp_path / "train" / "BSDS400", "train_302003.jpg", "train_100.jpg", "302003.png")
    assert [file.name for file in find_set("BSDS400", tmp_path).files] == ["train_100.jpg"]


def test_a_div2k_folder_with_validation_images_gives_only_training_images(tmp_path):
    put(tmp_path / "DIV2K" / "DIV2K_train_HR", "0800.png", "0801.png", "0900.png")
    assert [file.stem for file in find_set("DIV2K", tmp_path).files] == ["0800"]


def test_lr_files_and_results_beside_hr_files_are_left_out(tmp_path):
    names = ["img_001_SRF_4_HR.png", "img_001_SRF_4_LR.png", "img_001_SRF_4_bicubic.png"]
    put(tmp_path / "Urban100" / "image_SRF_4", *names)
    assert [file.name for file in find_set("Urban100", tmp_path).files] == names[:1]


def test_members_keep_names_that_the_rules_do_not_speak_of():
    facts = known_set("DIV2K")
    assert facts is not None
    files = [Path("holiday.png"), Path("0001.png"), Path("0999.png")]
    assert members_of(facts, files) == files[:2]


def test_a_missing_set_says_where_it_is_expected_and_how_to_get_it(tmp_path):
    with pytest.raises(UserError, match=r"benchmarks/Urban100/HR.*prepare urban100"):
        find_set("urban100", tmp_path)
    facts = known_set("urban100")
    assert facts is not None
    assert locate_set(facts, tmp_path) is None


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"'set6' is neither.*Set5"):
        find_set("set6", tmp_path)


def test_a_folder_of_ones_own_is_taken_as_it_is(tmp_path):
    folder = put(tmp_path / "mine", "img10.png", "img2.png")
    found = find_set(str(folder))
    assert (found.name, found.facts) == ("mine", None)
    assert [file.stem for file in found.files] == ["img2", "img10"]


def test_a_folder_of_ones_own_may_keep_its_images_in_hr(tmp_path):
    put(tmp_path / "mine" / "HR", "a.png")
    assert find_set(str(tmp_path / "mine")).name == "mine"
    assert find_set(str(tmp_path / "mine" / "HR")).name == "mine"
    assert find_set("mine", tmp_path).folder == tmp_path / "mine" / "HR"


def test_a_folder_where_the_user_stands_counts_under_the_name_of_its_set(tmp_path, monkeypatch):
    put(tmp_path / "DIV2K_train_HR", "0001.png")
    monkeypatch.chdir(tmp_path)
    found = find_set("DIV2K_train_HR", tmp_path / "elsewhere")
    assert found.name == "DIV2K"
    assert found.facts is not None


def test_the_data_root_is_given_or_from_the_environment_or_local(monkeypatch):
    monkeypatch.setenv("SR_DATA", "/somewhere")
    assert data_root() == Path("/somewhere")
    assert data_root("other") == Path("other")
    monkeypatch.delenv("SR_DATA")
    assert data_root() == Path("data")


@pytest.mark.oracle
def test_the_real_sets_are_found_complete(sr_data):
    for name in ("Set5", "Set14", "B100", "BSDS400", "T91", "General100"):
        found = find_set(name, sr_data)
        assert found.facts is not None
        assert len(found.files) == found.facts.count
