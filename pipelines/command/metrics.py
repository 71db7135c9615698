"""Publish the outcome of a job for Prometheus. The figures outlive the job's Ray and show a missed night.

`MGC_JOB_METRICS` names the place: a folder that node_exporter's textfile collector reads, or the http:// address of a
Pushgateway. A job that failed or was refused leaves the time of the last
success as it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, pushadd_to_gateway, write_to_textfile
from pydantic import JsonValue

METRICS: Final[Mapping[str, str]] = {
    "mgc_job_last_end_timestamp_seconds": "When the job last ended, with or without success; in seconds since 1970.",
    "mgc_job_last_success_timestamp_seconds": "When it last succeeded, with or without alarms; in seconds since 1970.",
    "mgc_job_exit_code": "0: done; 1: failed; 2: wrong command line; 3: with alarms; 4: refused; 130: interrupted.",
    "mgc_job_alarms": "Number of alarms that the job raised.",
    "mgc_job_refusals": "Number of guards that stopped the job before its commit.",
    "mgc_job_duration_seconds": "How long the job took.",
    "mgc_job_tracks": "The counts of the job's summary, by `what`.",
}
"""Names of the gauges with their help. Each gauge has the label `name`, the job's word."""

_LAST_SUCCESS: Final = "mgc_job_last_success_timestamp_seconds"
_TRACKS: Final = "mgc_job_tracks"
_PUSH_SECONDS: Final = 10.0


@dataclass(frozen=True)
class JobFigures:
    """Published figures of a job.

    Attributes:
        job: the job's word.
        code: its exit code.
        seconds: duration of the job.
        alarms: number of alarms.
        refusals: number of guards that stopped the job before its commit.
        counts: counts of its summary; entries that are not numbers are left out.
    """

    job: str
    code: int
    seconds: float
    alarms: int
    refusals: int
    counts: Mapping[str, JsonValue]


def publish(figures: JobFigures, succeeded: bool, where: str) -> None:
    """Write or push a job's figures.

    Args:
        figures: figures of the job.
        succeeded: whether the job succeeded.
        where: a folder, or an http:// or https:// address.

    Raises:
        OSError: the figures cannot be written or pushed.
    """
    name = figures.job
    last = CollectorRegistry()
    values = {
        "mgc_job_last_end_timestamp_seconds": time.time(),
        "mgc_job_exit_code": figures.code,
        "mgc_job_alarms": figures.alarms,
        "mgc_job_refusals": figures.refusals,
        "mgc_job_duration_seconds": figures.seconds,
    }
    for metric, value in values.items():
        Gauge(metric, METRICS[metric], ("name",), registry=last).labels(name).set(value)
    tracks = Gauge(_TRACKS, METRICS[_TRACKS], ("name", "what"), registry=last)
    for what, count in figures.counts.items():
        if isinstance(count, int | float):
            tracks.labels(name, what).set(count)
    success = CollectorRegistry()
    if succeeded:
        Gauge(_LAST_SUCCESS, METRICS[_LAST_SUCCESS], ("name",), registry=success).labels(name).set(time.time())
    if where.startswith(("http://", "https://")):
        for registry in (last, success):
            # Adding keeps figures that are not pushed, so the last success outlives a failure.
            pushadd_to_gateway(where, job="mgc", registry=registry, grouping_key={"name": name}, timeout=_PUSH_SECONDS)
        return
    file = "mgc_" + name.replace("-", "_")
    write_to_textfile(str(Path(where, f"{file}.prom")), last)
    if succeeded:
        write_to_textfile(str(Path(where, f"{file}_success.prom")), success)
