"""What must be read of a file to hear a plan's windows: of an MP3 stretches, else all of it."""

from __future__ import annotations

from typing import Final

from mgc.audio.cuts import Cuts, cut
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.probe import probe
from mgc.audio.source import ByteRange, Remembering, Source
from mgc.errors import AudioError

SMALL_BYTES: Final = 1 << 18
"""A file this small is read whole: a second request costs more than its bytes."""

Recording = bytes | Cuts
"""The whole file, or cuts of it."""


def record(source: Source, plan: ListeningPlan, track_id: str = "") -> Recording:
    """Read what `mgc.audio.decode.listen` needs to hear a plan's windows.

    Of an MP3 of which the plan hears little, stretches are read; of any other file all bytes.

    Args:
        source: the file.
        plan: which seconds to hear.
        track_id: for a plan with random places.
    """
    if source.size_bytes > SMALL_BYTES:
        remembering = Remembering(source)
        try:
            facts = probe(remembering)
        except AudioError:
            # What no probe knows, a decoder still may.
            facts = None
        if facts is not None and facts.codec == "mp3" and facts.container == "mp3":
            cuts = cut(remembering, facts.audio, plan, track_id)
            if cuts is not None:
                return cuts
    return source.read([ByteRange(0, source.size_bytes)])[0]
