"""Choose the bundle of a night and its words. A table stays with those that labelled it until a person names others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from cluster.bundles import answer_in, open_bundle
from cluster.labels.history import LabeledBy, find_labeler
from cluster.labels.runs.format import EMBEDDINGS
from cluster.labels.runs.table import RunTable
from cluster.storage.http.download import is_offline
from cluster.storage.uri import Uri
from mgc.bundle import Bundle
from mgc.bundle_names import BEST_FIRST, BundleName
from mgc.errors import LabelsError, MgcError
from pipelines.command.job import say

_WAY_OUT: Final = (
    "A table stays with its bundle: put that one back, or name another with --bundle, which then labels every track "
    "anew."
)


@dataclass(frozen=True)
class Model:
    """The bundle of a night.

    Attributes:
        bundle: the bundle that answers.
        place: where it was opened, by the name or URI that a later run can open it by.
        asked: whether a person named it.
        taxonomy: name or file of the genres that a person chose for it; None for its own.
        bundle_id: id of the bundle with its own genres, if a person chose others; else "".
    """

    bundle: Bundle
    place: Uri | BundleName
    asked: bool
    taxonomy: Uri | str | None = None
    bundle_id: str = ""

    @property
    def described(self) -> str:
        """Where the bundle was opened and in which words it answers, for people."""
        return str(self.place) if self.taxonomy is None else f"{self.place}, taxonomy {self.taxonomy}"

    def to_json(self) -> dict[str, str]:
        """Return what the history of a table keeps of it, so that the next run opens it again."""
        chosen = {} if self.taxonomy is None else {"taxonomy": str(self.taxonomy), "bundle_id": self.bundle_id}
        return {"bundle": str(self.place), **chosen}

    def answering(self, taxonomy: Uri | str | None) -> Model:
        """Return the model with answers in other genres; None for its own.

        Raises:
            ConfigError: there is no such map from the bundle's tags to genres.
            StorageError: the file cannot be read.
        """
        if taxonomy is None:
            return self
        chosen = answer_in(self.bundle, taxonomy)
        return replace(self, bundle=chosen, taxonomy=taxonomy, bundle_id=self.bundle.id)


def choose_model(asked: Uri | BundleName | None, table: RunTable | None, taxonomy: Uri | str | None = None) -> Model:
    """Open the bundle of a night: the one that is asked for, or else the table's, or else the default one.

    Args:
        asked: place of the bundle that a person named; None if nobody did.
        table: the table; None without one.
        taxonomy: name or file of the genres that a person chose; None if nobody did. Then a bundle that is asked for
            answers in its own, and the table's bundle in those of the table.

    Raises:
        BundleError: the bundle cannot be opened.
        ConfigError: there is no such map from the bundle's tags to genres.
        LabelsError: what labelled the table is not where it was, and nobody named another.
        StorageError: the file of the genres cannot be read.
    """
    if asked is None and table is not None:
        labeler = find_labeler(table)
        if labeler is not None:
            model = _open_again(labeler, table)
            return _words_again(labeler, model, table) if taxonomy is None else model.answering(taxonomy)
    place = BundleName.DEFAULT if asked is None else asked
    if isinstance(place, BundleName):
        place = place.resolved
    return Model(open_bundle(place), place, asked is not None).answering(taxonomy)


def advise_pull(model: Model) -> None:
    """Say that there are better bundles, if the shipped one labels only because nothing else is there."""
    has_better = any(name.is_there for name in BEST_FIRST)
    if model.asked or model.place is not BundleName.SHIPPED or has_better or is_offline():
        return
    best = BEST_FIRST[0]
    say(f"the shipped bundle labels; `mgc pull {best}`, and then --bundle {best}, would give better labels")


def _open_again(labeler: LabeledBy, table: RunTable) -> Model:
    """Open the bundle that made a table, with its own genres."""
    labels, wanted = table.uri, labeler.bundle_id or labeler.model_id
    if not labeler.place:
        found = next((model for model in _models_there() if _id_in(table, model.bundle) == wanted), None)
        if found is None:
            raise LabelsError(
                f"{labels}: bundle {wanted} labelled this table, and neither the shipped bundle nor a pulled one is "
                f"that. {_WAY_OUT}"
            )
        return found
    place = BundleName.of(labeler.place) or Uri.parse(labeler.place)
    try:
        bundle = open_bundle(place)
    except MgcError as error:
        raise LabelsError(
            f"{labels}: bundle {wanted} ({place}) labelled this table, and cannot be opened: {error} {_WAY_OUT}"
        ) from None
    if _id_in(table, bundle) != wanted:
        raise LabelsError(
            f"{labels}: bundle {wanted} ({place}) labelled this table, and another one lies there now "
            f"({_id_in(table, bundle)}). {_WAY_OUT}"
        )
    return Model(bundle, place, False)


def _words_again(labeler: LabeledBy, model: Model, table: RunTable) -> Model:
    """Return the table's bundle with the genres that a person chose for the table."""
    if not labeler.taxonomy:
        return model
    way_out = (
        f"A table stays with its taxonomy: put that one back, or name one with --taxonomy, or --bundle {model.place} "
        "for the bundle's own; then every track is labelled anew."
    )
    try:
        # A name has no slash, and a URI always has one.
        chosen = Uri.parse(labeler.taxonomy) if "/" in labeler.taxonomy else labeler.taxonomy
        again = model.answering(chosen)
    except MgcError as error:
        raise LabelsError(
            f"{table.uri}: it was labelled with the taxonomy {labeler.taxonomy}, which cannot be used: {error} "
            f"{way_out}"
        ) from None
    if again.bundle.id != labeler.model_id:
        what = "has changed since" if isinstance(chosen, Uri) else "is another one in this mgc"
        raise LabelsError(f"{table.uri}: it was labelled with the taxonomy {labeler.taxonomy}, which {what}. {way_out}")
    return again


def _id_in(table: RunTable, bundle: Bundle) -> str:
    """Return what the rows of a table call a bundle."""
    return bundle.embedding_id if table.form is EMBEDDINGS else bundle.id


def _models_there() -> Iterator[Model]:
    for name in BundleName:
        if name is BundleName.SHIPPED or (name.is_public and name.is_there):
            try:
                yield Model(open_bundle(name), name, False)
            except MgcError:
                continue
