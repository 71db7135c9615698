"""What a cell is told of a recording, and what it answers: fixed headers and raw bytes.

A decoder that was taken over may have written an answer. So `read_answer` takes nothing on trust: it checks each number
and each length, and what it lets through is a row that an intact decoder could have made.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import asdict, dataclass, replace
from typing import Final, Self, get_args

import numpy as np

from mgc.audio.cell.messages import MOST_TEXT, Task
from mgc.audio.cuts import Cuts, CutWindow
from mgc.audio.decoders.stream import DecoderName
from mgc.audio.recording import Recording
from mgc.audio.source import ByteRange
from mgc.errors import ErrorKind
from mgc.hearing.request import Track

_DECODERS: Final = get_args(DecoderName)
_KINDS: Final = tuple(ErrorKind)
_HEARD, _FAILED = b"H", b"F"

_HEARD_HEAD: Final = struct.Struct("<IddddBH")
"""Clips; duration, tolerance, seconds listened, bandwidth; number of the decoder; bytes of the damage's text."""

_FAILED_HEAD: Final = struct.Struct("<BqH")
"""Number of the error's kind; offset (-1: unknown); bytes of its text."""

_MEASURED: Final = ("duration_seconds", "tolerance_seconds", "seconds_listened", "bandwidth_hz")

_MOST: Final = 1e9
"""No length in seconds and no frequency is larger."""

_MOST_READ_TEXT: Final = 10 * MOST_TEXT
"""Characters of a text with all of its letters escaped."""


class NoAnswerError(Exception):
    """The bytes are no answer that an intact decoder could have given."""


@dataclass(frozen=True)
class ClipFacts:
    """What all clips of a front end have in common.

    Attributes:
        dtype: NumPy's name of the type of one number.
        shape: shape of one clip.
    """

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of_bytes(cls, data: bytes) -> Self:
        """Return what `to_bytes` wrote."""
        told = json.loads(data)
        return cls(told["dtype"], tuple(told["shape"]))

    def to_bytes(self) -> bytes:
        """Return bytes that say the same."""
        return json.dumps(asdict(self)).encode()


def write_task(recording: Recording, track_id: str) -> Task:
    """Return what a cell is handed for a recording. A source stays with the caller, who reads it for the cell."""
    if isinstance(recording, bytes):
        return Task(json.dumps({"track_id": track_id}).encode(), recording)
    if not isinstance(recording, Cuts):
        return Task(json.dumps({"track_id": track_id}).encode(), b"", recording)
    cuts = asdict(replace(recording, data=b"", source=None))
    del cuts["data"], cuts["source"]
    return Task(json.dumps({"track_id": track_id, "cuts": cuts}).encode(), recording.data, recording.source)


def read_task(task: Task) -> tuple[Recording, str]:
    """Return the recording and the track's id that `write_task` wrote."""
    told = json.loads(task.head)
    cuts, track_id = told.get("cuts"), told["track_id"]
    if cuts is None:
        return (task.data if task.source is None else task.source), track_id
    windows = tuple(CutWindow(**window) for window in cuts.pop("windows"))
    audio = cuts.pop("audio")
    within = None if audio is None else ByteRange(*audio)
    return Cuts(task.data, windows, source=task.source, audio=within, **cuts), track_id


def write_answer(track: Track) -> bytes:
    """Return the answer for what was heard of a track, or for its failure."""
    if "error_kind" in track:
        text = _shorten(track["error_message"])
        offset = track["error_offset"]
        number = _KINDS.index(ErrorKind(track["error_kind"]))
        return _FAILED + _FAILED_HEAD.pack(number, -1 if offset is None else offset, len(text)) + text
    damage = _shorten(track["damage"] or "")
    head = _HEARD_HEAD.pack(
        track["clip_count"],
        *(track[name] for name in _MEASURED),
        _DECODERS.index(track["decoder"]),
        len(damage),
    )
    starts = np.asarray(track["clip_starts"], "<f8").tobytes()
    return b"".join([_HEARD, head, damage, starts, track["clips"]])


def read_answer(data: bytes | bytearray, facts: ClipFacts) -> Track:
    """Return the values of the columns of a track, as `mgc.hearing.hear.Hear` gives them.

    Args:
        data: an answer.
        facts: what clips must be like.

    Raises:
        NoAnswerError: no intact decoder answers so.
    """
    try:
        return _read_failure(data) if data.startswith(_FAILED) else _read_heard(data, facts)
    except struct.error:
        raise NoAnswerError("an answer that is too short") from None


def _read_failure(data: bytes | bytearray) -> Track:
    number, offset, length = _FAILED_HEAD.unpack_from(data, 1)
    begin = 1 + _FAILED_HEAD.size
    _require(number < len(_KINDS), "an error of no known kind")
    _require(offset >= -1 and len(data) == begin + length, "an error of the wrong length")
    return {
        "error_kind": str(_KINDS[number]),
        "error_message": _read_text(data[begin:]),
        "error_offset": None if offset < 0 else offset,
    }


def _read_heard(data: bytes | bytearray, facts: ClipFacts) -> Track:
    _require(data.startswith(_HEARD), "an answer of no known kind")
    count, *measured, decoder, length = _HEARD_HEAD.unpack_from(data, 1)
    starts_at = 1 + _HEARD_HEAD.size + length
    clips_at = starts_at + 8 * count
    dtype = np.dtype(facts.dtype)
    _require(len(data) == clips_at + count * math.prod(facts.shape) * dtype.itemsize, "clips of the wrong length")
    _require(count > 0 and decoder < len(_DECODERS), "no clips, or an unknown decoder")
    starts = np.frombuffer(data, "<f8", count, starts_at)
    _require(all(0 <= value <= _MOST for value in (*measured, *starts)), "a length or a place that cannot be")
    clips = bytes(memoryview(data)[clips_at:])
    if dtype.kind == "f":
        _require(bool(np.isfinite(np.frombuffer(clips, dtype)).all()), "features that are no numbers")
    return {
        "clips": clips,
        "clip_count": count,
        "clip_starts": starts.tolist(),
        **dict(zip(_MEASURED, measured, strict=True)),
        "decoder": _DECODERS[decoder],
        "damage": _read_text(data[1 + _HEARD_HEAD.size : starts_at]) or None,
    }


def _shorten(text: str) -> bytes:
    return text[:MOST_TEXT].encode(errors="backslashreplace")


def _read_text(data: bytes | bytearray) -> str:
    """Return a text on one line, which does nothing to the terminal, table or page that shows it."""
    text = data.decode(errors="replace")
    _require(len(text) <= _MOST_READ_TEXT, "a text that is too long")
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NoAnswerError(otherwise)
