"""`mgc plan CATALOG-or-SOURCE --labels URI`: what a night would do, and what it would take."""

from __future__ import annotations

import click

from cluster.storage.uri import Uri
from mgc.bundle_names import BundleName
from pipelines.command.job import Summary, main
from pipelines.nights.options import night_options
from pipelines.nights.requests import LARGE_CATALOGS, NODES, THIS_PLAN, NightRequest, PlanRequest


@click.command("plan")
@night_options(needed=False)
@click.option(
    "--simulate",
    type=click.Choice([THIS_PLAN, *LARGE_CATALOGS]),
    help="Forecast hours and cost on other clusters: for this plan, FMA-full, or ten million such tracks.",
)
@click.option("--nodes", default=NODES, show_default=True, help="Numbers of nodes to simulate, separated by commas.")
@click.option("--cores", type=click.IntRange(1), default=16, show_default=True, help="Cores of a simulated node.")
@click.option("--gpus", type=click.IntRange(0), default=0, show_default=True, help="GPUs of a simulated node.")
@click.option(
    "--price",
    type=click.FloatRange(0),
    default=0.70,
    show_default=True,
    help="Price of a simulated node per hour; an example.",
)
def command(
    night: NightRequest | None,
    labels: Uri | None,
    bundle: Uri | BundleName | None,
    taxonomy: Uri | str | None,
    simulate: str | None,
    nodes: str,
    cores: int,
    gpus: int,
    price: float,
) -> Summary:
    """Print what `mgc label` would do with the same options, and what that would take at the rates of past runs."""
    if night is None and simulate not in LARGE_CATALOGS:
        raise click.UsageError("a plan needs CATALOG-or-SOURCE and --labels.")
    request = PlanRequest(night, labels, bundle, simulate, _numbers(nodes), cores, gpus, price, taxonomy)
    from pipelines.nights.forecast import plan

    return plan(request)


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise click.BadParameter(f"{text!r}: write whole numbers above 0, for example {NODES}.", param_hint="--nodes")
    return tuple(int(part) for part in parts)


if __name__ == "__main__":
    main(command)
