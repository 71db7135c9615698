"""A space as Ray holds it, and spaces in files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.storage.uri import Uri
from mgc.errors import ConfigError
from mgc.recipes.catalogue import find
from mgc.recipes.space import Alternatives, Choice, Integer, LogUniform, Space, Uniform
from tune.spaces import keep_inside, mutations, read_space, to_point, to_ray_space

SPACE = Space(
    {
        "training.learning_rate": LogUniform(1e-4, 1e-2),
        "training.batch_size": Choice((16, 32)),
        "model.channels": Choice(([4], [4, 8])),
        "model.blocks": Integer(0, 3),
        "training.augment.gain": Uniform(0.0, 0.5),
        "balance": Alternatives({"one": {"training.balance": "natural"}, "two": {"training.balance": "square_root"}}),
    }
)


def test_what_ray_draws_is_a_to_point_the_space() -> None:
    experiment = find("house-thumbnail").build()
    seen = set()
    for _ in range(200):
        config = {name: domain.sample() for name, domain in to_ray_space(SPACE).items()}
        assert all(isinstance(value, str | int | float) for value in config.values())
        point = to_point(SPACE, config)
        assert json.loads(json.dumps(point)) == point
        SPACE.apply(experiment, point)
        assert 1e-4 <= point["training.learning_rate"] <= 1e-2
        seen.add((point["model.blocks"], json.dumps(point["model.channels"]), point["balance"]))
    # Both ends of a range of whole numbers are drawn, and every value of a choice.
    assert {blocks for blocks, *_ in seen} == {0, 1, 2, 3}
    assert {channels for _, channels, _ in seen} == {"[4]", "[4, 8]"}
    assert {balance for *_, balance in seen} == {"one", "two"}


def test_a_grid_names_every_value() -> None:
    grid = to_ray_space(Space({"model.blocks": Integer(0, 2), "model.channels": Choice(([4], [8]))}), grid=True)
    assert grid == {"model.blocks": {"grid_search": [0, 1, 2]}, "model.channels": {"grid_search": ["[4]", "[8]"]}}


def test_a_population_changes_what_weights_do_not_depend_on_and_stays_in_range() -> None:
    assert set(mutations(SPACE)) == {
        "training.learning_rate",
        "training.batch_size",
        "training.augment.gain",
        "balance",
    }
    with pytest.raises(ConfigError, match=r"model\.blocks.*training\.learning_rate"):
        mutations(Space({"model.blocks": Integer(0, 1)}))
    config = {name: domain.sample() for name, domain in to_ray_space(SPACE).items()}
    inside = keep_inside(SPACE, config | {"training.learning_rate": 0.012, "training.augment.gain": -1.0})
    assert inside == config | {"training.learning_rate": 1e-2, "training.augment.gain": 0.0}


def test_a_space_in_a_file_is_json_or_yaml(tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text(json.dumps(SPACE.to_json()))
    assert read_space(Uri.of_path(tmp_path / "space.json")) == SPACE
    (tmp_path / "space.yaml").write_text(
        "training.learning_rate:\n  kind: log_uniform\n  low: 1e-4\n  high: 1e-2\n"
        "model.channels: {kind: choice, values: [[4], [4, 8]]}\n"
    )
    found = read_space(Uri.of_path(tmp_path / "space.yaml"))
    assert found.dimensions == {name: SPACE.dimensions[name] for name in ("training.learning_rate", "model.channels")}


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("s.json", "{", r"s\.json: .*line 1: "),
        ("s.yaml", "a: [1\nb: 2\n", r"s\.yaml: .*line 2: "),
        ("s.yaml", "!!python/object:os.system {}", r"s\.yaml: .*line 1: could not determine a constructor"),
        ("s.yaml", "just words", r"s\.yaml: a space is an object of dimensions by name, this is a str\."),
    ],
)
def test_a_file_that_is_no_space_is_refused_in_one_line(tmp_path: Path, name: str, text: str, line: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=line) as refused:
        read_space(Uri.of_path(tmp_path / name))
    assert "\n" not in str(refused.value)
