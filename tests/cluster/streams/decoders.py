"""Decoders that do what no decoder should, on files that ask for it. A child process finds them here by name."""

from __future__ import annotations

import os
import time

from mgc.audio.cell.messages import Task
from mgc.audio.decoders import libsndfile
from mgc.audio.decoders.stream import Stream
from mgc.audio.source import ByteRange, Source
from tests.unit.audio.cell.breakouts import TakenOver

HANGS = b"a decoder that sleeps for ever"
DIES = b"a decoder that calls abort"
EATS = b"a decoder that takes all memory"
TRIES = b"a decoder that was taken over, and tries "


def treacherous(source: Source) -> Stream:
    """libsndfile, but for three kinds of files."""
    (data,) = source.read([ByteRange(0, source.size_bytes)])
    if data.endswith(HANGS):
        while True:
            time.sleep(3600)
    if data.endswith(DIES):
        os.abort()
    if data.endswith(EATS):
        held = []
        while True:
            held.append(bytes(2**28))  # never written to: the limit is reached before a busy machine's patience ends
    return libsndfile.open_stream(source)


def taken_over(source: Source) -> Stream:
    """libsndfile, but for files that take it over: it tries what they say, as `TakenOver` does, and tells the loot."""
    (data,) = source.read([ByteRange(0, source.size_bytes)])
    _, tries, attempt = data.rpartition(TRIES)
    if not tries:
        return libsndfile.open_stream(source)
    answer = TakenOver()(Task(attempt.removesuffix(HANGS), b""))
    while attempt.endswith(HANGS):
        time.sleep(3600)
    raise RuntimeError(answer.decode())
