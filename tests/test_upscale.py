"""``sr-lightning upscale``: from a photograph of any kind to a larger one of the same kind."""

from __future__ import annotations

import io
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, picture
from PIL import Image, ImageCms

from sr_lightning.cli import main
from sr_lightning.data.images import Photo, read_photo, read_picture
from sr_lightning.data.photo_writer import write_photo
from sr_lightning.data.resize import imresize
from sr_lightning.errors import UserError
from sr_lightning.inference.outputs import shown
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.weights.files import save_network
from sr_lightning.weights.zoo import choose_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    network = HFDN(scale=2, channels=16, blocks=1, layers=2, growth=8, channel_attention=False)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_network(network, path)
    return str(path)


def upscale(*args: str) -> None:
    main(["upscale", *args, "--scale", "2", "--device", "cpu"])


def test_photograph_is_upscaled_beside_itself(tmp_path, weights, capsys):
    Image.fromarray(picture(1, 20, 30)).save(tmp_path / "photo.jpg")
    upscale(str(tmp_path / "photo.jpg"), "--weights", weights)
    assert read_picture(tmp_path / "photo_x2.png").rgb.shape == (40, 60, 3)
    assert "photo_x2.png" in capsys.readouterr().out


def test_grey_and_transparency_are_kept(tmp_path, weights):
    pixels = picture(2, 16, 16)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([pixels, pixels[..., :1]])).save(tmp_path / "alpha.png")
    upscale(str(tmp_path), "--weights", weights, "--out", str(tmp_path / "out"))
    assert Image.open(tmp_path / "out" / "grey_x2.png").mode == "L"
    upscaled = read_picture(tmp_path / "out" / "alpha_x2.png")
    assert upscaled.alpha is not None
    assert abs(upscaled.alpha.mean() - pixels[..., 0].mean()) < 2


def test_tiles_and_named_output_give_the_same_picture(tmp_path, weights):
    Image.fromarray(picture(3, 40, 50)).save(tmp_path / "a.png")
    upscale(str(tmp_path / "a.png"), "--weights", weights, "--out", str(tmp_path / "whole.png"))
    upscale(
        *(str(tmp_path / "a.png"), "--weights", weights, "--tile", "16"),
        *("--out", str(tmp_path / "tiled.png")),
    )
    whole, tiled = (read_picture(tmp_path / f"{n}.png").rgb.astype(int) for n in ("whole", "tiled"))
    assert np.abs(whole - tiled).max() <= 1


def test_one_bad_file_does_not_stop_the_others(tmp_path, weights, capsys):
    (tmp_path / "bad.png").write_bytes(b"")
    Image.fromarray(picture(4, 10, 10)).save(tmp_path / "good.png")
    with pytest.raises(SystemExit) as stopped:
        upscale(str(tmp_path), "--weights", weights)
    assert stopped.value.code == 1
    assert "bad.png is empty" in capsys.readouterr().err
    assert (tmp_path / "good_x2.png").is_file()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--weights", "nothing"], "neither a weight file, nor the folder"),
        (["--scale", "0.5"], "A scale of 0.5 does not upscale"),
        (["--size", "big"], "--size is width x height"),
        (["--out", "a.gif"], "use one of .jpg, .png, .tif, .webp"),
        (["--device", "warp"], "device 'warp' is not there"),
        (["--device", "meta"], "device 'meta' is not there"),
    ],
)
def test_mistakes_are_said_in_one_sentence(tmp_path, capsys, extra, words):
    Image.fromarray(picture(5, 10, 10)).save(tmp_path / "a.png")
    with pytest.raises(SystemExit) as stopped:
        main(["upscale", str(tmp_path / "a.png"), *extra])
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_scale_is_what_the_weights_can_do(tmp_path, weights):
    Image.fromarray(picture(5, 10, 12)).save(tmp_path / "a.png")
    main(["upscale", str(tmp_path / "a.png"), "--weights", weights, "--device", "cpu"])
    assert Image.open(tmp_path / "a_x2.png").size == (24, 20)


