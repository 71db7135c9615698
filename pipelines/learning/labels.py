"""Labels of a whole catalog: of the tags where there are some, else of the ears; and where the two disagree.

Axes: N tracks, D numbers of an embedding, O outputs of a network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cluster.embeddings.table import EmbeddingsTable
from cluster.embeddings.vectors import ONE_AT_A_TIME, REMEDY, VECTORS_AT_ONCE, Model, present, read_vectors
from cluster.tables.parquet import reading
from mgc import schema
from mgc.bundle import Bundle
from mgc.errors import LabelsError
from mgc.labeling.decide import Decision
from mgc.labeling.predict import Predict
from mgc.labeling.tags import Verdict
from pipelines.training.answers import ANSWERS, TOP_K, answers_of

BY_TAG: Final = "tag"
BY_EARS: Final = "ears"

LABELS: Final = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("genre_top", pa.string()),
        pa.field("labelled_by", pa.string()),
        pa.field("tag_genre", pa.string()),
        pa.field("ears_genre", pa.string()),
        pa.field("confidence", pa.float64()),
        pa.field("top_k", schema.TOP_K),
        pa.field("error_kind", pa.string()),
        pa.field("error_message", pa.string()),
    ]
)
"""One row per track of the catalog. `genre_top` is `tag_genre` where there is one, else `ears_genre`.

`confidence` and `top_k` are the ears'. For a tagged track they come from a head that was not trained on its artist.
"""


HEARD: Final = pa.schema([*ANSWERS, LABELS.field("error_kind"), LABELS.field("error_message")])
"""The answer for an embedded track, or why it has none: `mgc embed` embeds what is no music, too."""


def answer_embeddings(table: EmbeddingsTable, model: Model, bundle: Bundle) -> pa.Table:
    """Return what a probe says of all embedded tracks, rows of `HEARD`.

    The table has the mean of a track's clips. A linear head says the same of the mean as on average of the clips; that
    there is no music, and what a head with a hidden layer answers, can differ for a track of several clips.
    """
    with reading(table.uri, REMEDY, LabelsError):
        parts = list(_answer(table, model, bundle))
    return pa.concat_tables(parts) if parts else HEARD.empty_table()


def _answer(table: EmbeddingsTable, model: Model, bundle: Bundle) -> Iterator[pa.Table]:
    network = bundle.network()
    predict = Predict(network, bundle.meaning)
    scan = table.dataset().to_batches(
        columns=["track_id", "embedding"], filter=present(model), batch_size=VECTORS_AT_ONCE, **ONE_AT_A_TIME
    )
    for batch in scan:
        if not batch.num_rows:
            continue
        outputs_NO = network.classify(read_vectors(batch["embedding"], table.uri))
        said = {
            track: predict.answer(outputs_O[None], TOP_K)
            for track, outputs_O in zip(batch["track_id"].to_pylist(), outputs_NO, strict=True)
        }
        decisions = {track: answer for track, answer in said.items() if isinstance(answer, Decision)}
        verdicts = {track: answer for track, answer in said.items() if isinstance(answer, Verdict)}
        yield _fill(answers_of(list(decisions), list(decisions.values())), HEARD)
        yield _fill(
            pa.table(
                {
                    "track_id": pa.array(verdicts, pa.string()),
                    "error_kind": pa.array([verdict.kind.value for verdict in verdicts.values()], pa.string()),
                    "error_message": pa.array([verdict.message for verdict in verdicts.values()], pa.string()),
                }
            ),
            HEARD,
        )


def _fill(rows: pa.Table, columns: pa.Schema) -> pa.Table:
    """Return rows with all columns; those that they lack are null."""
    return pa.concat_tables([columns.empty_table(), rows], promote_options="default")


def label_catalog(tracks: pads.Dataset, table: EmbeddingsTable, answers: pa.Table, honest: pa.Table) -> pa.Table:
    """Return rows of `LABELS` for the tracks of a catalog.

    Args:
        tracks: rows of a catalog.
        table: table of embeddings, for the reasons of those that have none.
        answers: rows of `HEARD` for all embedded tracks.
        honest: answers for tagged tracks by heads that were not trained on their artists; they come before other
            answers, but not before the reason why there is none.
    """
    rows = tracks.to_table(columns=["track_id", "uri", "genre_top"])
    ids = rows["track_id"].cast(pa.string()).combine_chunks()
    refused = answers.filter(pc.is_valid(answers["error_kind"]))
    honest = _without(_fill(honest.select(ANSWERS.names), HEARD), refused)
    heard = pa.concat_tables([honest, _without(answers, honest)]).combine_chunks()
    place = pc.index_in(ids, value_set=heard["track_id"].combine_chunks())
    found = {name: heard[name].take(place) for name in HEARD.names if name != "track_id"}
    errors = _read_errors(table, ids.filter(pc.is_null(place)))
    where = pc.index_in(ids, value_set=errors["track_id"].combine_chunks())
    tag = rows["genre_top"].cast(pa.string())
    tag = pc.if_else(pc.equal(tag, ""), None, tag)
    by_tag, by_ears = pc.is_valid(tag), pc.is_valid(found["ears_genre"])
    return pa.table(
        {
            "track_id": ids,
            "uri": rows["uri"].cast(pa.string()),
            "genre_top": pc.coalesce(tag, found["ears_genre"]),
            "labelled_by": pc.if_else(by_tag, BY_TAG, pc.if_else(by_ears, BY_EARS, None)),
            "tag_genre": tag,
            **found,
            **{name: pc.coalesce(found[name], errors[name].take(where)) for name in ("error_kind", "error_message")},
        },
        schema=LABELS,
    )


def _without(rows: pa.Table, others: pa.Table) -> pa.Table:
    """Return the rows of tracks that another table lacks."""
    return rows.filter(pc.invert(pc.is_in(rows["track_id"], value_set=others["track_id"].combine_chunks())))


def _read_errors(table: EmbeddingsTable, ids: pa.Array) -> pa.Table:
    names = ["track_id", "error_kind", "error_message"]
    with reading(table.uri, REMEDY, LabelsError):
        rows = table.dataset().to_table(columns=names, filter=pc.is_valid(pc.field("error_kind")))
    rows = pa.table({name: rows[name].cast(pa.string()) for name in names})
    return rows.filter(pc.is_in(rows["track_id"], value_set=ids)).combine_chunks()


def disagreements(labels: pa.Table, honest: pa.Table) -> pa.Table:
    """Return the rows of `LABELS` in which tag and ears differ, the most certain first.

    A tag that no head could have given, since all tracks of its genre are by this artist, is left out.

    Args:
        labels: rows of `LABELS`.
        honest: answers for tagged tracks, with a column `answerable`.
    """
    differ = labels.filter(pc.fill_null(pc.not_equal(labels["tag_genre"], labels["ears_genre"]), False))
    known = honest.filter(honest["answerable"])["track_id"].combine_chunks()
    differ = differ.filter(pc.is_in(differ["track_id"], value_set=known))
    return differ.sort_by([("confidence", "descending"), ("track_id", "ascending")])
