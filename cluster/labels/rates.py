"""Estimate the time and download of the next run of the label job from past runs.

Each commit records how much time and data its run took, so a table carries its own rates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cluster.labels.log import RUN_FACTS
from cluster.labels.runs.table import RunTable
from cluster.session.profiles import Profile
from mgc.labeling.throughput import Throughput

FEW_TRACKS: Final = 100
"""Runs smaller than this mostly measure start-up time; they are used only if there are no larger ones."""

RUNS_LOOKED_AT: Final = 5
"""Number of runs, newest first, that an estimate uses. Machines and catalogs change."""


@dataclass(frozen=True)
class Estimate:
    """Resources that a run would take.

    Attributes:
        bytes_read: bytes of audio to download.
        cpu_hours: hours of one core.
        gpu_hours: hours of one GPU; 0 where the network runs on the CPU.
        seconds: wall-clock time on the cores of a profile, start-up included.
        runs: number of past runs behind the estimate.
        tracks: number of tracks in those runs.
    """

    bytes_read: int
    cpu_hours: float
    gpu_hours: float
    seconds: float
    runs: int
    tracks: int


def past_runs(table: RunTable, features_id: str, model_id: str) -> list[Throughput]:
    """Return the measurements of the last runs of a table, newest first.

    Uses runs of the same model if there are any, else of the same front end, else of any model.

    Args:
        table: the table, which may have no commit yet.
        features_id: id of the front end.
        model_id: id of the bundle.
    """
    if not table.exists:
        return []
    found: list[tuple[Throughput, Mapping[str, object]]] = []
    for entry in table.delta.history():
        try:
            about = json.loads(entry.get(RUN_FACTS, "{}"))
            measured = Throughput(**about["measured"])
        except (ValueError, TypeError, KeyError):
            # This is not a label run, or it comes from another version of mgc.
            continue
        if measured.tracks > 0:
            found.append((measured, about))
    for same in (("model_id", model_id), ("features_id", features_id), None):
        alike = [measured for measured, about in found if same is None or about.get(same[0]) == same[1]]
        chosen = [run for run in alike if run.tracks >= FEW_TRACKS] or alike
        if chosen:
            return chosen[:RUNS_LOOKED_AT]
    return []


def estimate(tracks: int, size_bytes: int, past: Sequence[Throughput], profile: Profile) -> Estimate | None:
    """Estimate the resources of a run. Returns None if there is no past run.

    Assumes the same work per track as in past runs, spread over the cores of the profile as evenly as it was then.

    Args:
        tracks: number of tracks to label.
        size_bytes: total size of their files.
        past: result of `past_runs`.
        profile: available machines.
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
