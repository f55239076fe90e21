"""``sr-lightning upscale``: from a photograph of any kind to a larger one of the same kind."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import picture
from PIL import Image

from sr_lightning.cli import main
from sr_lightning.data.images import read_picture
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.weights.files import save_network


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
    assert stopped.value.code == 2
    assert "bad.png is empty" in capsys.readouterr().err
    assert (tmp_path / "good_x2.png").is_file()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--weights", "nothing"], "neither a weight file, nor the folder"),
        (["--scale", "0.5"], "No weights for x0.5 come with this version"),
        (["--device", "warp"], "device 'warp' is not there"),
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
        main(["upscale", str(tmp_path / "a.png"), "--weights", str(name), "--device", "cpu"])
        upscaled.append((tmp_path / "a_x4.png").read_bytes())
    assert upscaled[0] == upscaled[1] == upscaled[2]
    with pytest.raises(SystemExit):
        upscale(str(tmp_path / "a.png"), "--weights", str(tmp_path))
    assert "holds no run (no config.yaml)" in capsys.readouterr().err


def test_wrong_scale_for_the_weights_is_refused(tmp_path, weights, capsys):
    Image.fromarray(picture(5, 10, 10)).save(tmp_path / "a.png")
    with pytest.raises(SystemExit):
        main(["upscale", str(tmp_path / "a.png"), "--scale", "3", "--weights", weights])
    assert "upscale by x2, not by x3" in capsys.readouterr().err
