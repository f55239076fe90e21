"""``sr-lightning serve``: what comes in stays within bounds, and nothing else of the machine."""

from __future__ import annotations

import io
import json
import shutil
import socket
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import pyvips
from conftest import ROOT, picture
from PIL import Image

from sr_lightning.cli import main
from sr_lightning.data.images import read_photo
from sr_lightning.errors import UserError
from sr_lightning.inference.serve import Uploads
from sr_lightning.papers.hfdn import HFDN
from sr_lightning.weights.files import save_network

API = "/gradio_api"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    network = HFDN(scale=2, channels=4, blocks=1, layers=1, growth=2, channel_attention=False)
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    save_network(network, path)
    return str(path)


@pytest.fixture
def uploads(tmp_path, weights) -> Uploads:
    return Uploads(tmp_path, [weights], pixels=10**4)


def written(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


def coded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int, depth: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    size = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    row = zlib.compress(bytes(1 + width * 3 * depth // 8))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", row) + chunk(b"IEND", b"")


SMALL = Image.fromarray(picture(1, 24, 40))
HOSTILE = {
    "page.png": (b"<html><script>alert(1)</script></html>", "damaged or not an image"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "damaged or not an image"),
    "notes.txt": (b"hello", "damaged or not an image"),
    "empty.png": (b"", "is empty"),
    "cut.jpg": (coded(SMALL, "JPEG")[:500], "truncated"),
    "program.png": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        "PostScript",
    ),
    "huge.png": (png_header(100_000, 100_000, 8), "too large"),
    "bomb.png": (png_header(9000, 9000, 8), "9000 x 9000 pixels, more than 0.01 megapixels"),
    "deep bomb.png": (png_header(9000, 9000, 16), "9000 x 9000 pixels, more than 0.01 megapixels"),
    "moving.gif": (
        coded(SMALL, "GIF", save_all=True, append_images=[SMALL.rotate(9)]),
        "2 frames",
    ),
    "clear.png": (coded(Image.new("RGBA", (8, 8))), "cannot hold transparency"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_photograph_is_refused_in_a_sentence_without_its_place(uploads, name):
    content, reason = HOSTILE[name]
    given = written(uploads.folder, name, content)
    with pytest.raises(UserError, match=reason) as refused:
        uploads.upscale(given, "mine.safetensors", 2, "jpg" if name == "clear.png" else "png", "a")
    assert str(uploads.folder) not in str(refused.value)
    uploads.end("a")
    assert list(uploads.folder.iterdir()) == []


def test_sixteen_bits_come_out_and_the_slider_shows_the_same_part_twice(uploads):
    deep = pyvips.Image.new_from_array(picture(2, 60, 90).astype(np.uint16) * 257)
    content = deep.copy(interpretation="rgb16").pngsave_buffer()
    done: list[float] = []
    given = written(uploads.folder, "my photo (1).png", content)
    shown, made, said = uploads.upscale(given, "mine.safetensors", 3.5, "png", done=done.append)
    assert made.name == "my_photo_1__x3.5.png"
    photo = read_photo(made)
    assert (photo.pixels.dtype, photo.pixels.shape) == (np.uint16, (210, 315, 3))
    assert said.startswith("90 x 60 to 315 x 210 in ")
    assert done[-1] == 1
    before, after = (read_photo(path).pixels.astype(float) for path in shown)
    assert before.shape == after.shape == (210, 315, 3)
    # A network that has learnt nothing starts as bicubic interpolation.
    assert np.abs(before - after).mean() < 0.02 * 65535


def test_slider_shows_the_middle_of_what_is_larger_than_screens(uploads):
    wide = np.zeros((4, 900, 3), np.uint8)
    wide[:, 449:451] = 255
    given = written(uploads.folder, "wide.png", coded(Image.fromarray(wide)))
    shown, made, said = uploads.upscale(given, "mine.safetensors", 2, "png")
    assert "the slider shows the middle" in said
    assert Image.open(made).size == (1800, 8)
    for path in shown:
        columns = read_photo(path).pixels[..., 0].mean(axis=0)
        assert columns.size == 1600
        assert 798 <= columns.argmax() <= 801


def test_files_go_when_their_session_does_or_another_photograph_comes(uploads):
    first, second = (
        written(uploads.folder, f"{name}.png", coded(SMALL)) for name in ("first", "second")
    )
    _, made, _ = uploads.upscale(first, "mine.safetensors", 2, "png", "a")
    _, again, _ = uploads.upscale(first, "mine.safetensors", 2, "tif", "a")
    assert not made.exists()
    uploads.upscale(second, "mine.safetensors", 2, "png", "b")
    uploads.end("a")
    assert not again.exists()
    assert not Path(first).exists()
    assert Path(second).exists()
    uploads.end("b")
    assert list(uploads.folder.iterdir()) == []


def test_time_is_limited_and_leaving_stops(uploads):
    given = written(uploads.folder, "slow.png", coded(SMALL))
    uploads.seconds = -1
    with pytest.raises(UserError, match="takes longer than"):
        uploads.upscale(given, "mine.safetensors", 2, "png")
    uploads.seconds, uploads.is_stopped = 60, lambda: True
    with pytest.raises(UserError, match="Stopped"):
        uploads.upscale(given, "mine.safetensors", 2, "png")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "/etc/passwd"}, "no longer here"),
        ({"name": "http://127.0.0.1/a.png"}, "no longer here"),
        ({"name": "a\0b"}, "no longer here"),
        ({"scale": 400.0}, "from 1 to 4"),
        ({"scale": float("nan")}, "from 1 to 4"),
        ({"suffix": "png/../../x.png"}, "a listed format"),
        ({"weights": "/etc/passwd"}, "no weights '/etc/passwd'"),
    ],
)
def test_what_the_page_does_not_offer_is_refused(uploads, change, reason):
    given = written(uploads.folder, "photo.png", coded(SMALL))
    asked = {"name": given, "weights": "mine.safetensors", "scale": 2.0, "suffix": "png"}
    with pytest.raises(UserError, match=reason):
        uploads.upscale(**{**asked, **change})


