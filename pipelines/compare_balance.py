"""`python -m pipelines.compare_balance --features FEATURES --out FOLDER`: what helps rare genres, in one table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from cluster.session.connect import connect
from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.storage.failures import redact
from cluster.storage.uri import Uri, join
from cluster.tables.features import read_features, read_roster
from mgc import schema
from mgc.bundle import Bundle
from mgc.bundle_facts import read_scores
from mgc.datasets.splits import TRAIN
from mgc.errors import ConfigError
from mgc.evaluation.shots import GROUPS, LIU_THRESHOLDS, shot_scores, shots_to_json
from mgc.experiment import Experiment
from mgc.recipes.catalogue import find
from pipelines import evaluate, train
from pipelines.command.job import OVERRIDES, PROFILE, URI, Summary, describe, main, overrides, say

_NATURAL: Final = {"training.balance": "natural"}

METHODS: Final[Mapping[str, Mapping[str, str]]] = {
    "natural": _NATURAL,
    "class_balanced": {"training.balance": "class_balanced"},
    "square_root": {"training.balance": "square_root"},
    "repeat_factor": {"training.balance": "repeat_factor"},
    "progressive": {"training.balance": "progressive"},
    "effective_number": {**_NATURAL, "training.loss.beta": "0.999"},
    "focal": {**_NATURAL, "training.loss.kind": "focal"},
    "effective_number_focal": {**_NATURAL, "training.loss.kind": "focal", "training.loss.beta": "0.999"},
    "balanced_softmax": {**_NATURAL, "training.loss.kind": "balanced_softmax"},
    "logit_adjusted": {**_NATURAL, "training.loss.kind": "logit_adjusted"},
    "adjusted_after": {**_NATURAL, "training.adjust_after": "1"},
    "adjusted_after_chosen": {**_NATURAL, "training.adjust_after": "0,0.25,0.5,0.75,1,1.25,1.5,2"},
    "retrained_head": {**_NATURAL, "training.head_epochs": "10"},
}
"""What is compared, as fields set on top of the recipe. `logit_adjusted`, its τ being 1, and `balanced_softmax` are the
same but for rounding: how far apart they come out is chance."""

_FIGURES: Final = ("accuracy", "macro_f1", *GROUPS)


def experiments(
    recipe: str, methods: Sequence[str], seeds: Sequence[int], fields: Mapping[str, str]
) -> dict[tuple[str, int], Experiment]:
    """What is to be trained, by method and seed; all methods of one seed before the next.

    Raises:
        ConfigError: a method or a field is unknown, or a method sets a field that was to be set for all.
    """
    strange = sorted(set(methods) - METHODS.keys())
    if strange:
        raise ConfigError(f"there is no method {', '.join(strange)}; there are {', '.join(METHODS)}.")
    found: dict[tuple[str, int], Experiment] = {}
    for seed in seeds:
        for method in methods:
            own = {**METHODS[method], "training.seed": str(seed)}
            both = sorted(own.keys() & fields.keys())
            if both:
                raise ConfigError(f"option {', '.join(both)}: the method {method} sets it.")
            found[method, seed] = find(recipe).build().override({**fields, **own})
    return found


def result(
    bundle: Bundle, method: str, seed: int, counts: Mapping[str, int], thresholds: tuple[int, int] | None
) -> dict[str, Any]:
    """One row of the table: a scored bundle, JSON-ready. Shares are 0 to 1; None where a group has no track.

    Args:
        bundle: with its scores.
        method: one of `METHODS`.
        seed: of its training.
        counts: training clips of each genre.
        thresholds: see `shot_scores`.
    """
    scores, split, _ = read_scores(bundle)
    if scores is None:
        raise ConfigError(f"method {method}, seed {seed}: the bundle has no score; run the same command again.")
    shots = shot_scores(scores.confusion, scores.genres, [counts.get(name, 0) for name in scores.genres], thresholds)
    return {
        "method": method,
        "seed": seed,
        "split": split,
        "tracks": scores.tracks,
        "accuracy": scores.accuracy,
        "macro_f1": scores.macro_f1,
        **{each.group: each.accuracy for each in shots},
        "shots": shots_to_json(shots),
        "bundle_id": bundle.id,
    }


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table: a line for each method and seed; for several seeds the mean, and their deviation, below."""
    lines = [f"| method | seed | {' | '.join(_FIGURES)} |", "| --- " * (len(_FIGURES) + 2) + "|"]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for method in methods:
        mine = [row for row in rows if row["method"] == method]
        for row in mine:
            lines.append(f"| {method} | {row['seed']} | {' | '.join(_share(row[name]) for name in _FIGURES)} |")
        if len(mine) > 1:
            spread = [_spread([row[name] for row in mine]) for name in _FIGURES]
            lines.append(f"| {method} | mean of {len(mine)} ± deviation | {' | '.join(spread)} |")
    return "\n".join(lines) + "\n"


