"""`mgc label`: stage a row for every planned track, enter them in one commit, and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import click
from ray.exceptions import RayError

from cluster.labels.beside.run_folder import DamagedRowsError, RunFolder
from cluster.labels.counts import CommittedRun
from cluster.labels.plan import PLAN, Plan
from cluster.labels.table import LabelsTable
from cluster.session.connect import connect
from cluster.session.counts import ProgressHandle
from cluster.session.profiles import Profile
from cluster.session.progress import watch_progress
from cluster.storage import files
from cluster.storage.conditional_put import require_conditional_put
from cluster.streams.listening import ListenRequest
from cluster.streams.predicting import stage_labels
from mgc.errors import LabelsError, MgcError
from mgc.evaluation.alarms import Thresholds, thresholds
from mgc.labeling.guard import Breach, guard_limits
from mgc.labeling.rows import Lineage
from mgc.labeling.throughput import Throughput
from mgc.units import GIB
from pipelines.command.job import Summary, describe, say
from pipelines.nights.guard import Guard, describe_refusal
from pipelines.nights.model import advise_pull
from pipelines.nights.plan import Night, describe_night, open_night
from pipelines.nights.report import RunFacts, report_uri, summarize_refused, summarize_run, write_report
from pipelines.nights.requests import LabelRequest

_SECONDS: Final = ("audio_seconds", "heard_seconds", "fetch_seconds", "listen_seconds", "predict_seconds")
"""Sums of the job's counters to keep in `Throughput`."""

_MOST_PASSES: Final = 3
"""Most passes of a run over tracks whose rows have not arrived."""


def label(request: LabelRequest) -> Summary:
    """Bring the labels table up to date, or print what that would do and take."""
    limits = thresholds(request.thresholds)
    guard = Guard(guard_limits(request.guard), request.accept)
    if request.dry_run:
        night = open_night(request.night)
        describe(night.bundle.experiment.dotted())
        click.echo()
        return Summary("dry_run", describe_night(night)[0])
    return _label(request, limits, guard)


def _label(request: LabelRequest, limits: Thresholds, guard: Guard) -> Summary:
    started = datetime.now(UTC)
    night = open_night(request.night)
    plan, labels = night.plan, night.table.uri
    if plan.empty:
        if request.night.resume:
            night.table.forget_holds()
        return _up_to_date(night)
    require_conditional_put(labels)
    advise_pull(night.model)
    say(_describe_plan(plan))
    for left in reversed(range(_MOST_PASSES)):
        try:
            return _stage_and_commit(night, request, limits, guard, started)
        except DamagedRowsError:
            # The damaged files are set aside, so the next round labels their tracks again.
            if not left:
                raise
    raise AssertionError("the last round returns or raises")


def _stage_and_commit(
    night: Night, request: LabelRequest, limits: Thresholds, guard: Guard, started: datetime
) -> Summary:
    """Stage the rows of a night and commit them, unless the guard stops the run.

    Raises:
        DamagedRowsError: staged rows turned out damaged after they were checked. They are set aside.
    """
    plan, labels = night.plan, night.table.uri
    outputs, measured = {"labels": str(labels)}, Throughput()
    breaches = guard.foresee_plan(night)
    run = night.table.run(plan)
    again = run.refused and not guard.accepted
    # A run that was stopped before its commit has all its rows. Then nothing is heard, and Ray is not needed.
    if not breaches and (again or run.missing().num_rows):
        with connect(profile=request.profile) as profile:
            breaches = guard.hear_canaries(night, profile)
            if not breaches:
                if again:
                    say("the guard stopped this run before; its tracks are heard again")
                    run.begin_again()
                plan, measured = _stage_all(night, run, profile, request)
    facts = RunFacts(plan, request.night.source, started, measured, limits, night.survey)
    if plan.empty:
        say(f"{labels}: the time was up before the first track; nothing was committed.")
        return Summary("partial", {**plan.counts.to_json(), **night.counts}, outputs)
    if not breaches:
        breaches = guard.foresee_commit(night, plan)
        if breaches:
            run.mark_refused()
    if breaches:
        return _refuse(night, facts, breaches, outputs)
    status = "partial" if plan.counts.pending else "done"
    about = {"status": status, "measured": measured.to_json(), "model_id": plan.model_id}
    about |= {"features_id": plan.features_id, "bundle": str(night.model.place)}
    committed = night.table.commit(plan, plan.key, datetime.now(UTC), about)
    counts = committed.counts
    kept = f", {counts.kept} failed and keep their label" if counts.kept else ""
    say(f"{counts.labeled} labelled, {counts.quarantined} quarantined{kept} -> {labels} (version {committed.version})")
    if counts.pending:
        say(f"{counts.pending} tracks are left for the next run")
    alarms = _report(night, committed, facts, outputs)
    for alarm in alarms:
        say(f"alarm: {alarm}")
    facts_of_run = {**counts.to_json(), **night.counts, "table_version": committed.version}
    return Summary(status, facts_of_run, outputs, alarms)


