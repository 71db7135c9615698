"""Bundles under any URI: opened from and saved to the storage that the jobs use."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cluster.storage import files
from cluster.storage.failures import redact
from cluster.storage.uri import Uri, is_remote, join, locate
from mgc.bundle import Bundle, load_bundle
from mgc.bundle_files import FILES, TRAINED_ON
from mgc.errors import BundleError


def open_bundle(uri: Uri | str) -> Bundle:
    """A bundle from the same storage that the jobs use.

    Raises:
        BundleError: see `mgc.load_bundle`.
        StorageError: the place cannot be reached.
    """
    if not is_remote(uri):
        return load_bundle(uri.path if isinstance(uri, Uri) else uri)
    location = locate(uri)
    if not files.exists(uri):
        raise BundleError(f"{redact(str(uri))}: there is no bundle here. Train one with `mgc train --out BUNDLE`.")
    return load_bundle(location.path, location.filesystem)


def save_bundle(bundle: Bundle, uri: Uri | str) -> str:
    """Write a bundle to any URI; returns its id."""
    with tempfile.TemporaryDirectory() as folder:
        bundle_id = bundle.save(folder)
        # In the order of FILES, the experiment last: a bundle that has one is whole.
        for name in (TRAINED_ON, *FILES) if bundle.trained_on else FILES:
            files.write_bytes(join(uri, name), Path(folder, name).read_bytes())
    if bundle.trained_on is None:
        files.delete(join(uri, TRAINED_ON))
    return bundle_id
