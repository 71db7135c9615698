from __future__ import annotations

import itertools

from mgc.training.seeds import derive_seed


def test_seeds_are_pinned() -> None:
    """A change here changes every training."""
    assert [derive_seed(0, 0, 0), derive_seed(0, 1, 0), derive_seed(7)] == [
        8387133978117270309,
        1078089835635643068,
        4359823973405836615,
    ]


def test_no_two_are_equal_and_all_are_seeds() -> None:
    parts = [*itertools.product(range(12), repeat=3), *itertools.product(range(12), repeat=2), (1, 11), (11, 1)]
    seeds = {derive_seed(*each) for each in parts}
    assert len(seeds) == len(set(parts))
    assert all(0 <= seed < 2**63 for seed in seeds)
