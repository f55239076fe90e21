"""Caffe models (``.caffemodel``), read field by field from the protobuf wire format.

Only these fields of ``caffe.proto`` matter: NetParameter.layer = 100; LayerParameter.name = 1,
blobs = 7, convolution_param = 106; BlobProto.num, channels, height, width = 1 to 4, data = 5,
shape = 7, double_data = 8; BlobShape.dim = 1; ConvolutionParameter.stride = 6.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sr_lightning.errors import UserError
from sr_lightning.weights.formats.external import ExternalWeights

__all__ = ["read_caffe"]

Field = tuple[int, int | memoryview]

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


class _MalformedError(Exception):
    """The bytes are no protobuf message of a Caffe network."""


def read_caffe(path: Path) -> ExternalWeights:
    """Read the blobs of all layers: ``NAME.weight``, ``NAME.bias``, then ``NAME.2`` and so on.

    Convolutions are (out, in / groups, height, width) and deconvolutions (in, out / groups,
    height, width), as in PyTorch.

    Raises:
        UserError: the file is damaged, of another kind, or of Caffe's oldest version.
    """
    tensors: dict[str, Tensor] = {}
    strides: dict[str, int] = {}
    try:
        for number, content in _fields(memoryview(path.read_bytes())):
            if number == 2 and isinstance(content, memoryview):
                raise UserError(
                    f"{path} is of Caffe's old version 1; upgrade it with Caffe's "
                    "upgrade_net_proto_binary."
                )
            if number == 100:
                name, blobs, stride = _layer(content)
                if stride != 1:
                    strides[name] = stride
                for index, blob in enumerate(blobs):
                    kind = ("weight", "bias")[index] if index < 2 else str(index)
                    tensors[f"{name}.{kind}"] = blob
    except (_MalformedError, ValueError, OverflowError, OSError) as error:
        raise UserError(f"{path} is damaged or not a weight file; fetch it again.") from error
    if not tensors:
        raise UserError(f"{path} is damaged or not a weight file; fetch it again.")
    return ExternalWeights(path, "caffe", tensors, strides=strides)


def _layer(content: int | memoryview) -> tuple[str, list[Tensor], int]:
    name, stride = "", 1
    blobs: list[Tensor] = []
    for number, value in _fields(_message(content)):
        if number == 1:
            name = bytes(_message(value)).decode()
        elif number == 7:
            blobs.append(_blob(_message(value)))
        elif number == 106:
            for key, given in _fields(_message(value)):
                if key == 6 and isinstance(given, int):
                    stride = given
    return name, blobs, stride


def _blob(content: memoryview) -> Tensor:
    shape: list[int] = []
    sides = [1, 1, 1, 1]
    data: list[np.ndarray[tuple[int], np.dtype[np.floating]]] = []
    for number, value in _fields(content):
        if number in {1, 2, 3, 4} and isinstance(value, int):
            sides[number - 1] = value
        elif number in {5, 8}:
            data.append(np.frombuffer(_message(value), "<f4" if number == 5 else "<f8"))
        elif number == 7:
            for key, given in _fields(_message(value)):
                if key == 1:
                    shape += [given] if isinstance(given, int) else list(_varints(given))
    numbers = np.concatenate(data) if data else np.zeros(0, np.float32)
    # Files from before BlobShape have four sides, of which biases use the last one.
    shape = shape or (sides if sides[:3] != [1, 1, 1] else sides[3:])
    if numbers.size != math.prod(shape):
        raise _MalformedError(f"a blob of shape {shape} holds {numbers.size} numbers")
    return torch.from_numpy(numbers.astype(np.float32)).reshape(shape)


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _MalformedError("a number stands where a message belongs")
    return value


def _fields(message: memoryview) -> Iterator[Field]:
    """Field numbers and contents of a message, in order; numbers of 4 or 8 bytes stay bytes."""
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise _MalformedError("a field has no number")
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == _BYTES:
            length, position = _varint(message, position)
        elif kind in {_FOUR_BYTES, _EIGHT_BYTES}:
            length = 4 if kind == _FOUR_BYTES else 8
        else:
            raise _MalformedError(f"a field is of the unknown kind {kind}")
        if position + length > end:
            raise _MalformedError("the file ends within a field")
        yield number, message[position : position + length]
        position += length


def _varints(message: memoryview) -> Iterator[int]:
    position = 0
    while position < len(message):
        value, position = _varint(message, position)
        yield value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise _MalformedError("the file ends within a number")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _MalformedError("a number is too long")
