"""Read the tensors of a TensorFlow checkpoint (format V2) without TensorFlow.

The index is an uncompressed LevelDB table (doc/table_format.md of LevelDB). Its keys are names of variables, its values
protocol buffers of type `BundleEntryProto` (tensorflow/core/protobuf/tensor_bundle.proto). The numbers lie in the data
file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

_FOOTER_BYTES: Final = 48
_MAGIC: Final = struct.pack("<Q", 0xDB4775248B80FB57)

_DTYPE, _SHAPE, _OFFSET, _SIZE = 1, 2, 4, 5
"""Fields of `BundleEntryProto`."""

_DIMENSION: Final = 2
_DIMENSION_SIZE: Final = 1
"""Fields of `TensorShapeProto` and its `Dim`."""

_FLOAT: Final = 1
_FLOAT_BYTES: Final = 4


class _Handle(NamedTuple):
    """Place of a block of the table, and its length in bytes."""

    offset: int
    size: int


def read_checkpoint(index: bytes, data: bytes) -> dict[str, NDArray[np.float32]]:
    """Return the float32 variables of a checkpoint with one data file, by name. Others are left out.

    Args:
        index: bytes of the file `*.index`.
        data: bytes of the file `*.data-00000-of-00001`.

    Raises:
        ValueError: the bytes are not such files.
    """
    try:
        return dict(_read(index, data))
    except (IndexError, struct.error) as error:
        raise ValueError(f"the index is cut off ({error})") from None


def _read(index: bytes, data: bytes) -> Iterator[tuple[str, NDArray[np.float32]]]:
    footer = index[-_FOOTER_BYTES:]
    if not footer.endswith(_MAGIC):
        raise ValueError("the index is no LevelDB table")
    _, place = _handle(footer, 0)
    blocks, _ = _handle(footer, place)
    for _, value in _block(index, blocks):
        handle, _ = _handle(value, 0)
        for name, entry in _block(index, handle):
            if not name or _number(entry, _DTYPE) != _FLOAT:
                continue
            dimensions = [each for sizes in _messages(entry, _SHAPE) for each in _messages(sizes, _DIMENSION)]
            shape = tuple(_number(each, _DIMENSION_SIZE) for each in dimensions)
            offset, size = _number(entry, _OFFSET), _number(entry, _SIZE)
            if offset + size > len(data):
                raise ValueError(f"the data file ends before {name.decode(errors='replace')}")
            numbers = np.frombuffer(data, "<f4", size // _FLOAT_BYTES, offset)
            yield name.decode(), numbers.reshape(shape).astype(np.float32)


def _number(message: bytes, field: int) -> int:
    """Return a field of whole numbers; 0 if the message lacks it, as protocol buffers have it."""
    return next((value for number, value in _fields(message) if number == field and isinstance(value, int)), 0)


def _messages(message: bytes, field: int) -> list[bytes]:
    """Return the messages of a repeated field."""
    return [value for number, value in _fields(message) if number == field and isinstance(value, bytes)]


def _handle(data: bytes, place: int) -> tuple[_Handle, int]:
    offset, place = _varint(data, place)
    size, place = _varint(data, place)
    return _Handle(offset, size), place


def _block(table: bytes, handle: _Handle) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of a block. A key states how many bytes it shares with the one before."""
    block = table[handle.offset : handle.offset + handle.size]
    (restarts,) = struct.unpack("<I", block[-4:])
    end, place, key = len(block) - 4 - 4 * restarts, 0, b""
    while place < end:
        shared, place = _varint(block, place)
        added, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place : place + added]
        place += added
        yield key, block[place : place + length]
        place += length


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protocol buffer."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        match tag & 7:
            case 0:
                number, place = _varint(message, place)
                yield tag >> 3, number
            case 2:
                length, place = _varint(message, place)
                yield tag >> 3, message[place : place + length]
                place += length
            case 5:
                place += 4
            case 1:
                place += 8
            case kind:
                raise ValueError(f"a field of the index has the unknown type {kind}")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and the place behind it."""
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return number, place
