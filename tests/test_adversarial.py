"""Adversarial training: its losses, one step for both networks, its state, what is used of it."""

from __future__ import annotations

import copy
import csv
import sys
from itertools import pairwise
from pathlib import Path
from urllib.error import URLError

import lightning.pytorch as pl
import pytest
import torch
from conftest import CONFIGS, ROOT, SMALL_HFDN, only_run, tiny_fit
from lightning.pytorch.plugins import MixedPrecision
from safetensors.torch import load_file, save_file
from test_ddp import TWO, run
from test_resume import EMA, PARTS, assert_same, rows_of
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from sr_lightning.baselines.fsrcnn import FSRCNN
from sr_lightning.cli import main
from sr_lightning.errors import UserError
from sr_lightning.nn.discriminator import UNetDiscriminator
from sr_lightning.nn.vgg import VGG19Features
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.training.adversarial import AdversarialModule
from sr_lightning.training.perceptual import PerceptualLoss
from sr_lightning.weights.files import load_network
from sr_lightning.weights.zoo import load_weights

OVERLAY = str(CONFIGS / "model" / "adversarial.yaml")
BLIND = str(CONFIGS / "data" / "blind.yaml")
SGD = torch.optim.SGD


def arguments(out, train, val, *extra: str, **options: object) -> list[str]:
    """A tiny HFDN x4 with the overlay, without VGG19."""
    args = tiny_fit("hfdn_x4", out, train, val, **options)
    small = ["--model.discriminator_channels", "4", "--model.perceptual_weight", "0"]
    return [*args[:3], "--config", OVERLAY, *args[3:], *SMALL_HFDN, *small, *extra]


def refused(args: list[str], capfd) -> str:
    """What a command says that ends in a sentence."""
    with pytest.raises(SystemExit) as ended:
        main(args)
    assert ended.value.code == 2
    return capfd.readouterr().err


def hfdn() -> HFDN:
    return HFDN(4, channels=8, blocks=1, layers=1, growth=4, channel_attention=False)


def module(network=None, **options) -> AdversarialModule:
    given = {"perceptual_weight": 0, "discriminator_channels": 4} | options
    return AdversarialModule(network or hfdn(), **given)


def batches(count: int, images: int = 2, side: int = 8) -> list[dict]:
    drawn = torch.Generator().manual_seed(0)
    return [
        {
            "lr": torch.rand(images, 3, side, side, generator=drawn),
            "hr": torch.rand(images, 3, 4 * side, 4 * side, generator=drawn),
            "scale": 4.0,
            "name": ["a"] * images,
        }
        for _ in range(count)
    ]


def fitted(trained: AdversarialModule, count: int, **options) -> pl.Trainer:
    """Train on batches that are taken one by one."""
    trainer = pl.Trainer(
        **{"max_steps": count, **options},
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(trained, DataLoader(batches(count), batch_size=None))
    return trainer


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory) -> Path:
    """VGG19 with random weights, as torchvision's file is laid out."""
    torch.manual_seed(1)
    state = VGG19Features().state_dict() | {"classifier.6.weight": torch.zeros(2, 2)}
    for name, value in state.items():
        if value.ndim == 4:
            # Wide enough that the deepest features do not vanish.
            nn.init.kaiming_normal_(state[name])
    path = tmp_path_factory.mktemp("vgg") / "vgg19.safetensors"
    save_file(state, path)
    return path


# ---- discriminator ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 32), (17, 27), (8, 9)])
def test_discriminator_judges_every_pixel_of_any_size(size):
    assert UNetDiscriminator(4)(torch.rand(2, 3, *size)).shape == (2, 1, *size)


def test_discriminator_has_the_released_networks_size():
    # Four 4x4 or 3x3 layers down and up, two after them, and biases of the first and the last.
    widths = (64, 128, 256, 512)
    between = sum(a * b * (16 + 9) for a, b in pairwise(widths))
    expected = 3 * 64 * 9 + 64 + between + 2 * 64 * 64 * 9 + 64 * 9 + 1
    with torch.device("meta"):
        found = sum(p.numel() for p in UNetDiscriminator().parameters())
    assert found == expected == 4_376_897


