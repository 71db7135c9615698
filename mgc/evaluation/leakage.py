"""Leakage: groups on both sides of a division, and scored music that was trained on.

Groups are identified by `track_id` and `artist_id`. This cannot detect the same recording under two names (GTZAN's 50
replicas and 22 repeats: Sturm 2013), a remix, or an artist under two ids. Tracks of unknown artists are not compared by
artist. Two catalogs that give the same ids to different music look alike.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from mgc.datasets.protocols import SIDES, Leak, Unit, artist_group, track_group
from mgc.datasets.roster import Roster
from mgc.datasets.splits import TRAIN
from mgc.errors import LeakageError
from mgc.evaluation.facts import Facts
from mgc.units import format_count

GroupKind = Literal["track", "artist"]

_NAMES: Final = {"track": ("track_id", track_group), "artist": ("artist_id", artist_group)}
_TENSOR: Final = "groups"


@dataclass(frozen=True)
class Crossing:
    """Groups of one kind that are on more than one side.

    Attributes:
        kind: kind of the groups.
        count: number of groups.
        example: one of them, or None.
        sides: sides that the example is on.
    """

    kind: GroupKind
    count: int
    example: str | None = None
    sides: tuple[str, ...] = ()


class Overlap(Facts):
    """The part of the scored tracks that was trained on.

    Attributes:
        tracks: number of scored tracks.
        tracks_heard: number of these that were trained on, if only on other clips of them.
        artists_heard: number of these that were trained on, or whose artist was.
        artists_unknown: number of these whose artist is unknown; they are compared as tracks only.
        example_track: id of a track that was trained on, or None.
        example_artist: id of an artist that was trained on with other tracks than the scored ones, or None.
    """

    tracks: int = 0
    tracks_heard: int = 0
    artists_heard: int = 0
    artists_unknown: int = 0
    example_track: str | None = None
    example_artist: str | None = None


@dataclass(frozen=True, eq=False)
class TrainedGroups:
    """Hashes of the tracks and artists that a model was trained on, stored in its bundle.

    Attributes:
        hashes: sorted unique int64: the first eight bytes, big-endian, of the SHA-256 of `track:ID` or `artist:ID`.
            Between a million groups and a million others, the chance of a false match is 1 in 18 million.
    """

    hashes: npt.NDArray[np.int64]

    @classmethod
    def of(cls, roster: Roster, split: str = TRAIN) -> TrainedGroups:
        """Return the groups on a side."""
        rows = roster.rows.filter(pc.equal(roster.rows["split"], split))
        return cls(np.unique(np.concatenate([_hashes(rows, kind)[0] for kind in _NAMES])))

    @classmethod
    def from_bytes(cls, data: bytes) -> TrainedGroups:
        """Read the groups from the bytes of `to_bytes`.

        Raises:
            ValueError: the bytes are not safetensors with one sorted row of int64.
        """
        try:
            hashes = load_tensors(data).get(_TENSOR)
        except SafetensorError as error:
            raise ValueError(f"no safetensors ({error})") from None
        if hashes is None or hashes.dtype != np.int64 or hashes.ndim != 1 or not bool((hashes[1:] > hashes[:-1]).all()):
            raise ValueError(f"{_TENSOR} must be one sorted row of int64")
        return cls(hashes)

    def __or__(self, other: TrainedGroups) -> TrainedGroups:
        """Return the groups of both."""
        return TrainedGroups(np.union1d(self.hashes, other.hashes))

    def to_bytes(self) -> bytes:
        """Return the groups as safetensors."""
        data: bytes = save_tensors({_TENSOR: self.hashes})
        return data

    def hold(self, rows: pa.Table, kind: GroupKind) -> npt.NDArray[np.bool_]:
        """Return for each row (`track_id`, `artist_id`) whether its group is one of these; False if it is unknown."""
        hashes, place = _hashes(rows, kind)
        # The False at the end is for rows without a group.
        found = np.append(np.isin(hashes, self.hashes), False)
        return found[place]


def _hashes(rows: pa.Table, kind: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the unique hashes of the groups in the rows, and each row's index into them: -1 without a group."""
    column, name_of = _NAMES[kind]
    names = name_of(rows[column].combine_chunks()).dictionary_encode()
    digests = (hashlib.sha256(name.encode()).digest() for name in names.dictionary.to_pylist())
    hashes = np.fromiter((int.from_bytes(digest[:8], signed=True) for digest in digests), np.int64)
    place = pc.fill_null(names.indices, -1).to_numpy(zero_copy_only=False)
    return hashes, place.astype(np.int64)


