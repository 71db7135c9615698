"""What to read of a file for the windows of a plan.

Of a long MP3 these are stretches, of a small file all bytes, and of a large one what the decoder asks for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from mgc.audio.cuts import Cuts, cut
from mgc.audio.decoders.libsndfile import CutsReader
from mgc.audio.decoders.stream import Fault, Stretch
from mgc.audio.excerpts import Excerpt, ListeningPlan
from mgc.audio.probe import probe
from mgc.audio.source import ByteRange, LocalFile, Remembering, Source
from mgc.errors import AudioError, ErrorKind

SMALL_BYTES: Final = 1 << 18
"""Files up to this size are read whole: a second request would cost more than the bytes."""

HELD_BYTES: Final = 1 << 26
"""Larger files are never in memory as a whole: what the decoder asks for is read by ranges."""

Recording = bytes | Cuts | Source
"""A whole file, cuts of it, or a file that is read while it is decoded."""


def record(source: Source, plan: ListeningPlan, track_id: str = "", again: Source | None = None) -> Recording:
    """Read what `mgc.audio.decode.listen` needs for the windows of a plan.

    For a long MP3 these are stretches of it, for any other file all bytes, unless there are too many.

    Args:
        source: file.
        plan: windows to listen to.
        track_id: seed of a plan with random windows.
        again: the same file as a source that can be read while it is decoded: all of a large file, or other stretches
            if those of the plan are silent. Without it even a large file is read whole.
    """
    if source.size_bytes > SMALL_BYTES:
        remembering = Remembering(source)
        try:
            facts = probe(remembering)
        except AudioError as error:
            if error.kind is ErrorKind.FETCH_FAILED:
                raise
            # A decoder may still recognise the file.
            facts = None
        if facts is not None and facts.codec == "mp3" and facts.container == "mp3":
            cuts = cut(remembering, facts.audio, lambda seconds: plan.excerpts(seconds, track_id))
            if cuts is not None:
                return replace(cuts, source=again, audio=facts.audio)
    if again is not None and source.size_bytes > HELD_BYTES:
        return again
    return source.read([ByteRange(0, source.size_bytes)])[0]


def record_file(path: Path, plan: ListeningPlan) -> Recording:
    """Read what `mgc.audio.decode.listen` needs of a local file for the windows of a plan.

    Raises:
        AudioError: `fetch_failed`, the file cannot be read.
    """
    place = path.expanduser()
    try:
        with closing(LocalFile(str(place), os.open(place, os.O_RDONLY))) as file:
            return record(file, plan, again=file)
    except OSError as error:
        raise AudioError(ErrorKind.FETCH_FAILED, f"{path}: {error.strerror or error}") from None


class CutsStream(CutsReader):
    """Cuts of an MP3 as a stream. See `mgc.audio.decoders.stream.Stream`.

    The first reading gives the windows that were cut, which are those of the plan. Others are cut out of the file, if
    it can be read again.
    """

    announced_seconds: float | None = None

    def __init__(self, cuts: Cuts) -> None:
        self.sample_rate_hz = cuts.sample_rate_hz
        self.duration_seconds, self.tolerance_seconds = cuts.duration_seconds, cuts.tolerance_seconds
        self.fault: Fault | None = None
        self._cuts, self._unread = cuts, True

    def read(self, excerpts: Sequence[Excerpt]) -> Iterator[Stretch]:
        """Decode one stretch after the other; after one that is incomplete, the others are empty."""
        cuts = self._cuts if self._unread else self._cut_again(excerpts)
        self._unread = False
        return self.read_cuts(cuts, len(excerpts))

    def _cut_again(self, excerpts: Sequence[Excerpt]) -> Cuts | None:
        if self._cuts.source is None or self._cuts.audio is None:
            return None
        return cut(Remembering(self._cuts.source), self._cuts.audio, lambda _: excerpts)
