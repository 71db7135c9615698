"""Published files that are not what their name says: one line, and nothing is unpickled but tensors."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mgc.errors import BundleError
from mgc.models.mobilenet import MobileNet, MobileNetConfig
from mgc.public_models.efficientat import CLASSES, read_efficientat
from mgc.public_models.musicnn import read_musicnn
from mgc.public_models.tensorflow_checkpoint import read_checkpoint

WIDTH = 0.4


class _Trap:
    """What a hostile pickle runs when it is opened."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("trapped",)


def published(weights: Any) -> bytes:
    file = io.BytesIO()
    torch.save(weights, file)
    return file.getvalue()


def state(width: float = WIDTH) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return MobileNet(MobileNetConfig(width=width), CLASSES).state_dict()


def test_tensors_keep_their_order_under_our_names() -> None:
    weights = state()
    renamed = {f"layer.{number}": tensor for number, tensor in enumerate(weights.values())}
    read = read_efficientat(published(renamed), WIDTH, "mn04.pt")
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "fetch it anew"),
        (b"<html>404</html>", "fetch it anew"),
        (published(state())[:5000], "fetch it anew"),
        (published([1, 2]), "no MobileNet"),
        (published({"a": torch.zeros(1)}), "no MobileNet"),
        (published(state(0.5)), "width 0.4"),
    ],
    ids=["empty", "a page", "cut off", "a list", "another network", "another width"],
)
def test_what_is_no_such_file_is_refused(data: bytes, named: str) -> None:
    with pytest.raises(BundleError, match=named) as caught:
        read_efficientat(data, WIDTH, "mn04.pt")
    assert str(caught.value).startswith("mn04.pt: ")
    assert "\n" not in str(caught.value)


def test_nothing_is_unpickled_but_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError):
        read_efficientat(published({"weight": _Trap()}), WIDTH, "mn04.pt")
    assert not (tmp_path / "trapped").exists()


def varint(number: int) -> bytes:
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    parts = [
        varint(number << 3) + varint(value)
        if isinstance(value, int)
        else varint(number << 3 | 2) + varint(len(value)) + value
        for number, value in fields
    ]
    return b"".join(parts)


def block(entries: dict[bytes, bytes]) -> bytes:
    """A block in which each key shares with the one before what it can."""
    data, before = b"", b""
    for key, value in entries.items():
        shared = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(key, before, strict=False))))
        data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return data + struct.pack("<II", 0, 1)


def checkpoint(variables: dict[str, np.ndarray]) -> tuple[bytes, bytes]:
    """Index and data of a checkpoint with these float32 variables."""
    entries, data = {b"": message((1, 1))}, b""
    for name in sorted(variables):
        values = variables[name]
        shape = message(*((2, message((1, size))) for size in values.shape))
        entries[name.encode()] = message((1, 1), (2, shape), (4, len(data)), (5, values.nbytes))
        data += values.tobytes()
    entries[b"step"] = message((1, 9), (4, 0), (5, 8))
    table = block(dict(sorted(entries.items())))
    listing = block({b"z": varint(0) + varint(len(table))})
    footer = varint(0) + varint(0) + varint(len(table) + 5) + varint(len(listing))
    return table + bytes(5) + listing + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57), data


def test_a_checkpoint_is_read_by_name() -> None:
    random = np.random.default_rng(0)
    shapes = {"conv2d/kernel": (7, 38, 1, 4), "conv2d/bias": (4,), "conv2d_1/bias": (200,), "beta1_power": ()}
    variables = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    read = read_checkpoint(*checkpoint(variables))
    assert read.keys() == variables.keys()
    for name, values in variables.items():
        np.testing.assert_array_equal(read[name], values)


@given(st.data())
def test_a_damaged_checkpoint_is_read_or_refused(data: st.DataObject) -> None:
    index, numbers = checkpoint({"dense/kernel": np.ones((30, 20), np.float32), "dense/bias": np.zeros(20, np.float32)})
    bad = bytearray(index[: data.draw(st.integers(0, len(index)))])
    for place in data.draw(st.lists(st.integers(0, max(0, len(bad) - 1)), max_size=4)):
        if bad:
            bad[place] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(ValueError):
        read_checkpoint(bytes(bad), numbers[: data.draw(st.integers(0, len(numbers)))])


def test_a_wheel_of_another_package_is_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as files:
        files.writestr("other/__init__.py", "")
    for wheel in (file.getvalue(), b"no zip"):
        with pytest.raises(BundleError, match=r"^musicnn\.whl: ") as caught:
            read_musicnn(wheel, "MSD", "musicnn.whl")
        assert "\n" not in str(caught.value)