def test_convolutions_between_have_spectral_norm_1():
    discriminator = UNetDiscriminator(8)
    for _ in range(30):
        with torch.autocast("cpu", torch.bfloat16):
            judged = discriminator(torch.rand(1, 3, 16, 16))
    assert judged.dtype == torch.float32
    for layer in (*discriminator.down, *discriminator.up, *discriminator.last):
        norm = torch.linalg.matrix_norm(layer.eval().weight.detach().flatten(1), 2)
        assert float(norm) == pytest.approx(1, abs=0.02)
    plain = (discriminator.first, discriminator.judge)
    assert not any(torch.nn.utils.parametrize.is_parametrized(layer) for layer in plain)


def test_discriminator_starts_by_its_seed_and_disturbs_no_other_draw():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first = UNetDiscriminator(4).state_dict()
    assert torch.equal(torch.rand(4), expected)
    torch.manual_seed(3)
    torch.rand(7)
    second = UNetDiscriminator(4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["first.weight"], torch.zeros_like(first["first.weight"]))


# ---- losses -------------------------------------------------------------------------------------


def test_losses_are_those_of_the_formulas():
    trained, batch = module(pixel_weight=2.0, adversarial_weight=0.3), batches(1)[0]
    twin = copy.deepcopy(trained)
    losses = trained.losses(batch)
    sr, hr = twin.network(batch["lr"]), batch["hr"]
    cross_entropy = F.binary_cross_entropy_with_logits
    asked = twin.discriminator(sr)
    adversarial = cross_entropy(asked, torch.ones_like(asked))
    of_sr, of_hr = twin.discriminator(torch.cat([sr.detach(), hr])).chunk(2)
    expected = {
        "pixel": (sr - hr).abs().mean(),
        "adversarial": adversarial,
        "loss": 2 * (sr - hr).abs().mean() + 0.3 * adversarial,
        "discriminator": cross_entropy(of_hr, torch.ones_like(of_hr))
        + cross_entropy(of_sr, torch.zeros_like(of_sr)),
        "score_hr": (1 / (1 + (-of_hr).exp())).mean(),
        "score_sr": (1 / (1 + (-of_sr).exp())).mean(),
    }
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-6, atol=1e-7, msg=name)


def test_each_loss_reaches_its_own_network_alone():
    trained = module()
    losses = trained.losses(batches(1)[0])
    losses["loss"].backward(retain_graph=True)
    assert all(p.grad is None for p in trained.discriminator.parameters())
    # Also of the levels before the last, whose gradients are 0: several devices wait for them.
    of_network = [p.grad.clone() for p in trained.network.parameters()]
    assert sum(grad.abs().sum() for grad in of_network) > 0
    losses["discriminator"].backward()
    assert all(p.grad.abs().sum() > 0 for p in trained.discriminator.parameters())
    now = [p.grad for p in trained.network.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(now, of_network, strict=True))


def test_all_supervised_predictions_have_pixel_loss_and_the_last_is_judged():
    trained, batch = module(supervise="all"), batches(1)[0]
    outputs = trained.network.supervised_outputs(batch["lr"])
    expected = torch.stack([(output - batch["hr"]).abs().mean() for output in outputs]).mean()
    losses = trained.losses(batch)
    torch.testing.assert_close(losses["pixel"], expected)
    (losses["loss"] + losses["discriminator"]).backward()
    assert all(p.grad is not None for p in trained.parameters())


def test_network_of_luminance_is_judged_by_luminance():
    trained = module(FSRCNN(4, channels=8, shrunk=4, depth=1))
    losses = trained.losses(batches(1)[0])
    (losses["loss"] + losses["discriminator"]).backward()
    assert all(p.grad is not None for p in trained.parameters())


def test_perceptual_loss_is_that_of_a_written_out_vgg19(vgg_file):
    state = load_file(vgg_file)
    index, x = 0, (torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32))
    images, expected = x, torch.zeros(())
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    x = tuple((image - mean) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) for image in x)
    layers = (0.1, 0.2, 1.0, 2.0, 3.0)
    for weight, count in zip(layers, (2, 2, 4, 4, 4), strict=True):
        for convolution in range(count):
            filters = (state[f"features.{index}.weight"], state[f"features.{index}.bias"])
            x = tuple(F.conv2d(image, *filters, padding=1) for image in x)
            if convolution == count - 1:
                expected = expected + weight * (x[0] - x[1]).abs().mean()
            x, index = tuple(image.relu() for image in x), index + 2
        x, index = tuple(F.max_pool2d(image, 2) for image in x), index + 1
    loss = PerceptualLoss(layers, str(vgg_file))
    assert float(expected) > 0
    torch.testing.assert_close(loss(*images), expected, rtol=1e-5, atol=1e-5)


