"""The image reader: every kind of file a user has, and one clear sentence for the broken ones."""

from __future__ import annotations

import os
import struct
import sys
import zlib

import numpy as np
import pytest
import pyvips
import tifffile
import torch
from conftest import picture
from PIL import Image, ImageOps

from sr_lightning.data.images import (
    find_images,
    read_photo,
    read_picture,
    read_rgb,
    to_pixels,
    to_tensor,
    write_image,
)
from sr_lightning.errors import UserError

RGB = picture(1, 20, 30)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_lossless_formats_come_back_as_written(tmp_path, suffix):
    write_image(tmp_path / f"a{suffix}", RGB)
    assert np.array_equal(read_rgb(tmp_path / f"a{suffix}"), RGB)


def test_jpeg_is_close(tmp_path):
    write_image(tmp_path / "a.jpg", np.full((16, 16, 3), 120, np.uint8))
    assert np.abs(read_rgb(tmp_path / "a.jpg").astype(int) - 120).max() <= 2


def test_grey_becomes_three_equal_channels_and_is_marked(tmp_path):
    Image.fromarray(RGB[..., 0]).save(tmp_path / "g.png")
    read = read_picture(tmp_path / "g.png")
    assert read.grey
    assert all(np.array_equal(read.rgb[..., c], RGB[..., 0]) for c in range(3))


def test_grey_stored_as_rgb_is_not_marked_grey(tmp_path):
    Image.fromarray(np.repeat(RGB[..., :1], 3, axis=2)).save(tmp_path / "g.png")
    assert not read_picture(tmp_path / "g.png").grey


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_kept_apart(tmp_path, mode):
    alpha = RGB[..., 1]
    bands = [RGB[..., 0]] if mode == "LA" else [RGB[..., c] for c in range(3)]
    Image.fromarray(np.stack([*bands, alpha], axis=-1), mode).save(tmp_path / "a.png")
    read = read_picture(tmp_path / "a.png")
    assert np.array_equal(read.alpha, alpha)
    assert np.array_equal(read.rgb[..., 0], RGB[..., 0])
    assert read.grey == (mode == "LA")


def test_palette_with_transparency(tmp_path):
    image = Image.fromarray(RGB).quantize(8)
    image.save(tmp_path / "p.png", transparency=0)
    read = read_picture(tmp_path / "p.png")
    assert read.rgb.shape == RGB.shape
    assert read.alpha is not None


def test_sixteen_bit_grey_is_rounded_to_eight(tmp_path):
    wide = np.array([[0, 257, 128, 129, 65535]], dtype=np.uint16)
    Image.fromarray(wide).save(tmp_path / "w.png")
    assert read_rgb(tmp_path / "w.png")[0, :, 0].tolist() == [0, 1, 0, 1, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_exif_orientation_is_applied(tmp_path, orientation, deep):
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = Image.fromarray(RGB[..., 0])
    shown.getexif()[0x0112] = orientation
    shown = np.asarray(ImageOps.exif_transpose(shown))
    stored = RGB[..., 0].astype(np.uint16) * 257 if deep else RGB[..., 0]
    Image.fromarray(stored).save(tmp_path / "e.png", exif=exif)
    photo = read_photo(tmp_path / "e.png")
    assert photo.pixels.dtype == stored.dtype
    assert np.array_equal(photo.picture.rgb[..., 0], shown)
    assert b"\x01\x12" not in photo.metadata.get("exif-data", b"")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("white", [1.0, 255.0])
def test_one_outlier_does_not_turn_a_float_image_black(tmp_path, channels, white):
    real = (RGB[..., :channels] / 255 * white).astype(np.float32)
    real[0, 0], real[1, 1], real[2, 2] = 1e6, np.nan, -np.inf
    float_tiff(tmp_path / "f.tif", real)
    read = read_picture(tmp_path / "f.tif")
    assert read.grey == (channels == 1)
    assert np.array_equal(read.rgb[3:, :, :channels], RGB[3:, :, :channels])
    assert read.rgb[0, 0].tolist() == [255] * 3
    assert read.rgb[1, 1].tolist() == read.rgb[2, 2].tolist() == [0] * 3


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ((RGB[..., :1] / 127.5 - 1).astype(np.float32), "do not say what is black and white"),
        (RGB[..., :1].astype(np.int32) * 1000, "do not say which is white"),
        (np.dstack([RGB, RGB[..., :2]]), "holds 5 channels"),
    ],
    ids=["signed floats", "wide integers", "five channels"],
)
def test_levels_that_do_not_say_what_is_white_are_refused(tmp_path, levels, words):
    float_tiff(tmp_path / "f.tif", levels)
    with pytest.raises(UserError, match=words):
        read_picture(tmp_path / "f.tif")


def float_tiff(path, levels: np.ndarray) -> None:
    flat = np.ascontiguousarray(levels)
    pyvips.Image.new_from_array(flat).copy(
        interpretation="srgb" if levels.shape[2] == 3 else "b-w"
    ).tiffsave(str(path))


