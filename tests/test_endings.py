"""How commands end: exit status, one sentence, and a file of what nobody foresaw."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from conftest import ROOT

from sr_lightning import cli
from sr_lightning.errors import StoppedError, UserError


def ending(monkeypatch, capsys, error: BaseException) -> tuple[int, str]:
    def fail(_):
        raise error

    monkeypatch.setattr(cli, "_dispatch", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main(["upscale", "my photo.png"])
    return ended.value.code, capsys.readouterr().err.strip()


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UserError("Name a file."), 2, "sr-lightning: Name a file."),
        (StoppedError("Stopped; go on."), 130, "Stopped; go on."),
        (KeyboardInterrupt(), 130, "Stopped by Ctrl-C."),
        (MemoryError(), 2, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: ..."), 2, "not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 2, "/x/y: No space left.*free"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 2, "/x/y: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), 2, "Input/output error"),
    ],
)
def test_each_kind_of_error_has_its_sentence_and_status(monkeypatch, capsys, error, status, words):
    code, said = ending(monkeypatch, capsys, error)
    assert code == status
    assert len(said.splitlines()) == 1
    assert re.search(words, said)


@pytest.mark.parametrize("error", [None, StoppedError("Stopped; go on.")])
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_of_systems_stop_a_command_as_ctrl_c_does(
    monkeypatch, capsys, tmp_path, own_signals, name, status, error
):
    def half(_):
        try:
            with tempfile.TemporaryDirectory(dir=tmp_path):
                os.kill(os.getpid(), getattr(signal, name))
                time.sleep(10)
        except KeyboardInterrupt:
            if error is not None:
                raise error from None
            raise

    monkeypatch.setattr(cli, "_dispatch", half)
    with pytest.raises(SystemExit) as ended:
        cli.main(["upscale", "my photo.png"])
    assert ended.value.code == status
    said = capsys.readouterr().err.strip()
    assert said == f"sr-lightning: {error or f'Stopped by {name}.'}"
    assert not [*tmp_path.iterdir()]
    assert signal.getsignal(getattr(signal, name)) is signal.SIG_DFL


def test_what_nohup_ignores_stays_ignored(monkeypatch, own_signals):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(cli, "_dispatch", lambda _: os.kill(os.getpid(), signal.SIGHUP))
    cli.main(["upscale", "my photo.png"])


def test_what_nobody_foresaw_is_written_down(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    code, said = ending(monkeypatch, capsys, KeyError("a\nb"))
    assert code == 70
    assert len(said.splitlines()) == 1
    (file,) = (tmp_path / "sr-lightning").iterdir()
    assert str(file) in said
    written = file.read_text()
    assert "$ sr-lightning upscale 'my photo.png'" in written
    assert "Traceback (most recent call last)" in written
    assert "KeyError" in written


def test_it_is_written_elsewhere_or_shown_where_that_cannot_be(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(cli.tempfile, "gettempdir", lambda: str(tmp_path))
    _, said = ending(monkeypatch, capsys, KeyError("a"))
    (file,) = tmp_path.glob("error-*.txt")
    assert str(file) in said
    monkeypatch.setattr(cli.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    code, said = ending(monkeypatch, capsys, KeyError("a"))
    assert code == 70
    assert "Traceback (most recent call last)" in said


def started(*arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "sr_lightning", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})},
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_reader_that_has_gone_is_no_error_to_speak_of():
    read, write = os.pipe()
    os.close(read)
    done = started("--help", stdout=write)
    os.close(write)
    assert done.communicate(timeout=60)[1] == ""
    assert done.returncode == 1


def test_output_that_cannot_be_written_is_said_once():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = started("--help", stdout=full)
        said = done.communicate(timeout=60)[1]
    assert done.returncode == 2
    assert said.strip().endswith("No space left on device; free some space.")
    assert len(said.strip().splitlines()) == 1


def test_a_terminal_of_ascii_shows_what_it_can(tmp_path):
    done = started(
        *("prepare", "--list", "--data-root", str(tmp_path / "größe")),
        stdout=subprocess.PIPE,
        env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    out, said = done.communicate(timeout=60)
    assert (done.returncode, said) == (0, "")
    assert "Set5" in out
