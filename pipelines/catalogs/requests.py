"""What the catalog job is asked to do. A command line makes these, so this module imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mgc.datasets.fma_subsets import Subset

if TYPE_CHECKING:
    from cluster.storage.uri import Uri

CORPORA: Final = ("fma", "jamendo", "jamendo-low", "gtzan", "folder")
"""Corpora whose own files, or paths, `mgc catalog --corpus` reads."""

FROM_PATHS: Final = ("gtzan", "folder")
"""Corpora without files of metadata: their paths tell the genres."""


@dataclass(frozen=True)
class MetadataRequest:
    """Where a catalog's metadata come from.

    Attributes:
        uris: files of metadata: one CSV or Parquet file, or the files of a corpus.
        corpus: one of `CORPORA`; None for a file of your own.
        renamed: wanted column → its name in the file.
        genres: FMA's genres.csv; beside tracks.csv by default.
        subset: subset of FMA; None takes every track.
    """

    uris: tuple[Uri, ...] = ()
    corpus: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    genres: Uri | None = None
    subset: Subset | None = None


@dataclass(frozen=True)
class CatalogRequest:
    """Index the audio files of a source.

    Attributes:
        source: folder, file or `s3://` prefix.
        out: catalog to write: a Parquet file, or a folder for `catalog.parquet`.
        metadata: where the metadata come from; None where there are none.
        split_by: column by whose values tracks without a split are divided; None leaves them without one.
        seed: seed of that division.
        notices: notices to show with every figure made from the catalog.
        limit: number of files to take, the first ones; None for all.
        dry_run: whether to print only what would be done.
    """

    source: Uri
    out: Uri
    metadata: MetadataRequest | None = None
    split_by: str | None = None
    seed: int = 0
    notices: tuple[str, ...] = ()
    limit: int | None = None
    dry_run: bool = False
