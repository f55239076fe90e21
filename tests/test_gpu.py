"""On a CUDA device: the same bytes, the same training, the overlay's choice."""

from __future__ import annotations

import pytest
import torch
from conftest import CONFIGS, SMALL_HFDN, only_run, picture, tiny_fit

from sr_lightning import load, upscale
from sr_lightning.cli import main
from sr_lightning.data.resize import imresize

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("precision", ["highest", "high"])
def test_gpu_resize_makes_the_bytes_of_the_cpu(scale, precision):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        image = torch.from_numpy(picture(1, 40 * scale, 30 * scale)).permute(2, 0, 1)
        assert torch.equal(imresize(image.cuda(), 1 / scale).cpu(), imresize(image, 1 / scale))
    finally:
        torch.set_float32_matmul_precision(before)


def test_gpu_overlay_trains(tmp_path, train_folder, val_folder):
    args = tiny_fit("hfdn_x4", tmp_path, train_folder, val_folder, trainer__accelerator="gpu")
    main([*args[:3], "--config", str(CONFIGS / "trainer" / "gpu.yaml"), *args[3:], *SMALL_HFDN])
    (last,) = (only_run(tmp_path) / "checkpoints").glob("last_step=4_*.ckpt")
    state = torch.load(last, weights_only=True)["state_dict"]
    assert all(torch.isfinite(v).all() for v in state.values() if v.is_floating_point())


def test_float16_mixed_precision_trains(tmp_path, train_folder, val_folder):
    args = tiny_fit("hfdn_x4", tmp_path, train_folder, val_folder, trainer__accelerator="gpu")
    main([*args, *SMALL_HFDN, "--trainer.precision", "16-mixed"])
    assert list((only_run(tmp_path) / "checkpoints").glob("last_step=4_*.ckpt"))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
def test_upscaled_tensor_is_on_its_own_device(dtype):
    image = torch.from_numpy(picture(1, 20, 24)).permute(2, 0, 1)
    image = image.cuda() if dtype == torch.uint8 else (image.cuda() / 255).to(dtype)
    # By a network on the same device, on the other one, and by name.
    for weights in (load("fsrcnn_x4").cuda(), load("fsrcnn_x4"), "fsrcnn_x4"):
        large = upscale(image, weights)
        assert (large.device, large.dtype) == (image.device, dtype)
    assert upscale(image.cpu(), "fsrcnn_x4").device.type == "cpu"