def _refuse(night: Night, facts: RunFacts, breaches: Sequence[Breach], outputs: dict[str, str]) -> Summary:
    """Write the report of a run that the guard stopped. Its staged rows stay for `--accept`."""
    labels, bundle, counts = night.table.uri, night.bundle, facts.plan.counts
    report = None
    try:
        run = summarize_refused(night.table, bundle, facts, [breach.message for breach in breaches])
        report = write_report(labels, run, bundle, [*bundle.training.notices, *night.notices])
        outputs["report"] = str(report)
    except MgcError as error:
        say(f"the report of the refused run could not be written: {error}")
    seen = {f"refused_{breach.name}": breach.tracks for breach in breaches}
    line = describe_refusal(breaches, labels, report)
    return Summary("refused", {**counts.to_json(), **night.counts, **seen}, outputs, refused=[line])


def _up_to_date(night: Night) -> Summary:
    counts, labels = night.plan.counts, night.table.uri
    outputs = {"labels": str(labels)}
    later = f"; {counts.waiting} wait to be tried again" if counts.waiting else ""
    say(f"{labels}: {counts.up_to_date} tracks are up to date{later}; nothing to label.")
    report = report_uri(labels, "latest", "html")
    if files.exists(report):
        outputs["report"] = str(report)
    return Summary("partial" if counts.pending else "up_to_date", {**counts.to_json(), **night.counts}, outputs)


def _report(night: Night, committed: CommittedRun, facts: RunFacts, outputs: dict[str, str]) -> list[str]:
    """Write the report of a committed run. Returns its alarms.

    The labels are valid even without a report, and running the job again would find nothing to do. So a report that
    cannot be written is only one more alarm.
    """
    labels, bundle = night.table.uri, night.bundle
    try:
        # Read the version that the run made, because other commits may have come since.
        run = summarize_run(LabelsTable(labels, committed.version), bundle, facts)
        write_report(labels, run, bundle, [*bundle.training.notices, *night.notices])
    except MgcError as error:
        return [f"The labels are committed, but their report could not be written: {error}"]
    outputs["report"] = str(report_uri(labels, "latest", "html"))
    return [alarm.message for alarm in run.alarms]


def _describe_plan(plan: Plan) -> str:
    counts = plan.counts
    return (
        f"{plan.todo.num_rows} tracks to label ({counts.new} new, {counts.changed} changed, {counts.stale} by another "
        f"model, {counts.retry} to try again), {counts.up_to_date} up to date, {counts.waiting} waiting, "
        f"{counts.held} held, {counts.removed} gone" + (f", {counts.corrected} corrections" if counts.corrected else "")
    )


def _stage_all(night: Night, run: RunFolder, profile: Profile, asked: LabelRequest) -> tuple[Plan, Throughput]:
    """Stage a row for every planned track. Keeps rows that an earlier, killed run staged.

    Returns:
        The plan without the tracks that were not reached in time, and the measurements of the run.

    Raises:
        LabelsError: tracks have no row after several passes.
    """
    plan, bundle = night.plan, night.bundle
    lineage = Lineage(bundle.id, bundle.features_id, plan.key)
    run.freeze()
    total = plan.todo.num_rows
    missing = run.missing()
    if 0 < missing.num_rows < total:
        say(f"an earlier run of this plan finished {total - missing.num_rows} of {total} tracks; going on from there")
    measured, until = Throughput(), asked.until
    hearing = replace(bundle.hearing, max_file_bytes=asked.max_file_gib * GIB)
    for _ in range(_MOST_PASSES):
        if not missing.num_rows or _is_over(until):
            break
        uri = run.portion(missing)
        began = datetime.now(UTC)
        with watch_progress("labeling", "tracks", missing.num_rows) as progress:
            request = ListenRequest(uri, missing.num_rows, PLAN, hearing, until=until)
            try:
                stage_labels(request, bundle, lineage, run.staged_uri, profile, progress)
            except (RayError, MgcError):
                # A stream cannot read a damaged portion. The next pass gets another one.
                if not run.set_aside_portion(uri):
                    raise
            measured = measured.plus(_measure(progress, began, profile))
        missing = run.missing()
    if missing.num_rows and not _is_over(until):
        raise LabelsError(
            f"{night.table.uri}: {missing.num_rows} tracks have no row after {_MOST_PASSES} passes, for example "
            f"{missing['track_id'][0].as_py()!r}; nothing was committed. Submit the job again."
        )
    return (plan.without(missing) if missing.num_rows else plan), measured


def _is_over(until: datetime | None) -> bool:
    return until is not None and datetime.now(UTC) >= until


def _measure(progress: ProgressHandle, began: datetime, profile: Profile) -> Throughput:
    """Return the measurements of a pass."""
    try:
        sums, first = progress.sums()
    except RayError:
        # Missing figures must not fail a night.
        sums, first = {}, None
    now = datetime.now(UTC).timestamp()
    first = now if first is None else first
    return Throughput(
        seconds=now - first,
        startup_seconds=first - began.timestamp(),
        cores=profile.cores,
        gpus=profile.gpus,
        tracks=int(sums.get("tracks", 0)),
        size_bytes=int(sums.get("size_bytes", 0)),
        bytes_read=int(sums.get("bytes_read", 0)),
        **{name: sums.get(name, 0.0) for name in _SECONDS},
    )
