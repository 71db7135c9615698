"""What a bundle tells of its training and its test, for reports."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from mgc.bundle import Bundle
from mgc.datasets.protocols import name_of
from mgc.errors import ConfigError
from mgc.evaluation.report import EpochRow
from mgc.evaluation.scores import Scores
from mgc.experiment import Experiment
from mgc.models.blocks import parameter_count


def model_facts(bundle: Bundle) -> dict[str, str]:
    """What a report says about a bundle."""
    metrics = bundle.metrics
    made = metrics.get("made_with", {})
    members = metrics.get("members", [])
    if members:
        # An ensemble was not trained itself.
        course = {"members": str(len(members)), "seeds": ", ".join(str(member["seed"]) for member in members)}
    else:
        course = {"epochs": str(len(metrics.get("history", []))), "seed": str(bundle.experiment.training.seed)}
    return {
        "bundle": bundle.id,
        "recipe": bundle.experiment.recipe,
        "features": f"{bundle.features_id} ({bundle.experiment.front_end.kind})",
        "parameters": f"{parameter_count(bundle.model):,}",
        "genres": ", ".join(bundle.taxonomy.names),
        "trained on": json.dumps(metrics.get("data", {}).get("clips", {})).strip("{}").replace('"', ""),
        **course,
        "protocol": name_of(bundle.experiment.protocol),
        "made with": ", ".join(f"{name} {value}" for name, value in made.items()),
    }


def history_rows(bundle: Bundle) -> list[EpochRow]:
    """The training history of a bundle, for its report."""
    known = [field.name for field in dataclasses.fields(EpochRow)]
    rows = bundle.metrics.get("history", [])
    return [EpochRow(**{name: row[name] for name in known if name in row}) for row in rows]


def kept_epoch(bundle: Bundle) -> int | None:
    """The epoch whose weights a bundle has; None where nobody noted it."""
    epoch: int | None = bundle.metrics.get("validation", {}).get("epoch")
    return epoch


def bundle_scores(bundle: Bundle) -> tuple[Scores | None, str, str]:
    """The scores that a bundle carries, with the name and the description of the split.

    None where it was never scored.
    """
    found: dict[str, Any] | None = bundle.metrics.get("test")
    if not found:
        return None, "test", ""
    return Scores.from_json(found["scores"]), found["split"], found["description"]


def leaks_said(bundle: Bundle) -> list[str]:
    """What leaked into the scores that a bundle carries, and into its training."""
    records = (bundle.metrics.get("test") or {}, bundle.metrics.get("data", {}))
    leaks = [record.get("leakage", {}).get("says") for record in records]
    return [leak for leak in leaks if leak]


def evaluated(bundle: Bundle, fields: dict[str, str]) -> Experiment:
    """The experiment of a bundle under another protocol.

    Raises:
        ConfigError: a field is none of the protocol's.
    """
    for name in fields:
        if not name.startswith("protocol."):
            raise ConfigError(f"option {name}: a trained model is scored as it is; only --protocol fields can be set.")
    return bundle.experiment.override(fields)
