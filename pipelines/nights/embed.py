"""`mgc embed`: stage an embedding or a reason for every planned track, and enter them in one commit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import click
import pyarrow as pa
import pyarrow.dataset as pads
from pydantic import JsonValue

from cluster.embeddings.table import EmbeddingsTable
from cluster.labels.beside.lease import lease
from cluster.labels.beside.run_folder import DamagedRowsError
from cluster.labels.counts import CommittedRun
from cluster.labels.plan import Plan, PlanRequest
from cluster.labels.policy import Policy
from cluster.session.connect import connect
from cluster.session.profiles import Profile
from cluster.storage.conditional_put import require_conditional_put
from cluster.storage.listing.facts import Survey
from cluster.storage.uri import Uri
from mgc.bundle import Bundle
from mgc.errors import ConfigError, LabelsError
from mgc.labeling.throughput import Throughput
from mgc.units import format_count
from pipelines.catalogs.sources import open_catalog
from pipelines.catalogs.surveys import count_survey
from pipelines.command.job import Summary, describe, say
from pipelines.models.choice import Model, choose_model
from pipelines.models.graphs import start_graph
from pipelines.nights.plan import describe_plan, describe_work
from pipelines.nights.requests import EmbedRequest
from pipelines.nights.staging import MOST_PASSES, TIME_WAS_UP, Pace, Share, stage_all


@dataclass(frozen=True)
class Entered:
    """Embeddings after a run.

    Attributes:
        plan: what the run did, without the tracks that it did not reach.
        committed: its commit; None if there was nothing to commit.
        late: whether the time was up before the first track.
    """

    plan: Plan
    committed: CommittedRun | None
    late: bool = False

    @property
    def status(self) -> str:
        """Status of the run, for its summary."""
        if self.plan.counts.pending:
            return "partial"
        return "up_to_date" if self.committed is None else "done"

    @property
    def alarms(self) -> list[str]:
        """What a person should look at: a run in which every track failed is no success.

        Tracks that failed before and fail again are none.
        """
        if self.late:
            return [TIME_WAS_UP]
        counts = None if self.committed is None else self.committed.counts
        failed = 0 if counts is None or counts.labeled else counts.kept + counts.quarantined
        if failed <= self.plan.counts.retry:
            return []
        return [f"Embeddings: {failed:,} of {format_count(failed, 'track')} failed."]

    def counts(self, prefix: str = "") -> dict[str, JsonValue]:
        """Return what became of the tracks, by names that begin with `prefix`."""
        counts = None if self.committed is None else self.committed.counts
        done = (0, 0, 0) if counts is None else (counts.labeled, counts.kept, counts.quarantined)
        found: dict[str, JsonValue] = {**self.plan.counts.to_json()}
        found |= dict(zip(("embedded", "kept", "failed"), done, strict=True))
        if self.committed is not None:
            found["table_version"] = self.committed.version
        return {prefix + name: count for name, count in found.items()}


def embed(request: EmbedRequest) -> Summary:
    """Bring a table of embeddings up to date, or print what that would do and take."""
    table = EmbeddingsTable(request.out)
    model = choose_model(request.bundle, table)
    catalog = open_catalog(request.source, request.allow_roots, may_be_empty=table.exists, selection=request.selection)
    policy = Policy(request.gone, request.retry_all)
    share = plan_embeddings(table, catalog.tracks, model.bundle, catalog.survey, request.limit, policy)
    seen = {} if catalog.survey is None else count_survey(catalog.survey)
    if request.dry_run:
        describe(model.bundle.experiment.dotted())
        click.echo()
        counts, _ = describe_work(share.plan, table, model)
        return Summary("dry_run", {**counts, **seen})
    if not share.plan.empty:
        say(f"embeddings: {describe_plan(share.plan)}")
    with hold(share):
        entered = enter_embeddings(share, model, request.profile, Pace(request.until, request.max_file_gib))
    for alarm in entered.alarms:
        say(f"alarm: {alarm}")
    return Summary(entered.status, {**entered.counts(), **seen}, {"embeddings": str(request.out)}, entered.alarms)


@contextlib.contextmanager
def hold(share: Share) -> Iterator[None]:
    """Hold a table for a run, so that another one on it fails before it works.

    Raises:
        LabelsError: another run holds it, or has committed since this one was planned.
    """
    with lease(share.table.uri):
        # Another run may have committed while this one planned.
        if not share.plan.empty:
            share.table.refuse_overtaken(share.plan)
        yield


def plan_embeddings(
    table: EmbeddingsTable, tracks: pads.Dataset | pa.Table, bundle: Bundle, survey: Survey | None,
    limit: int | None, policy: Policy,
) -> Share:  # fmt: skip
    """Compare a catalog with a table of embeddings. Writes nothing.

    Args:
        table: the table.
        tracks: rows of `schema.CATALOG`.
        bundle: the model.
        survey: what the catalog's listing saw besides; None if the catalog does not say.
        limit: number of tracks to look at; None for all.
        policy: treatment of tracks that are gone or have failed.
    """
    unreadable = () if survey is None else tuple(survey.unreadable)
    asked = PlanRequest(
        bundle.embedding_id,
        bundle.features_id,
        limit,
        options={"limit": limit},
        policy=policy,
        unreadable=unreadable,
    )
    return Share(table, table.plan(tracks, asked))


def enter_embeddings(share: Share, model: Model, profile: Profile | str | None, pace: Pace) -> Entered:
    """Stage the embeddings that are missing, and commit them. Does not need Ray if all are staged.

    Args:
        share: the table and its plan.
        model: the bundle, and where it was opened.
        profile: profile of an open Ray session, or the name of a profile; None uses all there is.
        pace: how far to go.
    """
    uri = share.table.uri
    if share.plan.empty:
        say(f"{uri}: {format_count(share.plan.counts.up_to_date, 'track')} up to date; nothing to embed.")
        return Entered(share.plan, None)
    require_conditional_put(uri)
    for _ in range(MOST_PASSES):
        try:
            return _stage_and_commit(share, model, profile, pace)
        except DamagedRowsError as error:
            # The damaged files are set aside, so the next round hears their tracks again.
            damage = str(error)
    raise LabelsError(damage)


def _stage_and_commit(share: Share, model: Model, profile: Profile | str | None, pace: Pace) -> Entered:
    plan, measured = share.plan, Throughput()
    missing = share.run.missing()
    if missing.num_rows and not pace.over:
        start_graph(model.bundle)
        with connect(profile=profile) as connected:
            plan, measured = stage_all([share], model.bundle, connected, pace)
    elif missing.num_rows:
        plan = plan.without(missing)
    if plan.empty:
        return Entered(plan, None, late=True)
    about = {"status": "partial" if plan.counts.pending else "done", "measured": measured.to_json()}
    # Embeddings do not depend on the words in which the bundle answers.
    about |= {"model_id": plan.model_id, "features_id": plan.features_id, "bundle": str(model.place)}
    committed = share.table.commit(plan, plan.key, datetime.now(UTC), about)
    counts, uri = committed.counts, share.table.uri
    kept = f", {counts.kept} failed and keep their embedding" if counts.kept else ""
    say(f"{counts.labeled} embedded, {counts.quarantined} failed{kept} -> {uri} (version {committed.version})")
    if counts.pending:
        say(f"left for the next run: {format_count(counts.pending, 'track')}")
    return Entered(plan, committed)


def refuse_same_folder(labels: Uri, embeddings: Uri) -> None:
    """Raise ConfigError if labels and embeddings are to lie in one folder."""
    if labels.text.rstrip("/") == embeddings.text.rstrip("/"):
        raise ConfigError(f"{embeddings}: labels and embeddings are two tables; give each a folder of its own.")
