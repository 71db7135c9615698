"""The first decoder: libsndfile, by soundfile. Quick, and seeks to the sample. T: samples in time, C: channels."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import threading
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from mgc.audio.attempt import RATES_HZ, SLACK_SECONDS, Attempt, Use, mix
from mgc.audio.cuts import Cuts, cut_by_count
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.ffmpeg import counted_seconds
from mgc.audio.probe import probe
from mgc.audio.source import Held
from mgc.audio.waveform import Waveform
from mgc.errors import AudioError, ErrorKind

_LONGEST_SECONDS: Final = 100 * 3600.0
"""Lengths beyond are libsndfile's way to say that it does not know."""

_BLOCK_VALUES: Final = 1 << 17
"""Values (samples times channels) decoded at once: 512 KiB, which stay in the processor's cache."""


_PREROLL_SECONDS: Final = 0.5
"""Decoded before each window and dropped. libsndfile seeks to the sample, but what it gives there is wrong for some MP3
frames (the bit reservoir is empty) or one Vorbis block (8,192 samples at most)."""


def listen(data: bytes, plan: ListeningPlan, use: Callable[[Waveform], Use], track_id: str = "") -> Attempt[Use]:
    """Decode the planned windows up to the first that comes up short."""
    attempt = Attempt("soundfile", use)
    with _C_STDERR.silenced():
        try:
            file = _SoundFile(_Bytes(data))
        except soundfile.LibsndfileError as error:
            return attempt.faulty(ErrorKind.NOT_AUDIO, f"libsndfile: {error.error_string}")
        with file:
            return _listen(file, data, plan, attempt, track_id)


def listen_to_cuts(cuts: Cuts, use: Callable[[Waveform], Use]) -> Attempt[Use]:
    """Decode the windows of an MP3's cuts."""
    attempt = Attempt("soundfile", use, duration_seconds=cuts.duration_seconds)
    with _C_STDERR.silenced():
        try:
            with _SoundFile(_Bytes(cuts.data)) as file:
                attempt.opened = True
                _listen_to_cuts(file, cuts, attempt)
        except soundfile.LibsndfileError as error:
            attempt.faulty(ErrorKind.CORRUPT_STREAM, f"damaged: libsndfile: {error.error_string.rstrip('.')}")
    return attempt


