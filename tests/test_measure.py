"""Weights can be measured again by anyone, beside what their record says."""

from __future__ import annotations

import csv
import dataclasses
import json

import pytest
import yaml
from test_release_maps import edsr, written
from test_report import checkout, evidence_of, rows_of
from test_stages import own_zoo
from test_zoo_view import weights

from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.inference.weights_eval import measured, save
from sr_lightning.report.published_view import published_table
from sr_lightning.weights.release import release
from sr_lightning.weights.zoo import find_weights

__all__ = ["checkout", "own_zoo"]


@pytest.fixture
def shipped(own_zoo, finished_run):
    return release(finished_run, "first", data_licence="made up", recipe="sr-lightning fit one")


def group_of(test_folder) -> str:
    return f"{test_folder.name}_x4"


def test_numbers_of_a_record_are_met(shipped, test_folder, capsys):
    main(["weights", "eval", "--sets", str(test_folder), "--device", "cpu"])
    cell = shipped.measured["edsr2017"][group_of(test_folder)]
    line = next(line for line in capsys.readouterr().out.splitlines() if "first" in line)
    assert f"{cell['psnr']:.3f} / {cell['ssim']:.5f}" in line
    assert "differs" not in line
    assert find_weights("first") == shipped


def test_number_that_is_not_met_ends_in_an_error(shipped, test_folder, capsys):
    group = group_of(test_folder)
    cell = shipped.measured["edsr2017"][group]
    wrong = {"edsr2017": {group: {**cell, "psnr": cell["psnr"] + 0.02}}}
    dataclasses.replace(shipped, measured=wrong).write()
    with pytest.raises(SystemExit) as stopped:
        main(["weights", "eval", "first", "--sets", str(test_folder), "--device", "cpu"])
    assert stopped.value.code == 1
    said = capsys.readouterr().out
    assert "differs" in said
    assert "1 of 1 differ from their record by more than 0.01 dB" in said


def test_ensemble_is_added_to_the_record_and_nothing_else_changed(
    shipped, test_folder, finished_run
):
    options = ["--sets", str(test_folder), "--device", "cpu", "--ensemble", "--save"]
    main(["weights", "eval", "first", *options])
    group = group_of(test_folder)
    before, after = (one.measured["edsr2017"][group] for one in (shipped, find_weights("first")))
    added = {key: after[key] for key in after.keys() - before.keys()}
    assert added.keys() == {"ensemble_psnr", "ensemble_ssim"}
    assert {**before, **added} == after
    # Another one than without, and what the run's own test finds with it.
    assert added["ensemble_psnr"] != before["psnr"]
    (run,) = measured(str(finished_run), sets=[str(test_folder)], ensemble=True)
    assert run.numbers["psnr"] == pytest.approx(added["ensemble_psnr"], abs=1e-4)
    assert run.recorded == {}
    (again,) = measured("first", sets=[str(test_folder)], ensemble=True)
    assert again.recorded == {
        "psnr": added["ensemble_psnr"],
        "ssim": added["ensemble_ssim"],
    }
    assert not save(again)


def test_protocol_without_a_number_of_the_record_is_measured(shipped, test_folder):
    (found,) = measured("first", sets=[str(test_folder)], protocol="rgb")
    assert found.recorded == {}
    assert found.agrees
    plain = shipped.measured["edsr2017"][group_of(test_folder)]
    assert abs(found.numbers["psnr"] - plain["psnr"]) > 0.1


def test_further_metrics_are_measured_and_added_to_the_record(shipped, test_folder, capsys):
    options = ["--sets", str(test_folder), "--device", "cpu", "--save"]
    main(["weights", "eval", "first", "--metrics", "psnr", "vif", *options])
    assert "VIF" in capsys.readouterr().out
    before, after = (
        one.measured["edsr2017"][group_of(test_folder)] for one in (shipped, find_weights("first"))
    )
    # No number that was there is written anew.
    assert after == {**before, **{key: after[key] for key in ("vif", "bicubic_vif")}}
    assert 0 < after["bicubic_vif"] < 1
    (found,) = measured("first", sets=[str(test_folder)], metrics=["vif"])
    assert found.numbers["vif"] == pytest.approx(found.recorded["vif"], abs=1e-5)


def test_only_records_of_the_zoo_are_added_to(shipped, finished_run, test_folder):
    (found,) = measured(str(finished_run), sets=[str(test_folder)])
    with pytest.raises(UserError, match="is no name of the zoo"):
        save(found)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--scale", "3"], "upscale by x4, not by x3"),
        (["--sets", "Set6"], "'Set6' is neither a folder nor a known image set"),
    ],
)
def test_mistakes_are_said_in_one_sentence(shipped, test_folder, capsys, options, words):
    with pytest.raises(SystemExit) as stopped:
        main(["weights", "eval", "first", "--sets", str(test_folder), *options])
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_bicubic_and_files_of_others_are_measured_and_written_for_machines(
    test_folder, tmp_path, capsys
):
    path = tmp_path / f"{'a' * 30}.pt"
    written(edsr, 4, path)
    options = ["--sets", str(test_folder), "--scale", "4", "--device", "cpu"]
    options += ["--json", str(tmp_path / "r.json"), "--csv", str(tmp_path / "r.csv")]
    main(["weights", "eval", "bicubic", str(path), *options])
    # Off a terminal no name is cut.
    assert str(path) in capsys.readouterr().out
    bicubic, theirs = json.loads((tmp_path / "r.json").read_text())
    assert bicubic["weights"] == "bicubic"
    assert bicubic["psnr"] == bicubic["bicubic_psnr"] == theirs["bicubic_psnr"]
    assert theirs["psnr"] < bicubic["psnr"]
    with (tmp_path / "r.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["psnr"]) for row in rows] == [bicubic["psnr"], theirs["psnr"]]


@pytest.mark.oracle
def test_a_record_of_the_package_is_met_on_the_real_set(sr_data):
    (found,) = measured("fsrcnn_x4", sets=["set5"], root=str(sr_data))
    assert found.recorded.keys() == {"psnr", "ssim"}
    assert found.agrees
    assert found.images == 5


def test_plus_rows_of_papers_are_answered_with_self_ensemble(checkout):
    path = checkout / "experiments" / "published" / "toy.yaml"
    published = yaml.safe_load(path.read_text())
    published["methods"]["Toy+"] = "toy_x*+"
    published["tables"]["results"]["cells"]["x4"]["Toy+"] = [30.10, 0.8120]
    path.write_text(yaml.safe_dump(published))
    plain = {"psnr": 29.8, "ssim": 0.81}
    both = {**plain, "ensemble_psnr": 29.9, "ensemble_ssim": 0.812}

    def rows(cell):
        one = weights(measured={"edsr2017": {"Set5_x4": cell}})
        return rows_of(published_table(evidence_of(checkout, weights=(one,)), "toy/results"))

    measured_rows = rows(both)
    assert [n.value for n in measured_rows["x4", "Toy", "measured"].cells] == [29.8, 0.81]
    assert [n.value for n in measured_rows["x4", "Toy+", "measured"].cells] == [29.9, 0.812]
    assert ("x4", "Toy+", "measured") not in rows(plain)
