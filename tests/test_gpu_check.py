"""``make gpu-check``: it runs in a small form on a CPU, and what does not hold is a failure."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from sr_lightning import gpu_check


def wrote(losses, status=0):
    """In the place of the process that trains: writes rows of a metrics file."""

    def command(log: Path, *arguments: str) -> int:
        log.write_text("")
        folder = Path(arguments[arguments.index("--output.folder") + 1])
        folder.mkdir(parents=True)
        half = "32-true" not in folder.name
        with (folder / "metrics.csv").open("w", newline="") as file:
            rows = csv.DictWriter(file, ("step", "train/loss", "perf/step_ms"))
            rows.writeheader()
            for step, loss in enumerate(losses if half else [0.2] * len(losses)):
                rows.writerow({"step": step, "train/loss": loss, "perf/step_ms": 5})
        return status

    return command


def checked(tmp_path, *parts):
    with pytest.raises(SystemExit) as end:
        gpu_check.main(["--only", *parts, "--out", str(tmp_path), "--steps", "4"])
    return end.value.code, json.loads((tmp_path / "gpu-check.json").read_text())["sections"]


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([0.2, float("nan"), 0.2], "exit status 0"),
        ([0.2, *[0.3] * 24], "from float32's"),
        # Of a few steps the first is compared.
        ([0.3, 0.2, 0.2, 0.2], "from float32's"),
        ([], "exit status 0"),
    ],
)
def test_losses_that_are_not_finite_or_far_from_float32_are_failures(
    tmp_path, monkeypatch, losses, said
):
    monkeypatch.setattr(gpu_check, "_command", wrote(losses))
    status, (section,) = checked(tmp_path, "fits")
    assert status == 1
    assert any(said in words for words in section["failures"])
    assert "FAILED" in (tmp_path / "gpu-check.md").read_text()


def test_equal_losses_pass_and_each_paper_has_a_row_in_each_precision(tmp_path, monkeypatch):
    # A few steps amplify rounding by more than a broken precision would.
    monkeypatch.setattr(gpu_check, "_command", wrote([0.2, 0.3, 0.3]))
    status, (section,) = checked(tmp_path, "fits")
    assert status == 0
    pairs = {tuple(row[:2]) for row in section["rows"]}
    precisions = gpu_check.Machine.here(None).precisions
    assert pairs == {(e, p) for e in gpu_check.EXPERIMENTS for p in precisions}


def test_a_part_that_breaks_is_a_failure_and_the_others_are_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "_command", wrote([0.2, 0.2]))
    monkeypatch.setattr(gpu_check, "_loops", lambda *_: 1 / 0)
    status, (broken, sound) = checked(tmp_path, "steps", "fits")
    assert status == 1
    assert broken["failures"] == ["ZeroDivisionError: division by zero"]
    assert sound["rows"]


@pytest.mark.slow
def test_the_small_form_trains_all_papers_on_a_cpu(tmp_path):
    status, (fits, resumed) = checked(tmp_path, "fits", "resume")
    assert status == 0, (fits, resumed)