def _listen_to_cuts(file: soundfile.SoundFile, cuts: Cuts, attempt: Attempt[Use]) -> None:
    block_TC = np.empty((_BLOCK_VALUES // file.channels, file.channels), np.float32)
    position = 0
    for window in cuts.windows:
        mono_T = np.empty(window.samples, np.float32)
        end = window.first_sample + window.samples
        while position < end:
            ahead = (window.first_sample if position < window.first_sample else end) - position
            got_TC = file.read(out=block_TC[:ahead])
            if not len(got_TC):
                missing = end - max(position, window.first_sample)
                attempt.hear(mono_T[: window.samples - missing], cuts.sample_rate_hz, window.start_seconds)
                attempt.faulty(
                    ErrorKind.CORRUPT_STREAM, f"damaged: libsndfile stops in the window at {window.start_seconds:.1f} s"
                )
                return
            if position >= window.first_sample:
                mix(list(got_TC.T), mono_T[position - window.first_sample :][: len(got_TC)])
            position += len(got_TC)
        attempt.hear(mono_T, cuts.sample_rate_hz, window.start_seconds)


def _listen(
    file: soundfile.SoundFile, data: bytes, plan: ListeningPlan, attempt: Attempt[Use], track_id: str
) -> Attempt[Use]:
    rate_hz, frames = file.samplerate, file.frames
    duration_seconds = frames / rate_hz if rate_hz in RATES_HZ else -1.0
    if not 0 <= duration_seconds < _LONGEST_SECONDS:
        return attempt.faulty(ErrorKind.CORRUPT_STREAM, f"libsndfile finds {frames} samples at {rate_hz} Hz")
    if file.format == "MP3" and not _mp3_is_counted(data):
        # libsndfile guesses the length from the bit rate of the first frame, and reads no further than that.
        cuts = None
        with contextlib.suppress(AudioError):
            cuts = cut_by_count(data, probe(Held(data)).audio, plan, track_id)
            if cuts is not None and abs(cuts.duration_seconds - duration_seconds) > SLACK_SECONDS:
                return listen_to_cuts(cuts, attempt.use)
        true_seconds = counted_seconds(data) if cuts is None else None
        if true_seconds is not None and abs(true_seconds - duration_seconds) > SLACK_SECONDS:
            return attempt.faulty(ErrorKind.CORRUPT_STREAM, "libsndfile cannot tell its length")
    else:
        attempt.announced_seconds = duration_seconds
    attempt.opened = True
    attempt.duration_seconds = duration_seconds
    for excerpt in plan.excerpts(duration_seconds, track_id):
        start = round(excerpt.start_seconds * rate_hz)
        wanted = min(round(excerpt.seconds * rate_hz), frames - start)
        mono_T, stopped = _read_mono(file, start, wanted)
        attempt.hear(mono_T, rate_hz, start / rate_hz)
        if wanted - len(mono_T) > SLACK_SECONDS * rate_hz:
            attempt.duration_seconds = (start + len(mono_T)) / rate_hz
            fault = f"damaged: libsndfile stops at {attempt.duration_seconds:.1f} of {duration_seconds:.1f} s"
            return attempt.faulty(ErrorKind.CORRUPT_STREAM, fault + (f" ({stopped})" if stopped else ""))
    return attempt


def _read_mono(file: soundfile.SoundFile, start: int, wanted: int) -> tuple[NDArray[np.float32], str | None]:
    """Mean of the channels of `wanted` samples from `start`; fewer, with the reason, where the decoder stops."""
    mono_T = np.empty(wanted, np.float32)
    channels = file.channels
    block_TC = np.empty((min(wanted, max(1, _BLOCK_VALUES // channels)), channels), np.float32)
    filled = 0
    try:
        position = max(0, start - round(_PREROLL_SECONDS * file.samplerate))
        # In an Ogg file libsndfile 1.2.2 may land seconds off a short way forward (its issue 885); from the start it
        # does not, but for the last page, where it is off by less than a block of Vorbis.
        file.seek(0)
        file.seek(position)
        while position < start:
            dropped = len(file.read(out=block_TC[: start - position]))
            if not dropped:
                return mono_T[:0], None
            position += dropped
        while filled < wanted:
            got_TC = file.read(out=block_TC[: wanted - filled])
            if not len(got_TC):
                return mono_T[:filled], None
            mix(list(got_TC.T), mono_T[filled : filled + len(got_TC)])
            filled += len(got_TC)
    except soundfile.LibsndfileError as error:
        return mono_T[:filled], error.error_string.rstrip(".")
    return mono_T, None


def _mp3_is_counted(data: bytes) -> bool:
    """Whether the first frame says how many follow (a Xing or Info tag with its frame count)."""
    start = 0
    while data[start : start + 3] == b"ID3" and len(data) >= start + 10:
        size = data[start + 6 : start + 10]
        start += 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3])
    head = data[start : start + 4096]
    places = (head.find(b"Xing"), head.find(b"Info"))
    return any(place >= 0 and len(head) > place + 7 and head[place + 7] & 1 for place in places)


class _SoundFile(soundfile.SoundFile):
    """soundfile seeks to where it already is after each read of a seekable file; to libmpg123 that is a new beginning.

    The first frame after it would come out as silence, with an empty bit reservoir. `seek` itself does not ask this.
    """

    def seekable(self) -> bool:
        """Say no."""
        return False


class _Bytes(io.BytesIO):
    """Bytes that answer a seek before their beginning as a C file does: no exception, the position stays."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


class _CStderr:
    """C's `stderr`, pointed elsewhere while libsndfile decodes.

    Its MP3 decoder (libmpg123) prints a line for each damaged frame, and libsndfile has no switch against it. File
    descriptor 2 is left alone, so Python's own messages and the C library's abort messages still appear; what another
    thread prints through C's `stderr` in those milliseconds is lost. With another C library than glibc the lines stay.
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
