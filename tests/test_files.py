"""Reading within bounds, writing whole or not at all, and sentences for what goes wrong."""

from __future__ import annotations

import errno
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from sr_lightning import files
from sr_lightning.errors import UserError
from sr_lightning.files import (
    as_type,
    check_place,
    check_types,
    read_json,
    read_record,
    read_text,
    read_yaml,
    user_path,
    write_all,
    write_json,
    write_whole,
    written_whole,
)

BILLION = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
)
MERGED = "\n".join(
    ["a0: &a0 {x0: 1, x1: 2}"]
    + [f"a{i}: &a{i} {{'<<': [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 10)]
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BILLION, "aliases .* expand without bound"),
        (MERGED.replace("'<<'", "<<"), "aliases .* expand without bound"),
        ("a: &a [*a]", "aliases .* expand without bound"),
        ("[" * 100_000, "is not YAML"),
        ("a: 1\n\tb: 2", "line 2 is not YAML"),
        ("a: !!python/object/apply:os.system [touch PWNED]", "is not YAML"),
        ("a: 2020-99-99", "is not YAML"),
    ],
)
def test_yaml_that_is_none_or_grows_without_bound_is_refused(tmp_path, text, words):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_yaml(path, "config")


def test_ordinary_aliases_are_read(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}")
    assert read_yaml(path) == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}


def place(folder: Path, kind: str) -> Path:
    path = folder / "it"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "bytes":
        path.write_bytes(b"\xff\xfe")
    elif kind == "long":
        return folder / ("x" * 300)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pipe", "is a pipe or a device"),
        ("device", "is a pipe or a device"),
        ("loop", "leads back to itself"),
        ("nothing", "does not exist"),
        ("folder", "is a folder"),
        ("bytes", "is no text"),
        ("long", "cannot be opened: File name too long"),
    ],
)
def test_what_is_no_text_file_is_said_and_not_waited_for(tmp_path, kind, words):
    with pytest.raises(UserError, match=words):
        read_text(place(tmp_path, kind))


def test_a_file_far_too_long_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "x").write_text("12345")
    monkeypatch.setattr(files, "_MOST_BYTES", 4)
    with pytest.raises(UserError, match="it is no ledger entry"):
        read_text(tmp_path / "x", "ledger entry")


@pytest.mark.parametrize("name", ["a\0b", "~no_such_user/x"])
def test_paths_that_are_none_are_named(name):
    with pytest.raises(UserError, match=r"NUL byte|no user of that name"):
        user_path(name)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"a": 1} x'])
def test_damaged_json_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match="is damaged: it is not JSON"):
        read_json(tmp_path / "x.json")


@dataclass(frozen=True)
class Record:
    name: str
    numbers: tuple[float, ...] = ()


def test_a_record_is_read_and_a_wrong_field_is_named(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"name": "a", "numbers": [1, 2.5]}')
    assert read_record(path, Record) == Record("a", (1, 2.5))
    path.write_text('{"name": "a", "numbers": ["b"]}')
    with pytest.raises(UserError, match=r"numbers\.0: .*got 'b'"):
        read_record(path, Record)
    with pytest.raises(UserError, match=r"'n': .*got 'x'"):
        check_types({"n": "x"}, {"n": int, "other": str}, "here")
    assert as_type({"name": "a"}, Record, "here") == Record("a")


def test_json_is_valid_whatever_the_numbers(tmp_path):
    write_json(tmp_path / "x.json", {"a": [math.nan, math.inf, 1.5], "b": {"c": -math.inf}})
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": [None, None, 1.5],
        "b": {"c": None},
    }


def test_a_full_disk_leaves_the_file_before_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    path.write_text("before")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_whole(path, "after")
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("x.json", "before")]


def test_files_that_belong_together_appear_together(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("before")
    written: list[str] = []
    sync = os.fsync

    def full(handle):
        written.append("one")
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"b: No space left on device; free some space"):
        write_all({tmp_path / "a": "after", tmp_path / "b": "after"})
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("a", "before")]


def test_what_is_written_by_name_appears_whole(tmp_path):
    with written_whole(tmp_path / "deeper" / "a.png") as part:
        part.write_text("half")
        assert part.suffix == ".png"
        assert not (tmp_path / "deeper" / "a.png").exists()
    assert [one.name for one in (tmp_path / "deeper").iterdir()] == ["a.png"]
    with pytest.raises(ZeroDivisionError), written_whole(tmp_path / "b") as part:
        part.write_text(str(1 / 0))
    assert [one.name for one in tmp_path.iterdir()] == ["deeper"]


@pytest.mark.parametrize(
    "place", ["/proc/x/y", "file/x", "there"], ids=["read-only", "in a file", "a folder"]
)
def test_a_place_is_refused_before_work_and_left_as_it_was(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match=f"Cannot write .*{place}"):
        check_place(tmp_path / place)
    check_place(tmp_path / "new" / "x.json")
    check_place(tmp_path / "there", folder=True)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "there"]


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_nothing_but_files_is_replaced(tmp_path, kind):
    path = place(tmp_path, kind)
    with pytest.raises(UserError, match="is a folder or a device"):
        write_whole(path, "x")
    assert list(tmp_path.iterdir()) == [path]
