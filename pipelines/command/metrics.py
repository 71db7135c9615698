"""What a job came to, for Prometheus: a night leaves its mark though its Ray is gone, and a missed night is missed.

`MGC_JOB_METRICS` says where to: a folder that node_exporter's textfile collector reads, or the http:// address of a
Pushgateway. A failed job leaves the time of the last success as it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge, pushadd_to_gateway, write_to_textfile

METRICS: Final[Mapping[str, str]] = {
    "mgc_job_last_end_timestamp_seconds": "When the job last ended, however it did; in seconds since 1970.",
    "mgc_job_last_success_timestamp_seconds": "When the job last did what it says, alarms or none.",
    "mgc_job_exit_code": "0: done; 1: failed; 2: the command is wrong; 3: done, with alarms; 130: interrupted.",
    "mgc_job_alarms": "Alarms that the job raised.",
    "mgc_job_duration_seconds": "How long it took.",
    "mgc_job_tracks": "The counts of its summary, by `what`.",
}
"""Every gauge with what it says. Each has the label `name`, the job's word."""

_LAST_SUCCESS: Final = "mgc_job_last_success_timestamp_seconds"
_TRACKS: Final = "mgc_job_tracks"
_PUSH_SECONDS: Final = 10.0


def publish(facts: Mapping[str, Any], code: int, succeeded: bool, where: str) -> None:
    """Write or push a job's figures.

    Args:
        facts: the summary of the job, as it is printed.
        code: its exit code.
        succeeded: whether it did what it says.
        where: a folder, or an http:// or https:// address.

    Raises:
        OSError: it cannot be written or pushed.
    """
    name = str(facts["job"])
    last = CollectorRegistry()
    values = {
        "mgc_job_last_end_timestamp_seconds": time.time(),
        "mgc_job_exit_code": code,
        "mgc_job_alarms": len(facts.get("alarms", ())),
        "mgc_job_duration_seconds": facts["seconds"],
    }
    for metric, value in values.items():
        Gauge(metric, METRICS[metric], ("name",), registry=last).labels(name).set(value)
    tracks = Gauge(_TRACKS, METRICS[_TRACKS], ("name", "what"), registry=last)
    for what, count in facts["counts"].items():
        if isinstance(count, int | float):
            tracks.labels(name, what).set(count)
    success = CollectorRegistry()
    if succeeded:
        Gauge(_LAST_SUCCESS, METRICS[_LAST_SUCCESS], ("name",), registry=success).labels(name).set(time.time())
    if where.startswith(("http://", "https://")):
        for registry in (last, success):
            # Adding leaves alone what is not pushed: the last success outlives a failure.
            pushadd_to_gateway(where, job="mgc", registry=registry, grouping_key={"name": name}, timeout=_PUSH_SECONDS)
        return
    file = "mgc_" + name.replace("-", "_")
    write_to_textfile(str(Path(where, f"{file}.prom")), last)
    if succeeded:
        write_to_textfile(str(Path(where, f"{file}_success.prom")), success)
