"""Requests to the jobs around the tables of labels and of embeddings.

A command line makes these, so this module imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from cluster.labels.policy import Gone
from cluster.storage.selection import ALL, Selection
from mgc.bundle_names import BundleName
from mgc.units import MAX_FILE_GIB

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
        taxonomy: file or name of a map from tags to the genres of the answers; None for the bundle's own genres if a
            bundle is named, and else for those of the table.
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
    taxonomy: Uri | str | None = None


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
        check: whether only to open what the night is given besides its catalog.
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
    check: bool = False


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
        taxonomy: as for a night.
    """

    night: NightRequest | None
    labels: Uri | None
    bundle: Uri | BundleName | None
    simulate: str | None
    nodes: tuple[int, ...]
    cores: int
    gpus: int
    price_per_hour: float
    taxonomy: Uri | str | None = None


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
        raw: whether a .csv file gets all texts as they are.
    """

    labels: Uri
    before: str
    after: str
    limit: int
    out: Uri | None
    overwrite: bool
    raw: bool


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
        raw: whether a CSV file gets all texts as they are.
    """

    labels: Uri
    kind: Literal["parquet", "csv"]
    out: Uri
    version: str
    limit: int | None
    overwrite: bool
    raw: bool
