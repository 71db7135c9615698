"""What a run of the label job took, and what the next one will take by it.

Each run's figures stand in its commit, so a table carries the rates at which it was made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from cluster.labels.table import RUN, LabelsTable
from cluster.session.profiles import Profile

FEW_TRACKS: Final = 100
"""A run of fewer tells of a start more than of a rate: it counts only where there is no larger one."""

RUNS_LOOKED_AT: Final = 5
"""Newest runs that an estimate is made from: machines and catalogs change."""


@dataclass(frozen=True)
class Measured:
    """What a run took. Seconds of stages are summed over the processes that work side by side.

    Attributes:
        tracks: heard.
        seconds: wall-clock, from the first track to the last.
        startup_seconds: wall-clock, before the first track.
        cores: that worked.
        gpus: that worked.
        size_bytes: of the tracks' files.
        bytes_read: of these.
        audio_seconds: length of the tracks, as far as known.
        heard_seconds: decoded of that.
        fetch_seconds: of waiting for storage.
        listen_seconds: of decoding and features.
        predict_seconds: of the network.
    """

    tracks: int = 0
    seconds: float = 0.0
    startup_seconds: float = 0.0
    cores: int = 1
    gpus: int = 0
    size_bytes: int = 0
    bytes_read: int = 0
    audio_seconds: float = 0.0
    heard_seconds: float = 0.0
    fetch_seconds: float = 0.0
    listen_seconds: float = 0.0
    predict_seconds: float = 0.0

    def plus(self, other: Measured) -> Measured:
        """Both, one after the other, on the machines of the later one."""
        summed = {name: getattr(self, name) + getattr(other, name) for name in _SUMMED}
        return Measured(**summed, cores=other.cores, gpus=other.gpus)


_SUMMED: Final = tuple(each.name for each in fields(Measured) if each.name not in ("cores", "gpus"))


@dataclass(frozen=True)
class Estimate:
    """What a run would take.

    Attributes:
        bytes_read: of audio.
        cpu_hours: of one core.
        gpu_hours: of one GPU; 0 where the network runs on the CPU.
        seconds: wall-clock, the start included, on the cores of a profile.
        runs: past runs that it rests on.
        tracks: in these.
    """

    bytes_read: int
    cpu_hours: float
    gpu_hours: float
    seconds: float
    runs: int
    tracks: int


def past_runs(table: LabelsTable, features_id: str, model_id: str) -> list[Measured]:
    """The last runs of a table, newest first; those of the same model or at least the same front end, if there are.

    Args:
        table: may have no commit yet.
        features_id: of the front end asked for.
        model_id: asked for.
    """
    if not table.exists:
        return []
    found: list[tuple[Measured, Mapping[str, Any]]] = []
    for entry in table.delta.history():
        try:
            about = json.loads(entry.get(RUN, "{}"))
            measured = Measured(**about["measured"])
        except (ValueError, TypeError, KeyError):
            # Of another kind, or by another version of mgc.
            continue
        if measured.tracks > 0:
            found.append((measured, about))
    for same in (("model_id", model_id), ("features_id", features_id), None):
        alike = [measured for measured, about in found if same is None or about.get(same[0]) == same[1]]
        chosen = [run for run in alike if run.tracks >= FEW_TRACKS] or alike
        if chosen:
            return chosen[:RUNS_LOOKED_AT]
    return []


def estimate(tracks: int, size_bytes: int, past: Sequence[Measured], profile: Profile) -> Estimate | None:
    """What a run over so many tracks would take; None where there is no past run to go by.

    Work per track as it was, spread over the profile's cores as evenly as it was over those of the past runs.

    Args:
        tracks: to label.
        size_bytes: of their files.
        past: `past_runs`.
        profile: at hand.
    """
    heard = sum(run.tracks for run in past)
    if not heard:
        return None
    share = tracks / heard
    sizes = sum(run.size_bytes for run in past)
    read = sum(run.bytes_read for run in past)
    gpu = profile.gpus > 0
    predict = sum(run.predict_seconds for run in past)
    cpu = sum(run.fetch_seconds + run.listen_seconds for run in past) + (0.0 if gpu else predict)
    core_seconds = sum(run.seconds * run.cores for run in past)
    startup = sum(run.startup_seconds for run in past) / len(past)
    return Estimate(
        bytes_read=round(size_bytes * read / sizes) if sizes else size_bytes,
        cpu_hours=cpu * share / 3600,
        gpu_hours=predict * share / 3600 if gpu else 0.0,
        seconds=(startup if tracks else 0.0) + core_seconds * share / profile.cores,
        runs=len(past),
        tracks=heard,
    )


def as_facts(measured: Measured) -> dict[str, Any]:
    """JSON-ready, seconds to the millisecond."""
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(measured).items()}
