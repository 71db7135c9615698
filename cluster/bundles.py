"""Load and save bundles under any URI, load those that have a name, and let them answer in other genres."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pyarrow.fs import FileType

from cluster.storage import files
from cluster.storage.failures import explain
from cluster.storage.uri import Uri
from mgc.bundle import Bundle, load_bundle
from mgc.bundle_files import FILES, OPTIONAL
from mgc.bundle_names import BundleName
from mgc.bundle_start import Start, load_start
from mgc.errors import BundleError, StorageError
from mgc.labeling.tag_maps import COLUMNS, read_tag_map, shipped_map

_MOST_BYTES: Final = 16 * 1024 * 1024
"""Size of the largest taxonomy."""

_MOST_SWAPS: Final = 10
"""Most attempts to put a folder where other processes put theirs at the same time."""


def open_bundle(place: Uri | BundleName) -> Bundle:
    """Load a bundle.

    Args:
        place: folder of the bundle, or its name.

    Raises:
        BundleError: see `mgc.load_bundle`.
        StorageError: the place cannot be reached.
    """
    if isinstance(place, BundleName):
        return load_bundle(place.value)
    if place.is_remote and not files.exists(place):
        raise BundleError(f"{place}: there is no bundle here. Train one with `mgc train --out BUNDLE`.")
    return load_bundle(place.path, place.filesystem)


def answer_in(bundle: Bundle, taxonomy: Uri | str) -> Bundle:
    """Return a bundle with answers in other genres.

    Args:
        bundle: the bundle.
        taxonomy: a CSV file, or the name of a map that comes with mgc for the tags of this bundle.

    Raises:
        ConfigError: the file is no map from the bundle's tags to genres, or there is no map of that name.
        StorageError: the file cannot be read.
    """
    if isinstance(taxonomy, Uri):
        return bundle.answering(*read_tag_map(_read_small(taxonomy), bundle.vocabulary, f"taxonomy {taxonomy}"))
    return bundle.answering(*shipped_map(taxonomy, bundle.vocabulary))


def _read_small(uri: Uri) -> str:
    """Read a text file that a person wrote, and no pipe, device or film.

    Raises:
        StorageError: it cannot be read, or it is no such file.
    """
    with explain(uri, "read"):
        found = uri.filesystem.get_file_info(uri.path)
    if found.type in (FileType.Directory, FileType.Unknown) or (found.size or 0) > _MOST_BYTES:
        what = "a folder" if found.type is FileType.Directory else "no text file of a few lines"
        raise StorageError(f"taxonomy {uri}: this is {what}; name a CSV file with the columns {', '.join(COLUMNS)}.")
    return files.read_text(uri)


def open_start(place: Uri | BundleName, network: int | None) -> Start:
    """Load the weights of one network of a bundle, to train on from there; see `mgc.bundle_start.load_start`."""
    if isinstance(place, BundleName):
        return load_start(place.value, network)
    return load_start(place.path, network, place.filesystem)


def save_bundle(bundle: Bundle, uri: Uri, beside: Mapping[str, bytes] | None = None) -> str:
    """Write a bundle into a folder and return its id.

    Args:
        bundle: the bundle.
        uri: its folder.
        beside: contents of other files to write into that folder, such as a licence.
    """
    with tempfile.TemporaryDirectory() as folder:
        bundle_id = bundle.save(folder)
        for name, data in (beside or {}).items():
            files.write_bytes(uri / name, data)
        # The experiment comes last in FILES: a bundle that has one is whole.
        for name in (*OPTIONAL, *FILES):
            written = Path(folder, name)
            if written.exists():
                files.write_bytes(uri / name, written.read_bytes())
            else:
                files.delete(uri / name)
    return bundle_id


def install_bundle(bundle: Bundle, folder: Path, beside: Mapping[str, bytes]) -> str:
    """Write a bundle as a local folder of mgc's own, whatever is there, and return its id.

    The folder appears with all its files, also if several processes do this at once.

    Args:
        bundle: the bundle.
        folder: its folder.
        beside: contents of other files in that folder.

    Raises:
        StorageError: the folder cannot be written.
    """
    with explain(folder, "write"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            made, old = Path(temporary, "new"), Path(temporary, "old")
            bundle_id = save_bundle(bundle, Uri.of_path(made), beside)
            for left in reversed(range(_MOST_SWAPS)):
                try:
                    # Replaces no folder that has files: that one is moved away first.
                    made.rename(folder)
                    break
                except OSError:
                    if not left or not folder.exists():
                        raise
                shutil.rmtree(old, ignore_errors=True)
                with contextlib.suppress(FileNotFoundError):
                    folder.rename(old)
    return bundle_id
