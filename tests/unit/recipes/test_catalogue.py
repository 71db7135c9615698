from __future__ import annotations

import pytest

from mgc.errors import ConfigError
from mgc.recipes.catalogue import RECIPES, find


def test_a_recipe_is_found_by_its_name() -> None:
    assert [find(name) for name in RECIPES] == list(RECIPES.values())


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("hause", " Did you mean house?"),
        ("obeirne-a2", " Did you mean obeirne-a1?"),
        ("holst-d11", " Did you mean holst-d1?"),
        ("xyz", ""),
    ],
)
def test_an_unknown_recipe_gets_one_clear_line(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        find(name)
    assert str(raised.value) == f"there is no recipe {name!r}; there are {', '.join(RECIPES)}.{hint}"