def test_folder_of_a_run_stands_for_its_best_weights(tmp_path, finished_run, capsys):
    Image.fromarray(picture(5, 10, 12)).save(tmp_path / "a.png")
    best = next((finished_run / "checkpoints").glob("best_*.ckpt"))
    upscaled = []
    # A run, the experiment that it is of, and the file itself.
    for name in (finished_run, finished_run.parent, best):
        args = [str(tmp_path / "a.png"), "--weights", str(name), "--device", "cpu"]
        main(["upscale", *args, "--overwrite"])
        upscaled.append((tmp_path / "a_x4.png").read_bytes())
    assert upscaled[0] == upscaled[1] == upscaled[2]
    with pytest.raises(SystemExit):
        upscale(str(tmp_path / "a.png"), "--weights", str(tmp_path))
    assert "holds no run (no config.yaml)" in capsys.readouterr().err


def test_scale_that_the_weights_lack_is_made_by_passes_and_one_resize(tmp_path, weights, capsys):
    Image.fromarray(picture(5, 10, 14)).save(tmp_path / "a.png")
    args = ["upscale", str(tmp_path / "a.png"), "--weights", weights]
    for option, name, size, how in (
        (["--scale", "3"], "a_x3.png", (42, 30), "x2, x2, then bicubic"),
        (["--scale", "1.5"], "a_x1.5.png", (21, 15), "x2, then bicubic"),
        (["--scale", "2.1"], "a_x2.1.png", (29, 21), "x2, then bicubic"),
        (["--scale", "4"], "a_x4.png", (56, 40), "by x2, x2)"),
        (["--size", "28x20"], "a_28x20.png", (28, 20), "by x2)"),
        (["--fit", "37"], "a_fit37.png", (37, 26), "x2, x2, then bicubic"),
    ):
        main([*args, *option])
        assert Image.open(tmp_path / name).size == size
        assert how in capsys.readouterr().out


@pytest.mark.parametrize("option", [["--size", "40x20"], ["--fit", "8"]])
def test_size_that_does_not_suit_the_image_is_refused(tmp_path, weights, capsys, option):
    Image.fromarray(picture(5, 10, 14)).save(tmp_path / "a.png")
    with pytest.raises(SystemExit) as stopped:
        main(["upscale", str(tmp_path / "a.png"), "--weights", weights, *option])
    assert stopped.value.code == 1
    assert "The image is 14 x 10" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 1


def test_last_resize_is_matlabs_bicubic(tmp_path):
    large = picture(6, 48, 64)
    write_photo(tmp_path / "a.png", [large[:20], large[20:]], Photo(large), (48, 64), (36, 40))
    expected = imresize(torch.from_numpy(large).permute(2, 0, 1), size=(36, 40))
    made = read_picture(tmp_path / "a.png").rgb.astype(int)
    assert np.abs(made - expected.permute(1, 2, 0).numpy()).max() <= 1


# ---- nothing is lost ----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_profile_description_and_resolution_are_kept(tmp_path, weights, suffix):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    kept = {"exif": exif, "icc_profile": profile, "xmp": xmp, "dpi": (300, 300)}
    Image.fromarray(picture(1, 12, 16)).save(tmp_path / "a.jpg", **kept)
    upscale(str(tmp_path / "a.jpg"), "--weights", weights, "--out", str(tmp_path / f"b{suffix}"))
    made = Image.open(tmp_path / f"b{suffix}")
    made.load()
    assert made.size == (24, 32)
    assert made.info["icc_profile"] == profile
    assert b'tiff:Orientation="1"' in read_photo(tmp_path / f"b{suffix}").metadata["xmp-data"]
    assert made.getexif().get(0x0112, 1) == 1
    if suffix != ".tif":  # libvips writes no EXIF there.
        assert made.getexif()[0x010F] == "Maker"
        assert made.getexif().get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
    if suffix != ".webp":
        assert made.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_stay_sixteen(tmp_path, weights, channels, suffix):
    levels = np.linspace(0, 65535, 16 * 12 * channels).reshape(12, 16, channels).astype(np.uint16)
    write_photo(tmp_path / f"a{suffix}", [levels], Photo(levels), (12, 16))
    assert np.array_equal(read_photo(tmp_path / f"a{suffix}").pixels, levels)
    upscale(
        *(str(tmp_path / f"a{suffix}"), "--weights", weights),
        *("--out", str(tmp_path / f"b{suffix}")),
    )
    made = read_photo(tmp_path / f"b{suffix}").pixels
    assert (made.dtype, made.shape) == (np.uint16, (24, 32, channels))
    assert len(np.unique(made)) > 300


