"""mgc's own parsers of files, each as a function that takes any bytes and returns."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from mgc.audio.cuts import cut
from mgc.audio.decoders.counted import find_frames
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.parts.divide import divide, head_flac
from mgc.audio.parts.search import find_audio, find_bare_flac
from mgc.audio.probe import probe
from mgc.audio.source import ByteRange, Held, Remembering
from mgc.errors import AudioError
from mgc.tags.tags import read_tags

FOUND: Final = Path(__file__).parent / "found"
"""Small files of earlier runs of `run.py`, in a folder for each parser. Each reaches lines that no others do."""

_PLAN: Final = ListeningPlan(window_seconds=0.5, windows=3)


def parse_probe(data: bytes) -> None:
    """Find out what a file is."""
    with suppress(AudioError):
        probe(Held(data))


def parse_mpeg(data: bytes) -> None:
    """Walk from frame to frame."""
    find_frames(Held(data), ByteRange(0, len(data)))


def parse_cuts(data: bytes) -> None:
    """Cut windows out of an MP3."""
    cut(Remembering(Held(data)), ByteRange(0, len(data)), _PLAN.excerpts)


def parse_parts(data: bytes) -> None:
    """Find the streams of a file."""
    source = Held(data)
    with suppress(AudioError):
        divide(source, probe(source))
    find_audio(source)
    bare = find_bare_flac(source)
    if bare is not None:
        head_flac(source, bare)


def parse_tags(data: bytes) -> None:
    """Read a file's tags."""
    read_tags(Held(data))


PARSERS: Final[dict[str, Callable[[bytes], None]]] = {
    "probe": parse_probe,
    "mpeg": parse_mpeg,
    "cuts": parse_cuts,
    "parts": parse_parts,
    "tags": parse_tags,
}
