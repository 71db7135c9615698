"""Protocols: how the rows of a features table are divided into training, validation and test.

A protocol is a field of the Experiment, so a recipe carries its paper's, and `--protocol.kind artist` sets another. It
is applied on the fly: `splits` says of each row on which side it falls. That depends on the row's own columns and on
the protocol only: it is the same on every machine and in every block of a stream, and rows that are added move no
others. The price is that shares hold about, not exactly, and not by genre.

- `given`: what the column `split` says: official splits (FMA's, MTG-Jamendo's, GTZAN's fault-filtered lists) come with
  the catalog. A row without a split stands on no side: it is neither trained on nor scored.
- `clip_random`: each clip by itself, so that clips of a track fall on both sides.
- `track`: all clips of a track on one side; tracks of an artist may fall on both.
- `artist`: all tracks of an artist on one side. A track of unknown artist is its own group, and might share its
  artist with the other side without anyone knowing.

The last three look at no given split: every row with a track id gets a side.

With `refit` the validation rows train too, as one does with a design that is already chosen.
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
"""What may stand on more than one side: nothing, artists, or tracks and therefore artists too."""

Unit = Literal["tracks", "clips"]
"""What is scored: tracks, the logits of their clips averaged, or each clip by itself."""

Share = Annotated[float, Field(ge=0.0, lt=1.0)]

COLUMNS: Final = ("track_id", "clip_index", "artist_id", "split")
"""The columns of a features table that decide its rows' sides."""

SIDES: Final = (TRAIN, VALIDATION, TEST)


@dataclass(frozen=True, config=STRICT)
class GivenSplits:
    """The column `split` as it stands; rows without one are left out.

    Attributes:
        kind: `given`.
        leak: what may stand on more than one side; anything more is refused.
        refit: train on the validation rows too.
    """

    unit: ClassVar[Unit] = "tracks"

    kind: Literal["given"] = "given"
    leak: Leak = "none"
    refit: bool = False


@dataclass(frozen=True, config=STRICT)
class _Shares:
    """A division by hash.

    Attributes:
        validation_share: about this share of the groups chooses the epoch, 0 to 1.
        test_share: about this share of the groups is for the score; the rest trains.
        seed: another seed gives another division.
        leak: what may stand on more than one side; anything more is refused.
        refit: train on the validation rows too.
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
    """Each clip by itself: clips of one track fall on both sides. Must be asked for together with the leak "track".

    Clips are scored one by one, as the papers did that divide so.

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
        folds: divide into this many parts, about equal, in place of the shares.
        fold: the part that is for the score, 0 to folds - 1; the next one, after the last the first, is validation. So
            in `folds` runs each group is scored once.
    """

    unit: ClassVar[Unit] = "tracks"

    kind: Literal["track", "artist"] = "artist"
    folds: Annotated[int, Field(ge=3)] | None = None
    fold: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _there_is_such_a_fold(self) -> Self:
        if self.fold >= (self.folds or 1):
            raise ValueError(
                f"fold {self.fold} of {self.folds} folds: they count from 0"
                if self.folds
                else f"fold {self.fold}: say of how many folds"
            )
        return self


ProtocolConfig = Annotated[GivenSplits | ClipRandom | ByGroup, Field(discriminator="kind")]
"""Any protocol; `kind` says which."""


def check_protocol(protocol: ProtocolConfig) -> None:
    """Refuse a protocol that leaks by its nature, unless the leak is asked for by name.

    Raises:
        ConfigError: says how to ask.
    """
    if isinstance(protocol, ClipRandom) and protocol.leak != "track":
        raise ConfigError(
            "protocol.kind clip_random puts clips of one track on both sides; ask for the leak by name: "
            "--protocol.leak track, or take protocol.kind artist."
        )


def splits(rows: pa.Table, protocol: ProtocolConfig) -> pa.Array:
    """The split of each row.

    Args:
        rows: of a features table, with those of `COLUMNS` that it has; one that it lacks is unknown in every row.
        protocol: how to divide.

    Returns:
        Strings: `train`, `validation`, `test`, with `given` whatever the column says; null where a row stands on no
        side.
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
    """The names of artists as groups; null where the artist is not known."""
    return pc.binary_join_element_wise("artist:", artist_id, "")


def track_group(track_id: pa.Array) -> pa.Array:
    """The names of tracks as groups."""
    return pc.binary_join_element_wise("track:", track_id, "")


def name_of(protocol: ProtocolConfig) -> str:
    """A protocol in a few words, for people."""
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
        # The index first: it holds no colon, so no two clips have one name.
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
    """A column as strings, null where it is missing or empty."""
    if name not in rows.column_names:
        return pa.nulls(rows.num_rows, pa.string())
    column = rows[name].cast(pa.string()).combine_chunks()
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


# The protocols of the papers. Sides are drawn by hash, so shares hold about; the leak that each paper accepts is asked
# for by name, and artists stand on both sides only where the corpus says who they are (GTZAN does not).

PAPER_A: Final = ClipRandom(validation_share=0.025, test_share=0.025, leak="track")
"""O'Beirne and Zamora (Stanford): ten clips a track, clips at random 95 / 2.5 / 2.5."""

PAPER_B: Final = ByGroup(kind="track", validation_share=0.2, test_share=0.2, leak="artist")
"""Gállego et al. (UPC 2019): 60 / 20 / 20. That tracks are divided before they are cut in three is our reading."""

PAPER_B_FEATURES: Final = ByGroup(kind="track", validation_share=0.1, test_share=0.1, leak="artist")
"""Gállego et al. (UPC 2019), the experiments on hand-crafted features: 80 / 10 / 10."""

PAPER_C: Final = ByGroup(kind="track", validation_share=0.08, test_share=0.2, leak="artist")
"""Minhas, Chie and Lee (UCLA): 80 tracks a genre to train, 20 to test, and no validation.

Two deviations: a tenth of the training tracks becomes the validation set that chooses the epoch, and the shares hold
over the whole corpus, not exactly in each genre. The figures under noise are of the songs trained on: such a score is
that of `--split train --protocol.leak track`.
"""

PAPER_D: Final = ClipRandom(validation_share=0.1, test_share=0.1, leak="track")
"""Holst (Northwestern 2021): 10,000 clips of three seconds, 8,000 / 1,000 / 1,000 at random."""

PAPER_E: Final = ByGroup(kind="track", validation_share=0.1, test_share=0.1, leak="artist")
"""Nguyen, Zhang and Zhang (Stanford): FMA-medium, 80 / 10 / 10, tracks divided without regard to their artists."""
