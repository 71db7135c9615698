"""Options of the jobs that plan and run nights. Imports nothing heavy, as a command line must start quickly."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import datetime, time, timedelta
from typing import Any, Final

import click

from cluster.labels.policy import GONE, Gone
from cluster.storage.selection import Selection
from cluster.storage.uri import Uri
from mgc.bundle_names import BundleName
from pipelines.command.job import Summary
from pipelines.command.options import ALLOW_ROOTS, BUNDLE, TAXONOMY, URI
from pipelines.command.selecting import choosing_files
from pipelines.nights.requests import NightRequest


class Age(click.ParamType[timedelta]):
    """An age in days or hours, such as 7d or 36h; 0 for none."""

    name = "AGE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Parse an age."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"0|(\d{1,5})([dh])", str(value))
        if found is None:
            self.fail(f"{value!r} is not an age; write 7d for days, 36h for hours, or 0.", param, ctx)
        if found[1] is None:
            return timedelta()
        return timedelta(days=int(found[1])) if found[2] == "d" else timedelta(hours=int(found[1]))


class TimeOfDay(click.ParamType[datetime]):
    """A time to stop at: HH:MM for the next such time on this machine's clock, or ISO 8601."""

    name = "TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parse a time. Returns an aware one."""
        if isinstance(value, datetime):
            return value
        now = datetime.now().astimezone()
        clock = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", str(value))
        if clock:
            return next_time(now, time(int(clock[1]), int(clock[2])))
        try:
            # A time without a zone is in this machine's zone.
            moment = datetime.fromisoformat(str(value)).astimezone()
        except ValueError:
            self.fail(f"{value!r} is not a time; write 06:00, or 2026-03-01T06:00.", param, ctx)
        if moment <= now:
            self.fail(f"{value} is in the past.", param, ctx)
        return moment


def next_time(now: datetime, clock: time) -> datetime:
    """Return the next moment at which this machine's clock shows a time.

    The clock is set twice a year, so its distance from UTC may be another one by then. A time that the clock leaves
    out comes as much later as the clock was set forward.

    Args:
        now: an aware time.
        clock: hour and minute.
    """
    today = now.astimezone().date()
    found = []
    for day in (today, today + timedelta(days=1)):
        twice = [datetime.combine(day, clock.replace(fold=fold)).astimezone() for fold in (0, 1)]
        found += [moment for moment in twice if moment.time() == clock] or [max(twice)]
    return min(moment for moment in found if moment > now)


OF_BUNDLE: Final = click.option(
    "--bundle",
    type=BUNDLE,
    help="Folder of the bundle, or its name: shipped, a model that `mgc pull` fetched, or default, the best of these "
    "that is there. Without this option a table stays with the bundle that made it, and a new table takes the default "
    "one.",
)

OF_TAXONOMY: Final = click.option(
    "--taxonomy",
    type=TAXONOMY,
    help="Genres to answer with: the name of a map that comes with mgc (`mgc show BUNDLE` lists them), or a CSV file "
    "with the columns genre, parent, tag and weight. Without this option, a table keeps its genres, and a bundle that "
    "--bundle names answers with its own.",
)

LIMIT: Final = click.option(
    "--limit",
    type=click.IntRange(1),
    help="Take only the first N tracks of the catalog; the others stay pending.",
)

OF_GONE: Final = click.option(
    "--gone",
    type=click.Choice(GONE),
    default="mark",
    show_default=True,
    help="Rows of tracks that left the catalog: keep them, mark them with removed_at, or prune them.",
)

RETRY_ALL: Final = click.option("--retry-all", is_flag=True, help="Retry every track that failed, whatever its error.")

UNTIL: Final = click.option(
    "--until",
    type=TimeOfDay(),
    help="At this time (06:00, or ISO 8601), start no more tracks and commit those that are done; "
    "the rest stay pending.",
)


def night_options(needed: bool = True) -> Callable[[Callable[..., Summary]], Callable[..., Summary]]:
    """Return a decorator that adds the options of a night to a command.

    Args:
        needed: whether the command needs a night. If so, it gets one as `night`. Otherwise `night` is None if
            CATALOG-or-SOURCE or --labels is missing, and the command also gets `labels`, `bundle` and `taxonomy`.
    """
    return functools.partial(_with_options, needed=needed)


def _with_options(command: Callable[..., Summary], needed: bool) -> Callable[..., Summary]:
    @functools.wraps(command)
    def call(
        source: Uri | None,
        labels: Uri | None,
        bundle: Uri | BundleName | None,
        taxonomy: Uri | str | None,
        limit: int | None,
        gone: Gone,
        retry_all: bool,
        overrides: Uri | None,
        allow_roots: tuple[Uri, ...],
        resume: bool,
        selection: Selection,
        **others: Any,
    ) -> Summary:
        night = None
        if source is not None and labels is not None:
            night = NightRequest(
                source, labels, bundle, limit, gone, retry_all, overrides, allow_roots, resume, selection,
                taxonomy,
            )  # fmt: skip
        if needed:
            return command(night=night, **others)
        return command(night=night, labels=labels, bundle=bundle, taxonomy=taxonomy, **others)

    for option in reversed(
        (
            click.argument("source", metavar="CATALOG-or-SOURCE", type=URI, required=needed),
            click.option("--labels", type=URI, required=needed, help="Folder of the labels table."),
            OF_BUNDLE,
            OF_TAXONOMY,
            LIMIT,
            OF_GONE,
            RETRY_ALL,
            click.option("--resume", is_flag=True, help="Also label the tracks that are held after a rollback."),
            click.option(
                "--overrides",
                type=URI,
                help="CSV or Parquet file of corrections (track_id, genre, by, reason). They win over the model and "
                "replace the corrections in the table; without this option those stay.",
            ),
            choosing_files,
            ALLOW_ROOTS,
        )
    ):
        call = option(call)
    return call
