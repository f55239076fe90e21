"""MATLAB files of version 5 (scipy) and 7.3 (HDF5, h5py), and MatConvNet networks in them.

Both versions give the same plain Python: structs are dicts, cells and struct arrays are lists,
text is str, numbers are arrays in MATLAB's order of dimensions.
"""

from __future__ import annotations

import importlib
import multiprocessing
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sr_lightning.errors import UserError
from sr_lightning.weights.formats.external import ExternalWeights

__all__ = ["read_matlab_5", "read_matlab_73"]

# Deeper than any network; a damaged file can refer to itself.
_DEEPEST = 32
# Weights hardly shrink; what shrinks further is no file of weights.
_MOST_UNPACKED = 50
# Type of a part that zlib has packed.
_PACKED = 15
_HARMLESS_BYTES = 16 << 20
# What a reader may take: bytes in all, and more for each byte of the file.
_ROOM, _TIMES = 512 << 20, 4 * _MOST_UNPACKED


def read_matlab_5(path: Path) -> ExternalWeights:
    """Read a MATLAB file of version 5 to 7.

    Raises:
        UserError: it is damaged, holds no numbers or far more than weights are, or scipy is
            missing.
    """
    scipy_io = _import("scipy.io")
    _refuse_packed(path)
    try:
        plain = _apart(lambda: _read_5(scipy_io, path), path.stat().st_size)
    except Exception as error:
        # A reader of damaged bytes stumbles over whatever they say.
        raise UserError(f"{path} is damaged; fetch it again.") from error
    return _weights(path, "matlab5", plain)


def read_matlab_73(path: Path) -> ExternalWeights:
    """Read a MATLAB file of version 7.3, which is HDF5.

    Raises:
        UserError: it is damaged or holds no numbers, or h5py is missing.
    """
    h5py = _import("h5py")
    try:
        plain = _apart(lambda: _read_73(h5py, path), path.stat().st_size)
    except UserError:
        raise
    except Exception as error:
        # A reader of damaged bytes stumbles over whatever they say.
        raise UserError(f"{path} is damaged; fetch it again.") from error
    return _weights(path, "matlab7.3", plain)


def _refuse_packed(path: Path) -> None:
    """Refuse a file of version 7 whose packed parts are far larger than weights ever are.

    Raises:
        UserError: it is one, or it cannot be read.
    """
    unpacked = 0
    try:
        with path.open("rb") as file:
            order: Literal["little", "big"] = "little" if file.read(128)[126:] == b"IM" else "big"
            while len(head := file.read(8)) == 8:
                kind, size = (int.from_bytes(head[i : i + 4], order) for i in (0, 4))
                part = file.read(size)
                packed = zlib.decompressobj()
                # A megabyte at a time, none of which is kept.
                while kind == _PACKED and part and not packed.eof:
                    unpacked += len(packed.decompress(part, 1 << 20))
                    part = packed.unconsumed_tail
                    _check_unpacked(path, unpacked)
    except (OSError, zlib.error) as error:
        raise UserError(f"{path} is damaged; fetch it again.") from error


def _check_unpacked(path: Path, unpacked: int) -> None:
    packed = path.stat().st_size
    if unpacked > max(_HARMLESS_BYTES, _MOST_UNPACKED * packed):
        raise UserError(
            f"{path} has {packed / 1e6:,.1f} MB, but would be unpacked to {unpacked / 1e6:,.0f} MB "
            "or more, which no weights are; fetch it from another place."
        )


def _read_5(scipy_io: Any, path: Path) -> dict[str, Any]:
    # mat_dtype stays off: filters are single, and stay it.
    content = scipy_io.loadmat(path, struct_as_record=True, squeeze_me=False)
    return {k: _plain_5(v) for k, v in content.items() if not k.startswith("__")}


def _read_73(h5py: Any, path: Path) -> dict[str, Any]:
    with h5py.File(path, "r") as opened:
        reader = _Reader(path, opened)
        return {k: reader.plain(opened[k]) for k in opened if not k.startswith("#")}


