"""Training with torch.compile: the same losses, the same files, and a run goes on without it."""

from __future__ import annotations

import copy
import csv

import lightning.pytorch as pl
import pytest
import torch
from conftest import CONFIGS, SMALL_HFDN, only_run, tiny_fit
from test_resume import PARTS, assert_same

from sr_lightning.cli import main
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.training.compile import CompileNetwork
from sr_lightning.training.module import SRModule

COMPILE = ["--config", str(CONFIGS / "trainer" / "compile.yaml")]
EMA = "lightning.pytorch.callbacks.EMAWeightAveraging"


def small_network() -> HFDN:
    return HFDN(scale=4, channels=16, blocks=1, layers=2, growth=8, reduction=4)


def losses_of(run) -> list[float]:
    with (run / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def no_compiler(*args, **kwargs):
    """As torch.compile is without a compiler: it fails at the first call."""

    def call(*args):
        raise RuntimeError("No working C++ compiler found\nin a long report")

    return call


def wrong_gradients(plain, **kwargs):
    """As torch.compile is where it has a mistake: outputs are right, gradients are NaN."""

    def call(network, lr, scale):
        return [one + (one * 0).sqrt() * 0 for one in plain(network, lr, scale)]

    return call


def from_now_on(plain, **kwargs):
    return lambda *args: plain(*args)


@pytest.mark.parametrize(
    ("compiler", "words"),
    [
        (no_compiler, r"compiling fails here \(No working C\+\+ compiler found\); a CPU needs"),
        (wrong_gradients, r"compiled, its gradients are wrong \(they differ by nan"),
    ],
)
def test_what_fails_is_left_out_with_one_warning(
    tmp_path, train_folder, val_folder, monkeypatch, compiler, words
):
    monkeypatch.setattr(torch, "compile", compiler)
    args = tiny_fit("hfdn_x4_fast", tmp_path, train_folder, val_folder)
    with pytest.warns(UserWarning, match=f"trains without torch.compile: {words}") as caught:
        main([*args[:3], *COMPILE, *args[3:], *SMALL_HFDN])
    assert len([w for w in caught if "without torch.compile" in str(w.message)]) == 1
    assert len(losses_of(only_run(tmp_path))) == 4


def test_the_network_is_as_before_once_training_has_ended(monkeypatch):
    monkeypatch.setattr(torch, "compile", from_now_on)
    module, callback = SRModule(small_network()), CompileNetwork()
    before, names = set(vars(module.network)), list(module.state_dict())
    batch = {"lr": torch.rand(1, 3, 8, 8), "scale": 4}
    callback.on_train_batch_start(pl.Trainer(logger=False), module, batch, 0)
    assert "supervised_outputs" in vars(module.network)
    assert list(module.state_dict()) == names
    assert all(weight.grad is None for weight in module.parameters())
    twin, lr = copy.deepcopy(module.network), batch["lr"]
    with torch.no_grad():
        for weight in twin.parameters():
            weight.add_(0.01)
        expected = type(twin).supervised_outputs(twin, lr)[-1]
        assert torch.equal(twin.supervised_outputs(lr)[-1], expected)
        assert not torch.equal(module.network.supervised_outputs(lr)[-1], expected)
    callback.on_train_end(None, module)
    callback.teardown(None, module, "fit")
    assert set(vars(module.network)) == before


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_losses_are_those_of_a_plain_run(tmp_path, train_folder, val_folder, precision, recwarn):
    """Tolerance: sums in another order, over eight steps, in float32 and in bfloat16.

    In bfloat16 it may be a plain run: what torch 2.13 makes of HFDN there has NaN gradients.
    """
    found = []
    for extra in ([], COMPILE):
        out = tmp_path / str(len(extra))
        args = tiny_fit("hfdn_x4_fast", out, train_folder, val_folder, trainer__max_steps=8)
        main([*args[:3], *extra, *args[3:], *SMALL_HFDN, "--trainer.precision", precision])
        found.append(losses_of(only_run(out)))
    plain, compiled = found
    assert len(plain) == 8
    if precision == "32-true":
        assert not [w for w in recwarn if "without torch.compile" in str(w.message)]
    assert compiled == pytest.approx(plain, rel=1e-5 if precision == "32-true" else 1e-2)


@pytest.mark.slow
def test_several_scales_are_compiled_each(tmp_path, train_folder, val_folder, recwarn):
    args = tiny_fit("cmsc", tmp_path, train_folder, val_folder, trainer__max_steps=8)
    main([*args[:3], *COMPILE, *args[3:], "--model.network.stages=1", "--model.network.modules=1",
          "--model.network.channels=8"])  # fmt: skip
    assert not [w for w in recwarn if "without torch.compile" in str(w.message)]
    assert len(losses_of(only_run(tmp_path))) == 8


@pytest.mark.parametrize(
    "extra", [[], pytest.param(COMPILE, marks=pytest.mark.slow)], ids=["plain", "compiled"]
)
def test_accumulation_averages_and_warm_up_are_resumed_bit_for_bit(
    tmp_path, train_folder, val_folder, extra, recwarn
):
    states = []
    for name in ("unbroken", "stopped"):
        args = tiny_fit(
            "hfdn_x4_fast", tmp_path / name, train_folder, val_folder,
            trainer__max_steps=12, trainer__val_check_interval=3,
        )  # fmt: skip
        options = [
            # Three batches are an optimiser step, after each of which is a validation.
            *("--trainer.accumulate_grad_batches", "3", "--model.scheduler.warmup", "8"),
            *("--model.scheduler.total_steps", "12"),
        ]
        args = [*args[:3], *extra, *args[3:], *SMALL_HFDN, *options]
        if name == "stopped":
            # In the middle of the warm-up.
            main([*args, "--trainer.max_steps", "5"])
            run = only_run(tmp_path / name)
            assert list(run.glob("checkpoints/last_step=5.ckpt"))
            main(["fit", "--run", str(run), "--trainer.max_steps", "12"])
        else:
            main(args)
            run = only_run(tmp_path / name)
        (last,) = run.glob("checkpoints/last_step=12.ckpt")
        states.append(torch.load(last, weights_only=True))
    assert not [w for w in recwarn if "without torch.compile" in str(w.message)]
    unbroken, stopped = states
    assert unbroken["averaging_state"]
    for part in PARTS:
        assert_same(unbroken[part], stopped[part], part)
    # Averaged weights are others than the newest, so that both were compared.
    name = "network.shallow.0.weight"
    assert not torch.equal(unbroken["state_dict"][name], unbroken["current_model_state"][name])
