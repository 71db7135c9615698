from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import click
import pytest

import mgc
from infra import scores as entering
from mgc.recipes.catalogue import find
from mgc.recipes.scores import RecipeScore


@pytest.mark.parametrize(
    ("recipe", "fields"),
    [
        ("house-thumbnail", {}),
        ("house-thumbnail", {"model.channels": "8,16", "training.average": "0.99", "training.select": "last"}),
        ("holst-d1", {"front_end.kind": "thumbnail", "protocol.kind": "given", "training.epochs": "3"}),
        ("minhas-c3", {"protocol.kind": "artist", "protocol.leak": "none", "training.loss.kind": "focal"}),
    ],
)
def test_the_options_lead_from_the_recipe_to_what_was_trained(recipe: str, fields: dict[str, str]) -> None:
    experiment = find(recipe).build().override(fields)
    words = shlex.split(" ".join(entering.changed(experiment)))
    given = dict(zip((word.removeprefix("--") for word in words[::2]), words[1::2], strict=True))
    assert find(recipe).build().override(given) == experiment
    assert len(given) <= len(fields)


def test_a_bundle_is_entered_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = mgc.load_bundle("default")
    score = entering.entry(bundle, "FMA-small mels", "outputs/fma", "abc1234")
    assert (score.recipe, score.split, score.tracks) == ("house-thumbnail", "test", 789)
    assert score.low < score.accuracy < score.high
    assert score.command.startswith("mgc train --recipe house-thumbnail --features outputs/fma")
    assert entering.row(score, bundle).count("|") == entering.HEAD.splitlines()[0].count("|")
    path = tmp_path / "scores.json"
    entering.enter([score, score], path)
    found = [RecipeScore(**item) for item in json.loads(path.read_text())]
    assert found.count(score) == 1


def test_a_bundle_that_was_never_evaluated_is_refused() -> None:
    bundle = replace(mgc.load_bundle("default"), evaluation=None)
    with pytest.raises(click.UsageError, match=r"^house-thumbnail: not evaluated yet"):
        entering.entry(bundle, "x", "y", "z")
