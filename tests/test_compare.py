"""``sr-lightning compare``: all networks on the same photograph, measured and side by side."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import picture
from PIL import Image

from sr_lightning.cli import main
from sr_lightning.data.degradation import bicubic_up, degrade
from sr_lightning.data.images import read_rgb, to_tensor
from sr_lightning.data.sample import find_photographs
from sr_lightning.errors import UserError
from sr_lightning.inference import compare as compare_module
from sr_lightning.inference.compare import (
    ComparedPhotograph,
    Photograph,
    compare,
    photographs,
)
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.metrics.quality import psnr
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.weights.files import save_network

PROTOCOL = PROTOCOLS["edsr2017"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> list[str]:
    """Two networks whose files have the same name."""
    paths = []
    for folder, blocks in (("one", 1), ("two", 2)):
        network = HFDN(
            scale=2, channels=16, blocks=blocks, layers=2, growth=8, channel_attention=False
        )
        path = tmp_path_factory.mktemp(folder) / "small.safetensors"
        save_network(network, path)
        paths.append(str(path))
    return paths


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(picture(1, 61, 90)).save(path)
    return path


def run(*args: str) -> None:
    main(["compare", *args, "--device", "cpu"])


def test_photograph_is_measured_and_shown_by_every_network(tmp_path, photo, weights, capsys):
    out = tmp_path / "out"
    run(str(photo), "--scale", "2", "--weights", *weights, "--out", str(out))
    made = ComparedPhotograph.read(out / "photo_x2.json")
    labels = [method.label for method in made.methods]
    assert labels == ["LR", "bicubic", "small", "small 2", "HR (original)"]
    assert (made.size, made.part, made.protocol) == ((60, 90), False, "edsr2017")
    hr = to_tensor(read_rgb(photo))[None, :, :60]
    lr = degrade(hr, 2)
    a, b = PROTOCOL.prepare(bicubic_up(lr, 2), hr, 2)
    assert made.methods[1].numbers["psnr"] == pytest.approx(float(psnr(a, b)), abs=1e-4)
    assert f"{made.methods[1].numbers['psnr']:.2f}" in capsys.readouterr().out
    top, left, side = made.square
    shown = read_rgb(out / made.methods[-1].file)
    assert np.array_equal(shown, read_rgb(photo)[top : top + side, left : left + side])
    sizes = {Image.open(out / method.file).size for method in made.methods[1:]}
    assert sizes == {(side, side)}
    assert Image.open(out / made.methods[0].file).size == (side // 2, side // 2)
    assert Image.open(out / "photo_x2.png").width > 3 * 256


def test_region_is_the_one_that_was_asked_for(tmp_path, photo):
    compare(Photograph("p", photo), {}, 2, PROTOCOL, tmp_path, region=(40, 20, 24))
    made = ComparedPhotograph.read(tmp_path / "photo_x2.json")
    assert made.square == (20, 40, 24)
    # Corners go to whole LR pixels.
    compare(Photograph("p", photo), {}, 3, PROTOCOL, tmp_path, region=(40, 20, 24))
    assert ComparedPhotograph.read(tmp_path / "photo_x3.json").square == (21, 39, 24)


def test_large_photographs_are_measured_in_part(tmp_path, photo, monkeypatch):
    monkeypatch.setattr(compare_module, "_LARGEST", 40)
    region = (60, 30, 16)
    compare(Photograph("p", photo), {}, 2, PROTOCOL, tmp_path, region=region)
    made = ComparedPhotograph.read(tmp_path / "photo_x2.json")
    assert (made.size, made.part) == ((40, 40), True)
    shown = read_rgb(tmp_path / made.methods[-1].file)
    assert np.array_equal(shown, read_rgb(photo)[30:46, 60:76])


def test_grey_and_real_scales_are_measured_too(tmp_path):
    path = tmp_path / "grey.png"
    Image.fromarray(picture(2, 50, 64)[..., 0]).save(path)
    compare(Photograph("g", path), {}, 1.7, PROTOCOL, tmp_path)
    made = ComparedPhotograph.read(tmp_path / "grey_x1.7.json")
    hr = to_tensor(read_rgb(path))[None, :, : made.size[0], : made.size[1]]
    a, b = PROTOCOL.prepare(bicubic_up(degrade(hr, 1.7), 1.7), hr, 1.7, grey=True)
    assert made.methods[1].numbers["psnr"] == pytest.approx(float(psnr(a, b)), abs=1e-4)


def test_one_image_of_each_set_is_compared_where_the_sets_are(tmp_path):
    folder = tmp_path / "benchmarks" / "Set5" / "HR"
    folder.mkdir(parents=True)
    for name in ("baby", "butterfly"):
        Image.fromarray(picture(3, 8, 8)).save(folder / f"{name}.png")
    (found,) = photographs(root=tmp_path)
    assert (found.title, found.path.name) == ("Set5 butterfly", "butterfly.png")


def test_bundled_photographs_are_compared_where_no_sets_are(tmp_path):
    pytest.importorskip("skimage")
    found = [photograph.path for photograph in photographs(root=tmp_path)]
    trained = find_photographs("sample-train").files
    assert found
    assert not {*found} & {*trained}


def test_one_bad_file_does_not_stop_the_others(tmp_path, photo, weights, capsys):
    Image.fromarray(picture(4, 12, 12)).save(tmp_path / "tiny.png")
    with pytest.raises(SystemExit) as stopped:
        run(str(tmp_path), "--scale", "2", "--weights", weights[0], "--out", str(tmp_path / "out"))
    assert stopped.value.code == 2
    assert "tiny.png is 12 x 12, too small to be measured at x2" in capsys.readouterr().err
    assert (tmp_path / "out" / "photo_x2.png").is_file()


def test_two_images_of_one_name_do_not_replace_each_other(tmp_path, photo, weights, capsys):
    other = tmp_path / "other" / "photo.png"
    other.parent.mkdir()
    Image.fromarray(picture(5, 60, 60)).save(other)
    with pytest.raises(SystemExit):
        run(
            *(str(photo), str(other), "--scale", "2", "--weights", weights[0]),
            *("--out", str(tmp_path / "out")),
        )
    assert "photo.png was left out" in capsys.readouterr().err
    assert ComparedPhotograph.read(tmp_path / "out" / "photo_x2.json").size == (60, 90)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--weights", "nothing"], "neither a weight file, nor the folder"),
        (["--scale", "0.5"], "No weights for x0.5 come with this version"),
        (["--region", "80", "0", "20"], "20 does not lie in"),
    ],
)
def test_mistakes_are_said_in_one_sentence(tmp_path, photo, weights, capsys, extra, words):
    given = extra if "--weights" in extra or "--scale" in extra else ["--weights", weights[0]]
    rest = [] if given is extra else ["--scale", "2", *extra]
    with pytest.raises(SystemExit) as stopped:
        run(str(photo), *given, *rest, "--out", str(tmp_path / "out"))
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_damaged_numbers_are_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"title": "a"}')
    with pytest.raises(UserError, match="run 'sr-lightning compare' again"):
        ComparedPhotograph.read(tmp_path / "a.json")
