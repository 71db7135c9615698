"""`mgc plan CATALOG-or-SOURCE --labels URI`: what a night would do, and what it would take."""

from __future__ import annotations

import click

from cluster.bundles import open_bundle
from cluster.labels.rates import past_runs
from cluster.labels.simulation import Machine
from cluster.labels.table import LabelsTable
from pipelines.command.job import Summary, main
from pipelines.nights.forecast import NODES, THIS_PLAN, WORKLOADS, forecast, print_forecasts, workload_of
from pipelines.nights.plan import Wanted, describe_night, night_options, open_night


@click.command("plan")
@night_options(needed=False)
@click.option(
    "--simulate",
    type=click.Choice([THIS_PLAN, *WORKLOADS]),
    help="Hours and cost on clusters that are not here: of this plan, of FMA-full, or of ten million such tracks.",
)
@click.option("--nodes", default=NODES, show_default=True, help="Numbers of nodes to simulate.")
@click.option("--cores", type=click.IntRange(1), default=16, show_default=True, help="Cores of a simulated node.")
@click.option("--gpus", type=click.IntRange(0), default=0, show_default=True, help="GPUs of a simulated node.")
@click.option("--price", type=float, default=0.70, show_default=True, help="Of a simulated node, an hour; an example.")
def command(wanted: Wanted, simulate: str | None, nodes: str, cores: int, gpus: int, price: float) -> Summary:
    """Print what `mgc label` with the same options would do, and what that would take by the rates of past runs."""
    if simulate is not None and simulate in WORKLOADS:
        bundle = open_bundle(wanted.bundle)
        past = past_runs(LabelsTable(wanted.labels), bundle.features_id, bundle.id) if wanted.labels else []
        workload, counts = WORKLOADS[simulate], {}
    else:
        if not wanted.source or not wanted.labels:
            raise click.UsageError("a plan needs CATALOG-or-SOURCE and --labels.")
        night = open_night(wanted)
        counts = describe_night(night)
        if simulate is None:
            return Summary("dry_run", counts)
        bundle, past = night.bundle, past_runs(night.table, night.bundle.features_id, night.bundle.id)
        known = night.table.dataset().count_rows() if night.table.exists else 0
        workload = workload_of(counts["to_label"], counts["size_bytes"], past, known)
        click.echo()
    machine = Machine(cores=cores, gpus=gpus, price_per_hour=price)
    forecasts = forecast(workload, bundle, past, machine, _numbers(nodes))
    return Summary("dry_run", counts | {"forecasts": print_forecasts(workload, forecasts, machine, past)})


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise click.BadParameter(f"{text!r}: write whole numbers above 0, for example {NODES}.", param_hint="--nodes")
    return [int(part) for part in parts]


if __name__ == "__main__":
    main(command)