def _bound(size: int) -> None:
    """Bound the memory and the time of this process, which a damaged file could fill.

    Args:
        size: Bytes of the file.
    """
    import resource

    seconds = 30 + size // 2**20
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + _ROOM + _TIMES * size
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _apart(read: Callable[[], dict[str, Any]], size: int) -> dict[str, Any]:
    """What a reader gives, in a process of its own where there is fork.

    The libraries are written in C, and damaged files can make them crash, or unpack without end:
    that ends only the process that reads.

    Args:
        read: The reader.
        size: Bytes of the file.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        return read()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def work() -> None:
        _bound(size)
        try:
            theirs.send((read(), None))
        except UserError as error:
            theirs.send((None, error))
        except Exception as error:
            theirs.send((None, ValueError(str(error))))

    child = context.Process(target=work)
    child.start()
    theirs.close()
    try:
        content, error = ours.recv()
    except EOFError:
        raise ValueError("its reader crashed") from None
    finally:
        child.join()
    if error is not None:
        raise error
    plain: dict[str, Any] = content
    return plain


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"Reading this MATLAB file needs {name.partition('.')[0]}; install it with "
            "pip install 'sr-lightning[convert]'."
        ) from error


# ---- plain content ------------------------------------------------------------------------------


def _plain_5(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return None
    if value.dtype.names:
        records = [
            {name: _plain_5(record[name]) for name in value.dtype.names}
            for record in value.ravel("F")
        ]
        return records[0] if len(records) == 1 else records
    if value.dtype == object:
        return [_plain_5(item) for item in value.ravel("F")]
    if value.dtype.kind in "US":
        return "".join(str(part) for part in value.ravel())
    return value


class _Reader:
    """Reads the parts of a file of version 7.3, and counts what they are together.

    Args:
        path: Path of the file.
        opened: The file, opened by h5py.
    """

    def __init__(self, path: Path, opened: Any) -> None:
        self._path, self._opened = path, opened
        self._unpacked = 0

    def plain(self, value: Any, depth: int = 0) -> Any:
        """A part as plain Python."""
        if depth > _DEEPEST:
            raise ValueError("the file refers to itself")

        def deeper(item: Any) -> Any:
            return self.plain(item, depth + 1)

        if not hasattr(value, "dtype"):  # a struct: a group of its fields
            fields = {name: value[name] for name in value}
            columns = {name: self._references(field) for name, field in fields.items()}
            if fields and all(column is not None for column in columns.values()):
                count = max(len(column or []) for column in columns.values())
                return [
                    {n: deeper(self._opened[(c or [])[i]]) for n, c in columns.items()}
                    for i in range(count)
                ]
            return {name: deeper(field) for name, field in fields.items()}
        kind = value.attrs.get("MATLAB_class", b"").decode()
        if "MATLAB_empty" in value.attrs:
            return [] if kind == "cell" else np.zeros(0)
        if kind == "cell":
            return [deeper(self._opened[reference]) for reference in self._read(value).ravel()]
        if kind == "char":
            return "".join(chr(code) for code in self._read(value).ravel())
        if kind in {"single", "double"}:
            return np.asarray(self._read(value)).T
        return None

    def _references(self, field: Any) -> list[Any] | None:
        """References of a struct array's field; cells are marked as such and are one value."""
        if not hasattr(field, "dtype") or field.dtype != object or "MATLAB_class" in field.attrs:
            return None
        return list(self._read(field).ravel())

    def _read(self, value: Any) -> Any:
        """The content of a part; what is packed, or was never written, can be of any size."""
        self._unpacked += value.nbytes
        _check_unpacked(self._path, self._unpacked)
        return value[()]


# ---- networks -----------------------------------------------------------------------------------


def _weights(path: Path, form: Any, content: dict[str, Any]) -> ExternalWeights:
    net = content.get("net")
    layers: tuple[str, ...] = ()
    if isinstance(net, dict) and _as_list(net.get("params")):
        arrays = {str(p["name"]): p["value"] for p in _as_list(net["params"]) if "value" in p}
        layers = tuple(str(layer.get("name")) for layer in _as_list(net.get("layers")))
    elif isinstance(net, dict) and "layers" in net:
        arrays = dict(_simple(_as_list(net["layers"])))
    else:
        arrays = dict(_flat(content))
    tensors = {
        name: _tensor(value)
        for name, value in arrays.items()
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size
    }
    if not tensors:
        raise UserError(f"{path} holds no network weights.")
    return ExternalWeights(path, form, tensors, layers=layers)


def _simple(layers: list[Any]) -> Iterator[tuple[str, Any]]:
    """Weights of MatConvNet's simplenn: ``layers.I.weights.J``, J = 0 filters, 1 biases."""
    for index, layer in enumerate(layers):
        if isinstance(layer, dict):
            given = layer.get("weights") or [
                layer[old] for old in ("filters", "biases") if old in layer
            ]
            for place, value in enumerate(given):
                yield f"layers.{index}.weights.{place}", value


def _flat(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every array of nested structs and cells by its path, such as ``model.weight.0``."""
    if isinstance(content, dict):
        parts = [(str(key), value) for key, value in content.items()]
    elif isinstance(content, list):
        parts = [(str(index), value) for index, value in enumerate(content)]
    else:
        yield prefix, content
        return
    for key, value in parts:
        yield from _flat(value, f"{prefix}.{key}" if prefix else key)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if isinstance(value, dict) else []


def _tensor(value: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))
