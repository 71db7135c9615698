"""Choose the bundle of a night. A table stays with the bundle that labelled it until a person names another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cluster.bundles import open_bundle
from cluster.labels.history import LabeledBy, find_labeler
from cluster.labels.runs.table import RunTable
from cluster.storage.http.download import is_offline
from cluster.storage.uri import Uri
from mgc.bundle import Bundle
from mgc.bundle_files import EXPERIMENT, BundleFiles
from mgc.bundle_names import BEST_FIRST, BundleName
from mgc.errors import LabelsError, MgcError
from pipelines.command.job import say


@dataclass(frozen=True)
class Model:
    """The bundle of a night.

    Attributes:
        bundle: the bundle.
        place: where it was opened, by the name or URI that a later run can open it by.
        asked: whether a person named it.
    """

    bundle: Bundle
    place: Uri | BundleName
    asked: bool


def choose_model(asked: Uri | BundleName | None, table: RunTable | None) -> Model:
    """Open the bundle of a night: the one that is asked for, or else the table's, or else the default one.

    Args:
        asked: place of the bundle that a person named; None if nobody did.
        table: the table; None without one.

    Raises:
        BundleError: the bundle cannot be opened.
        LabelsError: the bundle that labelled the table is not where it was, and nobody named one.
    """
    if asked is None and table is not None:
        labeler = find_labeler(table)
        if labeler is not None:
            return _open_again(labeler, table.uri)
    place = BundleName.DEFAULT if asked is None else asked
    if isinstance(place, BundleName):
        place = place.resolved
    return Model(open_bundle(place), place, asked is not None)


def advise_pull(model: Model) -> None:
    """Say that there are better bundles, if the shipped one labels only because nothing else is there."""
    has_better = any(name.is_there for name in BEST_FIRST)
    if model.asked or model.place is not BundleName.SHIPPED or has_better or is_offline():
        return
    best = BEST_FIRST[0]
    say(f"the shipped bundle labels; `mgc pull {best}`, and then --bundle {best}, would give better labels")


def _open_again(labeler: LabeledBy, labels: Uri) -> Model:
    way_out = (
        "A table stays with its bundle: put that one back, or name another with --bundle, which then labels every "
        "track anew."
    )
    if not labeler.place:
        found = next((name for name in _names_there() if _stated_id(name) == labeler.model_id), None)
        if found is None:
            raise LabelsError(
                f"{labels}: bundle {labeler.model_id} labelled this table, and neither the shipped bundle nor a pulled "
                f"one is that. {way_out}"
            )
        return Model(open_bundle(found), found, False)
    place = BundleName.of(labeler.place) or Uri.parse(labeler.place)
    try:
        bundle = open_bundle(place)
    except MgcError as error:
        raise LabelsError(
            f"{labels}: bundle {labeler.model_id} ({place}) labelled this table, and cannot be opened: {error} "
            f"{way_out}"
        ) from None
    if bundle.id != labeler.model_id:
        raise LabelsError(
            f"{labels}: bundle {labeler.model_id} ({place}) labelled this table, and another one lies there now "
            f"({bundle.id}). {way_out}"
        )
    return Model(bundle, place, False)


def _names_there() -> Iterator[BundleName]:
    yield BundleName.SHIPPED
    yield from (name for name in BundleName if name.is_public and name.is_there)


def _stated_id(name: BundleName) -> str:
    try:
        files = BundleFiles(name.value)
        return str(files.parse_object(files.read(EXPERIMENT), EXPERIMENT).get("bundle_id"))
    except MgcError:
        return ""
