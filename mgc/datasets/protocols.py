"""Protocols: how the rows of a features table are divided into training, validation and test.

A protocol is a field of the Experiment: a recipe carries its paper's protocol, and `--protocol.kind artist` sets
another. It is applied on the fly: `splits` gives the side of each row, which depends only on the row's own columns and
the protocol. So it is the same on every machine and in every block of a stream, and added rows move no others. The
price is that shares are approximate, and not balanced by genre.

- `given`: the side in the column `split`. Official splits (FMA's, MTG-Jamendo's, GTZAN's fault-filtered lists) come
  with the catalog. A row without a split is on no side: it is neither trained on nor scored.
- `clip_random`: each clip on its own, so clips of a track can be on both sides.
- `track`: all clips of a track on one side; tracks of an artist can be on both.
- `artist`: all tracks of an artist on one side. A track of an unknown artist is its own group, so its artist might be
  on the other side too.

The last three ignore the column `split`: every row with a track id gets a side.

With `refit` the validation rows are trained on too, as is usual once a design is chosen.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT
from mgc.datasets.splits import TEST, TRAIN, VALIDATION, place, split_of
from mgc.errors import ConfigError

Leak = Literal["none", "artist", "track"]
"""Groups allowed on more than one side: none, artists, or tracks (and therefore artists too)."""

Unit = Literal["tracks", "clips"]
"""Unit of the score: tracks, with the logits of their clips averaged, or single clips."""

Share = Annotated[float, Field(ge=0.0, lt=1.0)]

COLUMNS: Final = ("track_id", "clip_index", "artist_id", "split")
"""The columns of a features table that decide its rows' sides."""

SIDES: Final = (TRAIN, VALIDATION, TEST)


@dataclass(frozen=True, config=STRICT)
class GivenSplits:
    """The splits in the column `split`; rows without one are left out.

    Attributes:
        kind: `given`.
        leak: groups allowed on more than one side; anything more is refused.
        refit: whether to train on the validation rows too.
    """

    unit: ClassVar[Unit] = "tracks"

    kind: Literal["given"] = "given"
    leak: Leak = "none"
    refit: bool = False


@dataclass(frozen=True, config=STRICT)
class _Shares:
    """A division by hash.

    Attributes:
        validation_share: approximate share of the groups that choose the epoch, 0 to 1.
        test_share: approximate share of the groups that are scored; the rest is trained on.
        seed: seed of the division.
        leak: groups allowed on more than one side; anything more is refused.
        refit: whether to train on the validation rows too.
    """

    validation_share: Share = 0.15
    test_share: Share = 0.15
    seed: Annotated[int, Field(ge=0)] = 0
    leak: Leak = "none"
    refit: bool = False

    @model_validator(mode="after")
    def _something_trains(self) -> Self:
        if self.validation_share + self.test_share >= 1.0:
            raise ValueError(
                f"validation_share {self.validation_share} and test_share {self.test_share} leave nothing to train on"
            )
        return self


@dataclass(frozen=True, config=STRICT)
class ClipRandom(_Shares):
    """Each clip on its own: clips of one track fall on both sides. Requires the leak "track".

    Clips are scored one by one, as in the papers that divide this way.

    Attributes:
        kind: `clip_random`.
    """

    unit: ClassVar[Unit] = "clips"

    kind: Literal["clip_random"] = "clip_random"


@dataclass(frozen=True, config=STRICT)
class ByGroup(_Shares):
    """All clips of a track, or all tracks of an artist, on one side.

    Attributes:
        kind: `track`, or `artist`: the artist where it is known, else the track.
        folds: number of roughly equal parts to divide into, in place of the shares.
        fold: part that is scored, 0 to folds - 1. The next part is the validation set, and the first follows the last.
            So `folds` runs score each group once.
    """

    unit: ClassVar[Unit] = "tracks"

    kind: Literal["track", "artist"] = "artist"
    folds: Annotated[int, Field(ge=3)] | None = None
    fold: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _there_is_such_a_fold(self) -> Self:
        if self.fold >= (self.folds or 1):
            raise ValueError(
                f"fold {self.fold} of {self.folds} folds: folds count from 0"
                if self.folds
                else f"fold {self.fold}: set protocol.folds too"
            )
        return self


ProtocolConfig = Annotated[GivenSplits | ClipRandom | ByGroup, Field(discriminator="kind")]
"""Any protocol; `kind` says which."""


def check_protocol(protocol: ProtocolConfig) -> None:
    """Refuse a protocol that always leaks, unless its `leak` allows it.

    Raises:
        ConfigError: the protocol leaks; the message says how to allow it.
    """
    if isinstance(protocol, ClipRandom) and protocol.leak != "track":
        raise ConfigError(
            "protocol.kind clip_random puts clips of one track on both sides; ask for the leak by name: "
            "--protocol.leak track, or take protocol.kind artist."
        )


