"""Load and save bundles under any URI, and load the one that is shipped with mgc."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cluster.storage import files
from cluster.storage.uri import Uri
from mgc.bundle import Bundle, load_bundle
from mgc.bundle_files import FILES, OPTIONAL
from mgc.bundle_start import Start, load_start
from mgc.errors import BundleError
from mgc.shipped_bundle import ShippedBundle


def open_bundle(place: Uri | ShippedBundle) -> Bundle:
    """Load a bundle.

    Args:
        place: folder of the bundle, or the bundle that is shipped with mgc.

    Raises:
        BundleError: see `mgc.load_bundle`.
        StorageError: the place cannot be reached.
    """
    if isinstance(place, ShippedBundle):
        return load_bundle(place.value)
    if place.is_remote and not files.exists(place):
        raise BundleError(f"{place}: there is no bundle here. Train one with `mgc train --out BUNDLE`.")
    return load_bundle(place.path, place.filesystem)


def open_start(place: Uri | ShippedBundle, network: int | None) -> Start:
    """Load the weights of one network of a bundle, to train on from there; see `mgc.bundle_start.load_start`."""
    if isinstance(place, ShippedBundle):
        return load_start(place.value, network)
    return load_start(place.path, network, place.filesystem)


def save_bundle(bundle: Bundle, uri: Uri) -> str:
    """Write a bundle into a folder and return its id."""
    with tempfile.TemporaryDirectory() as folder:
        bundle_id = bundle.save(folder)
        # The experiment comes last in FILES: a bundle that has one is whole.
        for name in (*OPTIONAL, *FILES):
            written = Path(folder, name)
            if written.exists():
                files.write_bytes(uri / name, written.read_bytes())
            else:
                files.delete(uri / name)
    return bundle_id
