"""Requests to the evaluation jobs. A command line makes these, so this module imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.session.profiles import Profile
    from cluster.storage.uri import Uri
    from mgc.bundle_names import BundleName

MAP_TRACKS: Final = 1000
"""Most tracks on the map of an evaluation."""


@dataclass(frozen=True)
class EvaluateRequest:
    """Score a bundle on a split of prepared features and write its report.

    Attributes:
        bundle: folder of the bundle, or its name.
        features: prepared features.
        split: split to score.
        out: folder of the report; None for the bundle's own.
        profile: profile of an open Ray session, or the name of a profile; None uses all there is.
        limit: number of tracks, spread over the split; None for all.
        fields: fields of the protocol by dotted name, to divide the rows differently than the bundle's protocol does.
        draw_map: whether to draw a t-SNE map of the tracks.
        robustness: whether to score again with parts of the features zeroed.
        dry_run: whether only to print what would be done.
        taxonomy: name or file of a map to the genres to answer with; None for the bundle's own.
    """

    bundle: Uri | BundleName
    features: Uri
    split: str = "test"
    out: Uri | None = None
    profile: Profile | str | None = None
    limit: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    draw_map: bool = True
    robustness: bool = False
    dry_run: bool = False
    taxonomy: Uri | str | None = None


@dataclass(frozen=True)
class CompareRequest:
    """Compare two bundles on the same tracks.

    Attributes:
        bundles: folders of both bundles, or their names.
        features: prepared features of both bundles: one folder, or one for each if their front ends differ.
        split: split whose tracks are compared, by the protocol of the first bundle.
        out: JSON file to write; None for none.
        profile: profile of an open Ray session, or the name of a profile; None uses all there is.
        fields: fields of the protocol by dotted name.
        dry_run: whether only to print what would be done.
    """

    bundles: tuple[Uri | BundleName, Uri | BundleName]
    features: tuple[Uri, Uri]
    split: str = "test"
    out: Uri | None = None
    profile: Profile | str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False


@dataclass(frozen=True)
class EnsembleRequest:
    """Join several bundles into one.

    Attributes:
        bundles: members, at least two.
        out: folder of the bundle.
        overwrite: whether to replace another bundle at `out`.
        dry_run: whether only to check that the members fit together.
    """

    bundles: Sequence[Uri | BundleName]
    out: Uri
    overwrite: bool = False
    dry_run: bool = False
