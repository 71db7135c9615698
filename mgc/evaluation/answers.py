"""From a model's logits for clips to the contents of a report.

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
    """A model's answers for tracks, or for clips, of known genre.

    Attributes:
        track_ids: N ids, in order; each once unless the units are clips.
        truth_N: int64 true genres.
        probabilities_NG: float64, each row summing to 1.
        groups: artists, or tracks if no artist is known.
        unit: unit of an answer.
    """

    track_ids: list[str]
    truth_N: np.ndarray  # noqa: N815  (axes in capitals)
    probabilities_NG: np.ndarray  # noqa: N815
    groups: ResamplingGroups
    unit: Unit


def answers(clips: pa.Table, taxonomy: Taxonomy, unit: Unit = "tracks", zeroed: float = 0.0) -> Answers:
    """Return the answers for tracks, averaging the logits of their clips, or for single clips.

    Args:
        clips: `track_id`, `genre_top`, `artist_id` ("" or null where unknown) and logits, one row per clip.
        taxonomy: taxonomy of the model.
        unit: unit of an answer.
        zeroed: share of the pixels that are zero.
    """
    order = clips.take(pc.sort_indices(clips["track_id"]))
    tracks = order["track_id"].to_pylist()
    firsts = [row for row in range(len(tracks)) if unit == "clips" or not row or tracks[row] != tracks[row - 1]]
    logits_NG = order[logits_column(zeroed)].combine_chunks().flatten().to_numpy().reshape(-1, len(taxonomy))
    units = order.select(["track_id", "genre_top", "artist_id"]).take(pa.array(firsts)).to_pylist()
    # A track of an unknown artist is its own group. An artist and a track may have the same id.
    names = [(1, row["artist_id"]) if row["artist_id"] else (0, row["track_id"]) for row in units]
    return Answers(
        [row["track_id"] for row in units],
        np.array([taxonomy.index(row["genre_top"]) for row in units]),
        np.stack([track_probabilities(part_CG) for part_CG in np.split(logits_NG, firsts[1:])]),
        ResamplingGroups.of(names, "artists" if any(known for known, _ in names) else "tracks"),
        unit,
    )


def scores_of(given: Answers, taxonomy: Taxonomy) -> Scores:
    """Return the scores, with intervals over groups."""
    return score(given.truth_N, given.probabilities_NG, taxonomy.names, given.groups, given.unit)


def robustness_of(clips: pa.Table, taxonomy: Taxonomy, front_end_kind: str, unit: Unit = "tracks") -> Robustness:
    """Return the accuracy on clean clips and on clips with zeroed pixels.

    Args:
        clips: as for `answers`, with the logits of all `SHARES`.
        taxonomy: taxonomy of the model.
        front_end_kind: front end of the features, which decides what a zero means.
        unit: unit of an answer.
    """
    points = []
    for share in (0.0, *SHARES):
        given = answers(clips, taxonomy, unit, share)
        right_N = given.probabilities_NG.argmax(axis=1) == given.truth_N
        points.append(RobustnessPoint(share, float(right_N.mean()), share_of_right(right_N, given.groups)))
    return Robustness(tuple(points), zero_of(front_end_kind), SEED, 1 / len(taxonomy))


def map_of(clips: pa.Table, taxonomy: Taxonomy) -> EmbeddingMap | None:
    """Return the map of tracks by the mean embedding of their clips; None if there is nothing to see."""
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
    """Return the name of the column of logits for a share of zeroed pixels; 0 means clean clips."""
    return f"logits_zeroed_{zeroed:g}" if zeroed else "logits"
