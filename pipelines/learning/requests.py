"""The request to learn from tags. A command line makes it, so this module imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.storage.selection import ALL, Selection
from pipelines.catalogs.requests import TagsRequest

if TYPE_CHECKING:
    from cluster.session.profiles import Profile
    from cluster.storage.uri import Uri
    from mgc.bundle_names import BundleName


@dataclass(frozen=True)
class LearnRequest:
    """Learn from the tags of files, and label the untagged ones.

    Attributes:
        source: folder, file or `s3://` prefix.
        out: folder of all that is written.
        bundle: bundle whose ears listen; None for the one that made the embeddings in `out`, or else the default one.
        tags: how genres are read from tags.
        hidden: units of a hidden layer of the probe; 0 for none.
        profile: profile of an open Ray session, or the name of a profile; None uses all there is.
        selection: which of the files are wanted.
        accepted: losses of labels that a person accepts, names of `guard.ACCEPTABLE`.
        dry_run: whether only to read the tags and to print what would be done.
    """

    source: Uri
    out: Uri
    bundle: Uri | BundleName | None = None
    tags: TagsRequest = field(default_factory=TagsRequest)
    hidden: int = 0
    profile: Profile | str | None = None
    selection: Selection = ALL
    accepted: tuple[str, ...] = ()
    dry_run: bool = False
