"""`mgc label`: stage a row for every planned track, enter them in one commit, and report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from threading import Thread

import click
from pydantic import JsonValue

from cluster.embeddings.table import EmbeddingsTable
from cluster.labels.beside.run_folder import DamagedRowsError
from cluster.labels.counts import CommittedRun
from cluster.labels.policy import Policy
from cluster.labels.table import LabelsTable
from cluster.session.connect import connect
from cluster.storage import files
from cluster.storage.conditional_put import require_conditional_put
from mgc.errors import MgcError
from mgc.evaluation.alarms import Thresholds, Unwatched, thresholds
from mgc.evaluation.figures import load_drawing
from mgc.labeling.guard import Breach, guard_limits
from mgc.labeling.throughput import Throughput
from mgc.units import format_count
from pipelines.command.job import Summary, describe, say
from pipelines.models.choice import advise_pull
from pipelines.models.graphs import start_graph
from pipelines.nights.embed import Entered, enter_embeddings, hold, plan_embeddings, refuse_same_folder
from pipelines.nights.guard import Guard, describe_refusal
from pipelines.nights.plan import Night, describe_night, describe_plan, open_given, open_night
from pipelines.nights.report import RunFacts, report_uri, summarize_refused, summarize_run, write_report
from pipelines.nights.requests import LabelRequest
from pipelines.nights.staging import MOST_PASSES, TIME_WAS_UP, Pace, Share, stage_all


def label(request: LabelRequest) -> Summary:
    """Bring the labels table up to date, or print what that would do and take."""
    if request.embeddings is not None:
        refuse_same_folder(request.night.labels, request.embeddings)
    limits = thresholds(request.thresholds)
    guard = Guard(guard_limits(request.guard), request.accept)
    if request.check:
        open_given(request.night, LabelsTable(request.night.labels))
        return Summary("dry_run")
    if request.dry_run:
        night = open_night(request.night)
        describe(night.bundle.experiment.dotted())
        click.echo()
        _plan_also(night, request)
        return Summary("dry_run", describe_night(night)[0])
    return _label(request, limits, guard)


def _label(request: LabelRequest, limits: Thresholds, guard: Guard) -> Summary:
    started = datetime.now(UTC)
    night = open_night(request.night)
    plan, labels = night.plan, night.table.uri
    also = _plan_also(night, request)
    if plan.empty:
        if request.night.resume:
            night.table.forget_holds()
        with hold(also) if also is not None else contextlib.nullcontext():
            return _up_to_date(night, request, also)
    require_conditional_put(labels)
    with _holding(night, also):
        advise_pull(night.model)
        say(f"labels: {describe_plan(plan)}")
        for left in reversed(range(MOST_PASSES)):
            try:
                return _stage_and_commit(night, request, limits, guard, started, also)
            except DamagedRowsError:
                # The damaged files are set aside, so the next round labels their tracks again.
                if not left:
                    raise
        raise AssertionError("the last round returns or raises")


@contextlib.contextmanager
def _holding(night: Night, also: Share | None) -> Iterator[None]:
    """Hold the tables of a run, so that another one on them fails before it works."""
    with contextlib.ExitStack() as leases:
        leases.enter_context(hold(Share(night.table, night.plan)))
        if also is not None:
            leases.enter_context(hold(also))
        yield


def _stage_and_commit(
    night: Night, request: LabelRequest, limits: Thresholds, guard: Guard, started: datetime, also: Share | None
) -> Summary:
    """Stage the rows of a night and commit them, unless the guard stops the run.

    Embeddings of the same pass come after the labels. What a killed run has staged of them, the next run enters.

    Raises:
        DamagedRowsError: staged rows turned out damaged after they were checked. They are set aside.
    """
    plan, labels = night.plan, night.table.uri
    outputs, measured = {"labels": str(labels)}, Throughput()
    breaches = guard.foresee_plan(night)
    shares = [Share(night.table, plan)] if also is None else [Share(night.table, plan), also]
    run = shares[0].run
    again = guard.hears_again(run)
    # A run that was stopped before its commit has all its rows. Then nothing is heard, and Ray is not needed.
    ready = not any(share.run.missing().num_rows for share in shares)
    if ready and plan.todo.num_rows and not again:
        say(f"an earlier run of this plan finished all of its {format_count(plan.todo.num_rows, 'track')}")
    if not breaches and (again or not ready):
        # Most of the time that Ray takes to start, this process only waits.
        start_graph(night.bundle)
        Thread(target=load_drawing, name="drawing").start()
        with connect(profile=request.profile) as profile:
            breaches = guard.hear_canaries(night, profile)
            if not breaches:
                if again:
                    say("the guard stopped this run before; its tracks are heard again")
                    for share in shares:
                        share.run.begin_again()
                plan, measured = stage_all(shares, night.bundle, profile, Pace(request.until, request.max_file_gib))
    facts = RunFacts(plan, request.night.source, started, measured, limits, tuple(request.thresholds), night.survey)
    late = [TIME_WAS_UP] if night.plan.todo.num_rows and not plan.todo.num_rows else []
    if plan.empty:
        say(f"alarm: {TIME_WAS_UP}")
        return Summary("partial", {**plan.counts.to_json(), **night.counts}, outputs, late)
    if not breaches:
        breaches = guard.foresee_commit(night, plan)
        if breaches:
            run.mark_refused(breach.name for breach in breaches)
    if breaches:
        return _refuse(night, facts, breaches, outputs)
    status = "partial" if plan.counts.pending else "done"
    about = {"status": status, "measured": measured.to_json(), "model_id": plan.model_id}
    about |= {"features_id": plan.features_id, **night.model.to_json()}
    committed = night.table.commit(plan, plan.key, datetime.now(UTC), about)
    counts = committed.counts
    kept = f", {counts.kept} failed and keep their label" if counts.kept else ""
    say(f"{counts.labeled} labelled, {counts.quarantined} quarantined{kept} -> {labels} (version {committed.version})")
    if counts.pending:
        say(f"left for the next run: {format_count(counts.pending, 'track')}")
    raised, reasons, unwatched = _report(night, committed, facts, outputs)
    alarms = [*late, *raised]
    for each in unwatched:
        say(f"not watched: {each.name}: {each.reason}")
    if reasons:
        say("quarantined: " + ", ".join(f"{tracks} {kind}" for kind, tracks in reasons.items()))
    for alarm in alarms:
        say(f"alarm: {alarm}")
    facts_of_run: dict[str, JsonValue] = {**counts.to_json(), **night.counts, "table_version": committed.version}
    facts_of_run["quarantined_by"] = {**reasons}
    if also is not None:
        facts_of_run |= _enter_also(night, also, request, outputs).counts("embeddings_")
    return Summary(status, facts_of_run, outputs, alarms)


def _refuse(night: Night, facts: RunFacts, breaches: Sequence[Breach], outputs: dict[str, str]) -> Summary:
    """Write the report of a run that the guard stopped. Its staged rows stay for `--accept`."""
    labels, bundle, counts = night.table.uri, night.bundle, facts.plan.counts
    report = None
    try:
        run = summarize_refused(night.table, bundle, facts, [breach.message for breach in breaches])
        report = write_report(labels, run, night.model, [*bundle.training.notices, *night.notices])
        outputs["report"] = str(report)
    except MgcError as error:
        say(f"the report of the refused run could not be written: {error}")
    seen = {f"refused_{breach.name}": breach.tracks for breach in breaches}
    line = describe_refusal(breaches, labels, report)
    return Summary("refused", {**counts.to_json(), **night.counts, **seen}, outputs, refused=[line])


def _plan_also(night: Night, request: LabelRequest) -> Share | None:
    """Plan the embeddings of a night; None if none are wanted."""
    if request.embeddings is None:
        return None
    policy = Policy(request.night.gone, request.night.retry_all)
    table = EmbeddingsTable(request.embeddings)
    also = plan_embeddings(table, night.tracks, night.bundle, night.survey, request.night.limit, policy)
    if not also.plan.empty:
        say(f"embeddings: {describe_plan(also.plan)}")
    return also


def _enter_also(night: Night, also: Share, request: LabelRequest, outputs: dict[str, str]) -> Entered:
    """Enter the embeddings: those of the same pass, and those that an earlier run could not enter."""
    pace = Pace(request.until, request.max_file_gib)
    outputs["embeddings"] = str(also.table.uri)
    return enter_embeddings(also, night.model, request.profile, pace)


def _up_to_date(night: Night, request: LabelRequest, also: Share | None) -> Summary:
    counts, labels = night.plan.counts, night.table.uri
    outputs = {"labels": str(labels)}
    later = f", {counts.waiting:,} waiting to be tried again (now: `--retry-all`)" if counts.waiting else ""
    say(f"{labels}: {format_count(counts.up_to_date, 'track')} up to date{later}; nothing to label.")
    report = report_uri(labels, "latest", "html")
    if files.exists(report):
        outputs["report"] = str(report)
    status = "partial" if counts.pending else "up_to_date"
    facts: dict[str, JsonValue] = {**counts.to_json(), **night.counts}
    if also is not None:
        entered = _enter_also(night, also, request, outputs)
        facts |= entered.counts("embeddings_")
        status = entered.status if status == "up_to_date" else status
    return Summary(status, facts, outputs)


def _report(
    night: Night, committed: CommittedRun, facts: RunFacts, outputs: dict[str, str]
) -> tuple[list[str], Mapping[str, int], list[Unwatched]]:
    """Write the report of a committed run.

    Returns its alarms, error kind → tracks that it quarantined, and the alarms that it could not raise and that matter.

    The labels are valid even without a report, and running the job again would find nothing to do. So a report that
    cannot be written is only one more alarm.
    """
    labels, bundle = night.table.uri, night.bundle
    try:
        # Read the version that the run made, because other commits may have come since.
        run = summarize_run(LabelsTable(labels, committed.version), bundle, facts)
        write_report(labels, run, night.model, [*bundle.training.notices, *night.notices])
    except MgcError as error:
        return [f"The labels are committed, but their report could not be written: {error}"], {}, []
    outputs["report"] = str(report_uri(labels, "latest", "html"))
    unwatched = [each for each in run.unwatched if each.matters]
    return [alarm.message for alarm in run.alarms], run.run_quarantine_by_kind, unwatched
