"""Whether a training's bundle is already there."""

from __future__ import annotations

from cluster.bundles import open_bundle
from cluster.storage import files
from cluster.storage.uri import Uri
from mgc.bundle import Bundle
from mgc.bundle_names import LAST_FILE
from mgc.errors import BundleError


def find_trained(out: Uri, key: str, overwrite: bool) -> Bundle | None:
    """Return the bundle at `out` if this training made it; None if there is none, or it may be replaced.

    Args:
        out: place of the bundle.
        key: name of the training, which its bundle keeps.
        overwrite: whether another bundle, or a damaged one, may be replaced.

    Raises:
        BundleError: another bundle lies there, or a damaged one, and it may not be replaced.
    """
    if not files.exists(out / LAST_FILE):
        return None
    try:
        found = open_bundle(out)
    except BundleError:
        if overwrite:
            return None
        raise
    if found.training.training_key == key:
        return found
    if overwrite:
        return None
    raise BundleError(f"{out}: another bundle lies here; choose another --out, or replace it with --overwrite.")