def find_crossing(roster: Roster, kind: GroupKind) -> Crossing:
    """Find the groups that are on more than one side of train, validation and test."""
    column = _NAMES[kind][0]
    rows = roster.rows.filter(pc.is_in(roster.rows["split"], value_set=pa.array(SIDES)))
    rows = rows.select([column, "split"]).filter(pc.is_valid(rows[column])).group_by([column, "split"]).aggregate([])
    sides = rows.group_by(column).aggregate([("split", "count")])
    torn = sides.filter(pc.greater(sides["split_count"], 1))[column]
    if not len(torn):
        return Crossing(kind, 0)
    example = pc.min(torn).as_py()
    of_example = set(rows.filter(pc.equal(rows[column], example))["split"].to_pylist())
    return Crossing(kind, len(torn), example, tuple(side for side in SIDES if side in of_example))


def measure_overlap(roster: Roster, split: str, trained_on: TrainedGroups) -> Overlap:
    """Measure how much of a side was trained on.

    Args:
        roster: roster of the scored features.
        split: side to measure.
        trained_on: groups of the training rows, from these or other features.
    """
    rows = roster.rows.filter(pc.equal(roster.rows["split"], split))
    track, artist = trained_on.hold(rows, "track"), trained_on.hold(rows, "artist")
    facts = {"track": track, "either": track | artist, "known": rows["artist_id"].is_valid()}
    table = rows.select(["track_id", "artist_id"])
    for name, values in facts.items():
        table = table.append_column(name, values if name == "known" else pa.array(values))
    # A track has several rows if they disagree about its genre or artist.
    by_track = table.group_by("track_id").aggregate([(name, "max") for name in facts])
    only_artist = table.filter(pc.and_(pa.array(artist), pa.array(~track)))["artist_id"]
    return Overlap(
        tracks=by_track.num_rows,
        tracks_heard=pc.sum(by_track["track_max"]).as_py() or 0,
        artists_heard=pc.sum(by_track["either_max"]).as_py() or 0,
        artists_unknown=by_track.num_rows - (pc.sum(by_track["known_max"]).as_py() or 0),
        example_track=pc.min(table.filter(pa.array(track))["track_id"]).as_py(),
        example_artist=pc.min(only_artist).as_py(),
    )


def check_division(roster: Roster, leak: Leak, kind: str, where: str) -> tuple[Crossing, Crossing]:
    """Refuse a division with groups on both sides that `leak` does not allow.

    Args:
        roster: roster of the division.
        leak: groups allowed on more than one side.
        kind: kind of the protocol, for the advice in the message.
        where: features, for the message.

    Returns:
        Tracks and artists on more than one side.

    Raises:
        LeakageError: how many, an example, and what to do.
    """
    tracks, artists = find_crossing(roster, "track"), find_crossing(roster, "artist")
    for found, permitted in ((tracks, leak == "track"), (artists, leak != "none")):
        if not found.count or permitted:
            continue
        way_out = "give each track one artist_id" if kind == "artist" else "divide by artist (--protocol.kind artist)"
        raise LeakageError(
            f"{where}: under the protocol {kind!r} {_count(found.count, found.kind)} on more than one side, for "
            f"example {found.kind} {found.example!r} in {_and(found.sides)}; {way_out}, or ask for the leak by name: "
            f"--protocol.leak {found.kind}."
        )
    return tracks, artists


def check_overlap(found: Overlap, leak: Leak, split: str, where: str) -> None:
    """Refuse to score tracks or artists that were trained on, unless `leak` allows it.

    Args:
        found: overlap of the scored and the training tracks.
        leak: groups that may overlap.
        split: scored split.
        where: features, for the message.

    Raises:
        LeakageError: how many, an example, and what to do.
    """
    of = f"of {format_count(found.tracks, 'track')} of the split {split!r}"
    if found.tracks_heard and leak != "track":
        what, kind = f"{found.tracks_heard} {of} were trained on, for example {found.example_track!r}", "track"
    elif found.artists_heard > found.tracks_heard and leak == "none":
        what = f"{found.artists_heard} {of} are by artists trained on, for example {found.example_artist!r}"
        kind = "artist"
    else:
        return
    raise LeakageError(
        f"{where}: {what}; score what the bundle has not heard (another --split, --protocol or --features), or ask for "
        f"the leak by name: --protocol.leak {kind}."
    )


def warn_of_overlap(found: Overlap, split: str, unit: Unit) -> str:
    """Return the warning that a report shows in red; empty if nothing scored was trained on."""
    if not found.artists_heard:
        return ""
    of = f" of {format_count(found.tracks, 'track')} of the split “{split}”"
    parts = []
    if found.tracks_heard:
        what = "other clips of " if unit == "clips" else ""
        parts.append(f"{what}{_percent(found.tracks_heard, found.tracks)}{of} were heard in training")
    if found.artists_heard > found.tracks_heard:
        whose = "" if parts else of
        parts.append(f"{_percent(found.artists_heard, found.tracks)}{whose} are by artists heard in training")
    return f"LEAK, asked for: {', '.join(parts)}. The score is no guide to new music."


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"


def _count(count: int, kind: str) -> str:
    return f"1 {kind} stands" if count == 1 else f"{count} {kind}s stand"


def _and(sides: tuple[str, ...]) -> str:
    return " and ".join([", ".join(sides[:-1]), sides[-1]])
