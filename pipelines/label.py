"""`mgc label CATALOG-or-SOURCE --labels URI`: label every track that is new or changed, in one commit."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
from ray.exceptions import RayError

from cluster.labels.plan import without
from cluster.labels.rates import Measured, as_facts
from cluster.labels.table import PLAN, RUN, Plan
from cluster.session.connect import connect
from cluster.session.profiles import Profile
from cluster.session.progress import ProgressHandle, watch_progress
from cluster.storage import files
from cluster.storage.failures import redact
from cluster.storage.uri import Uri, join
from cluster.streams.listening import ListenRequest, stage_labels
from mgc.errors import LabelsError, MgcError
from mgc.evaluation.alarms import Thresholds, thresholds
from mgc.labeling.rows import Lineage
from mgc.shipped_bundle import ShippedBundle
from pipelines.command.job import PROFILE, Summary, describe, main, say
from pipelines.nights.plan import Night, Wanted, describe_night, night_options, open_night
from pipelines.nights.report import labels_run, write_report

_SECONDS: Final = ("audio_seconds", "heard_seconds", "fetch_seconds", "listen_seconds", "predict_seconds")
"""Sums of the job's counters that `Measured` keeps."""

_MOST_PASSES: Final = 3
"""Times that tracks are run whose rows did not arrive."""


def build(
    source: str,
    labels: str,
    bundle: Uri | ShippedBundle | str = ShippedBundle.DEFAULT,
    profile: Profile | str | None = None,
    limit: int | None = None,
) -> Summary:
    """Bring the labels table up to date; connects to Ray unless it is given the profile of a session."""
    return label(Wanted(source, labels, bundle, limit), profile)


def label(
    wanted: Wanted,
    profile: Profile | str | None = None,
    until: datetime | None = None,
    limits: Thresholds | None = None,
) -> Summary:
    """Bring the labels table up to date.

    Args:
        wanted: what the night is asked for.
        profile: of a Ray session that is there already. Without one, or with a name of `PROFILES`, one is started, or
            the environment's joined.
        until: no track is begun after this time; what is finished is committed.
        limits: past which the report raises alarms.
    """
    started = datetime.now(UTC)
    night = open_night(wanted)
    table, plan, bundle = night.table, night.plan, night.bundle
    where = redact(wanted.labels)
    counts: dict[str, Any] = dict(plan.counts)
    outputs = {"labels": where}
    report = join(wanted.labels, "_reports", "latest.html")
    if plan.empty:
        later = f"; {counts['waiting']} wait to be tried again" if counts["waiting"] else ""
        say(f"{where}: {counts['up_to_date']} tracks are up to date{later}; nothing to label.")
        if files.exists(report):
            outputs["report"] = redact(report)
        return Summary("partial" if counts["pending"] else "up_to_date", counts, outputs)
    say(_line(plan))
    measured = Measured()
    if plan.todo.num_rows:
        with connect(profile=profile) as at:
            plan, measured = _run(night, at, until)
    counts = dict(plan.counts)
    if plan.empty:
        say(f"{where}: the time was over before the first track; nothing was committed.")
        return Summary("partial", counts, outputs)
    status = "partial" if counts["pending"] else "done"
    about = {"status": status, "measured": as_facts(measured), "model_id": plan.model_id}
    about |= {"features_id": plan.features_id}
    version = table.commit(plan, plan.key, datetime.now(UTC), about)
    counts = {**json.loads(table.delta.history(1)[0][RUN])["counts"], "table_version": version}
    say(f"{counts['labeled']} labeled, {counts['quarantined']} quarantined -> {where} (version {version})")
    if counts["pending"]:
        say(f"{counts['pending']} tracks are left for the next run")
    try:
        run = labels_run(table, plan, plan.counts, wanted.source, started, bundle, measured, limits)
        write_report(wanted.labels, run, bundle, [*bundle.training.notices, *night.notices])
        outputs["report"] = redact(report)
        alarms = [alarm.message for alarm in run.alarms]
    except MgcError as error:
        # The labels are true all the same, and a scheduler that runs the job again would find nothing to do.
        alarms = [f"The labels are committed, but their report could not be written: {error}"]
    for alarm in alarms:
        say(f"alarm: {alarm}")
    return Summary(status, counts, outputs, alarms)


def _line(plan: Plan) -> str:
    counts = plan.counts
    return (
        f"{plan.todo.num_rows} tracks to label ({counts['new']} new, {counts['changed']} changed, "
        f"{counts['stale']} of another model, {counts['retry']} to try again), {counts['up_to_date']} up to date, "
        f"{counts['waiting']} waiting, {counts['removed']} gone"
        + (f", {counts['corrected']} corrections" if counts["corrected"] else "")
    )


