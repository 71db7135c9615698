"""Facts about a bundle, its training and its evaluation, for reports."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from mgc.bundle import Bundle
from mgc.datasets.protocols import name_of
from mgc.errors import ConfigError
from mgc.evaluation.report import EpochRow
from mgc.evaluation.scores import Scores
from mgc.experiment import Experiment
from mgc.labeling.tags import GENRES
from mgc.units import format_count


def describe_model(bundle: Bundle, taxonomy: str = "") -> dict[str, str]:
    """Return facts about a bundle, name → text, in the order in which a report shows them.

    Args:
        bundle: the bundle.
        taxonomy: name or file of the genres that a person chose for it; "" for its own.
    """
    training = bundle.training
    if training.members:
        # An ensemble itself was not trained.
        seeds = ", ".join(str(member.seed) for member in training.members)
        course = {"members": str(len(training.members)), "seeds": seeds}
    elif training.history:
        course = {"epochs": str(len(training.history)), "seed": str(bundle.experiment.training.seed)}
    else:
        # Others trained it.
        course = {}
    facts = {
        "bundle": bundle.id,
        "recipe": bundle.experiment.recipe,
        "features": f"{bundle.features_id} ({bundle.experiment.front_end.kind})",
        # Also those that are never trained, such as a probe's ears.
        "parameters": f"{sum(parameter.numel() for parameter in bundle.model.parameters()):,}",
        "shortest recording": f"{bundle.experiment.labeling.min_seconds:g} s",
        **_describe_words(bundle, taxonomy),
        "genres": ", ".join(bundle.taxonomy.names),
        "no music": _describe_sounds(bundle),
        "trained on": json.dumps(training.data.totals).strip("{}").replace('"', ""),
        **course,
        "protocol": name_of(bundle.experiment.protocol),
        "made with": ", ".join(f"{name} {value}" for name, value in training.made_with.to_json().items()),
    }
    return {name: value for name, value in facts.items() if value}


def _describe_words(bundle: Bundle, taxonomy: str) -> dict[str, str]:
    if bundle.tags is None:
        return {}
    known, used = bundle.vocabulary, {found.tag for found in bundle.tags.evidence}
    what = "genres" if known.name == GENRES else f"tags ({known.name})"
    said = f"{format_count(len(bundle.taxonomy), 'genre')}, for which {len(used)} of {len(known.tags)} {what} speak"
    return {"taxonomy": f"{taxonomy or 'its own'}: {said}", "confidence": "share of what speaks for any genre"}


def _describe_sounds(bundle: Bundle) -> str:
    known = bundle.known_sounds
    if known is None:
        return ""
    return f"{len(known.tags) - len(known.music)} of {len(known.tags)} sounds ({known.name}), which get no genre"


def list_history(bundle: Bundle) -> list[EpochRow]:
    """Return the training history of a bundle, one row for each epoch."""
    figures = [field.name for field in dataclasses.fields(EpochRow) if field.name != "epoch"]
    return [
        EpochRow(int(row["epoch"]), **{name: row[name] for name in figures if name in row})
        for row in bundle.training.history
    ]


def read_scores(bundle: Bundle) -> tuple[Scores | None, str, str]:
    """Return the scores of a bundle's last evaluation, and the name and the description of what was scored.

    The scores are None if the bundle was never evaluated.
    """
    evaluation = bundle.evaluation
    if evaluation is None:
        return None, "test", ""
    return evaluation.read_scores(), evaluation.split, evaluation.description


def list_leaks(bundle: Bundle) -> list[str]:
    """Return warnings about leaks in the evaluation and the training of a bundle."""
    leaks = (None if bundle.evaluation is None else bundle.evaluation.leakage, bundle.training.data.leakage)
    return [leak.says for leak in leaks if leak is not None and leak.says]


def override_protocol(bundle: Bundle, fields: Mapping[str, str]) -> Experiment:
    """Return the experiment of a bundle with some fields of its protocol replaced.

    Raises:
        ConfigError: the protocol has no such field.
    """
    for name in fields:
        if not name.startswith("protocol."):
            raise ConfigError(f"option {name}: a trained model is scored as it is; only --protocol fields can be set.")
    return bundle.experiment.override(dict(fields))