def test_disc_on_hidden_black_gets_no_fringe(tmp_path):
    y, x = np.mgrid[:48, :48]
    disc = (((y - 24) ** 2 + (x - 24) ** 2) < 15**2).astype(np.uint8) * 255
    Image.fromarray(np.dstack([disc] * 4)).save(tmp_path / "disc.png")
    for option in (["--scale", "4"], ["--scale", "3"]):
        main(["upscale", str(tmp_path / "disc.png"), "--weights", "fsrcnn_x4", *option])
        made = np.asarray(Image.open(tmp_path / f"disc_x{option[1]}.png"))
        assert made[..., :3][made[..., 3] > 0].min() >= 250
        assert 0 < (made[..., 3] == 0).mean() < 1


def test_palette_with_transparency_and_cmyk_are_converted(tmp_path, weights, capsys):
    Image.fromarray(picture(1, 12, 16)).quantize(8).save(tmp_path / "p.png", transparency=0)
    Image.fromarray(picture(1, 12, 16)).convert("CMYK").save(tmp_path / "c.jpg")
    upscale(str(tmp_path), "--weights", weights)
    assert Image.open(tmp_path / "p_x2.png").mode == "RGBA"
    assert Image.open(tmp_path / "c_x2.png").mode == "RGB"
    assert "CMYK became RGB" in capsys.readouterr().out


def test_animation_and_transparency_in_jpeg_are_refused(tmp_path, weights, capsys):
    frames = [Image.fromarray(picture(seed, 12, 16)) for seed in range(3)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    frames[0].convert("RGBA").save(tmp_path / "t.png")
    for name, words in (("a.webp", "has 3 frames"), ("t.png", "cannot hold transparency")):
        with pytest.raises(SystemExit) as stopped:
            upscale(str(tmp_path / name), "--weights", weights, "--out", str(tmp_path / "o.jpg"))
        assert stopped.value.code == 1
        assert words in capsys.readouterr().err
    assert not (tmp_path / "o.jpg").exists()


# ---- names --------------------------------------------------------------------------------------


def test_images_of_one_name_do_not_overwrite_each_other(tmp_path, weights):
    for name in ("a.jpg", "a.png", "b.png"):
        Image.fromarray(picture(1, 8, 8)).save(tmp_path / name)
    upscale(str(tmp_path), "--weights", weights)
    made = {path.name for path in tmp_path.iterdir()} - {"a.jpg", "a.png", "b.png"}
    assert made == {"a.jpg_x2.png", "a.png_x2.png", "b_x2.png"}


def test_second_run_takes_neither_results_nor_their_place(tmp_path, weights, capsys):
    Image.fromarray(picture(1, 8, 8)).save(tmp_path / "a.png")
    upscale(str(tmp_path), "--weights", weights)
    first = (tmp_path / "a_x2.png").read_bytes()
    with pytest.raises(SystemExit) as stopped:
        upscale(str(tmp_path), "--weights", weights)
    assert stopped.value.code == 2
    assert "a_x2.png exist already; give --overwrite" in capsys.readouterr().err
    Image.fromarray(picture(2, 8, 8)).save(tmp_path / "a.png")
    Image.fromarray(picture(2, 8, 8)).save(tmp_path / "b.png")
    upscale(str(tmp_path), "--weights", weights, "--skip-existing")
    assert (tmp_path / "a_x2.png").read_bytes() == first
    upscale(str(tmp_path), "--weights", weights, "--overwrite")
    assert (tmp_path / "a_x2.png").read_bytes() != first
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("a.png", "a_x2.png", "b.png", "b_x2.png")
    ]