def splits(rows: pa.Table, protocol: ProtocolConfig) -> pa.Array:
    """Return the split of each row.

    Args:
        rows: rows of a features table. A column of `COLUMNS` that is missing counts as unknown in every row.
        protocol: how to divide.

    Returns:
        Strings: `train`, `validation` or `test`, or with `given` the values of the column; null for a row on no side.
    """
    sides = _chosen_sides(rows, protocol)
    return pc.if_else(pc.fill_null(pc.equal(sides, VALIDATION), False), TRAIN, sides) if protocol.refit else sides


def _chosen_sides(rows: pa.Table, protocol: ProtocolConfig) -> pa.Array:
    if isinstance(protocol, GivenSplits):
        return known(rows, "split")
    group = _groups(rows, protocol).dictionary_encode()
    sides = [_side(name, protocol) for name in group.dictionary.to_pylist()]
    return pa.array(sides, pa.string()).take(group.indices)


def artist_group(artist_id: pa.Array) -> pa.Array:
    """Return the group name of each artist; null where the artist is unknown."""
    return pc.binary_join_element_wise("artist:", artist_id, "")


def track_group(track_id: pa.Array) -> pa.Array:
    """Return the group name of each track."""
    return pc.binary_join_element_wise("track:", track_id, "")


def name_of(protocol: ProtocolConfig) -> str:
    """Describe a protocol in a few words, for people."""
    if isinstance(protocol, GivenSplits):
        words = "given: the splits of the catalog"
    elif isinstance(protocol, ByGroup) and protocol.folds is not None:
        words = f"{protocol.kind}: fold {protocol.fold} of {protocol.folds}, seed {protocol.seed}"
    else:
        shares = f"{protocol.validation_share:.3g} validation, {protocol.test_share:.3g} test"
        words = f"{protocol.kind}: {shares}, seed {protocol.seed}"
    words += "; trained on validation too" if protocol.refit else ""
    return words if protocol.leak == "none" else f"{words}; leak asked for: {protocol.leak}"


def _groups(rows: pa.Table, protocol: ClipRandom | ByGroup) -> pa.Array:
    track_id = known(rows, "track_id")
    if isinstance(protocol, ClipRandom):
        # The index comes first: it holds no colon, so no two clips share a name.
        return pc.binary_join_element_wise("clip", known(rows, "clip_index"), track_id, ":")
    tracks = track_group(track_id)
    return tracks if protocol.kind == "track" else pc.coalesce(artist_group(known(rows, "artist_id")), tracks)


def _side(group: str | None, protocol: ClipRandom | ByGroup) -> str | None:
    if group is None:
        return None
    if isinstance(protocol, ByGroup) and protocol.folds is not None:
        part = int(place(group, protocol.seed) * protocol.folds)
        return {protocol.fold: TEST, (protocol.fold + 1) % protocol.folds: VALIDATION}.get(part, TRAIN)
    return split_of(group, protocol.seed, {TEST: protocol.test_share, VALIDATION: protocol.validation_share})


def known(rows: pa.Table, name: str) -> pa.Array:
    """Return a column as strings, null where it is missing or empty."""
    if name not in rows.column_names:
        return pa.nulls(rows.num_rows, pa.string())
    column = rows[name].cast(pa.string()).combine_chunks()
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


# The protocols of the papers. A hash decides the sides, so shares are approximate. Each protocol names the leak that
# its paper accepts. Artists are found on both sides only where the corpus names them (GTZAN does not).

PAPER_A: Final = ClipRandom(validation_share=0.025, test_share=0.025, leak="track")
"""O'Beirne and Zamora (Stanford): ten clips per track, clips at random 95 / 2.5 / 2.5."""

PAPER_B: Final = ByGroup(kind="track", validation_share=0.2, test_share=0.2, leak="artist")
"""Gállego et al. (UPC 2019): 60 / 20 / 20. That tracks are divided before they are cut in three is our reading."""

PAPER_B_FEATURES: Final = ByGroup(kind="track", validation_share=0.1, test_share=0.1, leak="artist")
"""Gállego et al. (UPC 2019), the experiments on hand-crafted features: 80 / 10 / 10."""

PAPER_C: Final = ByGroup(kind="track", validation_share=0.08, test_share=0.2, leak="artist")
"""Minhas, Chie and Lee (UCLA): 80 tracks per genre to train, 20 to test, and no validation.

Two deviations: a tenth of the training tracks becomes the validation set that chooses the epoch, and the shares hold
over the whole corpus, not exactly in each genre. The paper measured its figures under noise on the training songs; use
`--split train --protocol.leak track` for such a score.
"""

PAPER_D: Final = ClipRandom(validation_share=0.1, test_share=0.1, leak="track")
"""Holst (Northwestern 2021): 10,000 clips of three seconds, 8,000 / 1,000 / 1,000 at random."""

PAPER_E: Final = ByGroup(kind="track", validation_share=0.1, test_share=0.1, leak="artist")
"""Nguyen, Zhang and Zhang (Stanford): FMA-medium, 80 / 10 / 10, tracks divided without regard to their artists."""