def test_sixteen_bit_colours_are_read_whole_and_rounded_to_eight(tmp_path):
    deep = RGB.astype(np.uint16) * 257
    deep[0, 0] = (127, 128, 129)
    image = pyvips.Image.new_from_array(np.dstack([deep, deep[..., :1]]))
    image.copy(interpretation="rgb16").pngsave(str(tmp_path / "d.png"))
    photo = read_photo(tmp_path / "d.png")
    assert np.array_equal(photo.pixels[..., :3], deep)
    assert photo.transparent
    assert photo.picture.rgb[0, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("head", "package"),
    [(b"\0\0\0\x18ftypheic\0\0\0\0", "pillow-heif"), (b"\xff\x0a", "pillow-jxl-plugin")],
)
def test_format_of_a_plugin_says_what_to_install(tmp_path, monkeypatch, head, package):
    monkeypatch.setitem(sys.modules, package.removesuffix("-plugin").replace("-", "_"), None)
    (tmp_path / "photo.bin").write_bytes(head + b"\0" * 64)
    with pytest.raises(UserError, match=f"'pip install {package}'"):
        read_picture(tmp_path / "photo.bin")


def test_cmyk_and_one_bit_are_read(tmp_path):
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "c.jpg")
    Image.fromarray(RGB).convert("1").save(tmp_path / "b.png")
    assert read_rgb(tmp_path / "c.jpg").shape == RGB.shape
    assert set(np.unique(read_rgb(tmp_path / "b.png"))) <= {0, 255}


@pytest.mark.parametrize(
    ("content", "word"), [(b"", "empty"), (b"not an image at all", "damaged or not an image")]
)
def test_unreadable_file_is_named(tmp_path, content, word):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=word) as error:
        read_rgb(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_truncated_file_is_named(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    write_image(path, picture(2, 64, 64))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"truncated|damaged") as error:
        read_rgb(path)
    assert str(path) in str(error.value)


def header_of_png(path, width, height, bits, colour):
    """A PNG file that ends where its levels begin."""
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"PLTE", bytes(6))][: 2 if colour == 3 else 1]
    chunks += [(b"IDAT", zlib.compress(bytes(1000)))]
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        checked = struct.pack(">I", zlib.crc32(name + data))
        content += struct.pack(">I", len(data)) + name + data + checked
    path.write_bytes(content)


@pytest.mark.parametrize("side", [12_000, 100_000])
@pytest.mark.parametrize(
    ("bits", "colour"),
    [(1, 0), (8, 0), (16, 0), (8, 4), (16, 4), (1, 3), (8, 2), (16, 2), (16, 6)],
    ids=["1 bit", "L", "L16", "LA", "LA16", "palette", "RGB", "RGB16", "RGBA16"],
)
def test_a_small_file_of_a_huge_image_is_refused_by_its_header(tmp_path, bits, colour, side):
    path = tmp_path / "bomb.png"
    header_of_png(path, side, side, bits, colour)
    with pytest.raises(UserError, match=r"bomb\.png .*(would be unpacked to|is too large)"):
        read_photo(path)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_so_is_a_packed_tiff(tmp_path, kind, channels):
    path = tmp_path / "bomb.tif"
    blank = np.zeros((5000, 5000) if channels == 1 else (5000, 5000, channels), kind)
    photometric = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(path, np.repeat(blank, 3, 1), compression="zlib", photometric=photometric)
    with pytest.raises(UserError, match=r"bomb\.tif has .* but would be unpacked to"):
        read_photo(path)


def test_a_large_drawing_of_one_colour_is_no_bomb(tmp_path):
    Image.new("L", (8000, 8000), 255).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png").pixels.shape == (8000, 8000, 1)


def test_what_would_run_a_program_is_not_opened(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png is PostScript, which is a program"):
        read_photo(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["pipe", "device", "broken link"])
def test_a_pipe_is_not_waited_for_and_a_broken_link_not_left_out(tmp_path, kind):
    path = tmp_path / "x.png"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to(
        "/dev/zero" if kind == "device" else "nowhere"
    )
    with pytest.raises(UserError, match=r"x\.png (is a pipe or a device|does not exist)"):
        read_photo(path)
    with pytest.raises(UserError, match=r"x\.png is a broken link, a pipe or a device"):
        find_images(tmp_path)


def test_a_folder_with_the_name_of_an_image_is_none(tmp_path):
    (tmp_path / "x.png").mkdir()
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert [path.name for path in find_images(tmp_path)] == ["a.png"]


def test_missing_file_folder_and_empty_folder_are_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.png does not exist"):
        read_rgb(tmp_path / "none.png")
    with pytest.raises(UserError, match="is a folder"):
        read_rgb(tmp_path)
    with pytest.raises(UserError, match="holds no image"):
        find_images(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        find_images(tmp_path / "nowhere")


def test_images_are_listed_in_natural_order_without_hidden_files(tmp_path):
    for name in ("img10.png", "img2.png", "img1.PNG", ".hidden.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in find_images(tmp_path)] == ["img1.PNG", "img2.png", "img10.png"]


def test_pixels_round_half_up_and_clamp():
    values = torch.tensor([-1.0, 0.5 / 255, 1.5 / 255, 254.6 / 255, 2.0], dtype=torch.float64)
    pixels = to_pixels(values.reshape(1, 1, 5).expand(3, 1, 5))
    assert pixels[0, :, 0].tolist() == [0, 1, 2, 255, 255]


def test_eight_bit_levels_survive_the_float_round_trip():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    assert np.array_equal(to_pixels(to_tensor(levels)), levels)


def test_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(UserError, match="Cannot write"):
        write_image(tmp_path / "a.gif", RGB)