def test_original_is_never_overwritten(tmp_path, weights, capsys):
    Image.fromarray(picture(1, 8, 8)).save(tmp_path / "a.png")
    with pytest.raises(SystemExit) as stopped:
        upscale(
            *(str(tmp_path / "a.png"), "--weights", weights, "--overwrite"),
            *("--out", str(tmp_path / "a.png")),
        )
    assert stopped.value.code == 2
    assert "is an image to upscale" in capsys.readouterr().err


def test_tree_of_folders_is_kept(tmp_path, weights):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/a.png"):
        Image.fromarray(picture(1, 8, 8)).save(tmp_path / "in" / name)
    out = tmp_path / "out"
    upscale(str(tmp_path / "in"), "--weights", weights, "--recursive", "--out", str(out))
    made = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
    assert made == ["a_x2.png", str(Path("deep") / "a_x2.png")]


@pytest.mark.parametrize(
    "name", ["[bold]a[b].png", "new\nline.png", os.fsdecode(b"caf\xe9.png"), "a [Q=3].png"]
)
def test_names_of_any_characters_are_kept_and_printed(tmp_path, weights, capsys, name):
    Image.fromarray(picture(1, 8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / name)
    upscale(str(tmp_path), "--weights", weights)
    assert (tmp_path / f"{Path(name).stem}_x2.png").is_file()
    assert f"{shown(tmp_path / name)} -> " in capsys.readouterr().out


def test_image_goes_through_pipes(tmp_path, weights):
    Image.fromarray(picture(1, 8, 8)).save(tmp_path / "a.png")
    command = [sys.executable, "-m", "sr_lightning", "upscale", "-", "--weights", weights]
    given = (tmp_path / "a.png").read_bytes()
    made = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, check=True)
    assert Image.open(io.BytesIO(made.stdout)).size == (16, 16)
    assert b"HFDN" in made.stderr


def test_strips_of_any_height_become_the_image(tmp_path):
    whole = picture(1, 210, 24)
    strips = [whole[:1], whole[1:150], whole[150:151], whole[151:]]
    write_photo(tmp_path / "a.png", strips, Photo(whole), (210, 24))
    assert np.array_equal(read_photo(tmp_path / "a.png").pixels, whole)


def test_nothing_is_left_where_writing_fails(tmp_path):
    def broken():
        yield picture(1, 4, 8)
        raise UserError("The network broke.")

    with pytest.raises(UserError, match="The network broke"):
        write_photo(tmp_path / "a.png", broken(), Photo(picture(1, 8, 8)), (8, 8))
    assert list(tmp_path.iterdir()) == []


# ---- which weights ------------------------------------------------------------------------------


def test_default_weights_are_good_over_many_images_and_not_the_slowest():
    for scale in (2, 3, 4, 2.7):
        (usual, why), (best, _), (quick, _) = (
            choose_weights(scale, quality) for quality in ("usual", "best", "quick")
        )
        whole = min(4, math.ceil(scale))
        assert "over 119 images" in why
        assert best.mean_psnr(whole) - usual.mean_psnr(whole) <= 0.05
        seconds = [record.seconds[f"x{whole}"] for record in (quick, usual, best)]
        assert seconds == sorted(seconds)


def test_choice_of_weights_is_said(tmp_path, capsys):
    Image.fromarray(picture(5, 10, 12)).save(tmp_path / "a.jpg")
    main(["upscale", str(tmp_path / "a.jpg"), "--quick", "--device", "cpu"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"({choose_weights(4, 'quick')[0].name})" in said
    assert "over 119 images" in said
    assert "noise into texture" in said


def test_a_pipe_is_no_photograph_and_is_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "a.png")
    signal.alarm(60)
    try:
        with pytest.raises(SystemExit) as end:
            main(["upscale", str(tmp_path / "a.png"), "--weights", "fsrcnn_x4"])
    finally:
        signal.alarm(0)
    assert end.value.code != 0
    assert "is a pipe or a device" in capsys.readouterr().err