@pytest.fixture(scope="module")
def client(tmp_path_factory, weights):
    pytest.importorskip("gradio")
    from fastapi.testclient import TestClient

    from sr_lightning.inference.page import page_of

    uploads = Uploads(tmp_path_factory.mktemp("served"), [weights], pixels=10**4)
    with TestClient(page_of(uploads), base_url="http://127.0.0.1") as client:
        yield client


def asked(path: str, **changed) -> dict:
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    return {
        "data": [file, "mine.safetensors", 2, "png"],
        "fn_index": 0,
        "session_hash": "abc",
        **changed,
    }


def uploaded(client, name: str, content: bytes) -> str:
    return client.post(f"{API}/upload", files={"files": (name, content)}).json()[0]


def answered(client, path: str) -> list:
    assert client.post(f"{API}/queue/join", json=asked(path)).status_code == 200
    answer = client.get(f"{API}/queue/data", params={"session_hash": "abc"})
    messages = [json.loads(line[5:]) for line in answer.text.splitlines() if line[:5] == "data:"]
    (output,) = (m["output"] for m in messages if m["msg"] == "process_completed")
    return output["data"]


def test_page_upscales_and_gives_the_result_and_lives_on_after_what_is_none(client):
    page = client.get("/")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    bad = uploaded(client, "../../evil.png", b"no image")
    assert Path(bad).name == "evil.png"
    assert answered(client, bad)[2] == (
        "The file evil.png is damaged or not an image; fetch it again or remove it."
    )
    shown, download, said = answered(client, uploaded(client, "photo.png", coded(SMALL)))
    assert said.startswith("40 x 24 to 80 x 48 in ")
    assert len(shown) == 2
    made = client.get(f"{API}/file={download['value']['path']}")
    assert Image.open(io.BytesIO(made.content)).size == (80, 48)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/file=/etc/passwd", 403),
        ("/file=%2e%2e/%2e%2e/etc/passwd", 403),
        ("/file=/proc/self/environ", 403),
        ("/file=http://127.0.0.1/", 403),
        ("/file=%00", 403),
        ("/proxy=http://127.0.0.1/", 404),
        ("/info", 404),
        ("/openapi.json", 404),
        ("/queue/status", 404),
        ("/run-history/buckets", 404),
    ],
)
def test_nothing_of_the_machine_is_given_away(client, path, status):
    assert client.get(f"{API}{path}").status_code == status


