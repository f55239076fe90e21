"""Precision and layout chosen by measurement: kept in checkpoints, without touching the run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import yaml
from conftest import CONFIGS, SMALL_HFDN, only_run, tiny_fit
from lightning.pytorch.plugins import MixedPrecision

from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.papers.hfdn.module import HFDNModule
from sr_lightning.training.precision import MeasuredPrecision

SMALL = {"channels": 16, "blocks": 1, "layers": 2, "growth": 8, "reduction": 4}


def test_fastest_combination_wins(monkeypatch):
    times = {(False, False): 4.0, (True, False): 3.0, (False, True): 2.0, (True, True): 1.0}
    plugin = MeasuredPrecision()
    monkeypatch.setattr(plugin, "_time", lambda network, bf16, last: times[bf16, last])
    assert plugin._fastest(HFDN(**SMALL)) == (True, True)
    times[False, False] = 0.5
    assert plugin._fastest(HFDN(**SMALL)) == (False, False)


def test_measuring_leaves_weights_gradients_and_random_numbers_alone():
    network = HFDN(**SMALL)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    MeasuredPrecision(patch=8, batch=1, repeats=1)._fastest(network)
    assert torch.equal(torch.rand(4), expected)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("bf16", [True, False])
def test_context_autocasts_as_chosen(bf16):
    plugin = MeasuredPrecision()
    plugin.load_state_dict({"bf16": bf16, "channels_last": False})
    conv = torch.nn.Conv2d(3, 3, 1)
    with plugin.forward_context():
        assert conv(torch.rand(1, 3, 4, 4)).dtype == (torch.bfloat16 if bf16 else torch.float32)


def test_choice_is_stored_in_the_checkpoint_and_taken_back(tmp_path, train_folder, val_folder):
    args = tiny_fit("hfdn_x4", tmp_path, train_folder, val_folder, trainer__max_steps=2)
    overlay = ["--config", str(CONFIGS / "trainer" / "cpu.yaml")]
    main([*args[:3], *overlay, *args[3:], *SMALL_HFDN])
    (last,) = (only_run(tmp_path) / "checkpoints").glob("last_*.ckpt")
    stored = torch.load(last, weights_only=True)["MeasuredPrecision"]
    assert set(stored) == {"bf16", "channels_last"}
    plugin = MeasuredPrecision()
    plugin._module = HFDNModule(HFDN(**SMALL))
    plugin.load_state_dict({"bf16": True, "channels_last": True})
    assert plugin._module.network.shallow[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_named_precision_leaves_measuring_out_and_clips_fused_gradients(
    tmp_path, train_folder, val_folder
):
    args = tiny_fit(
        "hfdn_x4_fast",
        tmp_path,
        train_folder,
        val_folder,
        trainer__max_steps=2,
        trainer__precision="bf16-mixed",
    )
    overlay = ["--config", str(CONFIGS / "trainer" / "cpu.yaml")]
    main([*args[:3], *overlay, *args[3:], *SMALL_HFDN])
    run = only_run(tmp_path)
    trainer = yaml.safe_load((run / "config.yaml").read_text())["trainer"]
    assert (trainer["precision"], trainer["plugins"]) == ("bf16-mixed", None)
    assert trainer["gradient_clip_val"] == 1.0
    (last,) = (run / "checkpoints").glob("last_*.ckpt")
    stored = torch.load(last, weights_only=True)
    assert "MeasuredPrecision" not in stored
    assert stored["optimizer_states"][0]["param_groups"][0]["fused"] is True


@pytest.mark.parametrize(("scaler", "clips"), [(None, True), (object(), False)])
def test_fused_gradients_are_clipped_unless_a_scaler_forbids_it(scaler, clips):
    module = HFDNModule(HFDN(**SMALL))
    optimizer = torch.optim.Adam(module.parameters(), fused=True)
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 10.0)
    plugin = MixedPrecision("bf16-mixed", device="cpu")
    plugin.scaler = scaler
    module._trainer = SimpleNamespace(precision_plugin=plugin, strategy=None)
    if not clips:
        with pytest.raises(UserError, match=r"give --model\.optimizer\.fused false"):
            module.configure_gradient_clipping(optimizer, 1.0, "norm")
        return
    module.configure_gradient_clipping(optimizer, 1.0, "norm")
    norm = torch.stack([p.grad.norm() for p in module.parameters()]).norm()
    assert float(norm) == pytest.approx(1.0, rel=1e-3)
