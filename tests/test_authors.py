"""Released files come by name from a server, whatever it does, and are then as any weights."""

from __future__ import annotations

import hashlib
import json

import pytest
from PIL import Image
from test_prepare import Server
from test_release_maps import edsr, written

from sr_lightning import load
from sr_lightning.cli import main
from sr_lightning.data import download
from sr_lightning.errors import UserError
from sr_lightning.inference import weights_cli
from sr_lightning.inference.weights_eval import measured
from sr_lightning.weights import authors
from sr_lightning.weights.authors import ReleasedFile, find_released, released_files

# Before any test replaces them.
REAL = released_files()
assert weights_cli


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    return tmp_path / "data" / "sr-lightning" / "weights"


@pytest.fixture
def server(tmp_path):
    running = Server(tmp_path / "www")
    yield running
    running.close()


@pytest.fixture
def content(server, tmp_path):
    """A released file on the server."""
    written(edsr, 2, server.folder / "tiny.pt")
    return (server.folder / "tiny.pt").read_bytes()


@pytest.fixture
def offer(server, content, monkeypatch):
    """Makes a file known by name, at addresses of the server."""

    def make(*homes, **facts):
        known = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
            "source": "a test",
            **facts,
        }
        homes = tuple(f"{server.url}/{home}" for home in homes or ("tiny.pt",))
        released = ReleasedFile("tiny", homes=homes, arch="edsr", protocol="edsr2017", **known)
        monkeypatch.setattr(authors, "released_files", lambda: [released])
        return released

    return make


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def get(*options):
    main(["weights", "get", "tiny@authors", *map(str, options)])


def error_of(capsys, *options):
    with pytest.raises(SystemExit) as stopped:
        get(*options)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_a_file_is_fetched_converted_and_used_by_its_name(
    offer, home, capsys, tmp_path, test_folder
):
    offer()
    get()
    said = capsys.readouterr().out
    assert "Downloading tiny.pt from 127.0.0.1" in said
    assert "tiny@authors: EDSR x2" in said
    assert "licence: MIT" in said
    assert names_in(home) == ["tiny.json", "tiny.safetensors"]
    record = json.loads((home / "tiny.json").read_text())
    assert (record["licence"], record["source"]) == ("MIT", "tiny.pt")
    assert load("tiny@authors").scale == 2
    Image.new("RGB", (9, 7)).save(tmp_path / "a.png")
    main(["upscale", str(tmp_path / "a.png"), "--weights", "tiny@authors"])
    assert Image.open(tmp_path / "a_x2.png").size == (18, 14)
    (found,) = measured("tiny@authors", sets=[str(test_folder)])
    assert (found.weights, found.scale) == ("tiny@authors", 2)


def test_a_name_without_authors_will_do_and_a_second_time_asks_nobody(offer, server, home):
    offer()
    main(["weights", "get", "tiny"])
    server.requests.clear()
    get()
    assert server.requests == []


def test_an_interrupted_transfer_is_taken_up(offer, server, home):
    offer()
    server.break_after = 1000
    get()
    assert [wanted for _, wanted in server.requests] == [None, "bytes=1000-"]
    assert load("tiny@authors").scale == 2


def test_a_transfer_that_stays_interrupted_goes_on_in_the_next_run(offer, server, home, capsys):
    offer()
    server.break_after, server.breaks = 1000, 1
    server.folder.joinpath("tiny.pt").rename(server.folder / "kept")
    server.folder.joinpath("kept").rename(server.folder / "tiny.pt")
    part = home / "tiny.download" / "tiny.pt.part"
    part.parent.mkdir(parents=True)
    part.write_bytes((server.folder / "tiny.pt").read_bytes()[:700])
    server.break_after, server.breaks = 0, 99
    said = error_of(capsys)
    assert "700 bytes of tiny.pt are kept" in said
    server.breaks = 0
    server.requests.clear()
    get()
    assert server.requests == [("/tiny.pt", "bytes=700-")]
    assert names_in(home) == ["tiny.json", "tiny.safetensors"]


def test_a_server_without_ranges_sends_it_again(offer, server, home):
    offer()
    server.ranges, server.break_after = False, 1000
    get()
    assert load("tiny@authors").scale == 2


def test_a_mirror_is_asked_where_the_first_home_has_nothing(offer, server, home, capsys):
    offer("gone.pt", "tiny.pt")
    get()
    assert [path for path, _ in server.requests] == ["/gone.pt", "/tiny.pt"]
    assert load("tiny@authors").scale == 2


def test_a_mirror_is_asked_where_the_first_home_has_another_file(offer, server, home, content):
    (server.folder / "other.pt").write_bytes(bytes(len(content)))
    offer("other.pt", "tiny.pt")
    get()
    assert load("tiny@authors").scale == 2


