"""Counting: torch's counter against arithmetic, conventions kept apart."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
import yaml
from conftest import EXPERIMENTS, ROOT
from torch import Tensor, nn

from sr_lightning.baselines.espcn import ESPCN
from sr_lightning.baselines.lapsrn import LapSRN
from sr_lightning.cli import main
from sr_lightning.experiments import experiment_file
from sr_lightning.nn.bicubic import bicubic
from sr_lightning.nn.complexity import _footprint, complexity, footprint
from sr_lightning.nn.network import SRNetwork
from sr_lightning.studies.published import load_published
from sr_lightning.training.speed import speed


class Tiny(SRNetwork):
    """One convolution, one deconvolution, a bicubic skip."""

    def __init__(self, scale: int = 2, channels: int = 4) -> None:
        super().__init__()
        self.scales = (scale,)
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.up = nn.ConvTranspose2d(channels, 3, 4, scale, 1, bias=False)
        self.frozen = nn.Parameter(self.conv.weight.detach().clone(), requires_grad=False)

    def forward(self, lr: Tensor) -> Tensor:
        return bicubic(lr, self.scale) + self.up(self.conv(lr))


def test_conventions_are_what_their_names_say():
    cost = complexity(Tiny(), hr_size=(20, 30))
    low, high = 10 * 15, 20 * 30
    conv, deconv = 3 * 4 * 9, 4 * 3 * 16
    assert cost.parameters == conv + 4 + deconv
    assert cost.macs == conv * low + deconv * low
    assert cost.macs_out == conv * low + deconv * high
    assert cost.macs_out_bias == cost.macs_out + 4 * low


def test_footprint_counts_outputs_of_convolutions_and_what_is_there_at_a_time():
    kept = footprint(Tiny(), (10, 15), 2)
    low, high = 10 * 15, 20 * 30
    assert kept.activations == 4 * low + 3 * high
    # Weights, a frozen copy, the input; at the end features, the sum's two parts and the sum.
    weights = 2 * 3 * 4 * 9 + 4 + 4 * 3 * 16
    least = 4 * (weights + 3 * low + 3 * 3 * high)
    assert least <= kept.memory <= least + 4 * (4 * low + 3 * high + 2 * 3 * 20 * 15)
    # As on a real device.
    network = Tiny()
    assert _footprint(network, (10, 15), 2, torch.device("cpu")).activations == kept.activations


def test_command_prints_a_table_and_names_mistakes(capsys):
    main(["complexity", str(EXPERIMENTS / "hfdn_x4.yaml"), "--hr", "1080x720"])
    out = capsys.readouterr().out
    assert "761,379" in out
    assert "178.11" in out
    for args in (["nowhere.yaml"], [str(EXPERIMENTS / "hfdn_x4.yaml"), "--hr", "big"]):
        with pytest.raises(SystemExit) as stopped:
            main(["complexity", *args])
        assert stopped.value.code == 2


def test_published_figures_stand_beside_ours_in_their_own_convention(capsys):
    main(["complexity", str(experiment_file(ROOT, "fsrcnn_x4")), str(EXPERIMENTS / "hfdn_x4.yaml")])
    out = capsys.readouterr().out
    assert "12,464 (weights, +0.0%)" in out
    assert "4.60 (1280, out, +0.8%)" in out, "of an experiment named in complexity.yaml"
    assert "178.51 (1080, out, -0.2%)" in out, "of an experiment that another table names"


def test_without_names_every_network_of_the_experiments_is_counted_once(
    capsys, tmp_path, monkeypatch
):

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["complexity"])
    assert "There are no experiments/*.yaml here" in capsys.readouterr().err
    (tmp_path / "experiments").mkdir()
    for stem in ("srcnn_x3", "espcn_x2"):
        text = experiment_file(ROOT, stem).read_text()
        (tmp_path / "experiments" / f"{stem}.yaml").write_text(text)
        (tmp_path / "experiments" / f"{stem}_again.yaml").write_text(text)
    (tmp_path / "experiments" / "other.yaml").write_text("queue: []\n")
    main(["complexity"])
    out = capsys.readouterr().out
    assert out.count("SRCNN (") == out.count("ESPCN (") == 1


def test_what_takes_too_long_is_left_out(capsys):

    main(["complexity", str(experiment_file(ROOT, "espcn_x4")), "--time", "--limit", "0"])
    out = capsys.readouterr().out
    assert out.count("over 0") == 2
    assert "float32" in out


def test_timing_measures_the_whole_work_and_leaves_the_network_alone():
    network = ESPCN(scale=2, channels=(4, 4)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    # Without a limit: by what a busy machine takes for a part, the whole might be left out.
    took = speed(network, 2, patch=6, batch=2, lr_size=(12, 15), limit=float("inf"))
    assert all(seconds > 0 for seconds in asdict(took).values())
    assert not network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_published_figures_name_experiments_that_exist():
    own = EXPERIMENTS / "published" / "complexity.yaml"
    answers = yaml.safe_load(own.read_text())["methods"]
    cells = [c for c in load_published(own.parent).cells if c.table.startswith("complexity/")]
    assert {cell.method for cell in cells} == set(answers)
    for cell in cells:
        stem = answers[cell.method].replace("*", f"{cell.scale:g}")
        assert experiment_file(ROOT, stem).is_file(), stem


def test_progressive_networks_can_be_timed():
    network = LapSRN(scale=4, channels=4, depth=1)
    took = speed(network, 4, patch=4, batch=1, lr_size=(6, 7), limit=float("inf"))
    assert took.step > 0


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("{class_path: sr_lightning.nn.network.SRNetwork}", "has to say its scales"),
        (
            "{class_path: sr_lightning.nn.network.YNetwork, init_args: {scales: [2]}}",
            "YNetwork fails on an image of 16 x 16 pixels at x2",
        ),
    ],
)
def test_bases_of_networks_are_refused_in_a_sentence(tmp_path, capsys, network, said):
    file = tmp_path / "base.yaml"
    file.write_text(
        "model:\n  class_path: sr_lightning.training.module.SRModule\n"
        f"  init_args:\n    network: {network}\n"
        "    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 1.0e-3}}\n"
    )
    with pytest.raises(SystemExit) as ended:
        main(["complexity", str(file)])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
