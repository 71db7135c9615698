"""Enter the scores of evaluated bundles into mgc/recipes/scores.json, and print rows for RESULTS.md.

`python -m infra.scores --features "FMA-small mels" --at outputs/fma --commit abc1234 BUNDLE …`, after `mgc evaluate`.
An entry of the same recipe, features, protocol and split is replaced. The command of an entry leads from the recipe to
what was trained; it need not be the one that was typed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click
from pydantic import TypeAdapter

import mgc
from mgc.bundle import Bundle
from mgc.bundle_facts import read_scores
from mgc.datasets.protocols import name_of
from mgc.experiment import Experiment
from mgc.recipes.catalogue import find
from mgc.recipes.scores import RecipeScore, recipe_scores

ROOT = Path(__file__).parent.parent
SCORES = ROOT / "mgc" / "recipes" / "scores.json"
HEAD: Final = """\
| recipe | row | parameters | epochs | validation | accuracy (95 %) | macro-F1 | paper, its own data |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def changed(experiment: Experiment) -> list[str]:
    """Return the options that turn the recipe into what was trained."""
    plain, options = find(experiment.recipe).build(), []
    wanted = experiment.dotted()
    # A kind comes first: another kind has other fields.
    for kinds in (True, False):
        there = plain.dotted()
        for name, value in wanted.items():
            if name.endswith("kind") == kinds and name not in ("recipe", "deviations") and there.get(name) != value:
                text = value if isinstance(value, str) else json.dumps(value)
                if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
                    text = ",".join(map(str, value))
                plain = plain.override({name: text})
                options.append(f"--{name} {text}")
    return options


def entry(bundle: Bundle, features: str, at: str, commit: str) -> RecipeScore:
    """Return the score of a bundle's last evaluation.

    Raises:
        click.UsageError: it was never evaluated, or has no interval.
    """
    scores, split, _ = read_scores(bundle)
    recipe = bundle.experiment.recipe
    sure = None if scores is None else scores.accuracy_interval
    if scores is None or sure is None:
        raise click.UsageError(f"{recipe}: not evaluated yet, or without an interval; run mgc evaluate.")
    return RecipeScore(
        recipe=recipe,
        features=features,
        protocol=name_of(bundle.experiment.protocol),
        split=split,
        tracks=scores.tracks,
        accuracy=round(scores.accuracy, 4),
        low=round(sure.low, 4),
        high=round(sure.high, 4),
        macro_f1=round(scores.macro_f1, 4),
        commit=commit,
        command=" ".join([f"mgc train --recipe {recipe} --features {at}", *changed(bundle.experiment)]),
    )


def row(score: RecipeScore, bundle: Bundle) -> str:
    """Return a line of the table in RESULTS.md."""
    recipe = find(score.recipe)
    kept = (bundle.training.validation or {}).get("validation_accuracy")
    splits = ("validation", "test")
    told = {split: recipe.reported.get(f"{split}_accuracy") for split in splits}
    reported = ", ".join(f"{value:.3f} {split}" for split, value in told.items() if value is not None)
    cells = [
        f"`{score.recipe}`",
        recipe.paper_row or "-",
        f"{sum(parameter.numel() for parameter in bundle.model.parameters()):,}",
        f"{len(bundle.training.history)}",
        "-" if kept is None else f"{kept:.3f}",
        f"{score.accuracy:.3f} ({score.low:.3f} to {score.high:.3f})",
        f"{score.macro_f1:.3f}",
        reported or "-",
    ]
    return f"| {' | '.join(cells)} |"


def enter(scores: list[RecipeScore], path: Path = SCORES) -> None:
    """Write the file again, with these scores in it."""

    def key(score: RecipeScore) -> tuple[str, ...]:
        return score.recipe, score.features, score.protocol, score.split

    kept = {key(score): score for entries in recipe_scores().values() for score in entries}
    kept |= {key(score): score for score in scores}
    dumped = TypeAdapter(list[RecipeScore]).dump_python(list(kept.values()), mode="json")
    path.write_text(json.dumps(dumped, indent=2) + "\n", encoding="utf-8")


@click.command()
@click.argument("bundles", nargs=-1, required=True)
@click.option("--features", required=True, help="Name of the features in the list.")
@click.option("--at", required=True, help="Folder of the features, for the command.")
@click.option("--commit", required=True, help="Commit of the code that trained.")
@click.option("--dry-run", is_flag=True, help="Print the rows and write nothing.")
def command(bundles: tuple[str, ...], features: str, at: str, commit: str, dry_run: bool) -> None:
    """Enter the scores of evaluated BUNDLES, and print the rows for RESULTS.md."""
    loaded = [mgc.load_bundle(uri) for uri in bundles]
    scores = [entry(bundle, features, at, commit) for bundle in loaded]
    click.echo(HEAD)
    for score, bundle in zip(scores, loaded, strict=True):
        click.echo(row(score, bundle))
    if not dry_run:
        enter(scores)


if __name__ == "__main__":
    command()
