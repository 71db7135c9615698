"""Decoders that do what no decoder should, on files that ask for it. A child process finds them here by name."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from mgc.audio import libsndfile
from mgc.audio.attempt import Attempt
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.waveform import Waveform

HANGS = b"a decoder that sleeps for ever"
DIES = b"a decoder that calls abort"
EATS = b"a decoder that takes all memory"


def treacherous(data: bytes, plan: ListeningPlan, use: Callable[[Waveform], Any], track_id: str = "") -> Attempt[Any]:
    """libsndfile, but for three kinds of files."""
    if data.endswith(HANGS):
        while True:
            time.sleep(3600)
    if data.endswith(DIES):
        os.abort()
    if data.endswith(EATS):
        held = []
        while True:
            held.append(b"x" * 2**26)
    return libsndfile.listen(data, plan, use, track_id)