@pytest.mark.parametrize(
    "data",
    [
        [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "usual", 2, "png"],
        [{"path": "http://127.0.0.1/", "meta": {"_type": "gradio.FileData"}}, "usual", 2, "png"],
        [None, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, 2, "png"],
        [
            {"path": "IN", "x": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}},
            "",
            2,
            "",
        ],
        [],
        None,
    ],
)
def test_no_request_makes_the_server_fetch_a_file_or_an_address(client, data):
    inside = uploaded(client, "photo.png", coded(SMALL))
    if data and data[0] and data[0]["path"] == "IN":
        data[0]["path"] = inside
    folder = Path(inside).parent.parent
    before = set(folder.rglob("*"))
    assert client.post(f"{API}/queue/join", json=asked("", data=data)).status_code == 400
    assert set(folder.rglob("*")) == before


def test_other_pages_names_and_sizes_are_refused(client):
    join = f"{API}/queue/join"
    assert client.get("/", headers={"host": "rebound.example"}).status_code == 403
    assert client.post(join, headers={"origin": "http://other.example"}).status_code == 403
    assert client.post(join, content=b" " * 10**5).status_code == 413
    assert client.post(join, content=iter([b"{}"])).status_code == 413
    assert client.post(f"{API}/upload", content=b" " * 10**6).status_code == 413
    assert client.post(f"{API}/call/upscale", json={"data": []}).status_code == 404


def test_without_gradio_a_sentence_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(SystemExit, match="2"):
        main(["serve"])
    assert "pip install 'sr-lightning[serve]'" in capsys.readouterr().err


def test_busy_port_and_odd_options_are_said(monkeypatch, capsys):
    pytest.importorskip("gradio")
    with socket.create_server(("127.0.0.1", 0)) as busy:
        for options, reason in (
            (["--port", str(busy.getsockname()[1])], "name another --port"),
            (["--port", "99999"], "name another --port"),
            (["--host", "256.0.0.1", "--port", "0"], "Cannot listen at 256.0.0.1"),
            (["--minutes", "0"], "more than 0"),
            (["--weights", "nothing"], "neither a weight file"),
        ):
            with pytest.raises(SystemExit, match="2"):
                main(["serve", *options])
            assert reason in capsys.readouterr().err


def test_who_may_come_is_said(monkeypatch, capsys):
    pytest.importorskip("gradio")
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    main(["serve", "--port", "0"])
    assert "http://127.0.0.1:" in (alone := capsys.readouterr().out)
    assert "password" not in alone
    main(["serve", "--host", "0.0.0.0", "--port", "0"])
    assert "it has no password" in capsys.readouterr().out


@pytest.mark.slow
def test_page_in_a_browser_asks_no_other_machine_and_ctrl_c_ends_quietly(tmp_path):
    pytest.importorskip("gradio")
    playwright = pytest.importorskip("playwright.sync_api")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    photo = tmp_path / "photo.png"
    SMALL.save(photo)
    command = [sys.executable, "-m", "sr_lightning", "serve", "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as server:
        try:
            address = server.stdout.readline().split()[0]
            requests, failures = [], []
            with playwright.sync_playwright() as play:
                chromium = play.chromium.launch(
                    executable_path=browser, args=["--no-sandbox", "--disable-gpu"]
                )
                page = chromium.new_page()
                page.on("request", lambda request: requests.append(request.url))
                page.on("pageerror", lambda error: failures.append(error))
                page.goto(address, wait_until="domcontentloaded")
                page.locator("input[type=file]").first.set_input_files(photo)
                page.get_by_text("photo", exact=True).first.wait_for()
                page.get_by_role("button", name="Upscale").click()
                result = page.get_by_label("Result")
                until = time.monotonic() + 120
                while not result.input_value() and time.monotonic() < until:
                    time.sleep(0.2)
                assert result.input_value().startswith("40 x 24 to 160 x 96 in ")
                with page.expect_download() as download:
                    page.get_by_text("Download", exact=True).click()
                assert Image.open(download.value.path()).size == (160, 96)
                assert download.value.suggested_filename == "photo_x4.png"
                server.send_signal(2)
                _, errors = server.communicate(timeout=60)
                chromium.close()
        finally:
            server.kill()
    assert (server.returncode, errors) == (0, "")
    assert failures == []
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
