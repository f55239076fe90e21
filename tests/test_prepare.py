"""Image sets are downloaded or adopted, checked, and never half there."""

from __future__ import annotations

import errno
import hashlib
import http.server
import io
import os
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import picture
from PIL import Image

from sr_lightning import cli
from sr_lightning.data import archives, download, integrity, prepare
from sr_lightning.data import catalog as catalog_module
from sr_lightning.data.catalog import Archive, SetFacts
from sr_lightning.data.integrity import measure
from sr_lightning.data.prepare import main
from sr_lightning.errors import StoppedError, UserError

NAMES = ("ant", "bee", "cow")
EXIT_BY_CHECK = 1


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(download, "_PAUSE", 0.0)


# ---- sets to prepare -----------------------------------------------------------------------------


@pytest.fixture
def animals(tmp_path) -> Path:
    """The true images of the set "Animals"."""
    folder = tmp_path / "originals" / "animals"
    folder.mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        Image.fromarray(picture(seed, 40, 48)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def sets(animals, monkeypatch) -> dict[str, SetFacts]:
    """A catalog of two sets: animals, whose pixels are recorded, and plants, which are counted."""
    facts = {
        "animals": SetFacts(
            "Animals",
            "benchmark",
            3,
            ("benchmarks/Animals/HR",),
            layouts=({"Animals/HR": ""}, {"Animals": ""}),
            by_hand="ask the keeper",
            licence="open",
        ),
        "plants": SetFacts(
            "Plants",
            "train",
            4,
            ("train/Plants",),
            layouts=({"images/train": "train_", "images/test": "test_"},),
            exclude=("train_weed",),
        ),
    }
    for module in (catalog_module, prepare):
        monkeypatch.setattr(module, "catalog", lambda: facts)
    recorded = {one.name: one.written() for one in measure(sorted(animals.iterdir()))}
    monkeypatch.setattr(integrity, "_recorded", lambda: {"Animals": recorded})
    return facts


@pytest.fixture
def root(tmp_path, sets) -> Path:
    return tmp_path / "data"


def target(root: Path) -> Path:
    return root / "benchmarks" / "Animals" / "HR"


def names_in(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def run(root: Path, *argv: str | Path) -> None:
    main([*map(str, argv), "--data-root", str(root)])


def zipped(path: Path, files: dict[str, Path | bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content if isinstance(content, bytes) else content.read_bytes())
    return path


def everything(folder: Path) -> dict[str, bytes]:
    files = (one for one in folder.rglob("*") if one.is_file())
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in files}


# ---- adopting ------------------------------------------------------------------------------------


def test_a_folder_is_adopted_by_hard_links_and_left_alone(root, animals, capsys):
    before = everything(animals)
    run(root, "animals", "--from", animals)
    assert names_in(target(root)) == ["ant.png", "bee.png", "cow.png"]
    assert (target(root) / "ant.png").samefile(animals / "ant.png")
    assert everything(animals) == before
    assert "3 of 3 images are the reference pixels" in capsys.readouterr().out


def test_copies_are_made_on_request(root, animals):
    run(root, "animals", "--from", animals, "--copy")
    assert not (target(root) / "ant.png").samefile(animals / "ant.png")
    assert everything(target(root)) == everything(animals)


def test_copies_are_made_where_links_are_impossible(root, animals, monkeypatch):
    def refuse(*_args, **_options):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    run(root, "animals", "--from", animals)
    assert everything(target(root)) == everything(animals)


def test_a_second_run_changes_nothing(root, animals, capsys):
    run(root, "animals", "--from", animals)
    before = everything(root)
    run(root, "animals")
    assert everything(root) == before
    assert "already there" in capsys.readouterr().out


@pytest.mark.parametrize("inside", ["", "Animals", "benchmark/Animals/HR", "x/y/whatever"])
def test_the_set_is_found_somewhere_inside_a_folder(root, animals, tmp_path, inside):
    home = tmp_path / "downloads"
    shutil.copytree(animals, home / inside)
    (home / "notes.txt").write_text("nothing")
    (home / "LR").mkdir(exist_ok=True)
    Image.fromarray(picture(0, 8, 8)).save(home / "LR" / "ant.png")
    run(root, "animals", "--from", home)
    assert names_in(target(root)) == ["ant.png", "bee.png", "cow.png"]


def test_the_images_of_a_set_are_picked_out_of_a_mixed_folder(root, animals):
    Image.fromarray(picture(9, 20, 20)).save(animals / "holiday.png")
    run(root, "animals", "--from", animals)
    assert names_in(target(root)) == ["ant.png", "bee.png", "cow.png"]


def test_a_zip_archive_is_adopted_and_kept(root, animals, tmp_path):
    files = {f"stuff/Animals/HR/{one.name}": one for one in animals.iterdir()}
    archive = zipped(tmp_path / "a.zip", {**files, "stuff/Animals/LR/x2/ant.png": b"low"})
    run(root, "animals", "--from", archive)
    assert everything(target(root)) == everything(animals)
    assert archive.is_file()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_archive_is_adopted(root, animals, tmp_path, mode):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, mode) as tar:
        tar.add(animals, "Animals")
    run(root, "animals", "--from", archive)
    assert everything(target(root)) == everything(animals)


def test_images_are_recognised_under_other_names_and_formats(root, animals, tmp_path):
    home = tmp_path / "renamed"
    home.mkdir()
    for number, file in enumerate(sorted(animals.iterdir())):
        Image.open(file).save(home / f"img_{number}.bmp")
    run(root, "animals", "--from", home)
    assert names_in(target(root)) == ["img_0.bmp", "img_1.bmp", "img_2.bmp"]


def test_several_folders_are_merged_with_prefixes_and_without_excluded_images(root, tmp_path):
    home = tmp_path / "garden" / "images"
    for part, names in (("train", ("oak", "elm", "weed")), ("test", ("oak", "ash"))):
        (home / part).mkdir(parents=True)
        for seed, name in enumerate(names):
            Image.fromarray(picture(seed, 20, 20)).save(home / part / f"{name}.png")
    # The excluded image has its name before it gets the prefix.
    (home / "train" / "weed.png").rename(home / "train" / "train_weed.png")
    run(root, "plants", "--from", home.parent)
    assert names_in(root / "train" / "Plants") == [
        *("test_ash.png", "test_oak.png", "train_elm.png", "train_oak.png")
    ]


def test_no_file_is_written_outside_the_set(root, animals, tmp_path):
    files = {f"../../Animals/{one.name}": one for one in animals.iterdir()}
    evil = {f"{tmp_path}/evil.png": b"evil", "../../Animals/evil.sh": b"evil"}
    archive = zipped(tmp_path / "a.zip", {**evil, **files, "..\\..\\evil.png": b"evil"})
    before = {*everything(tmp_path)}
    run(root, "animals", "--from", archive)
    placed = {f"data/benchmarks/Animals/HR/{name}.png" for name in NAMES}
    assert {*everything(tmp_path)} == before | placed


def test_links_inside_an_archive_are_not_followed(root, animals, tmp_path):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(animals / "ant.png", "Animals/ant.png")
        tar.add(animals / "bee.png", "Animals/bee.png")
        link = tarfile.TarInfo("Animals/cow.png")
        link.type, link.linkname = tarfile.SYMTYPE, str(animals / "cow.png")
        tar.addfile(link)
    with pytest.raises(UserError, match="1 image missing: cow"):
        run(root, "animals", "--from", archive)


def test_system_files_inside_an_archive_are_ignored(root, animals, tmp_path):
    files = {f"Animals/img_{one.name}": one for one in animals.iterdir()}
    junk = {"__MACOSX/Animals/._img_ant.png": b"x", "Animals/._img_ant.png": b"x"}
    run(root, "animals", "--from", zipped(tmp_path / "a.zip", {**files, **junk}))
    assert names_in(target(root)) == ["img_ant.png", "img_bee.png", "img_cow.png"]


# ---- refusing ------------------------------------------------------------------------------------


def test_an_incomplete_set_is_refused_and_nothing_is_left(root, animals):
    (animals / "bee.png").unlink()
    with pytest.raises(UserError, match=r"1 image missing: bee.*Nothing was changed"):
        run(root, "animals", "--from", animals)
    assert not everything(root)
    assert not list(root.rglob(".*part"))


def test_a_folder_without_the_set_says_what_was_looked_for(root, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"looks like Animals \(looked for Animals/HR"):
        run(root, "animals", "--from", tmp_path / "empty")


def test_a_missing_path_is_refused(root, tmp_path):
    with pytest.raises(UserError, match="no folder or archive"):
        run(root, "animals", "--from", tmp_path / "nothing.zip")


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz", "html"])
def test_a_damaged_archive_is_named_and_kept(root, animals, tmp_path, kind):
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        zipped(archive, {f"Animals/{one.name}": one for one in animals.iterdir()})
        content = bytearray(archive.read_bytes())
        # Inside the first image, where only its checksum can tell.
        content[200] ^= 0xFF
    elif kind == "html":
        content = bytearray(b"<html>not found</html>")
    else:
        with tarfile.open(archive, "w:gz" if kind == "tgz" else "w") as tar:
            tar.add(animals, "Animals")
        content = bytearray(archive.read_bytes()[: archive.stat().st_size // 2])
    archive.write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.{kind} is (damaged|not a zip)"):
        run(root, "animals", "--from", archive)
    assert archive.is_file()
    assert not everything(root)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_that_would_be_unpacked_without_bound_is_refused(root, tmp_path, kind):
    source = tmp_path / f"bomb.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("Animals/ant.png", bytes(50_000_000))
    else:
        with tarfile.open(source, "w:gz") as archive:
            entry = tarfile.TarInfo("Animals/ant.png")
            entry.size = 50_000_000
            archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    with pytest.raises(UserError, match=r"ant\.png' would be unpacked to 50 MB"):
        run(root, "animals", "--from", source)
    assert not target(root).exists()


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_so_is_one_whose_images_are_too_much_together(root, tmp_path, kind):
    source = tmp_path / f"bomb.{kind}"
    blank, names = bytes(900_000), [f"Animals/{place}.png" for place in range(20)]
    if kind == "zip":
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, blank)
    else:
        with tarfile.open(source, "w:gz") as archive:
            for name in names:
                entry = tarfile.TarInfo(name)
                entry.size = len(blank)
                archive.addfile(entry, io.BytesIO(blank))
    with pytest.raises(UserError, match="It would be unpacked to"):
        run(root, "animals", "--from", source)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_device_is_not_waited_for(root, tmp_path, kind):
    source = tmp_path / "it"
    os.mkfifo(source) if kind == "pipe" else source.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="is a pipe or a device"):
        run(root, "animals", "--from", source)


def test_an_encrypted_archive_is_refused(root, animals, tmp_path, monkeypatch):
    def locked(*_args, **_options):
        raise RuntimeError("File is encrypted, password required for extraction")

    archive = zipped(tmp_path / "a.zip", {f"Animals/{one.name}": one for one in animals.iterdir()})
    monkeypatch.setattr(zipfile.ZipFile, "open", locked)
    with pytest.raises(UserError, match="password"):
        run(root, "animals", "--from", archive)


def test_a_set_that_is_there_but_wrong_is_not_touched(root, animals):
    run(root, "animals", "--from", animals)
    (target(root) / "bee.png").unlink()
    before = everything(root)
    with pytest.raises(UserError, match=r"1 image missing: bee.*Move that folder away"):
        run(root, "animals", "--from", animals)
    assert everything(root) == before


def test_files_in_the_place_of_a_set_are_not_touched(root, animals):
    target(root).mkdir(parents=True)
    (target(root) / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="move it away"):
        run(root, "animals", "--from", animals)
    assert everything(target(root)) == {"mine.txt": b"mine"}


def test_a_full_disk_is_told_with_its_remedy(root, animals, tmp_path, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(root / "ant.png"))

    archive = zipped(tmp_path / "a.zip", {f"Animals/{one.name}": one for one in animals.iterdir()})
    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    with pytest.raises(UserError, match=r"Cannot write .*No space left.*--data-root"):
        run(root, "animals", "--from", archive)
    assert not everything(root)


def test_an_unknown_set_is_refused_with_the_known_ones(root):
    with pytest.raises(UserError, match=r"'minerals' is not a known image set; .*Animals"):
        run(root, "minerals")


def test_a_set_without_download_says_how_to_get_it(root):
    with pytest.raises(UserError, match=r"ask the keeper.*prepare animals --from PATH"):
        run(root, "animals")


def test_a_source_without_a_set_to_take_is_refused(root, animals):
    with pytest.raises(UserError, match="Name the sets"):
        run(root, "--from", animals)


def test_the_other_sets_are_prepared_when_one_fails(root, animals):
    with pytest.raises(UserError, match="Plants"):
        run(root, "plants", "animals", "--from", animals)
    assert len(names_in(target(root))) == 3


# ---- downloading ---------------------------------------------------------------------------------


class Server:
    """A web server of one folder, on a thread, that can be made to misbehave."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.ranges = True
        self.break_after: int | None = None
        self.breaks = 1
        self.requests: list[tuple[str, str | None]] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.requests.append((request.path, wanted))
        path = self.folder / request.path.strip("/")
        if not path.is_file():
            request.send_error(404)
            return
        content = path.read_bytes()
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start >= len(content):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(content)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        rest = content[start:]
        if self.break_after is not None and self.breaks > 0:
            self.breaks -= 1
            rest = rest[: self.break_after]
        request.wfile.write(rest)

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    running = Server(tmp_path / "www")
    yield running
    running.close()


@pytest.fixture
def archive(server, animals, sets) -> Archive:
    """An archive of animals on the server, which the catalog knows."""
    files = {f"Animals/{one.name}": one for one in animals.iterdir()}
    path = zipped(server.folder / "animals.zip", files)
    return offer(sets, server, path.read_bytes())


def offer(sets: dict[str, SetFacts], server: Server, content: bytes, **facts: object) -> Archive:
    known: dict[str, object] = {
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": hashlib.md5(content).hexdigest(),
    }
    archive = Archive("animals.zip", f"{server.url}/animals.zip", **{**known, **facts})  # type: ignore[arg-type]
    sets["animals"] = replace(sets["animals"], archives=(archive,))
    return archive


def part_of(root: Path) -> Path:
    return root / "downloads" / "animals.zip.part"


def test_a_set_is_downloaded_checked_and_cleaned_up(root, server, archive, animals, capsys):
    run(root, "animals")
    assert everything(target(root)) == everything(animals)
    assert not (root / "downloads").exists()
    told = capsys.readouterr().out
    assert "Downloading animals.zip from 127.0.0.1" in told
    assert "3 of 3 images are the reference pixels" in told


def test_a_broken_connection_is_taken_up_where_it_broke(root, server, archive, animals):
    server.break_after = 1000
    run(root, "animals")
    assert everything(target(root)) == everything(animals)
    assert [wanted for _, wanted in server.requests] == [None, "bytes=1000-"]


def test_a_download_goes_on_in_the_next_run(root, server, archive, animals):
    server.break_after, server.breaks = 0, 99
    part_of(root).parent.mkdir(parents=True)
    part_of(root).write_bytes((server.folder / "animals.zip").read_bytes()[:700])
    with pytest.raises(UserError, match=r"broke off.*700 bytes of animals.zip are kept"):
        run(root, "animals")
    server.breaks = 0
    server.requests.clear()
    run(root, "animals")
    assert everything(target(root)) == everything(animals)
    assert server.requests == [("/animals.zip", "bytes=700-")]


def test_a_server_without_range_is_asked_for_the_whole_file_again(root, server, archive, animals):
    server.ranges = False
    server.break_after = 1000
    run(root, "animals")
    assert everything(target(root)) == everything(animals)


def test_a_server_that_never_gets_further_is_given_up(root, server, archive):
    server.ranges = False
    server.break_after, server.breaks = 1000, 99
    with pytest.raises(UserError, match="broke off"):
        run(root, "animals")
    assert len(server.requests) == 4


def test_a_complete_part_of_unknown_size_is_recognised(root, server, sets, archive, animals):
    content = (server.folder / "animals.zip").read_bytes()
    offer(sets, server, content, size=None)
    part_of(root).parent.mkdir(parents=True)
    part_of(root).write_bytes(content)
    run(root, "animals")
    assert everything(target(root)) == everything(animals)
    assert len(server.requests) == 1


def test_a_part_longer_than_the_file_is_fetched_afresh(root, server, sets, archive, animals):
    content = (server.folder / "animals.zip").read_bytes()
    offer(sets, server, content, size=None)
    part_of(root).parent.mkdir(parents=True)
    part_of(root).write_bytes(content + b"more")
    run(root, "animals")
    assert everything(target(root)) == everything(animals)


@pytest.mark.parametrize("method", ["sha256", "md5"])
def test_a_wrong_checksum_is_refused_and_the_file_removed(root, server, sets, archive, method):
    content = (server.folder / "animals.zip").read_bytes()
    offer(sets, server, content, **{method: "0" * 32})
    with pytest.raises(UserError, match=rf"not the published file \({method}"):
        run(root, "animals")
    assert not everything(root)


def test_a_missing_file_is_told_with_its_address_and_the_remedy(root, server, archive):
    (server.folder / "animals.zip").unlink()
    told = rf"HTTP 404.*download {archive.url} in a browser.*prepare animals --from PATH"
    with pytest.raises(UserError, match=told):
        run(root, "animals")


def test_no_network_is_told_with_the_remedy(root, sets):
    nowhere = Archive("animals.zip", "http://127.0.0.1:9/animals.zip")
    sets["animals"] = replace(sets["animals"], archives=(nowhere,))
    with pytest.raises(UserError, match=r"127.0.0.1:9 cannot be reached.*in a browser"):
        run(root, "animals")


def test_the_next_source_is_tried_when_the_first_fails(root, server, sets, archive, animals):
    gone = Archive("gone.zip", f"{server.url}/gone.zip")
    sets["animals"] = replace(sets["animals"], archives=(gone, archive))
    run(root, "animals")
    assert everything(target(root)) == everything(animals)


def test_a_page_in_place_of_an_archive_is_not_kept(root, server, sets):
    page = b"<html>log in first</html>"
    (server.folder / "animals.zip").write_bytes(page)
    offer(sets, server, page, size=None, sha256=None, md5=None)
    with pytest.raises(UserError, match="not a zip or tar archive"):
        run(root, "animals")
    assert not everything(root)


def test_a_file_larger_than_the_disk_is_not_begun(root, server, archive, monkeypatch):
    usage = shutil.disk_usage(root.parent)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"needs .* more in .*only 1.0 kB are free"):
        run(root, "animals")
    assert not everything(root)


def test_an_archive_is_kept_while_another_set_waits_for_it(root, server, sets, archive, capsys):
    sets["plants"] = replace(sets["plants"], archives=(archive,))
    run(root, "animals")
    assert names_in(root / "downloads") == ["animals.zip"]
    assert "is kept for Plants" in capsys.readouterr().out


def test_interrupting_keeps_the_part_and_says_so(root, server, archive, monkeypatch):
    def stop(_seconds: float) -> None:
        raise KeyboardInterrupt

    server.break_after = 1000
    monkeypatch.setattr(download.time, "sleep", stop)
    with pytest.raises(StoppedError, match="the same command goes on"):
        run(root, "animals")
    assert part_of(root).stat().st_size == 1000


# ---- looking -------------------------------------------------------------------------------------


def test_the_list_shows_what_is_here_and_how_to_get_the_rest(root, animals, capsys):
    run(root, "animals", "--from", animals)
    capsys.readouterr()
    for argv in (["--list"], []):
        run(root, *argv)
        lines = capsys.readouterr().out.splitlines()
        (here,) = [line for line in lines if line.startswith("Animals")]
        assert "3 of 3" in here
        assert "open" in here
        (gone,) = [line for line in lines if line.startswith("Plants")]
        assert "by hand" in gone


def test_checking_is_quiet_about_a_good_set_and_changes_nothing(root, animals, capsys):
    run(root, "animals", "--from", animals)
    before = everything(root)
    run(root, "--check")
    assert "Animals: 3 of 3 images are the reference pixels" in capsys.readouterr().out
    assert everything(root) == before


def test_checking_names_what_is_wrong_and_fails(root, animals, capsys):
    run(root, "animals", "--from", animals)
    (target(root) / "cow.png").unlink()
    with pytest.raises(SystemExit) as ended:
        run(root, "--check", "animals")
    assert ended.value.code == EXIT_BY_CHECK
    assert "WRONG: 1 image missing: cow" in capsys.readouterr().out


def test_checking_a_set_that_is_not_here_fails(root, capsys):
    with pytest.raises(SystemExit) as ended:
        run(root, "--check", "animals")
    assert ended.value.code == EXIT_BY_CHECK
    assert "Animals is expected in" in capsys.readouterr().out


def test_checking_an_empty_data_root_says_so(root):
    with pytest.raises(UserError, match="no image set"):
        run(root, "--check")


def leafy(root: Path, *pictures: np.ndarray) -> None:
    folder = root / "train" / "Plants"
    folder.mkdir(parents=True)
    for number, image in enumerate(pictures):
        Image.fromarray(image).save(folder / f"{number}.png")


def test_near_duplicates_between_the_sets_here_are_found(root, animals, capsys):
    run(root, "animals", "--from", animals)
    large = Image.fromarray(picture(1, 40, 48)).resize((96, 80), Image.Resampling.BICUBIC)
    leafy(root, picture(50, 40, 48), np.asarray(large))
    with pytest.raises(SystemExit) as ended:
        run(root, "--leaks")
    assert ended.value.code == EXIT_BY_CHECK
    told = capsys.readouterr().out
    assert "Plants/1.png" in told
    assert "Animals/bee.png" in told
    assert "Plants/0.png" not in told


def test_near_duplicates_are_found_by_recorded_hashes_when_the_benchmark_is_not_here(root, capsys):
    leafy(root, picture(2, 40, 48))
    for argv in (["--leaks"], ["--leaks", "animals"]):
        with pytest.raises(SystemExit):
            run(root, *argv)
        assert "Animals/cow" in capsys.readouterr().out


def test_training_sets_without_test_images_pass(root, capsys):
    leafy(root, picture(50, 40, 48))
    run(root, "--leaks")
    assert "No training image shows a test image" in capsys.readouterr().out


def test_the_command_line_has_prepare(root, animals, capsys):
    cli.main(["prepare", "animals", "--from", str(animals), "--data-root", str(root)])
    assert len(names_in(target(root))) == 3
    with pytest.raises(SystemExit) as ended:
        cli.main(["prepare", "minerals", "--data-root", str(root)])
    assert ended.value.code == 2
    assert "not a known image set" in capsys.readouterr().err


@pytest.mark.oracle
def test_real_sets_are_adopted_from_the_layout_of_bsds500(sr_data, tmp_path, capsys):
    train, test, val = (tmp_path / "BSR" / "BSDS500" / "data" / "images" / part for part in _PARTS)
    for folder in (train, test, val):
        folder.mkdir(parents=True)
    for file in (sr_data / "train" / "BSDS400").iterdir():
        part, name = file.name.split("_")
        (train if part == "train" else test).joinpath(name).symlink_to(file)
    Image.fromarray(picture(0, 481, 321)).save(train / "302003.jpg")
    for file in (sr_data / "benchmarks" / "B100" / "HR").iterdir():
        (val / file.name).symlink_to(file)
    root = tmp_path / "data"
    run(root, "bsds400", "b100", "--from", tmp_path / "BSR", "--copy")
    told = capsys.readouterr().out
    assert "399 of 399 images are the reference pixels" in told
    assert "100 of 100 images are the reference pixels" in told
    assert (root / "train" / "BSDS400" / "train_97017.jpg").is_file()
    assert not list(root.rglob("*302003*"))


_PARTS = ("train", "test", "val")
