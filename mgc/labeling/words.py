"""The words of a bundle's network in the bundle's files: tags that speak for genres, and sounds."""

from __future__ import annotations

import json

from mgc.bundle_files import SOUNDS, TAGS, BundleFiles
from mgc.labeling.tags import TagMap, Vocabulary
from mgc.taxonomy import Taxonomy


def read_tags(files: BundleFiles, taxonomy: Taxonomy) -> TagMap | None:
    """Return a bundle's map from tags to genres; None if its outputs are the genres.

    Raises:
        BundleError: the file is corrupt.
    """
    data = files.read_if_there(TAGS)
    return (
        None if data is None else files.make(lambda: TagMap.from_json(files.parse_object(data, TAGS), taxonomy), TAGS)
    )


def read_sounds(files: BundleFiles, needed: bool) -> Vocabulary | None:
    """Return the sounds that a bundle's network names besides genres; None if there is no such file.

    Args:
        files: the bundle.
        needed: whether the network names any.

    Raises:
        BundleError: the file is corrupt, or it is missing though it is needed.
    """
    data = files.read(SOUNDS) if needed else files.read_if_there(SOUNDS)
    return None if data is None else files.make(lambda: Vocabulary.from_json(files.parse_object(data, SOUNDS)), SOUNDS)


def words_files(tags: TagMap | None, sounds: Vocabulary | None) -> dict[str, bytes]:
    """Return the contents of the files, by their names; those that the bundle has."""
    words = {TAGS: tags, SOUNDS: sounds}
    return {
        name: (json.dumps(each.to_json(), ensure_ascii=False, indent=1) + "\n").encode()
        for name, each in words.items()
        if each is not None
    }
