"""What to read of a file for the windows of a plan: stretches of an MP3, all of any other file."""

from __future__ import annotations

from typing import Final

from mgc.audio.cuts import Cuts, cut
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.probe import probe
from mgc.audio.source import ByteRange, Remembering, Source
from mgc.errors import AudioError

SMALL_BYTES: Final = 1 << 18
"""Files up to this size are read whole: a second request would cost more than the bytes."""

Recording = bytes | Cuts
"""A whole file, or cuts of it."""


def record(source: Source, plan: ListeningPlan, track_id: str = "") -> Recording:
    """Read what `mgc.audio.decode.listen` needs for the windows of a plan.

    For a long MP3 these are stretches of it, for any other file all bytes.

    Args:
        source: file.
        plan: windows to listen to.
        track_id: seed of a plan with random windows.
    """
    if source.size_bytes > SMALL_BYTES:
        remembering = Remembering(source)
        try:
            facts = probe(remembering)
        except AudioError:
            # A decoder may still recognise the file.
            facts = None
        if facts is not None and facts.codec == "mp3" and facts.container == "mp3":
            cuts = cut(remembering, facts.audio, plan, track_id)
            if cuts is not None:
                return cuts
    return source.read([ByteRange(0, source.size_bytes)])[0]
