"""A run that goes wrong stops with a sentence, and its checkpoints stay sound."""

from __future__ import annotations

import sys

import pytest
import torch
from conftest import ROOT, SMALL_HFDN, only_run, tiny_fit

from sr_lightning.cli import main


def test_nan_stops_the_run_before_it_reaches_the_weights(
    tmp_path, train_folder, val_folder, capsys
):
    sys.path.insert(0, str(ROOT / "tests"))
    args = tiny_fit("hfdn_x4", tmp_path, train_folder, val_folder, trainer__max_steps=6)
    poison = ["--trainer.callbacks+=helper_callbacks.PoisonWeights", "--trainer.callbacks.step=3"]
    with pytest.raises(SystemExit) as stopped:
        main([*args, *SMALL_HFDN, *poison])
    assert stopped.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "The loss became nan at step 3" in message
    assert "--trainer.gradient_clip_val 1" in message
    (last,) = (only_run(tmp_path) / "checkpoints").glob("last_step=2.ckpt")
    state = torch.load(last, weights_only=True)["state_dict"]
    assert all(torch.isfinite(value).all() for value in state.values() if value.is_floating_point())
