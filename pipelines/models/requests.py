"""Requests to pull a model, and to show or export a bundle. A command line makes them, so nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.storage.uri import Uri
    from mgc.bundle_names import BundleName


@dataclass(frozen=True)
class PullRequest:
    """Make a bundle of a public model.

    Attributes:
        name: the model.
        file: the published file, if it is at hand; None to fetch it.
        out: folder of the bundle; None for its place in the user's cache, where its name finds it.
        sha256: hexadecimal SHA-256 that the published file must have; None for the one that mgc knows, if any.
        overwrite: whether to replace another bundle at `out`.
        try_seconds: how long to wait for the network before doing without the model, which then is no failure; None
            for the usual patience.
        otherwise: model to try if `name` cannot be had within `try_seconds`.
        dry_run: whether only to say what would be fetched.
    """

    name: BundleName
    file: Uri | None = None
    out: Uri | None = None
    sha256: str | None = None
    overwrite: bool = False
    try_seconds: float | None = None
    otherwise: BundleName | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class ShowBundleRequest:
    """Print what a bundle is and knows.

    Attributes:
        place: folder of the bundle, or its name.
        limit: largest number of tags to print; None for all.
        genre: genre whose tags to print; None for all.
        dry_run: whether only to count.
    """

    place: Uri | BundleName
    limit: int | None = None
    genre: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class ExportRequest:
    """Write the network of a bundle as an ONNX file.

    Attributes:
        bundle: folder of the bundle, or its name.
        out: the file.
        overwrite: whether to replace another file at `out`.
        dry_run: whether only to print what the file would take and give.
    """

    bundle: Uri | BundleName
    out: Uri
    overwrite: bool = False
    dry_run: bool = False
