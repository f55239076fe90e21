"""``from sr_lightning import ...``: images of every kind in, the same kind out, or one sentence."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, picture
from PIL import Image

import sr_lightning
from sr_lightning import PROTOCOLS, SRNetwork, imresize, load, measure, upscale
from sr_lightning.baselines.bicubic import Bicubic
from sr_lightning.baselines.fsrcnn import FSRCNN
from sr_lightning.baselines.vdsr import VDSR
from sr_lightning.data import resize
from sr_lightning.data.images import to_pixels, to_tensor, write_image
from sr_lightning.errors import UserError
from sr_lightning.inference.upscaler import Upscaler
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.weights.files import save_network

RGB = picture(1, 20, 24)
UNIT = RGB / 255
TENSOR = torch.from_numpy(RGB).permute(2, 0, 1)


@pytest.fixture(scope="module")
def network() -> SRNetwork:
    return load("fsrcnn_x4")


@pytest.fixture(scope="module")
def expected(network) -> torch.Tensor:
    """What the network makes of the picture, (80, 96, 3) in [0, 1]."""
    with torch.no_grad():
        return network(TENSOR[None] / 255)[0].clamp(0, 1).permute(1, 2, 0).double()


# ---- arrays and tensors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "white", "near"),
    [
        (RGB, 255, 0.5),
        (RGB.astype(np.uint16) * 257, 65535, 0.5),
        ((RGB.astype(np.uint16) * 257).astype(">u2"), 65535, 0.5),
        (UNIT.astype(np.float16), 1, 2e-3),
        (UNIT.astype(np.float32), 1, 1e-6),
        (UNIT, 1, 1e-6),
        (TENSOR, 255, 0.5),
        ((TENSOR / 255).half(), 1, 2e-3),
        ((TENSOR / 255).bfloat16(), 1, 2e-2),
        (TENSOR / 255, 1, 1e-6),
        ((TENSOR / 255).double(), 1, 1e-6),
    ],
    ids=lambda value: str(value.dtype) if hasattr(value, "dtype") else None,
)
def test_levels_of_every_type_come_out_as_bright_as_they_went_in(
    network, expected, image, white, near
):
    large = upscale(image, network)
    assert type(large) is type(image)
    if isinstance(image, np.ndarray):
        assert large.dtype == image.dtype.newbyteorder("=")
        large = torch.from_numpy(large)
    else:
        assert large.dtype == image.dtype
        large = large.permute(1, 2, 0)
    assert large.shape == expected.shape
    # Rounded to whole levels, or to the precision of the type.
    assert float((large.double() - expected * white).abs().max()) <= near + white * 1e-5


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_shape_of_an_array_is_kept(network, channels):
    image = RGB[..., 0] if channels is None else np.dstack([RGB, RGB])[..., :channels]
    large = upscale(image, network)
    assert large.shape == (80, 96) + (() if channels is None else (channels,))
    assert abs(large.mean() - image.mean()) < 2


def test_mirrored_view_is_the_mirrored_array(network):
    assert np.array_equal(upscale(RGB[:, ::-1], network), upscale(RGB[:, ::-1].copy(), network))


def test_batches_and_single_tensors_keep_their_axes(network):
    batch = torch.stack([TENSOR, TENSOR.flip(-1)]) / 255
    large = upscale(batch, network)
    assert large.shape == (2, 3, 80, 96)
    torch.testing.assert_close(large[1], upscale(batch[1], network), rtol=0, atol=1e-5)
    assert upscale(batch[:, :1], network).shape == (2, 1, 80, 96)


def test_result_needs_no_gradient_and_may_take_part_in_training(network):
    lr = (TENSOR / 255).requires_grad_()
    large = upscale(lr, network)
    assert not large.requires_grad
    weight = torch.ones((), requires_grad=True)
    (large * weight).sum().backward()
    assert torch.is_grad_enabled()


def test_result_can_be_upscaled_again(network):
    assert upscale(upscale(UNIT, network), network).shape == (320, 384, 3)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (RGB.astype(float), "values from 0 to 255.*divide levels of 0 to 255 by 255"),
        (UNIT - 0.5, "floats are taken in"),
        (np.full((4, 4, 3), np.nan), "replace NaN"),
        (RGB.astype(np.int64), "int64, which does not say which level is white"),
        (RGB > 100, "bool, which"),
        (UNIT + 0j, "complex128, which"),
        (UNIT.astype(np.longdouble), r"float128|float64|longdouble|values"),
        (RGB[:0], "empty"),
        (RGB.transpose(2, 0, 1), r"\(3, 20, 24\); an array is \(H, W, C\)"),
        (RGB[None], r"shape \(1, 20, 24, 3\) is no image"),
        (TENSOR.float(), "divide levels"),
        (TENSOR.long(), "int64, which"),
        (TENSOR.permute(1, 2, 0), r"\(20, 24, 3\).*a tensor \(C, H, W\)"),
        (TENSOR[0], "a tensor"),
        ("photo.png", "PIL.Image.open reads a file"),
        ([[1]], "A list is no image"),
        (Image.new("F", (8, 8)), "mode 'F' does not say which level is white"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_image_is_refused_with_the_remedy(network, image, words):
    with pytest.raises(UserError, match=words):
        upscale(image, network)


# ---- PIL images ---------------------------------------------------------------------------------


def of_mode(mode: str) -> Image.Image:
    image = Image.fromarray(RGB)
    if mode == "I;16":
        return Image.fromarray(RGB[..., 0].astype(np.uint16) * 257)
    if mode in {"PA", "La", "RGBa"}:
        image = image.convert({"PA": "P", "La": "LA", "RGBa": "RGBA"}[mode])
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "result"),
    [
        *((mode, mode) for mode in ("L", "LA", "RGB", "RGBA", "I;16")),
        *((mode, "RGB") for mode in ("P", "CMYK", "YCbCr", "HSV")),
        *(("1", "L"), ("PA", "RGBA"), ("La", "LA"), ("RGBa", "RGBA")),
    ],
)
def test_mode_of_a_pil_image_is_kept(network, mode, result):
    image = of_mode(mode)
    large = upscale(image, network)
    assert (large.mode, large.size) == (result, (96, 80))
    small = np.asarray(large.resize(image.size, Image.Resampling.BOX)).astype(float)
    white = 65535 if mode == "I;16" else 255
    before = np.asarray(image if mode == result else image.convert(result))
    assert abs(small.mean() - before.mean()) < 0.1 * white


def test_pil_image_gives_what_its_pixels_give(network):
    assert np.array_equal(np.asarray(upscale(Image.fromarray(RGB), network)), upscale(RGB, network))


def test_transparent_palette_and_orientation_are_minded(network):
    palette = Image.fromarray(RGB).quantize(8)
    palette.info["transparency"] = 0
    assert upscale(palette, network).mode == "RGBA"
    turned = Image.fromarray(RGB)
    turned.getexif()[0x0112] = 6
    assert upscale(turned, network).size == (80, 96)


# ---- weights ------------------------------------------------------------------------------------


def test_weights_are_a_name_a_file_or_a_network(tmp_path, network):
    save_network(network, tmp_path / "mine.safetensors")
    by_name, by_file, by_path = (
        upscale(RGB, weights, 4, device="cpu")
        for weights in (
            "fsrcnn_x4",
            str(tmp_path / "mine.safetensors"),
            tmp_path / "mine.safetensors",
        )
    )
    for large in (by_file, by_path, upscale(RGB, network)):
        assert np.abs(large.astype(int) - by_name).max() <= 1


def test_best_weights_of_a_scale_are_the_default():
    small = RGB[:8, :8]
    assert upscale(small, device="cpu").shape == (32, 32, 3)
    assert upscale(small, scale=2, device="cpu").shape == (16, 16, 3)


def test_scale_is_what_a_network_can_do():
    assert upscale(RGB, FSRCNN(3)).shape == (60, 72, 3)


def test_network_is_used_in_evaluation_mode_and_left_as_it_was():
    network = HFDN(scale=2, channels=16, blocks=1, layers=2, growth=8, channel_attention=False)
    network.train()
    network.skip.eval()
    seen = []
    network.register_forward_hook(lambda module, *_: seen.append(module.training))
    upscale(RGB, network)
    assert set(seen) == {False}
    assert network.training
    assert not network.skip.training


def test_tiles_and_ensemble_are_the_upscalers(network):
    whole, tiled, plus = (
        upscale(UNIT, network, **way) for way in ({}, {"tile": 8}, {"ensemble": True})
    )
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    with torch.no_grad():
        answer = Upscaler(network, ensemble=True)(to_tensor(UNIT)[None], 4)[0].clamp(0, 1)
    np.testing.assert_allclose(plus, answer.permute(1, 2, 0).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("ways", "words"),
    [
        ({"weights": "fsrcnn_x4", "scale": 3}, "'fsrcnn_x4' upscale by x4, not by x3"),
        ({"weights": FSRCNN(2), "scale": 3}, "This FSRCNN upscales by x2, not by x3"),
        ({"weights": "nothing"}, "neither a weight file"),
        ({"weights": torch.nn.Linear(1, 1)}, "The weights are a Linear; .* module.network"),
        ({"weights": Bicubic(2), "device": "cpu"}, "A network is used where it is"),
        ({"scale": 0.5}, "No weights for x0.5"),
        ({"device": "warp"}, "device 'warp' is not there"),
        ({"weights": Bicubic(2), "tile": 0}, "tile of 0 pixels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-",
)
def test_weights_that_cannot_be_used_are_refused(ways, words):
    with pytest.raises(UserError, match=words):
        upscale(RGB, **ways)


def test_result_that_is_not_a_number_is_refused():
    network = FSRCNN(2, channels=8, shrunk=4, depth=1)
    torch.nn.init.constant_(next(network.parameters()), float("nan"))
    with pytest.raises(UserError, match="weights are broken"):
        upscale(RGB, network)


# ---- measuring and resizing ---------------------------------------------------------------------


def test_every_kind_of_image_is_measured_alike(tmp_path, network):
    hr = picture(2, 80, 96)
    sr = upscale(imresize(hr, 1 / 4), network)
    expected = PROTOCOLS["edsr2017"].measure(to_tensor(sr), to_tensor(hr), 4)
    write_image(tmp_path / "sr.png", sr)
    write_image(tmp_path / "hr.png", hr)
    kinds = [
        (sr, hr),
        (Image.fromarray(sr), Image.fromarray(hr)),
        (str(tmp_path / "sr.png"), tmp_path / "hr.png"),
        (sr / 255, hr.astype(np.uint16) * 257),
        (to_tensor(sr)[None], torch.from_numpy(hr).permute(2, 0, 1)),
        (np.dstack([sr, sr[..., 0]]), hr),
    ]
    for kind in kinds:
        assert measure(*kind, scale=4) == pytest.approx(expected, abs=1e-9)
    rgb = measure(sr, hr, 4, protocol="rgb", metrics=["psnr"])
    assert rgb == PROTOCOLS["rgb"].measure(to_tensor(sr), to_tensor(hr), 4, metrics=["psnr"])


def test_answer_of_a_network_is_measured_before_it_is_clamped(network):
    hr = to_tensor(picture(2, 80, 96))[None].round()
    sr = network(imresize(hr, 1 / 4).clamp(0, 1))
    assert float(sr.detach().max()) > 1.01
    expected = PROTOCOLS["dncnn2017"].measure(sr.detach(), hr, 4)
    assert measure(sr, hr, 4, "dncnn2017") == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("hr", [RGB[..., 0], RGB[..., :1], Image.fromarray(RGB[..., 0])])
def test_one_channel_is_measured_as_a_grey_file(hr):
    sr = np.clip(RGB[..., 0].astype(int) + 4, 0, 255).astype(np.uint8)
    shown = to_tensor(sr[..., None].repeat(3, axis=2)), to_tensor(RGB[..., :1].repeat(3, axis=2))
    direct, matrix = (PROTOCOLS["edsr2017"].measure(*shown, 2, grey) for grey in (True, False))
    assert measure(sr, hr, 2) == pytest.approx(direct, abs=1e-6)
    assert matrix["psnr"] - direct["psnr"] > 1


def test_hr_image_is_cropped_to_the_scale_as_benchmarks_are():
    hr = picture(3, 51, 62)
    sr = upscale(imresize(hr[:50, :62], 1 / 2), Bicubic(2), 2)
    assert measure(sr, hr, 2) == measure(sr, hr[:50, :62], 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((RGB, RGB, 4, "psnr2000"), "no protocol 'psnr2000'; choose from edsr2017"),
        ((RGB, RGB, 4, "edsr2017", ["pnsr"]), "no metric 'pnsr'; choose from psnr"),
        ((RGB[:10], RGB, 4), "SR is 24 x 10 and HR 24 x 20"),
        ((RGB[:8], RGB[:8], 4), "cannot be measured: Nothing is left"),
        ((torch.stack([TENSOR] * 2), torch.stack([TENSOR] * 2), 4), "2 images of 24 x 20"),
        (("nowhere.png", RGB, 4), "nowhere.png does not exist"),
        ((RGB, RGB.astype(float), 4), "divide levels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-",
)
def test_what_cannot_be_measured_is_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        measure(*arguments)


def test_resizing_keeps_the_kind_and_matlabs_bytes():
    expected = resize.imresize(TENSOR, 1 / 4).permute(1, 2, 0).numpy()
    assert np.array_equal(imresize(RGB, 1 / 4), expected)
    assert np.array_equal(np.asarray(imresize(Image.fromarray(RGB), 1 / 4)), expected)
    assert np.array_equal(imresize(RGB[..., 0], size=(5, 6)), expected[..., 0])
    assert torch.equal(imresize(TENSOR, 1 / 4), resize.imresize(TENSOR, 1 / 4))
    # Floats are neither rounded nor clamped.
    assert imresize(UNIT, 1 / 4).dtype == np.float64


# ---- what lies below ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lr", "words"),
    [
        (TENSOR / 255, r"\(3, 20, 24\); give \(N, 3, H, W\), a single one as lr\[None\]"),
        (TENSOR[None, :1] / 255, "a grey one as three equal channels"),
        (TENSOR[None].float(), "divide levels"),
        (TENSOR[None], r"torch.uint8; give floats in \[0, 1\], of bytes lr / 255"),
        (torch.full((1, 3, 4, 4), torch.nan), "replace NaN"),
    ],
)
def test_upscaler_refuses_what_is_no_rgb_in_the_unit_range(network, lr, words):
    with pytest.raises(UserError, match=words):
        Upscaler(network)(lr, 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("make", [FSRCNN, HFDN])
def test_precision_of_images_is_turned_into_the_networks(make, dtype):
    network = make(2).eval()
    lr = TENSOR[None] / 255
    with torch.no_grad():
        whole = Upscaler(network)(lr, 2)
        assert torch.equal(Upscaler(network)(lr.to(dtype), 2), network(lr.to(dtype).float()))
        other = Upscaler(make(2).to(dtype).eval())(lr, 2)
    assert other.shape == whole.shape


def test_upscaler_gives_gradients_where_they_are_wanted(network):
    lr = (TENSOR[None] / 255).requires_grad_()
    Upscaler(network, tile=12)(lr, 4).sum().backward()
    assert float(lr.grad.abs().min()) > 0


@pytest.mark.parametrize("scale", [2, [2, 3, 4]])
def test_scale_that_a_network_is_not_made_for_is_refused(scale):
    network = VDSR(scale, layers=2, channels=4)
    for answer in (Upscaler(network), network.upscale, network.supervised_outputs):
        with pytest.raises(ValueError, match=r"This VDSR upscales by 2.*, not by 5"):
            answer(TENSOR[None] / 255, 5)


def test_arrays_and_pixels_that_are_none_are_refused():
    for pixels in (Image.fromarray(RGB), RGB[..., 0], RGB.astype(float), RGB.astype(int)):
        with pytest.raises(UserError):
            to_tensor(pixels)
    assert torch.equal(to_tensor(UNIT.astype(np.float32)), to_tensor(RGB))
    assert torch.equal(to_tensor(RGB.astype(np.uint16) * 257), to_tensor(RGB))
    with pytest.raises(UserError, match=r"image\[0\]"):
        to_pixels(TENSOR[None] / 255)
    with pytest.raises(UserError, match="NaN"):
        to_pixels(torch.full((3, 2, 2), torch.nan))


# ---- the package --------------------------------------------------------------------------------


def test_import_of_the_package_is_instant():
    code = "import sys, sr_lightning; print({'torch', 'numpy', 'lightning'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert out.stdout.strip() == "set()"


def test_upscaling_imports_no_lightning():
    code = (
        "import sys; from sr_lightning import load, upscale, measure; load('hfdn_x4'); "
        "print({'lightning', 'torchmetrics', 'kornia', 'wandb'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert out.stdout.strip() == "set()"


def test_names_of_the_package_are_there():
    for name in sr_lightning.__all__:
        assert getattr(sr_lightning, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'upscal'"):
        _ = sr_lightning.upscal
    with pytest.raises(ImportError):
        from sr_lightning import nonsense  # noqa: F401
