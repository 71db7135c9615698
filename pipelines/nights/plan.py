"""Plan a night, and describe what it would do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

import click
import pyarrow as pa
import pyarrow.dataset as pads
from pydantic import JsonValue

from cluster.labels import plan
from cluster.labels.overrides import read_overrides
from cluster.labels.policy import Policy
from cluster.labels.rates import Estimate, estimate, past_runs
from cluster.labels.runs.format import LABELS
from cluster.labels.runs.table import RunTable
from cluster.labels.table import LabelsTable
from cluster.session.connect import connect
from cluster.session.profiles import Profile, laptop
from cluster.storage.listing.facts import Survey
from cluster.tables.catalog import total_bytes
from mgc.bundle import Bundle
from mgc.units import format_bytes, format_count, format_duration
from pipelines.catalogs.sources import open_catalog
from pipelines.catalogs.surveys import count_survey
from pipelines.command.job import describe, say
from pipelines.models.choice import Model, choose_model
from pipelines.nights.requests import NightRequest

COUNT_LABELS: Final = {
    "new": "new",
    "changed": "changed",
    "other_model": "by another model",
    "retry": "to try again",
    "waiting": "to try again later",
    "up_to_date": "up to date",
    "held": "held back after a rollback",
    "pending": "left for later (--limit)",
    "removed": "gone from the catalog",
    "corrected": "corrected by a curator",
    "unseen": "in folders that could not be read",
}
"""Readable names of the counts of a plan."""


@dataclass(frozen=True)
class Night:
    """A night that is planned but not begun.

    Attributes:
        model: the bundle, and where it was opened.
        table: the labels table that the plan is based on.
        plan: the plan.
        notices: the catalog's notices.
        tracks: the catalog's rows.
        survey: what the catalog's listing saw besides the tracks; None if the catalog does not say.
    """

    model: Model
    table: LabelsTable
    plan: plan.Plan
    notices: tuple[str, ...]
    tracks: pads.Dataset | pa.Table
    survey: Survey | None = None

    @property
    def bundle(self) -> Bundle:
        """The bundle that labels."""
        return self.model.bundle

    @property
    def counts(self) -> dict[str, JsonValue]:
        """What the catalog's listing saw besides the tracks, for a summary."""
        return {} if self.survey is None else count_survey(self.survey)


def open_given(request: NightRequest, table: LabelsTable) -> tuple[Model, pa.Table | None]:
    """Open what a night is given besides its catalog: the bundle in its words, and the corrections, if there are any.

    Raises:
        MgcError: one of them cannot be opened; see `choose_model` and `read_overrides`.
    """
    model = choose_model(request.bundle, table, request.taxonomy)
    if request.overrides is None:
        return model, None
    return model, read_overrides(request.overrides, model.bundle.taxonomy.names)


def open_night(request: NightRequest) -> Night:
    """Compare the catalog with the labels table. Writes nothing."""
    table = LabelsTable(request.labels)
    model, corrections = open_given(request, table)
    bundle = model.bundle
    # An empty listing of a known catalog is for the guard: it would remove every track.
    catalog = open_catalog(request.source, request.allow_roots, may_be_empty=table.exists, selection=request.selection)
    planned = table.plan(
        catalog.tracks,
        plan.PlanRequest(
            bundle.id,
            bundle.features_id,
            request.limit,
            options={"limit": request.limit},
            policy=Policy(request.gone, request.retry_all, corrections, request.resume),
            genres=bundle.taxonomy.names,
            unreadable=tuple(catalog.survey.unreadable) if catalog.survey is not None else (),
        ),
    )
    if planned.counts.held:
        say(
            f"{format_count(planned.counts.held, 'track')} held back, because a rollback undid the change; --resume "
            "lets such tracks in again."
        )
    if planned.counts.unseen:
        say(
            f"{format_count(planned.counts.unseen, 'known track')} in folders that could not be read; such rows stay "
            "as they are."
        )
    unknown = planned.counts.unknown_overrides
    if unknown:
        say(
            f"{request.overrides}: {format_count(unknown, 'correction')} of tracks that neither the catalog nor the "
            "table has; give the file again once they are there."
        )
    return Night(model, table, planned, catalog.notices, catalog.tracks, catalog.survey)


def describe_plan(planned: plan.Plan) -> str:
    """Return one line that counts the tracks of a plan."""
    counts = planned.counts
    return (
        f"{format_count(planned.todo.num_rows, 'track')} to hear ({counts.new} new, {counts.changed} changed, "
        f"{counts.other_model} by another model, {counts.retry} to try again), {counts.up_to_date} up to date, "
        f"{counts.waiting} waiting, {counts.held} held, {counts.removed} gone"
        + (f", {format_count(counts.corrected, 'correction')}" if counts.corrected else "")
    )


def describe_night(night: Night) -> tuple[dict[str, JsonValue], int]:
    """Print what a night would do, and what it would take on the available machines.

    Returns:
        The same as counts, and the size of the files to label in bytes.
    """
    counts, size = describe_work(night.plan, night.table, night.model)
    return {**counts, **night.counts}, size


def describe_work(planned: plan.Plan, table: RunTable, model: Model) -> tuple[dict[str, JsonValue], int]:
    """Print what a run of a plan would do, and what it would take on the available machines.

    Returns:
        The same as counts, and the size of the files to hear in bytes.
    """
    todo = planned.todo
    size = total_bytes(todo)
    past = past_runs(table, planned.features_id, planned.model_id)
    profile = _find_profile() if past and todo.num_rows else laptop()
    found = estimate(todo.num_rows, size, past, profile)
    counts: dict[str, JsonValue] = {**planned.counts.to_json()}
    describe({text: f"{counts[name]:,}" for name, text in COUNT_LABELS.items()})
    click.echo()
    what = "to label" if table.form is LABELS else "to embed"
    describe(
        {
            what: f"{format_count(todo.num_rows, 'track')}, {format_bytes(size)}",
            **_describe_estimate(found, profile),
            "table": f"{table.uri}, version {table.version}" if table.exists else "none yet",
            "model": f"{planned.model_id} ({model.described}), features {planned.features_id}",
            "run": planned.key,
        }
    )
    counts |= {"to_label": todo.num_rows, "size_bytes": size}
    if found is not None:
        counts |= {"bytes_to_read": found.bytes_read, "cpu_hours": round(found.cpu_hours, 4)}
        counts |= {"gpu_hours": round(found.gpu_hours, 4), "estimated_seconds": round(found.seconds, 1)}
    return counts, size


def _find_profile() -> Profile:
    """Return the profile of the cluster that RAY_ADDRESS names, or else of this machine."""
    if not os.environ.get("RAY_ADDRESS"):
        return laptop()
    with connect() as profile:
        return profile


def _describe_estimate(found: Estimate | None, profile: Profile) -> dict[str, str]:
    machines = format_count(profile.cores, "core") + (
        f" and {format_count(profile.gpus, 'GPU')}" if profile.gpus else ""
    )
    if found is None:
        return {"would take": "unknown: this table has no past run to go by; `mgc label --limit 200` makes one"}
    return {
        "bytes to read": format_bytes(found.bytes_read),
        "CPU hours": f"{found.cpu_hours:.3g}",
        "GPU hours": f"{found.gpu_hours:.3g}",
        "would take": f"{format_duration(found.seconds)} on {machines}",
        "estimated by": f"{format_count(found.runs, 'past run')} over {format_count(found.tracks, 'track')}",
    }
