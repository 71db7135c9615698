"""`mgc ensemble BUNDLE BUNDLE … --out BUNDLE`: trained models side by side as one, their logits averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click

from cluster.bundles import open_bundle, save_bundle
from cluster.storage import files
from cluster.storage.failures import redact
from cluster.storage.uri import Uri, join
from mgc.bundle import Bundle
from mgc.configuration import to_json
from mgc.errors import BundleError
from mgc.metrics import MemberFacts, TrainingFacts
from mgc.models.ensemble import Ensemble, EnsembleConfig
from pipelines.command.job import BUNDLE, URI, Summary, main, say


def join_bundles(bundles: Sequence[Bundle], where: Sequence[str]) -> Bundle:
    """The ensemble of bundles that were trained on the same tracks, from the same features.

    Args:
        bundles: two at least.
        where: their names, for messages.

    Raises:
        BundleError: they do not fit together; says in what.
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
            raise BundleError(f"{name}: its logits are adjusted (training.adjust_after); an ensemble takes plain ones.")
        if bundle.experiment.model.kind in ("guess", "ensemble"):
            raise BundleError(f"{name}: this is a {bundle.experiment.model.kind}; an ensemble takes single networks.")
    members = [
        MemberFacts(bundle_id=bundle.id, seed=bundle.experiment.training.seed, validation=bundle.training.validation)
        for bundle in bundles
    ]
    model = EnsembleConfig(members=tuple(bundle.experiment.model for bundle in bundles))  # type: ignore[misc]
    training = TrainingFacts(
        data=first.training.data,
        notices=first.training.notices,
        made_with=first.training.made_with,
        members=tuple(members),
    )
    return replace(
        first,
        experiment=replace(first.experiment, model=model),
        model=Ensemble([bundle.model for bundle in bundles]).eval(),
        training=training,
        evaluation=None,
    )


def _facts(bundle: Bundle) -> dict[str, Any]:
    """What must be the same of all members."""
    experiment = bundle.experiment
    return {
        "the front ends": bundle.features_id,
        "the listening plans": experiment.listening,
        "the protocols": experiment.protocol,
        "the genres": bundle.taxonomy,
        "the normalizations": to_json(bundle.normalization.to_json()),
        "the training tracks": bundle.trained_on and bundle.trained_on.to_bytes(),
    }


def build(uris: Sequence[str], out: str, overwrite: bool, dry_run: bool) -> Summary:
    """Load the members, join them and save the bundle."""
    where = [redact(uri) for uri in uris]
    joined = join_bundles([open_bundle(uri) for uri in uris], where)
    counts = {"members": len(uris)}
    outputs = {"bundle": redact(out)}
    if files.exists(join(out, "experiment.json")):
        if open_bundle(out).id == joined.id:
            say(f"{outputs['bundle']}: this very ensemble is there already.")
            return Summary("up_to_date", counts, outputs)
        if not overwrite:
            raise BundleError(
                f"{outputs['bundle']}: there is another bundle here; give another --out, or --overwrite to replace it."
            )
    if dry_run:
        return Summary("dry_run", counts, outputs)
    bundle_id = save_bundle(joined, out)
    say(f"{len(uris)} networks -> {outputs['bundle']}")
    return Summary("done", counts, {**outputs, "bundle_id": bundle_id})


@click.command("ensemble")
@click.argument("bundles", nargs=-1, type=BUNDLE)
@click.option("--out", type=URI, required=True, help="Folder of the bundle.")
@click.option("--overwrite", is_flag=True, help="Replace another bundle at --out.")
@click.option("--dry-run", is_flag=True, help="Only check that they fit together.")
def command(bundles: tuple[str, ...], out: Uri, overwrite: bool, dry_run: bool) -> Summary:
    """Put bundles together into one, whose logits are the mean of theirs.

    They are trained on the same features and tracks, for example with several --training.seed. The ensemble computes
    as much as its members together.
    """
    if len(bundles) < 2:
        raise click.UsageError("an ensemble is of two bundles at least.")
    return build(bundles, out.text, overwrite, dry_run)


if __name__ == "__main__":
    main(command)
