"""From what a model says to clips to what a report shows.

Axes: N units (tracks, or clips), C clips of a track, D numbers of an embedding, G genres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mgc.evaluation.embedding_map import EmbeddingMap, embedding_map
from mgc.evaluation.intervals import ResamplingGroups, share_of_right
from mgc.evaluation.robustness import SEED, SHARES, Robustness, RobustnessPoint, zero_of
from mgc.evaluation.scores import Scores, Unit, score
from mgc.labeling.decide import track_probabilities
from mgc.taxonomy import Taxonomy


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says to tracks, or to clips, whose genre is known.

    Attributes:
        track_ids: N, in order; each once unless the units are clips.
        truth_N: int64, the true genre.
        probabilities_NG: float64, each row summing to 1.
        groups: artists, or tracks where no artist is known.
        unit: what is answered.
    """

    track_ids: list[str]
    truth_N: np.ndarray  # noqa: N815  (axes in capitals)
    probabilities_NG: np.ndarray  # noqa: N815
    groups: ResamplingGroups
    unit: Unit


def answers(clips: pa.Table, taxonomy: Taxonomy, unit: Unit = "tracks", zeroed: float = 0.0) -> Answers:
    """The answers to tracks, the logits of a track's clips averaged, or to every clip for itself.

    Args:
        clips: `track_id`, `genre_top`, `artist_id` ("" or null where unknown) and logits, one row a clip.
        taxonomy: of the model.
        unit: what is answered.
        zeroed: share of the pixels that are zero.
    """
    order = clips.take(pc.sort_indices(clips["track_id"]))
    tracks = order["track_id"].to_pylist()
    firsts = [row for row in range(len(tracks)) if unit == "clips" or not row or tracks[row] != tracks[row - 1]]
    logits_NG = order[logits_column(zeroed)].combine_chunks().flatten().to_numpy().reshape(-1, len(taxonomy))
    units = order.select(["track_id", "genre_top", "artist_id"]).take(pa.array(firsts)).to_pylist()
    # A track of unknown artist is a group of its own; an artist and a track may have the same id.
    names = [(1, row["artist_id"]) if row["artist_id"] else (0, row["track_id"]) for row in units]
    return Answers(
        [row["track_id"] for row in units],
        np.array([taxonomy.index(row["genre_top"]) for row in units]),
        np.stack([track_probabilities(part_CG) for part_CG in np.split(logits_NG, firsts[1:])]),
        ResamplingGroups.of(names, "artists" if any(known for known, _ in names) else "tracks"),
        unit,
    )


def scores_of(given: Answers, taxonomy: Taxonomy) -> Scores:
    """Scores with intervals over groups."""
    return score(given.truth_N, given.probabilities_NG, taxonomy.names, given.groups, given.unit)


def robustness_of(clips: pa.Table, taxonomy: Taxonomy, front_end_kind: str, unit: Unit = "tracks") -> Robustness:
    """Accuracy on clean clips and on those with pixels zeroed.

    Args:
        clips: as for `answers`, with the logits of all `SHARES`.
        taxonomy: of the model.
        front_end_kind: of the features, which decides what a zero means.
        unit: what is answered.
    """
    points = []
    for share in (0.0, *SHARES):
        given = answers(clips, taxonomy, unit, share)
        right_N = given.probabilities_NG.argmax(axis=1) == given.truth_N
        points.append(RobustnessPoint(share, float(right_N.mean()), share_of_right(right_N, given.groups)))
    return Robustness(tuple(points), zero_of(front_end_kind), SEED, 1 / len(taxonomy))


def map_of(clips: pa.Table, taxonomy: Taxonomy) -> EmbeddingMap | None:
    """The map of the tracks that have embeddings, each the mean over its clips; None where there is nothing to see."""
    given, names = answers(clips, taxonomy), taxonomy.names
    answer_N = given.probabilities_NG.argmax(axis=1)
    facts = dict(zip(given.track_ids, zip(given.truth_N, answer_N, strict=True), strict=True))
    embedded = clips.filter(clips["embedding"].is_valid())
    of_track: dict[str, list[np.ndarray]] = {}
    for track, numbers in zip(embedded["track_id"].to_pylist(), embedded["embedding"].to_pylist(), strict=True):
        of_track.setdefault(track, []).append(np.frombuffer(numbers, np.float32))
    shown = sorted(of_track)
    if not shown:
        return None
    return embedding_map(
        shown,
        np.stack([np.mean(of_track[track], axis=0) for track in shown]),
        [names[facts[track][0]] for track in shown],
        [names[facts[track][1]] for track in shown],
        len(given.track_ids),
    )


def logits_column(zeroed: float) -> str:
    """The column of logits of clips of which so great a share of the pixels is zero; of clean ones for 0."""
    return f"logits_zeroed_{zeroed:g}" if zeroed else "logits"