def build(
    wanted: Mapping[tuple[str, int], Experiment],
    features: str,
    out: str,
    split: str = "test",
    thresholds: tuple[int, int] | None = None,
    workers: int = 1,
    limit: int | None = None,
    dry_run: bool = False,
    profile: Profile | str | None = None,
) -> Summary:
    """Train, score and tabulate what is not there yet; connects to Ray unless it is given the profile of a session."""
    dataset, _ = read_features(features)
    # One for all: methods and seeds leave it as it is.
    protocol = next(iter(wanted.values())).protocol
    counts = read_roster(dataset, protocol).limited(limit, (TRAIN,)).class_counts(TRAIN)
    totals: dict[str, Any] = {"models": len(wanted), "train_clips": sum(counts.values())}
    if dry_run:
        describe({f"{method}, seed {seed}": METHODS[method] for method, seed in wanted} | {"genres": counts})
        return Summary("dry_run", totals)
    rows: list[dict[str, Any]] = []

    def work(at: Profile) -> None:
        for (method, seed), experiment in wanted.items():
            say(f"{method}, seed {seed} ({len(rows) + 1} of {len(wanted)})")
            folder = join(out, f"{method}-{seed}")
            train.build(experiment, features, folder, profile=at, workers=workers, limit=limit)
            scores, scored_split, _ = read_scores(train.open_bundle(folder))
            if scores is None or scored_split != split:
                evaluate.build(folder, features, split, None, at, limit, draw_map=False)
            rows.append(result(train.open_bundle(folder), method, seed, counts, thresholds))
            notices = schema.notices_of(dataset.schema)
            facts = {"features": redact(features), "notices": notices, "genres": counts, "rows": rows}
            files.write_bytes(join(out, "results.json"), (json.dumps(facts, indent=2) + "\n").encode())
            files.write_bytes(join(out, "results.md"), markdown(rows).encode())

    with connect(train_workers=workers, profile=profile) as at:
        work(at)
    click.echo(markdown(rows))
    return Summary("done", totals, {"results": redact(join(out, "results.json"))})


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.mean(known):.3f} ± {statistics.stdev(known):.3f}" if len(known) > 1 else "-"


@click.command("compare-balance", context_settings=OVERRIDES)
@click.option("--features", type=URI, required=True, help="Folder of features, its training split unbalanced.")
@click.option("--out", type=URI, required=True, help="Folder of the bundles, one each, and of results.json.")
@click.option("--recipe", default="house-thumbnail", show_default=True, help="What to train; `mgc recipes` lists them.")
@click.option("--methods", default=",".join(METHODS), show_default=True, help="Which, with commas between them.")
@click.option("--seeds", default="0", show_default=True, help="Of each method, with commas between them.")
@click.option("--split", default="test", show_default=True, help="Which split is scored.")
@click.option(
    "--shots",
    type=click.Choice(["thirds", "liu"]),
    default="thirds",
    show_default=True,
    help="Many, medium and few: thirds of the genres, or more than 100, 20 to 100, fewer than 20 clips.",
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Data-parallel workers.")
@PROFILE
@click.option("--limit", type=click.IntRange(2), help="Only N tracks of each split, spread over it.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained.")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
def command(
    features: Uri,
    out: Uri,
    recipe: str,
    methods: str,
    seeds: str,
    split: str,
    shots: str,
    workers: int,
    profile: str | None,
    limit: int | None,
    dry_run: bool,
    fields: tuple[str, ...],
) -> Summary:
    """Train one recipe with every method for unbalanced genres, score each, and print one table.

    Fields such as --training.epochs 20 are set for all methods. The same command goes on where it stopped.
    """
    if not all(seed.isdecimal() for seed in seeds.split(",")):
        raise ConfigError(f"--seeds {seeds}: whole numbers with commas between them.")
    wanted = experiments(recipe, methods.split(","), [int(seed) for seed in seeds.split(",")], overrides(fields))
    thresholds = LIU_THRESHOLDS if shots == "liu" else None
    return build(wanted, features.text, out.text, split, thresholds, workers, limit, dry_run, profile)


if __name__ == "__main__":
    main(command)
