"""Which reader reads a foreign weight file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sr_lightning.errors import UserError
from sr_lightning.files import regular_file
from sr_lightning.weights.formats import caffe, matlab, pytorch
from sr_lightning.weights.formats.external import ExternalWeights

__all__ = ["read_external"]


def read_external(path: str | Path) -> ExternalWeights:
    """Read a PyTorch state dict, a MATLAB file or a Caffe model; the content tells which it is.

    Raises:
        UserError: the file is missing, damaged or none of these.
    """
    path = regular_file(path, "weight file")
    try:
        with path.open("rb") as opened:
            head = opened.read(520)
    except OSError as error:
        raise UserError(f"The weight file {path} cannot be read: {error.strerror}.") from error
    return _reader(head)(path)


def _reader(head: bytes) -> Callable[[Path], ExternalWeights]:
    if head.startswith((b"PK\x03\x04", b"\x80\x02")):
        return pytorch.read_pytorch
    if head.startswith(b"MATLAB 7.3") or head[512:].startswith(b"\x89HDF"):
        return matlab.read_matlab_73
    if head.startswith(b"MATLAB 5.0"):
        return matlab.read_matlab_5
    return caffe.read_caffe
