"""What `mgc tune` refuses, and what it would do; no Ray is started."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from mgc.configuration import configure, to_json
from mgc.errors import ConfigError
from mgc.experiment import Experiment
from mgc.recipes.catalogue import find
from mgc.recipes.space import Alternatives, Choice, LogUniform, Space
from pipelines import tune
from pipelines.command.job import run
from pipelines.training.search import plan_refit
from tests.support import tiny_features
from tune.config import SearchConfig
from tune.search import check_search, count_epochs

SPACE = Space({"training.learning_rate": LogUniform(1e-3, 1e-1), "model.channels": Choice(([4], [4, 6]))})


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_features.write(tmp_path_factory.mktemp("features"))


def tiny_fields() -> list[str]:
    """What makes the house's recipe take the tiny features."""
    fields = {f"front_end.{name}": value for name, value in to_json(tiny_features.EXPERIMENT.front_end).items()}
    return [part for name, value in fields.items() for part in (f"--{name}", json.dumps(value))]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = run(tune.command, arguments)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return code, lines[0]


def arguments(features: str, out: Path, *more: str, space: dict[str, Any] | None = None) -> list[str]:
    file = out / "space.json"
    file.write_text(json.dumps(SPACE.to_json() if space is None else space))
    return ["--recipe", "house", "--features", features, "--out", str(out / "found"), "--space", str(file), *more]


def test_an_unknown_metric_is_refused(features: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = refused(arguments(features, tmp_path, "--metric", "f1"), capsys)
    assert code == 2
    assert line == "mgc tune: Invalid value for '--metric': 'f1' is not one of 'macro_f1', 'accuracy', 'loss'."


def test_a_field_that_the_recipe_lacks_is_refused(
    features: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"training.learning_rat": {"kind": "choice", "values": [0.1]}}
    code, line = refused(arguments(features, tmp_path, space=space), capsys)
    assert code == 2
    assert re.match(r"mgc tune: space: training\.learning_rat:.*training\.learning_rate\b.*recipe house", line)
    assert not (tmp_path / "found").exists()


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (("--searcher", "grid"), "space: a grid tries every point, and training.learning_rate is log_uniform"),
        (
            ("--searcher", "grid", "--trials", "3"),
            "--trials 3: a grid tries all its points (without end)",
        ),
        (("--protocol.refit", "true", "--training.select", "last"), "protocol.refit"),
        (("--scheduler", "hyperband", "--workers", "2"), "--scheduler hyperband"),
        (("--front_end.n_mels", "64"), "--front_end"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    more: tuple[str, ...], line: str, features: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = [] if "--front_end.n_mels" in more else tiny_fields()
    code, said = refused(arguments(features, tmp_path, *more, *fields), capsys)
    # Features that the recipe does not fit may be the ones that are wrong.
    assert code == (1 if line == "--front_end" else 2)
    assert line in said


def test_a_recipe_without_a_space_wants_one(features: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = refused(["--recipe", "holst-d1", "--features", features, "--out", "x"], capsys)
    assert code == 2
    assert re.match(r"mgc tune: .*holst-d1\b.*--space.* house-thumbnail\b", line)


def test_a_dry_run_says_what_would_be_searched(
    features: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tune.command, arguments(features, tmp_path, "--dry-run", "--trials", "7", *tiny_fields())) == 0
    printed = capsys.readouterr().out
    facts = json.loads(printed.splitlines()[-1])
    assert facts["status"] == "dry_run"
    assert facts["counts"]["trials"] == 7
    assert '"kind": "log_uniform"' in printed
    # A field of the space has no one value.
    assert "\nmodel.channels" not in printed
    assert not (tmp_path / "found").exists()


def test_a_population_starts_at_random_and_changes_something() -> None:
    with pytest.raises(ConfigError, match=r"^search: pbt starts"):
        configure(SearchConfig, "search", searcher="tpe", scheduler="pbt", trials=4)
    with pytest.raises(ConfigError, match=r"^search: trials: 0 does not fit"):
        configure(SearchConfig, "search", trials=0)
    channels = Space({"model.channels": Choice(([4], [8]))})
    with pytest.raises(ConfigError, match="opulation"):
        check_search(SearchConfig(scheduler="pbt", trials=4), channels, tiny_features.EXPERIMENT, 1)


def test_the_longest_trial_is_known_beforehand() -> None:
    experiment: Experiment = find("house-thumbnail").build().override({"training.head_epochs": "5"})
    assert count_epochs(SPACE, experiment) == 35
    assert count_epochs(Space({"training.epochs": Choice((3, 40, 7))}), experiment) == 45


@pytest.mark.parametrize(
    ("options", "longest"),
    [
        ({"short": {"training.epochs": 3}, "long": {"training.epochs": 70, "training.balance": "natural"}}, 75),
        ({"both": {"training.epochs": 60, "training.head_epochs": 9}, "head": {"training.head_epochs": 20}}, 69),
        # An option that does not say leaves the recipe's 30 epochs.
        ({"short": {"training.epochs": 3}, "other": {"training.balance": "natural"}}, 35),
    ],
)
def test_the_longest_trial_may_be_one_of_alternatives(options: dict[str, dict[str, JsonValue]], longest: int) -> None:
    experiment: Experiment = find("house-thumbnail").build().override({"training.head_epochs": "5"})
    assert experiment.training.epochs == 30
    assert count_epochs(Space({"way": Alternatives(options)}), experiment) == longest


def test_a_refit_keeps_what_validation_chose() -> None:
    fields = {"training.balance": "natural", "training.patience": "3", "training.adjust_after": "0,1"}
    experiment = find("house-thumbnail").build().override(fields)
    once = plan_refit(experiment, 7, 1.0).training
    # The rate falls to the last epoch: that one is taken.
    assert (once.epochs, once.select, once.patience, once.adjust_after) == (30, "last", 0, (1.0,))
    steady = experiment.override({"training.schedule": "constant"})
    assert plan_refit(steady, 7, 0.0).training.epochs == 7
    assert plan_refit(steady, 7, 0.0).training.adjust_after == ()
    crt = steady.override({"training.head_epochs": "4", "training.adjust_after": ""})
    again = plan_refit(crt, 32, None).training
    assert (again.epochs, again.head_epochs) == (30, 2)
