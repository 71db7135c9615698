"""Requests to the jobs around the labels table, and the options of a night.

A command line makes these, so this module imports nothing heavy.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from cluster.labels.policy import GONE, Gone
from cluster.storage.selection import ALL, Selection
from mgc.bundle_names import BundleName
from mgc.units import MAX_FILE_GIB
from pipelines.command.job import ALLOW_ROOTS, BUNDLE, URI, Summary
from pipelines.command.selecting import choosing_files

if TYPE_CHECKING:
    from cluster.session.profiles import Profile
    from cluster.storage.uri import Uri

THIS_PLAN: Final = "this"
LARGE_CATALOGS: Final = ("fma-full", "ten-million")
"""Workloads that can be simulated without a catalog."""

NODES: Final = "1,2,4,8,16,32,64,128"


@dataclass(frozen=True)
class NightRequest:
    """A night: which tracks to label, with which model, into which table.

    Attributes:
        source: catalog, or a source of tracks that is listed now.
        labels: folder of the labels table.
        bundle: folder of the bundle, or its name; None for the one that labelled the table, or else the default one.
        limit: number of tracks of the catalog to look at, from its beginning; None for all.
        gone: treatment of rows whose track is no longer in the catalog.
        retry_all: whether to retry every quarantined track.
        overrides: file of a curator's corrections; None keeps those of the table.
        allow_roots: places below which the tracks of a catalog may lie; without any, those of its own SOURCE.
        resume: whether to enter again what rollbacks undid.
        selection: which files of a source are wanted.
    """

    source: Uri
    labels: Uri
    bundle: Uri | BundleName | None = None
    limit: int | None = None
    gone: Gone = "mark"
    retry_all: bool = False
    overrides: Uri | None = None
    allow_roots: tuple[Uri, ...] = ()
    resume: bool = False
    selection: Selection = ALL


@dataclass(frozen=True)
class LabelRequest:
    """Label the tracks of a night.

    Attributes:
        night: the night.
        profile: profile of an open Ray session, or the name of a profile; None uses all there is.
        until: aware time at which to stop starting tracks and commit those that are done.
        thresholds: values of the report's alarms by name, as text; others keep their defaults.
        guard: limits of the guard by name, as text; others keep their defaults.
        accept: names of the guard's checks that a person has accepted.
        dry_run: whether only to print the plan.
        max_file_gib: size of the largest file to hear.
        embeddings: folder of a table of embeddings to keep in the same pass; None for none.
    """

    night: NightRequest
    profile: Profile | str | None = None
    until: datetime | None = None
    thresholds: Mapping[str, str] = field(default_factory=dict)
    guard: Mapping[str, str] = field(default_factory=dict)
    accept: tuple[str, ...] = ()
    dry_run: bool = False
    max_file_gib: int = MAX_FILE_GIB
    embeddings: Uri | None = None


@dataclass(frozen=True)
class EmbedRequest:
    """Keep a table of embeddings.

    Attributes:
        source: catalog, or a source of tracks that is listed now.
        out: folder of the table.
        bundle: folder of the bundle, or its name; None for the one that made the table, or else the default one.
        limit: number of tracks of the catalog to look at, from its beginning; None for all.
        gone: treatment of rows whose track is no longer in the catalog.
        retry_all: whether to retry every track that failed.
        allow_roots: places below which the tracks of a catalog may lie; without any, those of its own SOURCE.
        selection: which files of a source are wanted.
        profile: profile of an open Ray session, or the name of a profile; None uses all there is.
        until: aware time at which to stop starting tracks and commit those that are done.
        max_file_gib: size of the largest file to hear.
        dry_run: whether only to print the plan.
    """

    source: Uri
    out: Uri
    bundle: Uri | BundleName | None = None
    limit: int | None = None
    gone: Gone = "mark"
    retry_all: bool = False
    allow_roots: tuple[Uri, ...] = ()
    selection: Selection = ALL
    profile: Profile | str | None = None
    until: datetime | None = None
    max_file_gib: int = MAX_FILE_GIB
    dry_run: bool = False


@dataclass(frozen=True)
class SimilarRequest:
    """Search a table of embeddings.

    Attributes:
        embeddings: folder of the table.
        track: id of the track whose neighbours to find; None to find recordings that are there several times.
        top: largest number of neighbours, or of groups to print.
        threshold: smallest cosine similarity of duplicates.
        seconds: largest difference of their durations.
        as_json: whether to print all that was found as JSON instead of a table.
    """

    embeddings: Uri
    track: str | None
    top: int
    threshold: float
    seconds: float
    as_json: bool = False


@dataclass(frozen=True)
class PlanRequest:
    """Print the plan of a night, or a forecast of a workload on other clusters.

    Attributes:
        night: the night to plan; None for a workload that needs no catalog.
        labels: folder of the labels table whose past runs give the rates; None without one.
        bundle: folder of the bundle, or its name; None as for a night.
        simulate: workload to simulate: `THIS_PLAN`, one of `LARGE_CATALOGS`, or None for no simulation.
        nodes: numbers of nodes to simulate.
        cores: cores of a simulated node.
        gpus: GPUs of a simulated node.
        price_per_hour: price of a simulated node.
    """

    night: NightRequest | None
    labels: Uri | None
    bundle: Uri | BundleName | None
    simulate: str | None
    nodes: tuple[int, ...]
    cores: int
    gpus: int
    price_per_hour: float


@dataclass(frozen=True)
class ShowRequest:
    """Print a labels table.

    Attributes:
        labels: folder of the labels table.
        limit: largest number of rows of each printed table.
        genre: genre whose tracks to print; None for all.
        rows: whether to print tracks, and not only counts.
        dry_run: whether only to count.
    """

    labels: Uri
    limit: int = 20
    genre: str | None = None
    rows: bool = True
    dry_run: bool = False


@dataclass(frozen=True)
class DiffRequest:
    """Compare two versions of a labels table.

    Attributes:
        labels: folder of the labels table.
        before: name of a version.
        after: name of another one.
        limit: largest number of examples of each kind, and of flips.
        out: file to write all differences to, which ends in .csv or .parquet.
        overwrite: whether to replace that file.
    """

    labels: Uri
    before: str
    after: str
    limit: int
    out: Uri | None
    overwrite: bool


@dataclass(frozen=True)
class RollbackRequest:
    """Make a labels table equal to an earlier version.

    Attributes:
        labels: folder of the labels table.
        version: name of the version.
        limit: largest number of examples that a dry run prints.
        dry_run: whether only to print the differences.
    """

    labels: Uri
    version: str
    limit: int
    dry_run: bool


@dataclass(frozen=True)
class VacuumRequest:
    """Delete the files that only old versions of a labels table need.

    Attributes:
        labels: folder of the labels table.
        keep: number of versions that stay readable.
        older_than: age of the youngest files to delete.
        limit: largest number of files to name.
        dry_run: whether only to name the files.
    """

    labels: Uri
    keep: int
    older_than: timedelta
    limit: int
    dry_run: bool


@dataclass(frozen=True)
class ExportRequest:
    """Write a version of a labels table as one plain file.

    Attributes:
        labels: folder of the labels table.
        kind: format of the file.
        out: file to write.
        version: name of the version.
        limit: largest number of rows; None for all.
        overwrite: whether to replace the file.
    """

    labels: Uri
    kind: Literal["parquet", "csv"]
    out: Uri
    version: str
    limit: int | None
    overwrite: bool


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
            time = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
            return time if time > now else time + timedelta(days=1)
        try:
            # A time without a zone is in this machine's zone.
            time = datetime.fromisoformat(str(value)).astimezone()
        except ValueError:
            self.fail(f"{value!r} is not a time; write 06:00, or 2026-03-01T06:00.", param, ctx)
        if time <= now:
            self.fail(f"{value} is in the past.", param, ctx)
        return time


OF_BUNDLE: Final = click.option(
    "--bundle",
    type=BUNDLE,
    help="Folder of the bundle, or its name: shipped, a model that `mgc pull` fetched, or default, the best of these "
    "that is there. Without this option a table stays with the bundle that made it, and a new table takes the default "
    "one.",
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
            CATALOG-or-SOURCE or --labels is missing, and the command also gets `labels` and `bundle`.
    """
    return functools.partial(_with_options, needed=needed)


def _with_options(command: Callable[..., Summary], needed: bool) -> Callable[..., Summary]:
    @functools.wraps(command)
    def call(
        source: Uri | None,
        labels: Uri | None,
        bundle: Uri | BundleName | None,
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
                source, labels, bundle, limit, gone, retry_all, overrides, allow_roots, resume, selection
            )
        if needed:
            return command(night=night, **others)
        return command(night=night, labels=labels, bundle=bundle, **others)

    for option in reversed(
        (
            click.argument("source", metavar="CATALOG-or-SOURCE", type=URI, required=needed),
            click.option("--labels", type=URI, required=needed, help="Folder of the labels table."),
            OF_BUNDLE,
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
