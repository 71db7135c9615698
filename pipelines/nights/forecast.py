"""The part of `mgc plan` that looks at clusters which are not here: nodes against hours and cost."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from cluster.labels.rates import Measured
from cluster.labels.simulation import FMA_FULL, TEN_MILLION, Forecast, Machine, Rates, Workload, simulate
from mgc.bundle import Bundle
from mgc.errors import ConfigError

WORKLOADS: Final[Mapping[str, Workload]] = {"fma-full": FMA_FULL, "ten-million": TEN_MILLION}
THIS_PLAN: Final = "this"
NODES: Final = "1,2,4,8,16,32,64,128"


def forecast(
    workload: Workload, bundle: Bundle, past: Sequence[Measured], machine: Machine, nodes: Sequence[int]
) -> list[Forecast]:
    """Simulate a night with the bundle's listening plan, by the rates of past runs or else those of BENCHMARKS.md."""
    rates = Rates().calibrated(past)
    return simulate(workload.heard_by(bundle.experiment.listening), rates, machine, nodes)


def workload_of(tracks: int, size_bytes: int, past: Sequence[Measured], known_rows: int) -> Workload:
    """What a plan has to label; the length of tracks as in past runs.

    Raises:
        ConfigError: there is nothing to label, or no past run that tells how long tracks are.
    """
    heard = sum(run.tracks for run in past)
    audio = sum(run.audio_seconds for run in past)
    if not tracks or not audio:
        raise ConfigError(
            "a simulation of this plan needs tracks to label and a past run of the table, which tells how long tracks "
            f"are; `--simulate {next(iter(WORKLOADS))}` needs neither."
        )
    return Workload("this plan", tracks, size_bytes / tracks, audio / heard, known_rows=known_rows)


def print_forecasts(
    workload: Workload, forecasts: Sequence[Forecast], machine: Machine, past: Sequence[Measured]
) -> list[dict[str, Any]]:
    """A table for a person; returns its rows as JSON-ready values."""
    gpus = f", {machine.gpus} GPUs" if machine.gpus else ""
    source = f"{len(past)} past run{'' if len(past) == 1 else 's'}" if past else "the rates of BENCHMARKS.md"
    table = Table(
        title=f"{workload.name}: {workload.tracks:,} tracks, {workload.size_bytes * workload.tracks / 2**40:.2f} TiB, "
        f"on nodes of {machine.cores} cores{gpus} at {machine.price_per_hour:g} an hour; by {source}",
        title_justify="left",
    )
    for name in ("nodes", "hours", "cost", "tracks/s", "start", "stream", "commit"):
        table.add_column(name, justify="right")
    table.add_column("limited by")
    for each in forecasts:
        parts = (each.start_hours, each.stream_hours, each.commit_hours)
        table.add_row(
            str(each.nodes),
            f"{each.hours:.2f}",
            f"{each.cost:.2f}",
            f"{each.tracks_per_second:,.0f}",
            *(f"{hours * 60:.1f} min" for hours in parts),
            each.limit,
        )
    # A pipe has no width: give it one that the table fits into.
    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "120"))
    Console(width=width, highlight=False).print(table)
    return [
        {"nodes": each.nodes, "hours": round(each.hours, 4), "cost": round(each.cost, 2), "limit": each.limit}
        for each in forecasts
    ]
