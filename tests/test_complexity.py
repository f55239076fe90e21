"""Counting: torch's counter against arithmetic, conventions kept apart."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from sr_lightning.cli import main
from sr_lightning.nn.bicubic import bicubic
from sr_lightning.nn.complexity import complexity
from sr_lightning.nn.network import SRNetwork


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


def test_command_prints_a_table_and_names_mistakes(capsys):
    from conftest import EXPERIMENTS

    main(["complexity", str(EXPERIMENTS / "hfdn_x4.yaml"), "--hr", "1080x720"])
    out = capsys.readouterr().out
    assert "761,379" in out
    assert "178.11" in out
    for args in (["nowhere.yaml"], [str(EXPERIMENTS / "hfdn_x4.yaml"), "--hr", "big"]):
        with pytest.raises(SystemExit) as stopped:
            main(["complexity", *args])
        assert stopped.value.code == 2
