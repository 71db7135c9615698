"""What is heard in a closed cell is what is heard outside it: no decoder or front end lacks anything there."""

from __future__ import annotations

from typing import Any, Final, get_args

import numpy as np
import pytest

from mgc.audio.excerpts import ListeningPlan
from mgc.audio.recording import record
from mgc.audio.source import Held
from mgc.configuration import to_json
from mgc.features.front_end import FrontEndConfig, build_front_end
from mgc.features.mel import LogMelConfig
from mgc.hearing.extract import Extract
from mgc.hearing.request import Hearing
from tests.damage.kinds import KINDS
from tests.damage.pieces import FORMATS, RATES_HZ, make_piece

_PLAN: Final = ListeningPlan(window_seconds=3.0, windows=2)
_FRONT_ENDS: Final = {config.kind: config() for config in get_args(get_args(FrontEndConfig)[0])}


def assert_same(front_end: Any, files: dict[str, bytes]) -> None:
    """Hear files in a cell and here, in the same order."""
    hearing = Hearing(to_json(front_end), _PLAN)
    here, cell = Extract(hearing), Extract(hearing, isolated=True)
    try:
        expected, found = here(batch_of(files)), cell(batch_of(files))
    finally:
        cell.close()
    dtype = build_front_end(front_end).dtype
    for file, one, other in zip(files, expected.pop("clips"), found.pop("clips"), strict=True):
        assert (one is None) == (other is None), file
        if one is not None:
            # A cell has one thread, and sums of several are rounded otherwise.
            numbers = (np.frombuffer(clips, dtype).astype(np.float64) for clips in (one, other))
            np.testing.assert_allclose(*numbers, rtol=1e-5, atol=1e-6, err_msg=file)
    for name, values in expected.items():
        for file, one, other in zip(files, values.tolist(), found[name].tolist(), strict=True):
            assert one == other or one != one, (file, name)


def batch_of(files: dict[str, bytes]) -> dict[str, np.ndarray]:
    columns = {
        "track_id": list(files),
        "recording": [record(Held(data), _PLAN) if data else data for data in files.values()],
        "error_kind": [None] * len(files),
        "error_message": [None] * len(files),
    }
    batch = {name: np.empty(len(files), dtype=object) for name in columns}
    for name, values in columns.items():
        batch[name][:] = values
    return batch


def made(*names: str) -> dict[str, bytes]:
    return {name: make_piece(name, 4.0, 0, RATES_HZ[name][0]).data for name in names}


def test_decoders_work_in_a_cell() -> None:
    assert_same(LogMelConfig(), made("wav", "m4a", "wavpack") | {"empty": b"", "text": b"no music " * 99})


@pytest.mark.drill
@pytest.mark.parametrize("kind", _FRONT_ENDS)
def test_every_front_end_works_in_a_cell(kind: str) -> None:
    assert_same(_FRONT_ENDS[kind], made("wav", "wma"))


@pytest.mark.drill
def test_every_format_and_kind_of_odd_file_is_heard_in_a_cell() -> None:
    odd = {f"{kind} {seed}": make(np.random.default_rng(seed)).data for kind, make in KINDS.items() for seed in (0, 1)}
    assert_same(LogMelConfig(), made(*FORMATS) | odd)
