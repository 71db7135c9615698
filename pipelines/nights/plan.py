"""A night as it is asked for and planned, before anything is labelled."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import click
import pyarrow.compute as pc

from cluster.bundles import open_bundle
from cluster.labels.overrides import read_overrides
from cluster.labels.plan import Gone
from cluster.labels.rates import Estimate, estimate, past_runs
from cluster.labels.table import LabelsTable, Plan, Policy
from cluster.session.connect import connect
from cluster.session.profiles import Profile, laptop
from cluster.storage.failures import redact
from cluster.storage.uri import Uri
from mgc.bundle import Bundle
from mgc.shipped_bundle import ShippedBundle
from mgc.units import format_bytes, format_duration
from pipelines.catalogs.sources import open_catalog
from pipelines.command.job import BUNDLE, URI, describe, say

SAID: Final = {
    "new": "new",
    "changed": "changed",
    "stale": "by another model",
    "retry": "to try again",
    "waiting": "to try again later",
    "up_to_date": "up to date",
    "pending": "left for later (--limit)",
    "removed": "gone from the catalog",
    "corrected": "corrected by a curator",
}
"""What the counts of a plan mean."""


@dataclass(frozen=True)
class Wanted:
    """What a night is asked for; the options of `mgc plan` and `mgc label`.

    Attributes:
        source: a catalog, or what `mgc catalog` takes.
        labels: folder of the labels table.
        bundle: of the model.
        limit: tracks of the catalog to look at.
        gone: what becomes of rows whose track is no longer in the catalog.
        retry_all: try every quarantined track again.
        overrides: a file of a curator's corrections.
    """

    source: str
    labels: str
    bundle: Uri | ShippedBundle | str = ShippedBundle.DEFAULT
    limit: int | None = None
    gone: Gone = "mark"
    retry_all: bool = False
    overrides: str | None = None


@dataclass(frozen=True)
class Night:
    """A night that is planned and not begun.

    Attributes:
        bundle: the model.
        table: as it was found.
        plan: what to do.
        notices: of the catalog.
    """

    bundle: Bundle
    table: LabelsTable
    plan: Plan
    notices: tuple[str, ...]


def open_night(wanted: Wanted) -> Night:
    """Compare the catalog with the labels table. Nothing is written."""
    bundle = open_bundle(wanted.bundle)
    corrections = None
    if wanted.overrides is not None:
        corrections = read_overrides(wanted.overrides, bundle.taxonomy.names)
    tracks, notices = open_catalog(wanted.source)
    table = LabelsTable(wanted.labels)
    policy = Policy(wanted.gone, wanted.retry_all, corrections)
    options = {"limit": wanted.limit}
    plan = table.plan(tracks, bundle.id, bundle.features_id, options, wanted.limit, policy=policy)
    unknown = plan.counts["unknown_overrides"]
    if unknown:
        say(
            f"{redact(wanted.overrides or '')}: {unknown} corrections are of tracks that neither the catalog "
            "nor the table has; they wait until these come."
        )
    return Night(bundle, table, plan, notices)


def describe_night(night: Night) -> dict[str, Any]:
    """Print what a night would do, and take on the machines at hand; returns the same as counts."""
    counts: dict[str, Any] = dict(night.plan.counts)
    todo = night.plan.todo
    size = int(pc.sum(todo["size_bytes"]).as_py() or 0)
    past = past_runs(night.table, night.bundle.features_id, night.bundle.id)
    profile = _at_hand() if past and todo.num_rows else laptop()
    found = estimate(todo.num_rows, size, past, profile)
    describe({text: f"{counts[name]:,}" for name, text in SAID.items()})
    click.echo()
    describe(
        {
            "to label": f"{todo.num_rows:,} tracks, {format_bytes(size)}",
            **_estimated(found, profile),
            "table": f"{redact(night.table.uri)}, version {night.table.version}" if night.table.exists else "none yet",
            "model": f"{night.bundle.id}, features {night.bundle.features_id}",
            "run": night.plan.key,
        }
    )
    counts |= {"to_label": todo.num_rows, "size_bytes": size}
    if found is not None:
        counts |= {"bytes_to_read": found.bytes_read, "cpu_hours": round(found.cpu_hours, 4)}
        counts |= {"gpu_hours": round(found.gpu_hours, 4), "estimated_seconds": round(found.seconds, 1)}
    return counts


def _at_hand() -> Profile:
    """That of the cluster which RAY_ADDRESS names, or of this machine."""
    if not os.environ.get("RAY_ADDRESS"):
        return laptop()
    with connect() as profile:
        return profile


def _estimated(found: Estimate | None, profile: Profile) -> dict[str, str]:
    machines = f"{profile.cores} cores" + (f" and {profile.gpus} GPUs" if profile.gpus else "")
    if found is None:
        return {"would take": "unknown: this table has no past run to go by; `mgc label --limit 200` makes one"}
    return {
        "bytes to read": format_bytes(found.bytes_read),
        "CPU hours": f"{found.cpu_hours:.3g}",
        "GPU hours": f"{found.gpu_hours:.3g}",
        "would take": f"{format_duration(found.seconds)} on {machines}",
        "estimated by": f"{found.runs} past run{'' if found.runs == 1 else 's'} over {found.tracks:,} tracks",
    }


def night_options(needed: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options that say what a night is asked for; the command gets them as one `Wanted`.

    Args:
        needed: the command has no use without a catalog and a table; else both may be missing, and empty.
    """
    return functools.partial(_with_night_options, needed=needed)


def _with_night_options(command: Callable[..., Any], needed: bool) -> Callable[..., Any]:
    @functools.wraps(command)
    def asked(
        source: Uri | None,
        labels: Uri | None,
        bundle: str,
        limit: int | None,
        gone: Gone,
        retry_all: bool,
        overrides: Uri | None,
        **others: Any,
    ) -> Any:
        catalog, table = (place.text if place else "" for place in (source, labels))
        corrections = overrides.text if overrides else None
        return command(Wanted(catalog, table, bundle, limit, gone, retry_all, corrections), **others)

    for option in reversed(
        (
            click.argument("source", metavar="CATALOG-or-SOURCE", type=URI, required=needed),
            click.option("--labels", type=URI, required=needed, help="Folder of the labels table."),
            click.option(
                "--bundle",
                type=BUNDLE,
                default=ShippedBundle.DEFAULT,
                show_default=True,
                help="Folder of the model; `default` is shipped with mgc.",
            ),
            click.option(
                "--limit",
                type=click.IntRange(1),
                help="Only the first N tracks of the catalog; the others stay pending.",
            ),
            click.option(
                "--gone",
                type=click.Choice(["keep", "mark", "prune"]),
                default="mark",
                show_default=True,
                help="Rows whose track is no longer in the catalog: leave them, give them a removed_at, delete them.",
            ),
            click.option("--retry-all", is_flag=True, help="Try every quarantined track again, whatever its error."),
            click.option(
                "--overrides",
                type=URI,
                help="CSV or Parquet of corrections (track_id, genre, by, reason): they win over the model and replace "
                "those that the table has. Without this option those stay.",
            ),
        )
    ):
        asked = option(asked)
    return asked
