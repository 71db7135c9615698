"""Kinds of files that are not always heard right."""

from __future__ import annotations

from typing import Final

KNOWN_WRONG: Final = frozenset(
    {
        "antiphase stereo",
        "glued MP3",
        "glued MP3, other rate or channels",
        "glued MP3, many chunks",
        "chained Vorbis",
        "chained Vorbis, other rate or channels",
        "chained Opus",
        "glued Ogg, other codec",
        "glued FLAC",
        "glued FLAC, other rate or channels",
        "glued WAV",
        "glued AAC, other rate or channels",
        "MP3 tag's counts lie",
        "Ogg's last granule lies",
        "WAV's sizes lie",
        "length of another header lies",
        "junk before FLAC",
        "junk before Ogg",
        "junk before WAV",
        "junk behind MP3",
        "truncated WAV",
        "truncated AIFF",
        "truncated Ogg",
        "truncated MP3",
        "truncated others",
        "digital silence",
        "dither",
        "one click",
        "constant offset alone",
        "all NaN",
        "empty MPEG frames",
    }
)
"""A test asserts the list exactly over a small sample: a kind that is mended must leave it."""
