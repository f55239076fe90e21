"""MATLAB files of version 5 (scipy) and 7.3 (HDF5, h5py), and MatConvNet networks in them.

Both versions give the same plain Python: structs are dicts, cells and struct arrays are lists,
text is str, numbers are arrays in MATLAB's order of dimensions.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sr_lightning.errors import UserError
from sr_lightning.weights.formats.external import ExternalWeights

__all__ = ["read_matlab_5", "read_matlab_73"]

# Deeper than any network; a damaged file can refer to itself.
_DEEPEST = 32


def read_matlab_5(path: Path) -> ExternalWeights:
    """Read a MATLAB file of version 5 to 7.

    Raises:
        UserError: it is damaged or holds no numbers, or scipy is missing.
    """
    scipy_io = _import("scipy.io")
    try:
        # mat_dtype stays off: filters are single, and stay it.
        content = scipy_io.loadmat(path, struct_as_record=True, squeeze_me=False)
        plain = {k: _plain_5(v) for k, v in content.items() if not k.startswith("__")}
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
        with h5py.File(path, "r") as opened:
            plain = {k: _plain_73(opened, opened[k]) for k in opened if not k.startswith("#")}
    except Exception as error:
        # A reader of damaged bytes stumbles over whatever they say.
        raise UserError(f"{path} is damaged; fetch it again.") from error
    return _weights(path, "matlab7.3", plain)


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


def _plain_73(opened: Any, value: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        raise ValueError("the file refers to itself")

    def deeper(item: Any) -> Any:
        return _plain_73(opened, item, depth + 1)

    if not hasattr(value, "dtype"):  # a struct: a group of its fields
        fields = {name: value[name] for name in value}
        columns = {name: _references(field) for name, field in fields.items()}
        if fields and all(column is not None for column in columns.values()):
            count = max(len(column or []) for column in columns.values())
            return [
                {name: deeper(opened[(column or [])[i]]) for name, column in columns.items()}
                for i in range(count)
            ]
        return {name: deeper(field) for name, field in fields.items()}
    kind = value.attrs.get("MATLAB_class", b"").decode()
    if "MATLAB_empty" in value.attrs:
        return [] if kind == "cell" else np.zeros(0)
    if kind == "cell":
        return [deeper(opened[reference]) for reference in value[()].ravel()]
    if kind == "char":
        return "".join(chr(code) for code in value[()].ravel())
    if kind in {"single", "double"}:
        return np.asarray(value[()]).T
    return None


def _references(field: Any) -> list[Any] | None:
    """References of a struct array's field; cells are marked as such and are one value."""
    if not hasattr(field, "dtype") or field.dtype != object or "MATLAB_class" in field.attrs:
        return None
    return list(field[()].ravel())


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