def test_features_are_torchvisions(vgg_file):
    try:
        from torchvision.models import vgg19
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"no torchvision for this torch: {error}")
    theirs = vgg19(weights=None).features
    ours = VGG19Features()
    ours.load_state_dict(
        {k: v for k, v in theirs.state_dict(prefix="features.").items() if k in ours.state_dict()}
    )
    image = torch.rand(1, 3, 32, 32)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    x = (image - mean) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    found = ours(image)
    for index, feature in zip((2, 7, 16, 25, 34), found, strict=True):
        torch.testing.assert_close(theirs[: index + 1](x), feature)


def test_vgg19_is_in_no_optimiser_average_or_checkpoint_and_frozen(vgg_file):
    trained = module(perceptual_weight=1, perceptual_file=str(vgg_file))
    before = set(trained.state_dict())
    trainer = fitted(trained, 2)
    vgg = trained._perceptual.vgg
    assert not vgg.training
    assert not any(p.requires_grad or p.grad is not None for p in vgg.parameters())
    assert set(trained.state_dict()) == before
    optimised = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert optimised == {id(p) for p in trained.network.parameters()}
    assert trainer.callback_metrics["train/perceptual"] > 0


def test_loss_without_vgg19s_weights_says_what_to_do(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    words = r"VGG19's weights, and https.*no route.*--model.perceptual_file.*perceptual_weight 0"
    with pytest.raises(UserError, match=words):
        module(perceptual_weight=1).setup("fit")
    # Measuring needs none.
    module(perceptual_weight=1).setup("test")
    other = tmp_path / "other.safetensors"
    save_file({"features.0.weight": torch.zeros(1)}, other)
    with pytest.raises(UserError, match=r"other.safetensors does not fit its network"):
        PerceptualLoss((1, 1, 1, 1, 1), str(other))
    with pytest.raises(UserError, match="give 5 weights of 0 or more, for conv1_2"):
        PerceptualLoss((1, 1))


@pytest.mark.parametrize("name", ["pixel", "perceptual", "adversarial"])
def test_negative_weights_are_refused(name):
    with pytest.raises(UserError, match=f"model.{name}_weight is negative"):
        module(**{f"{name}_weight": -1.0})


def test_patches_that_are_too_small_are_refused():
    with pytest.raises(UserError, match=r"HR patches of 16 pixels or more, not 12; raise data.p"):
        module().losses(batches(1, side=3)[0])


# ---- a step -------------------------------------------------------------------------------------


def by_hand(trained: AdversarialModule, lr: float, clip: float, group: int = 1) -> None:
    """Steps as they are released: the network's, then the discriminator's on the same images."""
    bce, taken = F.binary_cross_entropy_with_logits, batches(4)
    halves = trained.network, trained.discriminator
    optimizers = [SGD(half.parameters(), lr=lr) for half in halves]
    for start in range(0, len(taken), group):
        for optimizer in optimizers:
            optimizer.zero_grad()
        for batch in taken[start : start + group]:
            sr = trained.network(batch["lr"])
            trained.discriminator.requires_grad_(False)
            asked = trained.discriminator(sr)
            loss = (sr - batch["hr"]).abs().mean() + 0.1 * bce(asked, torch.ones_like(asked))
            (loss / group).backward()
            trained.discriminator.requires_grad_(True)
            both = trained.discriminator(torch.cat([sr.detach(), batch["hr"]]))
            truth = torch.cat([torch.zeros_like(asked), torch.ones_like(asked)])
            (2 * bce(both, truth) / group).backward()
        for half, optimizer in zip(halves, optimizers, strict=True):
            nn.utils.clip_grad_norm_(half.parameters(), clip)
            optimizer.step()


@pytest.mark.parametrize("group", [1, 2])
def test_training_is_that_of_alternating_steps(group):
    """Gradients are clipped apart, and batches may be accumulated."""
    trained = module(
        optimizer=lambda p: SGD(p, lr=0.05), discriminator_optimizer=lambda p: SGD(p, lr=0.05)
    )
    expected, start = copy.deepcopy(trained), copy.deepcopy(trained)
    by_hand(expected, 0.05, 0.05, group)
    options = {"accumulate_grad_batches": group, "gradient_clip_val": 0.05, "max_steps": 4 // group}
    trainer = fitted(trained, 4, **options)
    assert trainer.global_step == 4 // group
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    moved = [n for n, p in start.named_parameters() if not torch.equal(p, trained.get_parameter(n))]
    assert {name.partition(".")[0] for name in moved} == {"network", "discriminator"}


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_both_networks_train_in_16_bits(precision):
    made = {
        "optimizer": lambda p: SGD(p, lr=0.05),
        "discriminator_optimizer": lambda p: SGD(p, lr=0.05),
    }
    trained = module(**made)
    start, exact = copy.deepcopy(trained), copy.deepcopy(trained)
    fitted(exact, 3, gradient_clip_val=0.05)
    # Named, Lightning would take bfloat16 for float16 on a CPU.
    fitted(trained, 3, gradient_clip_val=0.05, plugins=[MixedPrecision(precision, "cpu")])
    for half in ("network", "discriminator"):
        a, b, c = (
            torch.cat([p.detach().flatten() for p in getattr(one, half).parameters()])
            for one in (trained, exact, start)
        )
        # A gradient that is clipped before the loss's scale is taken from it moves nothing.
        assert (a - b).norm() < 0.2 * (b - c).norm()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, train_folder, val_folder) -> Path:
    """A run of 12 steps with averaged weights, schedules and blind degradations."""
    out = tmp_path_factory.mktemp("unbroken")
    main(long_run(out, train_folder, val_folder))
    return only_run(out)


def long_run(out, train, val, *extra: str) -> list[str]:
    cosine = "sr_lightning.training.schedules.Cosine"
    averaged = [f"--trainer.callbacks+={EMA}", "--trainer.callbacks.decay=0.9"]
    scheduled = ["--model.discriminator_scheduler", cosine, "--trainer.gradient_clip_val", "1"]
    options = {"trainer__max_steps": 12, "trainer__val_check_interval": 4}
    args = arguments(out, train, val, *scheduled, *averaged, *extra, **options)
    return [*args[:5], "--config", BLIND, *args[5:]]


def last_state(run_folder: Path, step: int = 12) -> dict:
    (path,) = (run_folder / "checkpoints").glob(f"last_step={step}.ckpt")
    return torch.load(path, weights_only=True)


def test_a_batch_is_one_step_in_everything(unbroken):
    state = last_state(unbroken)
    assert state["global_step"] == 12
    (adam,), (schedule,) = (
        state["discriminator"][key] for key in ("optimizer_states", "lr_schedulers")
    )
    assert {float(moments["step"]) for moments in adam["state"].values()} == {12}
    assert schedule["last_epoch"] == state["lr_schedulers"][0]["last_epoch"] == 12
    # A cosine to 0 over the run's length.
    assert adam["param_groups"][0]["lr"] == pytest.approx(0, abs=1e-12)
    rows = list(csv.DictReader((unbroken / "metrics.csv").open()))
    assert [row["step"] for row in rows if row["train/discriminator"]] == [*map(str, range(12))]
    assert all(0 < float(row["train/score_sr"]) < 1 for row in rows if row["train/score_sr"])


def test_interrupted_run_goes_on_bit_for_bit(tmp_path, train_folder, val_folder, unbroken):
    sys.path.insert(0, str(ROOT / "tests"))
    stop = ["--trainer.callbacks+=helper_callbacks.InterruptAt", "--trainer.callbacks.step=5"]
    main(long_run(tmp_path, train_folder, val_folder, *stop))
    broken = only_run(tmp_path)
    assert (broken / "checkpoints" / "last_step=6.ckpt").is_file()
    main(["fit", "--run", str(broken)])
    expected, resumed = last_state(unbroken), last_state(broken)
    for part in (*PARTS, "discriminator"):
        assert_same(expected[part], resumed[part], part)
    assert rows_of(broken) == rows_of(unbroken)


def test_resumed_run_takes_the_configs_options_of_the_discriminator(
    tmp_path, train_folder, val_folder, capfd, caplog
):
    main(arguments(tmp_path, train_folder, val_folder))
    again = ["fit", "--run", str(only_run(tmp_path)), "--trainer.max_steps", "6"]
    main([*again, "--model.discriminator_optimizer.lr", "5e-4"])
    assert "discriminator_optimizer.lr was 0.0001 and is 0.0005" in caplog.text
    (adam,) = last_state(only_run(tmp_path), 6)["discriminator"]["optimizer_states"]
    assert adam["param_groups"][0]["lr"] == 5e-4
    assert {float(moments["step"]) for moments in adam["state"].values()} == {6}
    other = ["--model.discriminator_optimizer", "torch.optim.SGD", "--trainer.max_steps", "8"]
    words = "discriminator was trained with Adam, whose state SGD cannot take over"
    assert words in refused([*again[:3], *other], capfd)


def test_measured_precision_and_a_fused_optimiser_go_on(tmp_path, train_folder, val_folder):
    args = arguments(tmp_path, train_folder, val_folder, trainer__max_steps=2)
    main([*args[:5], "--config", str(CONFIGS / "trainer" / "cpu.yaml"), *args[5:]])
    main(["fit", "--run", str(only_run(tmp_path)), "--trainer.max_steps", "4"])
    (of_network,) = last_state(only_run(tmp_path), 4)["optimizer_states"]
    assert of_network["param_groups"][0]["fused"] is True


def test_run_without_discriminator_is_no_run_to_go_on_with(
    tmp_path, train_folder, val_folder, finished_run, capfd
):
    (checkpoint,) = finished_run.glob("checkpoints/last_*.ckpt")
    args = arguments(tmp_path, train_folder, val_folder)
    words = "has no discriminator to go on with; start a new run with --model.init_from"
    assert words in refused([*args, "--ckpt_path", str(checkpoint)], capfd)


def test_loss_that_is_not_finite_stops_the_run(tmp_path, train_folder, val_folder, capfd):
    wild = ["--model.discriminator_optimizer", "torch.optim.SGD"]
    wild += ["--model.discriminator_optimizer.lr", "1e38"]
    words = refused(arguments(tmp_path, train_folder, val_folder, *wild), capfd)
    assert "The loss became" in words


def test_schedule_that_waits_for_a_validation_is_refused(tmp_path, train_folder, val_folder, capfd):
    plateau = "lightning.pytorch.cli.ReduceLROnPlateau"
    extra = ["--model.discriminator_scheduler", plateau]
    extra += ["--model.discriminator_scheduler.monitor", "val/edsr2017/psnr"]
    words = "model.discriminator_scheduler: nothing measures a discriminator"
    assert words in refused(arguments(tmp_path, train_folder, val_folder, *extra), capfd)


# ---- what is used of a run ----------------------------------------------------------------------


def test_only_the_network_is_used_of_a_run(unbroken, test_folder, tmp_path):
    (checkpoint,) = (unbroken / "checkpoints").glob("last_*.ckpt")
    network = load_network(checkpoint)
    assert not [name for name in network.state_dict() if "discriminator" in name]
    assert load_weights(str(unbroken)).config == network.config
    again = AdversarialModule.load_from_checkpoint(checkpoint, discriminator_channels=4)
    averaged = last_state(unbroken)["state_dict"]
    for name, value in again.network.state_dict().items():
        assert torch.equal(value, averaged[f"network.{name}"])
    out = tmp_path / "out"
    photo = next(iter(sorted(test_folder.iterdir())))
    main(["upscale", str(photo), "--weights", str(unbroken), "--out", str(out)])
    assert list(out.iterdir())


def test_run_is_tested(unbroken, test_folder, tmp_path):
    where = ["--data.test", f"[{test_folder}]", "--output.folder", str(tmp_path / "out")]
    main(["test", "--run", str(unbroken), *where, "--trainer.accelerator", "cpu"])
    rows = list(csv.DictReader((tmp_path / "out" / "results" / "images.csv").open()))
    assert {row["method"] for row in rows} == {"bicubic", "HFDN"}


def test_what_chooses_the_best_checkpoint_is_told(recwarn):
    module().setup("fit")
    assert [w for w in recwarn if "psnr chooses the best checkpoint" in str(w.message)]
    recwarn.clear()
    module(metrics=["lpips", "psnr"], protocols=["rgb"]).setup("fit")
    assert not [w for w in recwarn if "chooses the best checkpoint" in str(w.message)]


@pytest.mark.slow
def test_two_processes_train_the_weights_of_one(tmp_path, train_folder, val_folder):
    """Tolerance: float32 sums in another order, over 4 steps of SGD."""
    sgd = [
        word
        for name in ("optimizer", "discriminator_optimizer")
        for word in (f"--model.{name}", "torch.optim.SGD", f"--model.{name}.lr", "0.05")
    ]
    states = []
    for name, extra in (("two", TWO), ("one", [])):
        out = tmp_path / name
        args = arguments(out, train_folder, val_folder, *sgd)
        done = run([*args[:5], *extra[:2], *args[5:], *extra[2:]])
        assert done.returncode == 0, done.stderr[-2000:]
        assert ("Starting with 2 processes" in done.stderr) == (name == "two")
        states.append(last_state(only_run(out), 4)["state_dict"])
    two, one = states
    assert two.keys() == one.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6, msg=name)
