"""Hear one file or array in this process, for a program that asks for its label or embedding."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyarrow import fs

from mgc.audio.decode import Listened, listen
from mgc.audio.decoders.samples import mix_samples
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.recording import Recording, record, record_file
from mgc.audio.source import ByteRange, Held
from mgc.audio.waveform import Waveform
from mgc.credentials import without_credentials
from mgc.errors import AudioError, ErrorKind, shorten
from mgc.features.clips import Clips
from mgc.features.front_end import FrontEnd

Audio = str | Path | bytes | NDArray[np.floating[Any]]
"""Path or URI of a file, its bytes, or samples: floats of shape (samples,) or (channels, samples), full scale ±1."""


def hear(
    audio: Audio, sample_rate_hz: int | None, plan: ListeningPlan, front_end: FrontEnd, min_seconds: float
) -> Listened[Clips]:
    """Return the features of the windows of a plan.

    Args:
        audio: file, bytes or samples.
        sample_rate_hz: samples per second of an array; None for a file.
        plan: windows to listen to.
        front_end: computes the features.
        min_seconds: length of the shortest recording to hear.

    Raises:
        AudioError: there is no usable audio; the message says why.
        ValueError: the samples are not as described, or an array has no rate or a file has one.
    """
    recording = _record(audio, sample_rate_hz, plan)
    heard = listen(recording, plan, lambda window: front_end(window.without_offset()), min_seconds=min_seconds)
    heard.require_change()
    return heard


def _record(audio: Audio, sample_rate_hz: int | None, plan: ListeningPlan) -> Recording | Waveform:
    if isinstance(audio, np.ndarray):
        if sample_rate_hz is None:
            raise ValueError("an array of samples needs sample_rate_hz.")
        return mix_samples(audio, sample_rate_hz)
    if sample_rate_hz is not None:
        raise ValueError("sample_rate_hz is for arrays; a file states its own.")
    if isinstance(audio, bytes):
        return record(Held(audio), plan)
    if isinstance(audio, str) and "://" in audio:
        source = PyarrowFile(audio)
        return record(source, plan, again=source)
    return record_file(Path(audio), plan)


class PyarrowFile:
    """A file at a URI that pyarrow can open, as a source. See `mgc.audio.source.Source`.

    Raises:
        AudioError: `fetch_failed`, the file cannot be opened.
    """

    def __init__(self, uri: str) -> None:
        self._where = without_credentials(uri)
        with self._explained():
            filesystem, path = fs.FileSystem.from_uri(uri)
            self._file = filesystem.open_input_file(path)
            self._size_bytes = int(self._file.size())

    @property
    def size_bytes(self) -> int:
        """Length of the whole file."""
        return self._size_bytes

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of each range, cut at the end of the file.

        Raises:
            AudioError: `fetch_failed`, the file cannot be read.
        """
        with self._explained():
            # pyarrow reads no range that begins behind the end.
            return [
                bytes(self._file.read_at(min(stop, self._size_bytes) - start, start))
                if start < self._size_bytes
                else b""
                for start, stop in ranges
            ]

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            raise AudioError(ErrorKind.FETCH_FAILED, f"{self._where}: {shorten(error)}") from None