def test_what_one_server_began_and_another_ended_is_fetched_anew(offer, server, home, content):
    offer()
    part = home / "tiny.download" / "tiny.pt.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"\0" * 500)
    get()
    assert [wanted for _, wanted in server.requests] == ["bytes=500-", None]
    assert load("tiny@authors").scale == 2


def test_redirects_are_followed(offer, server, home, monkeypatch):
    answer = server.answer

    def redirect(request):
        if request.path == "/moved.pt":
            request.send_response(302)
            request.send_header("Location", f"{server.url}/tiny.pt")
            request.end_headers()
        else:
            answer(request)

    monkeypatch.setattr(server, "answer", redirect)
    offer("moved.pt")
    get()
    assert load("tiny@authors").scale == 2


@pytest.mark.parametrize("sized", [True, False], ids=["known size", "rough size"])
@pytest.mark.parametrize("told", [True, False], ids=["length told", "length not told"])
def test_a_body_without_end_is_cut_off(offer, server, home, content, sized, told, monkeypatch):
    sent = []

    def endless(request):
        request.send_response(200)
        if told:
            request.send_header("Content-Length", str(10**12))
        request.end_headers()
        try:
            while len(sent) < 10_000:
                request.wfile.write(bytes(1 << 16))
                sent.append(1)
        except OSError:
            pass

    monkeypatch.setattr(server, "answer", endless)
    facts = {"size": None, "about": len(content)} if not sized else {}
    offer(**facts)
    with pytest.raises(UserError, match=r"127\.0\.0\.1:\d+ sends more for tiny\.pt than the"):
        authors.get(find_released("tiny@authors"), authors.Console())
    assert len(sent) < 1000
    assert list(home.iterdir()) == []


def test_a_wrong_checksum_is_refused_with_how_to_go_on(offer, home, capsys):
    released = offer(sha256="0" * 64)
    said = error_of(capsys)
    assert "is not the published file (sha256" in said
    assert f"download {released.urls[0]} elsewhere" in said
    assert "sr-lightning weights get tiny@authors --from FILE" in said
    assert list(home.iterdir()) == []


def test_without_a_connection_one_sentence_says_what_was_tried(offer, home, capsys, server):
    offer()
    server.http.server_close()
    server.http.shutdown()
    said = error_of(capsys)
    assert said.count("\n") == 1
    assert "tiny@authors could not be fetched: 127.0.0.1" in said
    assert "cannot be reached (Connection refused)" in said
    assert "--from FILE" in said


def test_a_file_that_came_by_hand_is_checked_and_taken(offer, home, server, tmp_path, capsys):
    offer()
    (tmp_path / "wrong.pt").write_bytes(b"wrong")
    said = error_of(capsys, "--from", tmp_path / "wrong.pt")
    assert "wrong.pt is not the file that was released as tiny" in said
    (tmp_path / "by hand.pt").write_bytes((server.folder / "tiny.pt").read_bytes())
    get("--from", tmp_path / "by hand.pt")
    assert server.requests == []
    assert (tmp_path / "by hand.pt").is_file()
    assert load("tiny@authors").scale == 2


def test_a_name_that_is_not_here_or_not_known_says_so(offer, home):
    offer()
    with pytest.raises(UserError, match="not here yet; fetch it: sr-lightning weights get tiny@"):
        load("tiny@authors")
    with pytest.raises(UserError, match="No released file 'vgg@authors' is known; there are tiny@"):
        load("vgg@authors")


def test_a_family_names_its_members():
    with pytest.raises(UserError, match=r"there are imdn_x2@authors, imdn_x4@authors\."):
        find_released("imdn@authors")


def test_a_changed_file_is_noticed(offer, home):
    offer()
    get()
    with (home / "tiny.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"tiny\.safetensors is damaged .*weights get tiny@authors"):
        load("tiny@authors")


def test_the_list_has_ours_and_theirs_for_people_and_machines(home, capsys, tmp_path):
    main(["weights", "list", "--json", str(tmp_path / "l.json"), "--csv", str(tmp_path / "l.csv")])
    said = capsys.readouterr().out
    rows = {row["weights"]: row for row in json.loads((tmp_path / "l.json").read_text())}
    for name in ("hfdn_x4", "lesrcnn_x4@authors", "edsr_baseline_x4@authors"):
        assert name in said
        assert name in (tmp_path / "l.csv").read_text()
    assert rows["hfdn_x4"]["here"]
    theirs = rows["lesrcnn_x4@authors"]
    assert not theirs["here"]
    assert theirs["printed_under"] == "lesrcnn2020"
    assert theirs["x4"] == pytest.approx(31.88, abs=0.1)


def test_addresses_are_of_the_branch_and_of_the_commit():
    released = next(one for one in REAL if one.name == "imdn_x4")
    assert released.urls[0] == (
        "https://raw.githubusercontent.com/Zheng222/IMDN/HEAD/checkpoints/IMDN_x4.pth"
    )
    assert len(released.urls) == 3
