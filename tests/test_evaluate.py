"""One evaluation: the same number of an image through every command."""

from __future__ import annotations

import csv

import pytest
import torch
from conftest import picture
from PIL import Image

from sr_lightning.baselines.bicubic import Bicubic
from sr_lightning.baselines.fsrcnn import FSRCNN
from sr_lightning.baselines.vdsr import VDSR
from sr_lightning.cli import main
from sr_lightning.data import PatchDataModule
from sr_lightning.inference.compare import ComparedPhotograph
from sr_lightning.inference.evaluate import Evaluator, evaluate, evaluate_set, means
from sr_lightning.inference.weights_eval import measured
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.metrics.quality import psnr
from sr_lightning.weights.files import save_network


def protocols(*names):
    return [PROTOCOLS[name] for name in names]


def test_a_set_is_measured_as_each_protocol_says(test_folder):
    data = PatchDataModule(test=[str(test_folder)], scale=2)
    data.setup("test")
    seen = []
    both = Evaluator(Bicubic(2), protocols("lapsrn2017", "edsr2017"), bicubic=True)
    rows = evaluate(both, data.test_dataloader(), lambda: seen.append(1))
    assert len(seen) == 3
    assert len(rows) == 3 * 2 * 2
    found = {key[2:]: mean for key, mean in means(rows).items()}
    for protocol in ("lapsrn2017", "edsr2017"):
        network, reference = found["sr", protocol], found["bicubic", protocol]
        # The network interpolates in float32 and the reference by matrices.
        assert network == pytest.approx(reference, abs=1e-3)
    assert found["sr", "lapsrn2017"] != found["sr", "edsr2017"]
    assert found["sr", "edsr2017"]["images"] == 3


def test_each_lr_image_is_upscaled_once(test_folder):
    network = Bicubic(2)
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    asked = protocols("edsr2017", "rgb", "imdn2019", "lapsrn2017")
    evaluate_set(Evaluator(network, asked), str(test_folder), 2)
    # One for the LR file, one for the LR image that was not rounded, of each of three images.
    assert len(calls) == 6


def grey_batch():
    grey = torch.randint(0, 256, (1, 1, 24, 24)) / 255
    hr = grey.expand(-1, 3, -1, -1)
    lr = torch.nn.functional.avg_pool2d(hr, 2)
    return {"lr": lr, "hr": hr, "scale": 2, "grey": True}


@pytest.mark.parametrize("protocol", ["dncnn2017", "vdsr2016", "mslapsrn2018"])
def test_scripts_of_luminance_networks_give_them_grey_levels_as_luminance(protocol):
    torch.manual_seed(0)
    network = VDSR(2, layers=2, channels=4, start="random").eval()
    batch = grey_batch()
    seen = []
    network.layers[0].register_forward_hook(lambda _, given, __: seen.append(given[0]))
    with torch.no_grad():
        (one,) = Evaluator(network, protocols(protocol)).measure(batch)
    assert seen[0].shape == (1, 1, 24, 24)
    assert one.image.shape == (1, 3, 24, 24)
    if protocol == "dncnn2017":
        with torch.no_grad():
            y = network.predict(batch["lr"][:, :1], 2)[-1]
        cut = [(image.double() * 255)[..., 2:-2, 2:-2] for image in (y, batch["hr"][:, :1])]
        assert one.numbers["psnr"] == pytest.approx(float(psnr(*cut)), abs=1e-4)


def test_a_grey_image_has_the_same_number_through_test_eval_and_compare(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = tmp_path / "grey_set"
    images.mkdir()
    Image.fromarray(picture(5, 48, 64)).convert("L").save(images / "bridge.png")
    torch.manual_seed(0)
    network = FSRCNN(2, channels=8, shrunk=4, depth=1).eval()
    weights = tmp_path / "mine.safetensors"
    save_network(network, weights)
    rows = evaluate_set(Evaluator(network, protocols("edsr2017")), str(images), 2)
    expected = rows[0]["psnr"]
    (evaluated,) = measured(str(weights), sets=[str(images)])
    assert evaluated.numbers["psnr"] == pytest.approx(expected, abs=1e-9)
    main(["compare", str(images / "bridge.png"), "--weights", str(weights), "--scale", "2",
          "--device", "cpu", "--out", "out"])  # fmt: skip
    (written,) = (tmp_path / "out").glob("*.json")
    compared = {m.label: m.numbers for m in ComparedPhotograph.read(written).methods}
    assert compared["mine"]["psnr"] == pytest.approx(expected, abs=1e-4)
    # The same seed starts the same weights.
    main(["test", "--model", "sr_lightning.training.module.SRModule",
          "--model.network", "sr_lightning.baselines.fsrcnn.FSRCNN",
          "--model.network.scale", "2", "--model.network.channels", "8",
          "--model.network.shrunk", "4", "--model.network.depth", "1",
          "--data", "sr_lightning.data.PatchDataModule",
          "--data.test", f"[{images}]", "--data.scale", "2", "--trainer.accelerator", "cpu",
          "--wandb.mode", "disabled", "--output.folder", "run"])  # fmt: skip
    with (tmp_path / "run" / "results" / "images.csv").open() as table:
        tested = {row["method"]: float(row["psnr"]) for row in csv.DictReader(table)}
    assert tested["FSRCNN"] == pytest.approx(expected, abs=1e-4)
