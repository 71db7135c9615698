"""The first decoder: libsndfile, through soundfile. It is fast and seeks to the exact sample.

Bare MPEG audio is not opened here: see `mgc.audio.decoders.counted`. T: samples in time, C: channels.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from mgc.audio.cuts import Cuts, CutWindow
from mgc.audio.decoders.mixing import Mixer
from mgc.audio.decoders.stream import RATES_HZ, SLACK_SECONDS, DecoderName, Fault, Stretch
from mgc.audio.excerpts import Excerpt
from mgc.audio.source import HeldFile, Source, SourceFile, open_source
from mgc.errors import AudioError, ErrorKind

_LONGEST_SECONDS: Final = 100 * 3600.0
"""libsndfile reports a greater length if it does not know it."""

_BLOCK_VALUES: Final = 1 << 17
"""Values (samples times channels) decoded at once: 512 KiB, which fit into the processor's cache."""


_PREROLL_SECONDS: Final = 0.5
"""Decoded before each window and dropped. libsndfile seeks to the exact sample, but the first samples there are wrong:
for some MP3 frames, because the bit reservoir is empty, or for one Vorbis block (8,192 samples at most)."""


def open_stream(source: Source) -> SoundFileStream:
    """Open a stream.

    Raises:
        AudioError: `not_audio` (libsndfile does not know it), `corrupt_stream` (its length makes no sense), or
            `unsupported_codec` (more than two channels, whose order libsndfile does not tell).
    """
    data = open_source(source)
    with _C_STDERR.silenced():
        try:
            file = _SoundFile(data)
        except soundfile.LibsndfileError as error:
            if data.failure is not None:
                raise data.failure from None
            raise AudioError(ErrorKind.NOT_AUDIO, f"libsndfile: {error.error_string}") from None
    rate_hz, frames = file.samplerate, file.frames
    if rate_hz not in RATES_HZ or not 0 <= frames / rate_hz < _LONGEST_SECONDS:
        raise AudioError(ErrorKind.CORRUPT_STREAM, f"libsndfile finds {frames} samples at {rate_hz} Hz")
    if file.channels > 2:
        raise AudioError(ErrorKind.UNSUPPORTED_CODEC, f"libsndfile does not tell where {file.channels} channels belong")
    return SoundFileStream(file, data)


