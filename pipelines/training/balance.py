"""Train one recipe with every method for unbalanced genres, score each model, and tabulate the scores."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import click

from cluster.bundles import open_bundle
from cluster.session.connect import connect
from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.tables.features import read_features, read_roster
from mgc import schema
from mgc.bundle import Bundle
from mgc.bundle_facts import read_scores
from mgc.configuration import JsonObject
from mgc.datasets.splits import TRAIN
from mgc.errors import ConfigError
from mgc.evaluation.shots import GROUPS, LIU_THRESHOLDS, ShotScore, shot_scores, shots_to_json
from mgc.experiment import Experiment
from mgc.recipes.catalogue import find
from pipelines.command.job import Summary, describe, say
from pipelines.evaluation.evaluate import evaluate_bundle
from pipelines.evaluation.requests import EvaluateRequest
from pipelines.training.balance_methods import METHODS
from pipelines.training.requests import BalanceRequest, TrainRequest
from pipelines.training.train import train_bundle

_FIGURES: Final = ("accuracy", "macro_f1", *GROUPS)


def plan_experiments(
    recipe: str, methods: Sequence[str], seeds: Sequence[int], fields: Mapping[str, str]
) -> dict[tuple[str, int], Experiment]:
    """Return the experiments to train, by method and seed: all methods of one seed, then those of the next.

    Args:
        recipe: name of the recipe.
        methods: names from `METHODS`.
        seeds: seeds of each method.
        fields: fields of the recipe to set for all methods, by dotted name.

    Raises:
        ConfigError: a method or a field is unknown, or a method sets one of `fields` itself.
    """
    strange = sorted(set(methods) - METHODS.keys())
    if strange:
        raise ConfigError(f"there is no method {', '.join(strange)}; the methods are {', '.join(METHODS)}.")
    found: dict[tuple[str, int], Experiment] = {}
    for seed in seeds:
        for method in methods:
            own = {**METHODS[method], "training.seed": str(seed)}
            both = sorted(own.keys() & fields.keys())
            if both:
                raise ConfigError(f"option {', '.join(both)}: the method {method} sets it.")
            found[method, seed] = find(recipe).build().override({**fields, **own})
    return found


@dataclass(frozen=True)
class ModelScore:
    """One row of the table: a model and its scores. Shares are 0 to 1.

    Attributes:
        method: name from `METHODS`.
        seed: seed of the training.
        split: scored split.
        tracks: number of scored tracks.
        accuracy: share of tracks with the right genre.
        macro_f1: mean F1 over the genres.
        shots: scores of the groups of genres.
        bundle_id: id of the bundle.
    """

    method: str
    seed: int
    split: str
    tracks: int
    accuracy: float
    macro_f1: float
    shots: tuple[ShotScore, ...]
    bundle_id: str

    @property
    def shares(self) -> dict[str, float | None]:
        """Accuracy, macro-F1, and the accuracy of each group, which is None for a group without tracks."""
        groups = {each.group: each.accuracy for each in self.shots}
        return {"accuracy": self.accuracy, "macro_f1": self.macro_f1, **groups}

    def to_json(self) -> JsonObject:
        """Return JSON-ready values."""
        return {
            "method": self.method,
            "seed": self.seed,
            "split": self.split,
            "tracks": self.tracks,
            **self.shares,
            "shots": [*shots_to_json(self.shots)],
            "bundle_id": self.bundle_id,
        }


def tabulate(
    bundle: Bundle, method: str, seed: int, counts: Mapping[str, int], thresholds: tuple[int, int] | None
) -> ModelScore:
    """Return a scored bundle as a row of the table.

    Args:
        bundle: bundle with its scores.
        method: name from `METHODS`.
        seed: seed of its training.
        counts: training clips of each genre.
        thresholds: bounds of the groups, see `shot_scores`.

    Raises:
        ConfigError: the bundle has no scores.
    """
    scores, split, _ = read_scores(bundle)
    if scores is None:
        raise ConfigError(f"method {method}, seed {seed}: the bundle was never scored; run the same command again.")
    shots = shot_scores(scores.confusion, scores.genres, [counts.get(name, 0) for name in scores.genres], thresholds)
    return ModelScore(method, seed, split, scores.tracks, scores.accuracy, scores.macro_f1, shots, bundle.id)


def render_markdown(rows: Sequence[ModelScore]) -> str:
    """Return the table: a line for each method and seed, and below them mean and deviation over several seeds."""
    lines = [f"| method | seed | {' | '.join(_FIGURES)} |", "| --- " * (len(_FIGURES) + 2) + "|"]
    methods = list(dict.fromkeys(row.method for row in rows))
    for method in methods:
        mine = [row for row in rows if row.method == method]
        for row in mine:
            lines.append(f"| {method} | {row.seed} | {' | '.join(_share(row.shares[name]) for name in _FIGURES)} |")
        if len(mine) > 1:
            spread = [_spread([row.shares[name] for row in mine]) for name in _FIGURES]
            lines.append(f"| {method} | mean of {len(mine)} ± deviation | {' | '.join(spread)} |")
    return "\n".join(lines) + "\n"


def compare_balance(request: BalanceRequest) -> Summary:
    """Train and score the missing models, and write the table.

    Connects to Ray unless the request has the profile of an open session.
    """
    dataset, _ = read_features(request.features)
    # Methods and seeds do not change the protocol.
    protocol = next(iter(request.experiments.values())).protocol
    counts = read_roster(dataset, protocol).limited(request.limit, (TRAIN,)).class_counts(TRAIN)
    totals: JsonObject = {"models": len(request.experiments), "train_clips": sum(counts.values())}
    if request.dry_run:
        models = {f"{method}, seed {seed}": METHODS[method] for method, seed in request.experiments}
        describe({**models, "genres": counts})
        return Summary("dry_run", totals)
    thresholds = LIU_THRESHOLDS if request.shots == "liu" else None
    facts = {"features": str(request.features), "notices": schema.notices_of(dataset.schema), "genres": counts}
    rows: list[ModelScore] = []
    with connect(train_workers=request.workers, profile=request.profile) as profile:
        for method, seed in request.experiments:
            say(f"{method}, seed {seed} ({len(rows) + 1} of {len(request.experiments)})")
            bundle = _train_scored(request, method, seed, profile)
            rows.append(tabulate(bundle, method, seed, counts, thresholds))
            # Write the table after each model, because a partial one is useful too.
            text = json.dumps({**facts, "rows": [row.to_json() for row in rows]}, indent=2)
            files.write_bytes(request.out / "results.json", f"{text}\n".encode())
            files.write_bytes(request.out / "results.md", render_markdown(rows).encode())
    click.echo(render_markdown(rows))
    return Summary("done", totals, {"results": str(request.out / "results.json")})


def _train_scored(request: BalanceRequest, method: str, seed: int, profile: Profile) -> Bundle:
    """Return the bundle of a method and seed. Trains and scores it now if that is not done yet."""
    out = request.out / f"{method}-{seed}"
    train_bundle(
        TrainRequest(
            experiment=request.experiments[method, seed],
            out=out,
            features=request.features,
            workers=request.workers,
            limit=request.limit,
            profile=profile,
        )
    )
    scores, split, _ = read_scores(open_bundle(out))
    if scores is None or split != request.split:
        evaluate_bundle(
            EvaluateRequest(out, request.features, request.split, profile=profile, limit=request.limit, draw_map=False)
        )
    return open_bundle(out)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.mean(known):.3f} ± {statistics.stdev(known):.3f}" if len(known) > 1 else "-"
