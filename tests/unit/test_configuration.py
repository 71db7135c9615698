from __future__ import annotations

from dataclasses import replace

from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT, short_hash, what_differs
from mgc.models.ensemble import EnsembleConfig
from mgc.models.house import HouseCnnConfig


def test_what_differs_from_the_defaults() -> None:
    assert what_differs(HouseCnnConfig()) == {"kind": "house_cnn"}
    changed = HouseCnnConfig(channels=(4, 6), dropout=0.1)
    assert what_differs(changed) == {"kind": "house_cnn", "channels": [4, 6], "dropout": 0.1}
    pair = EnsembleConfig(members=(changed, HouseCnnConfig(blocks=2)))
    assert what_differs(pair) == {
        "kind": "ensemble",
        "members": [what_differs(changed), {"kind": "house_cnn", "blocks": 2}],
    }


def test_a_field_that_is_added_later_changes_no_hash() -> None:
    @dataclass(frozen=True, config=STRICT)
    class Today:
        kind: str = "network"
        width: int = 4

    @dataclass(frozen=True, config=STRICT)
    class Tomorrow:
        kind: str = "network"
        width: int = 4
        gated: bool = False

    for width in (4, 5):
        same = short_hash(what_differs(Today(width=width)))
        assert short_hash(what_differs(Tomorrow(width=width))) == same
        assert short_hash(what_differs(replace(Tomorrow(width=width), gated=True))) != same
