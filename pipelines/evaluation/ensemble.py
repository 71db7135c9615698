"""Join several trained models into one whose logits are the mean of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cluster.bundles import open_bundle, save_bundle
from cluster.storage import files
from mgc.bundle import Bundle
from mgc.configuration import to_json
from mgc.errors import BundleError
from mgc.metrics import MemberFacts, TrainingFacts
from mgc.models.ensemble import MEMBER_KINDS, Ensemble, EnsembleConfig
from mgc.units import format_count
from pipelines.command.job import Summary, say
from pipelines.evaluation.requests import EnsembleRequest


def join_bundles(request: EnsembleRequest) -> Summary:
    """Load the members, join them and save the bundle.

    Raises:
        BundleError: the members do not fit together, or another bundle is at `out`.
    """
    out, count = request.out, len(request.bundles)
    bundles = [open_bundle(uri) for uri in request.bundles]
    joined = join_models(bundles, [str(each) for each in request.bundles])
    counts = {"members": count}
    outputs = {"bundle": str(out)}
    if files.exists(out / "experiment.json"):
        if open_bundle(out).id == joined.id:
            say(f"{out}: this ensemble is already there.")
            return Summary("up_to_date", counts, outputs)
        if not request.overwrite:
            raise BundleError(f"{out}: another bundle lies here; choose another --out, or replace it with --overwrite.")
    if request.dry_run:
        return Summary("dry_run", counts, outputs)
    bundle_id = save_bundle(joined, out)
    say(f"{format_count(count, 'network')} -> {out}")
    return Summary("done", counts, {**outputs, "bundle_id": bundle_id})


def join_models(bundles: Sequence[Bundle], where: Sequence[str]) -> Bundle:
    """Return the ensemble of bundles that were trained on the same tracks, from the same features.

    Args:
        bundles: members, at least two.
        where: their names, for messages.

    Raises:
        BundleError: they do not fit together; the message says what differs.
    """
    first = bundles[0]
    for bundle, name in zip(bundles[1:], where[1:], strict=True):
        differs = [what for what, own in _facts(bundle).items() if own != _facts(first)[what]]
        if differs:
            raise BundleError(
                f"{name}: {', '.join(differs)} of this bundle and of {where[0]} differ; an ensemble takes bundles "
                "trained on the same features and tracks."
            )
    for bundle, name in zip(bundles, where, strict=True):
        if bundle.adjustment is not None:
            raise BundleError(
                f"{name}: its logits are adjusted, and an ensemble takes raw ones; train it without "
                "training.adjust_after."
            )
        if bundle.experiment.model.kind not in MEMBER_KINDS:
            raise BundleError(
                f"{name}: its network is of the kind {bundle.experiment.model.kind}; an ensemble takes those of the "
                f"kinds {', '.join(MEMBER_KINDS)}."
            )
    members = [
        MemberFacts(
            bundle_id=bundle.id,
            seed=bundle.experiment.training.seed,
            validation=bundle.training.validation,
            started_from=bundle.training.started_from,
        )
        for bundle in bundles
    ]
    model = EnsembleConfig(members=tuple(bundle.experiment.model for bundle in bundles))  # type: ignore[misc]
    recipe = " + ".join(dict.fromkeys(bundle.experiment.recipe for bundle in bundles))
    deviations = tuple(dict.fromkeys(point for bundle in bundles for point in bundle.experiment.deviations))
    training = TrainingFacts(
        data=first.training.data,
        notices=tuple(dict.fromkeys(notice for bundle in bundles for notice in bundle.training.notices)),
        made_with=first.training.made_with,
        members=tuple(members),
    )
    return replace(
        first,
        experiment=replace(first.experiment, recipe=recipe, model=model, deviations=deviations),
        model=Ensemble([bundle.model for bundle in bundles]).eval(),
        training=training,
        evaluation=None,
    )


def _facts(bundle: Bundle) -> dict[str, object]:
    """Return the facts that all members must share."""
    experiment = bundle.experiment
    return {
        "the front ends": bundle.features_id,
        "the listening plans": experiment.listening,
        "the labeling configurations": experiment.labeling,
        "the protocols": experiment.protocol,
        "the genres": bundle.taxonomy,
        "the tags": bundle.tags,
        "the normalisations": to_json(bundle.normalization.to_json()),
        "the training tracks": bundle.trained_on and bundle.trained_on.to_bytes(),
    }
