"""What to hear of a recording, and what becomes of it. Imports no PyTorch, see `Hearing.front_end`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mgc.audio.decode import CASCADE, MIN_SECONDS
from mgc.audio.decoders.stream import Decoder
from mgc.audio.excerpts import ListeningPlan
from mgc.configuration import JsonObject
from mgc.errors import AudioError
from mgc.units import GIB, MAX_FILE_GIB

Track = dict[str, Any]
"""New values of one track by column. Columns without a value stay empty."""


@dataclass(frozen=True)
class Hearing:
    """Windows of a recording, and the features to compute of them.

    Attributes:
        front_end: configuration of the front end as JSON, see `mgc.configuration.to_json`. Only the process that
            computes reads it, because its classes import PyTorch.
        plan: windows to listen to.
        decoders: decoders, in the order in which they are tried.
        min_seconds: length of the shortest recording to hear; shorter ones are `too_short`.
        max_file_bytes: size of the largest file to hear; larger ones are `too_large`.
    """

    front_end: JsonObject
    plan: ListeningPlan
    decoders: Sequence[Decoder] = CASCADE
    min_seconds: float = MIN_SECONDS
    max_file_bytes: int = MAX_FILE_GIB * GIB


def describe_failure(error: AudioError) -> Track:
    """Return the values of a track that gave no features."""
    return {"error_kind": str(error.kind), "error_message": str(error), "error_offset": error.offset_bytes}
