"""`mgc plan`: print the plan of a night, and forecast it on other clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import click
from pydantic import JsonValue
from rich.table import Table

from cluster.labels.rates import past_runs
from cluster.labels.simulation import FMA_FULL, TEN_MILLION, Forecast, Machine, Rates, Workload, simulate
from cluster.labels.table import LabelsTable
from mgc.bundle import Bundle
from mgc.configuration import configure
from mgc.errors import ConfigError
from mgc.labeling.throughput import Throughput
from mgc.units import format_bytes, format_count
from pipelines.command.console import show
from pipelines.command.job import Summary, say
from pipelines.models.choice import choose_model
from pipelines.nights.plan import describe_night, open_night
from pipelines.nights.requests import LARGE_CATALOGS, NightRequest, PlanRequest

WORKLOADS: Final[Mapping[str, Workload]] = dict(zip(LARGE_CATALOGS, (FMA_FULL, TEN_MILLION), strict=True))


def plan(request: PlanRequest) -> Summary:
    """Print the plan of a night, a forecast of a workload, or both.

    Raises:
        ConfigError: there is not enough information to forecast this plan.
    """
    if request.simulate is not None and request.simulate in WORKLOADS:
        table = LabelsTable(request.labels) if request.labels else None
        bundle = choose_model(request.bundle, table, request.taxonomy).bundle
        past = [] if table is None else past_runs(table, bundle.features_id, bundle.id)
        return Summary("dry_run", _forecast(WORKLOADS[request.simulate], request, bundle, past))
    if request.night is None:
        raise ConfigError("a plan needs CATALOG-or-SOURCE and --labels.")
    return _plan_night(request.night, request)


def _plan_night(asked: NightRequest, request: PlanRequest) -> Summary:
    night = open_night(asked)
    counts, size_bytes = describe_night(night)
    if request.simulate is None:
        return Summary("dry_run", {**counts})
    if not night.plan.todo.num_rows:
        say("nothing to label, so there is nothing to simulate")
        return Summary("dry_run", {**counts})
    past = past_runs(night.table, night.bundle.features_id, night.bundle.id)
    known = night.table.dataset().count_rows() if night.table.exists else 0
    workload = workload_of(night.plan.todo.num_rows, size_bytes, past, known)
    click.echo()
    return Summary("dry_run", {**counts, **_forecast(workload, request, night.bundle, past)})


def _forecast(
    workload: Workload, request: PlanRequest, bundle: Bundle, past: Sequence[Throughput]
) -> dict[str, JsonValue]:
    """Simulate a night with the rates of past runs, or else those of BENCHMARKS.md, and print the forecast."""
    machine = configure(Machine, "node", cores=request.cores, gpus=request.gpus, price_per_hour=request.price_per_hour)
    rates = Rates().calibrated(past)
    forecasts = simulate(workload.heard_by(bundle.experiment.listening), rates, machine, request.nodes)
    show(_table(workload, forecasts, machine, past))
    return {
        "forecasts": [
            {"nodes": each.nodes, "hours": round(each.hours, 4), "cost": round(each.cost, 2), "limit": each.limit}
            for each in forecasts
        ]
    }


def workload_of(tracks: int, size_bytes: int, past: Sequence[Throughput], known_rows: int) -> Workload:
    """Return the workload of a plan. The average length of its tracks is that of past runs.

    Raises:
        ConfigError: there is no past run with the length of its tracks.
    """
    heard = sum(run.tracks for run in past)
    audio = sum(run.audio_seconds for run in past)
    if not audio:
        raise ConfigError(
            "a simulation of this plan needs a past run of the table, for the length of tracks; "
            f"`--simulate {LARGE_CATALOGS[0]}` needs none."
        )
    # A catalog may state that all its files are empty.
    return Workload("this plan", tracks, max(1, size_bytes) / tracks, audio / heard, known_rows=known_rows)


def _table(workload: Workload, forecasts: Sequence[Forecast], machine: Machine, past: Sequence[Throughput]) -> Table:
    gpus = f", {format_count(machine.gpus, 'GPU')}" if machine.gpus else ""
    source = format_count(len(past), "past run") if past else "the rates of BENCHMARKS.md"
    table = Table(
        title=f"{workload.name}: {format_count(workload.tracks, 'track')}, "
        f"{format_bytes(workload.size_bytes * workload.tracks)}, "
        f"on nodes of {format_count(machine.cores, 'core')}{gpus} at {machine.price_per_hour:g} an hour; by {source}",
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
    return table
