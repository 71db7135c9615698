"""Requests to the catalog job. A command line makes these, so this module imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cluster.storage.selection import ALL, Selection
from mgc.datasets.fma_subsets import Subset

if TYPE_CHECKING:
    from cluster.storage.uri import Uri

CORPORA: Final = ("fma", "jamendo", "jamendo-low", "gtzan", "folder")
"""Corpora for `mgc catalog --corpus`, which reads their own files or paths."""

FROM_PATHS: Final = ("gtzan", "folder")
"""Corpora without metadata files: their paths contain the genres."""


@dataclass(frozen=True)
class MetadataRequest:
    """Source of a catalog's metadata.

    Attributes:
        uris: files of metadata: one CSV or Parquet file, or the files of a corpus.
        corpus: one of `CORPORA`; None for a file of your own.
        renamed: names of the columns in the file, by catalog column.
        genres: FMA's genres.csv; by default the one next to tracks.csv.
        subset: subset of FMA; None takes every track.
    """

    uris: tuple[Uri, ...] = ()
    corpus: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    genres: Uri | None = None
    subset: Subset | None = None


@dataclass(frozen=True)
class TagsRequest:
    """Read the files' own tags.

    Attributes:
        aliases: CSV of spelling,genre, beside the one that comes with mgc.
        whitelist: text file of the genres to keep, one a line; None keeps every known one.
        tree: CSV of genre,parent; None for none.
    """

    aliases: Uri | None = None
    whitelist: Uri | None = None
    tree: Uri | None = None


@dataclass(frozen=True)
class CatalogRequest:
    """Index the audio files of a source.

    Attributes:
        source: folder, file or `s3://` prefix.
        out: catalog to write: a Parquet file, or a folder for `catalog.parquet`.
        metadata: source of the metadata; None without metadata.
        split_by: column that groups tracks without a split; each group gets one split. None assigns none.
        seed: seed of these splits.
        notices: notices to show with every figure made from the catalog.
        limit: number of files to take from the beginning; None for all.
        dry_run: whether only to print what would be done.
        selection: which of the files are wanted.
        tags: how to read the files' own tags; None reads none.
    """

    source: Uri
    out: Uri
    metadata: MetadataRequest | None = None
    split_by: str | None = None
    seed: int = 0
    notices: tuple[str, ...] = ()
    limit: int | None = None
    dry_run: bool = False
    selection: Selection = ALL
    tags: TagsRequest | None = None
