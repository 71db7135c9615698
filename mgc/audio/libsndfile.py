"""The first decoder: libsndfile, through soundfile. It is fast and seeks to the exact sample.

T: samples in time, C: channels.
"""

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
from mgc.audio.ffmpeg import measure_seconds
from mgc.audio.probe import probe
from mgc.audio.source import Held
from mgc.audio.waveform import Waveform
from mgc.errors import AudioError, ErrorKind

_LONGEST_SECONDS: Final = 100 * 3600.0
"""libsndfile reports a greater length if it does not know it."""

_BLOCK_VALUES: Final = 1 << 17
"""Values (samples times channels) decoded at once: 512 KiB, which fit into the processor's cache."""


_PREROLL_SECONDS: Final = 0.5
"""Decoded before each window and dropped. libsndfile seeks to the exact sample, but the first samples there are wrong:
for some MP3 frames, because the bit reservoir is empty, or for one Vorbis block (8,192 samples at most)."""


def listen(data: bytes, plan: ListeningPlan, use: Callable[[Waveform], Use], track_id: str = "") -> Attempt[Use]:
    """Decode the planned windows, up to the first one that is incomplete."""
    attempt = Attempt("soundfile", use)
    with _C_STDERR.silenced():
        try:
            file = _SoundFile(_Bytes(data))
        except soundfile.LibsndfileError as error:
            return attempt.fail(ErrorKind.NOT_AUDIO, f"libsndfile: {error.error_string}")
        with file:
            return _listen(file, data, plan, attempt, track_id)


def listen_to_cuts(cuts: Cuts, use: Callable[[Waveform], Use]) -> Attempt[Use]:
    """Decode the windows of the cuts of an MP3."""
    attempt = Attempt("soundfile", use, duration_seconds=cuts.duration_seconds)
    with _C_STDERR.silenced():
        try:
            with _SoundFile(_Bytes(cuts.data)) as file:
                attempt.opened = True
                _listen_to_cuts(file, cuts, attempt)
        except soundfile.LibsndfileError as error:
            attempt.fail(ErrorKind.CORRUPT_STREAM, f"damaged: libsndfile: {error.error_string.rstrip('.')}")
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
                attempt.add(mono_T[: window.samples - missing], cuts.sample_rate_hz, window.start_seconds)
                attempt.fail(
                    ErrorKind.CORRUPT_STREAM, f"damaged: libsndfile stops in the window at {window.start_seconds:.1f} s"
                )
                return
            if position >= window.first_sample:
                mix(list(got_TC.T), mono_T[position - window.first_sample :][: len(got_TC)])
            position += len(got_TC)
        attempt.add(mono_T, cuts.sample_rate_hz, window.start_seconds)


def _listen(
    file: soundfile.SoundFile, data: bytes, plan: ListeningPlan, attempt: Attempt[Use], track_id: str
) -> Attempt[Use]:
    rate_hz, frames = file.samplerate, file.frames
    duration_seconds = frames / rate_hz if rate_hz in RATES_HZ else -1.0
    if not 0 <= duration_seconds < _LONGEST_SECONDS:
        return attempt.fail(ErrorKind.CORRUPT_STREAM, f"libsndfile finds {frames} samples at {rate_hz} Hz")
    if file.format == "MP3" and not _states_frame_count(data):
        # libsndfile guesses the length from the bit rate of the first frame, and reads no further.
        cuts = None
        with contextlib.suppress(AudioError):
            cuts = cut_by_count(data, probe(Held(data)).audio, plan, track_id)
            if cuts is not None and abs(cuts.duration_seconds - duration_seconds) > SLACK_SECONDS:
                return listen_to_cuts(cuts, attempt.use)
        true_seconds = measure_seconds(data) if cuts is None else None
        if true_seconds is not None and abs(true_seconds - duration_seconds) > SLACK_SECONDS:
            return attempt.fail(ErrorKind.CORRUPT_STREAM, "libsndfile cannot tell its length")
    else:
        attempt.announced_seconds = duration_seconds
    attempt.opened = True
    attempt.duration_seconds = duration_seconds
    for excerpt in plan.excerpts(duration_seconds, track_id):
        start = round(excerpt.start_seconds * rate_hz)
        wanted = min(round(excerpt.seconds * rate_hz), frames - start)
        mono_T, stopped = _read_mono(file, start, wanted)
        attempt.add(mono_T, rate_hz, start / rate_hz)
        if wanted - len(mono_T) > SLACK_SECONDS * rate_hz:
            attempt.duration_seconds = (start + len(mono_T)) / rate_hz
            fault = f"damaged: libsndfile stops at {attempt.duration_seconds:.1f} of {duration_seconds:.1f} s"
            return attempt.fail(ErrorKind.CORRUPT_STREAM, fault + (f" ({stopped})" if stopped else ""))
    return attempt


def _read_mono(file: soundfile.SoundFile, start: int, wanted: int) -> tuple[NDArray[np.float32], str | None]:
    """Return the mean of the channels from `start` on: `wanted` samples, or fewer and why decoding stopped."""
    mono_T = np.empty(wanted, np.float32)
    channels = file.channels
    block_TC = np.empty((min(wanted, max(1, _BLOCK_VALUES // channels)), channels), np.float32)
    filled = 0
    try:
        position = max(0, start - round(_PREROLL_SECONDS * file.samplerate))
        # In an Ogg file, libsndfile 1.2.2 may miss by seconds if it seeks a short way forward (its issue 885). From the
        # start of the file it does not; only on the last page it misses by less than one Vorbis block.
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


def _states_frame_count(data: bytes) -> bool:
    """Return whether the first frame states how many follow: a Xing or Info tag with a frame count."""
    start = 0
    while data[start : start + 3] == b"ID3" and len(data) >= start + 10:
        size = data[start + 6 : start + 10]
        start += 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3])
    head = data[start : start + 4096]
    places = (head.find(b"Xing"), head.find(b"Info"))
    return any(place >= 0 and len(head) > place + 7 and head[place + 7] & 1 for place in places)


class _SoundFile(soundfile.SoundFile):
    """A SoundFile that claims not to be seekable, so that soundfile does not seek after each read.

    soundfile seeks to the current place after each read of a seekable file. libmpg123 then starts anew with an empty
    bit reservoir, and the next frame is silent. `seek` itself still works.
    """

    def seekable(self) -> bool:
        """Return False."""
        return False


class _Bytes(io.BytesIO):
    """Bytes that handle a seek before their start as a C file does: no exception, and the position stays."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


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
