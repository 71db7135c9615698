from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mgc.errors import ConfigError
from mgc.recipes import scores
from mgc.recipes.catalogue import RECIPES
from mgc.recipes.scores import recipe_scores
from pipelines import recipes
from pipelines.command.job import run

ENTRY = {
    "recipe": "obeirne-a1",
    "features": "FMA-small mels",
    "protocol": "artist",
    "split": "test",
    "tracks": 789,
    "accuracy": 0.4321,
    "low": 0.4,
    "high": 0.46,
    "macro_f1": 0.42,
    "commit": "abc1234",
    "command": "mgc train --recipe obeirne-a1",
}


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the package's."""
    monkeypatch.setattr(scores.importlib.resources, "files", lambda package: tmp_path)
    return tmp_path / "scores.json"


def test_what_is_shipped_is_of_recipes_that_there_are() -> None:
    for name, entries in recipe_scores().items():
        assert name in RECIPES
        for entry in entries:
            assert entry.low <= entry.accuracy <= entry.high


def test_several_scores_of_a_recipe_stay_in_order(shipped: Path) -> None:
    shipped.write_text(json.dumps([ENTRY, ENTRY | {"recipe": "house"}, ENTRY | {"split": "validation"}]))
    found = recipe_scores()
    assert [score.split for score in found["obeirne-a1"]] == ["test", "validation"]
    assert found["house"][0].tracks == 789


@pytest.mark.parametrize(
    ("change", "where"),
    [({"accuracy": 1.2}, "0.accuracy"), ({"tracks": "789"}, "0.tracks"), ({"machine": "x"}, "0.machine")],
)
def test_an_entry_that_is_none_is_one_clear_line(shipped: Path, change: dict[str, Any], where: str) -> None:
    shipped.write_text(json.dumps([ENTRY | change]))
    with pytest.raises(ConfigError, match=rf"^scores\.json: {where}: .*\. Install mgc again\.$"):
        recipe_scores()


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    assert run(recipes.command, arguments) == 0
    out, err = capsys.readouterr()
    return out, err


def test_json_is_an_array_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = printed(capsys, "--json")
    rows = json.loads(out)
    assert [row["name"] for row in rows] == list(RECIPES)
    assert all(row.keys() == {"name", "paper_row", "parameters", "input_shape", "reported", "ours"} for row in rows)
    by_name = {row["name"]: row for row in rows}
    assert by_name["holst-d8"]["parameters"] == 2_125_322
    assert by_name["holst-d8"]["input_shape"] == [128, 128, 3]
    assert by_name["holst-d8"]["reported"]["test_accuracy"] == 0.885
    assert by_name["house"]["paper_row"] is by_name["house"]["reported"] is None
    assert sum(row["paper_row"] is not None for row in rows) == 29
    # The summary is not lost: a person reads it.
    assert json.loads(err.splitlines()[-1])["counts"] == {"recipes": len(RECIPES)}


def test_ours_are_listed_or_null(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped.write_text(json.dumps([ENTRY]))
    rows = {row["name"]: row for row in json.loads(printed(capsys, "--json")[0])}
    assert rows["obeirne-a1"]["ours"] == [ENTRY]
    assert rows["gallego-b2"]["ours"] is None


def cells(out: str, recipe: str) -> list[list[str]]:
    """The cells of a recipe's two lines, and the marks of notes apart from the figures."""
    lines = out.splitlines()
    (place,) = (number for number, line in enumerate(lines) if line.split()[:1] == [recipe])
    return [re.split(r" {2,}|(?<=\d) (?=\(\d+\))", line.strip()) for line in lines[place : place + 2]]


def noted(out: str, mark: str) -> str:
    """The text of a note, whose lines are joined."""
    _, _, rest = out.partition(f"\n{mark} ")
    return " ".join(re.split(r"\n[({]", rest)[0].split())


def test_a_person_sees_what_was_reported_and_what_we_reached(
    shipped: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal of 80 columns, with what was changed for our figure."""
    command = (
        "mgc train --recipe obeirne-a1 --features F --protocol.kind artist --training.epochs 2 --model.dropout 0.1"
    )
    shipped.write_text(json.dumps([ENTRY | {"command": command}, ENTRY | {"recipe": "gallego-b2"}]))
    monkeypatch.setenv("COLUMNS", "80")
    out, _ = printed(capsys)
    assert "\nO'Beirne and Zamora" in out
    assert cells(out, "obeirne-a1") == [
        ["obeirne-a1", "log_mel", "976,922", "0.900", "0.432", "(1)"],
        ["A1", "128 x 128", "test", "0.400 to 0.460"],
    ]
    assert noted(out, "(1)") == ("test of FMA-small mels, artist; trained with training.epochs 2, model.dropout 0.1")
    assert cells(out, "gallego-b2")[0][-1] == "(2)"
    assert noted(out, "(2)") == "test of FMA-small mels, artist"
    assert cells(out, "nguyen-mfcc")[0][3:] == ["0.831", "-"]
    assert cells(out, "nguyen-mfcc")[1][2:] == ["validation"]
    assert all(len(line.rstrip()) <= 80 for line in out.splitlines()[:-1])
    assert json.loads(out.splitlines()[-1])["status"] == "done"


def test_a_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(json.loads(printed(capsys, "--json", "--limit", "3")[0])) == 3


def test_figures_that_the_paper_exchanged_are_remarked_on(
    shipped: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped.write_text("[]")
    monkeypatch.setenv("COLUMNS", "80")
    out, _ = printed(capsys)
    assert cells(out, "nguyen-mel2")[0][3:5] == ["0.950", "(1)"]
    assert noted(out, "(1)") == "as printed; probably swapped with the training accuracy, 0.48"
    assert out.count("swapped") == 1
