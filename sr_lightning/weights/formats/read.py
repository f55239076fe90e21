"""Which reader reads a weight file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sr_lightning.errors import UserError
from sr_lightning.files import regular_file
from sr_lightning.weights.formats import caffe, matlab, pytorch
from sr_lightning.weights.formats.external import ExternalWeights

__all__ = ["read_external"]


def read_external(path: str | Path) -> ExternalWeights:
    """Read a weight file of any kind; its content tells which it is.

    Safetensors, PyTorch state dicts and checkpoints, MATLAB files, Caffe models.

    Raises:
        UserError: the file is missing, damaged or none of these.
    """
    path = regular_file(path, "weight file")
    try:
        with path.open("rb") as opened:
            head = opened.read(520)
    except OSError as error:
        raise UserError(f"The weight file {path} cannot be read: {error.strerror}.") from error
    return _reader(path, head)(path)


def _reader(path: Path, head: bytes) -> Callable[[Path], ExternalWeights]:
    # Eight bytes say how long the JSON is that follows.
    if path.suffix == ".safetensors" or head[8:10] == b'{"':
        return pytorch.read_safetensors
    if head.startswith((b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return pytorch.read_pytorch
    if head.startswith(b"MATLAB 7.3") or head[512:].startswith(b"\x89HDF"):
        return matlab.read_matlab_73
    if head.startswith(b"MATLAB 5.0"):
        return matlab.read_matlab_5
    return caffe.read_caffe
