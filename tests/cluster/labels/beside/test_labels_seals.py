"""Damaged data files of the labels table: nothing is built on them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.labels.beside.seals import check_seals
from cluster.labels.diff import diff, track_rows
from cluster.labels.history import commits, rollback
from cluster.labels.log import data_files
from cluster.labels.policy import Policy
from cluster.labels.readers.export import export
from cluster.labels.table import LabelsTable
from cluster.labels.vacuum import vacuum
from cluster.storage import files
from cluster.storage.uri import Uri
from mgc.errors import LabelsError
from tests.support.damage import flip_bit
from tests.support.nights import NOW, held, night, planned, refusal, stage
from tests.support.versions import AT_ONCE, row, write

TRACKS = {f"{number:03}": str(number) for number in range(60)}
FLIPS = 1000


def names(uri: Uri) -> set[str]:
    return data_files(LabelsTable(uri).delta)


def sealed(uri: Uri) -> set[str]:
    [seals] = files.list_uris(uri / "_seals")
    return set(files.read_table(seals)["file"].to_pylist())


def test_every_flipped_bit_is_found(uri: Uri) -> None:
    """A reader of the file alone takes some for other rows: it has no checksums. The more rows, the more."""
    night(uri, TRACKS, {"003": "timeout"})
    [name] = names(uri)
    good = files.read_bytes(uri / name)
    rows = pq.read_table(pa.BufferReader(good))
    silent = 0
    for seed in range(FLIPS):
        bad = flip_bit(good, seed)
        Path(uri.path, name).write_bytes(bad)
        assert f"{uri / name}: " in refusal(check_seals, uri, [name]), seed
        try:
            silent += not pq.read_table(pa.BufferReader(bad), page_checksum_verification=True).equals(rows)
        except (OSError, pa.ArrowException, UnicodeDecodeError):
            continue
    print(f"{silent} of {FLIPS} flipped bits give other rows without an error")
    assert silent > FLIPS / 100
    files.write_bytes(uri / name, good)
    check_seals(uri, [name])


@pytest.mark.parametrize("tracks", [TRACKS | {"003": "changed"}, TRACKS | {"new": "1"}], ids=["merging", "appending"])
def test_a_commit_builds_on_no_damaged_file(tracks: dict[str, str], uri: Uri) -> None:
    night(uri, TRACKS)
    [name] = names(uri)
    good, before = files.read_bytes(uri / name), held(uri)
    table = LabelsTable(uri)
    plan = planned(table, tracks)
    stage(table, plan)
    files.write_bytes(uri / name, flip_bit(good, 1))
    assert name in refusal(table.commit, plan, plan.key, NOW)
    assert LabelsTable(uri).version == 0
    files.write_bytes(uri / name, good)
    assert held(uri) == before
    assert table.commit(plan, plan.key, NOW).version == 1


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(3000))


def flipped(path: Path) -> None:
    path.write_bytes(flip_bit(path.read_bytes(), 2))


@pytest.mark.parametrize("damage", [flipped, garbage, Path.unlink])
@pytest.mark.parametrize("seals", [True, False], ids=["sealed", "unsealed"])
def test_a_rollback_is_the_way_out(
    damage: Callable[[Path], None], seals: bool, uri: Uri, capsys: pytest.CaptureFixture[str]
) -> None:
    night(uri, TRACKS)
    first = held(uri)
    [old] = names(uri)
    night(uri, TRACKS | {"new": "1"})
    [new] = names(uri) - {old}
    second, data = held(uri), files.read_bytes(uri / new)
    if not seals:
        for each in files.list_uris(uri / "_seals"):
            files.delete(each)
    damage(Path(uri.path, new))
    assert rollback(uri, 0, commits(LabelsTable(uri))) == 2
    assert held(uri) == first
    # A flipped bit without a seal may read well.
    if seals or damage is not flipped:
        assert re.search(r"\b1 file\(s\) of version 1\b", capsys.readouterr().err)
        with pytest.raises(LabelsError):
            rollback(uri, 1, commits(LabelsTable(uri)))
        assert LabelsTable(uri).version == 2
    files.write_bytes(uri / new, data)
    rollback(uri, 1, commits(LabelsTable(uri)))
    assert held(uri) == second


def test_what_is_not_lost_is_held(uri: Uri) -> None:
    """The rows of one file are lost. Tracks of the other file are held, and no pruning is made up."""
    night(uri, TRACKS)
    [old] = names(uri)
    night(uri, TRACKS | {"new": "1"})
    [lost] = names(uri) - {old}
    night(uri, TRACKS | {"new": "1", "newer": "1"})
    garbage(Path(uri.path, lost))
    rollback(uri, 0, commits(LabelsTable(uri)))
    plan = planned(LabelsTable(uri), TRACKS | {"new": "1", "newer": "1"})
    assert plan.counts.held == 1
    assert plan.todo["track_id"].to_pylist() == ["new"]


def test_readers_of_a_damaged_file(uri: Uri, tmp_path: Path) -> None:
    """The byte is one of a page, where Parquet's readers often notice nothing."""
    night(uri, TRACKS)
    [old] = names(uri)
    night(uri, {track: f"{tag}, changed" for track, tag in TRACKS.items()})
    [name] = names(uri) - {old}
    bad = bytearray(files.read_bytes(uri / name))
    bad[100] ^= 1
    files.write_bytes(uri / name, bytes(bad))
    out = Uri.of_path(tmp_path / "rows.parquet")
    assert name in refusal(export, LabelsTable(uri), "parquet", out)
    assert not files.exists(out)
    assert name in refusal(diff, uri, 0, 1)
    assert name in refusal(track_rows, uri, "003", commits(LabelsTable(uri)), 9)


def test_the_next_commit_seals_files_of_other_programs(uri: Uri) -> None:
    write(uri, row("a"))
    assert files.list_uris(uri / "_seals") == []
    night(uri, {"a": "1", "b": "1"}, features="features-1")
    assert sealed(uri) == names(uri)


def test_seals_of_deleted_files_go(uri: Uri) -> None:
    for content in "123":
        night(uri, {"a": content})
    assert len(sealed(uri)) == 3
    vacuum(uri, 1, AT_ONCE)
    night(uri, {"a": "1", "b": "1"}, policy=Policy("keep"))
    assert sealed(uri) == names(uri) | {each.name for each in files.list_uris(uri) if each.name.startswith("part-")}
    assert len(sealed(uri)) == 2


def test_damaged_seals_are_written_anew(uri: Uri, capsys: pytest.CaptureFixture[str]) -> None:
    night(uri, {"a": "1"})
    [seals] = files.list_uris(uri / "_seals")
    files.write_bytes(seals, flip_bit(files.read_bytes(seals), 3))
    night(uri, {"a": "2"})
    assert str(seals) in capsys.readouterr().err
    assert sealed(uri) == names(uri)
    assert not files.exists(seals)