def _run(night: Night, profile: Profile, until: datetime | None) -> tuple[Plan, Measured]:
    """Stage a row for every planned track; what an earlier, killed run has staged is kept.

    Returns the plan, less what was not reached in time, and what was measured.
    """
    table, plan, bundle = night.table, night.plan, night.bundle
    lineage = Lineage(bundle.id, bundle.features_id, plan.key)
    run = table.run(plan)
    run.freeze()
    total = plan.todo.num_rows
    missing = run.missing()
    if 0 < missing.num_rows < total:
        say(
            f"an earlier run of this plan has finished {total - missing.num_rows} of {total} tracks; going on "
            f"from there"
        )
    measured = Measured()
    for _ in range(_MOST_PASSES):
        if not missing.num_rows or _over(until):
            break
        uri = run.portion(missing)
        began = datetime.now(UTC)
        with watch_progress("labeling", "tracks", missing.num_rows) as progress:
            request = ListenRequest(uri, missing.num_rows, PLAN, bundle.experiment, until=until)
            stage_labels(request, bundle, lineage, run.staged_uri, profile, progress)
            measured = measured.plus(_measured(progress, began, profile))
        missing = run.missing()
    if missing.num_rows and not _over(until):
        raise LabelsError(
            f"{redact(table.uri)}: {missing.num_rows} tracks have no row after {_MOST_PASSES} passes, for "
            f"example "
            f"{missing['track_id'][0].as_py()!r}; nothing was committed. Submit the job again."
        )
    return (without(plan, missing) if missing.num_rows else plan), measured


def _over(until: datetime | None) -> bool:
    return until is not None and datetime.now(UTC) >= until


def _measured(progress: ProgressHandle, began: datetime, profile: Profile) -> Measured:
    """What a pass took."""
    try:
        sums, first = progress.sums()
    except RayError:
        # What was measured is not worth a night.
        sums, first = {}, None
    now = datetime.now(UTC).timestamp()
    first = now if first is None else first
    return Measured(
        seconds=now - first,
        startup_seconds=first - began.timestamp(),
        cores=profile.cores,
        gpus=profile.gpus,
        tracks=int(sums.get("tracks", 0)),
        size_bytes=int(sums.get("size_bytes", 0)),
        bytes_read=int(sums.get("bytes_read", 0)),
        **{name: sums.get(name, 0.0) for name in _SECONDS},
    )


class Moment(click.ParamType[datetime]):
    """A time to stop at: HH:MM, the next one by this machine's clock, or ISO 8601."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment, aware."""
        if isinstance(value, datetime):
            return value
        now = datetime.now().astimezone()
        clock = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", str(value))
        if clock:
            moment = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
            return moment if moment > now else moment + timedelta(days=1)
        try:
            # A time without a zone is this machine's.
            moment = datetime.fromisoformat(str(value)).astimezone()
        except ValueError:
            self.fail(f"{value!r} is no time; write 06:00, or 2026-03-01T06:00.", param, ctx)
        if moment <= now:
            self.fail(f"{value} is over.", param, ctx)
        return moment


def _pairs(pairs: tuple[str, ...]) -> Mapping[str, str]:
    if any("=" not in pair for pair in pairs):
        raise click.BadParameter("write NAME=VALUE.", param_hint="--alarm")
    return dict(pair.split("=", 1) for pair in pairs)


@click.command("label")
@night_options()
@click.option(
    "--until",
    type=Moment(),
    help="Begin no track after this time (06:00, or ISO 8601) and commit what is finished; the rest stays pending.",
)
@PROFILE
@click.option("--alarm", "alarms", multiple=True, metavar="NAME=VALUE", help="A threshold of the report's alarms.")
@click.option("--dry-run", is_flag=True, help="Print the configuration, the plan and what it would take.")
def command(
    wanted: Wanted, until: datetime | None, profile: str | None, alarms: tuple[str, ...], dry_run: bool
) -> Summary:
    """Label the tracks of a catalog (or of SOURCE, listed now) that are new, changed or labelled by another model.

    The labels table changes in one commit at the end. A killed job goes on where it stopped when it is started again.
    Exit code 0: done; 3: done, and the report has alarms; 1: failed, and the table is as it was.
    """
    limits = thresholds(_pairs(alarms))
    if dry_run:
        night = open_night(wanted)
        describe(night.bundle.experiment.dotted())
        click.echo()
        return Summary("dry_run", describe_night(night))
    return label(wanted, profile, until, limits)


if __name__ == "__main__":
    main(command)