class SoundFileStream:
    """A stream that libsndfile decodes. See `mgc.audio.decoders.stream.Stream`.

    libsndfile takes its length from the header, which the caller has checked.
    """

    decoder: Final[DecoderName] = "soundfile"
    tolerance_seconds = 0.0
    announced_seconds: float | None = None

    def __init__(self, file: soundfile.SoundFile, data: HeldFile | SourceFile) -> None:
        self._file, self._data = file, data
        self.sample_rate_hz: int = file.samplerate
        self.duration_seconds = file.frames / file.samplerate
        self.fault: Fault | None = None

    def read(self, excerpts: Sequence[Excerpt]) -> Iterator[Stretch]:
        """Decode the stretches in order. After an incomplete one, the rest are empty."""
        rate_hz = self.sample_rate_hz
        for excerpt in excerpts:
            start = round(excerpt.start_seconds * rate_hz)
            # Another decoder may have found the file longer.
            wanted = max(0, min(round(excerpt.seconds * rate_hz), self._file.frames - start))
            if self.fault is not None:
                wanted = 0
            with _C_STDERR.silenced():
                mono_T, stopped = self._read(start, wanted)
            if self._data.failure is not None:
                raise self._data.failure
            if wanted - len(mono_T) > SLACK_SECONDS * rate_hz:
                before_seconds, self.duration_seconds = self.duration_seconds, (start + len(mono_T)) / rate_hz
                text = f"damaged: libsndfile stops at {self.duration_seconds:.1f} of {before_seconds:.1f} s"
                self.fault = Fault(ErrorKind.CORRUPT_STREAM, text + (f" ({stopped})" if stopped else ""))
            yield Stretch(mono_T, rate_hz, start / rate_hz)

    def _read(self, start: int, wanted: int) -> tuple[NDArray[np.float32], str | None]:
        """Return samples from `start` on: `wanted` of them, or fewer and why decoding stopped."""
        file = self._file
        mixer = Mixer(wanted, file.channels)
        block_TC = np.empty((max(1, min(wanted, _BLOCK_VALUES // file.channels)), file.channels), np.float32)
        try:
            position = max(0, start - round(_PREROLL_SECONDS * file.samplerate))
            # In an Ogg file, libsndfile 1.2.2 may miss by seconds if it seeks a short way forward (its issue 885). From
            # the start of the file it does not; only on the last page it misses by less than one Vorbis block.
            file.seek(0)
            file.seek(position)
            while position < start:
                dropped = len(file.read(out=block_TC[: start - position]))
                if not dropped:
                    break
                position += dropped
            while mixer.missing:
                got_TC = file.read(out=block_TC[: mixer.missing])
                if not len(got_TC):
                    break
                mixer.add(list(got_TC.T))
        except soundfile.LibsndfileError as error:
            return mixer.finish(), error.error_string.rstrip(".")
        return mixer.finish(), None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _read_cuts(cuts: Cuts) -> Iterator[tuple[Stretch, Fault | None]]:
    """Decode the windows of the cuts of an MP3 in order, up to the first incomplete one."""
    with _C_STDERR.silenced():
        try:
            file = _SoundFile(HeldFile(cuts.data))
        except soundfile.LibsndfileError as error:
            file, stopped = None, error.error_string.rstrip(".")
    if file is None:
        nothing = Stretch(np.empty(0, np.float32), cuts.sample_rate_hz, 0.0)
        yield nothing, Fault(ErrorKind.CORRUPT_STREAM, f"damaged: libsndfile: {stopped}")
        return
    with file:
        position = 0
        for window in cuts.windows:
            with _C_STDERR.silenced():
                mono_T, position, why = _read_on(file, position, window)
            fault = None
            if len(mono_T) < window.samples:
                text = f"damaged: libsndfile stops in the window at {window.start_seconds:.1f} s"
                fault = Fault(ErrorKind.CORRUPT_STREAM, text + (f" ({why})" if why else ""))
            yield Stretch(mono_T, cuts.sample_rate_hz, window.start_seconds), fault
            if fault is not None:
                return


class CutsReader:
    """Reads cuts of an MP3 for a stream that has made them. See `mgc.audio.decoders.stream.Stream`."""

    decoder: Final[DecoderName] = "soundfile"
    sample_rate_hz: int
    fault: Fault | None

    def read_cuts(self, cuts: Cuts | None, count: int) -> Iterator[Stretch]:
        """Decode `count` windows in order. After an incomplete one, the rest are empty."""
        left = count
        if cuts is not None:
            for stretch, fault in _read_cuts(cuts):
                self.fault = self.fault or fault
                left -= 1
                yield stretch
        for _ in range(left):
            yield Stretch(np.empty(0, np.float32), self.sample_rate_hz, 0.0)

    def close(self) -> None:
        """Do nothing: no decoder is open."""


def _read_on(
    file: soundfile.SoundFile, position: int, window: CutWindow
) -> tuple[NDArray[np.float32], int, str | None]:
    """Return the samples of a window, the position behind it, and why decoding stopped."""
    mixer = Mixer(window.samples, file.channels)
    block_TC = np.empty((_BLOCK_VALUES // file.channels, file.channels), np.float32)
    try:
        while mixer.missing:
            ahead = window.first_sample - position if position < window.first_sample else mixer.missing
            got_TC = file.read(out=block_TC[:ahead])
            if not len(got_TC):
                break
            if position >= window.first_sample:
                mixer.add(list(got_TC.T))
            position += len(got_TC)
    except soundfile.LibsndfileError as error:
        return mixer.finish(), position, error.error_string.rstrip(".")
    return mixer.finish(), position, None


class _SoundFile(soundfile.SoundFile):
    """A SoundFile that claims not to be seekable, so that soundfile does not seek after each read.

    soundfile seeks to the current place after each read of a seekable file. libmpg123 then starts anew with an empty
    bit reservoir, and the next frame is silent. `seek` itself still works.
    """

    def seekable(self) -> bool:
        """Return False."""
        return False


class _CStderr:
    """C's `stderr`, redirected while libsndfile decodes.

    libmpg123, its MP3 decoder, prints a line for each damaged frame, and libsndfile cannot turn that off. File
    descriptor 2 stays as it is, so messages of Python and abort messages of the C library still appear. What another
    thread prints through C's `stderr` at the same time is lost. Only glibc is supported; elsewhere the lines appear.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._original: int | None = None
        self._sink: int | None = None
        if "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", {}):
            library = ctypes.CDLL(None)
            library.fopen.restype = ctypes.c_void_p
            self._pointer = ctypes.c_void_p.in_dll(library, "stderr")
            self._sink = library.fopen(b"/dev/null", b"w")

    @contextlib.contextmanager
    def silenced(self) -> Iterator[None]:
        if self._sink is None:
            yield
            return
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._original, self._pointer.value = self._pointer.value, self._sink
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._pointer.value = self._original


_C_STDERR: Final = _CStderr()
